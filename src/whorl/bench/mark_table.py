"""From cells to the table of marks: what each costs, what is left of it after each removal, and whom it accuses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from whorl.bench.estimates import Share, share_of
from whorl.bench.mark_figures import Forgery
from whorl.bench.result import Cell, Result
from whorl.metrics import Interval, clopper_pearson

__all__ = ["MARKED", "After", "MarkRow", "killers", "mark_rows"]

MARKED = "marked"
"""The row of the marked models themselves."""


@dataclass(frozen=True)
class After:
    """What is left of a mark in the copies of one row.

    ``log10_p`` of each victim's copy, ``survived`` those at most alpha, of ``count``; ``accuracy`` their mean, and
    ``damaged`` how many lost over 5 points. ``refused`` could not be asked.
    """

    log10_p: tuple[float, ...]
    survived: int
    count: int
    accuracy: float
    damaged: int
    refused: int


@dataclass(frozen=True)
class MarkRow:
    """One mark.

    ``cost`` is by victim what marking took of its accuracy, in shares of the test part. ``accused`` is by group of
    strangers the share of verdicts with p <= .01, over draws and victims, with a 95 % interval over draws; a draw
    judges all strangers at once, so they stand or fall together. ``level`` is what the design promises. ``accepted``
    are those that the paper's own rule calls marked.
    """

    name: str
    expression: str
    null: str
    cost: tuple[float, ...]
    after: dict[str, After]
    accused: dict[str, Share]
    level: float | None
    accepted: dict[str, Share]
    forged: dict[str, list[Forgery]]


def mark_rows(result: Result) -> list[MarkRow]:
    """One row for each mark, in the order of the result."""
    return [_row(result, name) for name in result.columns]


def killers(rows: Sequence[MarkRow], label: str, *, drawn: bool = True) -> list[str]:
    """The marks of which no victim's copy of a row holds p <= alpha; of drawn ones alone unless told otherwise."""
    return [row.name for row in rows if (row.null == "design" or not drawn) and row.after[label].survived == 0]


def _row(result: Result, name: str) -> MarkRow:
    made = [each for each in result.extractions if each.scheme == name and each.mark is not None]
    figures = [each.mark for each in made if each.mark is not None]
    cells = [cell for cell in result.cells if cell.scheme == name]
    by_victim = {cell.victim: cell.accuracy for cell in cells if cell.group == MARKED}
    groups = figures[0].asked if figures else {}
    forged: dict[str, list[Forgery]] = {}
    for each in figures:
        for attempt in each.forged:
            forged.setdefault(attempt.attack, []).append(attempt)
    return MarkRow(
        name=name,
        expression=made[0].expression,
        null=figures[0].null,
        cost=tuple(result.victim_accuracy[victim] - accuracy for victim, accuracy in by_victim.items()),
        after={label: _after(result, name, label, cells) for label in result.rows},
        accused={
            group: _over_draws([each.accused[group] for each in figures], groups[group])
            for group in groups
            if figures[0].accused
        },
        level=figures[0].level,
        accepted={
            group: share_of(
                (victim, number < each.accepted[group])
                for victim, each in enumerate(figures)
                for number in range(each.asked[group])
            )
            for group in groups
            if figures[0].accepted
        },
        forged=forged,
    )


def _after(result: Result, name: str, label: str, cells: Sequence[Cell]) -> After:
    found = [cell for cell in cells if cell.group == label]
    refused = sum(each.scheme == name and each.group == label for each in result.refusals)
    return After(
        log10_p=tuple(float(np.log10(cell.p_value)) for cell in found),
        survived=sum(cell.p_value <= result.alpha for cell in found),
        count=len(found) + refused,
        accuracy=float(np.mean([cell.accuracy for cell in found])) if found else float("nan"),
        damaged=sum(cell.damaged for cell in found),
        refused=refused,
    )


def _over_draws(hits: Sequence[Sequence[int]], asked: int) -> Share:
    """Of verdicts that come in draws of ``asked`` strangers each, with the normal interval over draws.

    Where no draw accused anybody that of Clopper and Pearson, of draws and not of verdicts.
    """
    shares = np.array([each / asked for victim in hits for each in victim])
    total = sum(map(sum, hits))
    if not total:
        interval = clopper_pearson(0, len(shares))
    else:
        half = 1.96 * float(shares.std(ddof=1)) / len(shares) ** 0.5
        interval = Interval(max(0.0, float(shares.mean()) - half), min(1.0, float(shares.mean()) + half))
    return Share(total, len(shares) * asked, interval, len(shares))
