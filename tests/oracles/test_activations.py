"""Hidden activations of PyTorch oracles."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from whorl.errors import AccessRefused, UsageError
from whorl.oracles.torch import TorchOracle, hidden
from whorl.testing import tiny_data, tiny_victim
from whorl.types import Access


@pytest.fixture(scope="module")
def pictures():
    return tiny_data("queries").inputs()[:30]


def test_layers_are_named_in_order_with_their_units(victim):
    layers = victim.layers
    assert next(iter(layers)) == "stem.0"
    assert list(layers)[-1] == "head"
    assert layers["head"] == victim.classes
    assert all(units == len(victim.module.get_submodule(name).weight) for name, units in layers.items())


def test_activations_are_means_over_positions(victim, pictures):
    module = victim.module.eval()
    expected = module.stem[0]((pictures - module.mean) / module.std).mean((2, 3))
    torch.testing.assert_close(victim.activations(pictures, "stem.0"), expected.detach(), rtol=1e-4, atol=1e-5)


def test_activations_of_the_head_are_logits(victim, pictures):
    torch.testing.assert_close(victim.activations(pictures, "head"), victim.logits(pictures), rtol=1e-4, atol=1e-5)


def test_units_of_a_linear_layer_over_tokens_come_last():
    net = nn.Sequential(nn.Flatten(2), nn.Linear(4, 3))
    inputs = torch.rand(5, 7, 2, 2)
    torch.testing.assert_close(hidden(net, "1")(inputs), net(inputs).mean(1))


def test_the_module_is_as_before(victim, pictures):
    module = victim.module
    module.train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    victim.activations(pictures, "stem.0")
    victim.differentiable_activations("stem.0")(pictures)
    assert module.training
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert not any(child._forward_hooks for child in module.modules())


def test_batches_do_not_matter_and_every_input_counts(victim, pictures):
    small = TorchOracle(victim.module, input_shape=victim.input_shape, classes=victim.classes, batch=7)
    torch.testing.assert_close(
        small.activations(pictures, "stem.0"), victim.activations(pictures, "stem.0"), rtol=1e-4, atol=1e-5
    )
    assert small.queries_spent == len(pictures)


def test_gradients_flow_to_inputs_only(victim, pictures):
    inputs = pictures.clone().requires_grad_()
    outputs = victim.differentiable_activations("blocks.0.conv1")(inputs)
    torch.testing.assert_close(outputs.detach(), victim.activations(pictures, "blocks.0.conv1"), rtol=1e-4, atol=1e-5)
    outputs.sum().backward()
    assert inputs.grad is not None
    assert float(inputs.grad.abs().sum()) > 0
    assert all(parameter.grad is None for parameter in victim.module.parameters())


def test_too_little_access_is_refused(pictures):
    with pytest.raises(AccessRefused, match="FEATURES"):
        tiny_victim(Access.LOGITS).activations(pictures, "stem.0")
    with pytest.raises(AccessRefused, match="FEATURES"):
        _ = tiny_victim(Access.LOGITS).layers
    with pytest.raises(AccessRefused, match="GRADIENTS"):
        tiny_victim(Access.FEATURES).differentiable_activations("stem.0")


@pytest.mark.parametrize("layer", ["nowhere", "stem.1", ""])
def test_only_convolutions_and_linear_layers_have_activations(victim, pictures, layer):
    with pytest.raises(UsageError, match="convolution or linear layer"):
        victim.activations(pictures, layer)


def test_a_layer_that_is_never_asked_is_an_error():
    class Idle(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.idle = nn.Linear(4, 2), nn.Linear(4, 2)

        def forward(self, x):
            return self.used(x.flatten(1))

    with pytest.raises(UsageError, match="never asks its layer 'idle'"):
        hidden(Idle(), "idle")(torch.rand(1, 1, 2, 2))
