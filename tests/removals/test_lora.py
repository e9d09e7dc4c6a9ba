"""Updates have exactly their rank, all else stays frozen; cut weights have exactly theirs."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from whorl.errors import UsageError
from whorl.nets.training import accuracy, predict
from whorl.removals import REMOVALS
from whorl.testing import tiny_victim


def apply(expression, victim, data):
    return REMOVALS.make(expression)(victim, data, generator=torch.Generator().manual_seed(0))


def matrices(net):
    """The weight of every convolution and linear layer as ``[filters, rest]``."""
    layers = {name: module for name, module in net.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)}
    return {name: module.weight.detach().double().flatten(1) for name, module in layers.items()}


def updates(net, victim):
    theirs = matrices(victim.module)
    return {name: weight - theirs[name] for name, weight in matrices(net).items()}


def rank(matrix, noise=0.0):
    """Singular values above the rounding of float32, or above ``noise``."""
    sizes = torch.linalg.svdvals(matrix)
    return int((sizes > max(noise, 1e-6 * float(sizes[0]))).sum())


@pytest.mark.parametrize(
    ("architecture", "wanted"),
    [("resnet8(width=4)", 1), ("resnet8(width=4)", 8), ("lenet5", 4), ("mobilenet(width=4)", 2)],
)
def test_each_update_has_exactly_the_rank(architecture, wanted, attacker_data):
    victim = tiny_victim(architecture=architecture)
    theirs = matrices(victim.module)
    found = updates(apply(f"lora(rank={wanted}, epochs=2, learning_rate=0.005)", victim, attacker_data), victim)
    # The update is known up to the rounding of the weights that it was added to.
    ranks = {name: rank(each, 5e-7 * float(theirs[name].norm())) for name, each in found.items()}
    assert ranks == {name: min(wanted, *each.shape) for name, each in found.items()}


def test_all_else_is_frozen(victim, attacker_data):
    net = apply("lora", victim, attacker_data)
    theirs = victim.module.state_dict()
    assert set(net.state_dict()) == set(theirs), "no trace of the update but the weights"
    assert type(net.head) is nn.Linear
    moved = {name for name, tensor in net.state_dict().items() if not torch.equal(tensor, theirs[name])}
    assert moved == {f"{name}.weight" for name in matrices(net)}


def test_alpha_over_rank_scales_the_update(victim, attacker_data):
    """One step moves the second factor by alpha / rank times the gradient, and alpha / rank weighs it once more."""
    few = attacker_data.subset(slice(0, 100))

    def moved(alpha, count=4):
        return updates(apply(f"lora(rank={count}, alpha={alpha}, epochs=1, learning_rate=1e-4)", victim, few), victim)

    none, single, double = moved(0.0), moved(4.0), moved(8.0)
    assert all(float(each.abs().max()) == 0 for each in none.values())
    for name, each in single.items():
        torch.testing.assert_close(double[name], 4 * each, rtol=0.01, atol=0.02 * float(each.abs().max()))


def test_lora_learns(victim, attacker_data, held_out):
    """Other names for the classes, which the victim gets wrong."""
    one, other = (replace(data, labels=(data.labels + 1) % 10) for data in (attacker_data, held_out))
    net = apply("lora(epochs=20)", victim, one)
    before, after = (float(cross_entropy(predict(each, other.inputs()), other.labels)) for each in (victim.module, net))
    assert after < before / 2
    assert accuracy(net, other) > accuracy(victim.module, other) + 0.2


@pytest.mark.parametrize("share", ["1/4", "1/2", "1"])
def test_weights_are_cut_to_the_nearest_of_their_rank(share, victim, attacker_data):
    removal = REMOVALS.make(f"low_rank({share}, epochs=0)")
    net = removal(victim, attacker_data, generator=torch.Generator())
    for name, weight in matrices(victim.module).items():
        left, sizes, right = torch.linalg.svd(weight, full_matrices=False)
        kept = max(1, round(float(removal.rank) * len(sizes)))
        nearest = sum(sizes[k] * torch.outer(left[:, k], right[k]) for k in range(kept))
        torch.testing.assert_close(matrices(net)[name], nearest, rtol=0, atol=1e-4)


def test_the_rank_stays_while_the_copy_is_tuned(victim, attacker_data, held_out):
    cut, tuned = (apply(f"low_rank(1/2, epochs={epochs})", victim, attacker_data) for epochs in (0, 10))
    assert [rank(each) for each in matrices(tuned).values()] == [rank(each) for each in matrices(cut).values()]
    assert set(tuned.state_dict()) == set(victim.module.state_dict())
    assert not torch.equal(cut.blocks[0].norm1.weight, tuned.blocks[0].norm1.weight), "norms are tuned too"
    assert accuracy(tuned, held_out) > max(0.8, accuracy(cut, held_out) + 0.2)


@pytest.mark.parametrize(
    ("expression", "says"),
    [
        ("lora(rank=0)", "at least 1"),
        ("low_rank(0)", "above 0 and at most 1"),
        ("low_rank(3/2)", "above 0 and at most 1"),
    ],
)
def test_ranks_that_are_none_are_refused(expression, says, victim, attacker_data):
    with pytest.raises(UsageError, match=says):
        apply(expression, victim, attacker_data)
