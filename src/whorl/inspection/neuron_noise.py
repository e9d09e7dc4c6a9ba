"""Neuron noise: where clean pictures fall once noise that hurts most is on the neurons and the benign features are off.

Paper: Xu, Picek et al., *BAN: Detecting Backdoors Activated by Adversarial Neuron Noise*, NeurIPS 2024, arXiv
2405.19928. Each channel of each norm is given (1 + d) on its scale and (1 + d') on its offset, with d and d' in +-eps
climbed by signed steps of the cross-entropy; then a mask of the benign features is learned (`decoupling`), and the
score of a class is the share of clean pictures whose noisy features, without the benign ones, fall into it.

The noise is a multiple of each weight, so that scaling a unit and its readers changes nothing. Nets without norms have
it on the rows of their hidden layers. The authors' code keeps the noise of its last batch and trains in the mode that
moves running statistics; here all pictures are climbed at once and the net stays as it is. They read the histogram by
eye; the rank among clean nets (`whorl.detection.trojans`) decides here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from whorl.data.base import Dataset
from whorl.inspection.base import Scores, Statistic
from whorl.inspection.decoupling import benign_mask
from whorl.inspection.features import NORMS, Cut
from whorl.oracles.torch import TorchOracle
from whorl.settings import Count, NonNegative, Positive, Share
from whorl.types import Access

__all__ = ["NeuronNoise"]


@dataclass(frozen=True, kw_only=True)
class NeuronNoise(Statistic):
    """Share of clean pictures that fall into each class under noise, without the benign features.

    Parameters:
        radius: most that a scale or offset is changed by, as a share of itself.
        steps: signed ascents of the cross-entropy, each of ``radius / steps``.
        restarts: starts of the noise; the shares are their mean.
        batch: clean pictures that the noise climbs on, all at once.
        rounds: passes over the pictures that the mask learns by. mask_batch: pictures in a step of it.
        learning_rate: of the mask. mask_weight: of its size.
    """

    name: ClassVar[str] = "neuron_noise"
    paper: ClassVar[str] = "Xu et al., NeurIPS 2024, arXiv 2405.19928"
    idea: ClassVar[str] = "Noise on the neurons that hurts most drives clean pictures into the class of the trojan."
    blind: ClassVar[str] = "large patches, those of one source class, and whatever else noise does not wake"
    needs: ClassVar[Access] = Access.WEIGHTS
    worse: ClassVar = "large"
    pictures: ClassVar[int] = 64

    radius: Share = 0.3
    steps: Count = 30
    restarts: Count = 4
    batch: Count = 256
    rounds: Count = 20
    mask_batch: Count = 32
    learning_rate: Positive = 0.01
    mask_weight: NonNegative = 0.75

    def scores(self, net: TorchOracle, data: Dataset, *, generator: torch.Generator) -> Scores:
        """Shares of pictures."""
        cut = Cut(net, self.name)
        used = data.subset(torch.randperm(len(data), generator=generator)[: self.batch])
        inputs, labels = used.inputs(), used.labels.to(net.device)
        mask = benign_mask(
            cut,
            cut.seen(inputs),
            labels,
            rounds=self.rounds,
            batch=self.mask_batch,
            learning_rate=self.learning_rate,
            weight=self.mask_weight,
            generator=generator,
        )
        counts = torch.zeros(net.classes, dtype=torch.float64)
        for _ in range(self.restarts):
            noisy = cut.seen(inputs, self._noise(cut, inputs, labels, generator))
            fallen = cut.logits((1 - mask) * noisy).argmax(1).cpu()
            counts += fallen.bincount(minlength=net.classes)
        return Scores(counts / (self.restarts * len(inputs)))

    def _noise(self, cut: Cut, inputs: Tensor, labels: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Weights by name that hurt most within the radius."""
        own = noised(cut)
        noise = {
            name: ((torch.rand(_rows(value), generator=generator) * 2 - 1) * self.radius).to(value)
            for name, value in own.items()
        }
        for _ in range(self.steps):
            for each in noise.values():
                each.requires_grad_()
            lost = cross_entropy(cut.logits(cut.features(inputs, _moved(own, noise))), labels)
            slopes = torch.autograd.grad(lost, list(noise.values()))
            noise = {
                name: (each.detach() + self.radius / self.steps * slope.sign()).clamp(-self.radius, self.radius)
                for (name, each), slope in zip(noise.items(), slopes, strict=True)
            }
        return _moved(own, noise)


def noised(cut: Cut) -> dict[str, Tensor]:
    """Scales and offsets of every norm by name; of a net without norms the weights and biases of its hidden layers."""
    layers = {
        name: each
        for name, each in cut.module.named_modules()
        if isinstance(each, (*NORMS, nn.Conv2d, nn.Linear)) and each is not cut.head
    }
    norms = {name: each for name, each in layers.items() if isinstance(each, NORMS) and each.weight is not None}
    return {
        f"{name}.{kind}": value
        for name, each in (norms or layers).items()
        for kind, value in each.named_parameters(recurse=False)
    }


def _rows(value: Tensor) -> tuple[int, ...]:
    """One number for each channel of a weight."""
    return (len(value), *[1] * (value.ndim - 1))


def _moved(own: dict[str, Tensor], noise: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value * (1 + noise[name]) for name, value in own.items()}
