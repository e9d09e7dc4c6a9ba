"""Some classes of a data set, as a task of their own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

import torch
from annotated_types import Predicate, doc

from whorl.data.base import Dataset, Source, nested
from whorl.errors import UsageError
from whorl.settings import SourceName, Whole

__all__ = ["Chosen"]


Classes = Annotated[
    tuple[Whole, ...],
    Predicate(lambda classes: 2 <= len(classes) == len(set(classes))),
    doc("a list of two different classes or more, as in [0, 1, 2]"),
]


@dataclass(frozen=True)
class Chosen(Source):
    """The pictures of ``data`` whose class is among ``classes``, labelled 0, 1, ... in the order given.

    Raises `UsageError` for fewer than two classes, one given twice, or one that the data do not have.
    """

    data: SourceName
    classes: Classes

    def _load(self, part: str) -> Dataset:
        whole = nested(self.data).load(part)
        if not set(self.classes) <= set(range(len(whole.classes))):
            raise UsageError(f"{self.data} has the classes 0..{len(whole.classes) - 1}; these are {self.classes}")
        places = torch.full((len(whole.classes),), -1)
        places[torch.tensor(self.classes)] = torch.arange(len(self.classes))
        kept = whole.subset((places[whole.labels] >= 0).nonzero().flatten())
        names = tuple(whole.classes[label] for label in self.classes)
        return replace(kept, labels=places[kept.labels], classes=names, expression=str(self._call("only")))
