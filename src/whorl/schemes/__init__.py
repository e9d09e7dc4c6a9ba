"""Published fingerprinting schemes, one a file."""

from whorl.catalog import Catalog
from whorl.schemes.base import Scheme

__all__ = ["SCHEMES", "Scheme"]

SCHEMES: Catalog[Scheme] = Catalog(
    "schemes",
    {
        "adv-tra": "whorl.schemes.adv_tra:AdvTra",
        "akh": "whorl.schemes.akh:AKH",
        "cw-l2": "whorl.schemes.cw_l2:CWL2",
        "deepjudge": "whorl.schemes.deepjudge:DeepJudge",
        "deepjudge-robd": "whorl.schemes.deepjudge_robd:DeepJudgeRobD",
        "deepjudge-white-box": "whorl.schemes.deepjudge_white_box:DeepJudgeWhiteBox",
        "fgsm": "whorl.schemes.fgsm:FGSM",
        "igsm": "whorl.schemes.igsm:IGSM",
        "ipguard": "whorl.schemes.ipguard:IPGuard",
        "metav": "whorl.schemes.metav:MetaV",
        "modeldiff": "whorl.schemes.modeldiff:ModelDiff",
        "modeldiff-black-box": "whorl.schemes.modeldiff:ModelDiffBlackBox",
        "modelgif": "whorl.schemes.modelgif:ModelGiF",
        "modelgif-selected": "whorl.schemes.modelgif:ModelGiFSelected",
        "multipoint": "whorl.schemes.multipoint:Multipoint",
        "random": "whorl.schemes.random:Random",
        "sensitive-samples": "whorl.schemes.sensitive_samples:SensitiveSamples",
        "sensitive-samples-labels": "whorl.schemes.sensitive_samples:SensitiveSamplesLabels",
        "tafa": "whorl.schemes.tafa:TAFA",
        "uap": "whorl.schemes.uap:UAP",
        "zest": "whorl.schemes.zest:Zest",
    },
)
