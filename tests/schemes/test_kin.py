"""Who was made from whom, by weights alone: tunes are kin, however long they learned, and strangers are not."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from whorl.nets.training import Schedule, fit
from whorl.oracles.torch import TorchOracle
from whorl.removals import REMOVALS
from whorl.schemes import kin as room
from whorl.schemes.kin import kin
from whorl.testing import tiny_data, tiny_net, tiny_victim
from whorl.types import Access


def oracle(net, access=Access.WEIGHTS):
    return TorchOracle(net, input_shape=(1, 8, 8), classes=10, access=access)


def tunes(net, count, epochs=1):
    tune = REMOVALS.make(f"fine_tune(all, epochs={epochs})")
    data = tiny_data("attacker")
    return [tune(oracle(net), data, generator=torch.Generator().manual_seed(seed)) for seed in range(count)]


def drawn(seed, *widths):
    torch.manual_seed(seed)
    layers = [nn.Linear(one, other) for one, other in zip((64, *widths), (*widths, 10), strict=True)]
    return nn.Sequential(nn.Flatten(), *(part for layer in layers for part in (layer, nn.ReLU())))


@pytest.mark.parametrize("architecture", ["mlp(width=32)", "resnet8(width=4)"])
@pytest.mark.parametrize("epochs", [1, 20])
def test_tunes_are_kin_however_long_they_learned_and_strangers_are_not(architecture, epochs):
    strangers = [tiny_net(seed=seed, architecture=architecture) for seed in range(3)]
    first, second = tunes(strangers[0], 3, epochs), tunes(strangers[1], 2, epochs)
    nets = [first[0], second[0], strangers[2], first[1], strangers[1], second[1], first[2]]
    assert kin(list(map(oracle, nets))) == [[0, 3, 6], [1, 4, 5]]
    assert kin([oracle(net, Access.LOGITS) for net in nets]) == []


def test_runs_from_one_initialisation_are_kin():
    runs = [drawn(5, 32) for _ in range(2)]
    for seed, run in enumerate(runs):
        schedule = Schedule(epochs=10, learning_rate=0.1, policy="one-cycle")
        fit(run, tiny_data("victim"), schedule, generator=torch.Generator().manual_seed(seed))
    assert kin([oracle(run) for run in (*runs, drawn(6, 32))]) == [[0, 1]]


def test_the_order_of_families_and_what_is_no_net_change_nothing():
    mine = oracle(tiny_net(seed=1, architecture="mlp(width=32)"))
    other = tiny_victim(architecture="resnet8(width=4)")
    assert kin([other, mine, mine]) == [[1, 2]]
    assert kin([mine]) == kin([]) == []
    assert kin([oracle(drawn(0, 6)), oracle(drawn(0, 6))]) == [], "too few units to tell"


def test_hundreds_of_strangers_are_no_kin():
    """79,800 pairs and two layers: at the level of a single pair one or two would be."""
    assert kin([oracle(drawn(seed, 24, 24)) for seed in range(400)]) == []


def test_how_often_strangers_are_taken_for_kin(monkeypatch):
    """At a level of .5 over all 200 pairs, one after the other: the bound is not reached, and not exceeded."""
    monkeypatch.setattr(room, "ALPHA", 0.5)
    found = sum(kin([oracle(drawn(2 * seed, 16)), oracle(drawn(2 * seed + 1, 16))]) != [] for seed in range(200))
    assert found <= 120  # .5 of 200, and three standard errors
    monkeypatch.setattr(room, "ALPHA", 1.0)
    assert kin([oracle(drawn(0, 16)), oracle(drawn(1, 16))]) == [[0, 1]], "a test that is never passed shows nothing"


def test_numbers_that_are_none_cost_nothing():
    broken = drawn(0, 32)
    broken[1].weight.data[3] = torch.nan
    assert kin([oracle(broken), oracle(drawn(1, 32))]) == []
