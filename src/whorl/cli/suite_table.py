"""The table of the IPGuard paper in a terminal: this run's figure, and the paper's own in brackets."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import mean

from rich.text import Text

from whorl.bench.estimates import Share
from whorl.bench.result import Result
from whorl.bench.summary import Column, Range, Summary
from whorl.cli.table import Column as Shown
from whorl.cli.table import Table, estimate
from whorl.printable import counted, printable

__all__ = ["suite_table"]


def suite_table(result: Result, summary: Summary) -> Iterator[Table | Text]:
    """The table, its legend, and the sweep over k."""
    victims = len(result.victims)
    null = counted(result.null_size, "model")
    title = f"{result.suite}: {result.about}; {counted(victims, 'victim')}"
    accuracies = _accuracies(result)
    accuracy = [Shown("accuracy", right=True, rank=1 + len(summary.columns))] if result.paper_accuracy else []
    schemes = _schemes(result, summary)
    table = Table([Shown("suspect"), *accuracy, *(column for scheme in schemes for column in scheme)], title)

    def add(label: str | Text, accuracy: list[Text], figures: list[Text], published: dict[str, str]) -> None:
        cells = list(accuracy)
        for scheme, figure in zip(schemes, figures, strict=True):
            quoted = [_quoted(published.get(scheme[0].name))] if len(scheme) > 1 else []
            cells += [figure, *quoted]
        table.add(label, *cells)

    if result.paper_accuracy:
        add("victim", accuracies["victim"], [Text() for _ in schemes], {})
    beyond = {cell.group for cell in result.cells if cell.kind == "beyond"}
    for row in result.rows:
        label = Text(printable(row) + (" *" if row in beyond else ""))
        means = [Text(_mean(column, column.rows[row])) for column in summary.columns]
        add(label, accuracies[row], means, result.paper.get(row, {}))
    for group in result.groups:
        spreads = [Text(_spread(column, column.groups[group])) for column in summary.columns]
        add(f"independent: {group}", accuracies[group], spreads, result.paper.get(group, {}))
    for label, cells in _footer(summary.columns).items():
        add(label, [Text() for _ in accuracies["victim"]], cells, result.paper.get(label, {}))
    yield table
    yield Text(
        "Mean matching rate over victims; ranges over independent models; (the paper's own figure). * not claimed by "
        "the paper and not in the averages; ! a copy that lost over 5 points of accuracy. flagged, accused: called "
        f"derived at alpha {result.alpha:g} with a null of {null}, of all verdicts given; "
        "undecided: inconclusive."
        + (" Of a lineup: models called derived of all." if any(c.lined_up for c in summary.columns) else ""),
        style="dim",
    )
    if summary.sweep:
        yield Text(f"k = {summary.best_k:g} is best on calibration models. ARUC against k:")
        for point in summary.sweep:
            yield Text(f"  k {point.k:>5g}  {estimate(point.aruc)}")


def _schemes(result: Result, summary: Summary) -> list[list[Shown]]:
    """The column of each scheme, and a second one where the paper has figures of it.

    Where there is no room the paper's go first, then the schemes of the least ARUC, or AUC where there is none.
    """
    best = sorted(summary.columns, key=lambda column: -(column.aruc or column.auc).value)
    published = {name for figures in result.paper.values() for name in figures}
    found: list[list[Shown]] = []
    for column in summary.columns:
        own = Shown(column.name, right=True, rank=1 + best.index(column))
        found.append([own, Shown("(paper)", rank=2 + len(best))] if column.name in published else [own])
    return found


def _accuracies(result: Result) -> dict[str, list[Text]]:
    """The cell of the victims, of each row and of each group in the column of accuracies; none without the paper's."""
    roles = ("victim", *result.rows, *result.groups)
    if not result.paper_accuracy:
        return {role: [] for role in roles}
    found: dict[str, list[Text]] = {}
    for role in roles:
        values = [model.accuracy for model in result.models if model.role == role]
        own = f"[{min(values):.2f}, {max(values):.2f}]" if role in result.groups else f"{mean(values):.2f}"
        paper = _quoted(result.paper_accuracy.get(role))
        found[role] = [Text(own) + (Text(" ") + paper if paper else paper)]
    return found


def _footer(columns: list[Column]) -> dict[str, list[Text]]:
    nearest = [Text(estimate(column.own_auc)) if column.own_auc else Text("-") for column in columns]
    return {
        "extraction seconds": [Text(f"{column.seconds:.2f}") for column in columns],
        "ARUC": [Text(estimate(column.aruc) if column.aruc else "-") for column in columns],
        "AUC": [Text(estimate(column.auc)) for column in columns],
        **({"AUC, own architecture": nearest} if any(column.own_auc for column in columns) else {}),
        "AUC, beyond the paper *": [Text("" if c.beyond_auc is None else f"{c.beyond_auc:.2f}") for c in columns],
        "copies flagged": [_share(column.flagged, good=True) for column in columns],
        "independents accused": [_share(column.accused, good=False) for column in columns],
        **{
            f"accused: {group}": [_share(column.accused_by_group[group], good=False) for column in columns]
            for group in columns[0].accused_by_group
        },
        "independents undecided": [Text(f"{column.undecided}/{column.accused.count}") for column in columns],
        "median queries to derived": [Text("-" if c.needed is None else f"{c.needed:g}") for c in columns],
    }


def _quoted(paper: str | None) -> Text:
    return Text(f"({printable(paper)})" if paper else "", style="dim")


def _mean(column: Column, of: Range) -> str:
    return f"{f'{of.derived}/{of.count}' if column.lined_up else f'{of.mean:.2f}'}{'!' if of.damaged else ''}"


def _spread(column: Column, of: Range) -> str:
    return f"{of.derived}/{of.count}" if column.lined_up else f"[{of.low:.2f}, {of.high:.2f}]"


def _share(of: Share, *, good: bool) -> Text:
    perfect = of.hits == (of.count if good else 0)
    return Text(f"{of.hits}/{of.count}", style="green" if perfect else "yellow")
