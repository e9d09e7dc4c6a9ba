"""Random numbers that follow from the question: the same picture meets the same ones, whenever it is asked.

A defender who drew anew at each question could be averaged out by asking again, and what an experiment finds would
depend on the order of its questions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import torch
from torch import Tensor

__all__ = ["normal", "seed_from", "uniform"]


def normal(pictures: Tensor, shape: tuple[int, ...], seed: int) -> Tensor:
    """Standard normal numbers ``[n, *shape]`` float32, drawn from ``seed`` and the bytes of each of n pictures."""
    drawn = torch.empty(len(pictures), *shape)
    for row, generator in zip(drawn, _generators(pictures, seed), strict=True):
        torch.randn(shape, generator=generator, out=row)
    return drawn


def uniform(pictures: Tensor, shape: tuple[int, ...], seed: int) -> Tensor:
    """Numbers ``[n, *shape]`` float32 in [0, 1), drawn from ``seed`` and the bytes of each of n pictures."""
    drawn = torch.empty(len(pictures), *shape)
    for row, generator in zip(drawn, _generators(pictures, seed), strict=True):
        torch.rand(shape, generator=generator, out=row)
    return drawn


def seed_from(generator: torch.Generator) -> int:
    """A seed for the others, drawn from ``generator``."""
    return int(torch.randint(2**62, (), generator=generator))


def _generators(pictures: Tensor, seed: int) -> Iterator[torch.Generator]:
    """One generator, set anew for each picture."""
    generator = torch.Generator()
    salt = seed.to_bytes(8, "little")
    for row in pictures.detach().to("cpu", torch.float32).contiguous():
        key = hashlib.blake2b(row.numpy().tobytes(), digest_size=8, salt=salt).digest()
        yield generator.manual_seed(int.from_bytes(key, "little") >> 1)
