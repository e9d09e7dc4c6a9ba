"""Networks as plain tensors against torch's own layers, and shadow models that do not fit."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn

from whorl.errors import UsageError
from whorl.oracles.pool import Pool
from whorl.queries.perceptron import Lesson, finished, perceptron, refuse_strangers, respond, signals, unpack
from whorl.testing import tiny_victim


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("widths", [(5, 3), (5, 7, 3), (5, 7, 4, 1)])
def test_it_computes_what_torch_does(widths):
    weights = perceptron(widths, generator())
    layers = []
    for k, (inside, outside) in enumerate(pairwise(widths)):
        linear = nn.Linear(inside, outside)
        weights[f"{k}.bias"].data += k
        linear.load_state_dict({name: weights[f"{k}.{name}"] for name in ("weight", "bias")})
        layers += [linear, nn.ReLU()]
    inputs = torch.randn(11, 5, generator=generator(1))
    torch.testing.assert_close(respond(weights, inputs), nn.Sequential(*layers[:-1])(inputs))


def test_first_weights_keep_the_scale_of_rectified_answers():
    weights = perceptron((1000, 500), generator())
    assert float(weights["0.weight"].detach().std()) == pytest.approx((2 / 1000) ** 0.5, rel=0.01)
    assert not weights["0.bias"].any()


def test_weights_come_back_from_a_fingerprint():
    weights = perceptron((4, 3, 2), generator())
    shared = finished(weights, "encoder") | {"encoders": torch.ones(1)}
    assert not any(each.requires_grad for each in shared.values())
    again = unpack(shared, "encoder")
    assert again.keys() == weights.keys()
    inputs = torch.randn(5, 4, generator=generator())
    assert torch.equal(respond(again, inputs), respond(weights, inputs))
    assert unpack(shared, "verifier") == {}


def test_a_lesson_steps_as_torchs_adam_does():
    weights, inputs = perceptron((4, 6, 1), generator()), torch.randn(9, 4, generator=generator(1))
    copies = [each.detach().clone().requires_grad_() for each in weights.values()]
    lesson, adam = Lesson(weights, 0.01), torch.optim.Adam(copies, lr=0.01)
    for _ in range(5):
        lesson.learn(respond(weights, inputs).square().mean())
        adam.zero_grad()
        respond(dict(zip(weights, copies, strict=True)), inputs).square().mean().backward()
        adam.step()
    for ours, theirs in zip(weights.values(), copies, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_lesson_tells_the_gradient_of_the_inputs():
    weights, inputs = perceptron((4, 1), generator()), torch.randn(3, 4, requires_grad=True)
    before = weights["0.weight"].detach().clone()
    (slope,) = Lesson(weights, 0.01).learn(respond(weights, inputs).sum(), inputs)
    torch.testing.assert_close(slope, before.expand(3, 4))


def test_a_network_sees_the_same_of_logits_and_of_probabilities():
    logits = torch.randn(6, 4, generator=generator())
    centred = logits.softmax(1).log()
    torch.testing.assert_close(signals(logits, "classification"), signals(centred, "classification"))
    assert torch.equal(signals(logits, "regression"), logits)


def test_shadow_models_with_other_outputs_are_refused():
    victim = tiny_victim()
    refuse_strangers(victim, Pool({"prune": [tiny_victim(seed=1)]}, [tiny_victim(seed=2)]), "an encoder")
    other = tiny_victim(seed=1)
    other.classes = 11
    for pool in (Pool({"prune": [other]}, []), Pool({}, [victim, other])):
        with pytest.raises(UsageError, match=r"an encoder compares answers output by output.*tiny 1 has .*11"):
            refuse_strangers(victim, pool, "an encoder")
