"""Defended answers against brute force: the poison that turns a gradient most, the watch over distances, the lies."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from linear_oracle import CLASSES, LinearOracle, pictures
from scipy.stats import shapiro
from torch import nn
from torch.nn.functional import cosine_similarity
from torch.testing import assert_close

from whorl.errors import AccessRefused, UsageError
from whorl.nets.training import build
from whorl.oracles.defended import DetectsQueries, Poisoned, RandomAnswers, ReverseSigmoid, Shuffled, poison
from whorl.oracles.prada import Prada
from whorl.oracles.wrappers import LabelsOnly
from whorl.testing import check_oracle, tiny_data, tiny_net, tiny_victim
from whorl.types import Access


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def answers(count, classes, seed=0, scale=2.0):
    return (scale * torch.randn(count, classes, generator=generator(seed))).softmax(1)


def surrogate():
    return build("mlp(width=8)", (1, 8, 8), 10, generator(5))


DEFENDED = {
    "reverse sigmoid": ReverseSigmoid,
    "poisoned": lambda inner: Poisoned(inner, surrogate(), 0.5),
    "random": lambda inner: RandomAnswers(inner, 0.3),
    "shuffled": lambda inner: Shuffled(inner, 3),
    "detects": DetectsQueries,
}


@pytest.mark.parametrize("name", DEFENDED)
def test_contract(name):
    def make(access):
        outer = DEFENDED[name](tiny_victim())
        assert (outer.digest, outer.name) == (tiny_victim().digest, tiny_victim().name)
        assert outer.treatment
        return LabelsOnly(outer) if access is Access.LABELS else outer

    check_oracle(make, levels=(Access.LABELS, Access.PROBABILITIES))


@pytest.mark.parametrize("wrap", [ReverseSigmoid, lambda inner: Poisoned(inner, surrogate(), 1.0), Shuffled])
def test_probabilities_cannot_be_treated_where_there_are_none(wrap):
    with pytest.raises(AccessRefused, match="PROBABILITIES"):
        wrap(tiny_victim(Access.LABELS))


def test_reverse_sigmoid_is_its_formula():
    inner = LinearOracle(scale=3.0)
    inputs = pictures(10)
    plain = LinearOracle(scale=3.0).probabilities(inputs).double().numpy()
    logit = np.log(plain / (1 - plain))
    wanted = plain - 0.4 * (1 / (1 + np.exp(-0.3 * logit)) - 0.5)
    wanted /= wanted.sum(1, keepdims=True)
    assert_close(ReverseSigmoid(inner, 0.4, 0.3).probabilities(inputs), torch.from_numpy(wanted).float())


def test_reverse_sigmoid_keeps_the_class_at_gamma_one_and_says_nothing_at_beta_one():
    inputs = tiny_data("test").inputs()
    outer = ReverseSigmoid(tiny_victim(), 0.99, 1.0)
    assert torch.equal(outer.labels(inputs), tiny_victim().labels(inputs))
    assert_close(ReverseSigmoid(tiny_victim(), 1.0, 1.0).probabilities(inputs), torch.full((len(inputs), 10), 0.1))


def test_reverse_sigmoid_survives_certainty():
    certain = ReverseSigmoid(LinearOracle(scale=1e4)).probabilities(pictures(10))
    assert certain.isfinite().all()
    assert certain.min() >= 0


def gradients(net, inputs, targets):
    """What each target does to the last layer's weights, flattened, by differentiating."""
    found = []
    for picture, target in zip(inputs, targets, strict=True):
        loss = -(target * net(picture[None]).log_softmax(1)[0]).sum()
        found.append(torch.autograd.grad(loss, net.head.weight)[0].flatten())
    return torch.stack(found)


@pytest.mark.parametrize("keep_label", [True, False])
def test_poison_turns_the_real_gradient_as_far_as_any_corner_does(keep_label):
    """Brute force over all corners with gradients of the surrogate's last layer, as the paper has it."""
    net, inputs, truth = surrogate(), tiny_data("test").inputs(slice(0, 6)), answers(6, 10)
    assumed = net(inputs).softmax(1).detach()
    poisoned = poison(truth, assumed, 2.0, keep_label=keep_label)  # far enough to reach the corner
    own = gradients(net, inputs, truth)
    turned = cosine_similarity(own, gradients(net, inputs, poisoned))
    corners = torch.tensor([each for each in itertools.product((0.0, 1.0), repeat=10) if any(each)])
    if not keep_label:
        corners = torch.eye(10)
    per_class = [gradients(net, inputs, torch.eye(10)[k].expand(6, 10)) for k in range(10)]
    every = torch.stack(per_class, 1)  # [6, 10, d]
    for number in range(6):
        allowed = corners[corners[:, truth[number].argmax()] > 0] if keep_label else corners
        mixed = (allowed / allowed.sum(1, keepdim=True)) @ every[number]
        best = cosine_similarity(mixed, own[number][None]).min()
        assert float(turned[number]) == pytest.approx(float(best), abs=1e-4)


@pytest.mark.parametrize("classes", [2, 10, 11, 40])
@pytest.mark.parametrize("epsilon", [0.1, 0.5, 1.0, 2.0])
def test_poison_keeps_label_distance_and_sum(classes, epsilon):
    truth, assumed = answers(200, classes, 1), answers(200, classes, 2, scale=0.3)
    poisoned = poison(truth, assumed, epsilon, keep_label=True)
    assert torch.equal(poisoned.argmax(1), truth.argmax(1))
    assert float((poisoned - truth).abs().sum(1).max()) <= epsilon + 1e-5
    assert float(poisoned.min()) >= 0
    assert_close(poisoned.sum(1), torch.ones(200))


def test_poison_keeps_the_first_of_equal_classes():
    flat = torch.full((1, 4), 0.25)
    assert poison(flat, answers(1, 4), 1.0, keep_label=True).argmax(1).tolist() == [0]


def test_greedy_search_comes_close_to_all_sets(monkeypatch):
    truth, assumed = answers(300, 8, 3), answers(300, 8, 4, scale=0.3)
    exact = poison(truth, assumed, 2.0, keep_label=True)
    monkeypatch.setattr("whorl.oracles.defended.EXACT", 1)
    greedy = poison(truth, assumed, 2.0, keep_label=True)
    turned = [cosine_similarity(assumed - truth, assumed - each) for each in (exact, greedy)]
    assert bool((turned[1] >= turned[0] - 1e-4).all()), "all sets hold the greedy one"
    assert float((turned[1] - turned[0]).mean()) < 0.01


def test_a_larger_epsilon_turns_further():
    truth, assumed = answers(100, 10, 1), answers(100, 10, 2, scale=0.3)
    turned = [
        cosine_similarity(assumed - truth, assumed - poison(truth, assumed, epsilon, keep_label=True)).mean()
        for epsilon in (0.1, 0.5, 1.0)
    ]
    assert turned == sorted(turned, reverse=True)


def test_poisoned_asks_its_surrogate_about_the_right_question():
    inputs, net = pictures(10), nn.Sequential(nn.Flatten(), nn.Linear(6, CLASSES))
    outer = Poisoned(LinearOracle(), net, 0.5)
    wanted = poison(LinearOracle().probabilities(inputs), net(inputs).softmax(1).detach(), 0.5, keep_label=True)
    assert_close(outer.probabilities(inputs), wanted)


@pytest.mark.parametrize("access", [Access.LABELS, Access.PROBABILITIES])
def test_random_answers_come_as_often_as_said_and_stay(access):
    inner = LabelsOnly(LinearOracle()) if access is Access.LABELS else LinearOracle(access)
    inputs = pictures(4000)
    outer, truth = RandomAnswers(inner, 0.2, seed=1), LinearOracle().labels(inputs)
    given = outer.labels(inputs)
    changed = given != truth
    assert float(changed.float().mean()) == pytest.approx(0.2 * (1 - 1 / CLASSES), abs=0.02)
    assert torch.equal(outer.labels(inputs.flip(0)).flip(0), given)
    counts = given[changed].bincount(minlength=CLASSES)
    assert counts.min() > 0
    if access is Access.PROBABILITIES:
        assert_close(outer.probabilities(inputs).sort(1).values, LinearOracle().probabilities(inputs).sort(1).values)


def test_shuffling_deals_the_largest_alone():
    inputs, plain = pictures(3000), LinearOracle().probabilities(pictures(3000))
    shuffled = Shuffled(LinearOracle(), 3).probabilities(inputs)
    assert_close(shuffled.sort(1).values, plain.sort(1).values)
    lowest = plain.argmin(1, keepdim=True)
    assert torch.equal(shuffled.gather(1, lowest), plain.gather(1, lowest))
    assert float((shuffled.argmax(1) == plain.argmax(1)).float().mean()) == pytest.approx(1 / 3, abs=0.03)


def reference(pictures, labels, delta):
    """PRADA's algorithm 3, question by question; (when it detects, its last W)."""
    kept, grown, seen, bars, last = {}, {}, {}, {}, 1.0
    for count, (picture, label) in enumerate(
        zip(pictures.flatten(1).double().numpy(), labels.tolist(), strict=True), 1
    ):
        if label not in kept:
            kept[label], grown[label], seen[label], bars[label] = [picture], [0.0], [], 0.0
        else:
            distance = min(np.linalg.norm(picture - other) for other in kept[label])
            seen[label].append(distance)
            if distance > bars[label]:
                kept[label].append(picture)
                grown[label].append(distance)
                bars[label] = max(bars[label], np.mean(grown[label]) - np.std(grown[label]))
        pool = np.array([each for values in seen.values() if len(values) >= 10 for each in values])
        if count % 10 == 0 and len(pool) > 100:
            last = shapiro(pool[np.abs(pool - pool.mean()) <= 3 * pool.std()]).statistic
            if last < delta:
                return count, last
    return None, last


@pytest.mark.parametrize("delta", [0.0, 0.9, 0.97])
@pytest.mark.parametrize("block", [1, 7, 400])
def test_the_watch_is_the_algorithm_of_the_paper(delta, block):
    natural = torch.randn(200, 1, 3, 4, generator=generator(0))
    made = natural[:20].repeat(10, 1, 1, 1) + 1e-3 * torch.randn(200, 1, 3, 4, generator=generator(1))
    stream = torch.cat([natural, made])
    labels = torch.randint(3, (400,), generator=generator(2))
    monitor = Prada(4, delta)
    flags = torch.cat([monitor.watch(*part) for part in zip(stream.split(block), labels.split(block), strict=True)])
    detected, statistic = reference(stream, labels, delta)
    assert monitor.detected == detected
    assert monitor.statistic == pytest.approx(statistic, abs=1e-4)
    assert int((~flags).sum()) == (400 if detected is None else detected - 1)
    assert (detected is None) == (delta == 0)


def test_one_question_asked_again_and_again_is_no_natural_stream():
    monitor = Prada(2, 0.9)
    assert monitor.watch(torch.ones(300, 1, 2, 2), torch.zeros(300, dtype=torch.long)).any()
    assert monitor.statistic == 0


def suspicious(count=600):
    """Near copies of a few pictures."""
    images = tiny_data("test").inputs(slice(0, 20)).repeat(count // 20, 1, 1, 1)
    return (images + 1e-3 * torch.rand(images.shape, generator=generator())).clamp(0, 1)


@pytest.mark.parametrize("lie", ["runner-up", "permuted"])
def test_it_lies_from_detection_on(lie):
    inner, outer = tiny_victim(), DetectsQueries(tiny_victim(), 0.9, lie)
    inputs = suspicious()
    plain, given = inner.probabilities(inputs), outer.probabilities(inputs)
    when = outer.monitor.detected
    assert when is not None
    assert torch.equal(given[: when - 1], plain[: when - 1])
    labels, first = given[when - 1 :].argmax(1), plain[when - 1 :].argsort(1, descending=True)
    assert torch.equal(labels, first[:, 1] if lie == "runner-up" else (first[:, 0] + 1) % 10)
    assert_close(given.sort(1).values, plain.sort(1).values)
    again = outer.labels(tiny_data("test").inputs())
    assert not bool((again == inner.labels(tiny_data("test").inputs())).any()), "it does not forget"


def test_labels_can_be_permuted_where_there_is_no_runner_up():
    outer = DetectsQueries(tiny_victim(Access.LABELS), 0.9, "permuted")
    given, plain = outer.labels(suspicious()), tiny_victim().labels(suspicious())
    when = outer.monitor.detected
    assert torch.equal(given, torch.cat([plain[: when - 1], (plain[when - 1 :] + 1) % 10]))
    with pytest.raises(AccessRefused, match="runner-up needs PROBABILITIES"):
        DetectsQueries(tiny_victim(Access.LABELS))


def test_the_order_of_questions_counts_and_not_that_of_answers():
    inputs = pictures(300)
    found = []
    for chunk in (4, 1000):
        outer = DetectsQueries(LinearOracle(chunk=chunk), 0.999)
        found.append((outer.probabilities(inputs), outer.monitor.detected))
    assert found[0][1] == found[1][1] is not None
    assert_close(found[0][0], found[1][0])


def test_settings_without_a_meaning_are_refused():
    victim = tiny_victim()
    for wrap, says in (
        (lambda: ReverseSigmoid(victim, 1.5), "beta"),
        (lambda: ReverseSigmoid(victim, 0.5, 0), "gamma"),
        (lambda: Poisoned(victim, tiny_net(), 0), "epsilon"),
        (lambda: RandomAnswers(victim, 1.1), "probability"),
        (lambda: Shuffled(victim, 1), "shuffled"),
        (lambda: DetectsQueries(victim, 0.9, "silence"), "runner-up or a permuted"),
        (lambda: DetectsQueries(victim, 2.0), "delta"),
    ):
        with pytest.raises(UsageError, match=says):
            wrap()
    assert victim.queries_spent == 0
