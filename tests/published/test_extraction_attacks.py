"""What is claimed of attacks that spend queries, over two victims and three thieves each.

Knockoff nets (Orekondy et al., CVPR 2019), JBDA (Papernot et al., AsiaCCS 2017), ActiveThief (Pal et al., AAAI 2020),
ensembles of extracted models. Fidelity is agreement with the victim on digits that neither of them learnt from.

Two findings are contrary to the papers. The adaptive policy of knockoff does what its rewards ask for: in a pool that
is half digits it comes to ask about digits four times in five. Yet its knockoff is no better than that of random
queries (fidelity .909 against .911 of 200 queries there; among digits alone .022 less of 100 queries, standard error
.008 over 18 thieves). And a Jacobian step that always goes where the substitute is surer already gains almost nothing
(.83 against .82 without any, from 50 pictures and 800 queries); one that changes its sign each round gains a lot (.89).

Chosen queries gain .02 to .03 over random ones of 100 (standard error .004 over 18 thieves), more of a public pool.
"""

from __future__ import annotations

from functools import lru_cache

import pytest
import torch

from whorl.data import SOURCES, Dataset
from whorl.nets.training import Schedule, build, fit, predict
from whorl.oracles.torch import TorchOracle
from whorl.oracles.wrappers import Wrapper
from whorl.removals import REMOVALS
from whorl.types import Access

pytestmark = pytest.mark.published

ARCHITECTURE = "mlp(width=64)"
THIEF = f"'{ARCHITECTURE}'"
PAIRS = [(victim, seed) for victim in (0, 1) for seed in (500, 501, 502)]
BUDGETS = (50, 100, 200, 400)
PUBLIC = "pool='textures(size=16)', batch=100"


@lru_cache
def part(name):
    return SOURCES.make("digits(size=16)").load(name)


@lru_cache
def trained(seed):
    data, generator = part("victim"), torch.Generator().manual_seed(seed)
    net = build(ARCHITECTURE, data.input_shape, len(data.classes), generator)
    net.standardise(data.inputs())
    fit(net, data, Schedule(epochs=15, learning_rate=0.1, policy="one-cycle", batch=50), generator=generator)
    return net


def victim_of(seed, access=Access.PROBABILITIES):
    return TorchOracle(trained(seed), input_shape=(1, 16, 16), classes=10, access=access)


def agreement(net, victim):
    inputs = part("calibration+queries+test").inputs()
    return float((predict(net, inputs).argmax(1) == predict(trained(victim), inputs).argmax(1)).float().mean())


def steal(expression, victim, seed):
    """The thief's net and what it asked."""
    oracle = victim_of(victim)
    generator = torch.Generator().manual_seed(seed)
    return REMOVALS.make(expression)(oracle, part("attacker"), generator=generator), oracle.queries_spent


@lru_cache
def fidelities(expression):
    """Of each pair of a victim and a thief."""
    return torch.tensor([agreement(steal(expression, *pair)[0], pair[0]) for pair in PAIRS])


@lru_cache
def knockoff(budget, answers="probabilities", more="epochs=30"):
    return fidelities(f"knockoff({THIEF}, {answers}, budget={budget}, {more})")


def test_queries_like_the_victims_own_data_are_worth_more_than_public_ones():
    surrogate = knockoff(400, more=PUBLIC)
    assert (knockoff(400) > surrogate + 0.2).all()
    assert (surrogate > 0.2).all(), "twice what chance would give"


def test_more_queries_steal_more_until_it_saturates():
    means = torch.stack([knockoff(budget) for budget in BUDGETS]).mean(1)
    assert (means.diff() > 0).all()
    assert means[1] - means[0] > 2 * (means[3] - means[2])
    assert (knockoff(400) > knockoff(50)).all()
    assert (knockoff(400) < 1).all()


def test_more_public_queries_steal_more():
    assert (knockoff(1200, more=PUBLIC) > knockoff(400, more=PUBLIC)).all()


def test_probabilities_tell_more_than_labels():
    gains = torch.stack([knockoff(budget) - knockoff(budget, "labels") for budget in BUDGETS[:3]])
    assert gains.mean() > 0.005
    assert (gains.mean(1) > -0.005).all()


@lru_cache
def mixed():
    """The paper's closed world: a pool of the victim's own ten classes and of ten others, in equal numbers."""
    own, other = part("attacker"), SOURCES.make("textures(size=16)").load("attacker")
    grey = other.inputs(slice(0, len(own))).mean(1, keepdim=True)
    labels = torch.cat([own.labels, other.labels[: len(own)] + 10])
    return Dataset(torch.cat([own.inputs(), grey]), labels, (*own.classes, *other.classes))


class Watched(Wrapper):
    """Keeps what it is asked."""

    def __init__(self, inner):
        super().__init__(inner, access=Access.PROBABILITIES)
        self.questions = []

    def _stream(self, inputs):
        self.questions.append(inputs)
        yield from self.inner.stream(inputs)


@lru_cache
def from_mixed(policy):
    """Fidelity and the share of digits among the second hundred questions, of each pair."""
    removal = REMOVALS.make(f"knockoff({THIEF}, probabilities, epochs=30, budget=200, policy={policy})")
    digits = {row.numpy().tobytes() for row in part("attacker").inputs()}
    found = []
    for victim, seed in PAIRS:
        oracle = Watched(victim_of(victim))
        net = removal(oracle, mixed(), generator=torch.Generator().manual_seed(seed))
        later = torch.cat(oracle.questions)[100:].contiguous()
        found.append((agreement(net, victim), sum(row.numpy().tobytes() in digits for row in later) / len(later)))
    return torch.tensor(found).T


def test_the_adaptive_policy_finds_the_victims_own_classes():
    assert (from_mixed("adaptive")[1] > 0.65).all()
    assert from_mixed("random")[1].mean() < 0.6


def test_the_adaptive_policy_is_no_better_than_chance():
    """Contrary to the paper; among pictures of the victim's own classes it costs a little instead."""
    gains = [knockoff(budget, more="epochs=30, policy=adaptive") - knockoff(budget) for budget in (100, 200)]
    assert -0.05 < torch.cat(gains).mean() < 0.01
    assert abs((from_mixed("adaptive") - from_mixed("random"))[0].mean()) < 0.03


def test_pictures_made_along_the_gradient_replace_pictures_that_the_thief_has_not():
    alone = fidelities(f"jacobian({THIEF}, seeds=50, rounds=0, epochs=60)")
    steady = fidelities(f"jacobian({THIEF}, seeds=50, rounds=4)")
    alternating = fidelities(f"jacobian({THIEF}, seeds=50, rounds=4, period=1)")
    assert (alternating > alone + 0.02).all()
    assert (alternating - alone).mean() > 0.05
    assert alternating.mean() > steady.mean() + 0.03
    assert steady.mean() > alone.mean() - 0.02
    assert (alternating < knockoff(400)).all(), "and are worth less than real ones"


@pytest.mark.parametrize(
    ("settings", "strategies", "least"),
    [
        ("budget=100, rounds=9, epochs=20", ("uncertainty", "k-centre", "deepfool"), 0.005),
        (f"budget=400, rounds=3, epochs=15, {PUBLIC}", ("uncertainty", "k-centre"), 0.05),
    ],
    ids=("digits", "public"),
)
def test_chosen_queries_are_worth_more_than_random_ones(settings, strategies, least):
    chance = fidelities(f"active({THIEF}, strategy=random, {settings})")
    for strategy in strategies:
        assert (fidelities(f"active({THIEF}, strategy={strategy}, {settings})") - chance).mean() > least


@pytest.mark.parametrize(
    ("expression", "queries"),
    [
        (f"knockoff({THIEF}, budget=123, epochs=1)", 123),
        (f"knockoff({THIEF}, budget=123, policy=adaptive, {PUBLIC}, epochs=1)", 123),
        (f"active({THIEF}, budget=123, strategy=k-centre, epochs=1)", 123),
        (f"jacobian({THIEF}, seeds=30, epochs=1, round_epochs=1, reservoir=100)", 30 * 2**3 + 3 * 100),
    ],
)
def test_the_queries_spent_are_the_budget(expression, queries):
    assert steal(expression, 0, 500)[1] == queries


def test_an_ensemble_of_extracted_models_steals_as_one_does():
    """Its members learn from a third of the answers each; together they agree with the victim more than each alone."""
    expression = f"extract('ensemble(member={ARCHITECTURE}, members=3)', probabilities, epochs=40, learning_rate=0.1)"
    for victim, seed in PAIRS:
        net, queries = steal(expression, victim, seed)
        assert queries == len(part("attacker")), "each picture is asked about once, whoever learns from it"
        alone = [agreement(member, victim) for member in net.members]
        assert agreement(net, victim) > max(alone) - 0.005
        assert agreement(net, victim) > sum(alone) / 3 + 0.01
        assert agreement(net, victim) > 0.9
