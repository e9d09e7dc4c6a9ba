"""Nets without roles: what is paired, which axes count as hidden, and copies in another order."""

from __future__ import annotations

import math

import pytest
import torch
from safetensors.torch import save_file

from whorl.checkpoints.opening import open_checkpoint
from whorl.nets.training import build
from whorl.symmetry.obfuscation import obfuscate, rescale, shuffle
from whorl.weights.comparison import compare
from whorl.weights.exchangeable import Axes, has_order
from whorl.weights.unnamed import TENSORS, by_name, hidden_rows, paired_tensors

NETS = ("mlp(width=32,depth=3)", "vgg(width=8)", "resnet8(width=8)", "lenet5", "mobilenet(width=8)")


def net_of(architecture, seed):
    return build(architecture, (1, 16, 16), 10, torch.Generator().manual_seed(seed))


@pytest.fixture
def held(tmp_path):
    def hold(state, name):
        state = state if isinstance(state, dict) else state.state_dict()
        save_file({key: value.contiguous() for key, value in state.items()}, tmp_path / f"{name}.safetensors")
        return open_checkpoint(tmp_path / f"{name}.safetensors")

    return hold


def axes(net):
    return Axes(net, net.entries)


def each_of(one, two):
    return {each.test: each for each in by_name(one, two).findings}


@pytest.mark.parametrize("architecture", NETS)
def test_a_net_in_another_order_is_found_by_two_matchings_alone(architecture, held):
    net = net_of(architecture, 1)
    chance = torch.Generator().manual_seed(2)
    copy = rescale(shuffle(net, generator=chance), generator=chance)
    found = each_of(held(net, "a"), held(copy, "b"))
    assert found["two matchings"].log_p < math.log(1e-6)
    assert all(found[name].log_p > math.log(0.01) for name in found if name != "two matchings")
    assert len(found) > 1
    assert not found["two matchings"].exact
    whole = compare(held(net, "a"), held(copy, "b"), layers=0)
    # the depthwise layers of a MobileNet have units on one axis alone, so that nothing but their order is looked at
    assert whole.decision == ("part reused" if architecture.startswith("mobilenet") else "related")
    assert not whole.exact


@pytest.mark.parametrize("architecture", NETS)
def test_strangers_are_not_accused(architecture, held):
    found = each_of(held(net_of(architecture, 1), "a"), held(net_of(architecture, 3), "b"))
    assert {each.log_p > math.log(0.01) for each in found.values()} == {True}


@pytest.mark.parametrize("turned", [False, True])
def test_a_tensor_that_a_net_holds_twice_is_no_second_witness(turned, held):
    """As a module has that is kept under two names; copies are told all the same, by the others."""

    def net(seed):
        chance = torch.Generator().manual_seed(seed)
        layers = {f"{place}.conv.weight": torch.randn(48, 48, generator=chance) for place in range(4)}
        twins = {name.replace("conv", "causal"): value.T if turned else value for name, value in layers.items()}
        return layers | {name: value.clone(memory_format=torch.contiguous_format) for name, value in twins.items()}

    ours = net(0)
    assert each_of(held(ours, "a"), held(net(1), "b"))["two matchings"].log_p > math.log(0.01)
    order = torch.randperm(48, generator=torch.Generator().manual_seed(2))
    moved = {name: value[order][:, order] for name, value in ours.items()}
    assert each_of(held(ours, "c"), held(moved, "d"))["two matchings"].log_p < math.log(1e-6)


@pytest.mark.parametrize("units", [16, 24, 48])
def test_features_of_a_small_task_that_both_nets_learned_are_no_copy(units, held):
    """Eight units of each layer are wired alike, to each other; the rest were drawn, and each net has an order."""
    chance = torch.Generator().manual_seed(units)
    names = ("0.weight", "1.weight", "2.weight")
    ours, theirs = ({name: torch.randn(units, units, generator=chance) for name in names} for _ in "ab")
    learned = [torch.randn(8, 8, generator=chance) for _ in names]
    for net in (ours, theirs):
        orders = [torch.randperm(units, generator=chance) for _ in range(4)]
        for layer, name in enumerate(names):
            net[name][:8] *= 0.05
            net[name][:, :8] *= 0.05
            net[name][:8, :8] = learned[layer]
            net[name] = net[name][orders[layer + 1]][:, orders[layer]]
    found = each_of(held(ours, "a"), held(theirs, "b"))["two matchings"]
    assert found.log_p > math.log(0.01)
    assert max(each.share for each in found.observations) * units > 5, "the features are found"


def test_equal_tensors_of_an_export_count_where_a_trained_vector_is_equal_under_another_name(held):
    chance = torch.Generator().manual_seed(3)

    def drawn(*shape):
        return torch.randn(shape, generator=chance)

    layer = drawn(40, 24)
    ours = {"a.0.weight": layer, "a.1.weight": drawn(24, 40), "a.2.weight": drawn(24, 24), "a.0.bias": drawn(40)}
    theirs = {"b_7": layer, "b_8": drawn(24, 40), "b_9": drawn(24, 24), "b_10": drawn(40)}
    given = by_name(held(ours, "a"), held(theirs, "b"))
    assert all(each.log_p > math.log(0.01) for each in given.findings), "a constant that both were given"
    found = each_of(held(ours, "a"), held(theirs | {"b_10": ours["a.0.bias"]}, "b"))
    assert min(each.log_p for each in found.values()) < math.log(1e-6)


def test_a_wider_copy_is_found(held):
    net = net_of("vgg(width=8)", 1)
    chance = torch.Generator().manual_seed(2)
    copy = shuffle(obfuscate(net, generator=chance), generator=chance)
    found = each_of(held(net, "a"), held(copy, "b"))
    assert found["two matchings"].log_p < math.log(1e-6)
    assert each_of(held(copy, "b"), held(net, "a"))["two matchings"].log_p < math.log(1e-6)


def test_pixels_and_classes_are_no_hidden_units(held):
    net = held(net_of("mlp(width=32,depth=3)", 1), "a")
    assert [pair.ours for pair in hidden_rows(axes(net), axes(net))] == [f"layers.{layer}.weight" for layer in range(3)]
    (matched,) = [each for each in by_name(net, net).findings if each.test == "two matchings"]
    assert {each.name for each in matched.observations} == {"layers.1.weight", "layers.2.weight"}


def test_a_head_does_not_make_its_own_classes_hidden(held):
    state = {"hidden.weight": torch.randn(10, 30), "head.weight": torch.randn(10, 10)}
    net = held(state, "a")
    assert [pair.ours for pair in hidden_rows(axes(net), axes(net))] == ["hidden.weight"]


def test_a_flattened_map_has_its_channels_as_units(held):
    net = held(net_of("lenet5", 1), "a")
    (matched,) = [each for each in by_name(net, net).findings if each.test == "two matchings"]
    assert {each.name for each in matched.observations} == {"conv2.weight", "hidden1.weight", "hidden2.weight"}
    assert all(each.share == 1 for each in matched.observations)


def test_tensors_of_other_names_are_paired_by_shape_in_the_order_of_numbers(held):
    net = net_of("vgg(width=8)", 1).state_dict()
    other = {f"backbone.{key.replace('convs', 'conv')}": value for key, value in net.items()}
    one, two = held(net, "a"), held(other, "b")
    assert all(
        pair.theirs.endswith(pair.ours.replace("convs", "conv")) for pair in paired_tensors(axes(one), axes(two))
    )
    assert each_of(one, two)["unit places"].log_p < math.log(1e-6)
    many = {f"layer.{place}.weight": torch.randn(4, 4) for place in range(12)}
    renamed = {f"part.{place}.weight": value for place, value in enumerate(many.values())}
    pairs = paired_tensors(axes(held(many, "a")), axes(held(renamed, "b")))
    assert [pair.ours.replace("layer", "part") for pair in pairs] == [pair.theirs for pair in pairs]
    assert [pair.number for pair in pairs] == list(range(12))


@pytest.mark.parametrize("along", ["rows", "columns"])
def test_a_tensor_with_an_order_of_its_own_does_not_end_the_search_among_others(along, held):
    """The smallest of those with hidden units on both sides has waves along one side; two larger ones are a copy's."""
    chance = torch.Generator().manual_seed(0)
    sizes = (16, 40, 44, 48, 52, 10)
    state = {
        f"body.{at}.weight": torch.randn(sizes[at + 1], sizes[at], generator=chance) for at in range(len(sizes) - 1)
    }
    count, others = (44, 40) if along == "rows" else (40, 44)
    lengths = torch.linspace(0.02, 0.2, others)[torch.randperm(others, generator=chance)]
    waves = torch.sin(torch.arange(count)[:, None] * lengths)
    waves = waves if along == "rows" else waves.T
    assert [has_order(waves), has_order(waves.T)] == [along == "rows", along == "columns"]
    state["body.1.weight"] = waves + 0.1 * state["body.1.weight"]
    orders = [torch.arange(16), *(torch.randperm(size, generator=chance) for size in sizes[1:-1]), torch.arange(10)]
    turned = {name: value[orders[at + 1]][:, orders[at]] for at, (name, value) in enumerate(state.items())}
    found = each_of(held(state, "a"), held(turned, "b"))["two matchings"]
    assert {seen.name for seen in found.observations} == {"body.2.weight", "body.3.weight"}
    assert found.log_p < math.log(1e-6)


def test_of_too_many_tensors_the_smallest_are_matched_on_both_sides(held):
    chance = torch.Generator().manual_seed(0)
    sizes = {f"body.{at}.weight": 16 if at < 2 else 10 for at in range(TENSORS + 2)}
    net = held({name: torch.randn(size, size, generator=chance) for name, size in sizes.items()}, "a")
    found = each_of(net, net)["two matchings"]
    assert {seen.name for seen in found.observations} == {name for name, size in sizes.items() if size == 10}
