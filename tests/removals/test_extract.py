"""Extraction and distillation learn the victim's answers from nothing but answers."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy

from whorl.data import Dataset
from whorl.errors import AccessRefused, UsageError
from whorl.nets.plain import MLP
from whorl.nets.training import predict
from whorl.oracles.base import Oracle
from whorl.removals import REMOVALS
from whorl.testing import tiny_victim
from whorl.types import Access


class Swapped(Oracle):
    """Calls every class by the next one's name; grants what it is told to and holds no weights at all."""

    def __init__(self, access):
        super().__init__(access=access, input_shape=(1, 8, 8), classes=10, name="swapped", digest="")
        self.inner = tiny_victim()

    def _stream(self, inputs):
        logits = self.inner.logits(inputs).roll(1, 1)
        answers = {Access.LABELS: logits.argmax(1), Access.PROBABILITIES: logits.softmax(1), Access.LOGITS: logits}
        yield torch.arange(len(inputs)), answers[self.access]


def steal(expression, access, data):
    victim = Swapped(access)
    net = REMOVALS.make(expression)(victim, data, generator=torch.Generator().manual_seed(0))
    return net, victim


@pytest.mark.parametrize(
    ("expression", "access"),
    [
        ("extract('mlp(width=32)', epochs=15, learning_rate=0.1)", Access.LABELS),
        ("extract('mlp(width=32)', probabilities, epochs=15, learning_rate=0.1)", Access.PROBABILITIES),
        ("distil('mlp(width=32)', epochs=15, learning_rate=0.02)", Access.LOGITS),
    ],
)
def test_agrees_far_above_chance(expression, access, attacker_data, held_out):
    """The answers, not the true labels, are what is learnt: the victim's classes are renamed."""
    net, victim = steal(expression, access, attacker_data)
    assert isinstance(net, MLP)
    assert victim.queries_spent == len(attacker_data), "one query for each picture of the thief"
    learnt = predict(net, held_out.inputs()).argmax(1)
    assert float((learnt == victim.labels(held_out.inputs())).float().mean()) > 0.7
    assert float((learnt == held_out.labels).float().mean()) < 0.2


@pytest.mark.parametrize("expression", ["extract('mlp(width=8)')", "distil('mlp(width=8)')"])
def test_labels_of_the_data_are_not_used(expression, attacker_data):
    blind = Dataset(attacker_data.images, torch.zeros_like(attacker_data.labels), attacker_data.classes)
    access = Access.LOGITS if "distil" in expression else Access.LABELS
    one, other = (steal(expression, access, data)[0] for data in (attacker_data, blind))
    assert torch.equal(one.head.weight, other.head.weight)


def test_the_student_takes_its_own_normalisation(attacker_data):
    net, _ = steal("extract('mlp(width=8)', epochs=1)", Access.LABELS, attacker_data)
    assert float(net.mean) == pytest.approx(float(attacker_data.inputs().mean()), abs=1e-5)


def test_distillation_matches_softened_answers_better_than_labels_do(attacker_data, held_out):
    def softened_loss(expression, access):
        net, victim = steal(expression, access, attacker_data)
        victim.access = Access.LOGITS
        soft = (victim.logits(held_out.inputs()) / 4).softmax(1)
        return float(cross_entropy(predict(net, held_out.inputs()) / 4, soft))

    distilled = softened_loss("distil('mlp(width=32)', epochs=15, learning_rate=0.02)", Access.LOGITS)
    extracted = softened_loss("extract('mlp(width=32)', epochs=15, learning_rate=0.1)", Access.LABELS)
    assert distilled < extracted


@pytest.mark.parametrize(
    ("expression", "access", "says"),
    [
        ("extract(mlp, probabilities)", Access.LABELS, "PROBABILITIES"),
        ("distil(mlp)", Access.PROBABILITIES, "LOGITS"),
    ],
)
def test_too_little_access_is_refused_before_the_first_query(expression, access, says, attacker_data):
    victim = Swapped(access)
    with pytest.raises(AccessRefused, match=says):
        REMOVALS.make(expression)(victim, attacker_data, generator=torch.Generator())
    assert victim.queries_spent == 0


def test_mistakes_cost_no_query(attacker_data):
    victim = Swapped(Access.LABELS)
    for expression, says in (
        ("extract(mlp, logits)", "or outputs, not logits"),
        ("extract(nosuch)", "nosuch"),
    ):
        with pytest.raises(UsageError, match=says):
            REMOVALS.make(expression)(victim, attacker_data, generator=torch.Generator())
    assert victim.queries_spent == 0
