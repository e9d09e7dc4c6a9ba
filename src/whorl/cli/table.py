"""The table of the IPGuard paper in a terminal: this run's figure, and the paper's own in brackets."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import mean

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from whorl.bench.result import Result
from whorl.bench.summary import Column, Range, Share, Summary
from whorl.cli.console import foreign
from whorl.metrics import ClusterEstimate
from whorl.printable import printable

__all__ = ["suite_table"]


def suite_table(result: Result, summary: Summary) -> Iterator[RenderableType]:
    """The table, its legend, and the sweep over k."""
    victims = len(result.victims)
    title = f"{result.suite}: {result.about}; {victims} victim{'s' if victims > 1 else ''}"
    table = Table(title=foreign(title), title_justify="left", box=None, pad_edge=False)
    table.add_column("suspect")
    accuracies = _accuracies(result)
    if result.paper_accuracy:
        table.add_column("accuracy", justify="right")
    for column in summary.columns:
        table.add_column(foreign(column.name), justify="right")
    if result.paper_accuracy:
        table.add_row("victim", *accuracies["victim"])
    beyond = {cell.group for cell in result.cells if cell.kind == "beyond"}
    for row in result.rows:
        label = Text(printable(row) + (" *" if row in beyond else ""))
        cells = [
            _with_paper(_mean(column.rows[row]), result.paper.get(row, {}).get(column.name))
            for column in summary.columns
        ]
        table.add_row(label, *accuracies[row], *cells)
    table.add_section()
    for group in result.groups:
        cells = [
            _with_paper(_spread(column.groups[group]), result.paper.get(group, {}).get(column.name))
            for column in summary.columns
        ]
        table.add_row(foreign(f"independent: {group}"), *accuracies[group], *cells)
    table.add_section()
    seconds = result.paper.get("extraction seconds", {})
    for label, cells in _footer(summary.columns, seconds).items():
        table.add_row(label, *(Text() for _ in accuracies["victim"]), *cells)
    yield table
    yield Text(
        "Mean matching rate over victims; ranges over independent models; (the paper's own figure). * not claimed by "
        "the paper and not in the averages; ! a copy that lost over 5 points of accuracy. flagged, accused: called "
        f"derived at alpha {result.alpha:g} with a null of {result.null_size} models.",
        style="dim",
    )
    if summary.sweep:
        yield Text(f"k = {summary.best_k:g} is best on calibration models. ARUC against k:")
        for point in summary.sweep:
            yield Text(f"  k {point.k:>5g}  {_estimate(point.aruc)}")


def _accuracies(result: Result) -> dict[str, list[Text]]:
    """The cell of the victims, of each row and of each group in the column of accuracies; none without the paper's."""
    roles = ("victim", *result.rows, *result.groups)
    if not result.paper_accuracy:
        return {role: [] for role in roles}
    found: dict[str, list[Text]] = {}
    for role in roles:
        values = [model.accuracy for model in result.models if model.role == role]
        own = f"[{min(values):.2f}, {max(values):.2f}]" if role in result.groups else f"{mean(values):.2f}"
        found[role] = [_with_paper(own, result.paper_accuracy.get(role))]
    return found


def _footer(columns: list[Column], seconds: dict[str, str]) -> dict[str, list[Text]]:
    return {
        "extraction seconds": [_with_paper(f"{column.seconds:.2f}", seconds.get(column.name)) for column in columns],
        "ARUC": [Text(_estimate(column.aruc)) for column in columns],
        "AUC": [Text(_estimate(column.auc)) for column in columns],
        "AUC, beyond the paper *": [Text("" if c.beyond_auc is None else f"{c.beyond_auc:.2f}") for c in columns],
        "copies flagged": [_share(column.flagged, good=True) for column in columns],
        "independents accused": [_share(column.accused, good=False) for column in columns],
        "median queries to derived": [Text("-" if c.needed is None else f"{c.needed:g}") for c in columns],
    }


def _with_paper(own: str, paper: str | None) -> Text:
    return Text(own) + Text(f" ({printable(paper)})", style="dim") if paper else Text(own)


def _mean(of: Range) -> str:
    return f"{of.mean:.2f}{'!' if of.damaged else ''}"


def _spread(of: Range) -> str:
    return f"[{of.low:.2f}, {of.high:.2f}]"


def _estimate(of: ClusterEstimate) -> str:
    if of.clusters < 2:
        return f"{of.value:.2f}"
    return f"{of.value:.2f} [{of.interval.low:.2f}, {of.interval.high:.2f}]"


def _share(of: Share, *, good: bool) -> Text:
    perfect = of.hits == (of.count if good else 0)
    return Text(f"{of.hits}/{of.count}", style="green" if perfect else "yellow")
