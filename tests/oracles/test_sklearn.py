"""Estimators answer as scikit-learn does."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import FixedThresholdClassifier
from sklearn.multiclass import OneVsRestClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier

from whorl.errors import OracleError, UsageError
from whorl.oracles.convention import InputConvention
from whorl.oracles.sklearn import SklearnOracle
from whorl.types import Access

SHAPE = (1, 8, 8)
PIXELS, LABELS = load_digits(return_X_y=True)
PIXELS, LABELS = PIXELS[:300] / 16, LABELS[:300]
INPUTS = torch.tensor(PIXELS[:40], dtype=torch.float32).reshape(-1, *SHAPE)


def forest() -> RandomForestClassifier:
    return RandomForestClassifier(5, random_state=0).fit(PIXELS, LABELS)


def oracle(estimator: Any, **options: Any) -> SklearnOracle:
    return SklearnOracle(estimator, **{"input_shape": SHAPE, "classes": 10, **options})


def test_probabilities_and_labels_are_those_of_the_estimator() -> None:
    estimator = forest()
    asked = oracle(estimator)
    assert asked.access is Access.PROBABILITIES
    expected = torch.tensor(estimator.predict_proba(INPUTS.flatten(1).numpy()), dtype=torch.float32)
    assert torch.equal(asked.probabilities(INPUTS), expected)
    capped = oracle(estimator, access=Access.LABELS)
    assert capped.access is Access.LABELS
    assert torch.equal(capped.labels(INPUTS), expected.argmax(1))
    assert oracle(estimator, access=Access.WEIGHTS).access is Access.PROBABILITIES


def test_estimators_without_probabilities_give_labels() -> None:
    estimator = LinearSVC(random_state=0).fit(PIXELS, LABELS)
    asked = oracle(estimator)
    assert asked.access is Access.LABELS
    assert asked.labels(INPUTS).tolist() == estimator.predict(INPUTS.flatten(1).numpy()).tolist()


def test_labels_of_a_threshold_are_those_that_it_decides() -> None:
    odd = LABELS % 2
    estimator = FixedThresholdClassifier(GaussianNB(), threshold=1 - 1e-9).fit(PIXELS, odd)
    for asked in (oracle(estimator, classes=2), oracle(make_pipeline(estimator).fit(PIXELS, odd), classes=2)):
        assert asked.access is Access.LABELS
        said = estimator.predict(INPUTS.flatten(1).numpy())
        assert asked.labels(INPUTS).tolist() == said.tolist()
        assert (estimator.predict_proba(INPUTS.flatten(1).numpy()).argmax(1) != said).any()


@pytest.mark.parametrize("make", [partial(RandomForestClassifier, 5, random_state=0), LinearSVC])
def test_classes_never_seen_are_padded(make: Callable[[], Any]) -> None:
    some = np.isin(LABELS, (2, 5, 7))
    estimator = make().fit(PIXELS[some], LABELS[some])
    asked = oracle(estimator)
    assert asked.labels(INPUTS).tolist() == estimator.predict(INPUTS.flatten(1).numpy()).tolist()
    if asked.access is Access.PROBABILITIES:
        found = asked.probabilities(INPUTS)
        torch.testing.assert_close(found.sum(1), torch.ones(len(INPUTS)))
        assert found[:, [0, 1, 3, 4, 6, 8, 9]].count_nonzero() == 0


def test_named_and_floating_classes() -> None:
    names = [f"digit {label}" for label in range(9, -1, -1)]
    estimator = GaussianNB().fit(PIXELS, np.array(names)[LABELS])
    asked = oracle(estimator, class_names=names)
    said = estimator.predict(INPUTS.flatten(1).numpy())
    assert [names[label] for label in asked.labels(INPUTS).tolist()] == said.tolist()
    floating = GaussianNB().fit(PIXELS, LABELS.astype(float))
    assert floating.predict(PIXELS[:40]).tolist() == oracle(floating).labels(INPUTS).tolist()


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ([1, 2, 3], ("1", "2", "3")),
        ([2, 3, 1], ("2", "3", "1")),
        ([1, -1], ("-1", "1")),
        ([2.0, 6.0, 10.0], ("2", "6", "10")),
        ([2, 0, 1], ("2", "0", "1")),
        ([True, False], ("True", "False")),
        (["c", "a", "b"], ("b", "c", "a")),
    ],
)
def test_labels_are_found_by_their_names_though_these_spell_numbers(labels: list[Any], names: tuple[str, ...]) -> None:
    estimator = GaussianNB().fit(PIXELS, np.array(labels)[LABELS % len(labels)])
    asked = oracle(estimator, classes=len(names), class_names=names)
    said = estimator.predict(INPUTS.flatten(1).numpy()).tolist()
    spelt = [f"{label:g}" if isinstance(label, float) else str(label) for label in said]
    assert [names[place] for place in asked.labels(INPUTS).tolist()] == spelt


def test_labels_that_may_count_or_be_names_are_refused() -> None:
    estimator = GaussianNB().fit(PIXELS, LABELS % 2 + 1)
    with pytest.raises(UsageError, match="may count from 0 or be the names 1, 2, 3: fit it on rows of all classes"):
        oracle(estimator, classes=3, class_names=("1", "2", "3"))
    assert set(oracle(estimator, classes=3).labels(INPUTS).tolist()) == {1, 2}


def test_the_convention_stretches_and_reorders() -> None:
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 17, (60, 2, 2, 3))  # NHWC in 0..16
    labels = (rows[:, 1, 0, 2] > 8).astype(int)
    estimator = DecisionTreeClassifier(random_state=0).fit(rows.reshape(60, -1), labels)
    inputs = torch.tensor(rows.transpose(0, 3, 1, 2) / 16, dtype=torch.float32)
    asked = SklearnOracle(
        estimator, input_shape=(3, 2, 2), classes=2, convention=InputConvention((0, 16), layout="NHWC")
    )
    assert asked.labels(inputs).tolist() == labels.tolist()


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (lambda: RandomForestClassifier(), {}, "not a fitted classifier"),
        (forest, {"classes": 5}, r"no class_names are given.*or as integers in 0\.\.4"),
        (
            lambda: GaussianNB().fit(PIXELS, LABELS.astype(str)),
            {},
            r"knows the classes '0', '1', .*in the order.*--set class_names=\[",
        ),
        (lambda: GaussianNB().fit(PIXELS, LABELS - 1), {}, "integers in"),
        (forest, {"input_shape": (3, 8, 8)}, "takes 64 numbers, and input shape .* gives 192"),
    ],
)
def test_misfits(make: Callable[[], Any], options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        oracle(make(), **options)


def test_an_estimator_that_fails() -> None:
    estimator = forest()
    estimator.estimators_[0].n_classes_ = 3
    with pytest.raises(OracleError, match="can't be asked") as error:
        oracle(estimator).probabilities(INPUTS)
    assert str(error.value).isprintable()


def test_an_estimator_of_several_labels_a_row_is_no_classifier():
    rows = np.random.default_rng(0).random((60, 3))
    several = np.stack([rows[:, 0] > 0.5, rows[:, 1] > 0.2, rows[:, 2] > 0.5], 1).astype(int)
    estimator = OneVsRestClassifier(LogisticRegression()).fit(rows, several)
    asked = SklearnOracle(estimator, input_shape=(1, 1, 3), classes=3)
    with pytest.raises(OracleError, match="several labels a row"):
        asked.labels(torch.rand(5, 1, 1, 3))
