"""Re-parametrised nets have other weights and the same function."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from whorl.errors import UsageError
from whorl.oracles.torch import TorchOracle
from whorl.removals import REMOVALS
from whorl.testing import tiny_data, tiny_net


@pytest.mark.parametrize(
    "architecture",
    [
        "resnet8(width=4)",
        "vgg(width=4)",
        "mobilenet(width=4)",
        "lenet5",
        "mlp(width=16, depth=2)",
        "wrn(depth=10, widen=1)",
    ],
)
@pytest.mark.parametrize("spread", [0.0, 1.0, 2.0])
def test_same_function_other_weights(architecture, spread):
    net = tiny_net(architecture=architecture)
    victim = TorchOracle(net, input_shape=(1, 8, 8), classes=10)
    other = REMOVALS.make(f"reparametrise(spread={spread})")(
        victim, tiny_data("attacker"), generator=torch.Generator().manual_seed(0)
    )
    inputs = tiny_data("test").inputs()
    with torch.no_grad():
        expected, logits = net(inputs), other(inputs)
    assert float((logits - expected).abs().max()) <= 1e-5 * float(expected.abs().max())
    for units, theirs in zip(other.hidden_units(), net.hidden_units(), strict=True):
        for layer, before in ((units.producer, theirs.producer), (units.consumer, theirs.consumer)):
            assert not torch.equal(layer.weight, before.weight)


def test_factors_spread_as_asked():
    net = tiny_net(architecture="mlp(width=64)")
    victim = TorchOracle(net, input_shape=(1, 8, 8), classes=10)

    def factors(spread):
        """Norms of a neuron's weights before and after; permutation and positive factors keep their product."""
        made = REMOVALS.make(f"reparametrise(spread={spread})")(
            victim, tiny_data("attacker"), generator=torch.Generator().manual_seed(0)
        )
        before, after = (each.layers[0].weight.detach().norm(dim=1).log10() for each in (net, made))
        return before, after

    before, after = factors(0.0)
    torch.testing.assert_close(after.sort().values, before.sort().values)
    assert not torch.equal(after, before), "permuted"
    before, after = factors(2.0)
    assert float(after.std()) == pytest.approx((4**2 / 12 + float(before.var())) ** 0.5, rel=0.2)


def test_a_foreign_net_is_refused():
    victim = TorchOracle(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), input_shape=(1, 8, 8), classes=10)
    with pytest.raises(UsageError, match="hidden units"):
        REMOVALS.make("reparametrise")(victim, tiny_data("attacker"), generator=torch.Generator())
