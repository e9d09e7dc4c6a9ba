"""Tests of independence for nets of any kind, convolutional ones included, by names and shapes alone.

Where no architecture is known, tensors are paired by name and shape. The rows of one may be permuted by training only
where they are hidden units: some other tensor must read as many inputs. The rows of a classifier (classes) and of an
embedding (tokens) have an order of their own and are left out, as tests of their places would not be exact.

Two tensors may share one permutation (a residual stream), so their p-values are not independent: they are combined by
Bonferroni's bound. A net whose units were permuted is not found: align the two first
(`whorl.weights.alignment.matching`).
"""

from __future__ import annotations

from typing import Final

import torch

from whorl.detection.exact import bonferroni
from whorl.weights.checkpoint import Checkpoint
from whorl.weights.findings import Finding, Observation
from whorl.weights.independence import constrained, fixed_points

__all__ = ["hidden_rows", "unnamed_findings"]

LEAST: Final = 8  # units below which no order is surprising
MOST: Final = 4096  # units that are matched one to one; the cost grows with the cube
DRAWS: Final = 9999


def hidden_rows(first: Checkpoint, second: Checkpoint) -> list[str]:
    """Tensors of both, of one shape, whose rows are units that another tensor reads."""
    shapes = [entry.shape for entry in first.entries.values() if len(entry.shape) >= 2]
    return [
        name
        for name, entry in first.entries.items()
        if len(entry.shape) >= 2
        and entry.shape[0] >= LEAST
        and name in second.entries
        and second.entries[name].shape == entry.shape
        and any(_reads(shape, entry.shape) for shape in shapes)
    ]


def _reads(reader: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    """Whether a tensor may read the rows of another; a dense layer reads a convolution's channels at several places."""
    rows, inputs = shape[0], reader[1]
    return inputs == rows or (len(shape) > 2 and len(reader) == 2 and inputs % rows == 0)


def unnamed_findings(first: Checkpoint, second: Checkpoint) -> list[Finding]:
    """Places and ranks of the rows of every tensor that admits the tests."""
    places: list[Observation] = []
    ranks: list[Observation] = []
    fixed = units = 0
    for number, name in enumerate(hidden_rows(first, second)):
        ours, theirs = (net.read(name).flatten(1) for net in (first, second))
        found = fixed_points(ours, theirs)
        fixed, units = fixed + found.fixed, units + found.units
        share = found.fixed / found.rows
        places.append(Observation(number, number, share, 1 / found.units, found.log_p, name))
        if len(ours) <= MOST:
            generator = torch.Generator().manual_seed(number)
            order = constrained(ours, theirs, generator=generator, draws=DRAWS)
            ranks.append(Observation(number, number, order.correlation, 0.0, order.log_p, name))
    told = {
        "unit places": (places, f"{fixed:,} of {units:,} in place"),
        "unit ranks": (ranks, f"mean rank correlation {_mean(ranks):.2f}"),
    }
    return [
        Finding(test, bonferroni([each.log_p for each in seen]), words, tuple(seen))
        for test, (seen, words) in told.items()
        if seen
    ]


def _mean(observations: list[Observation]) -> float:
    return sum(each.share for each in observations) / max(1, len(observations))
