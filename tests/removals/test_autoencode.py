"""A copy behind an autoencoder: the stolen weights stay, the pictures do not."""

from __future__ import annotations

from functools import lru_cache

import pytest
import torch
from torch import nn

from whorl.data import Dataset
from whorl.errors import InvalidFile, UsageError
from whorl.nets import NETS
from whorl.nets.autoencoded import Autoencoded
from whorl.nets.files import read_model, write_model
from whorl.nets.training import Schedule, accuracy, build, fit, predict
from whorl.oracles.torch import TorchOracle, frozen
from whorl.removals import REMOVALS
from whorl.testing import tiny_data, tiny_net, tiny_victim
from whorl.testing.nets import ARCHITECTURE
from whorl.testing.unchanged import same_bytes

EXPRESSION = "autoencoded(member='mlp(width=8)', latent=20)"
TEST = tiny_data("test")


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@lru_cache
def autoencoded(expression="autoencode"):
    return REMOVALS.make(expression)(tiny_victim(), tiny_data("attacker"), generator=generator(1))


def error(net):
    with torch.no_grad():
        return float(net.reconstruction_error(TEST.inputs()))


def test_the_stolen_weights_stay():
    for key, tensor in tiny_net().state_dict().items():
        assert same_bytes(autoencoded().member.state_dict()[key], tensor), key


def test_it_answers_about_what_it_rebuilds():
    net = autoencoded()
    seen = net.reconstruct(TEST.inputs()).detach()
    assert seen.shape == TEST.inputs().shape
    assert 0 <= float(seen.min()) <= float(seen.max()) <= 1
    torch.testing.assert_close(predict(net, TEST.inputs()), predict(tiny_net(), seen))


def test_most_of_a_picture_and_most_answers_survive():
    spread = float((TEST.inputs() - tiny_data("attacker").inputs().mean(0)).square().flatten(1).sum(1).mean())
    assert error(autoencoded()) < spread / 5
    agreement = (
        predict(autoencoded(), TEST.inputs()).argmax(1) == predict(tiny_net(), TEST.inputs()).argmax(1)
    ).float()
    assert 0.8 < float(agreement.mean())


def test_fewer_latent_numbers_lose_more():
    assert error(autoencoded("autoencode(latent=4)")) > 1.5 * error(autoencoded())


def test_labels_are_not_used():
    data = tiny_data("attacker")
    blind = Dataset(data.images, torch.zeros_like(data.labels), data.classes)
    net = REMOVALS.make("autoencode")(tiny_victim(), blind, generator=generator(1))
    assert torch.equal(net.encoder.weight, autoencoded().encoder.weight)


def test_the_outcome_is_what_the_file_says(tmp_path):
    expression = REMOVALS.make("autoencode").outcome(ARCHITECTURE)
    write_model(autoencoded(), tmp_path / "net.safetensors", architecture=expression, input_shape=(1, 8, 8))
    again, _ = read_model(tmp_path / "net.safetensors")
    torch.testing.assert_close(predict(again, TEST.inputs()), predict(autoencoded(), TEST.inputs()))


def test_it_can_be_trained_frozen_and_standardised():
    data = tiny_data("victim")
    net = build(EXPRESSION, data.input_shape, 10, generator())
    net.standardise(data.inputs())
    fit(net, data, Schedule(epochs=30, learning_rate=0.02, batch=25), generator=generator())
    assert accuracy(net, TEST) > 0.7
    torch.testing.assert_close(frozen(net)(data.inputs()), net(data.inputs()), atol=1e-4, rtol=1e-3)


@torch.no_grad()
def test_latent_units_can_be_permuted():
    net = build(EXPRESSION, (1, 8, 8), 10, generator()).eval()
    before, units = predict(net, TEST.inputs()), net.hidden_units()[0]
    assert units.count == 20
    order = torch.randperm(20, generator=generator())
    for tensor in units.producer.parameters():
        tensor.copy_(tensor[order].clone())
    units.consumer.weight.copy_(units.consumer.weight[:, order].clone())
    torch.testing.assert_close(predict(net, TEST.inputs()), before)


@pytest.mark.parametrize(
    "wrong",
    [
        "autoencoded(latent=0)",
        "autoencoded(latent=1000000000)",
        "autoencoded(member=ensemble)",
        "autoencoded(member=autoencoded)",
        "autoencoded(member=mlp_regressor)",
    ],
)
def test_lying_headers_are_refused(wrong, tmp_path):
    with pytest.raises(UsageError, match="autoencode"):
        NETS.make(wrong, input_shape=(1, 8, 8), classes=3)
    write_model(build(EXPRESSION, (1, 8, 8), 3, generator()), tmp_path / "x", architecture=wrong, input_shape=(1, 8, 8))
    with pytest.raises(InvalidFile):
        read_model(tmp_path / "x")


def test_what_it_cannot_treat_is_refused():
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    victim = TorchOracle(net, input_shape=(1, 8, 8), classes=10, name="plain")
    with pytest.raises(UsageError, match="plain is Sequential"):
        REMOVALS.make("autoencode")(victim, tiny_data("attacker"), generator=generator())
    with pytest.raises(UsageError, match="latent"):
        REMOVALS.make("autoencode(latent=0)")(tiny_victim(), tiny_data("attacker"), generator=generator())


def test_it_is_a_net_of_its_own():
    assert isinstance(autoencoded(), Autoencoded)
    assert not autoencoded().training
