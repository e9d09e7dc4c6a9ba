"""Figures of one verdict: the suspect against the null, and bars of a share with its interval."""

from __future__ import annotations

from collections.abc import Mapping

from markupsafe import Markup

from whorl.detection import Plan, plan
from whorl.errors import UsageError
from whorl.report.dots import Layout, Row, dot_plot, merged
from whorl.report.svg import Caption, Scale, drawing, element
from whorl.report.words import plain, rate
from whorl.types import Calibration, Fingerprint, Verdict

__all__ = ["calibration_of", "interval_bar", "suspect_figure", "threshold_of"]

QUANTILES = {"min": "lowest", "median": "median", "q90": "90 %", "q99": "99 %", "max": "highest"}


def calibration_of(verdict: Verdict, fingerprint: Fingerprint | None) -> Calibration | None:
    """The calibration behind a verdict. Raises `UsageError` when the fingerprint cannot be the verdict's own."""
    if fingerprint is None:
        return None
    size = len(fingerprint.calibration.null) if fingerprint.calibration else 0
    if fingerprint.scheme != verdict.scheme or size != verdict.null.get("size", 0):
        raise UsageError(
            f"this fingerprint ({plain(fingerprint.scheme)}, null of {size}) is not the one of the verdict "
            f"({plain(verdict.scheme)}, null of {verdict.null.get('size', 0)}); give the file that was verified"
        )
    return fingerprint.calibration


def threshold_of(verdict: Verdict, calibration: Calibration | None) -> float | None:
    """The similarity that a suspect must be shown to exceed; None where the null cannot tell."""
    if calibration is None:
        return None
    made = [_plan(verdict, calibration, error) for error in (None, 0.0)]
    # The verdict does not say how alpha was divided; its error bound does.
    fitting = [p for p in made if p.sufficient and abs(p.error_bound - verdict.error_bound) < 1e-12]
    return fitting[0].threshold if fitting else None


def suspect_figure(verdict: Verdict, calibration: Calibration | None, threshold: float | None) -> Markup:
    """The suspect over the null and over known copies, by removal."""
    own = merged([(verdict.similarity, "this suspect", False)])
    rows = [Row("this suspect", "suspect", own, note=rate(verdict.similarity))]
    quantiles: Mapping[str, float] = verdict.null.get("quantiles", {})
    if calibration and len(calibration.null):
        null = calibration.null
        named = [(value, name, False) for value, name in zip(null.similarities, null.names, strict=True)]
        rows.append(Row("independent models", "null", merged(named)))
        rows += [
            Row(removal, "copy", merged([(value, f"copy by {removal}", False) for value in values]))
            for removal, values in calibration.derived.items()
        ]
    elif quantiles:
        named = [(value, f"{QUANTILES.get(name, name)} of the null", False) for name, value in quantiles.items()]
        rows.append(Row("null, quantiles", "null", merged(named)))
    bounds = (quantiles["min"], quantiles["max"]) if {"min", "max"} <= set(quantiles) else None
    against = f" The null reaches from {rate(bounds[0])} to {rate(bounds[1])}." if bounds else " There is no null."
    shown = f" To be called derived it must be shown to exceed {rate(threshold)}." if threshold is not None else ""
    return dot_plot(
        rows,
        Caption(
            "Similarity of the suspect, against the null",
            f"The suspect's similarity is {rate(verdict.similarity)}.{against}{shown}",
            "suspect",
        ),
        band=bounds,
        lines=() if threshold is None else (threshold,),
        layout=Layout(width=440, labels=140, notes=40, row=24, mark=4),
    )


def interval_bar(share: float, low: float, high: float, *, key: str, confidence: float = 0.95) -> Markup:
    """A share in [0, 1] as a bar, its interval as a line over it."""
    x = Scale(0, 1, 1, 139)
    parts = [
        element("rect", x=1, y=4, width=138, height=8, class_="trough"),
        element("rect", x=1, y=4, width=x(share) - 1, height=8, class_="copy bar"),
        element("path", d=f"M{x(low):.2f} 8H{x(high):.2f}M{x(low):.2f} 4v8M{x(high):.2f} 4v8", class_="whisker"),
        element("circle", cx=x(share), cy=8, r=3.2, class_="copy"),
    ]
    words = f"{rate(share)}, {100 * confidence:g} % interval {rate(low)} to {rate(high)}"
    return drawing((140, 16), Caption(words, "Bar from 0 to 1.", key), *parts)


def _plan(verdict: Verdict, calibration: Calibration, sampling_error: float | None) -> Plan:
    return plan(calibration.null.similarities, alpha=verdict.alpha, sampling_error=sampling_error)
