"""Figures of a benchmark: match by suspect, robustness and uniqueness, ARUC against k."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from markupsafe import Markup

from whorl.bench.result import Cell, Result
from whorl.bench.summary import Column, KPoint
from whorl.errors import UsageError
from whorl.metrics import Scores, robustness_uniqueness_curve
from whorl.printable import counted
from whorl.report.dots import GAP, Kind, Layout, Mark, Row, dot_plot, legend_line, merged
from whorl.report.study import Study
from whorl.report.svg import Caption, Scale, drawing, element, steps, text
from whorl.report.words import plain, rate

__all__ = ["aruc_by_k", "curve_figure", "figure_bench", "match_figure"]

ALONE = """
text{font:13px system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',Arial,sans-serif;fill:#2b2d31}
.title{font-size:17px;font-weight:600;fill:#17191c}.tick,.sub{fill:#5c6068}
.number{font-variant-numeric:tabular-nums;fill:#2b2d31}.ground{fill:#fcfbf8;stroke:#dedad0}
.grid{stroke:#e4e0d6;fill:none}.band{fill:#6d7178;fill-opacity:.2}
.copy{fill:#0f5f82;stroke:#0f5f82}.beyond{fill:#6a4c93;stroke:#6a4c93}.hollow{fill:#fcfbf8}
.stranger{fill:none;stroke:#a5430f;stroke-width:1.6}
.stranger.bar{fill:#a5430f}.bar{fill-opacity:.16;stroke:none!important}
.null{fill:none;stroke:#5c6068}
"""


def match_figure(study: Study, column: Column, *, key: str) -> Markup:
    """Match of every suspect under one scheme, with its null drawn."""
    null = study.null(column)
    return dot_plot(
        _rows(study, column),
        Caption(f"Match of each suspect under {plain(column.name)}", _described(study, column, null), key),
        band=(min(null), max(null)) if null else None,
    )


def figure_bench(result: Result, column: str = "") -> str:
    """A picture of one column that stands alone, for a README: SVG on a ground of its own, 800 pixels wide.

    Parameters:
        column: whose matches to draw; by default the chosen scheme, else the first.

    Raises:
        UsageError: no such column, or it is a lineup.
    """
    study = Study.of(result)
    chosen = study.column(column)
    if chosen.lined_up:
        raise UsageError(
            f"the column {chosen.name!r} is a lineup, which has leads and no matches to draw; give a scheme's"
        )
    null = study.null(chosen)
    rows = _rows(study, chosen)
    layout = Layout(width=752, labels=180, notes=48, row=18, top=92, mark=4, foot=34, margin=24)
    height = layout.height(rows)
    legend = [("copy", "copy"), ("stranger", "independent model"), ("band", "null (calibration)")]
    if study.rows(beyond=True):
        legend.insert(1, ("beyond", "beyond the paper"))
    if any(cell.damaged for cell in study.cells(chosen)):
        legend.append(("copy hollow", "lost accuracy"))
    above = [
        element("rect", x=-23.5, y=0.5, width=799, height=height - 1, rx=6, class_="ground"),
        text(0, 32, f"Who answers like the victim? {plain(chosen.name, 60)} on {plain(result.suite, 60)}", "title"),
        text(0, 54, _subtitle(study, chosen), "sub"),
        *legend_line(legend, left=6, y=76),
    ]
    return str(
        dot_plot(
            rows,
            Caption(
                f"Match of each suspect under {plain(chosen.name)}, suite {plain(result.suite)}",
                _described(study, chosen, null),
                "whorl-bench",
            ),
            band=(min(null), max(null)) if null else None,
            layout=layout,
            style=ALONE,
            above=above,
        )
    )


def curve_figure(study: Study, column: Column, *, key: str) -> Markup:
    """Robustness and uniqueness against the threshold, mean over victims; the shaded area is the ARUC."""
    thresholds, robustness, uniqueness, smaller = _mean_curves(study, column)
    x, y = Scale(0, 1, 34, 290), Scale(0, 1, 164, 12)
    area = f"{steps(x, y, thresholds, smaller)}V{y(0):.2f}H{x(0):.2f}Z"
    parts = [*_frame(x, y, (0, 0.25, 0.5, 0.75, 1))]
    parts += [
        element("path", d=area, class_="area"),
        element("path", d=steps(x, y, thresholds, uniqueness), class_="line uniqueness"),
        element("path", d=steps(x, y, thresholds, robustness), class_="line robustness"),
    ]
    described = (
        f"Both against the threshold, mean over {counted(len(study.result.victims), 'victim')}. "
        f"The area under the smaller of the two, the ARUC, is {_aruc(column)}."
    )
    return drawing((300, 186), Caption(f"Robustness and uniqueness of {plain(column.name)}", described, key), *parts)


def aruc_by_k(points: Sequence[KPoint], best: float, *, key: str) -> Markup:
    """ARUC against k: models under test with their interval, calibration models, and the k that the latter chose."""
    points = sorted(points, key=lambda point: point.k)
    ks = [point.k for point in points]
    x = Scale(ks[0], max(ks[-1], ks[0] + 1), 36, 425, logarithmic=ks[0] > 0)
    interval = points[0].aruc.clusters > 1
    lows = [point.aruc.interval.low if interval else point.aruc.value for point in points]
    lowest = min([*lows, *(point.calibration_aruc for point in points)])
    y = Scale(max(0.0, np.floor(lowest * 10) / 10 - 0.1), 1, 250, 30)
    parts = [*_frame(x, y, [tenth / 10 for tenth in range(round(10 * y.low), 11)], ks)]
    parts.append(element("path", d=f"M{x(best):.2f} {y(1):.2f}V{y(y.low):.2f}", class_="choice"))
    parts.append(text(x(best), 20, f"chosen: k = {best:g}", "label", "middle"))
    if interval:
        parts += [_whisker(x(p.k), y(p.aruc.interval.low), y(p.aruc.interval.high)) for p in points]
    tested = [(x(point.k), y(point.aruc.value)) for point in points]
    calibrated = [(x(point.k), y(point.calibration_aruc)) for point in points]
    parts += [_polyline(calibrated, "line calibration"), _polyline(tested, "line tested")]
    for point, at, beside in zip(points, tested, calibrated, strict=True):
        square = element("rect", x=beside[0] - 3.5, y=beside[1] - 3.5, width=7, height=7, class_="calibration dot")
        named = element("title", f"k = {point.k:g}, calibration models: {rate(point.calibration_aruc)}")
        parts.append(element("g", named, square))
        named = element("title", f"k = {point.k:g}, models under test: {rate(point.aruc.value)}")
        parts.append(element("g", named, element("circle", cx=at[0], cy=at[1], r=4, class_="tested dot")))
    parts.append(text(230, 292, "k", "label", "middle"))
    described = "; ".join(
        f"k = {p.k:g}: {rate(p.aruc.value)} under test, {rate(p.calibration_aruc)} in calibration" for p in points
    )
    return drawing((440, 300), Caption("ARUC against k", described, key), *parts)


def _aruc(column: Column) -> str:
    return rate(column.aruc.value) if column.aruc else "–"


def _rows(study: Study, column: Column) -> list[Row]:
    null = study.null(column)
    rows = [Row("null", "null", merged([(value, "null", False) for value in null]))] if null else []
    kinds: dict[Kind, list[str]] = {"copy": study.rows(beyond=False), "beyond": study.rows(beyond=True)}
    for kind, labels in kinds.items():
        rows += [GAP] if labels else []
        for label in labels:
            of = column.rows[label]
            rows.append(Row(label, kind, _marks(study.of_group(column, label)), of.mean, rate(of.mean)))
    rows.append(GAP)
    for label in study.result.groups:
        of = column.groups[label]
        rows.append(Row(label, "stranger", _marks(study.of_group(column, label)), of.mean, rate(of.mean)))
    return rows


def _marks(cells: Sequence[Cell]) -> tuple[Mark, ...]:
    named = (f"{cell.suspect}, victim {cell.victim + 1}" for cell in cells)
    return merged([(cell.similarity, name, cell.damaged) for cell, name in zip(cells, named, strict=True)])


def _described(study: Study, column: Column, null: Sequence[float]) -> str:
    copies = [column.rows[row].mean for row in study.rows(beyond=False)]
    strangers = [of.high for of in column.groups.values()]
    text_of_null = f" The null reaches from {rate(min(null))} to {rate(max(null))}." if null else ""
    return (
        f"Mean match of copies from {rate(min(copies))} to {rate(max(copies))}; no independent model above "
        f"{rate(max(strangers))}.{text_of_null} Every number is in the table."
    )


def _subtitle(study: Study, column: Column) -> str:
    victims = len(study.result.victims)
    over = "one victim" if victims == 1 else f"mean over {counted(victims, 'victim')}"
    return (
        f"Share of {study.queries(column)} queries answered like the victim; number and bar: "
        f"{over}; ARUC {_aruc(column)}"
    )


def _mean_curves(study: Study, column: Column) -> tuple[list[float], list[float], list[float], list[float]]:
    """Thresholds, robustness, uniqueness and the smaller of both, each averaged over victims as the ARUC is."""
    cells = study.cells(column)
    curves = [
        robustness_uniqueness_curve(
            [c.similarity for c in cells if c.victim == victim and c.kind == "derived" and not c.damaged],
            [c.similarity for c in cells if c.victim == victim and c.kind == "independent"],
        )
        for victim in range(len(study.result.victims))
    ]
    thresholds = np.unique(np.concatenate([curve.thresholds for curve in curves]))

    def mean(values: Sequence[Scores]) -> list[float]:
        at = [value[np.searchsorted(curve.thresholds, thresholds)] for curve, value in zip(curves, values, strict=True)]
        return np.mean(at, axis=0).tolist()

    smaller = [np.minimum(curve.robustness, curve.uniqueness) for curve in curves]
    robustness, uniqueness = ([getattr(curve, name) for curve in curves] for name in ("robustness", "uniqueness"))
    return thresholds.tolist(), mean(robustness), mean(uniqueness), mean(smaller)


def _frame(
    x: Scale, y: Scale, levels: Sequence[float], columns: Sequence[float] = (0, 0.25, 0.5, 0.75, 1)
) -> Iterator[Markup]:
    for level in levels:
        yield element("path", d=f"M{x.start} {y(level):.2f}H{x.end}", class_="grid")
        yield text(x.start - 7, y(level) + 4, rate(level) if 0 < level < 1 else f"{level:g}", "tick", "end")
    free = -1e9
    for column in columns:
        if x(column) - free >= 26:  # labels that would touch are left out
            yield text(x(column), y.start + 17, f"{column:g}".replace("0.", ".", 1), "tick", "middle")
            free = x(column)


def _whisker(x: float, low: float, high: float) -> Markup:
    return element(
        "path", d=f"M{x:.2f} {low:.2f}V{high:.2f}M{x - 4:.2f} {low:.2f}h8M{x - 4:.2f} {high:.2f}h8", class_="whisker"
    )


def _polyline(points: Sequence[tuple[float, float]], class_: str) -> Markup:
    return element("polyline", points=" ".join(f"{x:.2f},{y:.2f}" for x, y in points), class_=class_)
