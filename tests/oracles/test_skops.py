"""Of a skops file what answers rest on is read, and nothing of it is run."""

import copy
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skops.io
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_wine
from sklearn.decomposition import PCA
from sklearn.ensemble import GradientBoostingClassifier, HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.feature_selection import SelectKBest
from sklearn.frozen import FrozenEstimator
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import FixedThresholdClassifier, GridSearchCV, TunedThresholdClassifierCV
from sklearn.multioutput import ClassifierChain
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import (
    FunctionTransformer,
    KBinsDiscretizer,
    OneHotEncoder,
    OrdinalEncoder,
    PolynomialFeatures,
    SplineTransformer,
    StandardScaler,
)
from sklearn.semi_supervised import LabelSpreading
from skops_files import Change, find, rewritten, states

from whorl.errors import InvalidFile, UsageError
from whorl.oracles import skops as reader
from whorl.oracles.skops import read_skops

ROWS, KINDS = load_wine(return_X_y=True)
ROWS = np.c_[np.arange(len(ROWS)) % 3, ROWS]


def bayes(path: Path, change: Change) -> Path:
    return rewritten(GaussianNB().fit(ROWS, KINDS), path, change)


def kept(estimator: Any, path: Path) -> Path:
    skops.io.dump(estimator, path, compression=zipfile.ZIP_DEFLATED)
    return path


@pytest.mark.parametrize(
    "make",
    [
        lambda: make_pipeline(
            make_column_transformer(
                (OneHotEncoder(handle_unknown="ignore", drop="first"), [0]),
                (StandardScaler(), slice(1, 6)),
                (OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1), [0]),
                ("drop", [7]),
                remainder="passthrough",
            ),
            StandardScaler(with_mean=False),
            LogisticRegression(),
        ),
        lambda: make_pipeline(SimpleImputer(), KBinsDiscretizer(), PolynomialFeatures(2), LogisticRegression()),
        lambda: make_pipeline(make_union(PCA(2), StandardScaler()), SelectKBest(k=6), KNeighborsClassifier()),
        lambda: make_pipeline(FunctionTransformer(), PolynomialFeatures(3, interaction_only=True), GaussianNB()),
    ],
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_pipelines(tmp_path: Path, make: Callable[[], Any]) -> None:
    estimator = make().fit(ROWS, KINDS)
    found = read_skops(kept(estimator, tmp_path / "x.skops"))
    asked = np.concatenate([ROWS, ROWS[:, ::-1]])
    assert np.array_equal(found.predict_proba(asked), estimator.predict_proba(asked))


def test_of_a_search_its_best_estimator_is_read(tmp_path: Path) -> None:
    search = GridSearchCV(make_pipeline(GaussianNB()), {"gaussiannb__var_smoothing": [1e-9, 1]}, scoring="accuracy")
    outer = make_pipeline(StandardScaler(), search).fit(ROWS, KINDS)
    found = read_skops(kept(outer, tmp_path / "x.skops"))
    assert type(found[-1]).__name__ == "Pipeline"
    assert np.array_equal(found.predict_proba(ROWS), outer.predict_proba(ROWS))
    alone = read_skops(kept(outer[-1], tmp_path / "y.skops"))
    assert np.array_equal(alone.predict_proba(ROWS), outer[-1].predict_proba(ROWS))


def test_of_a_tuned_threshold_what_its_message_says_is_read(tmp_path: Path) -> None:
    tuned = TunedThresholdClassifierCV(GaussianNB()).fit(ROWS, KINDS > 0)
    with pytest.raises(InvalidFile, match=r"Save FixedThresholdClassifier\(FrozenEstimator\(tuned.estimator_\)"):
        read_skops(kept(tuned, tmp_path / "x.skops"))
    fixed = FixedThresholdClassifier(FrozenEstimator(tuned.estimator_), threshold=tuned.best_threshold_)
    found = read_skops(kept(fixed.fit(ROWS, KINDS > 0), tmp_path / "y.skops"))
    assert np.array_equal(found.predict(ROWS), tuned.predict(ROWS))


def test_a_file_cannot_ask_for_processes_or_talk(tmp_path: Path) -> None:
    loud = RandomForestClassifier(3, n_jobs=1, random_state=0).fit(ROWS, KINDS)
    found = read_skops(kept(loud.set_params(verbose=5, n_jobs=10**6), tmp_path / "x.skops"))
    assert (found.n_jobs, found.verbose) == (None, 0)


def square(values: np.ndarray) -> np.ndarray:
    return values**2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: make_pipeline(SplineTransformer(), GaussianNB()), "SplineTransformer, which is not on.*with skl2onnx"),
        (lambda: make_pipeline(FunctionTransformer(square), GaussianNB()), "square, a function"),
        (lambda: make_pipeline(FunctionTransformer(np.abs), GaussianNB()), "numpy.*, a function, and nothing"),
        (lambda: KNeighborsClassifier(metric=square), "square, a function"),
        (lambda: KNeighborsClassifier(metric="minkowski", metric_params={"w": np.ones(14)}), "a distance that is not"),
        (lambda: HistGradientBoostingClassifier(max_iter=2, categorical_features=[0]), "Put an OrdinalEncoder before"),
        (lambda: GradientBoostingClassifier(n_estimators=2, init=GaussianNB()), "Fit it with init=None"),
        (lambda: make_pipeline(OneHotEncoder(max_categories=2), LogisticRegression()), "Leave out min_frequency"),
        (lambda: LabelSpreading(kernel="knn"), "NearestNeighbors, which is not on the list"),
        (lambda: GridSearchCV(GaussianNB(), {"var_smoothing": [1e-9]}, refit=False), "Search with refit=True"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_what_is_not_read_and_what_to_do(tmp_path: Path, make: Callable[[], Any], message: str) -> None:
    estimator = make()
    if "metric" in estimator.get_params() and callable(estimator.metric):
        estimator.set_params(metric="minkowski").fit(ROWS, KINDS).set_params(metric=square)
    else:
        estimator.fit(ROWS, KINDS)
    with pytest.raises(InvalidFile, match=message) as error:
        read_skops(kept(estimator, tmp_path / "x.skops"))
    assert str(error.value).isprintable()


def test_several_answers_at_once(tmp_path: Path) -> None:
    chain = ClassifierChain(GaussianNB()).fit(ROWS, np.stack([KINDS > 0, KINDS > 1], 1))
    with pytest.raises(InvalidFile, match=r"several questions at once.*Save one of its estimators_"):
        read_skops(kept(chain, tmp_path / "x.skops"))
    read_skops(kept(chain.estimators_[0], tmp_path / "y.skops"))


def test_words_are_not_asked(tmp_path: Path) -> None:
    words = make_pipeline(OneHotEncoder(handle_unknown="ignore"), GaussianNB())
    table = np.array([["red"], ["blue"]] * 10)
    words.set_params(onehotencoder__sparse_output=False).fit(table, [0, 1] * 10)
    with pytest.raises(InvalidFile, match="words, and whorl asks in numbers"):
        read_skops(kept(words, tmp_path / "x.skops"))


# What an adversary names


def test_a_loader_that_is_no_name(tmp_path: Path) -> None:
    def change(schema: dict[str, Any], _: dict[str, bytes]) -> None:
        schema["__loader__"] = [[]]

    with pytest.raises(InvalidFile, match="not on the list of trusted types"):
        read_skops(bayes(tmp_path / "x.skops", change))


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"__class__": "system", "__module__": "os", "__loader__": "TypeNode"}, "os.system"),
        ({"__class__": "str", "__module__": "builtins", "__loader__": "PartialNode"}, "through PartialNode"),
        ({"__class__": "str", "__module__": "builtins", "__loader__": "MethodNode"}, "through MethodNode"),
        ({"__class__": "ndarray", "__module__": "numpy", "__loader__": "ObjectNode"}, "through ObjectNode"),
        (
            {"__class__": "PCA", "__module__": "sklearn.decomposition._pca", "__loader__": "DictNode"},
            "through DictNode",
        ),
        ({"__class__": "eval", "__module__": "builtins", "__loader__": "ObjectNode"}, "builtins.eval"),
        ({"__class__": "eval", "__module__": "builtins", "__loader__": "FunctionNode"}, "builtins.eval, a function"),
        ({"__class__": "call", "__module__": "\x1b[2J", "__loader__": "TypeNode"}, "not on the list"),
    ],
)
def test_forged_types(tmp_path: Path, state: dict[str, Any], message: str) -> None:
    def forge(schema: dict[str, Any], entries: dict[str, bytes]) -> None:
        schema["content"]["content"]["theta_"] = state

    with pytest.raises(InvalidFile, match=message) as error:
        read_skops(bayes(tmp_path / "x.skops", forge))
    assert str(error.value).isprintable()


def test_functions_are_left_out_only_where_nothing_calls_them(tmp_path: Path) -> None:
    function = {"__class__": "system", "__module__": "os", "__loader__": "FunctionNode", "content": {}}
    pipeline = make_pipeline(SelectKBest(k=3), GaussianNB()).fit(ROWS, KINDS)

    def forge(attribute: str) -> Change:
        def change(schema: dict[str, Any], entries: dict[str, bytes]) -> None:
            find(schema, "SelectKBest")["content"]["content"][attribute] = function

        return change

    found = read_skops(rewritten(pipeline, tmp_path / "x.skops", forge("score_func")))
    assert found[0].score_func is None
    with pytest.raises(InvalidFile, match=r"os\.system, a function"):
        read_skops(rewritten(pipeline, tmp_path / "x.skops", forge("scores_")))


def test_what_only_fitting_reads_is_never_built(tmp_path: Path) -> None:
    def change(schema: dict[str, Any], entries: dict[str, bytes]) -> None:
        tree = find(schema, "KDTree")
        tree["content"] = {"__class__": "system", "__module__": "os", "__loader__": "TypeNode"}

    neighbours = KNeighborsClassifier(algorithm="kd_tree").fit(ROWS, KINDS)
    found = read_skops(rewritten(neighbours, tmp_path / "x.skops", change))
    assert np.array_equal(found.predict_proba(ROWS), neighbours.predict_proba(ROWS))


def test_an_object_that_is_held_again_and_again(tmp_path: Path) -> None:
    def change(schema: dict[str, Any], entries: dict[str, bytes]) -> None:
        inner = copy.deepcopy(schema)
        for state in states(inner):
            state.pop("__id__", None)
        for depth in range(18):  # each list names what is in the one before twice, 2^18 estimators in the end
            kind = {key: inner[key] for key in ("__class__", "__module__", "__loader__")} | {"__id__": depth + 1}
            both = [inner | {"__id__": depth + 1}, kind]
            inner = {"__class__": "list", "__module__": "builtins", "__loader__": "ListNode", "content": both}
        schema["content"]["content"]["theta_"] = inner

    with pytest.raises(InvalidFile, match="more than 200,000 objects"):
        read_skops(bayes(tmp_path / "x.skops", change))


# What is no skops file


def test_zip_bombs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.skops"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("schema.json", "{}")
        archive.writestr("zeros.npy", bytes(4 << 20))
    assert path.stat().st_size < 20_000
    monkeypatch.setattr(reader, "MAX_UNPACKED_BYTES", 1 << 20)
    with pytest.raises(InvalidFile, match=r"unpacks to 4,194,306 bytes in 2 entries"):
        read_skops(path)
    monkeypatch.setattr(reader, "MAX_UNPACKED_BYTES", 1 << 30)
    monkeypatch.setattr(reader, "MAX_ENTRIES", 1)
    with pytest.raises(InvalidFile, match="in 1 are read"):
        read_skops(path)
    monkeypatch.setattr(reader, "MAX_SCHEMA_BYTES", 1)
    monkeypatch.setattr(reader, "MAX_ENTRIES", 10)
    with pytest.raises(InvalidFile, match="its schema has 2 bytes"):
        read_skops(path)


def test_what_is_not_skops(tmp_path: Path) -> None:
    whole = kept(GaussianNB().fit(ROWS, KINDS), tmp_path / "x.skops").read_bytes()
    for content in (b"", b"text", whole[: len(whole) // 2]):
        (tmp_path / "y.skops").write_bytes(content)
        with pytest.raises(InvalidFile, match="not a whole skops file"):
            read_skops(tmp_path / "y.skops")
    for schema in (b"[" * 100_000, b"\xff", b"[]", b"1", b"null", b"{}", b'{"protocol": true}', b'{"protocol": 99}'):
        with zipfile.ZipFile(tmp_path / "y.skops", "w") as archive:
            archive.writestr("schema.json", schema)
        with pytest.raises(InvalidFile):
            read_skops(tmp_path / "y.skops")
    with pytest.raises(InvalidFile, match="StandardScaler, which is not a classifier"):
        read_skops(kept(StandardScaler().fit(ROWS), tmp_path / "z.skops"))
    with pytest.raises(UsageError, match="no such file"):
        read_skops(tmp_path / "none.skops")
