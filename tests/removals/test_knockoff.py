"""The bandit's arithmetic against brute force, and a knockoff that asks exactly what it may."""

from __future__ import annotations

import pytest
import torch

from whorl.data import SOURCES, Dataset
from whorl.errors import AccessRefused, UsageError
from whorl.nets.training import predict
from whorl.oracles.base import Oracle
from whorl.removals import REMOVALS
from whorl.removals.knockoff import Bandit, advantages, rewards_of
from whorl.testing import tiny_victim
from whorl.types import Access


class Asked(Oracle):
    """Keeps what it is asked, and answers as the tiny victim does of the first channel."""

    def __init__(self, access=Access.PROBABILITIES, shape=(1, 8, 8)):
        super().__init__(access=access, input_shape=shape, classes=10, name="asked", digest="")
        self.inner = tiny_victim()
        self.questions = []

    def _stream(self, inputs):
        self.questions.append(inputs)
        logits = self.inner.logits(inputs[:, :1])
        yield torch.arange(len(inputs)), logits.argmax(1) if self.access is Access.LABELS else logits.softmax(1)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def steal(expression, data, victim=None):
    victim = victim or Asked()
    return REMOVALS.make(expression)(victim, data, generator=generator()), torch.cat(victim.questions)


def rows(pictures):
    return [row.numpy().tobytes() for row in pictures.contiguous()]


def test_rewards_are_those_of_the_paper():
    answers, predicted = (torch.rand(7, 4, generator=generator(seed)).softmax(1) for seed in (1, 2))
    found = rewards_of(answers, predicted, window=2)
    for t, row in enumerate(answers):
        best, second = sorted(row.tolist(), reverse=True)[:2]
        mean = answers[max(0, t - 2) : t + 1].mean(0)
        diversity = sum(max(0.0, float(row[k] - mean[k])) for k in range(4))
        loss = -sum(float(row[k] * predicted[t, k].log()) for k in range(4))
        assert found[t].tolist() == pytest.approx([best - second, diversity, loss], abs=1e-5)


def test_advantages_weigh_rewards_of_any_scale_alike():
    rewards = torch.rand(6, 2, generator=generator())
    found = advantages(rewards * torch.tensor([1000.0, 0.01]) + 5, window=3)
    torch.testing.assert_close(found, advantages(rewards, window=3), atol=1e-3, rtol=1e-3)
    scaled = (rewards - rewards.amin(0)) / (rewards.amax(0) - rewards.amin(0))
    expected = [float((scaled[t] - scaled[max(0, t - 3) : t + 1].mean(0)).sum()) for t in range(6)]
    assert found.tolist() == pytest.approx(expected, abs=1e-3)


def test_a_reward_that_never_changes_teaches_nothing():
    assert advantages(torch.full((5, 1), 0.7), window=9).abs().max() == 0


def test_an_update_is_the_gradient_of_the_logarithm_of_the_policy():
    labels = torch.arange(4).repeat(10)
    bandit = Bandit(labels, 4, rate=0.5, generator=generator())
    bandit.preferences = torch.tensor([0.3, -0.2, 1.0, 0.0])
    preferences = bandit.preferences.clone().requires_grad_()
    action = int(labels[bandit.draw(1)])
    preferences.log_softmax(0)[action].backward()
    bandit.learn(torch.tensor([0.8]))
    torch.testing.assert_close(bandit.preferences, preferences.detach() + 0.5 * 0.8 * preferences.grad)
    assert float(bandit.preferences.sum()) == pytest.approx(1.1, abs=1e-5), "what one action gains, the others lose"


def test_the_bandit_finds_the_action_that_pays():
    labels = torch.arange(3).repeat(400)
    bandit = Bandit(labels, 3, rate=1.0, generator=generator())
    for _ in range(30):
        drawn = labels[bandit.draw(10)]
        bandit.learn(torch.where(drawn == 2, 0.5, -0.25))
    assert float(bandit.policy[2]) > 0.8


def test_no_picture_is_drawn_twice_and_an_empty_class_is_closed():
    labels = torch.tensor([0] * 3 + [1] * 12 + [3] * 5)
    bandit = Bandit(labels, 4, rate=1.0, generator=generator())
    assert float(bandit.policy[2]) == 0
    drawn = torch.cat([bandit.draw(count) for count in (7, 7, 6)])
    assert drawn.sort().values.tolist() == list(range(20))


@pytest.mark.parametrize("policy", ["random", "adaptive"])
@pytest.mark.parametrize("answers", ["labels", "probabilities"])
def test_the_budget_is_spent_to_the_last_query_and_on_different_pictures(policy, answers, attacker_data):
    victim = Asked(Access.LABELS if answers == "labels" else Access.PROBABILITIES)
    expression = f"knockoff('mlp(width=8)', {answers}, policy={policy}, budget=73, epochs=1)"
    _, asked = steal(expression, attacker_data, victim)
    assert victim.queries_spent == len(asked) == 73
    assert len(set(rows(asked))) == len(set(rows(asked)) & set(rows(attacker_data.inputs()))) == 73


def test_it_learns_the_victims_answers_and_not_the_labels(attacker_data, held_out):
    blind = Dataset(attacker_data.images, torch.zeros_like(attacker_data.labels), attacker_data.classes)
    expression = "knockoff('mlp(width=32)', probabilities, epochs=30)"
    one, other = (steal(expression, data)[0] for data in (attacker_data, blind))
    assert torch.equal(one.head.weight, other.head.weight)
    agreement = predict(one, held_out.inputs()).argmax(1) == tiny_victim().labels(held_out.inputs())
    assert float(agreement.float().mean()) > 0.75


def test_a_public_pool_is_seen_as_the_victim_sees(attacker_data):
    _, asked = steal("knockoff('mlp(width=8)', pool=textures(size=16, images=90), budget=60, epochs=1)", attacker_data)
    assert asked.shape == (60, 1, 8, 8)
    assert 0 <= float(asked.min()) < float(asked.max()) <= 1
    pool = SOURCES.make("textures(size=16, images=90)").load("attacker").inputs().mean(1)
    halved = pool.view(-1, 8, 2, 8, 2).mean((2, 4))
    gaps = torch.cdist(asked.flatten(1), halved.flatten(1))
    near, whose = gaps.min(1)
    assert len(set(whose.tolist())) == 60
    assert float(near.max()) < float(gaps.median()) / 3


def test_a_grey_pool_is_seen_in_colour():
    victim = Asked(shape=(3, 8, 8))
    data = Dataset(torch.rand(5, 3, 8, 8, generator=generator()), torch.zeros(5, dtype=torch.int64), ("a",))
    _, asked = steal("knockoff('mlp(width=8)', pool=digits(size=8), budget=20, epochs=1)", data, victim)
    assert asked.shape == (20, 3, 8, 8)
    assert set(rows(asked[:, 0])) <= set(rows(SOURCES.make("digits(size=8)").load("attacker").inputs()[:, 0]))
    assert torch.equal(asked[:, 0], asked[:, 2])


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ("budget=450", "holds 449 pictures and 450"),
        ("budget=0", "budget is a whole number"),
        ("block=0", "block is a whole number"),
        ("policy=greedy", "random or adaptive"),
        ("rewards='loss+luck'", "rewards is certainty, diversity, loss"),
        ("logits", "labels or probabilities"),
        ("pool=nosuch", "nosuch"),
        ("pool='noise(shape=[1, 8, 8])', policy=adaptive", "policy=random"),
        ("pool='wine', budget=20", "cannot be resized"),
    ],
)
def test_mistakes_cost_no_query(settings, says, attacker_data):
    victim = Asked()
    with pytest.raises(UsageError, match=says):
        REMOVALS.make(f"knockoff('mlp(width=8)', {settings})")(victim, attacker_data, generator=generator())
    assert victim.queries_spent == 0


def test_probabilities_are_refused_where_there_are_labels(attacker_data):
    victim = Asked(Access.LABELS)
    with pytest.raises(AccessRefused, match="PROBABILITIES"):
        REMOVALS.make("knockoff(mlp, probabilities)")(victim, attacker_data, generator=generator())
    assert victim.queries_spent == 0


def test_a_victim_with_real_outputs_is_refused(attacker_data):
    victim = Asked(Access.LOGITS)
    victim.task = "regression"
    with pytest.raises(UsageError, match="outputs"):
        REMOVALS.make("knockoff(mlp)")(victim, attacker_data, generator=generator())
