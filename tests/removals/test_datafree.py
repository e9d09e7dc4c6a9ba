"""Data-free extraction: logits from probabilities, gradients from answers, and exactly the queries it is given."""

from __future__ import annotations

import pytest
import torch

from whorl.data import Dataset
from whorl.errors import AccessRefused, UsageError
from whorl.nets.training import predict
from whorl.oracles.wrappers import Budgeted, Wrapper
from whorl.removals import REMOVALS
from whorl.removals.datafree import DataFree, estimated_gradient, recovered
from whorl.testing import tiny_victim
from whorl.types import Access


def chance(seed=0):
    return torch.Generator().manual_seed(seed)


def test_recovered_logits_are_the_logits_but_for_a_shift():
    logits = 3 * torch.randn(50, 10, generator=chance())
    centred = recovered(logits.softmax(1))
    assert torch.allclose(centred, logits - logits.mean(1, keepdim=True), atol=1e-4)
    least = recovered(logits.softmax(1), "minimum")
    assert torch.allclose(least, logits - logits.amin(1, keepdim=True), atol=1e-4)
    assert torch.equal(recovered(logits.softmax(1), None), logits.softmax(1))


def test_probabilities_of_zero_stay_finite():
    assert recovered(torch.tensor([[1.0, 0.0]])).isfinite().all()


def test_the_estimate_of_a_gradient_is_right_on_average():
    """Of a quadratic function, whose gradient is known, at many copies of one point."""
    matrix = torch.randn(6, 6, generator=chance(1)).double()
    point = torch.randn(6, generator=chance(2)).double()

    def quadratic(points):
        return ((points.flatten(1) @ matrix) * points.flatten(1)).sum(1)

    points = point.view(1, 2, 3).expand(4000, 1, 2, 3)
    found = estimated_gradient(quadratic, points, 4, 1e-4, chance()).flatten(1)
    true = (matrix + matrix.T) @ point
    assert torch.allclose(found.mean(0), true, atol=4 * float(found.std(0).max()) / 4000**0.5)


def test_more_directions_err_less():
    def linear(points):
        return points.flatten(1).sum(1)

    points = torch.zeros(500, 1, 4, 4)
    spread = [estimated_gradient(linear, points, m, 1e-2, chance()).std() for m in (1, 16)]
    assert float(spread[0]) == pytest.approx(4 * float(spread[1]), rel=0.2)


def test_the_generator_seeks_what_the_student_gets_wrong():
    """The estimated ascent raises the distance between a fixed student and the victim, picture by picture."""
    victim, removal = tiny_victim(), DataFree("mlp(width=8)")
    student = REMOVALS.make("data_free('mlp(width=8)', budget=64)")(victim, None, generator=chance())

    @torch.no_grad()
    def distance(raw):
        return removal._distance(student, victim, (raw.tanh() + 1) / 2)

    raw = torch.randn(30, 1, 8, 8, generator=chance())
    ascent = estimated_gradient(distance, raw, 30, 1e-3, chance(1))
    moved = raw + 0.1 * ascent / ascent.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    assert float((distance(moved) > distance(raw)).float().mean()) > 0.9


@pytest.mark.parametrize("budget", [2, 31, 33, 500, 1999, 2001])
@pytest.mark.parametrize("directions", [1, 3])
def test_the_budget_is_spent_and_never_exceeded(budget, directions):
    victim = tiny_victim()
    removal = DataFree("resnet8(width=4)", budget=budget, directions=directions)
    removal(Budgeted(victim, budget), None, generator=chance())
    assert budget - 1 <= victim.queries_spent <= budget


@pytest.mark.parametrize("architecture", ["mlp(width=16)", "lenet5", "resnet8(width=4)"])
def test_no_data_is_used_and_the_answers_are(architecture, attacker_data):
    victim = tiny_victim()
    blind = Dataset(torch.zeros_like(attacker_data.images), torch.zeros_like(attacker_data.labels), ())
    removal = DataFree(architecture, budget=500)
    one, other = (removal(victim, data, generator=chance()) for data in (attacker_data, blind))
    assert torch.equal(one.head.weight, other.head.weight)
    differently = removal(tiny_victim(seed=1), attacker_data, generator=chance())
    assert not torch.equal(one.head.weight, differently.head.weight)


class Remembering(Wrapper):
    def __init__(self, inner):
        super().__init__(inner, access=Access.PROBABILITIES)
        self.seen = []

    def _stream(self, inputs):
        self.seen.append(inputs)
        for positions, answers in self.inner.stream(inputs):
            yield positions, answers.softmax(1)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 9, 7), (1, 1, 13)])
def test_it_asks_about_pictures_of_the_victims_shape(shape):
    from whorl.nets.training import build
    from whorl.oracles.torch import TorchOracle

    net = build("mlp(width=4)", shape, 3, chance())
    victim = Remembering(TorchOracle(net, input_shape=shape, classes=3))
    student = DataFree("mlp(width=4)", budget=400)(victim, None, generator=chance(1))
    seen = torch.cat(victim.seen)
    assert float(seen.min()) >= 0
    assert float(seen.max()) <= 1
    assert float(seen.std(0).mean()) > 0.05, "and about different ones"
    assert predict(student, seen).isfinite().all()


@pytest.mark.parametrize(
    ("expression", "says"),
    [
        ("data_free(mlp, budget=1)", "budget"),
        ("data_free(mlp, directions=0)", "directions"),
        ("data_free(mlp, recovery=guess)", "recovery"),
        ("data_free(nosuch)", "nosuch"),
        ("data_free('mlp_regressor')", "regress"),
    ],
)
def test_mistakes_cost_no_query(expression, says):
    victim = tiny_victim()
    with pytest.raises(UsageError, match=says):
        REMOVALS.make(expression)(victim, None, generator=chance())
    assert victim.queries_spent == 0


def test_labels_are_too_little():
    victim = tiny_victim(Access.LABELS)
    with pytest.raises(AccessRefused, match="PROBABILITIES"):
        DataFree("mlp")(victim, None, generator=chance())
    assert victim.queries_spent == 0
