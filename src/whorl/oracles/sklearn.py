"""scikit-learn estimators as oracles."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from whorl.errors import OracleError, Unnamed, UsageError
from whorl.oracles.base import Chunk, Oracle
from whorl.oracles.categories import Categories, categories_of
from whorl.oracles.convention import InputConvention, lower
from whorl.storage import one_line
from whorl.types import Access

__all__ = ["SklearnOracle"]

SLACK: Final = 1e-3  # how far from 1 the probabilities of a row may be rounded
ROUNDING: Final = 2.0**-22  # how far float32 takes a number of a row, as a share of its column's range
EXACT: Final = 2.0**-50  # how far float64 takes it from there on, as a share of its column's offset


class SklearnOracle(Oracle):
    """A fitted classifier over pictures flattened row by row (channel first, unless the convention says NHWC).

    Grants PROBABILITIES where the estimator has ``predict_proba`` and no threshold of its own, else LABELS. An
    estimator that saw only some of the classes answers 0 for the others. Rows are asked in float64 where they have
    units or are looked up, and a number that its encoders know is asked as they know it.

    Parameters:
        classes: number of classes; the estimator's own labels must be integers in 0..classes-1, or among
            ``class_names``, as words or as the numbers that they spell.
        columns: names of the numbers of a row, in their order. An estimator that was fitted on these names takes them
            by name, whatever its own order; any other takes them as they stand.
    """

    def __init__(  # noqa: PLR0913 each is a field of `ModelDescription`
        self,
        estimator: Any,
        *,
        input_shape: tuple[int, int, int],
        classes: int,
        access: Access | None = None,
        convention: InputConvention = InputConvention(),  # noqa: B008 a frozen value
        class_names: Sequence[str] = (),
        columns: tuple[str, ...] = (),
        name: str = "",
        digest: str = "",
    ) -> None:
        granted = Access.PROBABILITIES if _gives_probabilities(estimator) else Access.LABELS
        super().__init__(
            access=min(access or Access.WEIGHTS, granted),
            input_shape=input_shape,
            classes=classes,
            name=name or type(estimator).__name__,
            digest=digest,
        )
        self._granted = granted
        self._known = _positions(getattr(estimator, "classes_", None), classes, class_names, self.name)
        expected = getattr(estimator, "n_features_in_", None)
        if expected is not None and expected != int(np.prod(input_shape)):
            raise UsageError(
                f"{self.name} takes {expected} numbers, and input shape {list(input_shape)} gives "
                f"{int(np.prod(input_shape))}"
            )
        try:
            self._estimator = estimator = _by_place(estimator)
            self._adapt = _Adapted(estimator, convention, input_shape, columns, self.name)
        except UsageError:
            raise
        except Exception as error:  # what a file holds may not be what it seems
            raise UsageError(f"{self.name} can't be asked: {one_line(error)}") from None

    def _stream(self, inputs: Tensor) -> Iterator[Chunk]:
        with torch.inference_mode():
            flat = self._adapt(inputs).numpy()
        positions = torch.arange(len(inputs))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of columns without the names that it was fitted on
                answers = self._answered(flat)
        except Exception as error:  # estimators, and files of estimators, may raise anything
            raise OracleError(f"{self.name} can't be asked: {one_line(error)}") from None
        output = "labels" if self._granted is Access.LABELS else "probabilities"
        yield positions, lower(answers, output, self.access)

    def _answered(self, flat: np.ndarray) -> Tensor:
        if self._granted is Access.LABELS:
            return self._labels(self._estimator.predict(flat))
        return self._padded(self._estimator.predict_proba(flat))

    def _labels(self, predicted: Any) -> Tensor:
        found = dict(zip(self._estimator.classes_.tolist(), self._known.tolist(), strict=True))
        return torch.tensor([found.get(label, -1) for label in np.asarray(predicted).tolist()], dtype=torch.int64)

    def _padded(self, probabilities: Any) -> Tensor:
        given = torch.from_numpy(np.asarray(probabilities, dtype=np.float32))
        if given.ndim != 2 or given.shape[1] != len(self._known):
            raise ValueError(f"predict_proba gave {list(given.shape)} for {len(self._known)} known classes")
        if len(given) and not bool(((given.sum(1) - 1).abs() <= SLACK).all()):
            raise ValueError(
                "rows of predict_proba that do not sum to 1: it gives several labels a row, not one of them"
            )
        return given.new_zeros(len(given), self.classes).index_copy(1, self._known, given)


class _Adapted(nn.Module):
    """Inputs as an estimator takes them, ``[n, numbers]``: float64 for rows with units or categories, else float32."""

    def __init__(
        self,
        estimator: Any,
        convention: InputConvention,
        input_shape: tuple[int, int, int],
        columns: tuple[str, ...],
        name: str,
    ) -> None:
        super().__init__()
        row, count = input_shape[:2] == (1, 1), math.prod(input_shape)
        known = categories_of(estimator, count) if row else Categories({}, {})
        precise = row and bool(convention.std or known.columns)
        self.adapt = convention.adapter(input_shape, torch.float64 if precise else torch.float32)
        self.order = _order(getattr(estimator, "feature_names_in_", None), columns) if row else None
        self.known: Categories | None = None
        if known.columns:
            scale, shift = (self._placed(each.flatten().expand(count)[None])[0] for each in self.adapt.buffers())
            known.refuse_alike(scale, shift, name)
            # The number in [0, 1] is of float32, and what brings it to the column's units of float64.
            self.known, self.reach = known, ROUNDING * scale.abs() + EXACT * shift.abs()

    def forward(self, inputs: Tensor) -> Tensor:
        flat = self._placed(self.adapt(inputs).flatten(1))
        return flat if self.known is None else self.known.near(flat, self.reach)

    def _placed(self, flat: Tensor) -> Tensor:
        return flat if self.order is None else flat[:, self.order]


def _by_place(estimator: Any) -> Any:
    """The estimator, in which no `ColumnTransformer` picks columns by names, which rows of numbers don't have.

    One that does so is copied first, for it is somebody's.
    """
    if not any(isinstance(each, str) for part in _transformers(estimator) for each in _picked(part)):
        return estimator
    estimator = copy.deepcopy(estimator)
    for part in _transformers(estimator):
        places = {name: place for place, name in enumerate(part.feature_names_in_)}
        part.transformers_ = [
            (name, step, [places.get(each, each) for each in of] if isinstance(of, list) else places.get(of, of))
            for name, step, of in part.transformers_
        ]
    return estimator


def _transformers(estimator: Any) -> Iterator[Any]:
    """Fitted column transformers that know their columns' names, at any depth of pipelines, each once."""
    left, seen = [estimator], set[int]()
    while left:
        part = left.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        if hasattr(part, "transformers_") and hasattr(part, "feature_names_in_"):
            yield part
        left += [step for _, step, *_ in (*getattr(part, "steps", ()), *getattr(part, "transformers_", ()))]


def _picked(part: Any) -> Iterator[Any]:
    for _, _, of in part.transformers_:
        yield from of if isinstance(of, list) else [of]


def _order(names: Any, columns: tuple[str, ...]) -> Tensor | None:
    """Where each of the estimator's columns stands among ``columns``; None where both are not the same names."""
    own = [] if names is None or np.ndim(names) != 1 else np.asarray(names).tolist()
    places = {name: place for place, name in enumerate(columns)}
    if not columns or sorted(places, key=str) != sorted(own, key=str) or own == list(columns):
        return None
    return torch.tensor([places[name] for name in own])


def _gives_probabilities(estimator: Any) -> bool:
    """A threshold that was chosen apart from the probabilities decides what is said, and they do not show it."""
    last = getattr(estimator, "_final_estimator", estimator)
    apart = type(last).__name__ in ("FixedThresholdClassifier", "TunedThresholdClassifierCV")
    return hasattr(estimator, "predict_proba") and not apart


def _positions(labels: Any, classes: int, class_names: Sequence[str], name: str) -> Tensor:
    """Where each of the estimator's classes stands among 0..classes-1."""
    if labels is None or np.ndim(labels) != 1:
        raise UsageError(f"{name} is not a fitted classifier of one label a picture: it has no list classes_")
    known: list[Any] = np.asarray(labels).tolist()
    counted = [int(label) if _whole(label) and label in range(classes) else -1 for label in known]
    named = _named(known, list(class_names))
    fitting = [found for found in (named, counted) if -1 not in found and len(set(found)) == len(found)]
    if not fitting:
        shown, names = (one_line(ValueError(", ".join(map(repr, each))), 120) for each in (known, class_names))
        stated = f"class_names says {names}" if class_names else "no class_names are given"
        message = (
            f"{name} knows the classes {shown}, and {stated}: they are needed by these names in the order of the "
            f"labels of your data, as in --set class_names=[...], or as integers in 0..{classes - 1}"
        )
        raise UsageError(message) if class_names else Unnamed(message)
    if len(fitting) == 2 and named != counted and len(known) < classes:
        raise UsageError(
            f"{name} knows {len(known)} of {classes} classes, {one_line(ValueError(str(known)), 80)}, which may count "
            f"from 0 or be the names {one_line(ValueError(', '.join(class_names)), 120)}: fit it on rows of all classes"
        )
    return torch.tensor(fitting[0])


def _named(known: list[Any], names: list[str]) -> list[int]:
    """The place of each label among the names, which may spell numbers; -1 for what is not there."""
    numbers = [_number(name) for name in names]
    spelt = {number: place for place, number in enumerate(numbers) if numbers.count(number) == 1}
    places = {name: place for place, name in enumerate(names)}
    return [spelt.get(label, -1) if _is_number(label) else places.get(str(label), -1) for label in known]


def _number(name: str) -> float | None:
    try:
        return None if "_" in name else float(name)  # Python takes 1_0 for 10
    except ValueError:
        return None


def _is_number(label: Any) -> bool:
    return isinstance(label, int | float) and not isinstance(label, bool)


def _whole(label: Any) -> bool:
    return isinstance(label, int | float) and label == label // 1
