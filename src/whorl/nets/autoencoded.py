"""A classifier that sees its pictures through an autoencoder, which passes on what pictures have in common.

Source: the input reconstruction of Lukas et al., *SoK: How Robust is Image Classification Deep Neural Network
Watermarking?*, IEEE S&P 2022, with 128 latent numbers. The autoencoder here is one hidden layer on either side of them,
whatever the size of the pictures.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Final

import torch
from annotated_types import Ge, Le
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, relu

from whorl.errors import UsageError
from whorl.nets.base import Classifier, HiddenUnits, Net
from whorl.settings import NetName
from whorl.types import Task

__all__ = ["Autoencoded"]

MAX_LATENT: Final = 100_000  # a model file names it, and a lying one must not fill the memory
Latent = Annotated[int, Ge(1), Le(MAX_LATENT)]


class Autoencoded(Net):
    """``member``, a single classifier, behind an autoencoder with ``latent`` numbers between its two halves.

    Shape:
        forward: ``[n, c, h, w]`` in [0, 1] to logits ``[n, classes]``.
    """

    task: ClassVar[Task] = "classification"
    member: Classifier

    def __init__(
        self, input_shape: tuple[int, int, int], classes: int, *, member: NetName = "resnet8", latent: Latent = 128
    ) -> None:
        from whorl.nets import NETS

        super().__init__(input_shape, classes)
        made = NETS.make(member, input_shape=input_shape, classes=classes)
        if not isinstance(made, Classifier):
            raise UsageError(f"what an autoencoder stands before is a single classifier of the catalog, not {member}")
        self._hold(made, latent)

    @classmethod
    def before(cls, member: Classifier, latent: int) -> Autoencoded:
        """An autoencoder before a classifier that exists."""
        net = cls.__new__(cls)
        Net.__init__(net, member.input_shape, member.classes)
        net._hold(member, latent)
        return net

    def _hold(self, member: Classifier, latent: int) -> None:
        pixels = torch.Size(self.input_shape).numel()
        # The classifier comes last, since whoever looks for the head takes the last linear layer.
        self.encoder = nn.Linear(pixels, latent)
        self.decoder = nn.Linear(latent, pixels)
        self.member = member

    def reconstruct(self, inputs: Tensor) -> Tensor:
        """What the classifier sees of pictures ``[n, c, h, w]``: as many, in [0, 1]."""
        latent = relu(self.encoder(inputs.flatten(1) - 0.5))
        return self.decoder(latent).sigmoid().unflatten(1, self.input_shape)

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits ``[n, classes]`` of the reconstructed pictures."""
        return self.member(self.reconstruct(inputs))

    def objective(self, inputs: Tensor, targets: Tensor, generator: torch.Generator) -> Tensor:
        """Cross-entropy plus the squared error of the reconstruction, summed over pixels."""
        del generator
        return cross_entropy(self(inputs), targets) + self.reconstruction_error(inputs)

    def reconstruction_error(self, inputs: Tensor) -> Tensor:
        """The squared error of `reconstruct`, summed over pixels and averaged over pictures."""
        return (self.reconstruct(inputs) - inputs).square().flatten(1).sum(1).mean()

    def hidden_units(self) -> list[HiddenUnits]:
        """The latent numbers and those of the classifier."""
        return [HiddenUnits(self.encoder, (), self.decoder), *self.member.hidden_units()]

    def standardise(self, images: Tensor) -> None:
        """The classifier takes mean and spread from ``images`` ``[n, c, h, w]`` in [0, 1]."""
        self.member.standardise(images)
