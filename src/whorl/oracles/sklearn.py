"""scikit-learn estimators as oracles, and reading them from skops files without running what the files say.

skops builds only objects of trusted types, but several trusted types run compiled code that believes its arrays:
a tree whose node points beyond the array crashes the process. So a short list of types is accepted, and trees and
support vectors are checked after loading and before use.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from whorl.errors import InvalidFile, OracleError, UsageError
from whorl.oracles.base import Chunk, Oracle
from whorl.oracles.convention import InputConvention, lower
from whorl.storage import check_size, not_whole, one_line
from whorl.types import Access

__all__ = ["SklearnOracle", "read_skops"]

MAX_BYTES: Final = 1 << 30
MAX_UNPACKED_BYTES: Final = 2 << 30
MAX_SCHEMA_BYTES: Final = 256 << 20
MAX_ENTRIES: Final = 200_000  # a forest keeps five arrays a tree
TYPES: Final = frozenset(
    [
        "builtins.str",
        "builtins.int",
        "builtins.float",
        "builtins.bool",
        "builtins.NoneType",
        "builtins.dict",
        "builtins.list",
        "builtins.tuple",
        "builtins.set",
        "numpy.ndarray",
        "numpy.bool",
        "numpy.bool_",
        "numpy.str_",
        "numpy.random.mtrand.RandomState",
        "numpy.int8",
        "numpy.int16",
        "numpy.int32",
        "numpy.int64",
        "numpy.uint8",
        "numpy.uint16",
        "numpy.uint32",
        "numpy.uint64",
        "numpy.float16",
        "numpy.float32",
        "numpy.float64",
        "sklearn.decomposition._pca.PCA",
        "sklearn.discriminant_analysis.LinearDiscriminantAnalysis",
        "sklearn.discriminant_analysis.QuadraticDiscriminantAnalysis",
        "sklearn.ensemble._bagging.BaggingClassifier",
        "sklearn.ensemble._forest.ExtraTreesClassifier",
        "sklearn.ensemble._forest.RandomForestClassifier",
        "sklearn.ensemble._weight_boosting.AdaBoostClassifier",
        "sklearn.linear_model._logistic.LogisticRegression",
        "sklearn.linear_model._logistic.LogisticRegressionCV",
        "sklearn.linear_model._ridge.RidgeClassifier",
        "sklearn.linear_model._ridge.RidgeClassifierCV",
        "sklearn.multiclass.OneVsRestClassifier",
        "sklearn.naive_bayes.BernoulliNB",
        "sklearn.naive_bayes.ComplementNB",
        "sklearn.naive_bayes.GaussianNB",
        "sklearn.naive_bayes.MultinomialNB",
        "sklearn.neighbors._nearest_centroid.NearestCentroid",
        "sklearn.neural_network._multilayer_perceptron.MLPClassifier",
        "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
        "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
        "sklearn.pipeline.Pipeline",
        "sklearn.preprocessing._data.MaxAbsScaler",
        "sklearn.preprocessing._data.MinMaxScaler",
        "sklearn.preprocessing._data.Normalizer",
        "sklearn.preprocessing._data.StandardScaler",
        "sklearn.preprocessing._label.LabelBinarizer",
        "sklearn.svm._classes.LinearSVC",
        "sklearn.svm._classes.NuSVC",
        "sklearn.svm._classes.SVC",
        "sklearn.tree._classes.DecisionTreeClassifier",
        "sklearn.tree._classes.ExtraTreeClassifier",
        "sklearn.tree._tree.Tree",
    ]
)
LOADERS: Final = frozenset(
    [
        "DictNode",
        "JsonNode",
        "ListNode",
        "NdArrayNode",
        "ObjectNode",
        "RandomStateNode",
        "SetNode",
        "TreeNode",
        "TupleNode",
        "TypeNode",
    ]
)


class SklearnOracle(Oracle):
    """A fitted classifier over pictures flattened row by row (channel first, unless the convention says NHWC).

    Grants PROBABILITIES where the estimator has ``predict_proba``, else LABELS. An estimator that saw only some of
    the classes answers 0 for the others.

    Parameters:
        classes: number of classes; the estimator's own labels must be integers in 0..classes-1, or among
            ``class_names``.
    """

    def __init__(
        self,
        estimator: Any,
        *,
        input_shape: tuple[int, int, int],
        classes: int,
        access: Access | None = None,
        convention: InputConvention = InputConvention(),  # noqa: B008 a frozen value
        class_names: Sequence[str] = (),
        name: str = "",
        digest: str = "",
    ) -> None:
        granted = Access.PROBABILITIES if hasattr(estimator, "predict_proba") else Access.LABELS
        super().__init__(
            access=min(access or Access.WEIGHTS, granted),
            input_shape=input_shape,
            classes=classes,
            name=name or type(estimator).__name__,
            digest=digest,
        )
        self._estimator = estimator
        self._granted = granted
        self._adapt = convention.adapter(input_shape)
        self._known = _positions(getattr(estimator, "classes_", None), classes, class_names, self.name)
        expected = getattr(estimator, "n_features_in_", None)
        if expected is not None and expected != int(np.prod(input_shape)):
            raise UsageError(
                f"{self.name} takes {expected} numbers, and input shape {list(input_shape)} gives "
                f"{int(np.prod(input_shape))}"
            )

    def _stream(self, inputs: Tensor) -> Iterator[Chunk]:
        with torch.inference_mode():
            flat = self._adapt(inputs).flatten(1).numpy()
        positions = torch.arange(len(inputs))
        try:
            if self._granted is Access.LABELS:
                answers = self._labels(self._estimator.predict(flat))
            else:
                answers = self._padded(self._estimator.predict_proba(flat))
        except Exception as error:  # estimators, and files of estimators, may raise anything
            raise OracleError(f"{self.name} can't be asked: {one_line(error)}") from None
        output = "labels" if self._granted is Access.LABELS else "probabilities"
        yield positions, lower(answers, output, self.access)

    def _labels(self, predicted: Any) -> Tensor:
        found = dict(zip(self._estimator.classes_.tolist(), self._known.tolist(), strict=True))
        return torch.tensor([found.get(label, -1) for label in np.asarray(predicted).tolist()], dtype=torch.int64)

    def _padded(self, probabilities: Any) -> Tensor:
        given = torch.from_numpy(np.asarray(probabilities, dtype=np.float32))
        if given.ndim != 2 or given.shape[1] != len(self._known):
            raise ValueError(f"predict_proba gave {list(given.shape)} for {len(self._known)} known classes")
        return given.new_zeros(len(given), self.classes).index_copy(1, self._known, given)


def _positions(labels: Any, classes: int, class_names: Sequence[str], name: str) -> Tensor:
    """Where each of the estimator's classes stands among 0..classes-1."""
    if labels is None or np.ndim(labels) != 1:
        raise UsageError(f"{name} is not a fitted classifier of one label a picture: it has no list classes_")
    known = list(np.asarray(labels).tolist())
    names = list(class_names)
    found = [names.index(label) if label in names else label for label in known]
    if not all(isinstance(label, int | float) and label in range(classes) for label in found) or len(set(found)) != len(
        found
    ):
        shown = one_line(ValueError(str(known)), 80)
        raise UsageError(
            f"{name} knows the classes {shown}; integers in 0..{classes - 1} are needed, or class_names that list them"
        )
    return torch.tensor([int(label) for label in found])


def read_skops(path: str | Path) -> Any:
    """The estimator of a ``.skops`` file.

    Raises:
        UsageError: no such file.
        InvalidFile: not a skops file, too large, of a type that is not on the list, or unsound inside.
    """
    path = Path(path)
    check_size(path, MAX_BYTES)
    try:
        data = path.read_bytes()  # once, so that what is checked is what is loaded
        schema = _checked_schema(data)
    except (zipfile.BadZipFile, KeyError, ValueError, RecursionError, OSError, EOFError, NotImplementedError) as error:
        raise not_whole(path, "skops file", error) from None
    for state in _states(schema):
        _refuse_type(state, path)
    import skops.io

    try:
        estimator = skops.io.loads(data, trusted=sorted(TYPES))
        for part in _parts(estimator):
            _check_part(part)
    except Exception as error:  # a schema that lies makes skops, numpy and scikit-learn raise anything
        raise InvalidFile(f"{path} is not a sound skops file: {one_line(error)}") from None
    if not hasattr(estimator, "predict"):
        raise InvalidFile(f"{path} holds a {type(estimator).__name__}, which is not a classifier")
    return estimator


def _checked_schema(data: bytes) -> Any:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = archive.infolist()
        unpacked = sum(entry.file_size for entry in entries)
        if len(entries) > MAX_ENTRIES or unpacked > MAX_UNPACKED_BYTES:
            raise ValueError(
                f"it unpacks to {unpacked:,} bytes in {len(entries):,} entries; "
                f"at most {MAX_UNPACKED_BYTES:,} in {MAX_ENTRIES:,} are read"
            )
        size = archive.getinfo("schema.json").file_size
        if size > MAX_SCHEMA_BYTES:
            raise ValueError(f"its schema has {size:,} bytes; at most {MAX_SCHEMA_BYTES:,} are read")
        return json.loads(archive.read("schema.json"))


def _states(schema: Any) -> Iterator[dict[str, Any]]:
    """Every object that the schema describes, at any depth."""
    waiting = [schema]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            if "__class__" in item or "__loader__" in item:
                yield item
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)


def _refuse_type(state: dict[str, Any], path: Path) -> None:
    name, loader = f"{state.get('__module__')}.{state.get('__class__')}", state.get("__loader__")
    if name in TYPES and isinstance(loader, str) and loader in LOADERS:
        return
    shown = one_line(ValueError(name if name not in TYPES else f"{name} through {loader}"), 120)
    raise InvalidFile(
        f"{path} holds {shown}, which is not on the list of trusted types. "
        "Trusted: forests, trees, AdaBoost, bagging, SVMs, linear models but those of SGD, discriminant analysis, "
        "perceptrons, naive Bayes, centroids, scalers, PCA and their pipelines. Another: make ONNX of it with skl2onnx"
    )


def _parts(root: Any) -> Iterator[Any]:
    """Every object reachable from ``root`` through attributes and containers."""
    seen: set[int] = set()
    waiting = [root]
    while waiting:
        item = waiting.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        yield item
        if isinstance(item, dict):
            waiting.extend(item.values())
        elif isinstance(item, list | tuple | set) or (isinstance(item, np.ndarray) and item.dtype.hasobject):
            waiting.extend(list(item.flat) if isinstance(item, np.ndarray) else item)
        elif hasattr(item, "__dict__"):
            waiting.extend(vars(item).values())


def _check_part(part: Any) -> None:
    from sklearn.base import BaseEstimator
    from sklearn.svm import SVC, NuSVC
    from sklearn.tree import BaseDecisionTree

    if isinstance(part, BaseEstimator):
        vars(part).update({key: value for key, value in (("n_jobs", None), ("verbose", 0)) if key in vars(part)})
    if isinstance(part, BaseDecisionTree) and "tree_" in vars(part):  # a forest keeps an unfitted pattern too
        _check_tree(part)
    if isinstance(part, SVC | NuSVC):
        _check_support_vectors(part)


def _check_tree(estimator: Any) -> None:
    """scikit-learn follows child and feature numbers without looking; children come after their parents."""
    from sklearn.tree._tree import Tree

    tree = estimator.tree_
    if type(tree) is not Tree or not 1 <= tree.node_count <= tree.capacity or tree.n_outputs != 1:
        raise ValueError("a tree that is empty or has several outputs")
    left, right, feature = tree.children_left, tree.children_right, tree.feature
    places = np.arange(tree.node_count)
    leaf = left == -1
    children = np.stack([left, right])[:, ~leaf]
    ordered = (children > places[~leaf]).all() and (children < tree.node_count).all()
    known = ((feature[~leaf] >= 0) & (feature[~leaf] < estimator.n_features_in_)).all()
    if not (ordered and known) or tree.n_features != estimator.n_features_in_:
        raise ValueError("a tree whose nodes point outside of it")


def _check_support_vectors(estimator: Any) -> None:
    """Libsvm trusts the counts beside its arrays."""
    classes, vectors = len(estimator.classes_), len(estimator.support_)
    pairs = classes * (classes - 1) // 2
    counts = np.asarray(estimator._n_support)
    shapes = {
        "support_vectors_": (vectors, estimator.n_features_in_),
        "_dual_coef_": (classes - 1, vectors),
        "_intercept_": (pairs,),
        "_n_support": (classes,),
    }
    sound = all(np.shape(getattr(estimator, key)) == shape for key, shape in shapes.items())
    sound = sound and counts.min() >= 0 and int(counts.sum()) == vectors
    sound = sound and {np.size(estimator._probA), np.size(estimator._probB)} in ({0}, {pairs})
    if not sound or estimator._sparse or estimator.kernel not in ("linear", "poly", "rbf", "sigmoid"):
        raise ValueError("a support vector machine whose arrays do not fit together, or with a kernel of its own")
    if {"_impl", "predict", "predict_proba"} & vars(estimator).keys():
        raise ValueError("a support vector machine that overrides its own methods")
