"""Estimators from files whose arrays would lead compiled code astray are refused before they are asked.

Each forger is first seen to work: the same change with a value that fits is read.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skops.io
import torch
from sklearn.datasets import load_wine
from sklearn.decomposition import KernelPCA
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import (
    BaggingClassifier,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.gaussian_process import GaussianProcessClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import FixedThresholdClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier, RadiusNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, PolynomialFeatures
from sklearn.random_projection import GaussianRandomProjection
from sklearn.semi_supervised import LabelPropagation
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor
from skops_files import changed_nodes, find, rewritten

from whorl.errors import InvalidFile
from whorl.oracles import soundness
from whorl.oracles.sklearn import SklearnOracle
from whorl.oracles.skops import read_skops

ROWS, KINDS = load_wine(return_X_y=True)
FEW = np.arange(len(ROWS))[:, None] % [3, 4]


def read(estimator: Any, path: Path) -> Any:
    skops.io.dump(estimator, path)
    return read_skops(path)


# Trees


@pytest.mark.parametrize(
    ("make", "left", "right", "feature"),
    [
        (lambda: DecisionTreeClassifier(random_state=0), "left_child", "right_child", "feature"),
        (lambda: GradientBoostingClassifier(n_estimators=2), "left_child", "right_child", "feature"),
        (lambda: HistGradientBoostingClassifier(max_iter=2), "left", "right", "feature_idx"),
    ],
)
def test_trees_that_point_outside(tmp_path: Path, make: Callable[[], Any], left: str, right: str, feature: str) -> None:
    estimator, path = make().fit(ROWS, KINDS), tmp_path / "x.skops"
    found = read_skops(rewritten(estimator, path, changed_nodes(feature, 0, 12)))
    assert found.predict(ROWS).shape == KINDS.shape
    forged = [(left, 0, 10**6), (left, 0, 0), (right, 0, 0), (feature, 0, 13), (feature, 0, -(10**6))]
    for field, place, value in forged if left == "left" else [*forged, (left, 0, -5)]:
        with pytest.raises(InvalidFile, match="nodes point outside"):
            read_skops(rewritten(estimator, path, changed_nodes(field, place, value)))


def test_trees_that_lie_about_their_size(tmp_path: Path) -> None:
    tree = DecisionTreeClassifier(random_state=0).fit(ROWS, KINDS)
    for value in ("0", "-1", "5"):

        def count(schema: dict[str, Any], entries: dict[str, bytes], value: str = value) -> None:
            find(schema, "Tree")["content"]["content"]["node_count"]["content"] = value

        with pytest.raises(InvalidFile, match="not a sound skops file"):
            read_skops(rewritten(tree, tmp_path / "x.skops", count))

    def empty(schema: dict[str, Any], entries: dict[str, bytes]) -> None:
        state = find(schema, "Tree")["content"]
        state["content"], state["key_types"]["content"] = {}, []

    with pytest.raises(InvalidFile, match="a tree that is empty"):
        read_skops(rewritten(tree, tmp_path / "x.skops", empty))


def test_trees_of_several_outputs(tmp_path: Path) -> None:
    tree = DecisionTreeClassifier(random_state=0).fit(ROWS, KINDS)

    def change(schema: dict[str, Any], entries: dict[str, bytes]) -> None:
        number = find(schema, "Tree")["__reduce__"]["args"]["content"][2]
        number["content"] = str(10**9)
        del number["__id__"]  # by which it would be the 1 that stands elsewhere

    with pytest.raises(InvalidFile, match="not a sound skops file"):
        read_skops(rewritten(tree, tmp_path / "x.skops", change))


def deeper(estimator: Any) -> Any:
    """A stage that has more features than the others."""
    other = DecisionTreeRegressor(max_depth=1).fit(np.c_[ROWS, ROWS], KINDS)
    estimator.estimators_[1, 0] = other
    return estimator


@pytest.mark.parametrize(
    "forge",
    [
        lambda boosted: setattr(boosted, "estimators_", boosted.estimators_[:, :2]),
        lambda boosted: setattr(boosted, "estimators_", np.concatenate([boosted.estimators_] * 2, 1)),
        lambda boosted: setattr(boosted, "estimators_", boosted.estimators_[:0]),
        lambda boosted: setattr(boosted, "n_trees_per_iteration_", 1),
        lambda boosted: setattr(boosted, "classes_", np.arange(2)),
        lambda boosted: setattr(boosted.init_, "class_prior_", np.ones(2) / 2),
        lambda boosted: setattr(boosted.init_, "n_outputs_", 2),
        lambda boosted: setattr(boosted._loss, "is_multiclass", False),
        lambda boosted: setattr(boosted._loss, "link", boosted.init_),
        lambda boosted: setattr(boosted, "_loss", boosted.init_),
        lambda boosted: boosted.estimators_.__setitem__((0, 0), boosted.init_),
        lambda boosted: delattr(boosted.estimators_[0, 0], "tree_"),
        deeper,
    ],
)
def test_boosting_whose_stages_do_not_fit(tmp_path: Path, forge: Callable[[Any], Any]) -> None:
    boosted = GradientBoostingClassifier(n_estimators=2).fit(ROWS, KINDS)
    read(boosted, tmp_path / "x.skops")
    forge(boosted)
    with pytest.raises(InvalidFile, match=r"do not fit|not a sound skops file|begins with another"):
        read(boosted, tmp_path / "x.skops")


@pytest.mark.parametrize(
    "forge",
    [
        lambda boosted: boosted._predictors[0].pop(),
        lambda boosted: setattr(boosted, "_preprocessor", PolynomialFeatures().fit(ROWS[:, :2])),
        lambda boosted: setattr(boosted._bin_mapper, "is_categorical_", np.ones(13, np.uint8)),
        lambda boosted: boosted._predictors[0][0].nodes.__setitem__("is_categorical", 1),
        lambda boosted: setattr(boosted._predictors[0][0], "nodes", boosted._predictors[0][0].nodes[:0]),
        lambda boosted: setattr(boosted, "_loss", boosted._bin_mapper),
    ],
)
def test_binned_boosting_that_does_not_fit(tmp_path: Path, forge: Callable[[Any], Any]) -> None:
    boosted = HistGradientBoostingClassifier(max_iter=2).fit(ROWS, KINDS)
    read(boosted, tmp_path / "x.skops")
    forge(boosted)
    with pytest.raises(InvalidFile):
        read(boosted, tmp_path / "x.skops")


# Vectors, rows, columns


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("_n_support", np.full(3, 10**6, dtype=np.int32)),
        ("_dual_coef_", np.zeros((1, 1))),
        ("_intercept_", np.zeros(1)),
        ("support_vectors_", np.zeros((2, 13))),
        ("_probA", np.zeros(2)),
        ("kernel", "precomputed"),
        ("_impl", "one_class"),
    ],
)
def test_support_vector_machines_whose_counts_lie(tmp_path: Path, attribute: str, value: Any) -> None:
    machine = SVC().fit(ROWS, KINDS)
    setattr(machine, attribute, value)
    with pytest.raises(InvalidFile, match="support vector machine"):
        read(machine, tmp_path / "x.skops")


@pytest.mark.parametrize("make", [KNeighborsClassifier, lambda: RadiusNeighborsClassifier(1e3)])
@pytest.mark.parametrize("algorithm", ["brute", "kd_tree", "ball_tree"])
def test_neighbours_are_made_of_their_rows_and_labels(tmp_path: Path, make: Callable[[], Any], algorithm: str) -> None:
    near = make().set_params(algorithm=algorithm).fit(ROWS, KINDS)
    near._tree, near.n_samples_fit_ = None, 10**9
    found = read(near, tmp_path / "x.skops")
    assert np.array_equal(
        found.predict_proba(ROWS), make().set_params(algorithm=algorithm).fit(ROWS, KINDS).predict_proba(ROWS)
    )
    near._y = KINDS + 1
    with pytest.raises(InvalidFile, match="out of bounds"):
        read(near, tmp_path / "x.skops")


@pytest.mark.filterwarnings("error")
def test_no_word_is_lost_on_names_of_columns(tmp_path: Path) -> None:
    scaled = make_pipeline(PolynomialFeatures(1, include_bias=False), GaussianNB()).fit(ROWS, KINDS)
    expected = scaled.predict_proba(ROWS)
    scaled[0].feature_names_in_ = np.array([f"column {number}" for number in range(13)], object)
    with pytest.warns(UserWarning, match="valid feature names"):
        scaled.predict(ROWS)
    oracle = SklearnOracle(read(scaled, tmp_path / "x.skops"), input_shape=(1, 1, 13), classes=3)
    found = oracle.probabilities(torch.from_numpy(ROWS).float()[:, None, None])
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_patterns_of_ensembles_are_not_fitted(tmp_path: Path) -> None:
    for pattern in (KNeighborsClassifier(), SVC(), make_pipeline(PolynomialFeatures(), GaussianNB())):
        bag = BaggingClassifier(pattern, 2, random_state=0).fit(ROWS, KINDS)
        assert np.array_equal(read(bag, tmp_path / "x.skops").predict_proba(ROWS), bag.predict_proba(ROWS))


@pytest.mark.parametrize(
    "forge",
    [
        lambda coder: setattr(coder, "_n_features_outs", [1, 1]),
        lambda coder: setattr(coder, "categories_", [np.arange(5), np.arange(4)]),
        lambda coder: setattr(coder, "categories_", [np.array([2, 1, 0]), np.arange(4)]),
        lambda coder: setattr(coder, "categories_", [np.array([0, 1, 1]), np.arange(4)]),
        lambda coder: setattr(coder, "categories_", coder.categories_[:1]),
        lambda coder: setattr(coder, "_infrequent_enabled", True),
        lambda coder: setattr(coder, "_drop_idx_after_grouping", np.array([-1, 0], object)),
        lambda coder: setattr(coder, "_drop_idx_after_grouping", np.array([0, None], object)),
        lambda coder: setattr(coder, "_drop_idx_after_grouping", np.array([0], object)),
    ],
)
def test_one_hot_columns_that_do_not_fit(tmp_path: Path, forge: Callable[[Any], Any]) -> None:
    coded = make_pipeline(OneHotEncoder(), LogisticRegression()).fit(FEW, KINDS)
    assert np.array_equal(read(coded, tmp_path / "x.skops").predict(FEW), coded.predict(FEW))
    forge(coded[0])
    with pytest.raises(InvalidFile):
        read(coded, tmp_path / "x.skops")


@pytest.mark.parametrize(("attribute", "value"), [("_max_degree", 10**6), ("_max_degree", 3), ("_n_out_full", 10**6)])
def test_polynomials_that_do_not_fit(tmp_path: Path, attribute: str, value: int) -> None:
    squared = make_pipeline(PolynomialFeatures(2), GaussianNB()).fit(ROWS, KINDS)
    read(squared, tmp_path / "x.skops")
    setattr(squared[0], attribute, value)
    with pytest.raises(InvalidFile, match="polynomial features"):
        read(squared, tmp_path / "x.skops")


@pytest.mark.parametrize(
    ("make", "limit"),
    [
        (lambda: make_pipeline(GaussianRandomProjection(5), GaussianNB()), "MAX_COLUMNS"),
        (lambda: make_pipeline(PolynomialFeatures(2), GaussianNB()), "MAX_COLUMNS"),
        (lambda: make_pipeline(OneHotEncoder(), LogisticRegression(max_iter=5)), "MAX_COLUMNS"),
        (lambda: RadiusNeighborsClassifier(1e3), "MAX_ROWS"),
        (lambda: make_pipeline(KernelPCA(2), GaussianNB()), "MAX_ROWS"),
        (GaussianProcessClassifier, "MAX_ROWS"),
        (LabelPropagation, "MAX_ROWS"),
        (lambda: VotingClassifier([("a", GaussianNB()), ("b", GaussianNB())]), "MAX_CALLS"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_bounds(tmp_path: Path, make: Callable[[], Any], limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    estimator = make().fit(ROWS, KINDS)
    read(estimator, tmp_path / "x.skops")
    monkeypatch.setattr(soundness, limit, 4)
    with pytest.raises(InvalidFile, match=r"too many|more than 4"):
        read(estimator, tmp_path / "x.skops")


# Names


@pytest.mark.parametrize(
    ("make", "attribute", "value", "message"),
    [
        (GaussianNB, "predict_proba", DummyClassifier(), "overrides its own 'predict_proba'"),
        (lambda: SVC(), "predict", "x", "overrides its own 'predict'"),
        (lambda: StackingClassifier([("a", GaussianNB())]), "stack_method_", ["__init__"], "other methods"),
        (lambda: FixedThresholdClassifier(GaussianNB()), "response_method", "fit", "another method"),
        (lambda: make_pipeline(FunctionTransformer(), GaussianNB())[0], "func", str, "function of its own"),
        (DummyClassifier, "n_classes_", 10**12, "a dummy whose classes do not fit"),
    ],
)
def test_names_that_would_call_something_else(
    tmp_path: Path, make: Callable[[], Any], attribute: str, value: Any, message: str
) -> None:
    estimator = make().fit(ROWS, KINDS % 2)
    setattr(estimator, attribute, value)
    with pytest.raises(InvalidFile, match=message):
        read(estimator, tmp_path / "x.skops")


def test_votes_are_counted_up_to_the_number_of_classes(tmp_path: Path) -> None:
    vote = VotingClassifier([("a", GaussianNB()), ("b", LogisticRegression())]).fit(FEW, KINDS)
    assert np.array_equal(read(vote, tmp_path / "x.skops").predict(FEW), vote.predict(FEW))
    for labels in (np.array([0, 1, 10**12]), np.array([0, 1, -1]), np.array(["a", "b", "c"])):
        vote.estimators_[0].classes_ = labels
        with pytest.raises(InvalidFile, match="a vote of estimators with other classes"):
            read(vote, tmp_path / "x.skops")
