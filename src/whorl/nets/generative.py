"""Nets that make pictures from latent codes."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from whorl.errors import UsageError
from whorl.nets.base import Decoder, HiddenUnits, chain
from whorl.settings import Count

__all__ = ["VAE"]

REACH: Final = 3.0  # codes 0..1 span the latents -3..3, where the prior has 99.7 % of each
NOISE: Final = 0.1  # spread of a pixel around its mean, in units of [0, 1]


class VAE(Decoder):
    """A small variational autoencoder (Kingma & Welling, ICLR 2014); the model that answers is its decoder.

    Encoder and decoder have two hidden ReLU layers of ``width``. A code c in [0, 1] stands for the latent 6 c - 3: the
    map is linear, so the decoder is piecewise linear in its inputs. Its outputs are the means of Gaussian pixels,
    not squashed into [0, 1]. ``classes`` counts the pixels of the pictures it learns from. It learns at rates about
    0.02; at 0.1 its posterior collapses.
    """

    def __init__(
        self, input_shape: tuple[int, int, int], classes: int, *, latent: Count = 8, width: Count = 64
    ) -> None:
        super().__init__(input_shape, classes)
        if input_shape != (1, 1, latent):
            raise UsageError(f"a vae of {latent} latents takes codes {(1, 1, latent)}, not {input_shape}")
        self.encoder = nn.Sequential(
            nn.Linear(classes, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 2 * latent)
        )
        self.hidden1 = nn.Linear(latent, width)
        self.hidden2 = nn.Linear(width, width)
        self.head = nn.Linear(width, classes)

    def forward(self, codes: Tensor) -> Tensor:
        """Pixels ``[n, classes]`` of codes ``[n, 1, 1, latent]`` in [0, 1]."""
        return self._decode((codes.flatten(1) - 0.5) * 2 * REACH)

    def encode(self, images: Tensor) -> Tensor:
        """The codes of the posterior's means, within [0, 1]."""
        means, _ = self._posterior(images)
        return (means / (2 * REACH) + 0.5).clamp(0, 1)[:, None, None]

    def objective(self, inputs: Tensor, targets: Tensor, generator: torch.Generator) -> Tensor:
        """Minus the evidence lower bound per pixel, with one draw from the posterior; labels are not looked at."""
        del targets
        means, logs = self._posterior(inputs)
        drawn = torch.randn(means.shape, generator=generator).to(means.device)  # on the CPU, where the generator is
        pixels = self._decode(means + drawn * (logs / 2).exp())
        misfit = (pixels - inputs.flatten(1)).square().sum(1) / (2 * NOISE**2)
        divergence = (means.square() + logs.exp() - 1 - logs).sum(1) / 2
        return (misfit + divergence).mean() / self.classes

    def hidden_units(self) -> list[HiddenUnits]:
        """Neurons of the decoder."""
        return chain([self.hidden1, self.hidden2, self.head])

    def _decode(self, latents: Tensor) -> Tensor:
        return self.head(relu(self.hidden2(relu(self.hidden1(latents)))))

    def _posterior(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance ``[n, latent]``."""
        means, logs = self.encoder(images.flatten(1) - 0.5).chunk(2, dim=1)
        return means, logs.clamp(-10, 10)  # a variance that overflows would end training
