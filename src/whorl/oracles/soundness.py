"""Whether an estimator that came from a file may be asked.

Compiled code of scikit-learn follows numbers of nodes, columns and classes without looking: an array that does not fit
crashes the process or gives away its memory. What is checked here is what such code rests on, type by type.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from graphlib import TopologicalSorter
from typing import Any, Final

import numpy as np

__all__ = ["Unread", "check_estimator"]

MAX_CALLS: Final = 200_000  # objects asked in one pass, each as often as others hold it
MAX_COLUMNS: Final = 1 << 16  # that a transformer makes of a row
MAX_ROWS: Final = 1 << 17  # of training that every query is compared with, all at once
MAX_DEGREE: Final = 16
KERNELS: Final = ("linear", "poly", "rbf", "sigmoid")
SCORES: Final = ("auto", "decision_function", "predict", "predict_proba")
METRICS: Final = frozenset({
    "braycurtis", "canberra", "chebyshev", "cityblock", "correlation", "cosine", "euclidean", "hamming", "l1", "l2",
    "manhattan", "minkowski", "sqeuclidean",
})  # fmt: skip


class Unread(ValueError):
    """An estimator that may be sound, but rests on something that is not checked; says what to do instead."""


def check_estimator(estimator: Any) -> None:
    """Raise an exception, `Unread` where another estimator would do, unless ``estimator`` may be asked.

    It is changed in place: nothing of it takes several processes or prints, and nearest neighbours are fitted
    anew.
    """
    order = _inside_out(estimator)
    for part in order:
        _check_attributes(part)
        for cls in type(part).__mro__:
            marker, check = CHECKS.get(f"{cls.__module__}.{cls.__name__}", ("", None))
            if check and marker in vars(part):  # ensembles keep an unfitted pattern too
                check(part)


def _inside_out(root: Any) -> list[Any]:
    """Every object with attributes that is reachable from ``root``, after those that it holds."""
    held: dict[int, list[Any]] = {}
    objects = {id(root): root}
    waiting = [root]
    while waiting:
        item = waiting.pop()
        held[id(item)] = inside = list(_held(item))
        for each in inside:
            if id(each) not in objects:
                objects[id(each)] = each
                waiting.append(each)
    sizes: dict[int, int] = {}
    order = TopologicalSorter({place: {id(each) for each in inside} for place, inside in held.items()})
    for place in order.static_order():
        here = int(hasattr(objects[place], "__dict__"))
        sizes[place] = here + sum(sizes[id(each)] for each in held[place])
        if sizes[place] > MAX_CALLS:
            raise ValueError(f"it holds more than {MAX_CALLS:,} objects, those that are held twice counted twice")
    return [objects[place] for place in sizes if hasattr(objects[place], "__dict__")]


def _held(item: Any) -> Iterable[Any]:
    """What an object or a container holds and may itself hold something."""
    if isinstance(item, type):
        return ()
    if isinstance(item, dict):
        inside: Iterable[Any] = item.values()
    elif isinstance(item, np.ndarray):
        inside = item.flat if item.dtype.hasobject else ()
    elif isinstance(item, list | tuple | set):
        inside = item
    else:
        inside = vars(item).values() if hasattr(item, "__dict__") else ()
    return (each for each in inside if not isinstance(each, str | bytes | int | float | type | None))


def _check_attributes(part: Any) -> None:
    """No object overrides its own methods, nor a class its own attribute for what it is."""
    if shadowed := [key for key in vars(part) if callable(getattr(type(part), key, None))]:
        raise ValueError(f"a {type(part).__name__} that overrides its own {', '.join(map(repr, shadowed[:3]))}")
    vars(part).update({key: value for key, value in (("n_jobs", None), ("verbose", 0)) if key in vars(part)})
    for key in ("components_", "random_offset_"):
        _require(len(vars(part).get(key, ())) <= MAX_COLUMNS, "a transformer that makes too many columns")


def _require(sound: Any, what: str) -> None:
    if not sound:
        raise ValueError(what)


def _check_tree(estimator: Any) -> None:
    """Children come after their parents, and features are the estimator's."""
    from sklearn.tree._tree import Tree

    tree = estimator.tree_
    if type(tree) is not Tree or not 1 <= tree.node_count <= tree.capacity or tree.n_outputs != 1:
        raise ValueError("a tree that is empty or has several outputs")
    left, right, feature = tree.children_left, tree.children_right, tree.feature
    _check_nodes(np.stack([left, right]), left == -1, feature, estimator.n_features_in_)
    _require(tree.n_features == estimator.n_features_in_, "a tree whose nodes point outside of it")


def _check_nodes(children: np.ndarray, leaf: np.ndarray, feature: np.ndarray, features: int) -> None:
    """``children`` ``[2, nodes]`` come after their parents and ``feature`` is below ``features``, but at a ``leaf``."""
    inner = children[:, ~leaf]
    ordered = (inner > np.arange(len(leaf))[~leaf]).all() and (inner < len(leaf)).all()
    known = ((feature[~leaf] >= 0) & (feature[~leaf] < features)).all()
    _require(ordered and known, "a tree whose nodes point outside of it")


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
    if not sound or estimator._sparse or estimator.kernel not in KERNELS or "_impl" in vars(estimator):
        raise ValueError("a support vector machine whose arrays do not fit together, or with a kernel of its own")


def _check_boosting(estimator: Any) -> None:
    """Stages are added to as many columns as the beginning has, without looking."""
    from sklearn.dummy import DummyClassifier
    from sklearn.tree import DecisionTreeRegressor

    classes, stages, start, loss = len(estimator.classes_), estimator.estimators_, estimator.init_, estimator._loss
    columns = 1 if classes == 2 else classes
    constant = isinstance(start, str) and start == "zero"
    prior = type(start) is DummyClassifier and start._strategy == "prior" and len(start.classes_) == classes
    if not (constant or prior):
        raise Unread("gradient boosting that begins with another estimator's answers. Fit it with init=None")
    trees = list(np.asarray(stages).flat)
    sound = np.ndim(stages) == 2 and np.shape(stages)[1] == columns == estimator.n_trees_per_iteration_ and trees
    sound = sound and all(
        type(tree) is DecisionTreeRegressor
        and tree.n_features_in_ == estimator.n_features_in_
        and "tree_" in vars(tree)
        for tree in trees
    )
    sound = sound and "sklearn._loss.loss" == type(loss).__module__ and bool(loss.is_multiclass) == (columns > 1)
    _require(sound and type(loss.link).__module__ == "sklearn._loss.link", "gradient boosting whose stages do not fit")


def _check_binned_boosting(estimator: Any) -> None:
    """Trees over histograms. A column transformer before them would choose how many columns they are given."""
    plain = estimator._preprocessor is None and not np.any(estimator._bin_mapper.is_categorical_)
    _require(plain, "gradient boosting whose columns are not the rows' own")
    for trees in estimator._predictors:
        _require(len(trees) == estimator.n_trees_per_iteration_, "gradient boosting whose stages do not fit")
        for tree in trees:
            nodes = tree.nodes
            _require(len(nodes) and not nodes["is_categorical"].any(), "a tree that is empty or has categories")
            children = np.stack([nodes["left"], nodes["right"]]).astype(np.int64)
            _check_nodes(children, nodes["is_leaf"] != 0, nodes["feature_idx"], estimator.n_features_in_)
    _require(type(estimator._loss).__module__ == "sklearn._loss.loss", "gradient boosting without its loss")


def _fit_neighbours(estimator: Any) -> None:
    """Nearest neighbours are their training rows: the tree over them is made anew, and labels are counted again."""
    rows, places, settings = estimator._fit_X, estimator._y, estimator.get_params(deep=False)
    if settings["metric"] not in METRICS or settings["metric_params"] is not None:
        raise Unread("nearest neighbours by a distance that is not read. Make ONNX of them with skl2onnx")
    _require(settings["weights"] is None or isinstance(settings["weights"], str), "nearest neighbours with own weights")
    _require("radius" not in settings or len(rows) <= MAX_ROWS, "too many rows within a radius")
    labels = np.asarray(estimator.classes_)[places]
    vars(estimator).clear()
    type(estimator).__init__(estimator, **settings)
    estimator.fit(np.asarray(rows), labels)


def _check_one_hot(estimator: Any) -> None:
    """A sparse row is made of numbers of columns that nothing checks."""
    categories, features = estimator.categories_, estimator.n_features_in_
    if estimator._infrequent_enabled:
        raise Unread("one-hot encoding of infrequent categories together. Leave out min_frequency and max_categories")
    if any(np.asarray(each).dtype.kind not in "biuf" for each in categories):
        raise ValueError(
            "one-hot encoding of words, and whorl asks in numbers; encode words before, by an own column each"
        )
    sound = len(categories) == features and all(
        np.ndim(each) == 1 and len(each) and np.isfinite(each).all() and (each[1:] > each[:-1]).all()
        for each in categories
    )
    dropped = [None] * features if (drop := estimator._drop_idx_after_grouping) is None else list(drop)
    sound = sound and len(dropped) == features and np.ndim(drop if drop is not None else dropped) == 1
    counts = [len(each) - (gone is not None) for each, gone in zip(categories, dropped, strict=False)]
    sound = sound and all(
        gone is None or (isinstance(gone, int | np.integer) and 0 <= gone < len(each))
        for each, gone in zip(categories, dropped, strict=True)
    )
    _require(sound and list(estimator._n_features_outs) == counts, "one-hot encoding whose categories do not fit")
    _require(sum(counts) <= MAX_COLUMNS, "a transformer that makes too many columns")


def _check_polynomial(estimator: Any) -> None:
    degree = estimator._max_degree
    _require(isinstance(degree, int) and 0 <= degree <= MAX_DEGREE, "polynomial features of a degree that is not read")
    columns = estimator._num_combinations(
        n_features=estimator.n_features_in_,
        min_degree=0,
        max_degree=degree,
        interaction_only=estimator.interaction_only,
        include_bias=estimator.include_bias,
    )
    _require(columns == estimator._n_out_full, "polynomial features whose columns do not fit")
    _require(columns <= MAX_COLUMNS, "a transformer that makes too many columns")


def _check_function(estimator: Any) -> None:
    _require(estimator.func is None, "a transformer with a function of its own")


def _check_prior(estimator: Any) -> None:
    classes = len(estimator.classes_)
    sound = type(estimator.n_outputs_) is int and estimator.n_outputs_ == 1 and estimator.n_classes_ == classes
    _require(sound and np.shape(estimator.class_prior_) == (classes,), "a dummy whose classes do not fit")


def _check_rows(estimator: Any) -> None:
    """Every query is compared with all rows of training at once."""
    rows = next(vars(estimator)[key] for key in ("X_train_", "X_fit_", "X_") if key in vars(estimator))
    _require(len(rows) <= MAX_ROWS, f"more than {MAX_ROWS:,} rows that every query is compared with")


def _check_propagation(estimator: Any) -> None:
    if estimator.kernel != "rbf":
        raise Unread("label propagation over nearest neighbours. Take kernel='rbf', or make ONNX of it with skl2onnx")
    _check_rows(estimator)


def _check_stack(estimator: Any) -> None:
    _require(set(estimator.stack_method_) <= {*SCORES}, "a stack that calls other methods than answers")


def _check_threshold(estimator: Any) -> None:
    _require(estimator.response_method in SCORES, "a threshold on another method than answers")


def _check_vote(estimator: Any) -> None:
    """Votes are counted up to the largest label."""
    classes = len(estimator.classes_)
    for part in _inside_out(list(estimator.estimators_)):
        labels = np.asarray(vars(part).get("classes_", ()))
        numbers = labels.dtype.kind in "biuf" and (labels >= 0).all() and (labels < max(classes, 2)).all()
        _require(not labels.size or numbers, "a vote of estimators with other classes")


CHECKS: Final[dict[str, tuple[str, Callable[[Any], None]]]] = {  # each with an attribute that answers rest on
    "sklearn.decomposition._kernel_pca.KernelPCA": ("X_fit_", _check_rows),
    "sklearn.dummy.DummyClassifier": ("classes_", _check_prior),
    "sklearn.ensemble._gb.GradientBoostingClassifier": ("estimators_", _check_boosting),
    "sklearn.ensemble._hist_gradient_boosting.gradient_boosting.HistGradientBoostingClassifier": (
        "_predictors",
        _check_binned_boosting,
    ),
    "sklearn.ensemble._stacking.StackingClassifier": ("stack_method_", _check_stack),
    "sklearn.ensemble._voting.VotingClassifier": ("estimators_", _check_vote),
    "sklearn.gaussian_process._gpc._BinaryGaussianProcessClassifierLaplace": ("X_train_", _check_rows),
    "sklearn.model_selection._classification_threshold.BaseThresholdClassifier": ("response_method", _check_threshold),
    "sklearn.neighbors._classification.KNeighborsClassifier": ("_fit_X", _fit_neighbours),
    "sklearn.neighbors._classification.RadiusNeighborsClassifier": ("_fit_X", _fit_neighbours),
    "sklearn.preprocessing._encoders.OneHotEncoder": ("categories_", _check_one_hot),
    "sklearn.preprocessing._function_transformer.FunctionTransformer": ("func", _check_function),
    "sklearn.preprocessing._polynomial.PolynomialFeatures": ("_max_degree", _check_polynomial),
    "sklearn.semi_supervised._label_propagation.BaseLabelPropagation": ("X_", _check_propagation),
    "sklearn.svm._base.BaseSVC": ("support_vectors_", _check_support_vectors),
    "sklearn.tree._classes.BaseDecisionTree": ("tree_", _check_tree),
}
