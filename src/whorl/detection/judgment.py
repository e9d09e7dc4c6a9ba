"""A judge's decision: the suspect's rank within each kind of independent model, in two kinds of families.

Within a kind (a stratum), models and suspect answer the same opened queries, so the rank of the suspect is exact for a
suspect that is exchangeable with them, whatever the queries are and whoever chose them. Nobody knows of which kind the
suspect would be, so the largest p-value over the kinds counts; a net that was fitted to opened queries passes in one
kind of family only, so the largest over two families counts; and what was tried is paid for by multiplication.

Source: rank p-values: Vovk, Gammerman & Shafer, *Algorithmic Learning in a Random World*, 2005, chapter 2.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from whorl.errors import UsageError
from whorl.metrics import as_scores

__all__ = ["MOST_MODELS", "SHORT", "Kind", "Ranked", "models_needed", "ranked"]

MOST_MODELS: Final = 10_000  # of one kind, beyond which no judge waits for them
SHORT: Final = 0.05  # of accuracy, by which a kind may fall short of the suspect


@dataclass(frozen=True)
class Kind:
    """Independent models of one kind: accuracies ``[N]`` on the judge's pictures, similarities ``[N]`` by family."""

    accuracies: tuple[float, ...]
    similarities: Mapping[str, tuple[float, ...]]

    def falls_short(self, accuracy: float) -> bool:
        """Whether they are not of the suspect's quality: worse models agree less with the victim than a stranger."""
        return float(np.mean(self.accuracies)) < accuracy - SHORT


@dataclass(frozen=True)
class Ranked:
    """The p-value of independence, its floor, and by family and kind where it comes from."""

    p_value: float
    floor: float
    by_family: Mapping[str, Mapping[str, float]]
    void: tuple[str, ...]

    def refuted(self, alpha: float) -> bool:
        """Whether independence is refuted at alpha."""
        return self.p_value <= alpha


def models_needed(alpha: float, tries: int = 1) -> int:
    """Models of each kind without which nothing could be called derived at alpha.

    Raises `UsageError` where these are more than `MOST_MODELS`.
    """
    if tries > (MOST_MODELS + 1) * alpha:
        raise UsageError(
            f"after {min(tries, 10**12):,} tries more than {MOST_MODELS:,} models of each kind are needed before "
            f"anything is called derived at {alpha:g}, and so many are not trained: hold the claim against fewer "
            "suspects, or judge another"
        )
    return math.ceil(tries / alpha - 1e-9) - 1


def ranked(suspect: Mapping[str, float], accuracy: float, kinds: Mapping[str, Kind], *, tries: int = 1) -> Ranked:
    """Rank a suspect; ties count against the claim.

    Parameters:
        suspect: similarity to each opened family, larger is more alike.
        accuracy: of the suspect, on the pictures on which the kinds' accuracies were taken.
        kinds: by name. One whose models fall short of the suspect's accuracy by more than .05 is void.
        tries: how many claims, suspects and draws there were to choose from (1 is this one alone).

    Raises:
        UsageError: no family, no kind, or a kind without a similarity for each model and family.
    """
    if not suspect or not kinds or tries < 1:
        raise UsageError("a judgment ranks a suspect in one family at least, among one kind of models at least")
    for name, kind in kinds.items():
        if set(kind.similarities) != set(suspect) or not kind.accuracies:
            raise UsageError(f"the models of {name} were not asked what the suspect was asked")
        if any(len(values) != len(kind.accuracies) for values in kind.similarities.values()):
            raise UsageError(f"the models of {name} have another number of similarities than of accuracies")
    void = tuple(name for name, kind in kinds.items() if kind.falls_short(accuracy))
    valid = {name: kind for name, kind in kinds.items() if name not in void}
    found = {
        family: {name: _rank(value, kind.similarities[family]) for name, kind in valid.items()}
        for family, value in suspect.items()
    }
    if not valid:
        return Ranked(1.0, 1.0, found, void)
    largest = max(p for of in found.values() for p in of.values())
    floor = max(1 / (len(kind.accuracies) + 1) for kind in valid.values())
    return Ranked(min(1.0, tries * largest), min(1.0, tries * floor), found, void)


def _rank(value: float, others: tuple[float, ...]) -> float:
    known = as_scores(others, "similarities of independent models")
    return float((1 + (known >= value - 1e-12).sum()) / (len(known) + 1))
