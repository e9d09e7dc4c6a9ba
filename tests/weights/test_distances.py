"""How far apart two nets are told to be, and by what: by numbers in place, by matched units, or by nothing."""

from __future__ import annotations

import math

import pytest
import torch
from families import FAMILIES, transformers
from safetensors.torch import save_file
from test_sketches import noisy, perceptron

from whorl.checkpoints.opening import open_checkpoint
from whorl.weights.changes import describe
from whorl.weights.comparison import compare
from whorl.weights.family.distances import APART, chord, distance


def apart(one, two):
    first, second = open_checkpoint(one), open_checkpoint(two)
    found = compare(first, second)
    return found.decision, *distance(first, second, found, 256)


def written(tmp_path, *nets):
    for place, net in enumerate(nets):
        path = tmp_path / f"{place}.safetensors"
        save_file({name: value.contiguous() for name, value in net.items()}, path)
        yield path


def test_the_chord_is_that_between_directions_and_of_near_tensors_their_difference():
    one, other = torch.randn(2, 40, 50, generator=torch.Generator().manual_seed(0))
    one, other = one / one.norm(), other / other.norm()
    for share, factor in ((1e-4, 1), (1e-3, 1), (0.1, 3), (2.0, 3)):
        two = one + share * other
        wanted = float((two / two.norm() - one).norm())
        assert chord([describe("x", [(one, factor * two)], matrix=True)]) == pytest.approx(wanted, rel=0.01)


@pytest.mark.parametrize("factor", [-4, 0, 0.5, 3, 4])
def test_no_net_is_farther_away_than_the_opposite_one(factor):
    one = torch.randn(40, 50, generator=torch.Generator().manual_seed(0))
    assert 0 <= chord([describe("x", [(one, factor * one)], matrix=True)]) <= 2


@pytest.mark.parametrize(("share", "how"), [(1.5, "weights"), (2.0, "units")])
def test_related_nets_are_in_place_down_to_a_cosine_of_a_half(share, how, tmp_path):
    """Noise of so many times the numbers: cosines of .55 and .45."""
    decision, far, by = apart(*written(tmp_path, perceptron(0), noisy(perceptron(0), share)))
    assert (decision, by) == ("related", how)
    if how == "weights":
        assert far == pytest.approx(math.sqrt(2 - 2 / math.sqrt(1 + share**2)), abs=0.02)


def test_strangers_are_as_far_apart_as_nets_with_nothing_in_common(saved, tmp_path):
    """In place, whatever a matching of units would find; and where no two tensors are of one shape, by nothing."""
    decision, far, by = apart(*written(tmp_path, perceptron(0), perceptron(1)))
    assert (decision, by) == ("inconclusive", "weights")
    assert far == pytest.approx(APART, abs=0.03)
    name, settings = FAMILIES["llama"]
    config = getattr(transformers, name)(**settings | {"hidden_size": 24, "intermediate_size": 48})
    with torch.random.fork_rng():
        torch.manual_seed(1)
        transformers.AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "narrow")
    assert apart(saved("llama"), tmp_path / "narrow") == ("inconclusive", APART, "none")


def test_kernels_are_no_partners_the_other_way_round(tmp_path):
    """Most numbers lie in kernels of no common shape, so that what the two nets are is told by their matrices."""
    chance = torch.Generator().manual_seed(0)
    nets = [perceptron(0) | {"kernel": torch.randn(shape, generator=chance)} for shape in ((60, 50, 40), (40, 50, 60))]
    decision, far, by = apart(*written(tmp_path, *nets))
    assert (decision, by) == ("related", "weights")
    assert far == pytest.approx(0, abs=1e-3)
