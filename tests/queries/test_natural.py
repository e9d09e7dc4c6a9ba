"""Pictures as they are."""

from __future__ import annotations

import pytest
import torch

from whorl.errors import UsageError
from whorl.queries.natural import Natural


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_different_pictures_of_the_data_with_their_labels(victim, held_out):
    queries = Natural().sample(victim, held_out, budget=50, generator=generator())
    rows = {
        picture.numpy().tobytes(): int(label) for picture, label in zip(held_out.inputs(), held_out.labels, strict=True)
    }
    found = [rows[picture.numpy().tobytes()] for picture in queries.inputs]
    assert found == queries.companions["truth"].tolist()
    assert len(queries.inputs.unique(dim=0)) == 50


def test_noise_fills_the_box(victim, held_out):
    noise = Natural(start="noise").sample(victim, held_out, budget=100, generator=generator()).inputs
    assert noise.shape == (100, 1, 8, 8)
    assert float(noise.mean()) == pytest.approx(0.5, abs=0.02)
    assert float(noise.std()) == pytest.approx(12**-0.5, abs=0.02)


def test_the_victim_is_not_asked(victim, held_out):
    for start in ("natural", "noise"):
        Natural(start=start).sample(victim, held_out, budget=5, generator=generator())
    assert victim.queries_spent == 0


def test_unknown_start_is_refused(victim, held_out):
    with pytest.raises(UsageError, match="natural or noise"):
        Natural(start="zero").sample(victim, held_out, budget=5, generator=generator())
