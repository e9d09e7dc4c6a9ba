import pytest
import torch
from linear_oracle import CLASSES, LinearOracle, pictures
from torch.testing import assert_close

from whorl.errors import AccessRefused, BudgetExhausted, UsageError
from whorl.oracles.wrappers import Budgeted, LabelsOnly, Noisy, Rounded, Temperature, TopK
from whorl.types import Access

INPUTS = pictures(10)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


WRAPPERS = {
    "labels": LabelsOnly,
    "top": lambda oracle: TopK(oracle, 2),
    "rounded": lambda oracle: Rounded(oracle, decimals=1),
    "temperature": lambda oracle: Temperature(oracle, 2.0),
    "noisy": lambda oracle: Noisy(oracle, 0.1, generator()),
    "budgeted": lambda oracle: Budgeted(oracle, 100),
}


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS.keys())
@pytest.mark.parametrize("access", [Access.LOGITS, Access.PROBABILITIES])
def test_every_wrapper_keeps_who_the_model_is_and_streams_as_it_does(wrap, access):
    inner = LinearOracle(access)
    outer = wrap(inner)
    kept = ("name", "digest", "input_shape", "classes", "block")
    assert [getattr(outer, key) for key in kept] == [getattr(inner, key) for key in kept]
    stream = outer.stream(INPUTS)
    positions, _ = next(stream)
    assert positions.tolist() == [8, 9]  # the inner oracle answers its last chunk first
    assert len(inner.asked) == 2
    assert sorted(position for part, _ in stream for position in part.tolist()) == list(range(8))
    assert inner.queries_spent == outer.queries_spent == 10


def test_labels_only_gives_the_class_and_refuses_more():
    outer = LabelsOnly(LinearOracle())
    assert outer.access is Access.LABELS
    assert torch.equal(outer.answers(INPUTS), LinearOracle().logits(INPUTS).argmax(1))
    with pytest.raises(AccessRefused):
        outer.probabilities(INPUTS)
    assert torch.equal(LabelsOnly(LinearOracle(Access.LABELS)).labels(INPUTS), outer.labels(INPUTS))


def test_top_k_keeps_the_largest_as_they_are():
    plain = LinearOracle().probabilities(INPUTS)
    top = TopK(LinearOracle(), 2).probabilities(INPUTS)
    for before, after in zip(plain, top, strict=True):
        order = before.argsort(descending=True)
        assert torch.equal(after[order[:2]], before[order[:2]])
        assert not after[order[2:]].any()
    assert torch.equal(TopK(LinearOracle(), CLASSES).probabilities(INPUTS), plain)
    equal = LinearOracle(scale=0.0)  # every class at 1/4: the lower classes are kept
    assert TopK(equal, 1).probabilities(INPUTS)[0].tolist() == [0.25, 0, 0, 0]


def test_rounding_moves_each_probability_by_at_most_half_a_place():
    plain = LinearOracle().probabilities(INPUTS)
    rounded = Rounded(LinearOracle(), decimals=2).probabilities(INPUTS)
    assert (rounded - plain).abs().max() <= 0.005 + 1e-6
    assert_close(rounded * 100, (rounded * 100).round())


@pytest.mark.parametrize("access", [Access.LOGITS, Access.PROBABILITIES])
@pytest.mark.parametrize("temperature", [0.1, 0.5, 1.0, 3.0])
def test_temperature_divides_the_logits(access, temperature):
    observed = Temperature(LinearOracle(access), temperature).probabilities(INPUTS)
    assert_close(observed, (LinearOracle().logits(INPUTS) / temperature).softmax(1), atol=1e-5, rtol=1e-4)


def test_temperature_survives_rows_that_rounding_emptied():
    flat = Rounded(LinearOracle(scale=0.0), decimals=0)  # 1/4 rounds to 0 everywhere
    assert Temperature(flat, 0.01).probabilities(INPUTS)[0].tolist() == [0.25] * 4


def test_noise_is_of_the_given_size_and_of_the_given_seed():
    many = pictures(2000)
    plain = LinearOracle(scale=0.01).probabilities(many)
    noisy = Noisy(LinearOracle(scale=0.01), 0.02, generator(1)).probabilities(many)
    assert_close(noisy.sum(1), torch.ones(len(many)))
    # the sum of a row carries the mean of its noise away, so 3/4 of the variance stays with four classes
    assert (noisy - plain).std().item() == pytest.approx(0.02 * (3 / 4) ** 0.5, rel=0.05)
    assert torch.equal(Noisy(LinearOracle(scale=0.01, chunk=7), 0.02, generator(1)).probabilities(many), noisy)
    assert not torch.equal(Noisy(LinearOracle(scale=0.01), 0.02, generator(2)).probabilities(many), noisy)
    loud = Noisy(LinearOracle(), 100.0, generator()).probabilities(many)
    assert loud.min() >= 0
    assert_close(loud.sum(1), torch.ones(len(many)))


def test_a_budget_is_never_passed_and_what_it_paid_for_arrives():
    inner = LinearOracle()
    outer = Budgeted(inner, 14)
    outer.answers(INPUTS)
    stream = outer.stream(INPUTS)
    positions, answers = next(stream)
    assert positions.tolist() == [0, 1, 2, 3]
    assert_close(answers, LinearOracle().logits(INPUTS)[positions])
    with pytest.raises(BudgetExhausted, match="budget of 14 queries to linear is spent; 6 more"):
        next(stream)
    assert len(inner.asked) == 14
    with pytest.raises(BudgetExhausted):
        outer.answers(INPUTS[:1])
    assert len(inner.asked) == 14


def test_questions_that_were_lost_count_against_the_budget():
    inner = LinearOracle(fail_after=1)
    outer = Budgeted(inner, 10)
    with pytest.raises(Exception, match="linear is down"):
        outer.answers(INPUTS)
    with pytest.raises(BudgetExhausted):
        outer.answers(INPUTS[:1])


def test_wrappers_compose_and_say_what_they_do():
    outer = LabelsOnly(Rounded(LinearOracle(), decimals=0))
    assert outer.treatment == "Rounded(decimals=0) -> LabelsOnly"
    assert torch.equal(outer.labels(INPUTS), LinearOracle().probabilities(INPUTS).round().argmax(1))
    assert Budgeted(TopK(LinearOracle(), 1), 5).treatment == "TopK(k=1)"


@pytest.mark.parametrize("wrap", [WRAPPERS[name] for name in ("top", "rounded", "temperature", "noisy")])
def test_probabilities_cannot_be_treated_where_there_are_none(wrap):
    with pytest.raises(AccessRefused, match="needs PROBABILITIES; linear grants LABELS"):
        wrap(LinearOracle(Access.LABELS))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda oracle: TopK(oracle, 0),
        lambda oracle: TopK(oracle, CLASSES + 1),
        lambda oracle: Rounded(oracle, -1),
        lambda oracle: Temperature(oracle, 0.0),
        lambda oracle: Temperature(oracle, float("nan")),
        lambda oracle: Noisy(oracle, -0.1, generator()),
        lambda oracle: Budgeted(oracle, -1),
    ],
)
def test_settings_without_a_meaning_are_refused(wrap):
    with pytest.raises(UsageError, match=r"needs|must"):
        wrap(LinearOracle())
