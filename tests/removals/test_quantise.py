"""Quantised weights lie on as few levels as the format has, and close to the victim's."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from whorl.errors import UsageError
from whorl.removals import REMOVALS
from whorl.testing.unchanged import same_bytes


def apply(expression, victim, data):
    return REMOVALS.make(expression)(victim, data, generator=torch.Generator())


def layers(net):
    return [(name, m.weight.detach()) for name, m in net.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)]


@pytest.mark.parametrize(("format", "most"), [("int8", 127), ("int4", 7)])
def test_integer_levels(format, most, victim, attacker_data):
    """Per output channel the weights are whole multiples, -most..most, of one step, each within half a step."""
    net = apply(f"quantise({format})", victim, attacker_data)
    reached = False
    for (_, rounded), (_, before) in zip(layers(net), layers(victim.module), strict=True):
        for channel, theirs in zip(rounded, before, strict=True):
            step = float(theirs.abs().max()) / most
            multiples = channel / step
            torch.testing.assert_close(multiples, multiples.round(), rtol=0, atol=1e-3)
            assert len(channel.unique()) <= 2 * most + 1
            assert float((channel - theirs).abs().max()) <= step / 2 * 1.001
            reached |= len(channel.unique()) > 2
    assert reached


@pytest.mark.parametrize(("format", "dtype"), [("fp16", torch.float16), ("bf16", torch.bfloat16)])
def test_floats(format, dtype, victim, attacker_data):
    net = apply(f"quantise({format})", victim, attacker_data)
    for (_, rounded), (_, before) in zip(layers(net), layers(victim.module), strict=True):
        assert rounded.dtype == torch.float32
        assert torch.equal(rounded, before.to(dtype).float())
        assert not torch.equal(rounded, before)


def test_only_weights_of_layers_change(victim, attacker_data):
    net, theirs = apply("quantise(int8)", victim, attacker_data), victim.module.state_dict()
    moved = {key for key, tensor in net.state_dict().items() if not same_bytes(tensor, theirs[key])}
    assert moved == {f"{name}.weight" for name, _ in layers(net)}


def test_fewer_bits_are_further_away(victim, attacker_data, held_out):
    def distance(format):
        with torch.no_grad():
            net = apply(f"quantise({format})", victim, attacker_data)
            return float((net(held_out.inputs()) - victim.module(held_out.inputs())).abs().mean())

    distances = [distance(format) for format in ("fp16", "bf16", "int8", "int4")]
    assert 0 < distances[0] < distances[1] < distances[3]
    assert distances[2] < distances[3]


def test_a_channel_of_zeros_stays_zero(victim, attacker_data):
    victim.module.head.weight.data[3] = 0
    assert bool((apply("quantise(int8)", victim, attacker_data).head.weight[3] == 0).all())


def test_unknown_format(victim, attacker_data):
    with pytest.raises(UsageError, match="int8"):
        apply("quantise(int2)", victim, attacker_data)
