"""A lineup as a page shows it: where every candidate stands, how they got there, and whether the victim is an equal.

A verdict may come from a file of anybody's, so what it says of its lineup is read by a bounded schema first.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

import numpy as np
from markupsafe import Markup
from pydantic import BaseModel, ConfigDict, Field, model_validator

from whorl.detection.lineup import place_of
from whorl.fingerprints.parts import Name, Text
from whorl.printable import counted
from whorl.report.svg import Caption, Scale, drawing, element, text
from whorl.report.words import ordinal, plain

__all__ = ["Figure", "Lineup", "figures_of", "lineup_of", "race_figure", "totals_figure"]

MOST: Final = 10_000  # candidates
LINES: Final = 40  # twins whose way is drawn; the others are a band
ROUNDED: Final = 2e-6  # totals are kept to a millionth
WIDTH: Final = 440
UNITS: Final = {
    "mixture": "nats",
    "agreement": "answers alike",
    "residual": "cosine",
    "levelled": "cosine",
    "similarity": "similarity",
}
DEVIATIONS: Final = "standard deviations"

Place = Annotated[int, Field(ge=0, lt=MOST)]
Counted = Annotated[int, Field(ge=0, le=MOST)]
Bounded = Annotated[float, Field(ge=-1e9, le=1e9)]  # what is larger has no axis
Totals = Annotated[list[Bounded], Field(min_length=2, max_length=MOST)]


class _Part(BaseModel):
    # What a later version says more is left aside.
    model_config = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False, frozen=True)


class Point(_Part):
    """Totals ``[K]`` after ``asked`` questions."""

    asked: Annotated[int, Field(ge=1, le=1_000_000)]
    totals: Totals


class Strangers(_Part):
    """How many known strangers went through the lineup, and how many of them named the victim; None while sealed."""

    asked: Counted
    named_the_victim: Counted | None


class Fixed(_Part):
    """What was fixed beforehand; of the lead that ends the race None where everything is asked.

    ``by`` names the scheme where each candidate has a fingerprint of its own.
    """

    questions: Annotated[int, Field(ge=1, le=1_000_000)]
    labels: Literal["mixture", "agreement"]
    scores: Literal["residual", "levelled", "mixture", "agreement"]
    margin: Bounded | None
    seeds: Literal["secret", "small", "unknown"]
    hypothesis: Text
    reasons: Annotated[dict[Name, Text], Field(max_length=20)]
    by: Text = ""


class Lineup(_Part):
    """The ``lineup`` of a verdict (`whorl.detection.lineup_verdict`); places count from 0."""

    candidates: Annotated[int, Field(ge=2, le=MOST)]
    rank: Annotated[int, Field(ge=1, le=MOST)] | None
    place: Place | None
    leader: Place | None
    statistic: Literal["mixture", "agreement", "residual", "levelled", "similarity"]
    won: bool
    totals: Totals
    race: Annotated[list[Point], Field(max_length=1000)]
    figures: Annotated[dict[Name, Totals], Field(max_length=20)]
    outermost: Annotated[dict[Name, Literal["most", "least", "other"]], Field(max_length=20)]
    strangers: Strangers
    exact: bool
    recipe: Text
    terms: Fixed | None = None

    @model_validator(mode="after")
    def _of_one_size(self) -> Lineup:
        size = self.candidates
        lists = {"totals": self.totals, **{f"figure {plain(name, 40)}": each for name, each in self.figures.items()}}
        lists |= {f"the race after {point.asked}": point.totals for point in self.race}
        if unequal := [name for name, values in lists.items() if len(values) != size]:
            raise ValueError(f"{size} candidates stand in the lineup, and {unequal[0]} has another number")
        if any(place is not None and place >= size for place in (self.place, self.leader, self.rank and self.rank - 1)):
            raise ValueError(f"{size} candidates stand in the lineup, and one beyond them is named")
        if (self.place is None) != (self.rank is None):
            raise ValueError("a victim has a place and a rank, or neither")
        if self.place is not None and self.rank is not None:
            values, own = np.array(self.totals), self.totals[self.place]
            if not 1 + (values > own + ROUNDED).sum() <= self.rank <= (values >= own - ROUNDED).sum():
                raise ValueError("the victim's rank is not the one that the totals give it")
        named = self.strangers.named_the_victim
        if named is None and self.place is not None:
            raise ValueError("the victim has a place, and how many strangers name it is missing")
        if (named or 0) > self.strangers.asked:
            raise ValueError("more strangers name the victim than were asked")
        return self

    @property
    def unit(self) -> str:
        """What totals are counted in."""
        return DEVIATIONS if self.statistic == "mixture" and not self.won else UNITS[self.statistic]


def lineup_of(found: Mapping[str, Any]) -> Lineup | None:
    """The lineup of a verdict; None where there is none. Raises pydantic's ValidationError where it is unsound."""
    return Lineup.model_validate(dict(found)) if found else None


def totals_figure(lineup: Lineup) -> Markup:
    """Every candidate's total as a mark on one axis: twins grey, the victim and the leader named."""
    low, high = _around(min(lineup.totals), max(lineup.totals))
    x = Scale(low, high, 26, WIDTH - 26)
    marks, top = _stacked([x(value) for value in lineup.totals])
    named = {each for each in (lineup.place, lineup.leader) if each is not None}
    base = top + 46
    parts = _axis(x, base, lineup.unit)
    for each in named:  # a line of its own for each name, above all marks
        left, height = marks[each][0], 12.0 if each == lineup.place else 28.0
        foot = base - 14 - marks[each][1]
        parts.append(element("path", d=f"M{left:.2f} {height + 4}V{foot:.2f}", class_="grid"))
        anchor = "middle" if 60 < left < WIDTH - 60 else "start" if left <= 60 else "end"
        parts.append(text(left, height, _name(lineup, each), "label", anchor))
    for each, (left, level) in sorted(marks.items(), key=lambda item: item[0] in named):
        words = f"{_name(lineup, each)}: {_short(lineup.totals[each])}"
        shape = element(
            "circle", cx=left, cy=base - 8 - level, r=6.0 if each in named else 4.0, class_=_kind(lineup, each)
        )
        parts.append(element("g", element("title", words), shape))
    return drawing((WIDTH, base + 36), Caption("The lineup", _told(lineup), "lineup"), *parts)


def race_figure(lineup: Lineup) -> Markup | None:
    """Totals over the questions, less their mean over the candidates; None where nothing was raced."""
    if len(lineup.race) < 2:
        return None
    asked = [point.asked for point in lineup.race]
    totals = np.array([point.totals for point in lineup.race])
    ways = (totals - totals.mean(1, keepdims=True)).T
    low, high = _around(float(ways.min()), float(ways.max()))
    x = Scale(asked[0], max(asked[-1], asked[0] + 1), 44, WIDTH - 96)
    y = Scale(low, high, 196, 12)
    parts: list[Markup] = []
    for level in _ticks(low, high):
        parts.append(element("path", d=f"M{x.start} {y(level):.2f}H{x.end}", class_="grid"))
        parts.append(text(x.start - 7, y(level) + 4, _short(level), "tick", "end"))
    for tick in sorted({asked[0], asked[len(asked) // 2], asked[-1]}):
        parts.append(text(x(tick), 213, f"{tick:,}", "tick", "middle"))
    parts.append(text((x.start + x.end) / 2, 230, "questions asked", "label", "middle"))
    band = [*zip(asked, ways.min(0), strict=True), *reversed([*zip(asked, ways.max(0), strict=True)])]
    parts.append(element("polygon", points=_points(x, y, band), class_="band"))
    named = {each for each in (lineup.place, lineup.leader) if each is not None}
    drawn = set(np.argsort(-ways[:, -1])[:LINES].tolist()) | named
    for each in sorted(drawn, key=lambda each: (each in named, each == lineup.place)):
        line = element(
            "polyline", points=_points(x, y, list(zip(asked, ways[each], strict=True))), class_=_line(lineup, each)
        )
        parts.append(element("g", element("title", _name(lineup, each)), line))
    for each, height in _apart({each: y(float(ways[each, -1])) for each in named}):
        parts.append(text(x.end + 8, height + 4, _name(lineup, each), "label"))
    second, first = np.sort(ways[:, -1])[-2:]
    if lineup.terms and lineup.terms.margin is not None and second + lineup.terms.margin <= high:
        finish = y(float(second + lineup.terms.margin))
        parts.append(element("path", d=f"M{x.end - 24:.2f} {finish:.2f}H{x.end:.2f}", class_="threshold"))
    ended = f"After {counted(asked[-1], 'question')} the first leads by {_short(float(first - second))}"
    told = f"{ended}. {_margin_told(lineup)}"
    return drawing((WIDTH, 238), Caption("The race", told, "race"), *parts)


@dataclass(frozen=True)
class Figure:
    """One figure of all candidates: the victim's value and place in words, and the twins' spread; drawn."""

    name: str
    victim: float | None
    place: str
    least: float
    median: float
    most: float
    outermost: bool
    strip: Markup


def figures_of(lineup: Lineup) -> list[Figure]:
    """Each figure that shows whether the victim is one among equals."""
    found: list[Figure] = []
    for number, (name, values) in enumerate(lineup.figures.items()):
        place = lineup.place
        twins = np.array(values) if place is None else np.delete(np.array(values), place)
        found.append(
            Figure(
                name=plain(name, 40),
                victim=None if place is None else values[place],
                place="" if place is None else _placed(values, place),
                least=float(twins.min()),
                median=float(np.median(twins)),
                most=float(twins.max()),
                outermost=name in lineup.outermost,
                strip=_strip(values, place, f"{plain(name, 40)} of all candidates", f"figure-{number}"),
            )
        )
    return found


def _placed(values: Sequence[float], place: int) -> str:
    first, last = place_of(values, place)
    return ordinal(first) if first == last else f"{ordinal(first)} to {ordinal(last)}"


def _strip(values: Sequence[float], place: int | None, words: str, key: str) -> Markup:
    low, high = _around(min(values), max(values))
    x = Scale(low, high, 6, 134)
    ticks = "".join(f"M{left / 2:.1f} 3v10" for left in sorted({round(2 * x(value)) for value in values}))
    parts = [element("rect", x=1, y=4, width=138, height=8, class_="trough"), element("path", d=ticks, class_="null")]
    if place is not None:
        parts.append(element("circle", cx=x(values[place]), cy=8, r=4, class_="copy"))
    return drawing((140, 16), Caption(words, "From the least to the most.", key), *parts)


def _stacked(lefts: Sequence[float]) -> tuple[dict[int, tuple[float, float]], float]:
    """Where each mark stands, those that would touch on top of each other; of many on one place a few are drawn."""
    taken: dict[int, int] = {}
    marks: dict[int, tuple[float, float]] = {}
    for each, left in enumerate(lefts):
        column = round(left / 8)
        level = taken.get(column, 0)
        taken[column] = level + 1
        marks[each] = (left, min(level, 12) * 8.0)
    return marks, min(max(taken.values()), 13) * 8.0


def _axis(x: Scale, base: float, unit: str) -> list[Markup]:
    parts = [element("path", d=f"M{x.start} {base:.2f}H{x.end}", class_="grid")]
    for tick in _ticks(x.low, x.high):
        parts.append(element("path", d=f"M{x(tick):.2f} {base:.2f}v4", class_="grid"))
        parts.append(text(x(tick), base + 16, _short(tick), "tick", "middle"))
    parts.append(text(WIDTH / 2, base + 32, f"likeness to the suspect, {unit}", "label", "middle"))
    return parts


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers between two others, four to eight of them."""
    rough = (high - low) / 5
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough)
    return [step * number for number in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _apart(heights: Mapping[int, float]) -> list[tuple[int, float]]:
    """Heights of labels, none on another."""
    placed: list[tuple[int, float]] = []
    for each, height in sorted(heights.items(), key=lambda item: item[1]):
        placed.append((each, max(height, placed[-1][1] + 14) if placed else height))
    return placed


def _points(x: Scale, y: Scale, points: Sequence[tuple[int, float]]) -> str:
    return " ".join(f"{x(at):.1f},{y(float(value)):.1f}" for at, value in points)


def _around(low: float, high: float) -> tuple[float, float]:
    """A range with room on both sides, and one of some width where all values are equal."""
    space = 0.06 * (high - low) if high - low > 1e-9 * max(1, abs(high)) else max(abs(high) * 0.1, 0.1)
    return low - space, high + space


def _kind(lineup: Lineup, each: int) -> str:
    return "copy" if each == lineup.place else "null leader" if each == lineup.leader else "null"


def _line(lineup: Lineup, each: int) -> str:
    return "line victim" if each == lineup.place else "line leader" if each == lineup.leader else "line twin"


def _name(lineup: Lineup, each: int) -> str:
    if each == lineup.place:
        return "your model"
    return f"{'candidate' if lineup.place is None else 'twin'} {each + 1}"


def _told(lineup: Lineup) -> str:
    leader = "Several lead alike" if lineup.leader is None else f"{_name(lineup, lineup.leader)} leads".capitalize()
    own = "" if lineup.rank is None else f" Your model is {ordinal(lineup.rank)} of {lineup.candidates}."
    return f"{leader} among {lineup.candidates} candidates, from {_short(min(lineup.totals))} to " + (
        f"{_short(max(lineup.totals))} {lineup.unit}.{own}"
    )


def _margin_told(lineup: Lineup) -> str:
    if lineup.terms is None or lineup.terms.margin is None:
        return "It went on to the end of the budget."
    reached = "reached" if lineup.won else "not reached"
    return f"The lead that ends the race, {_short(lineup.terms.margin)}, was {reached}."


def _short(value: float) -> str:
    written = f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return "0" if written in ("-0", "0") else written
