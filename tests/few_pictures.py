"""A data set small enough for nets that look at 160 x 160 pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

__all__ = ["few_pictures"]


def few_pictures(root: Path, *, classes: int = 4, each: int = 10, size: int = 16) -> str:
    """Write noisy stripes, one width a class, below ``root``; the expression of that folder as a source."""
    chance = np.random.default_rng(0)
    for label in range(classes):
        folder = root / "pictures" / f"stripes-{label}"
        folder.mkdir(parents=True)
        stripes = 255 * (np.arange(size) // (label + 1) % 2)
        for number in range(each):
            noisy = stripes[None, :, None] * 0.5 + chance.integers(0, 128, (size, size, 3))
            Image.fromarray(noisy.astype(np.uint8)).save(folder / f"{number}.png")
    return f'folder("{root}/pictures", size={size})'
