"""Pictures that the victim learned, pictures that nobody learned, and walks of noise that start from them.

Paper: P. Maini, M. Yaghini, N. Papernot, *Dataset Inference: Ownership Resolution in Machine Learning*, ICLR 2021,
section 5 (Blind Walk) and appendix.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
from annotated_types import Ge
from torch import Tensor

from whorl.data.base import Dataset
from whorl.errors import UsageError
from whorl.layouts import Layout
from whorl.oracles.base import Oracle
from whorl.queries.base import Sampler, draw
from whorl.queries.perceptron import perceptron, respond, unpack
from whorl.settings import Count, Positive
from whorl.types import Queries

__all__ = ["Members", "fit_regressor", "regress", "walks"]

LAWS = {"uniform": 0.005, "normal": 0.005, "laplace": 0.01}  # scale of one unit step, in units of [0, 1]

BLOCK = 100  # pictures whose walks are in memory at once while the regressor learns


@dataclass(frozen=True, kw_only=True)
class Members(Sampler):
    """Half of the queries are the victim's training pictures, half are pictures it never saw.

    A regressor learns on other such pictures, with the victim's own answers, to tell the two kinds by how far each
    lies from the boundary; its weights go to ``shared``.

    Parameters:
        fit: pictures of either kind to learn from, at most; as many of each.
        hidden, rounds, learning_rate: width, full-batch steps and step size of the regressor.
    """

    part: ClassVar[str] = "victim+queries"
    tensors: ClassVar[Mapping[str, Layout]] = {
        "inputs": Layout("n *input", "input"),
        "companions/truth": Layout("n", "int64", 0, "k"),
        "companions/public": Layout("n", "bool"),
        "shared/mean": Layout("features"),
        "shared/spread": Layout("features", low=1e-30),
        "shared/regressor.0.weight": Layout("hidden features"),
        "shared/regressor.0.bias": Layout("hidden"),
        "shared/regressor.1.weight": Layout("1 hidden"),
        "shared/regressor.1.bias": Layout("1"),
    }

    fit: Annotated[int, Ge(2)] = 500
    hidden: Count = 100
    rounds: Count = 1000
    learning_rate: Positive = 0.1

    @abstractmethod
    def starts(self, pictures: Tensor, generator: torch.Generator) -> Tensor:
        """What is asked about pictures ``[n, c, h, w]``: inputs ``[n, c, h, w]`` or ``[n, m, c, h, w]``."""

    @abstractmethod
    def distances(self, oracle: Oracle, inputs: Tensor, truth: Tensor) -> Tensor:
        """Features ``[n, d]`` of how far each picture lies from the oracle's boundary."""

    def sample(self, victim: Oracle, data: Dataset, *, budget: int, generator: torch.Generator) -> Queries:
        """Starts or walks with the true class of each picture and whether it is ``public``."""
        if data.origin is None or budget < 4:
            raise UsageError(
                "dataset inference compares pictures that trained the victim with others, two or more of each: give "
                "part='victim+queries', or whorl.data.base.join(private, public), and a budget of at least 4"
            )
        counts = (budget - budget // 2, budget // 2)
        kinds = [data.subset(data.origin == kind) for kind in (0, 1)]
        fit = min(self.fit, *(len(kind) - count for kind, count in zip(kinds, counts, strict=True)))
        if fit < 2:
            raise UsageError(
                f"{budget} queries leave no picture to learn from: there are {len(kinds[0])} private and "
                f"{len(kinds[1])} public ones; give more, or ask for fewer queries"
            )
        asked, learned = zip(
            *(_divide(kind, count, fit, generator) for kind, count in zip(kinds, counts, strict=True)), strict=True
        )
        known, truth, public = _together(learned)
        blocks = zip(known.split(BLOCK), truth.split(BLOCK), strict=True)
        features = torch.cat([self.distances(victim, self.starts(some, generator), true) for some, true in blocks])
        shared = fit_regressor(
            features, public, self.hidden, rounds=self.rounds, learning_rate=self.learning_rate, generator=generator
        )
        score = regress(shared, features)
        told = float(((score > score.median()) == public).float().mean())
        notes: dict[str, Any] = {"fitted_on": 2 * fit, "told_apart_when_fitted": told}
        pictures, truth, public = _together(asked)
        return Queries(self.starts(pictures, generator), {"truth": truth, "public": public}, notes, shared)


def _divide(data: Dataset, first: int, second: int, generator: torch.Generator) -> tuple[Dataset, Dataset]:
    chosen = draw(data, first + second, generator)
    return data.subset(chosen[:first]), data.subset(chosen[first:])


def _together(kinds: tuple[Dataset, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """Pictures, true classes, and whether each is public."""
    private, public = kinds
    inputs, truth = torch.cat([private.inputs(), public.inputs()]), torch.cat([private.labels, public.labels])
    return inputs, truth, torch.arange(len(truth)) >= len(private)


def walks(pictures: Tensor, directions: int, steps: int, reach: float, generator: torch.Generator) -> Tensor:
    """Each picture followed by straight walks away from it, ``directions`` for each law of noise.

    A step is a fixed draw of uniform, normal or Laplace noise; the k-th of ``steps`` multiplies it by a number that
    grows geometrically from 1 to ``reach``, and the box [0, 1] cuts what leaves it.

    Shape:
        pictures: ``[n, c, h, w]``. Returns ``[n, 1 + 3 * directions * steps, c, h, w]``.
    """
    shape = (len(pictures), directions, *pictures.shape[1:])
    sign = 2 * torch.rand(shape, generator=generator) - 1
    normal = torch.randn(shape, generator=generator)
    even = torch.rand(shape, generator=generator) - 0.5
    laplace = -even.sign() * (1 - 2 * even.abs()).clamp_min(torch.finfo(even.dtype).tiny).log()
    noise = torch.cat([scale * drawn for scale, drawn in zip(LAWS.values(), (sign, normal, laplace), strict=True)], 1)
    growth = torch.logspace(0, 1, steps, base=reach).view(1, 1, steps, 1, 1, 1)
    walked = (pictures[:, None, None] + noise[:, :, None] * growth).clamp_(0, 1)
    return torch.cat([pictures[:, None], walked.flatten(1, 2)], 1)


def fit_regressor(
    features: Tensor,
    public: Tensor,
    hidden: int,
    *,
    rounds: int,
    learning_rate: float,
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """Weights that answer high for public pictures, low for private ones: full-batch descent on -mean((2y - 1) g).

    Shape:
        features: ``[n, d]``; public: ``[n]`` bool. Returns what `regress` reads.
    """
    mean, spread = features.mean(0), features.std(0).clamp_min(1e-6)
    known = (features - mean) / spread
    sign = 2.0 * public - 1
    weights = {name: value.requires_grad_() for name, value in perceptron([len(mean), hidden, 1], generator).items()}
    for _ in range(rounds):
        loss = -(sign * respond(weights, known)[:, 0].tanh()).mean()
        slopes = torch.autograd.grad(loss, list(weights.values()))
        with torch.no_grad():
            for weight, slope in zip(weights.values(), slopes, strict=True):
                weight -= learning_rate * slope
    learned = {f"regressor.{name}": value.detach() for name, value in weights.items()}
    return {"mean": mean, "spread": spread, **learned}


def regress(shared: Mapping[str, Tensor], features: Tensor) -> Tensor:
    """Scores ``[n]`` in (-1, 1) of features ``[n, d]``; high means public."""
    known = (features - shared["mean"]) / shared["spread"]
    return respond(unpack(shared, "regressor"), known)[:, 0].tanh()
