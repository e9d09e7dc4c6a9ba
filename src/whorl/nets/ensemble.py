"""Several nets that answer together, each trained on a shard of the pictures of its own.

An ensemble of extracted models hides behind the average of its members; trained by its owner, it is SISA (Bourtoule et
al., IEEE S&P 2021, arXiv 1912.03837): to forget a picture, only the member of its shard is trained anew.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Annotated, ClassVar, Final

import torch
from annotated_types import Ge, Le
from torch import Tensor, nn
from torch.nn.functional import nll_loss

from whorl.data.shards import shard_of
from whorl.errors import UsageError
from whorl.nets.base import HiddenUnits, Net
from whorl.settings import NetName
from whorl.types import Task

__all__ = ["Ensemble"]

MAX_MEMBERS: Final = 64  # a model file names their number, and a lying one must not build for ever
Members = Annotated[int, Ge(1), Le(MAX_MEMBERS)]


class Ensemble(Net):
    """The mean of the class probabilities of ``members`` nets of the architecture ``member``.

    Shape:
        forward: ``[n, c, h, w]`` in [0, 1] to log-probabilities ``[n, classes]``.
    """

    task: ClassVar[Task] = "classification"

    def __init__(
        self,
        input_shape: tuple[int, int, int],
        classes: int,
        *,
        member: NetName = "resnet8",
        members: Members = 3,
    ) -> None:
        from whorl.nets import NETS

        super().__init__(input_shape, classes)
        made = [NETS.make(member, input_shape=input_shape, classes=classes) for _ in range(members)]
        if not all(
            isinstance(net, Net) and net.task == "classification" and type(net) is not type(self) for net in made
        ):
            raise UsageError(f"the members of an ensemble are single classifiers of the catalog, not {member}")
        self.members = nn.ModuleList(made)

    def forward(self, inputs: Tensor) -> Tensor:
        """The logarithm of the mean probability ``[n, classes]``."""
        each = torch.stack([member(inputs).log_softmax(1) for member in self.members])
        return each.logsumexp(0) - math.log(len(self.members))

    def objective(self, inputs: Tensor, targets: Tensor, generator: torch.Generator) -> Tensor:
        """Cross-entropy of the mean; training goes member by member instead (`shards`)."""
        del generator
        return nll_loss(self(inputs), targets)

    def hidden_units(self) -> list[HiddenUnits]:
        """Those of every member."""
        return [units for member in self._nets() for units in member.hidden_units()]

    def shards(self, images: Tensor) -> Iterator[tuple[Net, Tensor]]:
        """Each member and the positions ``[m]`` of its pictures.

        Shape:
            images: ``[n, c, h, w]`` float32 in [0, 1].
        """
        shard = shard_of(images, len(self.members))
        for number, member in enumerate(self._nets()):
            yield member, (shard == number).nonzero().flatten()

    def standardise(self, images: Tensor) -> None:
        """Each member takes mean and spread from its own shard of ``images`` ``[n, c, h, w]`` in [0, 1]."""
        for member, positions in self.shards(images):
            member.standardise(images[positions])

    def _nets(self) -> Iterator[Net]:
        for member in self.members:
            assert isinstance(member, Net)
            yield member
