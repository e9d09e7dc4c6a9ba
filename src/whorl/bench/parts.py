"""Parts of a result, each a result of its own: one scheme, one family of removal, one row, one victim.

A figure of a part follows from the same rules as that of the whole, because `standings` computes both.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TypeVar

from whorl.bench.result import Cell, Refusal, Result
from whorl.bench.standings import Standing, standings
from whorl.suites.suite import SUITES

__all__ = ["OTHER", "by_scheme", "families_of", "of_family", "of_row", "of_victim", "standing", "with_families"]

OTHER = "other"
"""Family of a row of which nothing tells the removal."""

Judged = TypeVar("Judged", Cell, Refusal)


def with_families(result: Result) -> Result:
    """The result with a family for every copy. Those written before families were kept are looked up by their row."""
    copies = [each for each in [*result.cells, *result.refusals] if each.kind in ("derived", "beyond")]
    if all(each.family for each in copies):
        return result
    named = _families(result)

    def filled(each: Judged) -> Judged:
        if each.kind not in ("derived", "beyond") or each.family:
            return each
        return each.model_copy(update={"family": named.get(each.group) or OTHER})

    cells, refusals = [filled(cell) for cell in result.cells], [filled(refusal) for refusal in result.refusals]
    return result.model_copy(update={"cells": cells, "refusals": refusals})


def by_scheme(result: Result) -> dict[str, Result]:
    """Column to the part of that scheme alone; columns of which no suspect could be asked are left out."""
    parts = {column: _of_column(result, column) for column in result.columns}
    return {column: part for column, part in parts.items() if part.cells and part.extractions}


def of_family(result: Result, family: str) -> Result:
    """The copies of one family of removal, and every model that is no copy."""
    return _chosen(result, lambda each: each.kind not in ("derived", "beyond") or each.family == family)


def of_row(result: Result, row: str) -> Result:
    """The copies of one row, and every model that is no copy."""
    return _chosen(result, lambda each: each.kind not in ("derived", "beyond") or each.group == row)


def of_victim(result: Result, victim: int) -> Result:
    """What was asked about one victim, which becomes the only one."""
    part = _chosen(result, lambda each: each.victim == victim)
    alone = {"victims": [result.victims[victim]], "victim_accuracy": [result.victim_accuracy[victim]]}
    for name in ("cells", "refusals", "extractions"):
        of = [each for each in getattr(part, name) if each.victim == victim]
        alone[name] = [each.model_copy(update={"victim": 0}) for each in of]
    return part.model_copy(update=alone)


def families_of(result: Result) -> list[str]:
    """Families of removal of the copies, in the order of their rows."""
    judged = [*result.cells, *result.refusals]
    return list(dict.fromkeys(each.family for each in judged if each.kind in ("derived", "beyond")))


def standing(part: Result) -> Standing | None:
    """The figures of the only scheme of a part; None where it could be asked, of no victim, about both a copy that kept
    its accuracy and an independent model to compare it with."""
    if not part.cells or not _comparable(part):
        return None
    (row,) = standings(part)
    asked = row.inputs or max(cell.spent for cell in part.cells)  # older results count queries only
    return dataclasses.replace(row, inputs=asked)


def _of_column(result: Result, column: str) -> Result:
    made = [extraction for extraction in result.extractions if extraction.scheme == column]
    part = _chosen(result, lambda each: each.scheme == column)
    return part.model_copy(update={"columns": [column], "extractions": made})


def _comparable(part: Result) -> bool:
    copies = {cell.victim for cell in part.cells if cell.kind in ("derived", "beyond") and not cell.damaged}
    return bool(copies & {cell.victim for cell in part.cells if cell.kind == "independent"})


def _chosen(result: Result, wanted: Callable[[Cell | Refusal], bool]) -> Result:
    cells = [cell for cell in result.cells if wanted(cell)]
    refusals = [refusal for refusal in result.refusals if wanted(refusal)]
    return result.model_copy(update={"cells": cells, "refusals": refusals})


def _families(result: Result) -> dict[str, str]:
    """Row to family, from the models of the result or else from the suite of that name."""
    if result.models:
        return {model.role: model.family for model in result.models if model.family}
    if result.suite not in SUITES:
        return {}
    return {suspect.group: suspect.family for suspect in SUITES[result.suite]().suspects() if suspect.family}
