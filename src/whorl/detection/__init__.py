"""The only room that decides. Pure statistics on similarities; it knows no model.

An answer has two sources of chance, and each has its own test: which model the suspect happens to be (`population`)
and which of the fingerprint's queries happened to be asked (`sequential`). `Trial` joins them into a verdict.
"""

from whorl.detection.combination import combine, holm, share_of_alpha
from whorl.detection.population import Plan, plan, rank_p_value
from whorl.detection.power import measure_power
from whorl.detection.sequential import SequentialMean
from whorl.detection.similarities import matching
from whorl.detection.verdict import Trial

__all__ = [
    "Plan",
    "SequentialMean",
    "Trial",
    "combine",
    "holm",
    "matching",
    "measure_power",
    "plan",
    "rank_p_value",
    "share_of_alpha",
]
