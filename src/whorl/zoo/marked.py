"""Marked models by recipe: ``train(...) -> mark(backdoor(images=noise), count=100, seed=70)``.

Marking is the owner's act, with the owner's part of the data, so a model that others made of a marked one is held
against the marked one. What a mark draws comes from the seed of the step, for a benchmark has to come again: such a
draw shows nothing to a judge. What checks the mark follows from the recipe and the nets before and after the step.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, ClassVar

from torch import nn

from whorl.data.base import Dataset
from whorl.errors import UsageError
from whorl.expressions import Call
from whorl.marks.base import Watermark
from whorl.marks.making import checking, drawn_by, embed, prepare
from whorl.oracles.base import Oracle
from whorl.schemes import MARKS
from whorl.settings import Count, Named
from whorl.types import Fingerprint
from whorl.zoo.recipe import Recipe, split_step
from whorl.zoo.steps import NET, OWNED

if TYPE_CHECKING:
    from whorl.zoo.cache import Zoo

__all__ = ["Marking", "checks_of"]


@dataclass(frozen=True)
class Marking:
    """The step that embeds a mark of ``count`` labels or bits; ``kind`` is an expression of `MARKS`."""

    takes: ClassVar[str] = NET
    gives: ClassVar[str] = NET
    part: ClassVar[str] = "victim"

    kind: Annotated[str | Call, Named(("whorl.schemes:MARKS",))]
    count: Count = 100

    def apply(self, model: Oracle, data: Dataset, *, seed: int) -> nn.Module:
        """The marked copy of ``model``."""
        net, _ = embed(self._prepared(model, data, seed), model, data, chance=_chance(seed))
        return net

    def checks(self, model: Oracle, marked: Oracle, data: Dataset, *, seed: int) -> Fingerprint:
        """The fingerprint that checks the mark which this step embedded into ``model``."""
        prepared = self._prepared(model, data, seed)
        kind = MARKS.make(str(self.kind))
        assert isinstance(kind, Watermark)
        drawn = drawn_by(kind, prepared, _chance(seed))
        return checking(prepared, marked, data, drawn, {"draws": 1})

    def _prepared(self, model: Oracle, data: Dataset, seed: int) -> Fingerprint:
        prepared = prepare(model, str(self.kind), data, count=self.count, seed=seed)
        return replace(prepared, nonce=_chance(seed)[:16].hex())  # a secret one would be another each time


def checks_of(zoo: Zoo, recipe: Recipe) -> Fingerprint:
    """The fingerprint that checks the mark of a built model whose last step marked it; the same bytes each time.

    Raises:
        UsageError: the last step of the recipe marks nothing.
    """
    if recipe.parent is None or recipe.chain.steps[-1].name not in OWNED:
        raise UsageError(f"{recipe} ends with no mark(...), so there is none to check")
    step, part, seed = split_step(recipe.chain.steps[-1])
    marking = OWNED.make(step)
    data = recipe.source.load(part)
    return marking.checks(zoo.oracle(recipe.parent), zoo.oracle(recipe), data, seed=seed)


def _chance(seed: int) -> bytes:
    return hashlib.sha256(f"whorl/zoo/mark/v1/{seed}".encode()).digest()
