"""Modules that flatten by ``view``, as much code of the field does, whichever layout asks them."""

from __future__ import annotations

import torch
from torch import nn

from whorl.oracles.torch import TorchOracle


class Flattening(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.body = nn.Conv2d(channels, 4, 3)
        self.head = nn.Linear(4 * 36, 3)

    def forward(self, inputs):
        return self.head(self.body(inputs).relu().view(len(inputs), -1))


def test_a_module_that_flattens_by_view_answers_and_gives_gradients_and_activations():
    for channels in (1, 3):
        module = Flattening(channels).eval()
        oracle = TorchOracle(module, input_shape=(channels, 8, 8), classes=3)
        inputs = torch.rand(5, channels, 8, 8)
        assert torch.allclose(oracle.logits(inputs), module(inputs), atol=1e-5)
        assert oracle.activations(inputs, "body").shape == (5, 4)
        channels_last = inputs.contiguous(memory_format=torch.channels_last).requires_grad_()
        answers = oracle.differentiable()(channels_last)
        assert torch.allclose(answers, module(inputs), atol=1e-5)
        (gradient,) = torch.autograd.grad(answers.sum(), channels_last)
        assert gradient.abs().sum() > 0
        assert oracle.queries_spent == 10
