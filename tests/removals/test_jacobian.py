"""Augmentation against the gradient of a linear model, and the growth of what is asked."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from whorl.errors import UsageError
from whorl.oracles.base import Oracle
from whorl.removals import REMOVALS
from whorl.removals.jacobian import augmented
from whorl.testing import tiny_victim
from whorl.types import Access


class Asked(Oracle):
    """Keeps what it is asked, call by call, and gives the tiny victim's labels."""

    def __init__(self):
        super().__init__(access=Access.LABELS, input_shape=(1, 8, 8), classes=10, name="asked", digest="")
        self.inner = tiny_victim(Access.LABELS)
        self.questions = []

    def _stream(self, inputs):
        self.questions.append(inputs)
        yield torch.arange(len(inputs)), self.inner.labels(inputs)


def asked(settings, data):
    victim = Asked()
    removal = REMOVALS.make(f"jacobian('mlp(width=8)', epochs=1, round_epochs=1, {settings})")
    removal(victim, data, generator=torch.Generator().manual_seed(0))
    return victim.questions


def test_pictures_move_along_the_sign_of_the_likelihoods_gradient():
    generator = torch.Generator().manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 4))
    net[1].weight.data.normal_(generator=generator)
    net[1].bias.data.zero_()
    inputs, labels = torch.rand(6, 3, 2, 2, generator=generator), torch.tensor([0, 1, 2, 3, 0, 1])
    weight = net[1].weight.detach()
    slopes = weight[labels] - net(inputs).detach().softmax(1) @ weight  # d log softmax_y / dx of a linear model
    for step in (0.1, -0.1, 2.0):
        expected = (inputs + step * slopes.sign().view_as(inputs)).clamp(0, 1)
        torch.testing.assert_close(augmented(net, inputs, labels, step), expected)
    assert all(parameter.requires_grad and parameter.grad is None for parameter in net.parameters())


@pytest.mark.parametrize(
    ("settings", "rounds"),
    [
        ("seeds=20, rounds=0", [20]),
        ("seeds=20, rounds=3, reservoir=0", [20, 20, 40, 80]),
        ("seeds=20, rounds=4, reservoir=30, doublings=2", [20, 20, 40, 30, 30]),
        ("seeds=20, rounds=2, reservoir=50, doublings=0", [20, 20, 40]),  # a reservoir larger than what there is
    ],
)
def test_the_questions_double_until_the_reservoir(settings, rounds, attacker_data):
    assert [len(questions) for questions in asked(settings, attacker_data)] == rounds


@pytest.mark.parametrize("period", [0, 1])
def test_each_question_is_one_step_from_an_earlier_one(period, attacker_data):
    seeds, *moved = asked(f"seeds=15, rounds=3, period={period}, step=0.2", attacker_data)
    own = {row.numpy().tobytes() for row in attacker_data.inputs()}
    assert {row.numpy().tobytes() for row in seeds} <= own
    before = seeds
    for questions in moved:
        change = (questions - before).abs()
        assert float(change.max()) == pytest.approx(0.2, abs=1e-5)
        free = (questions > 0) & (questions < 1)
        assert bool(((change - 0.2).abs() < 1e-5)[free].float().mean() > 0.95), "all pixels move but those at the edge"
        before = torch.cat([before, questions])


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ("seeds=450", "holds 449 pictures"),
        ("seeds=0", "seeds is a whole number"),
        ("rounds=-1", "rounds is a whole number"),
        ("round_epochs=0", "round_epochs is a whole number"),
        ("answers=logits", "labels or probabilities"),
    ],
)
def test_mistakes_cost_no_query(settings, says, attacker_data):
    victim = Asked()
    with pytest.raises(UsageError, match=says):
        REMOVALS.make(f"jacobian('mlp(width=8)', {settings})")(victim, attacker_data, generator=torch.Generator())
    assert victim.queries_spent == 0
