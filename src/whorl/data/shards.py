"""Which shard of a data set a picture belongs to, from the picture alone."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

__all__ = ["shard_of"]


def shard_of(images: Tensor, shards: int) -> Tensor:
    """The shard of each picture, from its bytes, so that it stays where it is when others are withdrawn.

    Shape:
        images: ``[n, c, h, w]`` float32 in [0, 1].
        returns: ``[n]`` whole numbers from 0 to ``shards - 1``.
    """
    rows = images.contiguous().flatten(1).numpy()
    drawn = [hashlib.blake2b(row.tobytes(), digest_size=8).digest() for row in rows]
    return torch.tensor([int.from_bytes(key, "little") % shards for key in drawn])
