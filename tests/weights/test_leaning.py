"""Nets that began at the identity, or had skips folded into kernels: rows stand where columns do, in strangers too."""

from __future__ import annotations

import math

import pytest
import torch
from safetensors.torch import save_file

from whorl.checkpoints.checkpoint import Checkpoint
from whorl.checkpoints.opening import open_checkpoint
from whorl.weights.comparison import compare
from whorl.weights.exchangeable import SLANTED, lean_alike, leaning
from whorl.weights.unnamed import by_name

SHAPES = {"a matrix": (48, 48, 1), "a kernel": (16, 16, 9), "a wider one": (64, 32, 9)}


def drawn(shape, seed, size=0.0, shift=0):
    """Normal numbers, with so much on one diagonal, at the middle of the kernel."""
    value = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    rows = torch.arange(shape[0])
    value[rows, (rows + shift) % shape[1], shape[2] // 2] += size
    return value


@pytest.fixture
def held(tmp_path):
    def hold(seed, size, tune=0.0):
        state = {}
        for layer in range(4):
            value = drawn((32, 32, 9), 10 * seed + layer, size) + tune * drawn((32, 32, 9), 90 + layer)
            state[f"stages.{layer}.conv.weight"] = value.view(32, 32, 3, 3)
        path = tmp_path / f"{seed}-{size}-{tune}.safetensors"
        save_file(state, path)
        return open_checkpoint(path)

    return hold


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("shift", [0, 7])
def test_a_diagonal_stands_out_where_there_is_one(shape, shift):
    size = 4.0 if shift else 1.2
    ours, theirs = drawn(shape, 1, size, shift), drawn(shape, 2, size, shift)
    told = leaning(ours)
    assert told.shape == shape[1:]
    assert divmod(int(told.argmax()), shape[2]) == (shift, shape[2] // 2)
    if shape[0] > 16 or not shift:  # sixteen rows tell their main diagonal alone
        assert lean_alike(ours, theirs)
    assert not lean_alike(ours, drawn(shape, 3)), "in one of the two alone"
    assert not lean_alike(ours, drawn(shape, 2, -size, shift)), "of the other sign"


def test_few_tensors_without_one_are_left_out():
    nets = [drawn((32, 32, 9), seed) for seed in range(100)]
    assert sum(lean_alike(net, drawn((32, 32, 9), 1000 + seed)) for seed, net in enumerate(nets)) <= 2
    assert sum(lean_alike(net, net) for net in nets) <= 1, "a copy has the same diagonals, by chance"


def test_what_a_column_or_a_place_of_the_kernel_has_in_all_rows_is_no_diagonal():
    ours, theirs = drawn((32, 32, 9), 1), drawn((32, 32, 9), 2)
    for value in (ours, theirs):
        value[:, :, 4] += 2
        value[:, 5] += 3
    assert not lean_alike(ours, theirs)
    assert not lean_alike(torch.zeros(32, 32, 9), torch.zeros(32, 32, 9))


@pytest.mark.parametrize("size", [4.0, 10.0])
def test_strangers_with_skips_in_their_kernels_are_not_accused(size, held):
    found = compare(held(1, size), held(2, size))
    assert found.decision == "inconclusive"
    assert found.log_p > math.log(0.01)
    assert {each.test for each in found.findings} == {"two matchings"}


def test_what_is_left_out_for_it_is_named(tmp_path):
    nets: list[Checkpoint] = []
    for seed in (1, 2):
        layers = {"0": drawn((48, 90, 1), seed), "1": drawn((48, 48, 1), seed, 4.0), "2": drawn((5, 48, 1), seed)}
        state = {f"{name}.weight": value[:, :, 0].contiguous() for name, value in layers.items()}
        save_file(state, tmp_path / f"{seed}.safetensors")
        nets.append(open_checkpoint(tmp_path / f"{seed}.safetensors"))
    found = by_name(*nets)
    assert found.left_out[0]["1.weight"] == SLANTED == found.left_out[1]["1.weight"]


def test_their_copies_are_found(held):
    found = compare(held(1, 1.5), held(1, 1.5, tune=0.2))
    assert found.decision == "related"


def test_without_skips_places_are_looked_at(held):
    (places,) = [each for each in by_name(held(1, 0.0), held(1, 0.0, tune=0.2)).findings if each.test == "unit places"]
    assert len(places.observations) >= 3
    assert places.log_p < math.log(1e-30)


def test_two_tensors_together_stand_out_as_one_would_that_is_as_large():
    """Of a copy at four standard deviations of either, of strangers at four of their sum over the root of two."""
    near = {"copy": 0, "strangers": 0}
    for step in range(60):
        one = drawn((32, 32, 1), 1, 0.3 + step / 40)
        others = {"copy": one, "strangers": drawn((32, 32, 1), 2, 0.3 + step / 40)}
        for kind, two in others.items():
            alike = float(torch.cosine_similarity(one.flatten(), two.flatten(), 0).clamp(0, 1))
            figure = float(leaning(one)[0] + leaning(two)[0]) / (2 + 2 * alike) ** 0.5
            assert lean_alike(one, two) == (figure > 4)
            near[kind] += 4 < figure < 4.4
    assert min(near.values()) > 0
