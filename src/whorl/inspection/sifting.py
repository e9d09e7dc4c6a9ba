"""A net and the pictures that it was trained on, to those of them that look as if they carried a trigger."""

from __future__ import annotations

from typing import Any

from whorl.data import SOURCES, Dataset
from whorl.inspection import naming
from whorl.inspection.sieve import Sieve, Sifted
from whorl.oracles.opening import open_oracle

__all__ = ["sift"]


def sift(
    model: Any,
    data: Dataset | str,
    *,
    statistic: Sieve | str = "activation_clusters",
    clean: Dataset | str | None = None,
    part: str = "victim",
    clean_part: str = "queries+test",
    seed: int = 0,
    **options: Any,
) -> Sifted:
    """Look for pictures that carry a trigger. It judges pictures and no net; `whorl.inspect` judges nets.

    Parameters:
        model: whatever `whorl.open_oracle` takes, with ``options``.
        data: the pictures that it was trained on with their labels, or a source whose ``part`` is taken.
        clean: clean pictures that it was not trained on, or a source whose ``clean_part`` is taken; ``layer_ranks``
            alone needs them.

    Raises:
        AccessRefused: the net grants too little.
        UsageError: net and data do not fit, or clean pictures are lacking or too many.
    """
    asked = naming.sieve(statistic)
    pictures = SOURCES.make(data).load(part) if isinstance(data, str) else data
    known = SOURCES.make(clean).load(clean_part) if isinstance(clean, str) else clean
    return asked(open_oracle(model, **options), pictures, known, seed=seed)
