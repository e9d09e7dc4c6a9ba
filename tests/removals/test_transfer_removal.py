"""Transfer: another head, some layers tuned, the rest as they were."""

from __future__ import annotations

import pytest
import torch

from whorl.data import SOURCES
from whorl.errors import UsageError
from whorl.nets.training import accuracy
from whorl.removals import REMOVALS
from whorl.testing import tiny_victim

DATA = "only('digits(size=8)', classes=[0, 1, 2, 3])"


def transferred(layers):
    victim = tiny_victim()
    removal = REMOVALS.make(f"transfer({DATA}, layers={layers}, epochs=40, learning_rate=0.1)")
    net = removal(victim, SOURCES.make(DATA).load("attacker"), generator=torch.Generator().manual_seed(0))
    return victim.module, net


@pytest.mark.parametrize("layers", [0.1, 0.5, 1.0])
def test_it_learns_the_new_task_with_the_chosen_layers(layers):
    old, net = transferred(layers)
    assert net.classes == 4
    assert accuracy(net, SOURCES.make(DATA).load("test")) > 0.8
    before, after = list(old.parameters())[:-2], list(net.parameters())[:-2]
    moved = [not torch.equal(one, other) for one, other in zip(before, after, strict=True)]
    wanted = round(layers * (len(moved) + 2)) - 2
    assert moved == [False] * (len(moved) - max(0, wanted)) + [True] * max(0, wanted)


def test_mistakes_are_named():
    with pytest.raises(UsageError, match="layers is a number above 0"):
        transferred(0)
