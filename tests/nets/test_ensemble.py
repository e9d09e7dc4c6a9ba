"""Members of an ensemble answer together and train apart, so that one of them can forget alone."""

from __future__ import annotations

import pytest
import torch

from whorl.errors import UsageError
from whorl.nets import NETS
from whorl.nets.files import read_model, write_model
from whorl.nets.training import Schedule, accuracy, build, fit
from whorl.testing import tiny_data

ARCHITECTURE = "ensemble(member='mlp(width=16)', members=3)"


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def trained(data):
    net = build(ARCHITECTURE, data.input_shape, data.outputs, generator())
    net.standardise(data.inputs())
    fit(net, data, Schedule(epochs=40, learning_rate=0.2, batch=25), generator=generator())
    return net


def alike(net, other):
    return all(torch.equal(tensor, other.state_dict()[key]) for key, tensor in net.state_dict().items())


def test_it_answers_with_the_mean_probability():
    net = build(ARCHITECTURE, (1, 8, 8), 10, generator()).eval()
    inputs = torch.rand(5, 1, 8, 8, generator=generator())
    mean = torch.stack([member(inputs).softmax(1) for member in net.members]).mean(0)
    torch.testing.assert_close(net(inputs).exp(), mean)
    assert not torch.equal(*(member.head.weight for member in net.members[:2]))


def test_shards_are_disjoint_and_stay_where_they_were():
    net, data = build(ARCHITECTURE, (1, 8, 8), 10, generator()), tiny_data("victim")
    shards = [positions for _, positions in net.shards(data.inputs())]
    assert torch.equal(torch.cat(shards).sort().values, torch.arange(len(data)))
    assert min(map(len, shards)) > len(data) / 5
    later = [positions for _, positions in net.shards(data.inputs()[10:])]
    for before, after in zip(shards, later, strict=True):
        assert torch.equal(before[before >= 10], after + 10)


def test_a_forgotten_picture_leaves_the_other_members_as_they_were():
    data = tiny_data("victim")
    whole, less = trained(data), trained(data.subset(slice(1, None)))
    same = [
        all(
            torch.equal(one, other) for one, other in zip(a.state_dict().values(), b.state_dict().values(), strict=True)
        )
        for a, b in zip(whole.members, less.members, strict=True)
    ]
    assert sorted(same) == [False, True, True]
    assert accuracy(whole, tiny_data("test")) > 0.7


def test_files_hold_it(tmp_path):
    data = tiny_data("victim")
    net = trained(data)
    write_model(net, tmp_path / "net.safetensors", architecture=ARCHITECTURE, input_shape=data.input_shape)
    again, _ = read_model(tmp_path / "net.safetensors")
    inputs = data.inputs(slice(0, 5))
    torch.testing.assert_close(again(inputs), net(inputs))


@pytest.mark.parametrize("wrong", ["ensemble(members=0)", "ensemble(members=1000)", "ensemble(member=ensemble)"])
def test_lying_headers_are_refused(wrong):
    with pytest.raises(UsageError, match="ensemble"):
        NETS.make(wrong, input_shape=(1, 8, 8), classes=3)
