"""Is a suspect a model like those of the null? What a rank among strangers assumes, checked on neutral inputs.

The population level (`whorl.detection.population`) is exact where the suspect, if it is independent, is exchangeable
with the null. That can't be proven from answers, but it can be refuted: exchangeable models are also exchangeable in
how many control pictures they answer rightly, in how much they agree with each other, and in how sure they are of the
right class. So these figures, standardised and added, are ranked: the suspect's among those of the null, and the
victim's too, for a null whose models are worse than the victim holds none like it. Half of the controls or more are
pictures that the victim learned from: models that were trained on fewer of them, or for less long, show there first,
and in their confidence before their labels.

Source: Vovk, Gammerman & Shafer, *Algorithmic Learning in a Random World*, 2005, chapter 2 (conformal p-values).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.distance import pdist, squareform

from whorl.errors import UsageError

__all__ = ["Likeness", "clusters", "likeness"]

CAVEAT: Final = 0.02  # error of each of the two looks, at suspect and victim, after which a verdict carries a caveat
REFUSAL: Final = 0.01  # error after which a low similarity is not taken for a stranger's, nor a high one for a copy's
MOST_COMPARED: Final = 400_000_000  # numbers, over all pairs of models
NEAR: Final = 0.25  # models that differ less than this share of the usual count as one
USUAL: Final = 400  # pairs, drawn, that say how far apart models are on each probe
ROUNDED: Final = 1e-5  # a difference of probabilities that is none
MANY: Final = (
    180  # probes on which no two of 99 nets that were trained apart were so near in 60 draws (benchmarks/groupings.py)
)

Labels = NDArray[np.int64]
Numbers = NDArray[np.float64]
Answers = NDArray[np.int64] | NDArray[np.float32] | Numbers


@dataclass(frozen=True)
class Likeness:
    """How suspect and victim answer neutral probes, beside the null.

    ``accuracy`` is the suspect's share of right answers on control pictures (None where no class is known),
    ``agreement`` its mean share of labels in common with the models of the null, ``confidence`` the mean probability
    that it gives to the right class (None also where labels are compared); ``of_null`` and ``of_victim`` hold the same
    figures of the null (least, median, largest) and of the victim.

    ``more`` is the conformal p-value of answering so rightly and so surely and agreeing so much, ``victim_more`` that
    of the victim, ``less`` that of answering so rarely rightly and agreeing so little, ``worse`` that of being right so
    rarely, ``victim_apart`` that of the victim's answers lying so far from those of the null (``distance`` in the
    figures: mean total variation to all others, of labels the share that differ): for a model that is exchangeable with
    the null each is at most u with probability at most u. ``standing``
    and ``standings`` (of the suspect, and ``[N]`` of the null) hold no confidence: a copy is made surer than it was by
    a multiplication, and must not stand too high for a verdict by that.
    """

    accuracy: float | None
    agreement: float
    confidence: float | None
    of_null: dict[str, tuple[float, float, float]]
    of_victim: dict[str, float]
    more: float
    victim_more: float
    victim_apart: float
    less: float
    worse: float
    standing: float = field(repr=False)
    standings: Numbers = field(repr=False)

    def document(self) -> dict[str, Any]:
        """The figures, as JSON values."""
        return {
            "accuracy": self.accuracy,
            "agreement": self.agreement,
            "confidence": self.confidence,
            "of_null": {name: list(values) for name, values in self.of_null.items()},
            "of_victim": dict(self.of_victim),
            "p_more": self.more,
            "p_victim_more": self.victim_more,
            "p_victim_apart": self.victim_apart,
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
    def victim_outside(self) -> bool:
        """Whether the null's models answer as the victim does less than as each other: it is not of their kind."""
        return self.victim_apart <= self._level(REFUSAL)

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


def likeness(suspect: Answers, null: Answers, victim: Answers, known: Labels) -> Likeness:
    """Rank accuracy, agreement and confidence of suspect and victim among those of the null.

    Confidence counts where all answers are probabilities.

    Shape:
        suspect, victim: ``[p]`` labels, or ``[p, k]`` probabilities. null: ``[N, p]`` or ``[N, p, k]``. known: ``[p]``
        the true classes, -1 where unknown.

    Raises:
        UsageError: fewer than two models, or unequal numbers of probes.
    """
    suspect_labels, labels, victim_labels = _labels(suspect), _labels(null), _labels(victim)
    counted = (suspect_labels, victim_labels, known)
    if labels.ndim != 2 or len(labels) < 2 or any(each.shape != labels.shape[1:] for each in counted):
        raise UsageError(
            f"a suspect is ranked among two models or more that answered the same probes; these are "
            f"{list(labels.shape)} beside {', '.join(str(list(each.shape)) for each in counted)}"
        )
    sure = all(each.dtype.kind == "f" for each in (suspect, null, victim))
    own, victims = (_figures(each, null, known, sure) for each in (suspect, victim))
    both = victim.dtype.kind == null.dtype.kind == "f"
    everyone = np.vstack([null, victim[None]]) if both else np.vstack([labels, victim_labels[None]])
    away = _distances(everyone).sum(1) / len(null)
    standing = _added(own, ("agreement", "accuracy"))
    own_values = {name: float(values[-1]) for name, values in own.items()}
    return Likeness(
        accuracy=own_values.get("accuracy"),
        agreement=own_values["agreement"],
        confidence=own_values.get("confidence"),
        of_null={name: _spread(values[:-1]) for name, values in own.items()} | {"distance": _spread(away[:-1])},
        of_victim={name: float(values[-1]) for name, values in victims.items()} | {"distance": float(away[-1])},
        more=_rank(_added(own, own)),
        victim_more=_rank(_added(victims, victims)),
        victim_apart=_rank(away),
        less=_rank(-standing),
        worse=_rank(-own["accuracy"]) if "accuracy" in own else 1.0,
        standing=float(standing[-1]),
        standings=standing[:-1],
    )


def clusters(answers: ArrayLike) -> list[list[int]]:
    """Places of models that answer so much alike that each group counts as one model, largest group first.

    Models are put together whose answers differ less than a quarter as much as those of a usual pair do, and those
    that such pairs link. Of accurate models nearly all of the difference lies on a few hard probes, which a pair may
    agree on by chance; so they must differ less in the geometric mean as well, which the easy probes decide, and of
    fewer probes than `MANY` by more. Probabilities are compared by their total variation; labels tell too little of
    accurate models to find more than exact repetitions.

    Shape:
        answers: ``[N, p, k]`` probabilities, or ``[N, p]`` labels.
    """
    given = np.asarray(answers)
    if len(given) < 3:
        return [[place] for place in range(len(given))]
    apart = _distances(given)
    near = NEAR * float(np.median(apart[np.triu_indices(len(given), 1)])) if given.ndim == 3 else 0.0
    found = np.arange(len(given))
    for one, other in _everywhere_near(given, apart, np.argwhere(np.triu(apart <= near, 1))):
        found[found == found[other]] = found[one]
    groups = [np.flatnonzero(found == number).tolist() for number in np.unique(found)]
    return sorted(groups, key=len, reverse=True)


def _distances(answers: NDArray[Any]) -> Numbers:
    """``[m, m]``: mean total variation between probabilities ``[m, p, k]``, or the share of labels that differ."""
    if answers.ndim == 2:
        return 1 - _agreements(answers.astype(np.int64))
    few = _compared(answers)
    return squareform(pdist(few.reshape(len(few), -1), "cityblock")) / (2 * few.shape[1])


def _everywhere_near(answers: NDArray[Any], apart: Numbers, pairs: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Those pairs ``[m, 2]`` that differ nowhere, or far less than usual pairs do in the geometric mean over probes."""
    equal = [pair for pair in pairs if not apart[tuple(pair)]]
    if answers.ndim == 2 or len(equal) == len(pairs):
        return equal
    few = _compared(answers)
    usual = np.random.default_rng(0).integers(0, len(few), (USUAL, 2))
    typical = np.median([_logarithms(few, pair) for pair in usual[usual[:, 0] != usual[:, 1]]], axis=0)
    level = math.log(NEAR) * max(1.0, MANY / few.shape[1]) ** 0.5
    return [pair for pair in pairs if not apart[tuple(pair)] or (_logarithms(few, pair) - typical).mean() <= level]


def _logarithms(answers: NDArray[Any], pair: NDArray[np.int64]) -> Numbers:
    """``[p]``, of the total variation between two models' probabilities."""
    one, other = answers[pair].astype(np.float64)
    return np.log(np.abs(one - other).sum(1) / 2 + ROUNDED)


def _compared(answers: NDArray[Any]) -> NDArray[Any]:
    """The probes that are compared: every pair is, so of many models or classes the first tell as much."""
    return answers[:, : max(8, MOST_COMPARED // (len(answers) ** 2 * answers.shape[2]))]


def _figures(one: Answers, null: Answers, known: Labels, sure: bool) -> dict[str, Numbers]:
    """Each figure ``[N + 1]`` of the null and, last, of one; accuracy and confidence only where a class is known.

    Each model is compared with all others, so that all are treated alike.
    """
    everyone = np.vstack([_labels(null), _labels(one)])
    found = {"agreement": (_agreements(everyone).sum(1) - 1) / (len(everyone) - 1)}
    control = np.flatnonzero(known >= 0)
    if len(control):
        found["accuracy"] = (everyone[:, control] == known[control]).mean(1)
        if sure:
            both = (null[:, control, known[control]], one[None, control, known[control]])
            found["confidence"] = np.vstack(both).astype(np.float64).mean(1)
    return found


def _added(figures: Mapping[str, Numbers], names: Iterable[str]) -> Numbers:
    return np.sum([_standardised(figures[name]) for name in names if name in figures], axis=0)


def _labels(answers: Answers) -> Labels:
    return (answers.argmax(-1) if answers.dtype.kind == "f" else answers).astype(np.int64)


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
