"""Checkpoints of many families, each made once."""

from __future__ import annotations

from pathlib import Path

import pytest
from families import make


@pytest.fixture(scope="session")
def saved(tmp_path_factory):
    """``saved(family, seed)``: the folder that `transformers` writes."""
    folders: dict[tuple[str, int], Path] = {}

    def save(family: str, seed: int = 0) -> Path:
        if (family, seed) not in folders:
            folder = tmp_path_factory.mktemp(f"{family}-{seed}")
            make(family, seed).save_pretrained(folder)
            folders[family, seed] = folder
        return folders[family, seed]

    return save
