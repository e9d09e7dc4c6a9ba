"""A net cut before its head, the mask of benign features, and where noise goes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from whorl.errors import OracleError, UsageError
from whorl.inspection import INSPECTIONS, SIEVES
from whorl.inspection.decoupling import benign_mask
from whorl.inspection.features import NORMS, Cut
from whorl.inspection.neuron_noise import noised
from whorl.oracles.torch import TorchOracle
from whorl.testing import tiny_data, tiny_net


def oracle(module):
    return TorchOracle(module, input_shape=(1, 8, 8), classes=10, name="this net")


def test_both_halves_make_the_net_and_weights_are_put_in_its_place():
    module, inputs = tiny_net(architecture="resnet8(width=4)"), tiny_data("test").inputs()
    cut = Cut(oracle(module), "x")
    with torch.no_grad():
        assert torch.allclose(cut.logits(cut.seen(inputs)), module.eval()(inputs), atol=1e-4)
        silent = {"head.bias": torch.zeros(10), "head.weight": torch.zeros_like(module.head.weight)}
    with pytest.raises(UsageError, match="outputs are the logits"):
        cut.seen(inputs, silent)  # the head is not asked as it is


def test_noise_goes_to_norms_and_else_to_hidden_layers():
    with_norms = noised(Cut(oracle(tiny_net(architecture="resnet8(width=4)")), "x"))
    module = Cut(oracle(tiny_net(architecture="resnet8(width=4)")), "x").module
    norms = {name for name, each in module.named_modules() if isinstance(each, NORMS)}
    assert {name.rpartition(".")[0] for name in with_norms} == norms
    perceptron = Cut(oracle(tiny_net(architecture="mlp(width=8)")), "x")
    assert noised(perceptron).keys() == {
        name for name, _ in perceptron.module.named_parameters() if not name.startswith("head.")
    }


def test_the_mask_keeps_the_features_that_tell_the_classes():
    """Four features say the class of 200 pictures, four are noise that the head reads too."""
    chance = torch.Generator().manual_seed(0)
    labels = torch.randint(4, (200,), generator=chance)
    features = torch.cat([4 * torch.eye(4)[labels], torch.rand(200, 4, generator=chance)], 1)
    head = nn.Linear(8, 4, bias=False)
    with torch.no_grad():
        head.weight.copy_(torch.cat([torch.eye(4), torch.randn(4, 4, generator=chance)], 1))

    class Heads:
        def logits(self, given):
            return head(given)

    settings = {"rounds": 20, "batch": 32, "learning_rate": 0.01, "weight": 0.75}
    mask = benign_mask(Heads(), features, labels, **settings, generator=torch.Generator().manual_seed(1))
    assert ((mask >= 0) & (mask <= 1)).all()
    assert mask[:4].min() > 0.8 > mask[4:].max()


@pytest.mark.parametrize(("catalog", "name"), [(INSPECTIONS, "neuron_noise"), (SIEVES, "spectral")])
def test_a_net_that_answers_nan_is_told_so_in_one_line(catalog, name):
    module = tiny_net(architecture="mlp(width=8)")
    with torch.no_grad():
        module.head.weight[0, 0] = torch.nan
    with pytest.raises(OracleError, match="NaN or infinite"):
        catalog.make(name)(oracle(module), tiny_data("victim"))


@pytest.mark.parametrize("name", ["neuron_noise", "feature_inversion", "weights_only"])
def test_a_net_without_a_linear_head_of_logits_is_refused_in_one_line(name):
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 5), nn.ReLU(), nn.Unflatten(1, (5, 1)), nn.Flatten())
    module.task = "classification"
    widened = nn.Sequential(module, nn.ZeroPad1d((0, 5)))
    said = "would answer otherwise" if name == "weights_only" else "(?i)linear head of 10 rows"
    with pytest.raises(UsageError, match=said):
        INSPECTIONS.make(name)(oracle(widened), tiny_data("victim"))
    if name != "weights_only":
        twice = nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.Softmax(1))
        with pytest.raises(UsageError, match="outputs are the logits"):
            INSPECTIONS.make(name)(oracle(twice), tiny_data("victim"))
