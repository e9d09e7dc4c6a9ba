"""The dot plot of every page: one row a suspect or a group, one mark a model, the null as a band behind all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import numpy as np
from markupsafe import Markup

from whorl.report.svg import Caption, Scale, drawing, element, text
from whorl.report.words import plain, rate

__all__ = ["GAP", "Kind", "Layout", "Mark", "Row", "dot_plot", "legend_line", "merged"]

Kind: TypeAlias = Literal["copy", "beyond", "stranger", "null", "suspect"]


@dataclass(frozen=True)
class Mark:
    """One model, or several with the same value. ``hollow``: it lost accuracy, so its row proves less."""

    value: float
    label: str
    hollow: bool = False


@dataclass(frozen=True)
class Row:
    """A line of marks; without marks it is a gap. ``bar`` reaches from the axis to a mean."""

    label: str
    kind: Kind
    marks: Sequence[Mark] = ()
    bar: float | None = None
    note: str = ""


GAP: Final = Row("", "null")


@dataclass(frozen=True)
class Layout:
    """Sizes in pixels."""

    width: float = 364
    labels: float = 152
    notes: float = 34
    row: float = 16
    top: float = 8
    mark: float = 3.2
    foot: float = 22
    margin: float = 0

    def middles(self, rows: Sequence[Row]) -> list[float]:
        """Where each row lies; a gap takes half the height of a row."""
        heights = np.array([self.row if row.marks else self.row / 2 for row in rows])
        return (self.top + heights.cumsum() - heights / 2).tolist()

    def bottom(self, rows: Sequence[Row]) -> float:
        """Where the rows end and the axis begins."""
        return self.top + self.row * sum(1 if row.marks else 0.5 for row in rows)

    def height(self, rows: Sequence[Row]) -> float:
        """Of the whole picture."""
        return self.bottom(rows) + self.foot


def merged(values: Sequence[tuple[float, str, bool]]) -> tuple[Mark, ...]:
    """One mark for each (value, hollow), that names the first few who share it."""
    groups: dict[tuple[float, bool], list[str]] = {}
    for value, label, hollow in values:
        groups.setdefault((value, hollow), []).append(label)
    return tuple(Mark(value, _some(labels), hollow) for (value, hollow), labels in sorted(groups.items()))


def dot_plot(
    rows: Sequence[Row],
    caption: Caption,
    *,
    band: tuple[float, float] | None = None,
    lines: Sequence[float] = (),
    layout: Layout = Layout(),
    style: str = "",
    above: Sequence[Markup] = (),
) -> Markup:
    """Similarity on the horizontal axis.

    Parameters:
        band: lowest and highest similarity of the null, shaded behind the rows.
        lines: thresholds, drawn through the rows.
        style: CSS when the picture stands alone.
        above: what else to draw within ``layout.top`` (a title, a legend).
    """
    values = [mark.value for row in rows for mark in row.marks] + [*(band or ()), *lines]
    x = Scale(min([0.0, *values]), max([1.0, *values]), layout.labels, layout.width - layout.notes)
    bottom = layout.bottom(rows)
    parts = [*above, *_grid(x, layout.top, bottom)]
    if band:
        left, right = x(band[0]), x(band[1])
        parts.append(_rectangle("band", (left - 1, layout.top), (right - left + 2, bottom - layout.top)))
    parts += [element("path", d=f"M{x(line):.2f} {layout.top}V{bottom}", class_="threshold") for line in lines]
    parts += [_row(row, x, y, layout) for row, y in zip(rows, layout.middles(rows), strict=True) if row.marks]
    size = (layout.width, layout.height(rows))
    return drawing(size, caption, *parts, style=style, margin=layout.margin)


def legend_line(entries: Sequence[tuple[str, str]], *, left: float, y: float) -> list[Markup]:
    """A legend on one line: (kind, what it means), spaced for letters of 13 px."""
    parts: list[Markup] = []
    for kind, meaning in entries:
        swatch = _rectangle("band", (left - 6, y - 6), (12, 12)) if kind == "band" else _shape(kind, left, y, 4, False)
        parts += [swatch, text(left + 12, y + 4.5, meaning, "label")]
        left += 38 + 7.4 * len(meaning)
    return parts


def _row(row: Row, x: Scale, y: float, layout: Layout) -> Markup:
    label = text(layout.labels - 10, y + 4, plain(row.label, 26), "label", "end")
    parts = [label]
    if row.bar is not None:
        left, right = sorted((x(max(0.0, x.low)), x(row.bar)))
        thickness = layout.row * 0.5
        parts.append(_rectangle(f"{row.kind} bar", (left, y - thickness / 2), (right - left, thickness)))
    for mark in row.marks:
        shape = _shape(row.kind, x(mark.value), y, layout.mark, mark.hollow)
        parts.append(element("g", element("title", f"{mark.label}: {rate(mark.value)}"), shape))
    if row.note:
        parts.append(text(layout.width - 1, y + 4, row.note, "number", "end"))
    return element("g", *parts)


def _grid(x: Scale, top: float, bottom: float) -> list[Markup]:
    ticks = [0, 0.25, 0.5, 0.75, 1] if (x.low, x.high) == (0, 1) else np.linspace(x.low, x.high, 5).tolist()
    parts: list[Markup] = []
    for tick in ticks:
        parts.append(element("path", d=f"M{x(tick):.2f} {top}V{bottom}", class_="grid"))
        written = f"{tick:g}".replace("0.", ".", 1) if (x.low, x.high) == (0, 1) else f"{tick:.3g}"
        parts.append(text(x(tick), bottom + 15, written, "tick", "middle"))
    return parts


def _shape(kind: str, x: float, y: float, size: float, hollow: bool) -> Markup:
    class_ = f"{kind} hollow" if hollow else kind
    match kind:
        case "beyond":
            s = size * 1.35
            return element("path", d=f"M{x - s:.2f} {y:.2f}l{s} {-s}l{s} {s}l{-s} {s}z", class_=class_)
        case "stranger":
            s = size * 0.95
            data = f"M{x - s:.2f} {y - s:.2f}l{2 * s} {2 * s}M{x - s:.2f} {y + s:.2f}l{2 * s} {-2 * s}"
            return element("path", d=data, class_=class_)
        case "null":
            return element("path", d=f"M{x:.2f} {y - size * 1.6:.2f}v{size * 3.2:.2f}", class_=class_)
        case "suspect":
            return element("circle", cx=x, cy=y, r=size * 1.9, class_=class_)
        case _:
            return element("circle", cx=x, cy=y, r=size, class_=class_)


def _rectangle(class_: str, corner: tuple[float, float], size: tuple[float, float]) -> Markup:
    return element("rect", x=corner[0], y=corner[1], width=size[0], height=size[1], class_=class_)


def _some(labels: Sequence[str], most: int = 4) -> str:
    named = ", ".join(plain(label, 60) for label in labels[:most])
    return named if len(labels) <= most else f"{named} and {len(labels) - most} more"
