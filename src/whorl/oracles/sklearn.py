"""scikit-learn estimators as oracles."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from whorl.errors import OracleError, UsageError
from whorl.oracles.base import Chunk, Oracle
from whorl.oracles.convention import InputConvention, lower
from whorl.storage import one_line
from whorl.types import Access

__all__ = ["SklearnOracle"]

SLACK: Final = 1e-3  # how far from 1 the probabilities of a row may be rounded


class SklearnOracle(Oracle):
    """A fitted classifier over pictures flattened row by row (channel first, unless the convention says NHWC).

    Grants PROBABILITIES where the estimator has ``predict_proba`` and no threshold of its own, else LABELS. An
    estimator that saw only some of the classes answers 0 for the others.

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
        granted = Access.PROBABILITIES if _gives_probabilities(estimator) else Access.LABELS
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
        if len(given) and not bool(((given.sum(1) - 1).abs() <= SLACK).all()):
            raise ValueError(
                "rows of predict_proba that do not sum to 1: it gives several labels a row, not one of them"
            )
        return given.new_zeros(len(given), self.classes).index_copy(1, self._known, given)


def _gives_probabilities(estimator: Any) -> bool:
    """A threshold that was chosen apart from the probabilities decides what is said, and they do not show it."""
    last = getattr(estimator, "_final_estimator", estimator)
    apart = type(last).__name__ in ("FixedThresholdClassifier", "TunedThresholdClassifierCV")
    return hasattr(estimator, "predict_proba") and not apart


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
