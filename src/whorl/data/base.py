"""Pictures with labels or numbers, and the disjoint parts that a study of them needs.

Whoever trains the victim, steals it, calibrates the test and measures accuracy must not share pictures, or the
error rates mean nothing. So every source divides itself into the same five parts, and a recipe names its part.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Annotated, ClassVar, Final, final

import torch
from annotated_types import Predicate, doc
from torch import Tensor

from whorl.errors import UsageError
from whorl.expressions import Call
from whorl.settings import Checked
from whorl.spaces import InputSpace, Pictures
from whorl.types import Task

__all__ = ["PARTS", "Dataset", "Source", "divide", "join", "nested"]

# The share of each part where one finite set has to be divided.
# victim: trains the victim, and the independent models that are hardest to tell from it. attacker: the thief's.
# calibration: the owner's, for known copies and for independent models with pictures of their own.
# queries: the owner's held-out pictures, on which nobody may train. test: accuracy and agreement.
PARTS: Final[Mapping[str, float]] = {
    "victim": 0.35,
    "attacker": 0.25,
    "calibration": 0.2,
    "queries": 0.1,
    "test": 0.1,
}


@dataclass(frozen=True)
class Dataset:
    """Pictures and labels in memory. A row of features is a picture of height 1.

    Shape:
        images: ``[n, c, h, w]``, float32 in [0, 1] or uint8 in 0..255 (a quarter of the memory).
        labels: ``[n]`` int64 in 0..classes-1, or ``[n, outputs]`` float32 where there are numbers to predict and no
            classes (``outputs`` is 0 where there is nothing to predict).
        origin: ``[n]`` int64, which of the joined data sets a picture comes from (`join`); None where it is one.
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    expression: str = ""
    origin: Tensor | None = None
    features: tuple[str, ...] = ()
    """Names of the columns, where a picture is a row of features."""
    domain: InputSpace | None = None
    """What an input is, where it is no picture."""

    def __post_init__(self) -> None:
        if not isinstance(self.classes, tuple):  # pyright: ignore[reportUnnecessaryIsInstance] callers are not all typed
            raise UsageError(
                f"classes of a dataset are a tuple of names, as in ('cat', 'dog'), not {self.classes!r:.40}"
            )
        wanted = 2 if self.labels.is_floating_point() else 1
        sound = self.images.ndim == 4 if self.domain is None else tuple(self.images.shape[1:]) == self.domain.shape
        if not sound or self.labels.ndim != wanted or len(self.labels) != len(self.images):
            raise UsageError(
                f"a dataset holds images [n, c, h, w] and labels [n] or numbers [n, outputs]; "
                f"these are {tuple(self.images.shape)} and {tuple(self.labels.shape)}"
            )

    def __len__(self) -> int:
        return int(self.labels.shape[0])

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of one picture."""
        channels, height, width = self.images.shape[1:]
        return int(channels), int(height), int(width)

    @property
    def space(self) -> InputSpace:
        """What an input is: pictures of the size of ``images``, or the given domain."""
        return self.domain or Pictures(self.input_shape)

    @property
    def outputs(self) -> int:
        """How many numbers a model gives for one picture: one per class, or per column of the labels."""
        return int(self.labels.shape[1]) if self.labels.ndim == 2 else len(self.classes)

    def check_takes(self, model: str, space: InputSpace) -> None:
        """Raise `UsageError` unless these are inputs of ``space``, which the model called ``model`` takes."""
        if self.space == space:
            return
        channels, *sides = space.shape if len(space.shape) == 3 else (0,)
        size = sides[0] if len(set(sides)) == 1 else sides
        resized = f", as in size={size}" if isinstance(self.space, Pictures) and channels == self.space.shape[0] else ""
        raise UsageError(
            f"{model} takes {space}; the data hold {self.space}: give data like those that it learned from{resized}"
        )

    def check_task(self, model: str, space: InputSpace, classes: int) -> None:
        """Raise `UsageError` unless these are inputs of the model called ``model``, each with one of its classes."""
        self.check_takes(model, space)
        if len(self.classes) != classes or self.labels.ndim != 1:
            raise UsageError(
                f"{model} has {classes} classes, these data {len(self.classes)}: give pictures of its own task"
            )
        wrong = self.labels[(self.labels < 0) | (self.labels >= classes)]
        if len(wrong):
            raise UsageError(
                f"{len(wrong):,} labels of these data are no classes, {int(wrong[0])} among them: labels go from 0 to "
                f"{classes - 1}"
            )
        if not len(self):
            raise UsageError(f"these data hold no input of {model}; give some")
        if told := self.space.fault(self.inputs()):
            raise UsageError(f"these data hold what is no input of {model}: {told}")

    def inputs(self, index: Tensor | slice | None = None) -> Tensor:
        """The chosen inputs (all by default) as models take them; pictures as float32 in [0, 1]."""
        return self.space.as_inputs(self.images if index is None else self.images[index])

    def subset(self, index: Tensor | slice) -> Dataset:
        """The chosen pictures and labels as a data set of their own."""
        origin = None if self.origin is None else self.origin[index]
        return replace(self, images=self.images[index], labels=self.labels[index], origin=origin)


def join(*datasets: Dataset) -> Dataset:
    """All pictures of several data sets of the same classes; ``origin`` numbers them in the order given.

    Raises `UsageError` where pictures or classes differ in shape.
    """
    first, *rest = datasets
    for other in rest:
        if (other.input_shape, other.classes, other.outputs) != (first.input_shape, first.classes, first.outputs):
            raise UsageError(
                f"data sets that are joined hold pictures of one shape and the same classes; these hold "
                f"{first.input_shape} of {first.outputs} and {other.input_shape} of {other.outputs}"
            )
    bytes_alike = len({each.images.dtype for each in datasets}) == 1
    return replace(
        first,
        images=torch.cat([each.images if bytes_alike else each.inputs() for each in datasets]),
        labels=torch.cat([each.labels for each in datasets]),
        origin=torch.cat([torch.full((len(each),), number) for number, each in enumerate(datasets)]),
    )


Part = Annotated[
    str,
    Predicate(lambda text: set(text.split("+")) <= set(PARTS)),
    doc(f"{', '.join(PARTS)}, or several of them joined by a plus"),
]
"""A part of a data set."""


class Source(Checked, ABC):
    """Where pictures come from. Subclasses are frozen dataclasses whose fields an expression may give.

    An author writes ``_load(part)``; the base class checks the name of the part and keeps the last few in memory.
    """

    task: ClassVar[Task | None] = "classification"
    """What its labels teach; None where there are no labels."""

    @abstractmethod
    def _load(self, part: str) -> Dataset:
        """The pictures of one part; parts share no picture."""

    @final
    def load(self, part: str) -> Dataset:
        """The pictures of ``part``, one of `PARTS`, or of several joined by a plus, as in ``victim+queries``."""
        names = part.split("+")
        for name in names:
            if name not in PARTS:
                raise UsageError(f"no such part of a data set: {name!r}. The parts are {', '.join(PARTS)}.")
        loaded = [_loaded(self, name) for name in names]
        return join(*loaded) if len(loaded) > 1 else loaded[0]

    def content(self) -> str:
        """Digest of the files that it reads; empty where its expression alone says which pictures they are.

        Sources that it is made from are left out: whoever asks walks the expression.
        """
        return ""

    def units(self) -> tuple[Tensor, Tensor] | None:
        """Shape ``[features]`` each: the values that were scaled to 0 and to 1; None where nothing was."""
        return None

    def _call(self, name: str) -> Call:
        """This source as an expression, under its name in the catalog."""
        return Call(name, kwargs=tuple(vars(self).items()))


def nested(data: str | Call) -> Source:
    """The source that a source of the catalog is made from."""
    from whorl.data import SOURCES

    return SOURCES.make(data)


@lru_cache(maxsize=16)
def _loaded(source: Source, part: str) -> Dataset:
    dataset = source._load(part)
    if not len(dataset):
        raise UsageError(f"the part {part!r} of {source} holds no picture; give more pictures")
    return dataset


def divide(labels: Tensor, part: str, *, seed: int, shares: Mapping[str, float] = PARTS) -> Tensor:
    """Indices of ``part`` when one labelled set is divided by ``shares``, class by class.

    The same seed gives the same disjoint parts, whichever part is asked for.

    Shape:
        labels: ``[n]``. Returns ``[m]`` int64, sorted.
    """
    generator = torch.Generator().manual_seed(seed)
    names = list(shares)
    edges = torch.tensor([0.0, *shares.values()], dtype=torch.float64).cumsum(0) / sum(shares.values())
    chosen: list[Tensor] = []
    for label in labels.unique(sorted=True):
        members = (labels == label).nonzero().flatten()
        members = members[torch.randperm(len(members), generator=generator)]
        first, last = (edges[names.index(part) : names.index(part) + 2] * len(members)).round().long().tolist()
        chosen.append(members[first:last])
    return torch.cat(chosen).sort().values
