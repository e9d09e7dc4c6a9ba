"""Was this model made from that one? Fingerprints of neural networks, with a verdict whose error rate is stated.

>>> import whorl
>>> sorted(whorl.SCHEMES)[:2]
['akh', 'cw-l2']
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from whorl.claims.audit import audit
    from whorl.claims.judging import judge, train_strata
    from whorl.claims.making import make_claim
    from whorl.claims.opening import open_claim, read_opening
    from whorl.claims.twins import judge_lineup
    from whorl.data import SOURCES
    from whorl.explanations.data_distance import data_distance
    from whorl.explanations.disagreement import disagree
    from whorl.fingerprints.files import write_fingerprint
    from whorl.inspection import INSPECTIONS, SIEVES
    from whorl.inspection.fitted import inspect_weights
    from whorl.inspection.inspecting import inspect
    from whorl.inspection.sifting import sift
    from whorl.marks import MARKS
    from whorl.marks.dawn import service_mark
    from whorl.marks.making import embed as embed_mark
    from whorl.marks.making import prepare as prepare_mark
    from whorl.marks.user_codes import copy_for, draw_codes, prepare_codes, traced
    from whorl.nets import NETS
    from whorl.oracles.opening import open_oracle
    from whorl.ownership import calibrate, extract, give_reasons, line_up, verify
    from whorl.populations import shadows
    from whorl.removals import REMOVALS
    from whorl.schemes import SCHEMES
    from whorl.schemes.opening import read_fingerprint
    from whorl.several import verify_all, verify_both, verify_suspects
    from whorl.symmetry.aligning import align
    from whorl.types import Access, Combination, Fingerprint, Verdict
    from whorl.weights.comparison import compare
    from whorl.weights.family.mixtures import mixture
    from whorl.weights.family.parents import parents
    from whorl.weights.family.tree import lineage
    from whorl.zoo.log_check import check_log
    from whorl.zoo.logged import Recorder as TrainingRecorder

__all__ = [
    "INSPECTIONS",
    "MARKS",
    "NETS",
    "REMOVALS",
    "SCHEMES",
    "SIEVES",
    "SOURCES",
    "Access",
    "Combination",
    "Fingerprint",
    "TrainingRecorder",
    "Verdict",
    "align",
    "audit",
    "calibrate",
    "check_log",
    "compare",
    "copy_for",
    "data_distance",
    "disagree",
    "draw_codes",
    "embed_mark",
    "extract",
    "give_reasons",
    "inspect",
    "inspect_weights",
    "judge",
    "judge_lineup",
    "line_up",
    "lineage",
    "make_claim",
    "mixture",
    "open_claim",
    "open_oracle",
    "parents",
    "prepare_codes",
    "prepare_mark",
    "read_fingerprint",
    "read_opening",
    "service_mark",
    "shadows",
    "sift",
    "traced",
    "train_strata",
    "verify",
    "verify_all",
    "verify_both",
    "verify_suspects",
    "write_fingerprint",
]

# Imported on first use, so that `import whorl` and `whorl --help` do not wait for torch.
_FACE = {
    "align": "whorl.symmetry.aligning:align",
    "audit": "whorl.claims.audit:audit",
    "judge": "whorl.claims.judging:judge",
    "judge_lineup": "whorl.claims.twins:judge_lineup",
    "make_claim": "whorl.claims.making:make_claim",
    "MARKS": "whorl.schemes:MARKS",
    "copy_for": "whorl.marks.user_codes:copy_for",
    "data_distance": "whorl.explanations.data_distance:data_distance",
    "disagree": "whorl.explanations.disagreement:disagree",
    "draw_codes": "whorl.marks.user_codes:draw_codes",
    "prepare_codes": "whorl.marks.user_codes:prepare_codes",
    "traced": "whorl.marks.user_codes:traced",
    "embed_mark": "whorl.marks.making:embed",
    "service_mark": "whorl.marks.dawn:service_mark",
    "prepare_mark": "whorl.marks.making:prepare",
    "open_claim": "whorl.claims.opening:open_claim",
    "read_opening": "whorl.claims.opening:read_opening",
    "train_strata": "whorl.claims.judging:train_strata",
    "Access": "whorl.types:Access",
    "Combination": "whorl.types:Combination",
    "Fingerprint": "whorl.types:Fingerprint",
    "Verdict": "whorl.types:Verdict",
    "TrainingRecorder": "whorl.zoo.logged:Recorder",
    "calibrate": "whorl.ownership:calibrate",
    "check_log": "whorl.zoo.log_check:check_log",
    "give_reasons": "whorl.ownership:give_reasons",
    "line_up": "whorl.ownership:line_up",
    "compare": "whorl.weights.comparison:compare",
    "mixture": "whorl.weights.family.mixtures:mixture",
    "lineage": "whorl.weights.family.tree:lineage",
    "parents": "whorl.weights.family.parents:parents",
    "SOURCES": "whorl.data:SOURCES",
    "INSPECTIONS": "whorl.inspection:INSPECTIONS",
    "SIEVES": "whorl.inspection:SIEVES",
    "inspect": "whorl.inspection.inspecting:inspect",
    "inspect_weights": "whorl.inspection.fitted:inspect_weights",
    "sift": "whorl.inspection.sifting:sift",
    "extract": "whorl.ownership:extract",
    "NETS": "whorl.nets:NETS",
    "open_oracle": "whorl.oracles.opening:open_oracle",
    "read_fingerprint": "whorl.schemes.opening:read_fingerprint",
    "REMOVALS": "whorl.removals:REMOVALS",
    "SCHEMES": "whorl.schemes:SCHEMES",
    "shadows": "whorl.populations:shadows",
    "verify": "whorl.ownership:verify",
    "verify_all": "whorl.several:verify_all",
    "verify_both": "whorl.several:verify_both",
    "verify_suspects": "whorl.several:verify_suspects",
    "write_fingerprint": "whorl.fingerprints.files:write_fingerprint",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("whorl")
    if name not in _FACE:
        raise AttributeError(f"module 'whorl' has no attribute {name!r}")
    module, _, attribute = _FACE[name].partition(":")
    return getattr(importlib.import_module(module), attribute)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
