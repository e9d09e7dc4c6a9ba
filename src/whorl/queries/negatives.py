"""Pictures that the victim gets wrong: errors are more personal than right answers.

Paper: Godinot et al., *Queries, Representation & Detection*, AAAI 2025, section on the Anna Karenina heuristic
(D_neg = {x : h(x) != c(x)}, proposition 1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from whorl.data.base import Dataset
from whorl.errors import UsageError
from whorl.oracles.base import Oracle
from whorl.queries.base import Sampler
from whorl.types import Access, Queries

__all__ = ["Negatives", "cutmix"]


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

    augment: bool = True
    tries: int = 200

    def sample(self, victim: Oracle, data: Dataset, *, budget: int, generator: torch.Generator) -> Queries:
        """Misclassified pictures; the companion ``natural`` says which are not mixtures."""
        before = victim.queries_spent
        order = torch.randperm(len(data), generator=generator)
        images, labels = data.inputs(order), data.labels[order]
        wrong = victim.labels(images) != labels
        found = images[wrong][:budget]
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
            found = torch.cat([found, mixed[(answer != first) & (answer != second)]])[:budget]
            rounds += 1
        if len(found) < budget:
            raise UsageError(
                f"{victim.name} errs too rarely: {len(found)} of {budget} negatives after "
                f"{rounds * max(budget, 64)} CutMix pictures; give more labelled pictures or a smaller budget"
            )
        companions = {"natural": torch.arange(budget) < natural}
        return Queries(found, companions, {"natural_errors": natural, "asked_of_victim": victim.queries_spent - before})


def cutmix(images: Tensor, labels: Tensor, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Paste a random box of one picture into another (Yun et al., ICCV 2019, alpha = 1).

    Shape:
        images: ``[n, c, h, w]``. Returns mixtures ``[count, c, h, w]`` and the labels ``[count]`` of both sources.
    """
    first, second = torch.randint(len(images), (2, count), generator=generator)
    height, width = images.shape[2:]
    side = torch.rand(count, generator=generator).sqrt()  # the box covers a uniformly random share of the picture
    centre = torch.rand(2, count, generator=generator)
    rows, columns = torch.arange(height), torch.arange(width)
    inside_y = ((rows + 0.5) / height - centre[0, :, None]).abs() <= side[:, None] / 2
    inside_x = ((columns + 0.5) / width - centre[1, :, None]).abs() <= side[:, None] / 2
    box = (inside_y[:, :, None] & inside_x[:, None, :])[:, None]
    return torch.where(box, images[second], images[first]), labels[first], labels[second]
