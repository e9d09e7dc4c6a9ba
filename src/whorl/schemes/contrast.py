"""Contrast: agreement on ordinary inputs that shadow copies answer like the victim and shadow strangers do not.

Paper: none; the choice and the statistic are likelihood ratios (Neyman, Pearson, Phil. Trans. R. Soc. A 231, 1933).

Queries: of held-out pictures, blends of two and pictures with mild noise, those where a match tells most. A match has
probability P among shadow copies and Q among shadow strangers, each estimated with half a pseudo-count; the gain is
KL(P || Q) between a match and none. Q is that of the group of strangers (siblings, other architectures) that match
most often: a group that is left out of the choice is accused. Representation: which queries the suspect answers
otherwise than the victim, each weighed by the log-likelihood ratio of a match over none. Similarity: the
log-likelihood ratio of all answers, shifted and scaled so that the victim has 1. Access: labels of everything.

The null has to hold every kind of stranger in a group of its own, as the pool does. Measured: `benchmarks/contrast.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from whorl.data.base import Dataset
from whorl.errors import UsageError
from whorl.layouts import Layout
from whorl.oracles.base import Oracle
from whorl.oracles.pool import Pool
from whorl.queries.base import PooledSampler
from whorl.queries.disagreement import noisy
from whorl.queries.mixtures import blends
from whorl.schemes.base import Scheme
from whorl.settings import Count
from whorl.spaces import Pictures
from whorl.types import Access, Evidence, Queries, Representation

__all__ = ["Contrast", "gains", "neutral"]


@dataclass(frozen=True, kw_only=True)
class Contrast(PooledSampler, Scheme):
    """Ordinary inputs chosen by what a match tells against every group of shadow strangers.

    Parameters:
        most: inputs asked of every shadow model to choose from.
    """

    name: ClassVar[str] = "contrast"
    paper: ClassVar[str] = "none: the likelihood ratio of Neyman and Pearson, 1933"
    idea: ClassVar[str] = "Agreement on ordinary inputs that shadow copies answer alike and no group of strangers does."
    blind: ClassVar[str] = "extraction where the victim has siblings; it accuses strangers unlike all of pool and null"
    needs_victim: ClassVar[Access] = Access.LABELS
    needs_suspect: ClassVar[Access] = Access.LABELS
    values: ClassVar[Layout] = Layout("n", low=0, high=1)
    tensors: ClassVar[Mapping[str, Layout]] = {
        "inputs": Layout("n *input", "input"),
        "companions/answers": Layout("n", "int64", 0, "k"),
        "companions/weights": Layout("n", low=0, high=1),
    }

    most: Count = 10_000

    def sample_with(
        self, victim: Oracle, data: Dataset, pool: Pool, *, budget: int, generator: torch.Generator
    ) -> Queries:
        """The inputs of largest gain, with the victim's ``answers`` and the ``weights`` of matches, the largest 1.

        Raises:
            UsageError: no copies or strangers, or too few inputs that copies answer like the victim more often than
                every group of strangers.
        """
        pool.require(1, 1, self.name)
        inputs = neutral(data, max(budget, self.most), generator)
        own = victim.labels(inputs)
        copies = _matches(pool.copies, inputs, own)
        strangers = torch.stack([_matches(models, inputs, own) for models in pool.strangers.values()]).amax(0)
        gain = gains(copies, strangers)
        chosen = gain.argsort(descending=True, stable=True)[:budget]
        if len(chosen) < budget or float(gain[chosen].min()) <= 0:
            raise UsageError(
                f"{int((gain > 0).sum())} of {len(inputs)} inputs tell the copies of this pool from every group of its "
                f"strangers, and {budget} are asked for; give more shadow models or pictures, or a smaller budget"
            )
        weights = copies[chosen].logit() - strangers[chosen].logit()
        notes = {"copies_match": float(copies[chosen].mean()), "strangers_match": float(strangers[chosen].mean())}
        return Queries(inputs[chosen], {"answers": own[chosen], "weights": (weights / weights.max()).float()}, notes)

    def represent(self, oracle: Oracle, queries: Queries) -> Representation:
        """1 where the answer is the victim's, less by the weight where it is not: ``[n]`` float32."""
        otherwise = oracle.labels(queries.inputs) != queries.companions["answers"]
        return Representation(1 - queries.companions["weights"] * otherwise)

    def similarity(self, reference: Representation, observed: Representation) -> Evidence:
        """The mean, in [0, 1]: it rises with the log-likelihood ratio, and is 1 for the victim."""
        del reference
        return Evidence(float(observed.values.double().mean()), observed.values)


def neutral(data: Dataset, count: int, generator: torch.Generator) -> Tensor:
    """At most a third pictures as they are, the rest in halves blends of two and noisy ones: ``[count, *input]``.

    What is no picture is neither blended nor made noisy; then there are as many inputs as data, at most ``count``.
    """
    plain = data.inputs(torch.randperm(len(data), generator=generator)[:count])
    if not isinstance(data.space, Pictures):
        return plain
    natural = plain[: -(-count // 3)]
    mixed = blends(plain, (count - len(natural)) // 2, generator)
    again = plain[torch.randint(len(plain), (count - len(natural) - len(mixed),), generator=generator)]
    noise = noisy(again, data.space, generator)
    assert noise is not None  # these are pictures
    return torch.cat([natural, mixed, noise])


def gains(copies: Tensor, strangers: Tensor) -> Tensor:
    """Nats that an answer of a copy tells against a stranger, KL(P || Q); negative where strangers match more often.

    Shape:
        copies, strangers: probabilities of a match, each ``[n]`` in (0, 1).
    """
    told = copies * (copies / strangers).log() + (1 - copies) * ((1 - copies) / (1 - strangers)).log()
    return torch.where(copies > strangers, told, -told)


def _matches(models: Sequence[Oracle], inputs: Tensor, own: Tensor) -> Tensor:
    """Share of models that answer like the victim ``[n]``, with half a pseudo-count for each outcome."""
    matches = torch.stack([model.labels(inputs) == own for model in models]).double().sum(0)
    return (matches + 0.5) / (len(models) + 1)
