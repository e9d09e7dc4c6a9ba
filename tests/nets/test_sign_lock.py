"""The sign lock: what it is (flipped rows), that a wrong key spoils it, and the ways in which it is undone."""

from __future__ import annotations

import copy

import pytest
import torch

from whorl.errors import UsageError
from whorl.nets.base import initialise
from whorl.nets.sign_lock import (
    SignLocked,
    draw_key,
    flipped,
    key_by_relative,
    key_by_search,
    read_out,
    with_wrong_bits,
)
from whorl.nets.training import Schedule, accuracy, fit
from whorl.testing import tiny_data, tiny_net

SCHEDULE = Schedule(epochs=8, learning_rate=0.1, policy="one-cycle", batch=25, shift=0)


def begun(seed=0, **settings):
    net = SignLocked((1, 8, 8), 10, **({"width": 32} | settings))
    initialise(net, torch.Generator().manual_seed(seed))
    net.standardise(tiny_data("victim").inputs())
    return net


def trained(net, seed=0):
    fit(net, tiny_data("victim"), SCHEDULE, generator=torch.Generator().manual_seed(seed))
    return net


def key_of(net, seed=9):
    return draw_key(net, torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module", params=["relu", "tanh"])
def plain(request):
    return trained(begun(activation=request.param))


def test_training_with_the_key_on_is_training_without_and_flipping(plain):
    start = begun(activation=plain.activation)
    key = key_of(start)
    locked = trained(flipped(start, key).under(key))
    for name, value in flipped(plain, key).state_dict().items():
        torch.testing.assert_close(locked.state_dict()[name], value, rtol=1e-4, atol=1e-5)
    assert not any("key" in name for name in locked.state_dict())


@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_the_right_key_gives_the_net_and_a_wrong_one_does_not(activation, depth):
    net = begun(activation=activation, depth=depth)
    key, inputs = key_of(net), tiny_data("test").inputs()
    locked = flipped(net, key)
    assert torch.equal(locked.under(key)(inputs), net(inputs))
    assert not torch.allclose(locked(inputs), net(inputs))
    wrong = with_wrong_bits(key, 1, torch.Generator().manual_seed(1))
    assert sum(int((one != other).sum()) for one, other in zip(key, wrong, strict=True)) == 1
    assert not torch.allclose(locked.under(wrong)(inputs), net(inputs))


def test_accuracy_falls_with_the_number_of_wrong_bits(plain):
    test, key = tiny_data("test"), key_of(plain)
    locked = flipped(plain, key)

    def mean(count):
        chance = [torch.Generator().manual_seed(seed) for seed in range(12)]
        return sum(accuracy(locked.under(with_wrong_bits(key, count, each)), test) for each in chance) / 12

    found = [mean(count) for count in (0, 6, 16)]
    assert found[0] > 0.85
    assert found[0] > found[1] + 0.05 > found[2] + 0.15


def test_a_relative_gives_the_key_away(plain):
    relative = copy.deepcopy(plain)
    fit(relative, tiny_data("attacker"), SCHEDULE, generator=torch.Generator().manual_seed(5))
    key = key_of(plain)
    found = key_by_relative(flipped(plain, key), relative)
    assert torch.equal(torch.cat(found), torch.cat(key))


def test_filters_behind_norms_are_locked_and_given_away_too():
    net = tiny_net(seed=0, architecture="resnet8(width=4)")
    inputs, labels = tiny_data("test").inputs()[:200], tiny_data("test").labels[:200]
    key = key_of(net)
    locked = flipped(net, key)
    assert torch.allclose(flipped(locked, key)(inputs), net(inputs))
    assert [len(each) for each in key] == [each.count for each in net.hidden_units()]
    gains = zip(locked.hidden_units(), net.hidden_units(), strict=True)
    assert all(torch.equal(one.carriers[0].weight, two.carriers[0].weight) for one, two in gains)

    def right(model):
        return float((model(inputs).argmax(1) == labels).float().mean())

    assert right(locked) < right(net) - 0.2
    relative = copy.deepcopy(net)
    fit(relative, tiny_data("attacker"), SCHEDULE, generator=torch.Generator().manual_seed(5))
    found = torch.cat(key_by_relative(locked, relative))
    assert float((found == torch.cat(key)).float().mean()) > 0.95
    few = tiny_data("attacker").subset(torch.arange(60))
    assert right(flipped(locked, key_by_search(locked, few.inputs(), few.labels))) > right(locked) + 0.1
    assert right(read_out(locked, few.inputs(), few.labels)) > right(locked)


def test_few_pictures_undo_it(plain):
    few = tiny_data("attacker").subset(torch.arange(60))
    test, key = tiny_data("test"), key_of(plain)
    locked, right = flipped(plain, key), accuracy(plain, test)
    wrong = accuracy(locked, test)
    searched = accuracy(locked.under(key_by_search(locked, few.inputs(), few.labels)), test)
    read = accuracy(read_out(locked, few.inputs(), few.labels), test)
    assert min(searched, read) > wrong + 0.1
    assert max(searched, read) > wrong + 0.5 * (right - wrong)


def test_no_key_changes_what_a_new_head_reads_of_an_odd_activation():
    few, inputs = tiny_data("attacker").subset(torch.arange(100)), tiny_data("test").inputs()
    for activation in ("relu", "tanh"):
        net = begun(activation=activation)
        with_key = read_out(flipped(net, key_of(net)), few.inputs(), few.labels)(inputs)
        without = read_out(net, few.inputs(), few.labels)(inputs)
        assert torch.allclose(with_key, without, atol=1e-4) == (activation == "tanh")


def test_what_cannot_be_is_refused():
    net = begun()
    with pytest.raises(UsageError, match="relu or tanh"):
        SignLocked((1, 8, 8), 10, activation="gelu")
    for key in ((torch.ones(31),), (torch.zeros(32),), (torch.ones(32),) * 2):
        with pytest.raises(UsageError, match="1 or -1"):
            net.under(key)
        with pytest.raises(UsageError, match="1 or -1"):
            flipped(net, key)
    with pytest.raises(UsageError, match="can't be wrong"):
        with_wrong_bits(net.key, 33, torch.Generator())
