"""Which figures of two results differ by more than chance: `whorl bench diff`.

The rule. A figure is power, AUC or TPR, of all copies or of one family of removal, or the share of independent models
accused. Power is compared where both results hold verdicts.
Where both results have at least two victims in common, the two are paired: the difference is the mean over the common
victims of (B - A), its 95 % interval is that of `difference_over_victims`, and the figure moved if the interval leaves
out 0. Otherwise it moved if the two 95 % intervals do not meet; where a result has one victim and the other has not the
same one, or there is no interval (a TPR of one victim), it is only told to differ.

A figure that did not change is told to have moved in at most 5 % of cases, from two victims on:
`benchmarks/intervals.py` measures it. Of many figures some do so by chance, and `Comparison.by_chance` says how many.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from statistics import mean
from typing import Final, Literal

from whorl.bench.parts import by_scheme, families_of, of_family, of_victim, standing, with_families
from whorl.bench.result import Result
from whorl.bench.standings import Standing
from whorl.metrics import ClusterEstimate, Interval, difference_over_victims

__all__ = ["Comparison", "Difference", "compare"]

Figure = Literal["power", "auc", "tpr", "accused"]

ALIKE: Final = 1e-9  # differences of rounding
FALSE: Final = 0.05  # share of the figures that did not change and are told to have moved, at most


@dataclass(frozen=True)
class Difference:
    """One figure in both results. ``family`` is empty for all copies.

    ``rule`` says how it was judged: ``paired`` over ``victims`` common victims, where ``interval`` is that of B - A;
    ``apart`` by two intervals, or ``value`` where there are none. The last two have no interval of the difference.
    """

    scheme: str
    figure: Figure
    family: str
    first: float
    second: float
    rule: Literal["paired", "apart", "value"]
    victims: int
    interval: Interval | None
    moved: bool

    @property
    def change(self) -> float:
        """B - A."""
        return self.second - self.first


@dataclass(frozen=True)
class Comparison:
    """Every figure that both have, and what only one of them has, as a line each."""

    figures: tuple[Difference, ...]
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]

    @property
    def moved(self) -> tuple[Difference, ...]:
        """The figures that moved, largest change first."""
        return tuple(sorted((each for each in self.figures if each.moved), key=lambda each: -abs(each.change)))

    @property
    def by_chance(self) -> float:
        """How many figures would be told to have moved if none had, at most and on average."""
        return FALSE * sum(each.rule != "value" for each in self.figures)


def compare(first: Result, second: Result) -> Comparison:
    """Compare what two results have in common: schemes by column, victims by recipe.

    A column whose settings differ is compared, and named among what only one of them has.
    """
    ours, theirs = _read(first), _read(second)
    figures: list[Difference] = []
    for column in ours.schemes:
        if column in theirs.schemes:
            figures += _compared(column, ours.schemes[column], theirs.schemes[column])
    return Comparison(tuple(figures), tuple(_only(ours, theirs)), tuple(_only(theirs, ours)))


@dataclass(frozen=True)
class _Part:
    """One scheme of a result, whole and by family."""

    of: Result

    @cached_property
    def families(self) -> dict[str, Result]:
        parts = {family: of_family(self.of, family) for family in families_of(self.of)}
        return {"": self.of} | {family: part for family, part in parts.items() if standing(part)}


@dataclass(frozen=True)
class _Read:
    of: Result
    schemes: Mapping[str, _Part]

    @property
    def contents(self) -> dict[str, list[str]]:
        """Kind of thing -> the names of those that it has."""
        return {
            "suite": [self.of.suite],
            "scheme": [f"{column} as {part.of.extractions[0].expression}" for column, part in self.schemes.items()],
            "victim": self.of.victims,
            "row": self.of.rows,
            "group": self.of.groups,
        }


def _read(result: Result) -> _Read:
    return _Read(result, {column: _Part(part) for column, part in by_scheme(with_families(result)).items()})


def _only(one: _Read, other: _Read) -> Iterator[str]:
    there = other.contents
    for kind, names in one.contents.items():
        yield from (f"{kind} {name}" for name in names if name not in there[kind])


def _compared(column: str, first: _Part, second: _Part) -> Iterator[Difference]:
    for family in first.families:
        if family not in second.families:
            continue
        figures: dict[Figure, _Measure] = {"power": _power, "auc": _auc, "tpr": _tpr}
        figures |= {"accused": _accused} if not family else {}
        for figure, measure in figures.items():
            one, other = first.families[family], second.families[family]
            judged = _judged(one, other, measure)
            if judged:
                yield Difference(column, figure, family, *judged)


_Measure = Callable[[Standing], ClusterEstimate | None]


def _power(of: Standing) -> ClusterEstimate | None:
    return of.power.estimate if of.power else None


def _auc(of: Standing) -> ClusterEstimate:
    return of.auc


def _tpr(of: Standing) -> ClusterEstimate:
    return of.tpr


def _accused(of: Standing) -> ClusterEstimate:
    return of.accused.estimate


def _judged(
    first: Result, second: Result, measure: _Measure
) -> tuple[float, float, Literal["paired", "apart", "value"], int, Interval | None, bool] | None:
    pairs = _pairs(first, second, measure)
    if len(pairs) > 1:
        ours, theirs, trials = zip(*pairs, strict=True)
        change = difference_over_victims(ours, theirs, trials).interval
        moved = change.low > ALIKE or change.high < -ALIKE
        return mean(ours), mean(theirs), "paired", len(pairs), change, moved
    wholes = standing(first), standing(second)
    if wholes[0] is None or wholes[1] is None:
        return None
    ours, theirs = measure(wholes[0]), measure(wholes[1])
    if ours is None or theirs is None:
        return None
    same = first.victims == second.victims
    if min(ours.clusters, theirs.clusters) < 2 and (measure is _tpr or not same):
        return ours.value, theirs.value, "value", len(pairs), None, False
    apart = ours.interval.low > theirs.interval.high + ALIKE or theirs.interval.low > ours.interval.high + ALIKE
    return ours.value, theirs.value, "apart", len(pairs), None, apart


def _pairs(first: Result, second: Result, measure: _Measure) -> list[tuple[float, float, int]]:
    """The figure of each victim that both have, and the models that it rests on where they are fewer."""
    pairs: list[tuple[float, float, int]] = []
    for number, victim in enumerate(first.victims):
        if victim in second.victims:
            parts = of_victim(first, number), of_victim(second, second.victims.index(victim))
            of = standing(parts[0]), standing(parts[1])
            if of[0] and of[1] and (ours := measure(of[0])) and (theirs := measure(of[1])):
                trials = min(min(each.copies, each.accused.count) for each in (of[0], of[1]))
                pairs.append((ours.value, theirs.value, trials))
    return pairs
