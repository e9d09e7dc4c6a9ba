"""What a grid leaves behind: figures by combination, budget and row; every similarity as parquet where asked for."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from whorl.bench.grid import Grid, GridCells, code_of_grid
from whorl.bench.result import Machine, describe_machine
from whorl.errors import InvalidFile, MissingExtra, UsageError
from whorl.metrics import FEWEST, auc, over_victims, tpr_at_fpr
from whorl.revisions import revisions_of
from whorl.storage import one_line, read_json, replacing, write_json
from whorl.zoo.code import code_of_model

__all__ = ["ALL", "Figure", "GridCosts", "GridResult", "figures", "read_grid", "write_grid", "write_similarities"]

ALL = "all"
FPR = 0.05  # QuRD's operating point


class Figure(BaseModel):
    """How one combination does at one budget against one group of copies.

    ``auc`` and ``tpr`` (at a false-positive rate of at most 0.05) are means over victims and seeds; ``lowest`` and
    ``highest`` the extremes of the AUC over these, which is no interval. ``auc_interval`` and ``tpr_interval`` are 95 %
    intervals over victims; None where there are too few victims, and in results that do not say. ``copies`` kept their
    accuracy. ``answered`` is the share of pairs (copy, independent model) in which both could be asked, of which alone
    the figures are; None in results in which a suspect that could not be asked counted as the least alike of all.
    """

    combination: str
    budget: int
    group: str
    auc: float
    tpr: float
    lowest: float
    highest: float
    copies: int
    answered: float | None = None
    auc_interval: tuple[float, float] | None = None
    tpr_interval: tuple[float, float] | None = None

    def at_worst(self, of: float) -> float:
        """A figure as it is ranked: as if every pair that was not answered were lost."""
        return of if self.answered is None else of * self.answered


class GridCosts(BaseModel):
    """What was computed and what it took: seconds that models worked, and inputs asked of suspects."""

    cells: int
    sampling_seconds: float
    asking_seconds: float
    inputs: int
    wall_seconds: float


class GridResult(BaseModel):
    """A whole run of a grid."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["grid"] = "grid"
    format: int = Field(default=1, ge=1, le=1)
    suite: str
    about: str
    limit: int
    victims: list[str]
    independents: int
    budgets: list[int]
    seeds: int
    groups: list[str]
    machine: Machine
    date: str
    command: str
    costs: GridCosts
    figures: list[Figure]
    refused: dict[str, str] = {}
    """Queries that could not be made of a victim, as in ``victim 2, train-negative``, and why."""
    revisions: dict[str, str] | None = None
    """The code that made it, as `whorl.revisions.revisions_of` has it; None in results that do not say."""

    def of(self, combination: str, budget: int, group: str = ALL) -> Figure:
        """One figure. Raises `KeyError` where there is none."""
        for each in self.figures:
            if (each.combination, each.budget, each.group) == (combination, budget, group):
                return each
        raise KeyError((combination, budget, group))


def figures(grid: Grid, cells: GridCells, *, command: str, wall_seconds: float, device: str = "cpu") -> GridResult:
    """The document of a run."""
    groups = list(dict.fromkeys(row.group or row.label for row in grid.suite.derived))
    strangers = sum("independent" in suspect.kinds.values() for suspect in cells.suspects)
    return GridResult(
        suite=grid.suite.name,
        about=grid.suite.about,
        limit=grid.suite.limit,
        victims=[str(victim) for victim in grid.suite.victims],
        independents=strangers,
        budgets=list(grid.budgets),
        seeds=len(grid.seeds),
        groups=groups,
        machine=describe_machine(device),
        date=datetime.now(UTC).date().isoformat(),
        command=command,
        costs=GridCosts(
            cells=grid.cells,
            sampling_seconds=round(sum(cells.sampling_seconds.values()), 1),
            asking_seconds=round(cells.asking_seconds, 1),
            inputs=cells.inputs,
            wall_seconds=round(wall_seconds, 1),
        ),
        revisions=revisions_of(
            code_of_grid(grid).union(*(code_of_model(suspect.recipe) for suspect in cells.suspects))
        ),
        refused={
            f"victim {victim + 1}, {queries}": one_line(UsageError(reason))
            for (victim, queries, _), reason in cells.refused.items()
        },
        figures=[
            figure
            for name in grid.combinations
            for budget in grid.budgets
            for group in (ALL, *groups)
            for figure in _figure(grid, cells, name, budget, group)
        ],
    )


def _figure(grid: Grid, cells: GridCells, name: str, budget: int, group: str) -> Iterator[Figure]:
    """The figure, or nothing where no copy of the group kept its accuracy and could be asked."""
    areas: list[list[float]] = []
    rates: list[list[float]] = []
    answered: list[float] = []
    trials: list[int] = []
    copies = 0
    for victim in range(len(grid.suite.victims)):
        positives, negatives = _scores(cells, victim, name, budget, group)
        if not positives.size or not negatives.size:
            continue
        copies += len(positives)
        known = [[side[~np.isnan(side[:, seed]), seed] for side in (positives, negatives)] for seed in grid.seeds]
        answered += [len(above) * len(below) / (len(positives) * len(negatives)) for above, below in known]
        known = [sides for sides in known if all(map(len, sides))]
        if known:
            areas.append([auc(*sides) for sides in known])
            rates.append([tpr_at_fpr(*sides, FPR).rate for sides in known])
            trials.append(min(len(side) for sides in known for side in sides))
    if areas:
        yield Figure(
            combination=name,
            budget=budget,
            group=group,
            auc=round(_mean(areas), 4),
            tpr=round(_mean(rates), 4),
            lowest=round(min(map(min, areas)), 4),
            highest=round(max(map(max, areas)), 4),
            copies=copies,
            answered=round(float(np.mean(answered)), 4),
            auc_interval=_interval(areas, trials),
            tpr_interval=_interval(rates, trials),
        )


def _mean(values: Sequence[Sequence[float]]) -> float:
    """Over victims and seeds."""
    return float(np.mean([value for of_victim in values for value in of_victim]))


def _interval(values: Sequence[Sequence[float]], trials: Sequence[int]) -> tuple[float, float] | None:
    """Over victims, each with the mean of its seeds: other queries are no other victims."""
    if len(values) < FEWEST:
        return None
    of = over_victims([float(np.mean(of_victim)) for of_victim in values], trials).interval
    return round(of.low, 4), round(of.high, 4)


def _scores(
    cells: GridCells, victim: int, name: str, budget: int, group: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Similarities ``[models, seeds]`` of the group's undamaged copies and of the independent models.

    NaN where a suspect could not be asked.
    """
    positives: list[list[float]] = []
    negatives: list[list[float]] = []
    for (owner, number), table in cells.similarities.items():
        suspect = cells.suspects[number]
        if owner != victim or name not in table:
            continue
        kind = suspect.kinds[victim]
        if kind == "independent":
            negatives.append(table[name][budget])
        elif kind != "sibling" and not cells.damaged[number] and group in (ALL, suspect.group):
            positives.append(table[name][budget])
    return np.array(positives, dtype=float), np.array(negatives, dtype=float)


def write_grid(result: GridResult, path: Path) -> None:
    """Save as JSON."""
    document = result.model_dump()
    names = list(Figure.model_fields)
    document["figures"] = {"fields": names, "rows": [[each[name] for name in names] for each in document["figures"]]}
    write_json(path, document)


def read_grid(path: Path) -> GridResult:
    """Read and check. Raises `InvalidFile` naming the first wrong field."""
    document: Any = read_json(path)
    try:
        if isinstance(document, dict) and isinstance(document.get("figures"), dict):
            table = document["figures"]
            document["figures"] = [dict(zip(table["fields"], row, strict=True)) for row in table["rows"]]
        return GridResult.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        raise InvalidFile(
            f"{path} is no result of a grid: {'.'.join(map(str, first['loc']))}: {first['msg']}"
        ) from None
    except (KeyError, TypeError, ValueError):
        raise InvalidFile(f"{path} is no result of a grid: its figures are neither a list nor a table") from None


def write_similarities(grid: Grid, cells: GridCells, path: Path) -> None:
    """Save every similarity as one parquet table; missing where a suspect could not be asked."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise MissingExtra("parquet export", "parquet") from None
    columns: dict[str, list[Any]] = {name: [] for name in COLUMNS}
    for (victim, number), table in cells.similarities.items():
        suspect = cells.suspects[number]
        about = (suspect.label, suspect.group, suspect.kinds[victim], cells.damaged[number])
        for name, by_budget in table.items():
            for budget, values in by_budget.items():
                for seed, value in zip(grid.seeds, values, strict=True):
                    row: Sequence[Any] = (victim, *about, name, budget, seed, None if math.isnan(value) else value)
                    for column, each in zip(COLUMNS, row, strict=True):
                        columns[column].append(each)
    with replacing(path) as temporary:
        pq.write_table(pa.table(columns), temporary)


COLUMNS = ("victim", "suspect", "group", "kind", "damaged", "combination", "budget", "seed", "similarity")
