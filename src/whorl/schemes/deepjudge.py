"""DeepJudge, black-box: how a suspect answers adversarial tests of the victim, judged by how independent models do.

Paper: J. Chen, J. Wang, T. Peng, Y. Sun, P. Cheng, S. Ji, X. Ma, B. Li, D. Song, *Copy, Right? A Testing Framework for
Copyright Protection of Deep Learning Models*, IEEE S&P 2022, arXiv 2112.05588.

Queries: adversarial examples that fool the victim (`JudgedTests`). Representation: the distances RobD (share of tests
that the suspect answers right) and JSD (Jensen-Shannon divergence of the probabilities) from the victim, each in units
of LB, the lower bound of a one-tailed t-interval over the pool's independent models. Similarity: mean over the metrics
of (LB - distance) / LB; 1 for the victim, about 0 for an independent model.
Access: gradients of the victim, probabilities of the suspect, a pool with independent models.

Changed from the paper: its decision (a metric votes for a copy where its distance is at most alpha LB, a copy where
most do) is `vote`, for reports; alpha, confidence and the majority are unverified. PGD is projected to the
epsilon-ball, which the authors' code leaves out; its third attack, CW, is not offered. A metric whose bound is not
positive tells nobody apart and is left out.

Measured on the small zoo of the tests (digits, 50 tests, epsilon .05): both distances separate every tuned or pruned
copy from every independent model, and the vote is right for all of them. Extracted nets have .5 to .8 of RobD's bound,
independent ones .9 and more, while JSD tells the two hardly apart. At epsilon .1 adversarial examples transfer, and the
vote accuses some independent nets of the victim's data and architecture: LB bounds a mean, not a model.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Final

import numpy as np
import torch
from scipy.special import stdtrit
from torch import Tensor

from whorl.data.base import Dataset
from whorl.errors import UsageError
from whorl.layouts import Layout
from whorl.oracles.base import Oracle
from whorl.oracles.pool import Pool
from whorl.queries.base import PooledSampler
from whorl.queries.judged import JudgedTests
from whorl.representations.base import Comparer, Representer
from whorl.schemes.base import Scheme
from whorl.settings import ProperShare
from whorl.types import Access, Evidence, Queries, Representation, grants

__all__ = ["BLACK_BOX", "DeepJudge", "Judgement", "lower_bounds", "output_distances", "vote"]

BLACK_BOX: Final = ("RobD", "JSD")


@dataclass(frozen=True, kw_only=True)
class Judgement(PooledSampler, Representer, Comparer):
    """Distances from the victim in units of what independent models keep.

    Parameters:
        confidence: of the t-interval over the independent models' distances.
    """

    per_query: ClassVar[bool] = False  # a bound belongs to the whole set of tests
    values: ClassVar[Layout] = Layout("bounded", low=0)
    metrics: ClassVar[tuple[str, ...]]

    confidence: ProperShare = 0.99

    @abstractmethod
    def tests(self, victim: Oracle, data: Dataset, *, budget: int, generator: torch.Generator) -> Queries:
        """The tests, with all that ``distances`` needs to know of the victim."""

    @abstractmethod
    def distances(self, oracle: Oracle, queries: Queries) -> Tensor:
        """Distance from the victim by metric, ``[metrics]``; smaller is closer, 0 the victim."""

    def comparable(self, oracle: Oracle, queries: Queries) -> bool:
        """Whether a model of the pool can be asked for ``distances``."""
        del queries
        return grants(self.needs_suspect) <= oracle.grants

    def sample_with(
        self, victim: Oracle, data: Dataset, pool: Pool, *, budget: int, generator: torch.Generator
    ) -> Queries:
        """The tests, and in ``shared`` the ``bounds`` ``[metrics]`` that independent models set."""
        queries = self.tests(victim, data, budget=budget, generator=generator)
        known = [model for model in pool.independent if self.comparable(model, queries)]
        if len(known) < 2:
            raise UsageError(
                f"{type(self).__name__} takes its bounds from at least 2 independent models that can be compared "
                f"with {victim.name}; this pool holds {len(known)}"
            )
        bounds = lower_bounds(torch.stack([self.distances(model, queries) for model in known]), self.confidence)
        if not bool((bounds > 0).any()):
            raise UsageError(
                f"independent models answer these tests as {victim.name} does, by {' and '.join(self.metrics)}; "
                "give more of them, or settings that make other tests"
            )
        return replace(queries, shared={"bounds": bounds})

    def represent(self, oracle: Oracle, queries: Queries) -> Representation:
        """Distances in units of their bounds, ``[metrics]`` float32."""
        bounds = queries.shared["bounds"]
        return Representation((self.distances(oracle, queries) / bounds)[bounds > 0])

    def similarity(self, reference: Representation, observed: Representation) -> Evidence:
        """Mean over the metrics of 1 - distance / bound, at most 1."""
        return Evidence(float((1 - (observed.values - reference.values).double()).mean()))


@dataclass(frozen=True, kw_only=True)
class DeepJudge(JudgedTests, Judgement, Scheme):
    """Robustness and Jensen-Shannon distance on adversarial tests; see `JudgedTests` for the settings."""

    name: ClassVar[str] = "deepjudge"
    paper: ClassVar[str] = "Chen et al., IEEE S&P 2022, arXiv 2112.05588"
    idea: ClassVar[str] = "Answers to the victim's adversarial examples, in units of what independent models keep."
    blind: ClassVar[str] = "adversarial training, and independent models to which adversarial examples transfer"
    needs_victim: ClassVar[Access] = Access.GRADIENTS
    needs_suspect: ClassVar[Access] = Access.PROBABILITIES
    metrics: ClassVar[tuple[str, ...]] = BLACK_BOX
    tensors: ClassVar[Mapping[str, Layout]] = {
        **JudgedTests.tensors,
        "companions/probabilities": Layout("n k", low=0, high=1.001),
        "shared/bounds": Layout("2", low=0),
    }

    def tests(self, victim: Oracle, data: Dataset, *, budget: int, generator: torch.Generator) -> Queries:
        """Adversarial tests, with the victim's probabilities."""
        queries = super().tests(victim, data, budget=budget, generator=generator)
        answers = victim.probabilities(queries.inputs)
        return replace(queries, companions={**queries.companions, "probabilities": answers})

    def distances(self, oracle: Oracle, queries: Queries) -> Tensor:
        """RobD and JSD, each in [0, 1] or [0, ln 2]."""
        companions = queries.companions
        return output_distances(companions["probabilities"], oracle.probabilities(queries.inputs), companions["truth"])


def output_distances(owner: Tensor, suspect: Tensor, truth: Tensor) -> Tensor:
    """RobD, the difference of the shares of right answers, and the mean Jensen-Shannon divergence in nats: ``[2]``.

    Shape:
        owner, suspect: probabilities ``[n, classes]``; truth: ``[n]`` int64.
    """
    robustness = [(answers.argmax(1) == truth).float().mean() for answers in (owner, suspect)]
    # JSD is the entropy of the mean less the mean of the entropies; rounding may leave it just below 0.
    entropy = [torch.special.entr(each).sum(1) for each in ((owner + suspect) / 2, owner, suspect)]
    divergence = (entropy[0] - (entropy[1] + entropy[2]) / 2).mean().clamp_min(0)
    return torch.stack([(robustness[0] - robustness[1]).abs(), divergence])


def lower_bounds(distances: Tensor, confidence: float) -> Tensor:
    """One-tailed lower confidence bound of each metric's mean over models, by Student's t; at least 0.

    Shape:
        distances: ``[models, metrics]``, at least two models. Returns ``[metrics]`` float32.
    """
    values = distances.double().numpy()
    error = values.std(0, ddof=1) / np.sqrt(len(values))
    bound = values.mean(0) - stdtrit(len(values) - 1, confidence) * error
    return torch.from_numpy(bound).float().clamp_min(0)


def vote(observed: Representation, alpha: float = 0.9) -> float:
    """The paper's p_copy: the share of metrics whose distance is at most alpha times its bound; a copy above 1/2.

    For reports: a verdict comes from ranking among independent models. The authors take alpha = .9 for the black-box
    and .6 for the white-box metrics.
    """
    return float((observed.values <= alpha).double().mean())
