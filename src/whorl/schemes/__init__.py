"""Published fingerprinting schemes, one a file."""

from collections.abc import Callable

from whorl.catalog import Catalog
from whorl.errors import UsageError
from whorl.schemes.base import Scheme

__all__ = ["MARKS", "SCHEMES", "Scheme"]


class _Schemes(Catalog[Scheme]):
    """The published schemes. A name such as ``negative+labels+hamming`` is composed on demand (`grid.compose`).

    Marks are checked as schemes are, and made in another way: they are known by name and not listed here.
    """

    def __contains__(self, name: object) -> bool:
        if not isinstance(name, str) or "+" not in name:
            return super().__contains__(name) or name in MARKS
        try:
            self[name]
        except UsageError:
            return False
        return True

    def targets(self, name: str) -> tuple[str, ...]:
        if "+" not in name:
            return MARKS.targets(name) if name in MARKS else super().targets(name)
        from whorl.schemes.grid import parts_of  # it imports this room

        return parts_of(name)

    def __getitem__(self, name: str) -> Callable[..., Scheme]:
        if "+" not in name:
            return MARKS[name] if name in MARKS else super().__getitem__(name)
        from whorl.schemes.grid import compose  # it imports this room

        return compose(name)


MARKS: Catalog[Scheme] = Catalog(
    "marks",
    {
        "backdoor": "whorl.marks.backdoor:Backdoor",
        "dawn": "whorl.marks.dawn:DAWN",
        "deepsigns": "whorl.marks.deepsigns:DeepSigns",
        "entangled": "whorl.marks.entangled:Entangled",
        "entangled-target": "whorl.marks.entangled:EntangledTarget",
        "frontier": "whorl.marks.frontier:Frontier",
        "uchida": "whorl.marks.uchida:Uchida",
    },
)
"""Watermarks by name, as `whorl marks` lists them; what checks a fingerprint checks them too."""

SCHEMES: Catalog[Scheme] = _Schemes(
    "schemes",
    {
        "adv-tra": "whorl.schemes.adv_tra:AdvTra",
        "afa": "whorl.schemes.afa:AFA",
        "akh": "whorl.schemes.akh:AKH",
        "cw-l2": "whorl.schemes.cw_l2:CWL2",
        "conferrable": "whorl.schemes.conferrable:ConferrableExamples",
        "contrast": "whorl.schemes.contrast:Contrast",
        "dataset-inference": "whorl.schemes.dataset_inference:BlindWalk",
        "dataset-inference-white-box": "whorl.schemes.dataset_inference:MinGD",
        "deepfool": "whorl.schemes.deepfool:DeepFool",
        "deepjudge": "whorl.schemes.deepjudge:DeepJudge",
        "deepjudge-robd": "whorl.schemes.deepjudge_robd:DeepJudgeRobD",
        "deepjudge-white-box": "whorl.schemes.deepjudge_white_box:DeepJudgeWhiteBox",
        "fbi": "whorl.schemes.fbi:FBI",
        "fgsm": "whorl.schemes.fgsm:FGSM",
        "igsm": "whorl.schemes.igsm:IGSM",
        "ipguard": "whorl.schemes.ipguard:IPGuard",
        "metav": "whorl.schemes.metav:MetaV",
        "modeldiff": "whorl.schemes.modeldiff:ModelDiff",
        "modeldiff-black-box": "whorl.schemes.modeldiff:ModelDiffBlackBox",
        "modelgif": "whorl.schemes.modelgif:ModelGiF",
        "modelgif-selected": "whorl.schemes.modelgif:ModelGiFSelected",
        "multipoint": "whorl.schemes.multipoint:Multipoint",
        "near-boundary": "whorl.schemes.near_boundary:NearBoundary",
        "random": "whorl.schemes.random:Random",
        "sac-m": "whorl.schemes.sac_m:SACM",
        "sac-normal": "whorl.schemes.sac_normal:SACNormal",
        "sac-w": "whorl.schemes.sac_w:SACW",
        "sensitive-samples": "whorl.schemes.sensitive_samples:SensitiveSamples",
        "sensitive-samples-labels": "whorl.schemes.sensitive_samples:SensitiveSamplesLabels",
        "stretch": "whorl.schemes.stretch:Stretch",
        "tafa": "whorl.schemes.tafa:TAFA",
        "transfer": "whorl.schemes.transfer:Transfer",
        "uap": "whorl.schemes.uap:UAP",
        "zest": "whorl.schemes.zest:Zest",
    },
)
"""Schemes by name, as `whorl schemes` lists them; it finds marks and combinations (``negative+labels+hamming``) too."""
