"""An input autoencoder in front of the stolen copy.

Source: the input reconstruction of Lukas et al., *SoK: How Robust is Image Classification Deep Neural Network
Watermarking?*, IEEE S&P 2022, with 128 latent numbers. It learns to rebuild the thief's pictures, without labels; the
stolen weights stay as they were and see only what is rebuilt. Architecture and rates are ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Le
from torch import Tensor, nn

from whorl.data.base import Dataset
from whorl.errors import UsageError
from whorl.expressions import Call
from whorl.nets.autoencoded import MAX_LATENT, Autoencoded
from whorl.nets.base import Classifier, initialise
from whorl.nets.training import Schedule, fit
from whorl.oracles.base import Oracle
from whorl.removals.base import Removal, stolen_copy
from whorl.settings import Count, Positive

__all__ = ["Autoencode"]


@dataclass(frozen=True)
class Autoencode(Removal):
    """Train an autoencoder with ``latent`` numbers on the thief's pictures and let the copy see through it."""

    family: ClassVar[str] = "input"

    latent: Annotated[int, Ge(1), Le(MAX_LATENT)] = 128
    epochs: Count = 60
    learning_rate: Positive = 0.05

    def outcome(self, architecture: str) -> str:
        """The victim's architecture behind an autoencoder."""
        return str(Call("autoencoded", (), (("member", architecture), ("latent", self.latent))))

    def apply(self, victim: Oracle, data: Dataset, *, generator: torch.Generator) -> nn.Module:
        """The copy behind its autoencoder; its own weights are the victim's."""
        member = stolen_copy(victim)
        if not isinstance(member, Classifier):
            raise UsageError(f"autoencoders stand before a single classifier; {victim.name} is {type(member).__name__}")
        with torch.device("meta"):  # else its weights would be drawn from global chance first
            net = Autoencoded.before(member, self.latent)
        halves = (net.encoder, net.decoder)
        for half in halves:
            half.to_empty(device=next(member.parameters()).device)
            initialise(half, generator)

        def loss(model: nn.Module, inputs: Tensor, index: Tensor) -> Tensor:
            del index
            assert isinstance(model, Autoencoded)
            return model.reconstruction_error(inputs)

        schedule = Schedule(epochs=self.epochs, learning_rate=self.learning_rate, policy="one-cycle", weight_decay=0)
        own = [parameter for half in halves for parameter in half.parameters()]
        fit(net, data, schedule, generator=generator, loss=loss, parameters=own)
        return net
