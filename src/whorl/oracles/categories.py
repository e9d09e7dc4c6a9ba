"""Numbers that an estimator looks numbers up in, or holds against them, by the column of a row that they are meant for.

A row of float32 numbers in [0, 1], brought back to the units of its table, misses a number such as .1 by its last bits,
and an encoder does not know what it misses; a value that is a threshold itself lands on its other side. Which numbers
they may be depends on the estimator alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from whorl.errors import UsageError

__all__ = ["Categories", "categories_of"]

CHOOSERS: Final = frozenset({"SelectKBest", "SelectPercentile", "SelectFromModel", "RFE", "VarianceThreshold"})
HELD: Final = ("estimator_", "estimators_", "calibrated_classifiers_", "estimator", "best_estimator_")
DEEPEST: Final = 32

Column = Sequence[int]


@dataclass(frozen=True)
class Categories:
    """Sorted float64 numbers by column: all of them, and those of encoders and bins, of which each means something."""

    columns: dict[int, Tensor]
    told_apart: dict[int, Tensor]

    def near(self, rows: Tensor, reach: Tensor) -> Tensor:
        """``rows`` ``[n, columns]`` float64 with what lies within ``reach`` ``[columns]`` of a category put there."""
        result = rows.clone()
        for column, known in self.columns.items():
            values = rows[:, column].contiguous()
            above = torch.searchsorted(known, values).clamp_max(len(known) - 1)
            below = (above - 1).clamp_min(0)
            nearest = torch.where((values - known[below]).abs() <= (known[above] - values).abs(), below, above)
            close = (known[nearest] - values).abs() <= reach[column]
            result[:, column] = torch.where(close, known[nearest], values)
        return result

    def refuse_alike(self, scale: Tensor, shift: Tensor, name: str) -> None:
        """Raise `UsageError` where float32 can't tell two categories apart.

        Shape:
            scale, shift: ``[columns]`` float64, from a number in [0, 1] to the column's own units.
        """
        for column, known in self.told_apart.items():
            images = ((known - shift[column]) / scale[column]).float()
            alike = (images[1:] == images[:-1]).nonzero().flatten()
            if len(alike):
                one, other = known[alike[0] : alike[0] + 2].tolist()
                raise UsageError(
                    f"{name} looks column {column + 1} up in categories of which {one!r} and {other!r} are one number "
                    "to float32, in which whorl asks: number them from 0 in the table, and fit it on these"
                )


def categories_of(estimator: Any, columns: int) -> Categories:
    """The categories of every encoder, the edges of every bin, and the thresholds of trees that take float64, of what
    is given columns as they stand in a row.

    Nothing is known of an encoder behind what changes numbers, as a scaler does.
    """
    found: dict[int, list[np.ndarray]] = {}
    thresholds: dict[int, list[np.ndarray]] = {}
    for column, values, exact in _walk(estimator, range(columns), DEEPEST):
        (found if exact else thresholds).setdefault(column, []).append(values)
    both = {column: [*found.get(column, ()), *thresholds.get(column, ())] for column in found | thresholds}
    return Categories(_merged(both), _merged(found))


def _merged(found: dict[int, list[np.ndarray]]) -> dict[int, Tensor]:
    return {column: torch.from_numpy(np.unique(np.concatenate(values))) for column, values in sorted(found.items())}


def _walk(part: Any, columns: Column, depth: int) -> Iterator[tuple[int, np.ndarray, bool]]:
    if not depth or not hasattr(part, "__dict__"):
        return
    held = vars(part)
    for values in (held.get("categories_"), held.get("bin_edges_")):
        for column, each in zip(columns, values if values is not None else (), strict=False):
            yield from ((place, numbers, True) for place, numbers in _numbers(column, each))
    yield from ((place, numbers, False) for place, numbers in _thresholds(held, columns))
    for each, some in PARTS.get(type(part).__name__, _held)(part, columns):
        yield from _walk(each, some, depth - 1)


def _thresholds(held: dict[str, Any], columns: Column) -> Iterator[tuple[int, np.ndarray]]:
    """Of histogram gradient boosting, which may take values of its training rows for thresholds (x goes left of x)."""
    if held.get("_preprocessor") is not None:  # categories come first then
        return
    for trees in held.get("_predictors") or ():
        for tree in trees:
            nodes = tree.nodes[tree.nodes["is_leaf"] == 0]
            for place in np.unique(nodes["feature_idx"]):
                yield from _numbers(columns[place], nodes["num_threshold"][nodes["feature_idx"] == place])


def _steps(part: Any, columns: Column) -> Iterator[tuple[Any, Column]]:
    left: Column | None = columns
    for _, step in part.steps:
        if left is None:
            return
        yield step, left
        left = _after(step, left)


def _by_columns(part: Any, columns: Column) -> Iterator[tuple[Any, Column]]:
    for name, step, _ in part.transformers_:
        yield step, [columns[place] for place in part._transformer_to_input_indices.get(name, ())]


def _side_by_side(part: Any, columns: Column) -> Iterator[tuple[Any, Column]]:
    for _, step in part.transformer_list:
        yield step, columns


def _held(part: Any, columns: Column) -> Iterator[tuple[Any, Column]]:
    """Estimators of an ensemble or a wrapper; those of a bag may know some columns only."""
    held = vars(part)
    chosen = held.get("estimators_features_")
    for key in HELD:
        for number, each in enumerate(_several(held.get(key))):
            known = chosen if key == "estimators_" else None
            yield each, columns if known is None else [columns[place] for place in known[number]]


PARTS: Final[dict[str, Callable[[Any, Column], Iterator[tuple[Any, Column]]]]] = {
    "Pipeline": _steps,
    "ColumnTransformer": _by_columns,
    "FeatureUnion": _side_by_side,
}


def _numbers(column: int, values: Any) -> Iterator[tuple[int, np.ndarray]]:
    """Categories that are numbers; missing ones are no numbers."""
    found = np.asarray(values)
    if found.dtype.kind in "biuf":
        found = found.astype(np.float64)
        yield column, found[np.isfinite(found)]


def _several(held: Any) -> Sequence[Any]:
    if isinstance(held, list | tuple):
        return held
    return list(held.flat) if isinstance(held, np.ndarray) and held.dtype == object else [held]


def _after(step: Any, columns: Column) -> Column | None:
    """Which columns a step passes on as they are; None where it changes them."""
    kind = type(step).__name__
    if step is None or step == "passthrough" or (kind == "FunctionTransformer" and step.func is None):
        return columns
    if kind == "SimpleImputer":
        return None if step.add_indicator or np.isnan(step.statistics_).any() else columns
    if kind in CHOOSERS:
        return [column for column, kept in zip(columns, step.get_support(), strict=True) if kept]
    return None
