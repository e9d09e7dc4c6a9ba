"""From cells to the table of the paper: rows, ranges, ARUC and AUC with intervals, ARUC against k."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from whorl.bench.architectures import own_architecture
from whorl.bench.estimates import Share, by_victim, mean_over_victims, share_of
from whorl.bench.lineups import is_lineup
from whorl.bench.result import Cell, Extraction, Result
from whorl.errors import UsageError
from whorl.metrics import ClusterEstimate, Scores, aruc, auc

__all__ = ["Column", "KPoint", "Range", "Summary", "summarise"]


@dataclass(frozen=True)
class Range:
    """Mean and extremes of matching rates; ``damaged`` of the ``count`` models lost over 5 points of accuracy.

    ``derived`` of all were called so, which is what a lineup has to show: its similarities are leads, in units of its
    statistic, and no matching rates.
    """

    mean: float
    low: float
    high: float
    count: int
    damaged: int
    derived: int


@dataclass(frozen=True)
class Column:
    """One scheme, or the lineup where ``lined_up`` says so.

    ``aruc`` and ``auc`` compare the paper's positives that kept their accuracy with all independent models, victim by
    victim; a lineup has no ``aruc``, as its similarities do not span [0, 1]. ``own_auc`` compares them with those of
    the victim's own architecture alone, None where the result does not tell which they are; ``beyond_auc`` is the AUC
    of the removals that the paper does not claim to survive. ``flagged`` counts the paper's positives called derived,
    ``accused`` independent models called derived among all verdicts given on them, of which ``undecided`` were
    inconclusive; ``needed`` is the median number of queries to a verdict of derived.
    """

    name: str
    expression: str
    rows: dict[str, Range]
    groups: dict[str, Range]
    lined_up: bool
    seconds: float
    converged: float | None
    aruc: ClusterEstimate | None
    auc: ClusterEstimate
    own_auc: ClusterEstimate | None
    beyond_auc: float | None
    flagged: Share
    accused: Share
    accused_by_group: dict[str, Share]
    undecided: int
    needed: float | None


@dataclass(frozen=True)
class KPoint:
    """ARUC at one k, on the models under test and on calibration models (which alone choose k)."""

    k: float
    aruc: ClusterEstimate
    calibration_aruc: float


@dataclass(frozen=True)
class Summary:
    """The whole table."""

    columns: list[Column]
    sweep: list[KPoint]
    best_k: float | None


def summarise(result: Result) -> Summary:
    """Compute the table. The chosen column takes the k that is best on calibration models."""
    sweep = [_point(result, float(k)) for k in result.sweep] if result.chosen else []
    best = max(sweep, key=lambda point: point.calibration_aruc).k if sweep else None
    columns = [
        _column(result, name, f"{name} k={_key(result, best)}" if best is not None and name == result.chosen else name)
        for name in result.columns
    ]
    return Summary(columns, sweep, best)


def _column(result: Result, name: str, scheme: str) -> Column:
    cells = [cell for cell in result.cells if cell.scheme == scheme]
    extractions = [extraction for extraction in result.extractions if extraction.scheme == scheme]
    copies = [cell for cell in cells if cell.kind in ("derived", "beyond")]
    paper = [cell for cell in cells if cell.kind == "derived" and not cell.damaged]
    strangers = [cell for cell in cells if cell.kind == "independent"]
    beyond = [cell for cell in cells if cell.kind == "beyond" and not cell.damaged]
    near = own_architecture(result)
    nearest = by_victim(_placed(paper), _placed(cell for cell in strangers if (cell.victim, cell.suspect) in near))
    derived = [cell.needed for cell in paper if cell.decision == "derived"]
    converged = [extraction.notes["converged"] for extraction in extractions if "converged" in extraction.notes]
    lined_up = is_lineup(extractions[0].expression)
    return Column(
        name=name,
        expression=extractions[0].expression,
        lined_up=lined_up,
        rows={row: _range([cell for cell in copies if cell.group == row]) for row in result.rows},
        groups={group: _range([cell for cell in cells if cell.group == group]) for group in result.groups},
        seconds=float(np.mean([extraction.seconds for extraction in extractions])),
        converged=float(np.mean(converged)) if converged else None,
        aruc=None if lined_up else _estimate(result, aruc, paper, strangers),
        auc=_estimate(result, auc, paper, strangers),
        own_auc=mean_over_victims(auc, nearest) if nearest else None,
        beyond_auc=auc(_scores(beyond), _scores(strangers)) if beyond else None,
        flagged=_derived(paper),
        accused=_derived(strangers),
        accused_by_group={
            group: _derived(cell for cell in strangers if cell.group == group) for group in result.groups
        },
        undecided=sum(cell.decision == "inconclusive" for cell in strangers),
        needed=float(np.median(derived)) if derived else None,
    )


def _point(result: Result, k: float) -> KPoint:
    scheme = f"{result.chosen} k={_key(result, k)}"
    cells = [cell for cell in result.cells if cell.scheme == scheme]
    paper = [cell for cell in cells if cell.kind == "derived" and not cell.damaged]
    strangers = [cell for cell in cells if cell.kind == "independent"]
    calibration = [_known_aruc(extraction) for extraction in result.extractions if extraction.scheme == scheme]
    return KPoint(k, _estimate(result, aruc, paper, strangers), float(np.mean(calibration)))


def _known_aruc(extraction: Extraction) -> float:
    return aruc([value for values in extraction.known.values() for value in values], extraction.null)


def _key(result: Result, k: float | None) -> str:
    return next(text for text in result.sweep if float(text) == k)


def _estimate(
    result: Result,
    statistic: Callable[[Scores, Scores], float],
    positives: Sequence[Cell],
    negatives: Sequence[Cell],
) -> ClusterEstimate:
    """A victim none of whose copies kept its accuracy says nothing."""
    clusters = by_victim(_placed(positives), _placed(negatives))
    if not clusters:
        raise UsageError(f"no copy of {result.suite} kept its accuracy, so there is nothing to average")
    return mean_over_victims(statistic, clusters)


def _placed(cells: Iterable[Cell]) -> Iterator[tuple[int, float]]:
    return ((cell.victim, cell.similarity) for cell in cells)


def _range(cells: Sequence[Cell]) -> Range:
    values = _scores(cells)
    damaged, derived = sum(cell.damaged for cell in cells), sum(cell.decision == "derived" for cell in cells)
    return Range(float(np.mean(values)), min(values), max(values), len(values), damaged, derived)


def _derived(cells: Iterable[Cell]) -> Share:
    return share_of((cell.victim, cell.decision == "derived") for cell in cells)


def _scores(cells: Iterable[Cell]) -> list[float]:
    return [cell.similarity for cell in cells]
