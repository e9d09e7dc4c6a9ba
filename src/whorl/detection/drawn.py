"""A verdict by drawn labels or bits: the design of a mark gives the null, and no model has to.

Two valid tests share alpha: an e-value, which grows with every match and may stop at any answer
(`whorl.detection.design.DesignBets`), and the binomial tail, once everything was asked. p is twice the smaller one,
times the draws.
"""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Mapping
from typing import Any, Final

from numpy.typing import ArrayLike

from whorl.detection.design import Design, DesignBets
from whorl.detection.exact import log_binomial_tail
from whorl.errors import UsageError
from whorl.metrics import as_scores
from whorl.printable import counted
from whorl.types import Decision, Verdict

__all__ = ["DrawnTrial", "least_count", "log_floor"]

ROUNDED: Final = 1e-9  # what logarithms lose: a p-value of just alpha must not pass for a larger one
UNSEEN: Final = (
    "the mark is not seen, and that says little: a copy from which it was removed answers as a stranger does. A mark "
    "shows that a model is derived, never that it is not"
)


def log_floor(count: int, choices: int, tries: int = 1) -> float:
    """Natural logarithm of the p-value where all of ``count`` drawn labels or bits match."""
    return math.log(2 * tries) - count * math.log(choices)


def least_count(choices: int, alpha: float, tries: int = 1) -> int:
    """How many labels or bits a mark has at least, so that p can be as low as ``alpha``."""
    return next(count for count in itertools.count(1) if _reaches(log_floor(count, choices, tries), alpha))


class DrawnTrial:
    """One suspect against the labels or bits drawn for a mark: take matches, say when to stop, give a verdict.

    Parameters:
        design: what was drawn, and the proof of it.
        alpha: accepted chance of calling a suspect derived that knows nothing of the draw.
        budget: most queries to ask; all of them by default.
    """

    def __init__(self, design: Design, *, alpha: float, budget: int | None = None) -> None:
        self.design, self.alpha = design, alpha
        self.size = len(design.drawn)
        self.budget = self.size if budget is None else min(budget, self.size)
        if self.budget < 1:
            raise UsageError(f"a verification asks at least one query; the budget is {budget} of {self.size}")
        if not 0 < alpha < 1:
            raise UsageError(f"alpha is a chance between 0 and 1; this is {alpha:g}")
        self._bets = DesignBets(design)
        self.asked = self._matches = 0

    def update(self, values: ArrayLike) -> None:
        """Take the next matches ``[k]``, each 1 or 0, in any order that does not look at labels to come."""
        for value in as_scores(values, "matches", least=0):
            if value not in (0.0, 1.0):
                raise UsageError(f"a drawn label is matched or not; this similarity is {value:g}")
            if self.asked >= self.budget:
                raise UsageError(f"more than {self.budget} queries were asked on a budget of {self.budget}")
            # Chance is the same for every label, so that the place of one among them changes nothing.
            self._bets.update(self.asked, self.design.drawn[self.asked] if value else -1)
            self.asked += 1
            self._matches += int(value)

    @property
    def log_p(self) -> float:
        """Natural logarithm of the p-value as of now; 0 before any evidence."""
        # The e-value alone, before the draws are counted; they multiply both tests.
        best = self._bets.test().log_p - math.log(self.design.tries)
        if self.asked == self.size:
            best = min(best, log_binomial_tail(self._matches, self.size, 1 / self.design.choices))
        return min(0.0, best + math.log(2 * self.design.tries))

    @property
    def settled(self) -> bool:
        """Whether to stop: the evidence is enough, or everything was asked."""
        return self.asked >= self.budget or _reaches(self.log_p, self.alpha)

    def verdict(self, *, scheme: str, fingerprint: str, suspect: str) -> Verdict:
        """The answer as of now; `UsageError` before the first answer of the suspect."""
        if not self.asked:
            raise UsageError("no query was answered yet, so there is no similarity: ask the suspect first")
        design = self.design
        log_p, floor = self.log_p, log_floor(self.size, design.choices, design.tries)
        decision: Decision = "derived" if _reaches(log_p, self.alpha) else "inconclusive"
        told = [
            f"{self._matches} of {self.asked} drawn {design.kind} match, and by chance one in {design.choices} does: "
            f"log10 p {log_p / math.log(10):.1f}, times {counted(design.tries, 'draw')}"
        ]
        if decision != "derived":
            told.append(UNSEEN)
        if not _reaches(floor, self.alpha):
            told.append(
                f"with {self.size} {design.kind} p can't be below {_p(floor):.2g}, so nothing can be called derived at "
                f"alpha {self.alpha:g}; embed a mark of more {design.kind}, or give a larger --alpha"
            )
        return Verdict(
            decision=decision,
            similarity=self._matches / self.asked,
            p_value=min(_p(log_p), self.alpha) if decision == "derived" else _p(log_p),
            p_value_floor=_p(floor),
            alpha=self.alpha,
            error_bound=self.alpha,
            null=self._null(log_p),
            queries={
                "spent": self.asked,
                "budget": self.budget,
                "size": self.size,
                "stopped_early": self.asked < self.budget,
            },
            power={},
            scheme=scheme,
            fingerprint=fingerprint,
            suspect=suspect,
            caveats=tuple(told),
        )

    def _null(self, log_p: float) -> Mapping[str, Any]:
        design = self.design
        return {
            "pool": f"every model that knows nothing of the draw of these {design.kind}",
            "origin": "design",
            "size": 0,
            "siblings": 0,
            "quantiles": {},
            "groups": [],
            "models": [],
            "design": {
                "kind": design.kind,
                "choices": design.choices,
                "draws": design.tries,
                "matches": self._matches,
                "of": self.asked,
                "log10_p": log_p / math.log(10),
                "exact": not design.why,
                "why": design.why,
            },
        }


def _reaches(log_p: float, alpha: float) -> bool:
    return log_p <= math.log(alpha) + ROUNDED


def _p(log_p: float) -> float:
    return min(1.0, max(math.exp(log_p), sys.float_info.min))
