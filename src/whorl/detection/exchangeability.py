"""Is a suspect a model like those of the null? What a rank among strangers assumes, checked on neutral inputs.

The population level (`whorl.detection.population`) is exact where the suspect, if it is independent, is exchangeable
with the null. That can't be proven from answers, but it can be refuted: exchangeable models are also exchangeable in
how many control pictures they answer rightly and in how much they agree with each other. So these two figures,
standardised and added, are ranked: the suspect's among those of the null, and the victim's too, for a null whose models
are worse than the victim holds none like it. Half of the controls or more are pictures that the victim learned from:
models that were trained on fewer of them, or for less long, show there first.

Source: Vovk, Gammerman & Shafer, *Algorithmic Learning in a Random World*, 2005, chapter 2 (conformal p-values).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.distance import pdist, squareform

from whorl.errors import UsageError

__all__ = ["Likeness", "clusters", "likeness"]

CAVEAT: Final = 0.02  # error of each of the two looks, at suspect and victim, after which a verdict carries a caveat
REFUSAL: Final = 0.01  # error after which a low similarity is not taken for a stranger's
MOST_COMPARED: Final = 400_000_000  # numbers, over all pairs of models
NEAR: Final = 0.25  # models that differ less than this share of the usual count as one

Labels = NDArray[np.int64]
Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Likeness:
    """How suspect and victim answer neutral probes, beside the null.

    ``accuracy`` is the suspect's share of right answers on control pictures (None where no class is known),
    ``agreement`` its mean share of labels in common with the models of the null; ``of_null`` and ``of_victim`` hold the
    same figures of the null (least, median, largest) and of the victim.

    ``more`` is the conformal p-value of answering so rightly and agreeing so much, ``victim_more`` that of the victim,
    ``less`` and ``worse`` those of doing so little and of being so rarely right: for a model that is exchangeable with
    the null each is at most u with probability at most u.
    """

    accuracy: float | None
    agreement: float
    of_null: dict[str, tuple[float, float, float]]
    of_victim: dict[str, float]
    more: float
    victim_more: float
    less: float
    worse: float
    standing: float = field(repr=False)
    standings: Numbers = field(repr=False)

    def document(self) -> dict[str, Any]:
        """The figures, as JSON values."""
        return {
            "accuracy": self.accuracy,
            "agreement": self.agreement,
            "of_null": {name: list(values) for name, values in self.of_null.items()},
            "of_victim": dict(self.of_victim),
            "p_more": self.more,
            "p_victim_more": self.victim_more,
            "p_less": self.less,
            "p_worse": self.worse,
        }

    @property
    def above(self) -> bool:
        """Whether strangers like the suspect would be more alike to the victim than those of the null are."""
        return self.more <= self._level(CAVEAT)

    @property
    def victim_above(self) -> bool:
        """Whether the same holds of strangers like the victim."""
        return self.victim_more <= self._level(CAVEAT)

    @property
    def below(self) -> bool:
        """Whether the suspect agrees less than models of the null do."""
        return self.less <= self._level(CAVEAT)

    @property
    def degraded(self) -> bool:
        """Whether the suspect is right more rarely than models of the null are."""
        return self.worse <= self._level(REFUSAL)

    def _level(self, level: float) -> float:
        # Ranks among few models can't go lower; what can't be reached would never warn.
        return max(level, 1 / (len(self.standings) + 1) + 1e-9)

    def explains(self, similarity: float, null: ArrayLike, alpha: float) -> bool:
        """Whether a stranger of the suspect's standing may be so similar: the corrected p-value is above alpha.

        The null's similarities are regressed on the null's own figures (never with a falling line), and the suspect's
        residual is ranked among theirs. A copy is far more alike than its standing explains.

        Shape:
            null: ``[N]`` similarities, in the order of the models that `likeness` was given.
        """
        values = np.asarray(null, dtype=np.float64)
        centred = self.standings - self.standings.mean()
        slope = max(0.0, float(centred @ values) / max(float(centred @ centred), 1e-12))
        left = values - slope * self.standings
        return (1 + int((left >= similarity - slope * self.standing).sum())) / (len(values) + 1) > alpha


def likeness(suspect: Labels, null: Labels, victim: Labels, known: Labels) -> Likeness:
    """Rank accuracy and agreement of suspect and victim among those of the null.

    Shape:
        suspect, victim: ``[p]`` labels. null: ``[N, p]``. known: ``[p]`` the true classes, -1 where unknown.

    Raises:
        UsageError: fewer than two models, or unequal numbers of probes.
    """
    if null.ndim != 2 or len(null) < 2 or any(each.shape != null.shape[1:] for each in (suspect, victim, known)):
        raise UsageError(
            f"a suspect is ranked among two models or more that answered the same probes; these are {list(null.shape)} "
            f"beside {list(suspect.shape)}, {list(victim.shape)} and {list(known.shape)}"
        )
    agreement, right, standing = _standings(suspect, null, known)
    of_null = {"agreement": _spread(agreement[:-1])}
    of_victim = {"agreement": float((null == victim).mean())}
    if right is not None:
        of_null["accuracy"] = _spread(right[:-1])
        of_victim["accuracy"] = float((victim == known)[known >= 0].mean())
    return Likeness(
        accuracy=None if right is None else float(right[-1]),
        agreement=float(agreement[-1]),
        of_null=of_null,
        of_victim=of_victim,
        more=_rank(standing),
        victim_more=_rank(_standings(victim, null, known)[2]),
        less=_rank(-standing),
        worse=1.0 if right is None else _rank(-right),
        standing=float(standing[-1]),
        standings=standing[:-1],
    )


def clusters(answers: ArrayLike) -> list[list[int]]:
    """Places of models that answer so much alike that each group counts as one model, largest group first.

    Models are put together whose answers differ less than a quarter as much as those of a usual pair do, and those
    that such pairs link. Probabilities are compared by their total variation; labels tell too little of accurate
    models to find more than exact repetitions.

    Shape:
        answers: ``[N, p, k]`` probabilities, or ``[N, p]`` labels.
    """
    given = np.asarray(answers)
    if len(given) < 3:
        return [[place] for place in range(len(given))]
    if given.ndim == 2:
        apart, near = 1 - _agreements(given), 0.0
    else:
        # Every pair is compared: of many models or classes the first probes tell as much, and the work stays bounded.
        given = given[:, : max(8, MOST_COMPARED // (len(given) ** 2 * given.shape[2]))]
        apart = squareform(pdist(given.reshape(len(given), -1), "cityblock")) / (2 * given.shape[1])
        near = NEAR * float(np.median(apart[np.triu_indices(len(given), 1)]))
    found = np.arange(len(given))
    for one, other in np.argwhere(np.triu(apart <= near, 1)):
        found[found == found[other]] = found[one]
    groups = [np.flatnonzero(found == number).tolist() for number in np.unique(found)]
    return sorted(groups, key=len, reverse=True)


def _standings(one: Labels, null: Labels, known: Labels) -> tuple[Numbers, Numbers | None, Numbers]:
    """Agreement, accuracy (None where no class is known) and the sum of both, standardised: of the null and of one.

    Each model is compared with all others, so that all are treated alike.
    """
    everyone = np.vstack([null, one])
    alike = _agreements(everyone)
    agreement = (alike.sum(1) - 1) / (len(everyone) - 1)
    control = known >= 0
    if not control.any():
        return agreement, None, _standardised(agreement)
    right = (everyone[:, control] == known[control]).mean(1)
    return agreement, right, _standardised(agreement) + _standardised(right)


def _agreements(labels: Labels) -> Numbers:
    """``[m, m]``, the share of probes on which two models give one label."""
    return np.stack([(labels == each).mean(1) for each in labels])


def _standardised(values: Numbers) -> Numbers:
    return (values - np.median(values)) / max(float(values.std()), 1e-12)


def _rank(values: Numbers) -> float:
    """Conformal p-value of the last value among all, for being so large; ties count against it."""
    return float((values >= values[-1] - 1e-12).mean())


def _spread(values: Sequence[float] | Numbers) -> tuple[float, float, float]:
    return float(np.min(values)), float(np.median(values)), float(np.max(values))
