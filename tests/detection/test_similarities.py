"""Similarities against reference libraries, at their bounds, and where they have no meaning."""

import numpy as np
import pytest
import torch
from scipy.stats import entropy
from sklearn.metrics import mutual_info_score

from whorl.detection.similarities import cosine, l1, l2, matching, mutual_information
from whorl.errors import UsageError


def labels(*shape, seed=0, classes=5):
    return torch.randint(classes, shape, generator=torch.Generator().manual_seed(seed))


def numbers(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_matching_is_one_minus_hamming():
    evidence = matching(torch.tensor([1, 2, 3, 4]), torch.tensor([1, 0, 3, 9]))
    assert evidence.similarity == 0.5
    assert evidence.per_query.tolist() == [1, 0, 1, 0]
    assert evidence.per_query.dtype == torch.float32


def test_matching_of_queries_with_several_answers_is_the_share_of_equal_ones():
    evidence = matching(torch.tensor([[1, 2], [3, 4], [5, 6]]), torch.tensor([[1, 2], [3, 0], [0, 0]]))
    assert evidence.per_query.tolist() == [1, 0.5, 0]
    assert evidence.similarity == 0.5


@pytest.mark.parametrize("similarity", [matching, mutual_information, cosine, l1, l2])
@pytest.mark.parametrize(("one", "other"), [((3,), (4,)), ((0,), (0,)), ((), ()), ((3, 2), (2, 3))])
def test_lists_that_cannot_be_compared(similarity, one, other):
    with pytest.raises(UsageError, match="two equally long lists"):
        similarity(torch.zeros(one), torch.zeros(other))


@pytest.mark.parametrize("similarity", [matching, mutual_information])
def test_real_numbers_are_no_labels(similarity):
    with pytest.raises(UsageError, match=r"compares class labels; these are torch\.float32"):
        similarity(torch.zeros(3), torch.zeros(3))


@pytest.mark.parametrize("similarity", [cosine, l1, l2])
def test_labels_are_no_real_numbers(similarity):
    with pytest.raises(UsageError, match=r"compares real numbers; these are torch\.int64"):
        similarity(labels(3), labels(3))


@pytest.mark.parametrize("seed", range(5))
def test_mutual_information_is_scikit_learns_over_the_smaller_entropy(seed):
    one, noise = labels(200, seed=seed), labels(200, seed=seed + 100, classes=9)
    other = torch.where(labels(200, seed=seed + 200) < 2, noise, one)
    smaller = min(entropy(np.bincount(each.numpy())) for each in (one, other))
    expected = mutual_info_score(one.numpy(), other.numpy()) / smaller
    assert mutual_information(one, other).similarity == pytest.approx(expected, abs=1e-12)
    assert mutual_information(other, one).similarity == pytest.approx(expected, abs=1e-12)


def test_mutual_information_is_blind_to_what_classes_are_called():
    one = labels(100)
    assert mutual_information(one, (one * 7 + 3) % 5 + 1000).similarity == pytest.approx(1)
    assert mutual_information(one, one + 10**12).similarity == pytest.approx(1)


def test_mutual_information_of_independent_answers_is_nothing():
    one, other = torch.arange(4).repeat(4), torch.arange(4).repeat_interleave(4)
    assert mutual_information(one, other).similarity == pytest.approx(0, abs=1e-12)


def test_models_that_always_say_the_same_are_alike_only_if_they_say_it_both():
    """I and H are 0, and 0 / 0 must convict nobody and acquit no identical model."""
    one = torch.full((20,), 3)
    assert mutual_information(one, one.clone()).similarity == 1
    assert mutual_information(one, one + 1).similarity == 0
    assert mutual_information(one, labels(20)).similarity == 0
    assert mutual_information(labels(20), one).similarity == 0


@pytest.mark.parametrize("shape", [(7, 10), (7, 4, 3)])
def test_cosine_is_torchs_per_query(shape):
    one, other = numbers(*shape), numbers(*shape, seed=1)
    evidence = cosine(one, other)
    expected = (1 + torch.cosine_similarity(one.flatten(1), other.flatten(1))) / 2
    torch.testing.assert_close(evidence.per_query, expected)
    assert evidence.similarity == pytest.approx(float(expected.mean()), abs=1e-6)
    opposite = cosine(one, -one)
    assert opposite.similarity == pytest.approx(0, abs=1e-9)


def test_cosine_of_one_number_a_query_is_of_the_whole():
    evidence = cosine(torch.tensor([1.0, 0.0]), torch.tensor([1.0, 1.0]))
    assert evidence.per_query is None
    assert evidence.similarity == pytest.approx((1 + 0.5**0.5) / 2)


def test_cosine_of_answers_without_length():
    zero, one = torch.zeros(2, 3), torch.ones(2, 3)
    assert cosine(zero, zero).similarity == 1
    assert cosine(zero, one).similarity == 0.5
    assert cosine(one * 1e-30, one).similarity == pytest.approx(1)


def test_l2_falls_with_the_root_mean_square():
    one = numbers(6, 4)
    assert l2(one, one).similarity == 1
    assert l2(one, one + 3).similarity == pytest.approx(1 / 4, abs=1e-6)
    assert l2(one, one + 3).per_query is None


def test_l1_is_one_minus_the_mean_absolute_difference():
    one, other = numbers(5, 5).sigmoid(), numbers(5, 5, seed=1).sigmoid()
    assert l1(one, other).similarity == pytest.approx(1 - float((one - other).abs().mean()))
    assert l1(torch.zeros(4), torch.ones(4)).similarity == 0


@pytest.mark.parametrize("outside", [-0.1, 1.1])
def test_l1_has_a_bound_only_where_numbers_have_one(outside):
    with pytest.raises(UsageError, match=r"l1 compares numbers in \[0, 1\].*use l2"):
        l1(torch.tensor([0.5, outside]), torch.tensor([0.5, 0.5]))


@pytest.mark.parametrize("similarity", [matching, mutual_information, cosine, l1, l2])
def test_labels_are_not_compared_with_real_numbers(similarity):
    for one, other in ((labels(3), torch.zeros(3)), (torch.zeros(3), labels(3))):
        with pytest.raises(UsageError, match="compares"):
            similarity(one, other)


def test_no_rounding_leads_out_of_the_range():
    for seed in range(200):
        one, values = labels(40, seed=seed, classes=7), numbers(1, 9, seed=seed)
        assert mutual_information(one, (one + 1) % 7).similarity <= 1
        assert cosine(values, 3 * values).similarity <= 1
        assert cosine(values, -3 * values).similarity >= 0
