"""A net that misinforms: its formula, its decoy, its file, and what it does to sure and unsure answers."""

from __future__ import annotations

from functools import lru_cache

import pytest
import torch
from torch import nn
from torch.fx import GraphModule

from whorl.errors import InvalidFile, UsageError
from whorl.nets import NETS
from whorl.nets.files import read_model, write_model
from whorl.nets.misinforming import Misinforming, misinformation
from whorl.nets.training import Schedule, accuracy, build, fit, predict
from whorl.oracles.torch import TorchOracle, frozen
from whorl.removals import REMOVALS
from whorl.removals.misinform import mosaics
from whorl.testing import tiny_data, tiny_victim
from whorl.testing.nets import ARCHITECTURE

EXPRESSION = "misinforming(member='mlp(width=8)', threshold=0.6)"


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@lru_cache
def misinforming(seed=1):
    return REMOVALS.make("misinform")(tiny_victim(), tiny_data("attacker"), generator=generator(seed))


def test_it_mixes_by_how_sure_the_honest_net_is():
    net = build(EXPRESSION, (1, 8, 8), 10, generator()).eval()
    net.honest.head.weight.data.mul_(3)
    inputs = torch.rand(50, 1, 8, 8, generator=generator(1))
    honest, decoy = net.honest(inputs).softmax(1), net.decoy(inputs).softmax(1)
    sure = honest.amax(1) > 0.6
    assert 5 < int(sure.sum()) < 45
    torch.testing.assert_close(net(inputs).exp(), torch.where(sure[:, None], honest, decoy), atol=1e-4, rtol=0)
    assert net(inputs).isfinite().all()


def test_misinformation_is_its_formula_and_stays_finite():
    logits, targets = 4 * torch.randn(20, 5, generator=generator()), torch.arange(20) % 5
    wanted = -(1 - logits.softmax(1)[torch.arange(20), targets]).log().mean()
    torch.testing.assert_close(misinformation(logits, targets), wanted)
    sure = torch.tensor([[200.0, 0.0]], requires_grad=True)
    misinformation(sure, torch.tensor([0])).backward()
    assert sure.grad.isfinite().all()
    assert float(sure.grad[0, 0]) > 0, "descent makes the true class less likely"


def test_the_decoy_is_wrong_and_the_honest_net_right():
    net, test = misinforming(), tiny_data("test")
    assert isinstance(net, Misinforming)
    assert accuracy(net.honest, test) > 0.85
    assert accuracy(net.decoy, test) < 0.1
    assert not torch.equal(net.decoy.head.weight, net.honest.head.weight)


def test_outliers_are_misinformed_more_often_than_pictures():
    net, test = misinforming(), tiny_data("test")
    outliers = mosaics(test.inputs(), generator(7))
    unsure = [
        float((predict(net.honest, each).softmax(1).amax(1) < 0.5).float().mean()) for each in (test.inputs(), outliers)
    ]
    assert unsure[0] < 0.25
    assert unsure[1] > unsure[0] + 0.3


def test_a_pool_of_outliers_may_be_named():
    step = "misinform(pool='noise(shape=[1, 8, 8])', epochs=5, decoy_epochs=1)"
    net = REMOVALS.make(step)(tiny_victim(), tiny_data("attacker"), generator=generator(1))
    strange = torch.rand(100, 1, 8, 8, generator=generator(9))
    before = predict(tiny_victim().module, strange).softmax(1).amax(1).mean()
    assert float(predict(net.honest, strange).softmax(1).amax(1).mean()) < float(before) - 0.1


def test_mosaics_hold_pixels_out_of_their_place():
    images = torch.arange(4.0).view(4, 1, 1, 1) + torch.arange(24.0).view(1, 1, 4, 6) / 24
    made = mosaics(images, generator())
    assert torch.equal(made.flatten().sort().values, images.flatten().sort().values)
    assert not bool((made % 1 == images % 1).any())
    assert mosaics(torch.rand(3, 1, 1, 5), generator()).shape == (3, 1, 1, 5)


def test_the_outcome_is_what_the_file_says(tmp_path):
    expression = REMOVALS.make("misinform").outcome(ARCHITECTURE)
    write_model(misinforming(), tmp_path / "net.safetensors", architecture=expression, input_shape=(1, 8, 8))
    again, _ = read_model(tmp_path / "net.safetensors")
    inputs = tiny_data("test").inputs()
    torch.testing.assert_close(predict(again, inputs), predict(misinforming(), inputs))
    assert again.threshold == 0.7


def test_it_can_be_trained_frozen_and_standardised():
    data = tiny_data("victim")
    net = build(EXPRESSION, data.input_shape, 10, generator())
    net.standardise(data.inputs())
    fit(net, data, Schedule(epochs=60, learning_rate=0.05, batch=25), generator=generator())
    assert accuracy(net.honest, tiny_data("test")) > 0.7
    assert accuracy(net.decoy, tiny_data("test")) < 0.2
    traced = frozen(net)
    assert isinstance(traced, GraphModule), "nothing in it stands in the way of a trace, which folds norms"
    torch.testing.assert_close(traced(data.inputs()), net(data.inputs()), atol=1e-3, rtol=1e-3)
    assert len(net.hidden_units()) == 2 * len(net.honest.hidden_units())


@pytest.mark.parametrize(
    "wrong",
    [
        "misinforming(threshold=2)",
        "misinforming(member=ensemble)",
        "misinforming(member=misinforming)",
        "misinforming(member=mlp_regressor)",
        "misinforming(member=ensemble(member=misinforming(member=ensemble)))",
    ],
)
def test_lying_headers_are_refused(wrong, tmp_path):
    with pytest.raises(UsageError, match="misinforming"):
        NETS.make(wrong, input_shape=(1, 8, 8), classes=3)
    write_model(build(EXPRESSION, (1, 8, 8), 3, generator()), tmp_path / "x", architecture=wrong, input_shape=(1, 8, 8))
    with pytest.raises(InvalidFile):
        read_model(tmp_path / "x")


def test_what_it_cannot_treat_is_refused():
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    victim = TorchOracle(net, input_shape=(1, 8, 8), classes=10, name="plain")
    with pytest.raises(UsageError, match="plain is Sequential"):
        REMOVALS.make("misinform")(victim, tiny_data("attacker"), generator=generator())
    with pytest.raises(UsageError, match="have the shape"):
        REMOVALS.make("misinform(pool=digits(size=16))")(tiny_victim(), tiny_data("attacker"), generator=generator())
    with pytest.raises(UsageError, match="from 0 to 1"):
        REMOVALS.make("misinform(threshold=2)")(tiny_victim(), tiny_data("attacker"), generator=generator())
