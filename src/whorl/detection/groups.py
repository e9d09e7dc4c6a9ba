"""Strangers of several kinds: which of them a suspect is ranked among.

Exchangeability holds within a kind (architecture, ancestor, data). Where the suspect's kind is known it is ranked among
the models of that kind; where it is not, among each kind alone, and the largest p-value counts. That is valid for a
suspect of any one of the kinds, while a rank among all of them together is valid for none.

Nor are models exchangeable that were made from one another: a family of tunes counts as one model, by the most alike of
its members, so that a suspect has to exceed them all.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import chain

import numpy as np

from whorl.detection.exchangeability import clusters
from whorl.detection.population import Plan, plan
from whorl.errors import UsageError
from whorl.metrics import Scores, as_scores
from whorl.types import Calibration, Null

__all__ = ["Groups", "families", "in_group"]


def in_group(calibration: Calibration, group: str) -> Calibration:
    """The calibration by the models of one group alone. Raises `UsageError` where the null holds none."""
    null = calibration.null
    places = [place for place, model in enumerate(null.models) if model.group == group]
    if not places:
        groups = ", ".join(sorted({repr(model.group) for model in null.models})) or "none"
        raise UsageError(f"the null holds no models of the group {group!r}; its groups are {groups}")

    def chosen(values: Sequence[float]) -> tuple[float, ...]:
        return tuple(values[place] for place in places)

    return replace(
        calibration,
        null=replace(
            null,
            models=tuple(null.models[place] for place in places),
            similarities=chosen(null.similarities),
            siblings=min(null.siblings, len(places)),
            probes=None if null.probes is None else null.probes[places],
        ),
        interfaces={
            treatment: replace(measured, similarities=chosen(measured.similarities))
            for treatment, measured in calibration.interfaces.items()
        },
    )


def families(null: Null) -> list[list[int]]:
    """Places of the models of each group that count as one.

    These are models that their weights show to be made from one another (`NullModel.family`), unless the null was said
    to hold as many siblings of the victim, which stand for siblings; and models that answer probes so much alike as no
    others do (`clusters`). Where the probes were not asked, or show labels alone, answers tell nothing: accurate models
    that know nothing of each other may give equal labels.
    """
    together = [[place] for place in range(len(null))]
    if null.probes is not None and null.probes.ndim == 3:
        answers, places = null.probes.numpy(), np.arange(len(null))
        names = np.array([model.group for model in null.models])
        own = [places[names == name] for name in np.unique(names)]
        together = [group[found].tolist() for group in own for found in clusters(answers[group])]
    made = defaultdict[tuple[str, str], list[int]](list)
    for place, model in enumerate(null.models):
        made[model.group, model.family].append(place)
    for (_, family), members in made.items():
        if family and len(members) > null.siblings:
            joined = [each for each in together if not set(each).isdisjoint(members)]
            together = [each for each in together if each not in joined] + [sorted(chain.from_iterable(joined))]
    return together


class Groups:
    """The plans of a null's groups under one sampling error.

    Parameters:
        null: its models name their groups; those that name none are a group together. Each of its `families` counts
            as one model.
        alpha: the error rate asked for.
        sampling_error: as in `plan`.
    """

    def __init__(self, null: Null, *, alpha: float, sampling_error: float | None) -> None:
        given = as_scores(null.similarities, "null similarities", least=0)
        counted = families(null)
        values = np.array([given[members].max() for members in counted])
        names = [null.models[members[0]].group for members in counted]
        found = {name: values[[each == name for each in names]] for name in sorted(set(names))} or {"": values}
        self.similarities: Mapping[str, Scores] = found
        plans = [plan(each, alpha=alpha, sampling_error=sampling_error) for each in self.similarities.values()]
        # The queries asked so far are one sample, whatever the suspect is ranked among: one error for all groups.
        least = min(each.sampling_error for each in plans)
        self.plans: Mapping[str, Plan] = {
            name: plan(each, alpha=alpha, sampling_error=least) for name, each in self.similarities.items()
        }

    @property
    def all(self) -> Scores:
        """The similarities of every group that counts ``[N]``."""
        return np.concatenate(list(self.similarities.values()))

    @property
    def plan(self) -> Plan:
        """What must hold in every group at once: the highest threshold, the largest bound, enough models in each."""
        hardest = max(self.plans.values(), key=lambda each: each.threshold)
        return replace(
            hardest,
            error_bound=max(each.error_bound for each in self.plans.values()),
            p_value_floor=max(each.p_value_floor for each in self.plans.values()),
            sufficient=all(each.sufficient for each in self.plans.values()),
        )

    @property
    def smallest(self) -> tuple[str, Plan]:
        """The group with the fewest models, and its plan."""
        return min(self.plans.items(), key=lambda item: item[1].independents)

    def p_values(self, as_alike: Callable[[Scores], int]) -> dict[str, float]:
        """A p-value by group; ``as_alike`` counts the models of a group that the suspect is not shown to exceed."""
        return {
            name: self.plans[name].p_value(as_alike(similarities)) for name, similarities in self.similarities.items()
        }

    def exceeded(self, as_alike: Callable[[Scores], int]) -> bool:
        """Whether the suspect is shown to exceed what alpha demands, in every group."""
        return all(as_alike(self.similarities[name]) < each.rank for name, each in self.plans.items())
