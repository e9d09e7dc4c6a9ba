"""Pictures that the victim gets wrong: errors are more personal than right answers.

Paper: Godinot et al., *Queries, Representation & Detection*, AAAI 2025, section on the Anna Karenina heuristic
(D_neg = {x : h(x) != c(x)}, proposition 1).
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
from whorl.queries.base import PooledSampler, Sampler
from whorl.queries.masks import Masks, hide, superpixels
from whorl.queries.mixtures import cutmix
from whorl.settings import Multiple, Whole
from whorl.types import Access, Queries

__all__ = ["CommonErrors", "MaskedErrors", "MixedErrors", "Negatives"]


@dataclass(frozen=True, kw_only=True)
class Negatives(Sampler):
    """Held-out pictures that the victim misclassifies, then CutMix pictures when those run out.

    A CutMix of two pictures is a negative when the victim's answer is the class of neither, so it is an error
    whichever of the two classes one holds for true. (QuRD mixes misclassified pictures with each other and fails on
    a victim without errors.)

    Parameters:
        augment: whether to fill up with CutMix; without it too few errors are refused.
        tries: CutMix pictures asked per one that is missing, at most.
    """

    needs_victim: ClassVar[Access] = Access.LABELS
    natural: ClassVar[bool] = True
    tensors: ClassVar[Mapping[str, Layout]] = {
        "inputs": Layout("n *input", "input"),
        "companions/natural": Layout("n", "bool"),
        "companions/truth": Layout("n 2", "int64", 0),
    }

    augment: bool = True
    tries: Whole = 200

    def sample(self, victim: Oracle, data: Dataset, *, budget: int, generator: torch.Generator) -> Queries:
        """Misclassified pictures.

        The companion ``natural`` says which are not mixtures; ``truth`` ``[n, 2]`` holds the classes of both sources,
        which are one class for a picture that is no mixture.
        """
        before = victim.queries_spent
        order = torch.randperm(len(data), generator=generator)
        images, labels = data.inputs(order), data.labels[order]
        wrong = victim.labels(images) != labels
        found = images[wrong][:budget]
        truth = labels[wrong][:budget, None].expand(-1, 2)
        natural = len(found)
        if natural < budget and not self.augment:
            raise UsageError(
                f"{victim.name} makes {natural} errors on {len(data)} pictures and {budget} are asked for; "
                "give more labelled pictures, a smaller budget, or augment=true"
            )
        rounds = 0
        while len(found) < budget and rounds < self.tries:
            mixed, first, second = cutmix(images, labels, max(budget, 64), generator)
            answer = victim.labels(mixed)
            neither = (answer != first) & (answer != second)
            found = torch.cat([found, mixed[neither]])[:budget]
            truth = torch.cat([truth, torch.stack([first, second], 1)[neither]])[:budget]
            rounds += 1
        if len(found) < budget:
            raise UsageError(
                f"{victim.name} errs too rarely: {len(found)} of {budget} negatives after "
                f"{rounds * max(budget, 64)} CutMix pictures; give more labelled pictures or a smaller budget"
            )
        companions = {"natural": torch.arange(budget) < natural, "truth": truth.contiguous()}
        return Queries(found, companions, {"natural_errors": natural, "asked_of_victim": victim.queries_spent - before})


@dataclass(frozen=True, kw_only=True)
class MixedErrors(Sampler):
    """CutMix of misclassified pictures with each other, each side turned over by chance (QuRD's NegativeAugment).

    What the victim says of the mixtures is not looked at, as in the paper's program.
    """

    needs_victim: ClassVar[Access] = Access.LABELS
    natural: ClassVar[bool] = True
    tensors: ClassVar[Mapping[str, Layout]] = {
        "inputs": Layout("n *input", "input"),
        "companions/truth": Layout("n 2", "int64", 0),
    }

    def sample(self, victim: Oracle, data: Dataset, *, budget: int, generator: torch.Generator) -> Queries:
        """The mixtures with the classes of both sources. Raises `UsageError` where the victim errs less than twice."""
        wrong = victim.labels(data.inputs()) != data.labels
        if int(wrong.sum()) < 2:
            raise UsageError(
                f"{victim.name} makes {int(wrong.sum())} errors on {len(data)} pictures and mixing takes two; "
                "give more labelled pictures, or use the queries negative"
            )
        mixed, first, second = cutmix(data.inputs(wrong), data.labels[wrong], budget, generator)
        for axis in (2, 3):
            turned = torch.rand(budget, generator=generator) < 0.5
            mixed[turned] = mixed[turned].flip(axis)
        return Queries(mixed, {"truth": torch.stack([first, second], 1)}, {"natural_errors": int(wrong.sum())})


@dataclass(frozen=True, kw_only=True)
class MaskedErrors(Masks):
    """Misclassified pictures (`Negatives`), each with random halves of its superpixels hidden (`Masks`)."""

    part: ClassVar[str] = "queries"

    def sample(self, victim: Oracle, data: Dataset, *, budget: int, generator: torch.Generator) -> Queries:
        """Masked pictures ``[budget, masks, c, h, w]`` with masks and superpixels."""
        beacons = Negatives().sample(victim, data, budget=budget, generator=generator).inputs
        segments = superpixels(beacons, self.segments, self.compactness)
        fill = data.inputs().mean((0, 2, 3))
        return hide(beacons, segments, fill, masks=self.masks, generator=generator)


@dataclass(frozen=True, kw_only=True)
class CommonErrors(PooledSampler):
    """Pictures that the victim and its copies misclassify alike: errors that survive theft (SAC-w).

    Of ``candidates`` times the budget of the victim's errors (`Negatives`), those that most shadow copies err on.

    Paper: Guan, Liang, He, NeurIPS 2022, section 3 (SAC-w). Their copies resemble those under test; here no shadow
    model may be tested.

    Parameters:
        candidates: errors to choose from, in budgets.
        avoid: whether to count against an error the independent shadow models that make it too, which the paper
            does not.
    """

    needs_victim: ClassVar[Access] = Access.LABELS
    natural: ClassVar[bool] = True
    tensors: ClassVar[Mapping[str, Layout]] = {
        "inputs": Layout("n *input", "input"),
        "companions/natural": Layout("n", "bool"),
        "companions/truth": Layout("n 2", "int64", 0),
        "companions/common": Layout("n", "float64", 0, 1),
    }

    candidates: Multiple = 4.0
    avoid: bool = False

    def sample_with(
        self, victim: Oracle, data: Dataset, pool: Pool, *, budget: int, generator: torch.Generator
    ) -> Queries:
        """The errors, the commonest first; the companion ``common`` is the share of copies that err too."""
        pool.require(1, int(self.avoid), "the choice of common errors")
        count = max(budget, round(self.candidates * budget))
        errors = Negatives().sample(victim, data, budget=count, generator=generator)

        def share(models: Sequence[Oracle]) -> Tensor:
            answers = torch.stack([model.labels(errors.inputs) for model in models], 1)
            return (answers[:, :, None] != errors.companions["truth"][:, None]).all(2).double().mean(1)

        common = share(pool.copies)
        worth = common - share(pool.independent) if self.avoid else common
        chosen = worth.argsort(descending=True, stable=True)[:budget]
        kept = errors[chosen]
        return Queries(kept.inputs, {**kept.companions, "common": common[chosen]}, errors.notes)
