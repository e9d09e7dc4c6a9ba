"""Which pictures of poisoned training sets the sieves name, and of clean ones."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from torch import nn

import whorl
from whorl.data import SOURCES, Dataset
from whorl.data.poisoned import stamped
from whorl.errors import AccessRefused, UsageError
from whorl.inspection import SIEVES
from whorl.nets.training import Schedule, build, fit
from whorl.oracles.torch import TorchOracle
from whorl.oracles.wrappers import LabelsOnly
from whorl.storage import digest_tensors
from whorl.testing import tiny_data, tiny_victim

DIGITS = "digits(size=8)"
CLEAN = SOURCES.make(DIGITS).load("queries+test")
ATTACKS = {
    "few badnets": "badnets, patch=2, rate=0.02",
    "few blended": "blended, rate=0.02",
    "badnets": "badnets, patch=2",
    "blended": "blended",
    "clean label": "clean_label, rate=0.8, patch=2, opacity=0.4",
}
VICTIMS = (0, 1, 2)


def source_of(attack, seed):
    return f"poisoned({DIGITS}, {ATTACKS[attack]}, target={seed + 2}, seed={seed})"


@cache
def net(source, seed):
    data, chance = SOURCES.make(source).load("victim"), torch.Generator().manual_seed(seed)
    made = build("mlp(width=64)", data.input_shape, 10, chance)
    training = Schedule(epochs=15, learning_rate=0.1, policy="one-cycle", batch=50, shift=0)
    fit(made, data, training, generator=chance)
    return TorchOracle(made.eval(), input_shape=data.input_shape, classes=10)


@cache
def shares(name, attack):
    """Of three victims: the share of the marked pictures that is named, and that of the others."""
    found = []
    for seed in VICTIMS:
        source = SOURCES.make(source_of(attack, seed))
        data, sieve = source.load("victim"), SIEVES.make(name)
        named = torch.zeros(len(data), dtype=torch.bool)
        told = sieve(net(source_of(attack, seed), 700 + seed), data, CLEAN if sieve.clean else None)
        named[list(told.named)] = True
        marked = torch.zeros(len(data), dtype=torch.bool)
        marked[source.poisoning.places] = True
        found.append((float(named[marked].float().mean()), float(named[~marked].float().mean())))
    return tuple(zip(*found, strict=True))


@pytest.mark.parametrize("attack", ["few badnets", "few blended"])
def test_a_few_pictures_with_a_trigger_are_named_more_often_than_others(attack):
    marked, others = shares("layer_ranks", attack)
    assert min(marked) > 4 * max(others)
    assert max(others) < 0.1
    marked, others = shares("spectral", attack)
    assert sum(marked) > 2 * sum(others)


@pytest.mark.parametrize("attack", ["badnets", "blended"])
def test_where_half_of_a_class_is_poisoned_the_spectral_rule_misses_most_and_ranks_of_layers_do_not(attack):
    assert max(shares("spectral", attack)[0]) < 0.4
    marked, others = shares("layer_ranks", attack)
    assert min(marked) > 0.4 > 4 * max(others)


@pytest.mark.parametrize("name", SIEVES)
def test_of_pictures_whose_label_was_right_few_are_found(name):
    marked, _ = shares(name, "clean label")
    assert min(marked) < 0.4


def test_of_clean_pictures_about_alpha_is_named_by_ranks_and_a_stamped_one_is_named():
    half, other = CLEAN.subset(slice(0, None, 2)), CLEAN.subset(slice(1, None, 2))
    source = source_of("blended", 0)
    victim = net(source, 700)
    found = SIEVES.make("layer_ranks(alpha=0.1)")(victim, half, other)
    assert found.rate == 0.1
    assert len(found.named) <= 30  # 99.6 % of Beta-binomial(180, 4, 42), the law of the number at this p-value
    marked = Dataset(stamped(source, half.inputs()), half.labels, half.classes)
    told = SIEVES.make("layer_ranks(alpha=0.1)")(victim, marked, other)
    assert len(told.named) > 2 * len(half) / 3
    assert told.by == "answers"
    assert told.counts[2][0] > sum(named for named, _ in told.counts) / 2


def test_over_random_divisions_the_share_of_clean_pictures_that_is_named_is_alpha():
    """Of 128 pictures 32 are held out; p <= 1 / 33 is to lie beyond all of them, which one picture in 33 does."""
    victim, chance, shares = net(DIGITS, 70), torch.Generator().manual_seed(0), []
    sieve = SIEVES.make(f"layer_ranks(alpha={1 / 33 + 1e-9})")
    for _ in range(60):
        order = torch.randperm(len(CLEAN), generator=chance)
        found = sieve(victim, CLEAN.subset(order[128:]), CLEAN.subset(order[:128]))
        shares.append(len(found.named) / (len(CLEAN) - 128))
    assert 0.02 < sum(shares) / len(shares) < 0.045


def flat(points, labels):
    """Features that are the picture itself, so that what a sieve names can be told by hand."""
    head = nn.Linear(points.shape[1], 3)
    images = points.float().view(len(points), 1, 1, -1)
    data = Dataset(images, labels, ("a", "b", "c"))
    return TorchOracle(nn.Sequential(nn.Flatten(), head), input_shape=data.input_shape, classes=3), data


@pytest.fixture
def apart():
    """Three classes of 60 pictures around .3, of which the first 12 of class 1 lie at .9 in one direction."""
    points = 0.3 + 0.02 * torch.randn(180, 20, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(180) % 3
    moved = (labels == 1).nonzero().flatten()[:12]
    points[moved, 4] = 0.9
    return points, labels, moved.tolist()


def test_a_small_group_that_lies_apart_is_named_and_nothing_else(apart):
    points, labels, moved = apart
    found = SIEVES.make("activation_clusters(silhouette=0.3)")(*flat(points, labels))
    assert found.counts == ((0, 60), (12, 60), (0, 60))
    assert list(found.named) == moved
    assert max(range(3), key=found.classes.__getitem__) == 1
    larger = SIEVES.make("activation_clusters(share=0.15, silhouette=0.3)")(*flat(points, labels))
    assert not larger.named
    assert min(found.values[place] for place in moved) > 0


@pytest.mark.parametrize("padding", [0, 100])
def test_the_spectral_rule_names_its_share_of_every_class_from_the_furthest_on(apart, padding):
    """With more features than pictures of a class too."""
    points, labels, moved = apart
    points = torch.cat([points, points.new_full((len(points), padding), 0.5)], 1)
    found = SIEVES.make("spectral(rate_of_class=0.2)")(*flat(points, labels))
    assert found.counts == ((18, 60), (18, 60), (18, 60))
    assert set(moved) < set(found.named)
    assert found.classes[1] > 0.8 > max(found.classes[0], found.classes[2])
    assert any("clean ones too" in each for each in found.caveats)
    mine = points[labels == 1] - points[labels == 1].mean(0)
    by_hand = (mine @ torch.linalg.svd(mine)[2][0]).square().double()
    assert torch.allclose(torch.tensor(found.values, dtype=torch.float64)[labels == 1], by_hand, rtol=1e-3, atol=1e-6)


def test_classes_of_no_or_of_equal_pictures_are_passed_over():
    points = torch.full((20, 6), 0.5)
    for name in ("activation_clusters", "spectral"):
        found = SIEVES.make(name)(*flat(points, torch.tensor([0] * 19 + [1])))
        assert all(value == 0 for value in found.values)
        assert found.counts[2] == (0, 0)


@pytest.mark.parametrize("name", SIEVES)
def test_the_same_seed_names_the_same_and_the_net_stays(name):
    victim, data = net(DIGITS, 70), SOURCES.make(DIGITS).load("victim")
    before = digest_tensors(victim.module.state_dict())
    clean = CLEAN if SIEVES[name].clean else None
    one, other = (SIEVES.make(name)(victim, data, clean, seed=3) for _ in range(2))
    assert (one.named, one.values) == (other.named, other.values)
    assert one.queries_spent == other.queries_spent >= len(data)
    assert digest_tensors(victim.module.state_dict()) == before


@pytest.mark.parametrize(
    ("name", "victim", "data", "clean", "error", "says"),
    [
        ("spectral", lambda: LabelsOnly(tiny_victim()), CLEAN, None, AccessRefused, "spectral needs .*weights"),
        ("spectral", tiny_victim, CLEAN, CLEAN, UsageError, "no clean pictures: leave them out"),
        ("layer_ranks", tiny_victim, CLEAN, None, UsageError, "needs 128 clean pictures.*these are 0.*--clean"),
        ("layer_ranks", tiny_victim, CLEAN, CLEAN.subset(slice(90)), UsageError, "these are 90"),
        ("layer_ranks(alpha=0.001)", tiny_victim, CLEAN, CLEAN, UsageError, "999 held-out pictures"),
        ("spectral", tiny_victim, SOURCES.make("digits(size=16)").load("test"), None, UsageError, "takes .*8"),
    ],
)
def test_what_can_not_be_sifted_is_refused_in_one_line_before_anything_is_asked(name, victim, data, clean, error, says):
    model = victim()
    with pytest.raises(error, match=f"(?i){says}") as raised:
        SIEVES.make(name)(model, data, clean)
    assert "\n" not in str(raised.value)
    assert model.queries_spent == 0


def test_the_public_name_takes_sources_by_name():
    found = whorl.sift(tiny_victim(), DIGITS, statistic="layer_ranks", clean=DIGITS)
    assert len(found.values) == len(tiny_data("victim"))
    assert found.statistic == "layer_ranks"
