"""Sensitive samples: whether a served model is exactly the owner's, by answers that any change of weights moves.

Paper: Z. He, T. Zhang, R. B. Lee, *Sensitive-Sample Fingerprinting of Deep Neural Networks*, CVPR 2019, pp. 4729-4737,
doi 10.1109/CVPR.2019.00486.

Integrity, not ownership. The rule is the paper's: any similarity below 1 means that the model was changed, and 1 that
no change was seen. It does not show that there is none: with a keyed switch before it, another model passes every check
of answers (`KeyedSwitch`, docs/integrity.md). `whorl verify` says "changed" or "no change shown", counts the classes of
control pictures too, and bounds by these how often it answers otherwise.

Queries: pictures near natural ones that maximise the squared gradient of the outputs in the weights, chosen to cover
most neurons (`Sensitive`). Representation: what the service shows: the first k classes in order, or also their rounded
probabilities; `sensitive-samples-labels` needs the first class only. Similarity: share of answers that did not change.
Access: weights of the owner's model, probabilities (or labels) of the served one.

Changed from the paper: f is softmax itself, not the authors' sum of 40 log-probabilities. MANC counts the classes as
neurons too: else the samples may all lie between the same two classes and see no weight into another. Candidates whose
answer rounding errors could alter are not asked, so that another batch size is no tampering; half precision may need a
larger ``margin``. The 500 to 1000 steps of the authors' code are 200 that shrink, and its thresholds on sensitivity are
left to MANC.
The paper's own figure: over 99.95 % of changed models found with fewer than ten queries, and no false alarm.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Le
from torch import Tensor

from whorl.layouts import Layout
from whorl.oracles.base import Oracle
from whorl.queries.sensitive import Sensitive
from whorl.representations.base import Comparer
from whorl.schemes.base import Purpose, Scheme
from whorl.schemes.matching import Matching
from whorl.settings import Count
from whorl.types import Access, Evidence, Queries, Representation

__all__ = ["SensitiveSamples", "SensitiveSamplesLabels", "shown"]

PAPER = "He, Zhang, Lee, CVPR 2019, doi 10.1109/CVPR.2019.00486"
IDEA = "Any change of the answers to the pictures most sensitive to the weights: integrity, not ownership."


class _Unchanged(Comparer):
    """Share of queries whose whole answer is the same."""

    def similarity(self, reference: Representation, observed: Representation) -> Evidence:
        """1 for the unchanged model; below 1 it was changed."""
        same = (reference.values == observed.values).flatten(1).all(1)
        return Evidence(int(same.sum()) / len(same), same.float())


@dataclass(frozen=True, kw_only=True)
class SensitiveSamples(Sensitive, _Unchanged, Scheme):
    """Ordered top-k classes and rounded probabilities on sensitive samples; see `Sensitive` for the other settings.

    Parameters:
        top: how many classes the service names; all of fewer.
        digits: decimals of the probabilities it gives; 0 for the ordered classes alone.
    """

    name: ClassVar[str] = "sensitive-samples"
    paper: ClassVar[str] = PAPER
    idea: ClassVar[str] = IDEA
    purpose: ClassVar[Purpose] = "integrity"
    blind: ClassVar[str] = (
        "changes behind a key or too small for the digits shown; and it cannot tell a thief's copy from a stranger"
    )
    needs_suspect: ClassVar[Access] = Access.PROBABILITIES
    values: ClassVar[Layout] = Layout("n ...", "int64", -1)

    top: Count = 5
    digits: Annotated[int, Ge(0), Le(15)] = 2

    @property
    def looks_at(self) -> tuple[int, int]:
        """The classes and decimals of the settings."""
        return self.top, self.digits

    def represent(self, oracle: Oracle, queries: Queries) -> Representation:
        """Answers as `shown`: ``[n, k]`` or ``[n, k, 2]`` int64."""
        return Representation(shown(oracle.probabilities(queries.inputs), self.top, self.digits))


@dataclass(frozen=True, kw_only=True)
class SensitiveSamplesLabels(Sensitive, Matching):
    """The predicted class on sensitive samples; see `Sensitive` for the settings."""

    name: ClassVar[str] = "sensitive-samples-labels"
    paper: ClassVar[str] = PAPER
    idea: ClassVar[str] = IDEA
    purpose: ClassVar[Purpose] = "integrity"
    blind: ClassVar[str] = (
        "changes behind a key or too small to cross a boundary; and it cannot tell a thief's copy from a stranger"
    )


def shown(probabilities: Tensor, top: int, digits: int) -> Tensor:
    """What a service shows of its answer: the first classes, and with ``digits`` their probabilities in last places.

    Classes of equal rounded probability stand in order of their numbers, and one that is rounded to 0 is not named
    (-1), so that an answer depends on what is shown of it only.

    Shape:
        probabilities: ``[n, classes]``. Returns int64 ``[n, k]``, or ``[n, k, 2]`` of class and probability.
    """
    if not digits:
        return probabilities.argsort(dim=1, descending=True, stable=True)[:, :top]
    places = (probabilities * 10**digits).round().long()
    order = places.argsort(dim=1, descending=True, stable=True)[:, :top]
    values = places.gather(1, order)
    return torch.stack([torch.where(values > 0, order, -1), values], 2)
