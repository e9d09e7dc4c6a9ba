"""The lineup: whom among victim and twins does a suspect resemble most? Pure statistics on scores of candidates.

Twins are other runs of the victim's own recipe. If the suspect was made without the victim, and knows nothing of the
randomness of its run, then victim and twins are exchangeable given the suspect and its answers: the victim is among
the r best of N + 1 with probability r/(N + 1), whatever the suspect is and for any statistic that treats all
candidates alike. Nothing here learns which row is the victim until `rank` is asked for one.

Rows are candidates, K of them; columns are questions, in the order in which they were asked. A score is larger where
the candidate would rather have given the suspect's answer. No score is ever turned into a p-value but by its rank:
the scores of two questions are not independent.

Source: the exchangeability argument is that of conformal p-values (Vovk, Gammerman & Shafer, *Algorithmic Learning in a
Random World*, 2005, chapter 2), with models in the place of examples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment  # pyright: ignore[reportMissingTypeStubs,reportUnknownVariableType]

from whorl.errors import UsageError
from whorl.metrics import clopper_pearson

__all__ = [
    "Race",
    "Showing",
    "agreement_scores",
    "best_orders",
    "clumped",
    "expected_scores",
    "levelled",
    "mixture_scores",
    "outermost",
    "place_of",
    "rank",
    "residual_scores",
    "standardised",
    "told_apart",
]

Numbers = NDArray[np.float64]
Places = NDArray[np.int64]

FLOOR: Final = 0.5  # weight of the answer that a candidate did not expect
LEAST: Final = 1e-12
DESIGN: Final = ("parameters",)
"""Figures that are equal for all candidates unless somebody made one by another recipe."""
CLUMPED: Final = 0.01  # chance of calling strangers clumped who name each candidate equally often


def agreement_scores(candidates: ArrayLike, answers: ArrayLike) -> Numbers:
    """1 where a candidate gives the suspect's label, else 0.

    Shape:
        candidates: ``[K, q]`` labels. answers: ``[q]`` labels, or ``[K, q]`` as each candidate reads them. Returns
        ``[K, q]``.
    """
    return (np.asarray(candidates) == np.asarray(answers)).astype(np.float64)


def mixture_scores(given: ArrayLike) -> Numbers:
    """log(p / (2 mean p) + 1/2), from the candidates' probabilities p of the answer that the suspect gave.

    Rare answers count more than those that every candidate would give, and one unexpected answer costs at most log 2.

    Shape:
        given: ``[K, q]`` in [0, 1]. Returns ``[K, q]``, in nats.
    """
    chances = np.asarray(given, dtype=np.float64)
    return np.log(FLOOR * chances / np.maximum(chances.mean(0), LEAST) + 1 - FLOOR)


def expected_scores(probabilities: ArrayLike) -> tuple[Numbers, Numbers]:
    """Mean and variance of `mixture_scores`, were the answers drawn from the mean of the candidates.

    Shape:
        probabilities: ``[K, q, k]``. Returns two ``[K, q]``.
    """
    chances = np.asarray(probabilities, dtype=np.float64)
    mean = chances.mean(0)
    scores = np.log(FLOOR * chances / np.maximum(mean, LEAST) + 1 - FLOOR)
    expected = (mean * scores).sum(2)
    return expected, np.maximum((mean * scores**2).sum(2) - expected**2, 0)


def standardised(totals: Numbers, expected: Numbers, variance: Numbers) -> Numbers:
    """Totals ``[K]`` in standard deviations from what `expected_scores` of the questions asked, ``[K, q]``, add up to.

    Better than plain totals where everything was asked: a candidate that is often sure is not favoured. No p-value.
    """
    return (totals - expected.sum(1)) / np.sqrt(np.maximum(variance.sum(1), LEAST))


def residual_scores(candidates: ArrayLike, answers: ArrayLike) -> Numbers:
    """Cosine over all questions of what sets suspect and candidate apart from the candidates' mean.

    Of probabilities give logarithms, centred over the classes, where candidates share a part of their history
    `levelled`; of other answers the numbers themselves.

    Shape:
        candidates: ``[K, q, d]``. answers: ``[q, d]``, or ``[K, q, d]`` as each candidate reads them. Returns ``[K]``
        in [-1, 1].
    """
    known = np.asarray(candidates, dtype=np.float64)
    mean = known.mean(0)
    own = (known - mean).reshape(len(known), -1)
    other = (np.asarray(answers, dtype=np.float64) - mean).reshape(-1, own.shape[1])
    lengths = np.linalg.norm(own, axis=1) * np.linalg.norm(other, axis=1)
    return (own * other).sum(1) / np.maximum(lengths, LEAST)


def levelled(answers: ArrayLike, mean: ArrayLike) -> Numbers:
    """Answers less an offset for each class, and less the multiple of the candidates' mean that fits them best.

    A few steps of tuning, or pruning, make a model surer or less sure of everything and of some classes. That moves its
    answers further than two runs of a last stage differ, and by how sure it is each of them differs from the mean too;
    so such a copy would resemble the candidate that happens to be as sure, whosever copy it is. Where candidates share
    nothing they differ by more than that, and how sure a thief's net is tells of its source.

    Shape:
        answers: ``[..., q, d]``. mean: ``[q, d]``, over the candidates. Returns ``[..., q, d]``.
    """
    shape = np.asarray(mean, dtype=np.float64)
    shape = shape - shape.mean(0)
    left = np.asarray(answers, dtype=np.float64)
    left = left - left.mean(-2, keepdims=True)
    multiple = (left * shape).sum((-2, -1), keepdims=True) / max(float((shape**2).sum()), LEAST)
    return left - multiple * shape


def best_orders(candidates: ArrayLike, answers: ArrayLike) -> Places:
    """For each candidate the order of the suspect's classes in which the two agree most, by assignment.

    Each candidate is served by the same search and sees nothing of the others, so permuting candidates permutes orders.

    Shape:
        candidates: ``[K, q, k]`` probabilities, or rows of 0 and 1. answers: ``[q, k]`` likewise. Returns ``[K, k]``:
        at place c the suspect's class that stands for class c.
    """
    given = np.asarray(answers, dtype=np.float64)
    assign = cast(Callable[..., tuple[Places, Places]], linear_sum_assignment)
    tables = [np.asarray(each, dtype=np.float64).T @ given for each in np.asarray(candidates)]
    return np.stack([assign(table, maximize=True)[1] for table in tables])


def rank(totals: ArrayLike, place: int) -> int:
    """Rank of the candidate at ``place``, 1 for the best; whoever has the same total stands before it.

    Shape:
        totals: ``[K]``.
    """
    values = np.asarray(totals, dtype=np.float64)
    before = values < values[place] - 1e-9 * max(1.0, abs(float(values[place])))
    return int((~before).sum())  # what can't be compared, as NaN, counts against the claim too


class Race:
    """Take scores as they come; stop when any candidate leads by ``margin``, and see who leads.

    The rule treats all candidates alike, so stopping costs no error. (Stopping because the *victim* leads would.)

    Parameters:
        candidates: how many.
        margin: lead of the first over the second, above 0, in units of the scores, at which to stop; None asks
            everything.
    """

    def __init__(self, candidates: int, margin: float | None) -> None:
        if candidates < 2:
            raise UsageError(f"a lineup has two candidates or more; this one has {candidates}")
        self.margin = margin
        self.totals: Numbers = np.zeros(candidates)
        self.path: list[Numbers] = []
        """Totals ``[K]`` after each question."""

    def update(self, scores: ArrayLike) -> None:
        """Take the scores ``[K, m]`` of the next questions; those after the race was won are not used."""
        for column in np.asarray(scores, dtype=np.float64).T:
            if self.won:
                return
            self.totals = self.totals + column
            self.path.append(self.totals)

    @property
    def asked(self) -> int:
        """Questions that counted."""
        return len(self.path)

    @property
    def lead(self) -> float:
        """Of the first over the second."""
        second, first = np.partition(self.totals, -2)[-2:]
        return float(first - second)

    @property
    def won(self) -> bool:
        """Whether somebody leads by the margin."""
        return self.margin is not None and self.lead >= self.margin


@dataclass(frozen=True)
class Showing:
    """How the candidates stand after a suspect was asked; nothing here says which of them is the victim.

    ``statistic`` is what was summed, ``asked`` the number of questions that counted, of ``budget`` that might be asked
    and ``size`` that the lineup has; ``sent`` went to the suspect (a round may end after the race). ``won`` says that
    a candidate led by the margin, ``matched`` that each candidate read the suspect's classes in its own best order.

    Shape:
        totals: ``[K]``, by which candidates are ranked. path: totals ``[K]`` of the race after each question.
    """

    statistic: str
    totals: Numbers
    asked: int
    budget: int
    size: int
    won: bool
    path: Sequence[Numbers] = ()
    sent: int = 0
    matched: bool = False

    @property
    def leader(self) -> int | None:
        """The candidate that leads; None where several do."""
        best = np.flatnonzero(self.totals >= self.totals.max() - 1e-12)
        return int(best[0]) if len(best) == 1 else None


def outermost(figures: Mapping[str, ArrayLike], place: int) -> dict[str, str]:
    """By which figures the candidate at ``place`` stands outside of all others: name to "most" or "least".

    An equal is no outsider. Where victim and twins are equals, each figure is outermost with chance 2/K. Of those that
    chance does not change (`DESIGN`) one other candidate of another value is enough: name to "other".

    Parameters:
        figures: such as accuracy, mean agreement with the others, confidence, loss on the victim's own pictures, each
            ``[K]``.
    """
    found: dict[str, str] = {}
    for name, values in figures.items():
        known = np.asarray(values, dtype=np.float64)
        others = np.delete(known, place)
        if name in DESIGN:
            found |= {name: "other"} if (others != known[place]).any() else {}
        elif known[place] > others.max():
            found[name] = "most"
        elif known[place] < others.min():
            found[name] = "least"
    return found


def told_apart(outside: Mapping[str, str]) -> str:
    """What `outermost` found, in words that follow "has"."""
    return ", ".join(
        f"a number of {name} that not every twin has" if which == "other" else f"the {which} {name}"
        for name, which in outside.items()
    )


def place_of(values: ArrayLike, place: int) -> tuple[int, int]:
    """First and last place, from the least on, that the candidate at ``place`` shares with its equals.

    Shape:
        values: ``[K]``.
    """
    known = np.asarray(values, dtype=np.float64)
    return int((known < known[place]).sum()) + 1, int((known <= known[place]).sum())


def clumped(named: int, strangers: int, candidates: int) -> bool:
    """Whether clearly more than one in K of known strangers name one candidate.

    Strangers of one kind agree on whom they resemble. If it is the victim, a lineup accuses nearly all of that kind.
    As their votes are not independent this says so too often, which only loses accusations.
    """
    return clopper_pearson(named, strangers, 1 - 2 * CLUMPED).low > 1 / candidates
