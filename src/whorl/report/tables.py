"""The paper's table as rows of written numbers, ready to be laid out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from whorl.bench.estimates import Share
from whorl.bench.result import Cell
from whorl.bench.summary import Column, Range
from whorl.metrics import ClusterEstimate
from whorl.report.study import Study
from whorl.report.words import around, percent, rate, seconds

__all__ = ["Line", "Section", "TableEntry", "paper_table"]


@dataclass(frozen=True)
class TableEntry:
    """One cell: our number, what belongs to it in small, the paper's own number, and a state that a sign shows.

    ``state`` is ``missed`` (a copy that was not called derived), ``accused`` (an independent model that was), or empty.
    """

    value: str
    detail: str = ""
    paper: str = ""
    state: str = ""


@dataclass(frozen=True)
class Line:
    """One row. ``damaged`` and ``copies`` count models that lost over 5 points of accuracy among all of the row."""

    label: str
    entries: Sequence[TableEntry]
    copies: int = 0
    damaged: int = 0


@dataclass(frozen=True)
class Section:
    """Rows under one heading; ``kind`` is copy, beyond, stranger or figure."""

    kind: str
    heading: str
    lines: Sequence[Line]


def paper_table(study: Study) -> list[Section]:
    """Positives, positives beyond the paper, ranges over independents, and the figures of each scheme."""
    sections = [
        Section("copy", "Copies of the victim", [_row(study, label) for label in study.rows(beyond=False)]),
        Section(
            "beyond",
            "Copies beyond what the paper claims to survive †",
            [_row(study, label) for label in study.rows(beyond=True)],
        ),
        Section("stranger", "Independent models: range", [_group(study, label) for label in study.result.groups]),
        Section("figure", "Figures of each scheme", _figures(study)),
    ]
    return [section for section in sections if section.lines]


def _row(study: Study, label: str) -> Line:
    def entry(column: Column) -> TableEntry:
        cells = study.of_group(column, label)
        missed = any(cell.decision != "derived" and not cell.damaged for cell in cells)
        of = column.rows[label]
        if column.lined_up:
            return TableEntry(f"{of.derived}/{of.count}", state="missed" if missed else "")
        spread = f"{rate(of.low)}–{rate(of.high)}" if rate(of.low) != rate(of.high) else ""
        return TableEntry(rate(of.mean), spread, _paper(study, label, column), "missed" if missed else "")

    return _line(study, label, entry, lambda column: column.rows[label])


def _group(study: Study, label: str) -> Line:
    def entry(column: Column) -> TableEntry:
        of = column.groups[label]
        state = "accused" if _accused(study.of_group(column, label)) else ""
        if column.lined_up:
            return TableEntry(f"{of.derived}/{of.count}", state=state)
        return TableEntry(f"[{rate(of.low)}, {rate(of.high)}]", "", _paper(study, label, column), state)

    return _line(study, label, entry, lambda column: column.groups[label])


def _line(study: Study, label: str, entry: Callable[[Column], TableEntry], of: Callable[[Column], Range]) -> Line:
    columns = study.summary.columns
    first = of(columns[0])
    return Line(label, [entry(column) for column in columns], first.count, first.damaged)


def _figures(study: Study) -> list[Line]:
    def line(label: str, entry: Callable[[Column], TableEntry]) -> Line:
        entries = [entry(column) for column in study.summary.columns]
        papers = [_paper(study, label.lower(), column) for column in study.summary.columns]
        return Line(label, [TableEntry(e.value, e.detail, paper) for e, paper in zip(entries, papers, strict=True)])

    lines = [
        line("Queries in the fingerprint", lambda column: TableEntry(f"{study.queries(column):,}")),
        line("Extraction seconds", lambda column: TableEntry(seconds(column.seconds))),
        line("ARUC", lambda column: _estimate(column.aruc) if column.aruc else TableEntry("–")),
        line("AUC", lambda column: _estimate(column.auc)),
        line("Flagged copies", lambda column: _share(column.flagged)),
        line("Accused independents", lambda column: _share(column.accused)),
        line("Median queries to a verdict", lambda column: TableEntry(_optional(column.needed, "{:g}"))),
    ]
    of_group = [
        line(f"Accused: {group}", lambda column, group=group: _share(column.accused_by_group[group]))
        for group in study.result.groups
    ]
    undecided = line("Independents undecided", lambda column: TableEntry(f"{column.undecided}/{column.accused.count}"))
    lines[-1:-1] = [*of_group, undecided]
    if any(column.own_auc for column in study.summary.columns):
        own = line("AUC, own architecture", lambda c: _estimate(c.own_auc) if c.own_auc else TableEntry("–"))
        lines.insert(4, own)
    if study.rows(beyond=True):
        lines.insert(4, line("AUC, copies beyond †", lambda column: TableEntry(_optional(column.beyond_auc, "rate"))))
    if any(column.converged is not None for column in study.summary.columns):
        lines.append(line("Converged queries", lambda column: TableEntry(_optional(column.converged, "percent"))))
    return lines


def _estimate(of: ClusterEstimate) -> TableEntry:
    return TableEntry(rate(of.value), around(of) if of.clusters > 1 else "no interval")


def _share(of: Share) -> TableEntry:
    return TableEntry(f"{of.hits}/{of.count}", f"{percent(of.interval.low)}–{percent(of.interval.high)}")


def _optional(value: float | None, form: str) -> str:
    if value is None:
        return "–"
    return {"rate": rate, "percent": percent}.get(form, form.format)(value)


def _paper(study: Study, label: str, column: Column) -> str:
    return study.result.paper.get(label, {}).get(column.name, "")


def _accused(cells: Sequence[Cell]) -> bool:
    return any(cell.decision == "derived" for cell in cells)
