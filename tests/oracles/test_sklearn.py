"""Estimators answer as scikit-learn does, and skops files are believed only as far as they were checked."""

import io
import json
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skops.io
import torch
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis, QuadraticDiscriminantAnalysis
from sklearn.ensemble import (
    AdaBoostClassifier,
    BaggingClassifier,
    ExtraTreesClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV, RidgeClassifierCV, SGDClassifier
from sklearn.multiclass import OneVsRestClassifier
from sklearn.naive_bayes import BernoulliNB, ComplementNB, GaussianNB, MultinomialNB
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVC, LinearSVC
from sklearn.tree import DecisionTreeClassifier

from whorl.errors import InvalidFile, OracleError, UsageError
from whorl.oracles import sklearn as oracle_module
from whorl.oracles.convention import InputConvention
from whorl.oracles.sklearn import SklearnOracle, read_skops
from whorl.types import Access

SHAPE = (1, 8, 8)
PIXELS, LABELS = load_digits(return_X_y=True)
PIXELS, LABELS = PIXELS[:300] / 16, LABELS[:300]
INPUTS = torch.tensor(PIXELS[:40], dtype=torch.float32).reshape(-1, *SHAPE)


def forest() -> RandomForestClassifier:
    return RandomForestClassifier(5, random_state=0).fit(PIXELS, LABELS)


def oracle(estimator: Any, **options: Any) -> SklearnOracle:
    return SklearnOracle(estimator, **{"input_shape": SHAPE, "classes": 10, **options})


# Answers


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
        (forest, {"classes": 5}, r"integers in 0\.\.4 are needed"),
        (lambda: GaussianNB().fit(PIXELS, LABELS.astype(str)), {}, "class_names that list them"),
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


# skops


@pytest.mark.parametrize(
    "make",
    [
        forest,
        lambda: ExtraTreesClassifier(3, random_state=np.random.RandomState(0)),
        lambda: DecisionTreeClassifier(random_state=0),
        lambda: SVC(),
        lambda: make_pipeline(StandardScaler(), LogisticRegression()),
        lambda: MLPClassifier((4,), max_iter=2, random_state=0),
        lambda: AdaBoostClassifier(n_estimators=3, random_state=0),
        lambda: BaggingClassifier(DecisionTreeClassifier(), 3, max_features=0.5, random_state=0),
        lambda: OneVsRestClassifier(LinearSVC()),
        lambda: LogisticRegressionCV(Cs=2, cv=2, max_iter=5, use_legacy_attributes=False),
        RidgeClassifierCV,
        LinearDiscriminantAnalysis,
        lambda: make_pipeline(PCA(5), QuadraticDiscriminantAnalysis()),
        MultinomialNB,
        BernoulliNB,
        ComplementNB,
        NearestCentroid,
    ],
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_skops_files_round_trip(tmp_path: Path, make: Callable[[], Any]) -> None:
    estimator = make().fit(PIXELS, LABELS)
    skops.io.dump(estimator, tmp_path / "x.skops", compression=zipfile.ZIP_DEFLATED)
    found = read_skops(tmp_path / "x.skops")
    assert torch.equal(oracle(found).answers(INPUTS), oracle(estimator).answers(INPUTS))


def test_a_file_cannot_ask_for_processes_or_talk(tmp_path: Path) -> None:
    loud = RandomForestClassifier(3, n_jobs=1, verbose=5, random_state=0)
    loud.set_params(verbose=0).fit(PIXELS, LABELS)
    skops.io.dump(loud.set_params(verbose=5, n_jobs=10**6), tmp_path / "x.skops")
    found = read_skops(tmp_path / "x.skops")
    assert (found.n_jobs, found.verbose) == (None, 0)


def square(values: np.ndarray) -> np.ndarray:
    return values**2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: KNeighborsClassifier(), "KNeighborsClassifier, which is not on the list.*skl2onnx"),
        (lambda: HistGradientBoostingClassifier(max_iter=2), "not on the list"),
        (lambda: SGDClassifier(), "not on the list"),
        (lambda: make_pipeline(FunctionTransformer(square), GaussianNB()), "not on the list"),
        (lambda: make_pipeline(FunctionTransformer(np.abs), GaussianNB()), "not on the list"),
    ],
)
def test_untrusted_types(tmp_path: Path, make: Callable[[], Any], message: str) -> None:
    skops.io.dump(make().fit(PIXELS, LABELS), tmp_path / "x.skops")
    with pytest.raises(InvalidFile, match=message) as error:
        read_skops(tmp_path / "x.skops")
    assert str(error.value).isprintable()


def rewritten(estimator: Any, path: Path, change: Callable[[dict[str, Any], dict[str, bytes]], None]) -> Path:
    """A skops file whose schema and arrays were changed."""
    with zipfile.ZipFile(io.BytesIO(skops.io.dumps(estimator))) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    schema = json.loads(entries["schema.json"])
    change(schema, entries)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in (entries | {"schema.json": json.dumps(schema).encode()}).items():
            archive.writestr(name, content)
    return path


def test_a_loader_that_is_no_name(tmp_path: Path) -> None:
    def change(schema: dict[str, Any], _: dict[str, bytes]) -> None:
        schema["__loader__"] = [[]]

    with pytest.raises(InvalidFile, match="not on the list of trusted types"):
        read_skops(rewritten(forest(), tmp_path / "x.skops", change))


def find(schema: Any, name: str) -> dict[str, Any]:
    """The first object of that class."""
    waiting = [schema]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            if item.get("__class__") == name:
                return item
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)
    raise KeyError(name)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"__class__": "system", "__module__": "os", "__loader__": "TypeNode"}, "os.system"),
        ({"__class__": "str", "__module__": "builtins", "__loader__": "PartialNode"}, "through PartialNode"),
        ({"__class__": "str", "__module__": "builtins", "__loader__": "MethodNode"}, "through MethodNode"),
        ({"__class__": "eval", "__module__": "builtins", "__loader__": "ObjectNode"}, "builtins.eval"),
        ({"__class__": "call", "__module__": "\x1b[2J", "__loader__": "TypeNode"}, "not on the list"),
    ],
)
def test_forged_types(tmp_path: Path, state: dict[str, Any], message: str) -> None:
    def forge(schema: dict[str, Any], entries: dict[str, bytes]) -> None:
        schema["content"]["content"]["theta_"] = state

    path = rewritten(GaussianNB().fit(PIXELS, LABELS), tmp_path / "x.skops", forge)
    with pytest.raises(InvalidFile, match=message) as error:
        read_skops(path)
    assert str(error.value).isprintable()


def nodes_of_a_tree(entries: dict[str, bytes]) -> str:
    return next(
        name
        for name, content in entries.items()
        if name.endswith(".npy") and np.load(io.BytesIO(content)).dtype.names is not None
    )


def with_nodes(field: str, place: int, value: int) -> Callable[[dict[str, Any], dict[str, bytes]], None]:
    def change(schema: dict[str, Any], entries: dict[str, bytes]) -> None:
        name = nodes_of_a_tree(entries)
        nodes = np.load(io.BytesIO(entries[name]))
        nodes[field][place] = value
        buffer = io.BytesIO()
        np.save(buffer, nodes)
        entries[name] = buffer.getvalue()

    return change


def test_trees_that_point_outside(tmp_path: Path) -> None:
    tree = DecisionTreeClassifier(random_state=0).fit(PIXELS, LABELS)
    path = tmp_path / "x.skops"
    rewritten(tree, path, with_nodes("threshold", 0, 1))
    assert read_skops(path).tree_.threshold[0] == 1  # the forger works
    for field, place, value in [
        ("left_child", 0, 10**6),
        ("left_child", 0, -5),
        ("right_child", 0, 0),
        ("right_child", 3, 1),
        ("feature", 0, 64),
        ("feature", 0, -(10**6)),
    ]:
        with pytest.raises(InvalidFile, match="nodes point outside"):
            read_skops(rewritten(tree, path, with_nodes(field, place, value)))


def test_trees_that_lie_about_their_size(tmp_path: Path) -> None:
    tree = DecisionTreeClassifier(random_state=0).fit(PIXELS, LABELS)
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


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("_n_support", np.full(10, 10**6, dtype=np.int32)),
        ("_dual_coef_", np.zeros((1, 1))),
        ("_intercept_", np.zeros(1)),
        ("support_vectors_", np.zeros((2, 64))),
        ("_probA", np.zeros(3)),
        ("kernel", "precomputed"),
        ("_impl", "one_class"),
    ],
)
def test_support_vector_machines_whose_counts_lie(tmp_path: Path, attribute: str, value: Any) -> None:
    machine = SVC().fit(PIXELS, LABELS)
    setattr(machine, attribute, value)
    skops.io.dump(machine, tmp_path / "x.skops")
    with pytest.raises(InvalidFile, match="support vector machine"):
        read_skops(tmp_path / "x.skops")


def test_zip_bombs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.skops"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("schema.json", "{}")
        archive.writestr("zeros.npy", bytes(4 << 20))
    assert path.stat().st_size < 20_000
    monkeypatch.setattr(oracle_module, "MAX_UNPACKED_BYTES", 1 << 20)
    with pytest.raises(InvalidFile, match=r"unpacks to 4,194,306 bytes in 2 entries"):
        read_skops(path)
    monkeypatch.setattr(oracle_module, "MAX_UNPACKED_BYTES", 1 << 30)
    monkeypatch.setattr(oracle_module, "MAX_ENTRIES", 1)
    with pytest.raises(InvalidFile, match="in 1 are read"):
        read_skops(path)
    monkeypatch.setattr(oracle_module, "MAX_SCHEMA_BYTES", 1)
    monkeypatch.setattr(oracle_module, "MAX_ENTRIES", 10)
    with pytest.raises(InvalidFile, match="its schema has 2 bytes"):
        read_skops(path)


def test_what_is_not_skops(tmp_path: Path) -> None:
    skops.io.dump(GaussianNB().fit(PIXELS, LABELS), tmp_path / "x.skops")
    whole = (tmp_path / "x.skops").read_bytes()
    for content in (b"", b"text", whole[: len(whole) // 2]):
        (tmp_path / "y.skops").write_bytes(content)
        with pytest.raises(InvalidFile, match="not a whole skops file"):
            read_skops(tmp_path / "y.skops")
    for schema in (b"[" * 100_000, b"\xff", b"[]", b"{}", b'{"protocol": true}', b'{"protocol": 99}'):
        with zipfile.ZipFile(tmp_path / "y.skops", "w") as archive:
            archive.writestr("schema.json", schema)
        with pytest.raises(InvalidFile):
            read_skops(tmp_path / "y.skops")
    skops.io.dump(StandardScaler().fit(PIXELS), tmp_path / "z.skops")
    with pytest.raises(InvalidFile, match="StandardScaler, which is not a classifier"):
        read_skops(tmp_path / "z.skops")
    with pytest.raises(UsageError, match="no such file"):
        read_skops(tmp_path / "none.skops")
