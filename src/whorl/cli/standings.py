"""The table of the field in a terminal: one scheme a line, best first."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import mean

from rich.text import Text

from whorl.bench.grid_result import ALL, GridResult
from whorl.bench.quality import MEASURES, Quality
from whorl.bench.result import Model, Result
from whorl.bench.standings import Standing
from whorl.cli.table import Column, Table
from whorl.metrics import ClusterEstimate

__all__ = ["field_tables", "grid_table", "quality_table"]


def field_tables(result: Result, rows: list[Standing]) -> Iterator[Table | Text]:
    """How well, by family of removal; at what cost; what extraction took; then the legend."""
    victims = len(result.victims)
    title = f"{result.suite}: {result.about}; {victims} victim{'s' if victims > 1 else ''}"
    yield _quality(title, rows)
    yield _costs(rows)
    if any(model.queries for model in result.models):
        yield _thieves(result)
    yield Text(
        "AUC, TPR and ARUC of copies that kept their accuracy against all independent models, averaged over victims, "
        "with 95 % intervals over whole victims; TPR at the smallest realisable false-positive rate: the share of "
        "copies above every independent model; ARUC only of similarities in [0, 1]; AUC by family of removal, ~ where "
        f"the scheme learned from copies of that family. accused: independent models called derived at alpha "
        f"{result.alpha:g} with a null of {result.null_size} models. inputs: asked of one suspect.",
        style="dim",
    )
    if result.refusals:
        yield Text("A suspect that a scheme cannot be asked about counts as the least alike of all.", style="dim")


def grid_table(result: GridResult, best: int = 30) -> Iterator[Table | Text]:
    """The best combinations at the largest budget, by mean TPR over all copies; then the legend."""
    largest = max(result.budgets)
    rows = [figure for figure in result.figures if figure.budget == largest and figure.group == ALL]
    rows.sort(key=lambda figure: (-figure.tpr, -figure.auc, figure.combination))
    by_point = {(each.combination, each.budget, each.group): each for each in result.figures}
    title = f"{result.suite}: {result.about}; {len(result.victims)} victims, {result.seeds} seeds"
    ranks = [(f"TPR @{budget}", int(budget != largest)) for budget in result.budgets]
    ranks += [(f"AUC @{largest}", 0), *((group, 2) for group in result.groups)]
    figures = [Column(name, right=True, rank=rank) for name, rank in ranks]
    table = Table([Column("queries+representation+similarity"), *figures], title)
    for row in rows[:best]:
        points = [(row.combination, budget, ALL) for budget in result.budgets]
        groups = [(row.combination, largest, group) for group in result.groups]
        rates = [f"{by_point[point].tpr:.2f}" for point in points]
        each = [f"{by_point[point].tpr:.2f}" if point in by_point else "-" for point in groups]
        table.add(row.combination, *rates, f"{row.auc:.3f}", *each)
    yield table
    yield Text(
        f"{len(rows)} combinations, {result.costs.cells:,} cells; TPR at a false-positive rate of at most .05 against "
        f"{result.independents} independent models, mean over victims and seeds, by row at {largest} inputs.",
        style="dim",
    )


def quality_table(quality: Quality) -> Table:
    """The four measures by group, and their overlap between copies and independent models."""
    ranks = {"pairs": 2, "accuracy gap": 0, "Hamming": 0, "on errors": 1, "output l2": 1}
    figures = [Column(name, right=True, rank=rank) for name, rank in ranks.items()]
    table = Table([Column("group"), Column("to the victim"), *figures], f"{quality.suite}: quality")
    for row in quality.groups:
        values = ["-" if value is None else f"{value:.3f}" for value in (getattr(row, name) for name in MEASURES)]
        table.add(row.group, row.kind, str(row.pairs), *values)
    overlaps = (quality.overlaps[name] for name in MEASURES)
    table.add("overlap", "1 is hardest", "", *("-" if each is None else f"{each:.2f}" for each in overlaps))
    return table


def _quality(title: str, rows: list[Standing]) -> Table:
    families = list(dict.fromkeys(family for row in rows for family in row.families))
    ranks = [("AUC", 0), ("TPR", 0), ("ARUC", 3), *((family, 2) for family in families), ("accused", 0)]
    figures = [Column(name, right=True, rank=rank) for name, rank in ranks]
    table = Table([Column("scheme"), Column("suspect", rank=1), *figures], title)
    for row in rows:
        cells = [_family(row, family) for family in families]
        accused = f"{row.accused.hits}/{row.accused.count}"
        aruc = "-" if row.aruc is None else f"{row.aruc.value:.2f}"
        table.add(
            row.name,
            row.suspect_access,
            _estimate(row.auc),
            _estimate(row.tpr),
            aruc,
            *cells,
            accused,
        )
    return table


def _costs(rows: list[Standing]) -> Table:
    ranks = {
        "inputs": 0,
        "queries to derived": 2,
        "extraction s": 1,
        "verification s": 1,
        "peak MiB": 3,
        "refused": 0,
    }
    figures = [Column(name, right=True, rank=rank) for name, rank in ranks.items()]
    table = Table([Column("scheme"), Column("victim", rank=1), *figures])
    for row in rows:
        table.add(
            row.name,
            row.victim_access + (" + shadows" if row.seen else ""),
            f"{row.inputs:,}",
            "-" if row.needed is None else f"{row.needed:g}",
            f"{row.extraction_seconds:.1f}",
            f"{row.verification_seconds:.3f}",
            "-" if row.peak_mib is None else f"{row.peak_mib:.0f}",
            str(row.refused or ""),
        )
    return table


def _thieves(result: Result) -> Table:
    """What asking the victim bought: the means over victims of each kind of extraction."""
    ranks = {"accuracy": 0, "fidelity": 0, "queries": 0, "kept its accuracy": 1}
    table = Table([Column("extraction"), *(Column(name, right=True, rank=rank) for name, rank in ranks.items())])
    thieves: dict[str, list[Model]] = {}
    for model in result.models:
        if model.queries and model.role != "victim":
            thieves.setdefault(model.label, []).append(model)
    for label, models in thieves.items():
        known = [model.agreement for model in models if model.agreement is not None]
        table.add(
            label,
            f"{mean(model.accuracy for model in models):.3f}",
            f"{mean(known):.3f}" if known else "-",
            f"{mean(model.queries for model in models):,.0f}",
            f"{sum(not model.damaged for model in models)}/{len(models)}",
        )
    return table


def _family(row: Standing, family: str) -> str:
    if family not in row.families:
        return "-"
    return f"{row.families[family].value:.2f}{'~' if family in row.seen else ''}"


def _estimate(of: ClusterEstimate) -> str:
    if of.clusters < 2:
        return f"{of.value:.2f}"
    return f"{of.value:.2f} [{of.interval.low:.2f}, {of.interval.high:.2f}]"
