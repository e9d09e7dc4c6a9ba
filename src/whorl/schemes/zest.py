"""Zest: do two models look at the same parts of the same pictures?

Paper: H. Jia, H. Chen, J. Guan, A. Shahin Shamsabadi, N. Papernot, *A Zest of LIME: Towards Architecture-Independent
Model Distances*, ICLR 2022, OpenReview OUz_9TiTv9j.

Queries: training pictures, each with random halves of its superpixels hidden under the mean colour; the budget counts
pictures. Representation: least-squares weights of the superpixels for each class, without intercept. Similarity:
1 - distance of the weights after matching classes. Access: probabilities of both; the suspect may have other classes.

Changed from the paper: 100 masks per picture instead of 1,000, so that the default budget of 100 asks 10,000 inputs
(128,000 in the paper, of the first 128 training pictures; here they are drawn), and suites ask fewer still: their
tables say how many; superpixels are at most 16 k-means clusters of colour and position instead of quickshift (kernel 4,
ratio .2, max_dist 200); scores are centred log-probabilities, so that probabilities serve as well as the
published raw logits. Cosine, l1 and l2 are offered, the largest difference is not. Classes are matched
by optimal assignment; the published greedy matching is ``alignment=greedy``. Signatures are standardised, since the
scale of the logits would rule l1 and l2. The masks are part of the fingerprint, so every model answers the same ones.
The published rule (related when the distance is below the mean of five independent pairs) gives way to ranking.

The paper's own shape: distance about 0 for the same model, well below independent ones when tuned or retrained from a
checkpoint, slightly below when extracted.
Measured on small digit nets (16 px, 20 pictures): the same for tuned, retrained, pruned and quantised copies and for
copies with a new head of 2 or 5 classes. Extracted nets (.46 to .58 in cosine) are no nearer than independent ones of
the victim's architecture (.40 to .72).

`verify_unlearning` ranks a model that is said to have forgotten among honest retrains. A bias that only silences a
class escapes the weights without intercept; ``intercept=true`` sees through it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn.functional import normalize

from whorl.detection.unlearning import Forgetting, forgetting
from whorl.errors import UsageError
from whorl.oracles.base import Oracle
from whorl.queries.masks import Masks
from whorl.representations.base import Comparer
from whorl.representations.lime import LimeWeights
from whorl.schemes.base import Scheme
from whorl.types import Evidence, Fingerprint, Representation

__all__ = ["Alignment", "Distance", "Signatures", "Zest", "align", "verify_unlearning"]

Alignment = Literal["optimal", "greedy", "fixed"]
Distance = Literal["cosine", "l1", "l2"]


@dataclass(frozen=True, kw_only=True)
class Signatures(Comparer):
    """Compares signatures ``[..., classes]`` after matching the classes of one model with those of the other.

    Parameters:
        alignment: ``optimal`` minimises the sum of the distances between matched classes, ``greedy`` takes the
            nearest pair that is left, as published; ``fixed`` trusts the order, which must then be the same.
        distance: ``cosine``, or mean absolute (``l1``) or root mean square (``l2``) difference.
        standardise: divide each signature by its root mean square, so that a model with larger logits is no other
            model; cosine does so anyway.
    """

    alignment: Alignment = "optimal"
    distance: Distance = "cosine"
    standardise: bool = True

    def similarity(self, reference: Representation, observed: Representation) -> Evidence:
        """1 - distance: 1 for the victim itself."""
        first, second = (
            _columns(each.values, standardise=self.standardise or self.distance == "cosine")
            for each in (reference, observed)
        )
        rows, columns = align(first, second, self.alignment, self.distance)
        return Evidence(1 - _distance(first[:, rows], second[:, columns], self.distance))


@dataclass(frozen=True, kw_only=True)
class Zest(Masks, LimeWeights, Signatures, Scheme):
    """LIME weights of masked pictures; see `Masks` and `Signatures` for the settings."""

    name: ClassVar[str] = "zest"
    paper: ClassVar[str] = "Jia et al., ICLR 2022, OpenReview OUz_9TiTv9j"
    idea: ClassVar[str] = "Which parts of a picture carry the answer, by a linear model of masked copies."
    blind: ClassVar[str] = "extraction: what a copy learns from answers looks where independent models look"
    per_query: ClassVar[bool] = False
    any_classes: ClassVar[bool] = True


def align(first: Tensor, second: Tensor, alignment: Alignment, distance: Distance) -> tuple[Tensor, Tensor]:
    """Which column of ``first`` goes with which of ``second``; the surplus of the larger one is left out.

    Shape:
        first: ``[d, a]``; second: ``[d, b]``. Returns two ``[min(a, b)]`` int64.
    """
    if alignment == "fixed":
        if first.shape != second.shape:
            raise UsageError(
                f"models of {first.shape[1]} and {second.shape[1]} classes need an alignment: optimal or greedy"
            )
        order = torch.arange(first.shape[1])
        return order, order
    costs = _costs(first, second, distance)
    if alignment == "greedy":
        return _greedy(costs)
    rows, columns = linear_sum_assignment(costs.numpy())
    return torch.from_numpy(rows), torch.from_numpy(columns)


def verify_unlearning(
    scheme: Scheme, fingerprint: Fingerprint, after: Oracle, retrains: Mapping[str, Oracle], *, alpha: float = 0.05
) -> Forgetting:
    """Does the model after unlearning still resemble the one before more than honest retrains do?

    Parameters:
        fingerprint: of the model before unlearning, best on the pictures to forget.
        after: the model that is said to have forgotten.
        retrains: models trained without what was to be forgotten, by name; ``1 / alpha - 1`` of them are needed.
    """
    null = [scheme.observe(fingerprint, oracle).similarity for oracle in retrains.values()]
    return forgetting(scheme.observe(fingerprint, after).similarity, null, alpha=alpha)


def _columns(values: Tensor, *, standardise: bool) -> Tensor:
    """One column per class, ``[d, classes]`` in double precision."""
    columns = values.flatten(0, -2).double()
    return columns / columns.square().mean().sqrt().clamp_min(1e-12) if standardise else columns


def _costs(first: Tensor, second: Tensor, distance: Distance) -> Tensor:
    """Distance between each column of one and each of the other."""
    if distance == "cosine":
        return 1 - normalize(first, dim=0).mT @ normalize(second, dim=0)
    return torch.cdist(first.mT, second.mT, p=1 if distance == "l1" else 2)


def _greedy(costs: Tensor) -> tuple[Tensor, Tensor]:
    costs, pairs = costs.clone(), []
    for _ in range(min(costs.shape)):
        row, column = divmod(int(costs.argmin()), costs.shape[1])
        costs[row], costs[:, column] = torch.inf, torch.inf
        pairs.append((row, column))
    rows, columns = torch.tensor(pairs).unbind(1)
    return rows, columns


def _distance(first: Tensor, second: Tensor, distance: Distance) -> float:
    if distance == "cosine":
        return float(1 - torch.cosine_similarity(first.flatten(), second.flatten(), dim=0))
    apart = first - second
    return float(apart.abs().mean() if distance == "l1" else apart.square().mean().sqrt())
