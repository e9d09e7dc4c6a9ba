"""All schemes side by side: how well each tells copies from independent models, by family of removal, and at what cost.

Every figure averages over victims, which are the clusters of every interval. A suspect that a scheme cannot be asked
about counts as the least alike of all: a copy that is not recognised, an independent model that is not accused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from whorl.bench.lineups import is_lineup
from whorl.bench.result import Cell, Refusal, Result
from whorl.bench.summary import Share, share_of
from whorl.errors import UsageError
from whorl.metrics import ClusterEstimate, Interval, Scores, aruc, auc, auc_interval, cluster_bootstrap, rounded
from whorl.metrics import tpr_at_fpr as operating_point
from whorl.schemes import SCHEMES
from whorl.types import Access, told

__all__ = ["Standing", "standings"]


@dataclass(frozen=True)
class Standing:
    """One scheme in the table of the field.

    ``auc`` is of all copies that kept their accuracy against all independent models; ``families`` the same by family
    of removal. ``tpr`` is the share of copies above every independent model: the true-positive rate at the smallest
    realisable false-positive rate. ``aruc`` exists only for similarities in [0, 1]. ``seen`` names the families that
    the scheme's shadow models went through, so that its figures there are not of unseen attacks. ``inputs`` are asked
    of each suspect; ``needed`` is the median number of queries to a verdict of derived. ``siblings`` counts the
    suspects called derived among those that share an ancestor with the victim and are neither copies nor independent;
    None where there are none. Access is empty where the scheme is a plug-in that is not installed here.
    """

    name: str
    expression: str
    victim_access: str
    suspect_access: str
    auc: ClusterEstimate
    aruc: ClusterEstimate | None
    tpr: ClusterEstimate
    families: dict[str, ClusterEstimate]
    seen: tuple[str, ...]
    flagged: Share
    accused: Share
    inputs: int
    needed: float | None
    extraction_seconds: float
    verification_seconds: float
    peak_mib: float | None
    refused: int
    siblings: Share | None = None


def standings(result: Result) -> list[Standing]:
    """The table, best AUC first, as it is written anywhere (`rounded`)."""
    rows: list[Standing] = [rounded(_standing(result, column)) for column in result.columns]
    return sorted(rows, key=lambda row: (-row.auc.value, -row.tpr.value, row.name))


@dataclass(frozen=True)
class _Scored:
    """What the figures need of a suspect, whether it was asked or refused."""

    of: Cell | Refusal
    similarity: float


def _standing(result: Result, column: str) -> Standing:
    cells = [cell for cell in result.cells if cell.scheme == column]
    refused = [refusal for refusal in result.refusals if refusal.scheme == column]
    unit = all(0 <= cell.similarity <= 1 for cell in cells)
    least = 0.0 if unit else min(cell.similarity for cell in cells) - 1
    scored = [_Scored(cell, cell.similarity) for cell in cells] + [_Scored(refusal, least) for refusal in refused]
    kept = [each for each in scored if each.of.kind in ("derived", "beyond") and not each.of.damaged]
    strangers = [each for each in scored if each.of.kind == "independent"]
    siblings = [each for each in scored if each.of.kind == "sibling"]
    made = [extraction for extraction in result.extractions if extraction.scheme == column]
    victim_access, suspect_access, learns = _needs(made[0].expression)
    peaks = [extraction.peak_mib for extraction in made if extraction.peak_mib is not None]
    needed = [each.of.needed for each in kept if isinstance(each.of, Cell) and each.of.decision == "derived"]

    def estimate(statistic: Callable[[Scores, Scores], float], family: str | None = None) -> ClusterEstimate:
        chosen = [each for each in kept if family in (None, each.of.family)]
        return _over_victims(statistic, chosen, strangers, len(result.victims))

    return Standing(
        name=column,
        expression=made[0].expression,
        victim_access=victim_access,
        suspect_access=suspect_access,
        auc=estimate(auc),
        aruc=estimate(aruc) if unit else None,
        tpr=estimate(_above_all),
        families={family: estimate(auc, family) for family in dict.fromkeys(each.of.family for each in kept)},
        seen=tuple(result.shadow_families) if learns else (),
        flagged=share_of([_derived(each) for each in kept]),
        accused=share_of([_derived(each) for each in strangers]),
        inputs=made[0].inputs,
        needed=float(np.median(needed)) if needed else None,
        extraction_seconds=float(np.mean([extraction.seconds for extraction in made])),
        verification_seconds=float(np.median([cell.seconds for cell in cells])),
        peak_mib=max(peaks) if peaks else None,
        refused=len(refused),
        siblings=share_of([_derived(each) for each in siblings]) if siblings else None,
    )


def _needs(expression: str) -> tuple[str, str, bool]:
    """Access to the victim and to the suspect, and whether it learns from shadow models."""
    if is_lineup(expression):
        return "training", told(Access.LABELS).lower(), False
    try:
        scheme = SCHEMES.make(expression)
    except UsageError:  # somebody else's plug-in, whose result may be read without it
        return "", "", False
    victim, suspect = scheme.demands()
    return told(victim).lower(), told(suspect).lower(), scheme.needs_pool


def _derived(each: _Scored) -> bool:
    return isinstance(each.of, Cell) and each.of.decision == "derived"


def _above_all(positives: Scores, negatives: Scores) -> float:
    return operating_point(positives, negatives, 0.0).rate


def _over_victims(
    statistic: Callable[[Scores, Scores], float],
    positives: Sequence[_Scored],
    negatives: Sequence[_Scored],
    victims: int,
) -> ClusterEstimate:
    """The mean over victims and its interval; one victim alone has DeLong's interval of its AUC, or none."""
    clusters = [
        tuple(
            np.array([each.similarity for each in scored if each.of.victim == victim])
            for scored in (positives, negatives)
        )
        for victim in range(victims)
    ]
    full = [(above, below) for above, below in clusters if len(above) and len(below)]
    if len(full) > 1:
        return cluster_bootstrap(statistic, full, generator=np.random.default_rng(0), average=True)
    value = statistic(*full[0])
    interval = auc_interval(*full[0]) if statistic is auc else Interval(0.0, 1.0)
    return ClusterEstimate(value, interval, 1)
