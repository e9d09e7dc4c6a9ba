"""Tables on stdout: no cell is ever cut, and none is broken within a word.

On a terminal the columns that fit are shown; the least important ones are left out, which a line on stderr says. What
matters most is always shown, in lines as long as it takes. In a pipe every column is shown.
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from whorl.cli.console import out, say
from whorl.printable import printable

if TYPE_CHECKING:  # the metrics import numpy, which a help text need not wait for
    from whorl.metrics import ClusterEstimate

__all__ = ["Column", "Table", "Whole", "estimate", "room", "show"]

GAP = 2
LEAST = 24  # cells that prose needs beside the other columns, so that a line of it holds some words


@dataclass(frozen=True)
class Column:
    """A column. Of those with a ``rank`` above 0 the highest is left out first where not all fit.

    ``prose``, for the last column alone: its words may go on in further lines. Names and expressions may not, as they
    are copied.
    """

    name: str
    right: bool = False
    rank: int = 0
    prose: bool = False


@dataclass
class Table:
    """Rows of cells below the names of their columns; without ``header`` the first column names what is beside it."""

    columns: list[Column]
    title: str = ""
    header: bool = True
    rows: list[list[Text]] = field(default_factory=list)

    def add(self, *cells: str | Text) -> None:
        """One row. Text is shown as it is, on one line; a `Text` brings its style."""
        row = [cell if isinstance(cell, Text) else Text(printable(" ".join(cell.split()))) for cell in cells]
        if not self.header:
            row[0].style = "dim"
        self.rows.append(row)

    def width(self, place: int) -> int:
        """Cells that a column takes in full."""
        named = cell_len(self.columns[place].name) if self.header else 0
        return max([named, *(row[place].cell_len for row in self.rows)])

    def places(self, limit: int | None) -> list[int]:
        """Which columns are shown where a line holds ``limit`` cells: all of them, or the more important ones."""
        places = list(range(len(self.columns)))
        while limit is not None and self._taken(places) > limit:
            droppable = [place for place in places if self.columns[place].rank]
            if not droppable:
                break
            places.remove(max(droppable, key=lambda place: (self.columns[place].rank, place)))
        return places

    def lines(self, places: list[int], limit: int | None) -> Iterator[Text]:
        """The title, the names of these columns, and the rows; prose alone is held to ``limit`` cells."""
        columns, widths = [self.columns[place] for place in places], [self.width(place) for place in places]
        if self.title:
            yield Text(printable(" ".join(self.title.split())), style="italic")
        if self.header:
            yield _line([Text(column.name, style="bold") for column in columns], columns, widths)
        start = sum(widths[:-1]) + GAP * (len(widths) - 1)
        for row in self.rows:
            *cells, last = [row[place] for place in places]
            parts = [last]
            if columns[-1].prose and limit is not None and start + last.cell_len > limit:
                words = textwrap.wrap(
                    last.plain, max(limit - start, LEAST), break_long_words=False, break_on_hyphens=False
                )
                parts = [Text(part, style=last.style) for part in words]
            for part in parts:
                yield _line([*cells, part], columns, widths)
                cells = [Text() for _ in cells]

    def _taken(self, places: list[int]) -> int:
        widths = [min(self.width(at), LEAST) if self.columns[at].prose else self.width(at) for at in places]
        return sum(widths) + GAP * (len(widths) - 1)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from self.lines(self.places(None), None)


class Whole:
    """A renderable in lines as wide as it takes, whatever the width of the terminal."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        widest = console.measure(self.inner, options=options.update(max_width=1_000_000)).maximum
        yield from console.render(self.inner, options.update(width=max(widest, 1), no_wrap=True))


def room() -> int | None:
    """Cells of a line of the terminal that stdout is; None where it is none."""
    return out.width if sys.stdout.isatty() else None


def show(*parts: Table | Text, wide: bool = False, quiet: bool = False) -> None:
    """Print tables and the text between them, and say which columns there is no room for; ``wide`` prints all."""
    limit = room()
    left_out: list[str] = []
    for part in parts:
        if isinstance(part, Text):
            out.print(part, highlight=False)
            continue
        places = part.places(None if wide else limit)
        left_out += [column.name for place, column in enumerate(part.columns) if place not in places]
        for line in part.lines(places, limit):
            out.print(line, highlight=False)
    if left_out and not quiet:
        say(f"no room for {', '.join(dict.fromkeys(left_out))} in {limit} columns; to see all, add --wide")


def estimate(of: ClusterEstimate) -> str:
    """``0.97 [0.93, 0.99]``, a mean over victims and its interval; ``0.97 (0.93 to 0.99)``, the range of too few."""
    low, high = f"{of.around.low:.2f}", f"{of.around.high:.2f}"
    return f"{of.value:.2f}" + {"interval": f" [{low}, {high}]", "range": f" ({low} to {high})", "": ""}[of.told]


def _line(cells: list[Text], columns: list[Column], widths: list[int]) -> Text:
    line = Text(no_wrap=True, overflow="ignore")
    for cell, column, width in zip(cells, columns, widths, strict=True):
        spare = Text(" " * (width - cell.cell_len))
        line.append_text(spare + cell if column.right else cell + spare)
        line.append(" " * GAP)
    line.rstrip()
    return line
