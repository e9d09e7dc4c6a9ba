"""Estimators of scikit-learn from skops files, without running what the files say.

skops builds only objects of trusted types. Some of scikit-learn's types run compiled code that believes its arrays, and
others hold functions; so a list of types is accepted, each through one loader, and what answers do not rest on is left
out before anything is built: search trees over rows, losses and generators of fitting, scorers. What was built is
checked by `whorl.oracles.soundness`.
"""

from __future__ import annotations

import io
import json
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from whorl.errors import InvalidFile
from whorl.oracles.soundness import Unread, check_estimator
from whorl.storage import check_size, not_whole, one_line

__all__ = ["read_skops"]

MAX_BYTES: Final = 1 << 30
MAX_UNPACKED_BYTES: Final = 2 << 30
MAX_SCHEMA_BYTES: Final = 256 << 20
MAX_ENTRIES: Final = 200_000  # a forest keeps five arrays a tree
SCALARS: Final = frozenset(
    {"numpy.bool", "numpy.bool_", "numpy.str_", "numpy.float16", "numpy.float32", "numpy.float64"}
    | {f"numpy.{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}
)
OBJECTS: Final = {
    "sklearn._loss.link": "HalfLogitLink Interval LogitLink MultinomialLogit",
    "sklearn._loss.loss": "ExponentialLoss HalfBinomialLoss HalfMultinomialLoss",
    "sklearn.calibration": "CalibratedClassifierCV _CalibratedClassifier _SigmoidCalibration _TemperatureScaling",
    "sklearn.compose._column_transformer": "ColumnTransformer",
    "sklearn.decomposition._factor_analysis": "FactorAnalysis",
    "sklearn.decomposition._fastica": "FastICA",
    "sklearn.decomposition._incremental_pca": "IncrementalPCA",
    "sklearn.decomposition._kernel_pca": "KernelPCA",
    "sklearn.decomposition._pca": "PCA",
    "sklearn.decomposition._truncated_svd": "TruncatedSVD",
    "sklearn.discriminant_analysis": "LinearDiscriminantAnalysis QuadraticDiscriminantAnalysis",
    "sklearn.dummy": "DummyClassifier",
    "sklearn.ensemble._bagging": "BaggingClassifier",
    "sklearn.ensemble._forest": "ExtraTreesClassifier RandomForestClassifier",
    "sklearn.ensemble._gb": "GradientBoostingClassifier",
    "sklearn.ensemble._hist_gradient_boosting.binning": "_BinMapper",
    "sklearn.ensemble._hist_gradient_boosting.gradient_boosting": "HistGradientBoostingClassifier",
    "sklearn.ensemble._hist_gradient_boosting.predictor": "TreePredictor",
    "sklearn.ensemble._stacking": "StackingClassifier",
    "sklearn.ensemble._voting": "VotingClassifier",
    "sklearn.ensemble._weight_boosting": "AdaBoostClassifier",
    "sklearn.feature_selection._from_model": "SelectFromModel",
    "sklearn.feature_selection._rfe": "RFE",
    "sklearn.feature_selection._univariate_selection": "SelectKBest SelectPercentile",
    "sklearn.feature_selection._variance_threshold": "VarianceThreshold",
    "sklearn.frozen._frozen": "FrozenEstimator",
    "sklearn.gaussian_process._gpc": "GaussianProcessClassifier _BinaryGaussianProcessClassifierLaplace",
    "sklearn.gaussian_process.kernels": (
        "ConstantKernel DotProduct ExpSineSquared Exponentiation Matern Product RBF RationalQuadratic Sum WhiteKernel"
    ),
    "sklearn.impute._base": "SimpleImputer",
    "sklearn.impute._knn": "KNNImputer",
    "sklearn.isotonic": "IsotonicRegression",
    "sklearn.kernel_approximation": "Nystroem RBFSampler",
    "sklearn.linear_model._logistic": "LogisticRegression LogisticRegressionCV",
    "sklearn.linear_model._passive_aggressive": "PassiveAggressiveClassifier",
    "sklearn.linear_model._perceptron": "Perceptron",
    "sklearn.linear_model._ridge": "RidgeClassifier RidgeClassifierCV",
    "sklearn.linear_model._stochastic_gradient": "SGDClassifier",
    "sklearn.model_selection._classification_threshold": "FixedThresholdClassifier",
    "sklearn.multiclass": "OneVsOneClassifier OneVsRestClassifier OutputCodeClassifier _ConstantPredictor",
    "sklearn.naive_bayes": "BernoulliNB CategoricalNB ComplementNB GaussianNB MultinomialNB",
    "sklearn.neighbors._classification": "KNeighborsClassifier RadiusNeighborsClassifier",
    "sklearn.neighbors._nearest_centroid": "NearestCentroid",
    "sklearn.neural_network._multilayer_perceptron": "MLPClassifier",
    "sklearn.neural_network._stochastic_optimizers": "AdamOptimizer SGDOptimizer",
    "sklearn.pipeline": "FeatureUnion Pipeline",
    "sklearn.preprocessing._data": (
        "Binarizer KernelCenterer MaxAbsScaler MinMaxScaler Normalizer PowerTransformer QuantileTransformer "
        "RobustScaler StandardScaler"
    ),
    "sklearn.preprocessing._discretization": "KBinsDiscretizer",
    "sklearn.preprocessing._encoders": "OneHotEncoder OrdinalEncoder",
    "sklearn.preprocessing._function_transformer": "FunctionTransformer",
    "sklearn.preprocessing._label": "LabelBinarizer LabelEncoder",
    "sklearn.preprocessing._polynomial": "PolynomialFeatures",
    "sklearn.preprocessing._target_encoder": "TargetEncoder",
    "sklearn.random_projection": "GaussianRandomProjection",
    "sklearn.semi_supervised._label_propagation": "LabelPropagation LabelSpreading",
    "sklearn.semi_supervised._self_training": "SelfTrainingClassifier",
    "sklearn.svm._classes": "LinearSVC NuSVC SVC",
    "sklearn.tree._classes": "DecisionTreeClassifier DecisionTreeRegressor ExtraTreeClassifier",
}
TYPES: Final[dict[str, frozenset[str]]] = {
    "DTypeNode": frozenset({"numpy.dtype"}),
    "DictNode": frozenset({"builtins.dict", "sklearn.utils._bunch.Bunch"}),
    "JsonNode": frozenset({"builtins.str"}),
    "ListNode": frozenset({"builtins.list"}),
    "NdArrayNode": frozenset({"numpy.ndarray", *SCALARS}),
    "ObjectNode": frozenset(f"{module}.{name}" for module, names in OBJECTS.items() for name in names.split()),
    "RandomStateNode": frozenset({"numpy.random.mtrand.RandomState"}),
    "SetNode": frozenset({"builtins.set"}),
    "SliceNode": frozenset({"builtins.slice"}),
    "TreeNode": frozenset({"sklearn.tree._tree.Tree"}),
    "TupleNode": frozenset({"builtins.tuple"}),
    "TypeNode": frozenset({f"builtins.{name}" for name in ("str", "int", "float", "bool", "NoneType")} | SCALARS),
}
NOTHING: Final = {"__class__": "str", "__module__": "builtins", "__loader__": "JsonNode", "content": "null"}
# What only fitting reads, and search trees, which are made anew from the rows that they hold.
UNREAD: Final = (
    "numpy.random._generator.Generator",
    "sklearn._loss._loss.",
    "sklearn.linear_model._sgd_fast.",
    "sklearn.metrics._dist_metrics.",
    "sklearn.neighbors._ball_tree.BallTree",
    "sklearn.neighbors._kd_tree.KDTree",
)
SCORED: Final = {  # attributes that hold a function, which a fitted object calls no more
    "sklearn.feature_selection._univariate_selection.SelectKBest": ("score_func",),
    "sklearn.feature_selection._univariate_selection.SelectPercentile": ("score_func",),
}
SEARCH: Final = "sklearn.model_selection._search"  # and _search_successive_halving
BINNED: Final = "sklearn.ensemble._hist_gradient_boosting.gradient_boosting.HistGradientBoostingClassifier"
CATEGORICAL: Final = (
    "histogram gradient boosting that encodes categorical columns itself, by a function. Put an OrdinalEncoder before "
    "one without categorical_features"
)
FUNCTIONS: Final = frozenset({"FunctionNode", "MethodNode", "OperatorFuncNode", "PartialNode"})
UNLISTED: Final = "which is not on the list of trusted types (docs/tables.md)"
REASONS: Final = {
    "sklearn.multioutput.": "which answers several questions at once. Save one of its estimators_",
    "sklearn.model_selection._classification_threshold.": (
        "whose scorer is a function. Save FixedThresholdClassifier(FrozenEstimator(tuned.estimator_), "
        "threshold=tuned.best_threshold_), fitted once more"
    ),
    SEARCH: "a search that keeps no best estimator. Search with refit=True, or save the estimator itself",
    "sklearn.": f"{UNLISTED}. Make ONNX of it with skl2onnx",
    "": f"{UNLISTED}. Make ONNX of it with its own exporter, skl2onnx or onnxmltools",
}


def read_skops(path: str | Path) -> Any:
    """The estimator of a ``.skops`` file; of a search, its best estimator.

    Raises:
        UsageError: no such file.
        InvalidFile: not a skops file, too large, of a type that is not on the list, or unsound inside.
    """
    path = Path(path)
    check_size(path, MAX_BYTES)
    try:
        file = io.BytesIO(path.read_bytes())  # once, so that what is checked is what is loaded
        schema = _checked_schema(file)
    # What zipfile raises of damage, NotImplementedError where an archive states a compression that nobody has.
    except (zipfile.BadZipFile, KeyError, ValueError, RecursionError, OSError, EOFError, NotImplementedError) as error:
        raise not_whole(path, "skops file", error) from None
    schema = _read_part(schema)
    _refuse_types(schema, path)
    import skops.io

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the name that the archive holds twice now, and of other releases
            with zipfile.ZipFile(file, "a") as archive:
                archive.writestr("schema.json", json.dumps(schema))
            estimator = skops.io.loads(file.getvalue(), trusted=sorted(frozenset().union(*TYPES.values())))
            check_estimator(estimator)
    except Unread as error:
        raise InvalidFile(f"{path} holds {error}") from None
    except Exception as error:  # a schema that lies makes skops, numpy and scikit-learn raise anything
        raise InvalidFile(f"{path} is not a sound skops file: {one_line(error)}") from None
    if not hasattr(estimator, "predict"):
        raise InvalidFile(f"{path} holds a {type(estimator).__name__}, which is not a classifier")
    return estimator


def _checked_schema(file: io.BytesIO) -> Any:
    with zipfile.ZipFile(file) as archive:
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


def _read_part(schema: Any) -> Any:
    """The schema without what answers do not rest on."""
    whole = _needed(schema)
    waiting = [whole]
    while waiting:
        item = waiting.pop()
        places = list(item.items()) if isinstance(item, dict) else enumerate(item) if isinstance(item, list) else ()
        for place, value in places:
            if isinstance(value, dict | list):
                item[place] = _needed(value)
                waiting.append(item[place])
    if isinstance(whole, dict) and isinstance(schema, dict):
        whole |= {key: schema[key] for key in ("protocol", "_skops_version") if key in schema}
    return whole


def _needed(state: Any) -> Any:
    """What is read of one object of the schema."""
    best = state
    while isinstance(best, dict) and _name(best).startswith(SEARCH) and "best_estimator_" in _attributes(best):
        best = _attributes(best)["best_estimator_"]
    if not isinstance(best, dict):
        return best
    name = _name(best)
    if name.startswith(UNREAD):
        return dict(NOTHING)
    held = _attributes(best)
    for attribute in SCORED.get(name, ()):
        if attribute in held:
            held[attribute] = dict(NOTHING)
    return best


def _name(state: dict[str, Any]) -> str:
    return f"{state.get('__module__')}.{state.get('__class__')}"


def _attributes(state: dict[str, Any]) -> dict[str, Any]:
    """The attributes of an object, each as the schema describes it."""
    match state.get("content"):
        case {"content": dict(held)}:
            return held
    return {}


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


def _refuse_types(schema: Any, path: Path) -> None:
    """Raise `InvalidFile` for the first object, from the outermost in, that is not on the list."""
    for state in _states(schema):
        name, loader = _name(state), state.get("__loader__")
        if isinstance(loader, str) and name in TYPES.get(loader, ()):
            if name == BINNED and _attributes(state).get("_preprocessor", {}).get("content") != "null":
                raise InvalidFile(f"{path} holds {CATEGORICAL}")
            continue
        listed = any(name in names for names in TYPES.values())
        shown = one_line(ValueError(f"{name} through {loader}" if listed else name), 120)
        if isinstance(loader, str) and loader in FUNCTIONS and not listed:
            raise InvalidFile(
                f"{path} holds {shown}, a function, and nothing of a file is run. Put a transformer of scikit-learn in "
                "its place, or make ONNX of it with skl2onnx"
            )
        reason = next(reason for start, reason in REASONS.items() if name.startswith(start))
        raise InvalidFile(f"{path} holds {shown}, {reason}")
