"""The page of one comparison of weights: the decision, the tests, the map of layers and what happened."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from markupsafe import Markup

from whorl.report.pages import render
from whorl.report.svg import Caption, Scale, drawing, element, text
from whorl.types import Grade

__all__ = ["comparison_page", "layer_map"]

SAYINGS: Final = {
    "related": "One of the two nets descends from the other, or both descend from a common ancestor.",
    "part reused": "A part of one net goes back to the other; most of the layers that were read do not.",
    "inconclusive": "Nothing speaks against independent training. That is not evidence for it.",
}
UNTESTED: Final = "Nothing could be tested: no part of the two nets admits a test."
LABELS, WIDTH, ROW, TOP = 150.0, 380.0, 22.0, 30.0
STRONGEST: Final = 300.0  # powers of ten beyond which a bar grows no more


def comparison_page(told: Mapping[str, Any], *, names: tuple[str, str]) -> str:
    """One file of HTML from the document of a comparison (`whorl.weights.comparison.document`)."""
    figure = layer_map(told["layers"], told["alpha"]) if told["layers"] else Markup("")
    untested = told["decision"] == "inconclusive" and not told["tested"]
    saying = UNTESTED if untested else SAYINGS[told["decision"]]
    grade = Grade(told["grade"]) if told["grade"] else None
    return render("comparison.html.j2", told=told, names=names, saying=saying, figure=figure, grade=grade)


def layer_map(places: Sequence[Mapping[str, Any]], alpha: float) -> Markup:
    """A bar for each place, as long as its p-value has powers of ten; filled where independence is refuted there."""
    height = TOP + ROW * len(places) + 8
    scale = Scale(0, math.log1p(STRONGEST), LABELS, LABELS + WIDTH)
    ticks = [0, 2, 10, 50, 300]
    marks = [
        Markup("").join(
            (
                element("line", x1=at, x2=at, y1=TOP - 4, y2=height - 8, class_="grid"),
                text(at, TOP - 10, "1" if not power else f"1e-{power}", "tick", "middle"),
            )
        )
        for power, at in ((power, scale(math.log1p(power))) for power in ticks)
    ]
    rows = [_bar(place, TOP + ROW * number, scale) for number, place in enumerate(places)]
    refuted = sum(bool(place["related"]) for place in places)
    told = f"Independence is refuted in {refuted} of {len(places)} places, at alpha {alpha:g} over all of them."
    return drawing((LABELS + WIDTH + 20, height), Caption("Map of layers", told, "layers"), *marks, *rows)


def _bar(place: Mapping[str, Any], top: float, scale: Scale) -> Markup:
    end = scale(math.log1p(min(STRONGEST, max(0.0, -place["log10_p"]))))
    name = place["name"] or ("embedding" if place["layer"] < 0 else f"layer {place['layer']}")
    if place["paired"] != place["layer"]:
        name += f" → {place['paired']}"
    kind = "suspect" if place["related"] else "null"
    return Markup("").join(
        (
            text(LABELS - 10, top + 12, name[-22:], "", "end"),
            element("rect", x=LABELS, y=top + 3, width=max(1.5, end - LABELS), height=ROW - 10, class_=kind),
        )
    )
