"""PRADA: watches the order of questions for a stream that nobody asks by chance.

Paper: M. Juuti, S. Szyller, S. Marchal, N. Asokan, *PRADA: Protecting against DNN Model Stealing Attacks*, EuroS&P
2019, algorithm 3: the distances from each question to the nearest earlier one of its class are normal for natural
pictures and not for made ones. After the authors' code only classes with ten distances or more are pooled and W is
computed every ten questions. Of long streams the last 5,000 distances are tested, as far as scipy's W is good for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import torch
from torch import Tensor

from whorl.errors import UsageError

__all__ = ["Prada"]

EVERY: Final = 10  # questions between two tests
ENTRIES: Final = 10  # distances that a class needs to be pooled
LEAST: Final = 100  # pooled distances above which W is computed
MOST: Final = 5000


@dataclass
class _Class:
    """The growing set of one class: pictures ``[g, d]`` that lay far from all earlier ones, and how far."""

    kept: list[Tensor] = field(default_factory=list[Tensor])
    distances: list[tuple[int, float]] = field(default_factory=list[tuple[int, float]])
    threshold: float = 0.0
    count: int = 1
    total: float = 0.0
    squares: float = 0.0

    def grow(self, distance: float) -> None:
        """Move the threshold to the mean less the standard deviation of the distances of what was kept."""
        self.count, self.total, self.squares = self.count + 1, self.total + distance, self.squares + distance**2
        mean = self.total / self.count
        spread = math.sqrt(max(0.0, self.squares / self.count - mean**2))
        self.threshold = max(self.threshold, mean - spread)


class Prada:
    """The state of one watch.

    Attributes:
        asked: questions seen; none after detection, when there is nothing left to find.
        statistic: the last Shapiro-Wilk W, in [0, 1]; 1 before the first test.
        lowest: the smallest W so far.
        detected: how many questions had been asked when W fell below ``delta``; None where it has not.

    Raises:
        UsageError: ``delta`` outside [0, 1]. At 0 it only watches.
    """

    def __init__(self, classes: int, delta: float) -> None:
        if not 0 <= delta <= 1:
            raise UsageError(f"PRADA compares W with a delta in [0, 1], not {delta}")
        self.delta = delta
        self.asked = 0
        self.statistic = self.lowest = 1.0
        self.detected: int | None = None
        self._classes = [_Class() for _ in range(classes)]

    def watch(self, pictures: Tensor, labels: Tensor) -> Tensor:
        """See the next questions ``[m, c, h, w]`` with the model's labels ``[m]``; True ``[m]`` from detection on."""
        rows = pictures.detach().cpu().flatten(1)
        nearest = torch.full((len(rows),), math.inf)
        for label in labels.unique().tolist():
            if kept := self._classes[label].kept:
                mine = labels == label
                nearest[mine] = _distances(rows[mine], torch.stack(kept)).amin(1)
        between = _distances(rows, rows)
        suspected = torch.zeros(len(rows), dtype=torch.bool)
        for place, label in enumerate(labels.tolist()):
            if self.detected is None and self._see(self._classes[label], rows[place], float(nearest[place])):
                nearest = torch.where(labels == label, nearest.minimum(between[place]), nearest)
            suspected[place] = self.detected is not None
        return suspected

    def _see(self, state: _Class, row: Tensor, distance: float) -> bool:
        """Take one question into account; whether its class keeps it."""
        self.asked += 1
        first = not state.kept
        if not first:
            state.distances.append((self.asked, distance))
        grows = first or distance > state.threshold
        if grows:
            state.kept.append(row.clone())
        if grows and not first:
            state.grow(distance)
        if self.asked % EVERY == 0:
            self._test()
        return grows

    def _test(self) -> None:
        from scipy.stats import shapiro  # late, as it takes half a second that other guards have no use for

        pooled = [entry for each in self._classes if len(each.distances) >= ENTRIES for entry in each.distances]
        if len(pooled) <= LEAST:
            return
        distances = np.array([distance for _, distance in sorted(pooled)[-MOST:]])
        usual = np.abs(distances - distances.mean()) <= 3 * distances.std()
        self.statistic = float(shapiro(distances[usual]).statistic) if np.ptp(distances[usual]) > 0 else 0.0
        self.lowest = min(self.lowest, self.statistic)
        if self.statistic < self.delta:
            self.detected = self.asked


def _distances(rows: Tensor, others: Tensor) -> Tensor:
    """Euclidean distances ``[a, b]``, exact for near duplicates too."""
    return torch.cdist(rows, others, compute_mode="donot_use_mm_for_euclid_dist")
