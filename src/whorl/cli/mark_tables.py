"""The tables of a suite of marks in a terminal: what each costs, what removes it, whom it accuses, what is forged."""

from __future__ import annotations

from collections.abc import Iterator

from rich.text import Text

from whorl.bench.mark_table import After, MarkRow
from whorl.bench.result import Result
from whorl.cli.table import Column, Table
from whorl.printable import counted

__all__ = ["mark_tables"]


def mark_tables(result: Result, rows: list[MarkRow]) -> Iterator[Table | Text]:
    """By removal, by group of strangers, by forgery; a legend after each."""
    victims = len(result.victims)
    null = counted(result.null_size, "model")
    title = f"{result.suite}: {result.about}; {counted(victims, 'victim')}"
    table = Table([Column("after"), *(Column(row.name, right=True) for row in rows)], title)
    table.add("cost", *(Text(f"{sum(row.cost) / len(row.cost):+.3f}" if row.cost else "-") for row in rows))
    for label in result.rows:
        table.add(label, *(Text(_left(row.after[label])) for row in rows))
    yield table
    yield Text(
        f"Copies with p <= {result.alpha:g}, of all victims, and the largest log10 p among them; ! a copy that lost "
        "over 5 points of accuracy. cost: accuracy that marking took, mean over victims. A mark that draws nothing is "
        f"ranked among {null} made without it: p can't be below {1 / (result.null_size + 1):.2g}.",
        style="dim",
    )
    yield _accused(result, rows)
    yield Text(
        "Strangers with p <= .01 of all verdicts over draws of other labels or bits, with a 95 % interval over draws; "
        "promised: the chance that the design gives. Of a mark that draws nothing: whom the paper's own rule accepts.",
        style="dim",
    )
    if any(row.forged for row in rows):
        yield _forged(rows)
        yield Text(
            "Forged for a stranger, by victim: grade of the verdict before a judge who gives his number of the draw, "
            f"and the least p. Only grade B with p <= {result.alpha:g} accuses.",
            style="dim",
        )


def _left(after: After) -> str:
    if not after.log10_p:
        return "refused" if after.refused else "-"
    marks = "!" if after.damaged else ""
    return f"{after.survived}/{after.count} ({max(after.log10_p):.0f}){marks}"


def _accused(result: Result, rows: list[MarkRow]) -> Table:
    table = Table(
        [Column("mark"), Column("promised", right=True), *(Column(each, right=True) for each in result.groups)]
    )
    for row in rows:
        told = row.accused or row.accepted
        cells: list[str | Text] = []
        for group in result.groups:
            of = told.get(group)
            cells.append(
                "-" if of is None else f"{of.hits / of.count:.4f} [{of.interval.low:.4f}, {of.interval.high:.4f}]"
            )
        table.add(row.name, "-" if row.level is None else f"{row.level:.4f}", *cells)
    return table


def _forged(rows: list[MarkRow]) -> Table:
    attacks = list(dict.fromkeys(attack for row in rows for attack in row.forged))
    made = [row for row in rows if row.forged]
    table = Table([Column("forged"), *(Column(row.name, right=True) for row in made)])
    for attack in attacks:
        cells: list[str | Text] = []
        for row in made:
            tries = row.forged[attack]
            grades = "".join(sorted({each.grade for each in tries}))
            cells.append(f"{grades} {min(each.p_value for each in tries):.1e}")
        table.add(attack, *cells)
    return table
