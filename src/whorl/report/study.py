"""A result taken apart for reading: which cells belong to a column, what its null is, which rows count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from whorl.bench.result import Cell, Extraction, Result
from whorl.bench.summary import Column, Summary, summarise
from whorl.errors import UsageError

__all__ = ["Study"]


@dataclass(frozen=True)
class Study:
    """A result with its summary, asked by column."""

    result: Result
    summary: Summary

    @classmethod
    def of(cls, result: Result) -> Study:
        """Summarise a result."""
        return cls(result, summarise(result))

    def column(self, name: str = "") -> Column:
        """The column of that name; by default the one that the suite is about. Raises `UsageError` for others.

        A suite is about the scheme whose k it chooses, else the one it is named after, else its first.
        """
        names = [column.name for column in self.summary.columns]
        likely = (self.result.chosen, self.result.suite.split("/")[0], names[0])
        name = name or next(one for one in likely if one in names)
        if name not in names:
            raise UsageError(f"the result has no column {name!r}; it has {', '.join(names)}")
        return self.summary.columns[names.index(name)]

    def cells(self, column: Column) -> list[Cell]:
        """Every cell behind a column."""
        key = self._key(column)
        return [cell for cell in self.result.cells if cell.scheme == key]

    def extractions(self, column: Column) -> list[Extraction]:
        """The fingerprints behind a column, by victim."""
        key = self._key(column)
        return [extraction for extraction in self.result.extractions if extraction.scheme == key]

    def null(self, column: Column) -> list[float]:
        """Similarities of the null to the fingerprints of all victims."""
        return [value for extraction in self.extractions(column) for value in extraction.null]

    def queries(self, column: Column) -> int:
        """Number of queries in a fingerprint of this column; a scheme may ask more than the suite's budget."""
        return max(cell.spent for cell in self.cells(column))

    def rows(self, *, beyond: bool) -> list[str]:
        """Labels of derived rows: those that the paper claims to survive, or those beyond."""
        kinds = {cell.group: cell.kind for cell in self.result.cells}
        wanted = "beyond" if beyond else "derived"
        return [row for row in self.result.rows if kinds.get(row) == wanted]

    def of_group(self, column: Column, group: str) -> Sequence[Cell]:
        """The cells of one row or group."""
        return [cell for cell in self.cells(column) if cell.group == group]

    def _key(self, column: Column) -> str:
        best = self.summary.best_k
        if best is None or column.name != self.result.chosen:
            return column.name
        return f"{column.name} k={next(text for text in self.result.sweep if float(text) == best)}"
