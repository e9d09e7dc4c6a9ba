"""From cells to the table of the paper: rows, ranges, ARUC and AUC with intervals, ARUC against k."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from whorl.bench.result import Cell, Extraction, Result
from whorl.errors import UsageError
from whorl.metrics import ClusterEstimate, Interval, aruc, auc, auc_interval, clopper_pearson, cluster_bootstrap

__all__ = ["Column", "KPoint", "Range", "Share", "Summary", "share_of", "summarise"]


@dataclass(frozen=True)
class Range:
    """Mean and extremes of matching rates; ``damaged`` of the ``count`` models lost over 5 points of accuracy."""

    mean: float
    low: float
    high: float
    count: int
    damaged: int


@dataclass(frozen=True)
class Share:
    """``hits`` of ``count``, with a 95 % Clopper-Pearson interval."""

    hits: int
    count: int
    interval: Interval


@dataclass(frozen=True)
class Column:
    """One scheme.

    ``aruc`` and ``auc`` compare the paper's positives that kept their accuracy with all independent models, victim by
    victim; ``beyond_auc`` does so for the removals that the paper does not claim to survive. ``flagged`` counts the
    paper's positives called derived, ``accused`` independent models called derived; ``needed`` is the median number of
    queries to a verdict of derived.
    """

    name: str
    expression: str
    rows: dict[str, Range]
    groups: dict[str, Range]
    seconds: float
    converged: float | None
    aruc: ClusterEstimate
    auc: ClusterEstimate
    beyond_auc: float | None
    flagged: Share
    accused: Share
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
    derived = [cell.needed for cell in paper if cell.decision == "derived"]
    converged = [extraction.notes["converged"] for extraction in extractions if "converged" in extraction.notes]
    return Column(
        name=name,
        expression=extractions[0].expression,
        rows={row: _range([cell for cell in copies if cell.group == row]) for row in result.rows},
        groups={group: _range([cell for cell in cells if cell.group == group]) for group in result.groups},
        seconds=float(np.mean([extraction.seconds for extraction in extractions])),
        converged=float(np.mean(converged)) if converged else None,
        aruc=_aruc(result, paper, strangers),
        auc=_auc(result, paper, strangers),
        beyond_auc=auc(_scores(beyond), _scores(strangers)) if beyond else None,
        flagged=share_of(cell.decision == "derived" for cell in paper),
        accused=share_of(cell.decision == "derived" for cell in strangers),
        needed=float(np.median(derived)) if derived else None,
    )


def _point(result: Result, k: float) -> KPoint:
    scheme = f"{result.chosen} k={_key(result, k)}"
    cells = [cell for cell in result.cells if cell.scheme == scheme]
    paper = [cell for cell in cells if cell.kind == "derived" and not cell.damaged]
    strangers = [cell for cell in cells if cell.kind == "independent"]
    calibration = [_known_aruc(extraction) for extraction in result.extractions if extraction.scheme == scheme]
    return KPoint(k, _aruc(result, paper, strangers), float(np.mean(calibration)))


def _known_aruc(extraction: Extraction) -> float:
    return aruc([value for values in extraction.known.values() for value in values], extraction.null)


def _key(result: Result, k: float | None) -> str:
    return next(text for text in result.sweep if float(text) == k)


def _clusters(
    result: Result, positives: Sequence[Cell], negatives: Sequence[Cell]
) -> list[tuple[list[float], list[float]]]:
    """Scores by victim; a victim none of whose copies kept its accuracy says nothing."""
    clusters = [
        (
            _scores(cell for cell in positives if cell.victim == victim),
            _scores(cell for cell in negatives if cell.victim == victim),
        )
        for victim in range(len(result.victims))
    ]
    kept = [cluster for cluster in clusters if all(cluster)]
    if not kept:
        raise UsageError(f"no copy of {result.suite} kept its accuracy, so there is nothing to average")
    return kept


def _aruc(result: Result, positives: Sequence[Cell], negatives: Sequence[Cell]) -> ClusterEstimate:
    clusters = _clusters(result, positives, negatives)
    if len(clusters) > 1:
        return cluster_bootstrap(aruc, clusters, generator=np.random.default_rng(0), average=True)
    value = aruc(*clusters[0])
    return ClusterEstimate(value, Interval(0.0, 1.0), 1)  # one victim says nothing about the next


def _auc(result: Result, positives: Sequence[Cell], negatives: Sequence[Cell]) -> ClusterEstimate:
    clusters = _clusters(result, positives, negatives)
    if len(clusters) > 1:
        return cluster_bootstrap(auc, clusters, generator=np.random.default_rng(0), average=True)
    value, interval = auc(*clusters[0]), auc_interval(*clusters[0])
    return ClusterEstimate(value, interval, 1)


def _range(cells: Sequence[Cell]) -> Range:
    values = _scores(cells)
    damaged = sum(cell.damaged for cell in cells)
    return Range(float(np.mean(values)), min(values), max(values), len(values), damaged)


def share_of(hits: Iterable[bool]) -> Share:
    """How many are true, with an interval."""
    outcomes = list(hits)
    return Share(sum(outcomes), len(outcomes), clopper_pearson(sum(outcomes), len(outcomes)))


def _scores(cells: Iterable[Cell]) -> list[float]:
    return [cell.similarity for cell in cells]
