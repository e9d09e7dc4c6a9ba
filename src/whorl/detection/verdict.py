"""From similarities to a verdict: the only place where one is given."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from whorl.detection.population import plan
from whorl.detection.power import measure_power, queries_for_a_copy
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
        min_power: a removal counts as excluded only if the 95 % lower bound of the power against it is at least this.
    """

    def __init__(
        self,
        calibration: Calibration | None,
        *,
        size: int,
        alpha: float,
        per_query: bool = True,
        budget: int | None = None,
        min_power: float = 0.5,
    ) -> None:
        self.calibration = calibration or UNCALIBRATED
        self.size = size
        self.budget = size if budget is None else min(budget, size)
        self.per_query = per_query
        self.min_power = min_power
        if self.budget < 1:
            raise UsageError(f"a verification asks at least one query; the budget is {budget} of {size}")
        if not per_query and self.budget < size:
            raise UsageError(f"this scheme compares all {size} queries as a whole; a budget of {budget} is too small")
        if not 0 < min_power <= 1:
            raise UsageError(f"min_power lies in (0, 1]; this is {min_power}")
        self._null = as_scores(self.calibration.null.similarities, "null similarities", least=0)
        if per_query and len(self._null) and not (self._null.min() >= 0 and self._null.max() <= 1):
            raise UsageError("per-query similarities have means in [0, 1]; the null reaches beyond: calibrate again")
        self.plan = plan(self._null, alpha=alpha, sampling_error=None if per_query else 0.0)
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
        return self.plan.p_value(self._as_alike)

    @property
    def derived(self) -> bool:
        """Whether independence is refuted at alpha."""
        return self._as_alike < self.plan.rank

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
        seen = [removal for removal, measured in power.items() if measured["low"] >= self.min_power]
        decision, reasons = self._decide(seen)
        limits = () if decision == "derived" else _limits(power, seen)
        return Verdict(
            decision=decision,
            similarity=similarity,
            p_value=self.p_value,
            p_value_floor=self.plan.p_value_floor,
            alpha=self.plan.alpha,
            error_bound=self.plan.error_bound,
            null=_describe(self.calibration.null, self._null),
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
            caveats=(*reasons, *limits, *_always(self.calibration.null)),
        )

    @property
    def _as_alike(self) -> int:
        """How many independents the suspect is not shown to exceed."""
        if self.per_query:
            return int((self._null > self._mean.highest_refuted).sum())
        return len(self._null) if self._observed is None else int((self._null >= self._observed).sum())

    def _would_refute(self, matches: int) -> bool:
        """Whether the threshold would fall if the next ``matches`` queries all matched."""
        hopeful = copy(self._mean)  # an update rebinds what it changes, so a shallow copy is a snapshot
        hopeful.update(np.ones(matches))
        return hopeful.highest_refuted >= self.plan.threshold

    def _decide(self, seen: list[str]) -> tuple[Decision, tuple[str, ...]]:
        """The decision and, unless it is derived, why it is not more than that."""
        if self.derived:
            return "derived", ()
        if not self.plan.sufficient:
            return "inconclusive", (self._too_few(),)
        if not self.settled:
            return "inconclusive", (
                f"stopped after {self.asked} of {self.budget} queries, before the test was settled",
            )
        if not self.feasible:
            return "inconclusive", (self._infeasible(),)
        if self.asked < self.size and self.similarity > self.plan.threshold:
            return "inconclusive", (
                f"the similarity lies above that of independent models ({self.plan.threshold:.3g}), but "
                f"{self.budget} of {self.size} queries are too few to be sure; give a larger budget",
            )
        if not seen:
            return "inconclusive", (
                f"no removal is known to be caught with a power of {self.min_power:g} or more, so a low similarity "
                "says little; give at least 6 derived models of a removal to whorl calibrate",
            )
        return "unrelated", ("unrelated only as far as the removals go that the test would have caught",)

    def _too_few(self) -> str:
        have = f"{self.plan.independents} independent models" if self.plan.independents else "no independent model"
        return (
            f"the null holds {have}; to call a model derived at alpha {self.plan.alpha:g} "
            f"at least {self.plan.needed} are needed: type whorl calibrate"
        )

    def _infeasible(self) -> str:
        least = queries_for_a_copy(self._null, self.plan, size=self.size)
        if least is None:
            return "independent models match on every query: this fingerprint cannot tell copies apart; make another"
        return f"on a budget of {self.budget} queries not even a perfect copy is called derived; give at least {least}"


def _levels(null: Scores) -> Scores | None:
    return null if len(null) else None


def _describe(null: Null, similarities: Scores) -> Mapping[str, Any]:
    points = {"min": 0.0, "median": 0.5, "q90": 0.9, "q99": 0.99, "max": 1.0}
    quantiles = np.quantile(similarities, list(points.values()), method="inverted_cdf") if len(similarities) else ()
    return {
        "pool": null.pool,
        "size": len(null),
        "siblings": null.siblings,
        "quantiles": {name: float(value) for name, value in zip(points, quantiles, strict=False)},
    }


def _limits(power: Mapping[str, Mapping[str, float]], seen: list[str]) -> tuple[str, ...]:
    """What the test would have caught, and what it could not have seen."""

    def listed(removals: list[str]) -> str:
        counts = ((name, power[name]) for name in removals)
        return "; ".join(f"{name} ({of['caught']} of {of['copies']} copies)" for name, of in counts)

    unseen = [removal for removal in power if removal not in seen]
    caught = (f"would have caught: {listed(seen)}",) if seen else ()
    missed = f"{listed(unseen)}; " if unseen else ""
    return (*caught, f"could not have seen: {missed}any removal that the calibration does not hold")


def _always(null: Null) -> tuple[str, ...]:
    """What no verdict may leave out."""
    common = "a verdict of derived means that two models share behaviour beyond chance, not who copied whom"
    if not len(null):
        return (common,)
    pool = (
        f"the error rate holds for suspects like those of the null: {null.pool or 'undescribed'} ({len(null)} models)"
    )
    kin = (
        f"{null.siblings} of the null share a public ancestor with the victim; for such models alone the error rate "
        "may be higher"
        if null.siblings
        else "no model of the null shares a public ancestor with the victim: one that was made from the same public "
        "pre-trained model may be called derived"
    )
    return common, pool, kin
