"""What a sketch survives, that strangers do not stand out, and that a damaged one is not trusted."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from whorl.checkpoints.opening import open_checkpoint
from whorl.weights.family.pairs import NEAREST, chosen, chosen_for
from whorl.weights.family.sketches import ENOUGH, Index, Sketch, sketch

STRANGERS = 60
PIXELS, HIDDEN, CLASSES = 64, 96, 20


def perceptron(seed):
    """Three layers: pixels and classes have an order of their own, hidden units have none."""
    chance = torch.Generator().manual_seed(seed)
    sizes = [(HIDDEN, PIXELS), (HIDDEN, HIDDEN), (CLASSES, HIDDEN)]
    return {f"layers.{place}.weight": torch.randn(size, generator=chance) for place, size in enumerate(sizes)}


def noisy(net, share=0.3, seed=99):
    chance = torch.Generator().manual_seed(seed)
    return {name: value + share * torch.randn(value.shape, generator=chance) for name, value in net.items()}


def permuted(net, seed=98):
    chance = torch.Generator().manual_seed(seed)
    one, two = (torch.randperm(HIDDEN, generator=chance) for _ in range(2))
    scale = torch.rand(HIDDEN, generator=chance) * 3 + 0.3
    first, middle, last = net.values()
    moved = (scale[:, None] * first)[one], (middle / scale)[two][:, one], last[:, two]
    return dict(zip(net, moved, strict=True))


def pruned(net):
    return {name: value.where(value.abs() > value.abs().median(), 0.0) for name, value in net.items()}


def narrowed(net):
    first, middle, last = net.values()
    kept = first.norm(dim=1).argsort()[HIDDEN // 4 :].sort().values
    return dict(zip(net, (first[kept], middle[:, kept], last), strict=True))


def rounded(net):
    return {name: (value / value.abs().amax() * 7).round() / 7 for name, value in net.items()}


def renamed(net):
    return {f"x{place}": value for place, value in enumerate(reversed(net.values()))}


def turned(net):
    return {name: value.T.contiguous() for name, value in net.items()}


def merged(net):
    other = perceptron(501)
    return {name: (value + other[name]) / 2 for name, value in net.items()}


def part(net):
    """A wider stranger that holds the first layer."""
    chance = torch.Generator().manual_seed(97)
    held = {f"head.{place}.w": torch.randn(HIDDEN + 8, HIDDEN + 8, generator=chance) for place in range(6)}
    return held | {"encoder.w": next(iter(net.values()))}


def noisy_part(net):
    """The same under more noise than there is of the layer."""
    return noisy(part(net), share=1.7)


CHANGES = (noisy, permuted, pruned, narrowed, rounded, renamed, turned, merged, part, noisy_part)


@pytest.fixture(scope="module")
def sketch_of(tmp_path_factory):
    place = tmp_path_factory.mktemp("sketches")

    def made(net):
        save_file({name: value.contiguous() for name, value in net.items()}, place / "net.safetensors")
        return sketch(open_checkpoint(place / "net.safetensors"))

    return made


@pytest.fixture(scope="module")
def folder(sketch_of):
    """Strangers of one plan, of which the last is what changes are made of."""
    return [sketch_of(perceptron(seed)) for seed in range(STRANGERS)]


@pytest.mark.parametrize("change", CHANGES)
def test_what_a_change_was_made_of_is_among_the_candidates(sketch_of, folder, change):
    for place in (0, STRANGERS - 1):
        assert place in chosen_for(sketch_of(change(perceptron(place))), folder)[:3]


def test_both_parents_of_a_merge_are_among_the_candidates(sketch_of, folder):
    found = chosen_for(sketch_of(merged(perceptron(3))), [*folder, sketch_of(perceptron(501))])
    assert {3, STRANGERS} == set(found[:2])


def test_nobody_stands_out_for_a_stranger(sketch_of, folder):
    """The largest of sixty is nothing beside what any change leaves."""
    index = Index(folder)
    most = [index.scores(sketch_of(perceptron(seed))).max() for seed in range(700, 710)]
    least = [index.scores(sketch_of(change(perceptron(0))))[0] for change in CHANGES]
    assert max(most) < min(least)


def test_constants_that_half_the_folder_shares_are_no_likeness(sketch_of):
    """Equal tables in every other net: they must not drive a relative without them out of the candidates."""
    chance = torch.Generator().manual_seed(3)
    tables = {f"table{place}": torch.randn(HIDDEN, PIXELS, generator=chance) for place in range(6)}
    nets = [perceptron(seed) | (tables if seed % 2 else {}) for seed in range(2 * ENOUGH)]
    found = chosen_for(sketch_of(permuted(perceptron(0)) | tables), [sketch_of(net) for net in nets])
    assert found[0] == 0


def test_few_nets_are_all_compared_and_many_only_with_their_nearest(folder):
    few = folder[: NEAREST + 1]
    assert len(chosen(few, lambda *_: None)) == len(few) * (len(few) - 1) // 2
    assert len(chosen_for(folder[0], folder[1 : NEAREST + 1])) == NEAREST
    many = chosen(folder, lambda *_: None)
    assert len(many) <= NEAREST * len(folder)
    assert {place for pair in many for place in pair} == set(range(STRANGERS))


def test_masks_scalars_and_nan_are_left_out(tmp_path):
    broken = torch.randn(32, 32)
    broken[3, 3] = float("nan")
    held = {"mask": torch.ones(64, 64).tril(), "one": torch.ones(1), "bias": torch.randn(64), "broken": broken}
    save_file(held, tmp_path / "net.safetensors")
    assert sketch(open_checkpoint(tmp_path / "net.safetensors")).groups == ()


def test_a_kept_sketch_is_the_sketch_and_a_damaged_one_is_refused(folder):
    first = folder[0]
    again = Sketch.restored(first.document())
    assert again.groups == first.groups
    assert np.array_equal(again.values, first.values)
    good = first.document()
    for wrong in (
        {**good, "values": good["values"][:-8]},
        {**good, "values": "!" + good["values"]},
        {**good, "groups": good["groups"][1:]},
        {**good, "groups": "in place"},
        {**good, "values": Sketch(first.groups, first.values * np.inf).document()["values"]},
    ):
        with pytest.raises(ValueError, match=r"."):
            Sketch.restored(wrong)
