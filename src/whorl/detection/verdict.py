"""From similarities to a verdict: the only place where one is given."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy

import numpy as np
from numpy.typing import ArrayLike

from whorl.detection.caveats import always, apart, degraded, described, explained, limits, standing, too_few_copies
from whorl.detection.exchangeability import Likeness
from whorl.detection.groups import Groups
from whorl.detection.power import MOST_MISSED, measure_power, queries_for_a_copy
from whorl.detection.sequential import SequentialMean
from whorl.errors import UsageError
from whorl.metrics import Scores, as_scores
from whorl.types import Calibration, Decision, Null, Verdict

__all__ = ["Trial"]

UNCALIBRATED = Calibration(Null(pool="", models=(), similarities=()))


class Trial:
    """One suspect against one fingerprint: take similarities as they come, say when to stop, give the verdict.

    The rule has two levels. Population: the suspect is ranked among independent models (`plan`). Sampling: an
    anytime-valid test shows how alike the suspect is at least, from the queries asked so far (`SequentialMean`).
    An independent model, exchangeable with the null, is called derived with probability at most ``plan.error_bound``
    <= alpha, however the queries depend on each other and whenever one stops.

    Duties of the caller: alpha and budget are fixed before the first query; the queries are asked in a uniformly
    random order (drawn after the suspect was fixed), and their values are given in that order.

    Parameters:
        calibration: similarities of independent models, and of copies by removal; None if there are none, and then
            nothing can be called derived.
        size: number of queries of the fingerprint.
        alpha: the error rate asked for.
        per_query: similarities come query by query, in [0, 1] (`update`); otherwise once for the whole (`observe`).
        budget: most queries to ask; all of them by default.
        likeness: whether the suspect answers neutral probes as the models of ``calibration`` do; None where nobody
            looked. The suspect is ranked in every group of the null (`whorl.detection.groups`).
    """

    def __init__(
        self,
        calibration: Calibration | None,
        *,
        size: int,
        alpha: float,
        per_query: bool = True,
        budget: int | None = None,
        likeness: Likeness | None = None,
    ) -> None:
        self.calibration = calibration or UNCALIBRATED
        self.size = size
        self.budget = size if budget is None else min(budget, size)
        self.per_query = per_query
        self.likeness = likeness
        if self.budget < 1:
            raise UsageError(f"a verification asks at least one query; the budget is {budget} of {size}")
        if not per_query and self.budget < size:
            raise UsageError(f"this scheme compares all {size} queries as a whole; a budget of {budget} is too small")
        self.groups = Groups(self.calibration.null, alpha=alpha, sampling_error=None if per_query else 0.0)
        self._null = self.groups.all
        if per_query and len(self._null) and not (self._null.min() >= 0 and self._null.max() <= 1):
            raise UsageError("per-query similarities have means in [0, 1]; the null reaches beyond: calibrate again")
        self.plan = self.groups.plan
        self._mean = SequentialMean(size, self.plan.sampling_error, levels=_levels(self._null))
        self._observed: float | None = None
        self.feasible = self.plan.sufficient and (not per_query or self._would_refute(self.budget))

    def update(self, values: ArrayLike) -> None:
        """Take the next per-query similarities ``[k]`` in [0, 1], in the random order in which they were drawn."""
        if not self.per_query:
            raise UsageError("this trial compares the whole fingerprint at once: give its similarity to observe")
        new = as_scores(values, "per-query similarities", least=0)
        if self.asked + len(new) > self.budget:
            raise UsageError(f"{self.asked + len(new)} queries were asked on a budget of {self.budget}")
        self._mean.update(new)

    def observe(self, similarity: float) -> None:
        """Take the similarity of the whole fingerprint, once."""
        if self.per_query or self._observed is not None:
            raise UsageError("a similarity of the whole is observed once, in a trial made with per_query=False")
        self._observed = float(as_scores([similarity], "similarity")[0])

    @property
    def asked(self) -> int:
        """Queries answered so far."""
        return self._mean.asked if self.per_query else self.size * (self._observed is not None)

    @property
    def similarity(self) -> float:
        """Mean over the queries asked, or the observed similarity of the whole."""
        if not self.asked:
            raise UsageError("no query was answered yet, so there is no similarity: ask the suspect first")
        return self._mean.total / self.asked if self._observed is None else self._observed

    @property
    def p_value(self) -> float:
        """Chance bound of evidence this strong from an independent model; valid at any time, 1 before any evidence."""
        return max(self.groups.p_values(self._as_alike).values())

    @property
    def derived(self) -> bool:
        """Whether independence is refuted at alpha."""
        return self.groups.exceeded(self._as_alike)

    @property
    def futile(self) -> bool:
        """Whether a test that could have ended in derived no longer can, even if all queries to come match."""
        return self.feasible and self.per_query and not self._would_refute(self.budget - self.asked)

    @property
    def settled(self) -> bool:
        """Whether to stop: derived, out of reach, or everything asked.

        A test that never could end in derived (too few independents) asks everything: the similarity is worth having.
        """
        return self.asked >= self.budget or self.derived or self.futile

    def verdict(self, *, scheme: str, fingerprint: str, suspect: str) -> Verdict:
        """The answer as of now; `UsageError` before the first answer of the suspect.

        Parameters:
            scheme: the scheme's expression.
            fingerprint, suspect: what to call them.
        """
        similarity = self.similarity
        power = measure_power(self.calibration.derived, self._null, self.plan, size=self.size, budget=self.budget)
        decision, reasons = self._decide(power)
        told = () if decision == "derived" else limits(power)
        return Verdict(
            decision=decision,
            similarity=similarity,
            p_value=self.p_value,
            p_value_floor=self.plan.p_value_floor,
            alpha=self.plan.alpha,
            error_bound=self.plan.error_bound,
            null=described(self.calibration.null, self.groups, self.groups.p_values(self._as_alike)),
            queries={
                "spent": self.asked,
                "budget": self.budget,
                "size": self.size,
                "stopped_early": self.asked < self.budget,
            },
            power=power,
            scheme=scheme,
            fingerprint=fingerprint,
            suspect=suspect,
            caveats=(
                *reasons,
                *standing(self.likeness, decision, self.calibration.null),
                *told,
                *always(self.calibration.null),
            ),
            likeness=self.likeness.document() if self.likeness else {},
        )

    def _as_alike(self, null: Scores) -> int:
        """How many of these independents the suspect is not shown to exceed."""
        if self.per_query:
            return int((null > self._mean.highest_refuted).sum())
        return len(null) if self._observed is None else int((null >= self._observed).sum())

    def _would_refute(self, matches: int) -> bool:
        """Whether the threshold would fall if the next ``matches`` queries all matched."""
        hopeful = copy(self._mean)  # an update rebinds what it changes, so a shallow copy is a snapshot
        hopeful.update(np.ones(matches))
        return hopeful.highest_refuted >= self.plan.threshold

    def _decide(self, power: Mapping[str, Mapping[str, float]]) -> tuple[Decision, tuple[str, ...]]:
        """The decision and, unless it is derived, why it is not more than that."""
        if self.derived:
            if self.likeness is not None and self.likeness.victim_outside:
                return "inconclusive", (apart(self.likeness),)
            return ("inconclusive", (explained(self.likeness),)) if self._explained else ("derived", ())
        if not self.plan.sufficient:
            return "inconclusive", (self._too_few(),)
        wrong = (degraded(self.likeness),) if self.likeness is not None and self.likeness.degraded else ()
        if not self.settled:
            return "inconclusive", (
                *wrong,
                f"stopped after {self.asked} of {self.budget} queries, before the test was settled",
            )
        if not self.feasible:
            return "inconclusive", (*wrong, self._infeasible())
        if self.asked < self.size and self.similarity > self.plan.threshold:
            return "inconclusive", (
                *wrong,
                f"the similarity lies above that of independent models ({self.plan.threshold:.3g}), but "
                f"{self.budget} of {self.size} queries are too few to be sure; give a larger budget",
            )
        if wrong:
            return "inconclusive", wrong
        if all(measured["missed_at_most"] > MOST_MISSED for measured in power.values()):
            return "inconclusive", (too_few_copies(power),)
        return "unrelated", ("unrelated only as far as the removals go that the test would have caught",)

    @property
    def _explained(self) -> bool:
        """Whether a stranger that stands among the null as the suspect does may be as alike as the suspect is."""
        null = self.calibration.null.similarities
        return (
            self.likeness is not None
            and self.likeness.above
            and self.likeness.explains(self.similarity, null, self.plan.alpha)
        )

    def _too_few(self) -> str:
        name, of = self.groups.smallest
        have = f"{of.independents} independent models" if of.independents else "no independent model"
        where = f"the group {name!r} of the null" if len(self.groups.plans) > 1 else "the null"
        return (
            f"{where} holds {have}; to call a model derived at alpha {self.plan.alpha:g} "
            f"at least {of.needed} are needed: type whorl calibrate"
        )

    def _infeasible(self) -> str:
        least = queries_for_a_copy(self._null, self.plan, size=self.size)
        if least is None:
            return "independent models match on every query: this fingerprint cannot tell copies apart; make another"
        return f"on a budget of {self.budget} queries not even a perfect copy is called derived; give at least {least}"


def _levels(null: Scores) -> Scores | None:
    return null if len(null) else None
