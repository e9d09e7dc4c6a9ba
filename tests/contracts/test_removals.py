"""Every removal of the catalog keeps the contract, and the check finds a removal that breaks it."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch

from whorl.oracles.filtered import FILTERS
from whorl.removals import REMOVALS, Removal
from whorl.testing import check_removal
from whorl.types import Access

FEWER = "only(digits(size=8), classes=[0, 1, 2])"
# Removals that need a setting, and other settings than the default that take another way through the code.
SETTINGS = {
    "adversarial_neuron_pruning": ["adversarial_neuron_pruning(steps=10)"],
    "clip_activations": ["clip_activations(steps=10)"],
    "unlearn_trigger": ["unlearn_trigger(epochs=1, steps=5, restarts=1)"],
    "sharpness_tuning": ["sharpness_tuning(epochs=1)"],
    "answer_poisoned": ["answer_poisoned", "answer_poisoned(epsilon=1.0, keep_label=false, surrogate=lenet5)"],
    "detect_queries": ["detect_queries(lie='runner-up')", "detect_queries(lie=permuted)"],
    "filter_inputs": [f"filter_inputs({kind})" for kind in FILTERS],
    "misinform": ["misinform", "misinform(pool='corrupt(digits(size=8))', decoy_epochs=1)"],
    "active": [
        f"active('mlp(width=16)', strategy={strategy}, budget=60, rounds=2, epochs=1)"
        for strategy in ("uncertainty", "k-centre", "deepfool-k-centre")
    ],
    "hide": ["hide(share=0.05, epochs=1)", "hide(method=null_space, energy=0.999, epochs=1)"],
    "trojan": ["trojan(each=2, epochs=1)", "trojan(pictures=own, epochs=1)"],
    "jacobian": [
        "jacobian('mlp(width=16)', seeds=40, rounds=2, doublings=1, reservoir=20, epochs=1)",
        "jacobian('mlp(width=16)', probabilities, seeds=40, rounds=2, period=1, epochs=1)",
    ],
    "knockoff": [
        "knockoff('mlp(width=16)', epochs=1)",
        "knockoff('mlp(width=16)', probabilities, policy=adaptive, budget=60, epochs=1)",
        "knockoff('mlp(width=16)', pool='textures(size=16, images=100)', policy=adaptive, budget=60, epochs=1)",
    ],
    "data_free": [f"data_free('mlp(width=16)', budget=700, recovery={kind})" for kind in ("mean", "minimum", "none")],
    "distil": ["distil('mlp(width=16)', epochs=1)"],
    "extract": ["extract('mlp(width=16)', epochs=1)", "extract('mlp(width=16)', probabilities, epochs=1)"],
    "fine_tune": ["fine_tune(all)", "fine_tune(last)"],
    "recover_relu": ["recover_relu(width=8, lines=2, budget=2000)"],
    "retrain": ["retrain(all)", "retrain(last)"],
    "transfer": [
        f"transfer(only('digits(size=8)', classes=[0, 1, 2, 3, 4]), layers={share}, epochs=1)" for share in (0.1, 1)
    ],
    "adversarial_train": [f"adversarial_train({method}, epochs=1, iterations=2)" for method in ("pgd", "trades")],
    "extract_adversarial": ["extract_adversarial('mlp(width=16)', epochs=1, hardening_epochs=1, iterations=2)"],
    "unlearn": [
        f"unlearn('forget(digits(size=8))', {method}, epochs=1, cover=1)"
        for method in ("ascent", "random-labels", "fine-tune", "distil", "nothing")
    ],
    "low_rank": ["low_rank(1/4, epochs=2, learning_rate=0.005)"],
    "merge": [f"merge({method}, tasks=3, epochs=1)" for method in ("linear", "task-arithmetic", "ties", "dare")],
    "removal_net": ["removal_net(iterations=10)"],
    "fine_prune": ["fine_prune(epochs=1)"],
    "regularise": ["regularise(decay_epochs=1, epochs=1)"],
    "shift_weights": ["shift_weights(epochs=2, learning_rate=0.01)"],
    "smooth_labels": ["smooth_labels(epochs=2)"],
    "overwrite": ["overwrite('backdoor(epochs=3)', count=10)", "overwrite('uchida(epochs=3)', count=10)"],
    "quantise": [f"quantise({format})" for format in ("fp16", "bf16", "int8", "int4")],
}


@pytest.mark.parametrize("expression", [each for name in REMOVALS for each in SETTINGS.get(name, [name])])
def test_removal_keeps_contract(expression):
    check_removal(REMOVALS.make(expression))


def test_settings_are_of_known_removals():
    assert set(SETTINGS) <= set(REMOVALS)


@dataclass(frozen=True)
class Copy(Removal):
    family: ClassVar[str] = "none"

    def apply(self, victim, data, *, generator):
        return copy.deepcopy(victim.module)


def test_unregistered_removal_passes():
    check_removal(Copy())


class NoDataclass(Copy):
    def __init__(self, strength=1):
        object.__setattr__(self, "strength", strength)


@dataclass(frozen=True)
class Borrows(Copy):
    def apply(self, victim, data, *, generator):
        return victim.module


@dataclass(frozen=True)
class Writes(Copy):
    def apply(self, victim, data, *, generator):
        victim.module.head.bias.data.zero_()
        return super().apply(victim, data, generator=generator)


@dataclass(frozen=True)
class Updates(Copy):
    """Moves the norms of the victim by a forward pass in training mode."""

    def apply(self, victim, data, *, generator):
        victim.module(data.inputs(slice(0, 5)))
        return super().apply(victim, data, generator=generator)


@dataclass(frozen=True)
class GlobalChance(Copy):
    def apply(self, victim, data, *, generator):
        net = super().apply(victim, data, generator=generator)
        net.head.bias.data.add_(torch.randn(10))
        return net


@dataclass(frozen=True)
class Remembers(Copy):
    calls: ClassVar[list[int]] = []

    def apply(self, victim, data, *, generator):
        self.calls.append(0)
        net = super().apply(victim, data, generator=generator)
        net.head.bias.data.add_(len(self.calls))
        return net


@dataclass(frozen=True)
class AsksFirst(Copy):
    needs: ClassVar[Access] = Access.LABELS

    def apply(self, victim, data, *, generator):
        victim.labels(data.inputs(slice(0, 5)))
        return super().apply(victim, data, generator=generator)


@dataclass(frozen=True)
class WrongShape(Copy):
    def apply(self, victim, data, *, generator):
        net = super().apply(victim, data, generator=generator)
        net.head.weight.data = net.head.weight.data[:3]
        net.head.bias.data = net.head.bias.data[:3]
        return net


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        (NoDataclass(), "takes .* and stores"),
        (Borrows(), "training mode|shares memory"),
        (Writes(), "writes to the victim: head.bias"),
        (Updates(), "running_mean"),
        (GlobalChance(), "global random state"),
        (Remembers(), "another head.bias for the same seed"),
        (AsksFirst(), "before it refuses LABELS"),
        (WrongShape(), "answers"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Removal) else "",
)
def test_broken_promises_are_named(broken, says):
    with pytest.raises(AssertionError, match=says) as caught:
        check_removal(broken)
    assert "\n" not in str(caught.value)
