"""The small VAE: its decoder answers, piecewise linear in its codes; its encoder finds codes that rebuild pictures."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from whorl.data import SOURCES
from whorl.errors import UsageError
from whorl.nets.files import read_model, write_model
from whorl.nets.generative import NOISE
from whorl.nets.training import Schedule, build, determination, dimensions, fit, predict
from whorl.storage import read_tensors

ARCHITECTURE = "vae(latent=8, width=64)"


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def trained():
    data = SOURCES.make("digits(size=8)").load("victim")
    net = build(ARCHITECTURE, *dimensions(ARCHITECTURE, data), generator())
    fit(net, data, Schedule(epochs=30, learning_rate=0.02, policy="one-cycle", batch=25), generator=generator(1))
    return net


@torch.no_grad()
def test_codes_of_held_out_pictures_rebuild_them(trained):
    images = SOURCES.make("digits(size=8)").load("test").inputs()
    codes = trained.encode(images)
    assert codes.shape == (len(images), 1, 1, 8)
    assert 0 <= float(codes.min()) < float(codes.max()) <= 1
    assert determination(predict(trained, codes), images.flatten(1)) > 0.4
    shuffled = codes[torch.randperm(len(codes), generator=generator())]
    assert determination(predict(trained, shuffled), images.flatten(1)) == 0


@torch.no_grad()
def test_codes_span_three_spreads_of_the_prior(trained):
    codes = torch.tensor([0.0, 0.5, 1.0]).view(3, 1, 1, 1).expand(3, 1, 1, 8)
    latents = torch.tensor([-3.0, 0.0, 3.0])[:, None].expand(3, 8)
    assert torch.allclose(trained(codes), trained._decode(latents))


@torch.no_grad()
def test_the_objective_is_minus_the_evidence_lower_bound(trained):
    images = SOURCES.make("digits(size=8)").load("test").inputs()
    means, logs = trained._posterior(images)
    posterior = Normal(means, (logs / 2).exp())
    latents = means + torch.randn(means.shape, generator=generator()) * posterior.scale
    pixels = Normal(trained._decode(latents), NOISE)
    likelihood = (pixels.log_prob(images.flatten(1)) - Normal(0, NOISE).log_prob(torch.zeros(()))).sum(1)
    bound = (likelihood - kl_divergence(posterior, Normal(0.0, 1.0)).sum(1)).mean() / 64
    assert trained.objective(images, torch.empty(0), generator()).item() == pytest.approx(-float(bound), rel=1e-4)


@torch.no_grad()
def test_the_decoder_is_piecewise_linear(trained):
    """On most short lines the outputs are exactly linear: hidden units switch at few places only."""
    start = torch.rand(200, 1, 1, 8, generator=generator(), dtype=torch.float64)
    step = torch.randn(start.shape, generator=generator(1), dtype=torch.float64) * 1e-5
    net = trained.double()
    bend = (net(start + step) - 2 * net(start) + net(start - step)).abs().amax(1)
    net.float()
    assert float((bend < 1e-12).double().mean()) > 0.9


@torch.no_grad()
def test_hidden_units_are_the_decoder_s(trained):
    codes = torch.rand(5, 1, 1, 8, generator=generator())
    expected = trained(codes)
    assert [units.count for units in trained.hidden_units()] == [64, 64]
    for units in trained.hidden_units():
        for tensor in units.producer.parameters():
            tensor.mul_(2)
        units.consumer.weight.div_(2)
    assert torch.allclose(trained(codes), expected, atol=1e-5)


def test_file_round_trip(trained, tmp_path):
    path = tmp_path / "net.safetensors"
    write_model(trained, path, architecture=ARCHITECTURE, input_shape=(1, 1, 8))
    read, header = read_model(path)
    assert (header.input_shape, header.classes) == ((1, 1, 8), 64)
    codes = torch.rand(5, 1, 1, 8, generator=generator())
    assert torch.equal(predict(read, codes), predict(trained, codes))
    assert any(name.startswith("encoder") for name in read_tensors(path)[0]), "fine-tuning needs the encoder too"


def test_codes_of_another_length_are_refused():
    with pytest.raises(UsageError, match="8 latents"):
        build("vae", (1, 8, 8), 64, generator())


def test_pictures_of_another_size_are_refused(trained):
    with pytest.raises(UsageError, match="as many pixels"):
        fit(
            trained,
            SOURCES.make("digits(size=16)").load("test"),
            Schedule(epochs=1, learning_rate=0.1),
            generator=generator(),
        )
