"""Was this model made from that one? Fingerprints of neural networks, with a verdict whose error rate is stated.

>>> import whorl
>>> sorted(whorl.SCHEMES)[:2]
['akh', 'cw-l2']
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from whorl.attest.keys import read_private_key, read_public_key
    from whorl.attest.locks import lock, read_recipient, read_unlocking_key, unlock
    from whorl.attest.witness import witness
    from whorl.bench.difference import compare as compare_results
    from whorl.bench.export import write_table
    from whorl.bench.grid import plan as plan_grid
    from whorl.bench.grid import run_grid
    from whorl.bench.quality import measure_quality
    from whorl.bench.result import read_result, write_result
    from whorl.bench.runner import run as run_suite
    from whorl.bench.submission import read_submission
    from whorl.bench.summary import summarise
    from whorl.checkpoints.opening import open_checkpoint
    from whorl.claims.audit import audit
    from whorl.claims.dates import stamped
    from whorl.claims.documents import Claim, read_signed
    from whorl.claims.drawing import begin as begin_draw
    from whorl.claims.drawing import finished as read_draw
    from whorl.claims.drawing import step as continue_draw
    from whorl.claims.drawing import withhold
    from whorl.claims.judging import judge, train_strata
    from whorl.claims.making import make_claim, read_secrets, revoke
    from whorl.claims.opening import open_claim, read_opening
    from whorl.claims.twins import judge_lineup
    from whorl.data import SOURCES
    from whorl.explanations.data_distance import data_distance
    from whorl.explanations.disagreement import disagree
    from whorl.explanations.explanation import explain
    from whorl.fingerprints.files import write_fingerprint
    from whorl.guards.table import GuardSettings, guard_table
    from whorl.inspection import INSPECTIONS, SIEVES
    from whorl.inspection.fitted import inspect_weights
    from whorl.inspection.inspecting import inspect
    from whorl.inspection.sifting import sift
    from whorl.marks import MARKS
    from whorl.marks.base import commitment_of
    from whorl.marks.code_files import read_codes, write_codes
    from whorl.marks.dawn import service_mark
    from whorl.marks.making import embed as embed_mark
    from whorl.marks.making import prepare as prepare_mark
    from whorl.marks.user_codes import copy_for, draw_codes, prepare_codes, traced
    from whorl.nets import NETS
    from whorl.nets.files import write_like
    from whorl.oracles.base import Oracle
    from whorl.oracles.opening import open_oracle
    from whorl.ownership import calibrate, extract, give_reasons, line_up, verify
    from whorl.populations import copies, power_elsewhere, shadows, strangers, twins
    from whorl.removals import REMOVALS
    from whorl.removals.base import Removal
    from whorl.report.leaderboard import write_site
    from whorl.report.pages import bench_page, verdict_page
    from whorl.schemes import SCHEMES
    from whorl.schemes.base import Scheme
    from whorl.schemes.opening import read_fingerprint
    from whorl.several import verify_all, verify_both, verify_suspects
    from whorl.suites.suite import SUITES
    from whorl.symmetry.aligning import align
    from whorl.types import Access, Combination, Fingerprint, Verdict
    from whorl.weights.comparison import compare
    from whorl.weights.family.mixtures import mixture
    from whorl.weights.family.parents import parents
    from whorl.weights.family.tree import lineage
    from whorl.zoo.cache import Zoo
    from whorl.zoo.log_check import check_log
    from whorl.zoo.logged import Recorder as TrainingRecorder
    from whorl.zoo.logged import log_training
    from whorl.zoo.recipe import parse_recipe

__all__ = [
    "INSPECTIONS",
    "MARKS",
    "NETS",
    "REMOVALS",
    "SCHEMES",
    "SIEVES",
    "SOURCES",
    "SUITES",
    "Access",
    "Claim",
    "Combination",
    "Fingerprint",
    "GuardSettings",
    "Oracle",
    "Removal",
    "Scheme",
    "TrainingRecorder",
    "Verdict",
    "Zoo",
    "align",
    "audit",
    "begin_draw",
    "bench_page",
    "calibrate",
    "check_log",
    "commitment_of",
    "compare",
    "compare_results",
    "continue_draw",
    "copies",
    "copy_for",
    "data_distance",
    "disagree",
    "draw_codes",
    "embed_mark",
    "explain",
    "extract",
    "give_reasons",
    "guard_table",
    "inspect",
    "inspect_weights",
    "judge",
    "judge_lineup",
    "line_up",
    "lineage",
    "lock",
    "log_training",
    "make_claim",
    "measure_quality",
    "mixture",
    "open_checkpoint",
    "open_claim",
    "open_oracle",
    "parents",
    "parse_recipe",
    "plan_grid",
    "power_elsewhere",
    "prepare_codes",
    "prepare_mark",
    "read_codes",
    "read_draw",
    "read_fingerprint",
    "read_opening",
    "read_private_key",
    "read_public_key",
    "read_recipient",
    "read_result",
    "read_secrets",
    "read_signed",
    "read_submission",
    "read_unlocking_key",
    "revoke",
    "run_grid",
    "run_suite",
    "service_mark",
    "shadows",
    "sift",
    "stamped",
    "strangers",
    "summarise",
    "traced",
    "train_strata",
    "twins",
    "unlock",
    "verdict_page",
    "verify",
    "verify_all",
    "verify_both",
    "verify_suspects",
    "withhold",
    "witness",
    "write_codes",
    "write_fingerprint",
    "write_like",
    "write_result",
    "write_site",
    "write_table",
]

# Imported on first use, so that `import whorl` and `whorl --help` do not wait for torch.
_FACE = {
    "read_private_key": "whorl.attest.keys:read_private_key",
    "read_public_key": "whorl.attest.keys:read_public_key",
    "lock": "whorl.attest.locks:lock",
    "read_recipient": "whorl.attest.locks:read_recipient",
    "read_unlocking_key": "whorl.attest.locks:read_unlocking_key",
    "unlock": "whorl.attest.locks:unlock",
    "witness": "whorl.attest.witness:witness",
    "compare_results": "whorl.bench.difference:compare",
    "write_table": "whorl.bench.export:write_table",
    "plan_grid": "whorl.bench.grid:plan",
    "run_grid": "whorl.bench.grid:run_grid",
    "measure_quality": "whorl.bench.quality:measure_quality",
    "read_result": "whorl.bench.result:read_result",
    "write_result": "whorl.bench.result:write_result",
    "run_suite": "whorl.bench.runner:run",
    "read_submission": "whorl.bench.submission:read_submission",
    "summarise": "whorl.bench.summary:summarise",
    "open_checkpoint": "whorl.checkpoints.opening:open_checkpoint",
    "audit": "whorl.claims.audit:audit",
    "stamped": "whorl.claims.dates:stamped",
    "Claim": "whorl.claims.documents:Claim",
    "read_signed": "whorl.claims.documents:read_signed",
    "begin_draw": "whorl.claims.drawing:begin",
    "read_draw": "whorl.claims.drawing:finished",
    "continue_draw": "whorl.claims.drawing:step",
    "withhold": "whorl.claims.drawing:withhold",
    "judge": "whorl.claims.judging:judge",
    "train_strata": "whorl.claims.judging:train_strata",
    "make_claim": "whorl.claims.making:make_claim",
    "read_secrets": "whorl.claims.making:read_secrets",
    "revoke": "whorl.claims.making:revoke",
    "open_claim": "whorl.claims.opening:open_claim",
    "read_opening": "whorl.claims.opening:read_opening",
    "judge_lineup": "whorl.claims.twins:judge_lineup",
    "SOURCES": "whorl.data:SOURCES",
    "data_distance": "whorl.explanations.data_distance:data_distance",
    "disagree": "whorl.explanations.disagreement:disagree",
    "explain": "whorl.explanations.explanation:explain",
    "write_fingerprint": "whorl.fingerprints.files:write_fingerprint",
    "GuardSettings": "whorl.guards.table:GuardSettings",
    "guard_table": "whorl.guards.table:guard_table",
    "inspect_weights": "whorl.inspection.fitted:inspect_weights",
    "inspect": "whorl.inspection.inspecting:inspect",
    "sift": "whorl.inspection.sifting:sift",
    "INSPECTIONS": "whorl.inspection:INSPECTIONS",
    "SIEVES": "whorl.inspection:SIEVES",
    "commitment_of": "whorl.marks.base:commitment_of",
    "read_codes": "whorl.marks.code_files:read_codes",
    "write_codes": "whorl.marks.code_files:write_codes",
    "service_mark": "whorl.marks.dawn:service_mark",
    "embed_mark": "whorl.marks.making:embed",
    "prepare_mark": "whorl.marks.making:prepare",
    "copy_for": "whorl.marks.user_codes:copy_for",
    "draw_codes": "whorl.marks.user_codes:draw_codes",
    "prepare_codes": "whorl.marks.user_codes:prepare_codes",
    "traced": "whorl.marks.user_codes:traced",
    "write_like": "whorl.nets.files:write_like",
    "NETS": "whorl.nets:NETS",
    "Oracle": "whorl.oracles.base:Oracle",
    "open_oracle": "whorl.oracles.opening:open_oracle",
    "calibrate": "whorl.ownership:calibrate",
    "extract": "whorl.ownership:extract",
    "give_reasons": "whorl.ownership:give_reasons",
    "line_up": "whorl.ownership:line_up",
    "verify": "whorl.ownership:verify",
    "copies": "whorl.populations:copies",
    "power_elsewhere": "whorl.populations:power_elsewhere",
    "shadows": "whorl.populations:shadows",
    "strangers": "whorl.populations:strangers",
    "twins": "whorl.populations:twins",
    "Removal": "whorl.removals.base:Removal",
    "REMOVALS": "whorl.removals:REMOVALS",
    "write_site": "whorl.report.leaderboard:write_site",
    "bench_page": "whorl.report.pages:bench_page",
    "verdict_page": "whorl.report.pages:verdict_page",
    "Scheme": "whorl.schemes.base:Scheme",
    "read_fingerprint": "whorl.schemes.opening:read_fingerprint",
    "MARKS": "whorl.schemes:MARKS",
    "SCHEMES": "whorl.schemes:SCHEMES",
    "verify_all": "whorl.several:verify_all",
    "verify_both": "whorl.several:verify_both",
    "verify_suspects": "whorl.several:verify_suspects",
    "SUITES": "whorl.suites.suite:SUITES",
    "align": "whorl.symmetry.aligning:align",
    "Access": "whorl.types:Access",
    "Combination": "whorl.types:Combination",
    "Fingerprint": "whorl.types:Fingerprint",
    "Verdict": "whorl.types:Verdict",
    "compare": "whorl.weights.comparison:compare",
    "mixture": "whorl.weights.family.mixtures:mixture",
    "parents": "whorl.weights.family.parents:parents",
    "lineage": "whorl.weights.family.tree:lineage",
    "Zoo": "whorl.zoo.cache:Zoo",
    "check_log": "whorl.zoo.log_check:check_log",
    "TrainingRecorder": "whorl.zoo.logged:Recorder",
    "log_training": "whorl.zoo.logged:log_training",
    "parse_recipe": "whorl.zoo.recipe:parse_recipe",
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
