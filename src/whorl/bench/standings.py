"""All schemes side by side: how many copies each calls derived at a stated error, how well it tells copies from
independent models, by family of removal, and at what cost.

Schemes rank by power, the share of copies that a verdict at the suite's alpha calls derived. Where the null is too
small for alpha no verdict says derived, and AUC, which decides between equal powers, decides alone. A scheme that
accuses independent models clearly more often than alpha stands below all that do not: its power is not at that error.

Every figure averages over victims, which are the clusters of every interval. A refusal is not a low similarity: figures
are of the models that a scheme could be asked about, and what it could not be asked about is counted apart. So that no
scheme stands above others for having refused, a copy that it could not be asked about counts as not seen, and where AUC
decides every pair of a copy and an independent model of which one was refused counts as lost.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np

from whorl.bench.architectures import own_architecture
from whorl.bench.estimates import Share, by_victim, mean_over_victims, share_of
from whorl.bench.lineups import is_lineup, needs_of
from whorl.bench.result import Cell, Refusal, Result
from whorl.errors import UsageError
from whorl.metrics import ClusterEstimate, Scores, aruc, auc, rounded
from whorl.metrics import tpr_at_fpr as operating_point
from whorl.schemes import SCHEMES
from whorl.types import told

__all__ = ["Standing", "standings"]

SLACK: Final = 1e-9  # of rounding

Judged = TypeVar("Judged", Cell, Refusal)


@dataclass(frozen=True)
class Standing:
    """One scheme in the table of the field.

    ``power`` is the share of the copies that kept their accuracy which a verdict calls derived, refused ones among
    those it does not; None where the null is too small for a verdict of derived. ``exceeds`` says that its accusations
    clearly exceed alpha: the interval of ``accused`` lies above.

    ``auc`` is of all copies that kept their accuracy against all independent models; ``families`` the same by family
    of removal. ``tpr`` is the share of copies above every independent model: the true-positive rate at the smallest
    realisable false-positive rate. ``own_auc`` and ``own_tpr`` are against those of the victim's own architecture
    alone, None where the result does not tell which they are. ``aruc`` exists only for similarities in [0, 1].
    ``answered`` is the share of pairs (copy, independent model) in which both could be asked about; the figures are of
    these alone. ``seen`` names the families that the scheme's shadow models went through, so that its figures there
    are not of unseen attacks.

    ``accused`` counts independent models called derived among all verdicts given on them, of which ``undecided`` were
    inconclusive; ``accused_by_group`` the same by group. ``copies`` could be asked about, ``refused_copies`` and
    ``refused_strangers`` could not; ``refused`` counts every suspect. ``siblings`` counts the suspects called derived
    among those that share an ancestor with the victim and are neither copies nor independent; None where there are
    none.

    ``inputs`` are asked of each suspect; ``needed`` is the median number of queries to a verdict of derived. Access is
    empty where the scheme is a plug-in that is not installed here; to the victim of a lineup it is ``training``, as it
    needs other runs of the recipe.
    """

    name: str
    expression: str
    victim_access: str
    suspect_access: str
    power: Share | None
    exceeds: bool
    auc: ClusterEstimate
    aruc: ClusterEstimate | None
    tpr: ClusterEstimate
    own_auc: ClusterEstimate | None
    own_tpr: ClusterEstimate | None
    families: dict[str, ClusterEstimate]
    answered: float
    seen: tuple[str, ...]
    accused: Share
    accused_by_group: dict[str, Share]
    undecided: int
    inputs: int
    needed: float | None
    extraction_seconds: float
    verification_seconds: float
    peak_mib: float | None
    copies: int
    refused: int
    refused_copies: int
    refused_strangers: int
    families_refused: tuple[str, ...] = ()
    """Families of which some copies could not be asked about."""
    siblings: Share | None = None

    def at_worst(self, of: ClusterEstimate) -> float:
        """AUC or TPR as it is ranked: as if every pair that was not answered were lost."""
        return of.value * self.answered

    @property
    def leading(self) -> ClusterEstimate:
        """The figure that it ranks by: power, or AUC where there are no verdicts."""
        return self.power.estimate if self.power else self.auc

    @property
    def order(self) -> tuple[bool, float, float, float]:
        """What schemes are sorted by, the best first."""
        power = self.power.estimate.value if self.power else 0.0
        return self.exceeds, -power, -self.at_worst(self.auc), -self.at_worst(self.tpr)

    def tied(self, best: Standing) -> bool:
        """Whether it cannot be told from the first by the figure that this ranks by. One that exceeds alpha never."""
        if self.exceeds or best.exceeds:
            return False
        if best.power:
            return self.power is not None and self.power.interval.high >= best.power.interval.low
        return self.auc.interval.high * self.answered >= best.auc.interval.low * best.answered


def standings(result: Result) -> list[Standing]:
    """The table, the best first (`Standing.order`), as it is written anywhere (`rounded`).

    A scheme that could be asked about no copy, or about no independent model, has no figures and is left out.

    Raises:
        UsageError: no scheme has figures.
    """
    rows: list[Standing] = [rounded(row) for column in result.columns if (row := _standing(result, column))]
    if not rows:
        raise UsageError(f"no scheme of {result.suite} could be asked about both a copy and an independent model")
    return sorted(rows, key=lambda row: (row.order, row.name))


def _standing(result: Result, column: str) -> Standing | None:
    cells = [cell for cell in result.cells if cell.scheme == column]
    refused = [refusal for refusal in result.refusals if refusal.scheme == column]
    kept, kept_refused = _kept(cells), _kept(refused)
    strangers, strangers_refused = _of_kind(cells, "independent"), _of_kind(refused, "independent")
    siblings = _of_kind(cells, "sibling")
    clusters = by_victim(_scores(kept), _scores(strangers))
    if not clusters:
        return None
    made = [extraction for extraction in result.extractions if extraction.scheme == column]
    victim_access, suspect_access, learns = _needs(made[0].expression)
    peaks = [extraction.peak_mib for extraction in made if extraction.peak_mib is not None]
    needed = [cell.needed for cell in kept if cell.decision == "derived"]
    own = own_architecture(result)
    nearest = by_victim(_scores(kept), _scores(cell for cell in strangers if (cell.victim, cell.suspect) in own))
    families = {family: [cell for cell in kept if cell.family == family] for family in _families(kept)}
    by_family = {family: by_victim(_scores(copies), _scores(strangers)) for family, copies in families.items()}
    groups = dict.fromkeys(cell.group for cell in [*strangers, *strangers_refused])
    verdicts = is_lineup(made[0].expression) or math.ceil(1 / result.alpha - SLACK) - 1 <= result.null_size
    seen = [*_derived(kept), *((refusal.victim, False) for refusal in kept_refused)]
    accused = share_of(_derived(strangers))
    return Standing(
        name=column,
        expression=made[0].expression,
        victim_access=victim_access,
        suspect_access=suspect_access,
        power=share_of(seen) if verdicts else None,
        exceeds=verdicts and accused.interval.low > result.alpha,
        auc=mean_over_victims(auc, clusters),
        aruc=mean_over_victims(aruc, clusters) if all(0 <= cell.similarity <= 1 for cell in cells) else None,
        tpr=mean_over_victims(_above_all, clusters),
        own_auc=mean_over_victims(auc, nearest) if nearest else None,
        own_tpr=mean_over_victims(_above_all, nearest) if nearest else None,
        families={family: mean_over_victims(auc, sides) for family, sides in by_family.items() if sides},
        answered=_answered(kept, kept_refused, strangers, strangers_refused),
        seen=tuple(result.shadow_families) if learns else (),
        accused=accused,
        accused_by_group={group: share_of(_derived(c for c in strangers if c.group == group)) for group in groups},
        undecided=sum(cell.decision == "inconclusive" for cell in strangers),
        inputs=made[0].inputs,
        needed=float(np.median(needed)) if needed else None,
        extraction_seconds=float(np.mean([extraction.seconds for extraction in made])),
        verification_seconds=float(np.median([cell.seconds for cell in cells])),
        peak_mib=max(peaks) if peaks else None,
        copies=len(kept),
        refused=len(refused),
        refused_copies=len(kept_refused),
        refused_strangers=len(strangers_refused),
        families_refused=tuple(_families(kept_refused)),
        siblings=share_of(_derived(siblings)) if siblings else None,
    )


def _answered(
    copies: list[Cell], copies_refused: list[Refusal], strangers: list[Cell], strangers_refused: list[Refusal]
) -> float:
    """The mean over victims of the share of pairs that were answered."""
    shares: list[float] = []
    for victim in {each.victim for each in [*copies, *copies_refused]}:
        counts = [
            sum(each.victim == victim for each in side)
            for side in (copies, copies_refused, strangers, strangers_refused)
        ]
        pairs = (counts[0] + counts[1]) * (counts[2] + counts[3])
        if pairs:
            shares.append(counts[0] * counts[2] / pairs)
    return float(np.mean(shares))


def _kept(judged: Iterable[Judged]) -> list[Judged]:
    return [each for each in judged if each.kind in ("derived", "beyond") and not each.damaged]


def _of_kind(judged: Iterable[Judged], kind: str) -> list[Judged]:
    return [each for each in judged if each.kind == kind]


def _families(judged: Iterable[Cell | Refusal]) -> list[str]:
    return list(dict.fromkeys(each.family for each in judged))


def _scores(cells: Iterable[Cell]) -> Iterator[tuple[int, float]]:
    return ((cell.victim, cell.similarity) for cell in cells)


def _derived(cells: Iterable[Cell]) -> Iterator[tuple[int, bool]]:
    return ((cell.victim, cell.decision == "derived") for cell in cells)


def _needs(expression: str) -> tuple[str, str, bool]:
    """Access to the victim and to the suspect, and whether it learns from shadow models."""
    if is_lineup(expression):
        return "training", told(needs_of(expression)).lower(), False
    try:
        scheme = SCHEMES.make(expression)
    except UsageError:  # somebody else's plug-in, whose result may be read without it
        return "", "", False
    victim, suspect = scheme.demands()
    return told(victim).lower(), told(suspect).lower(), scheme.needs_pool


def _above_all(positives: Scores, negatives: Scores) -> float:
    return operating_point(positives, negatives, 0.0).rate
