"""Every scheme of the catalog keeps the contract, and the check finds a scheme that breaks it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch

from whorl.errors import UsageError
from whorl.representations.scores import Scores
from whorl.representations.similarity import L2
from whorl.schemes import SCHEMES, Scheme
from whorl.schemes.random import Random
from whorl.testing import check_scheme
from whorl.types import Access, Queries, Representation, grants

# Settings for schemes whose default is slow; what the contract says does not depend on them.
CHEAP = {
    "adv-tra": "adv-tra(length=4, crossings=2, iterations=5)",  # twenty scales for each of four crossings
    "conferrable": "conferrable(iterations=5, candidates=2)",  # forty steps through half of the shadow models
    "cw-l2": "cw-l2(margin=1, searches=2, iterations=50)",  # nine searches of a thousand steps each
    "deepjudge-white-box": "deepjudge-white-box(iterations=60)",  # a thousand steps for neurons that cannot grow so far
    "dataset-inference-white-box": "dataset-inference-white-box(fit=20, targets=2, iterations=10)",
    "ipguard": "ipguard(margin=1, iterations=100)",  # a thousand steps for the points that never arrive
    "metav": "metav(steps=15, verifier_rate=0.01)",  # a hundred steps through all shadow models
    "uap": "uap(epochs=5, steps=50)",  # 300 steps of the encoder
    "multipoint": "multipoint(ties=3)",  # thirteen backward passes a step
    "sensitive-samples": "sensitive-samples(candidates=30, iterations=20)",  # a hundred candidates, 200 steps
    "sensitive-samples-labels": "sensitive-samples-labels(candidates=30, iterations=20)",
}


@pytest.mark.parametrize("name", SCHEMES)
def test_scheme_keeps_contract(name):
    check_scheme(SCHEMES.make(CHEAP.get(name, name)))


def test_cheap_settings_are_of_known_schemes():
    assert set(CHEAP) <= set(SCHEMES)


@dataclass(frozen=True, kw_only=True)
class Sound(Random):
    """A plug-in that is in no catalog."""

    name: ClassVar[str] = "sound"

    def draw(self, victim, data, budget, generator):
        return data.inputs(torch.randperm(len(data), generator=generator)[:budget])

    def sample(self, victim, data, *, budget, generator):
        victim.labels(data.inputs(slice(0, 1)))
        return Queries(self.draw(victim, data, budget, generator))


def test_unregistered_scheme_passes():
    check_scheme(Sound())


@dataclass(frozen=True, kw_only=True)
class GlobalChance(Sound):
    def draw(self, victim, data, budget, generator):
        return data.inputs(torch.randperm(len(data))[:budget])


@dataclass(frozen=True, kw_only=True)
class NoChance(Sound):
    def draw(self, victim, data, budget, generator):
        return data.inputs(slice(0, budget))


@dataclass(frozen=True, kw_only=True)
class Remembers(Sound):
    seen: ClassVar[list[int]] = []

    def draw(self, victim, data, budget, generator):
        self.seen.append(0)
        return data.inputs(slice(len(self.seen), len(self.seen) + budget))


@dataclass(frozen=True, kw_only=True)
class Writes(Sound):
    needs_victim: ClassVar[Access] = Access.WEIGHTS

    def draw(self, victim, data, budget, generator):
        next(victim.module.parameters()).data.mul_(1.01)
        return super().draw(victim, data, budget, generator)


@dataclass(frozen=True, kw_only=True)
class Thaws(Sound):
    needs_victim: ClassVar[Access] = Access.WEIGHTS

    def draw(self, victim, data, budget, generator):
        victim.module.requires_grad_(True)
        return super().draw(victim, data, budget, generator)


@dataclass(frozen=True, kw_only=True)
class SwitchesMode(Sound):
    needs_victim: ClassVar[Access] = Access.WEIGHTS

    def draw(self, victim, data, budget, generator):
        victim.module.eval()
        return super().draw(victim, data, budget, generator)


@dataclass(frozen=True, kw_only=True)
class NoPaper(Sound):
    paper: ClassVar[str] = ""


@dataclass(frozen=True, kw_only=True)
class NoPart(Sound):
    part: ClassVar[str] = "training"


@dataclass(frozen=True, kw_only=True)
class Impostor(Sound):
    """Claims a name of the catalog."""

    name: ClassVar[str] = "random"


@dataclass(frozen=True, kw_only=True)
class Lopsided(Sound):
    def similarity(self, reference, observed):
        found = super().similarity(reference, observed)
        return type(found)(found.similarity, found.per_query / 2)


@dataclass(frozen=True, kw_only=True)
class Backwards(Sound):
    """Smaller is more alike."""

    def similarity(self, reference, observed):
        found = super().similarity(reference, observed)
        return type(found)(1 - found.similarity, 1 - found.per_query)


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        (GlobalChance(), "global random state"),
        (NoChance(), "same queries for another seed"),
        (Remembers(), "for the same seed"),
        (Writes(), "writes to the victim"),
        (Thaws(), "requires_grad"),
        (SwitchesMode(), "training mode"),
        (NoPaper(), "paper"),
        (NoPart(), "part"),
        (Impostor(), "makes Random"),
        (Lopsided(), "mean per query"),
        (Backwards(), "stranger"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Random) else "",
)
def test_broken_promises_are_named(broken, says):
    with pytest.raises(AssertionError, match=says) as caught:
        check_scheme(broken, budget=40)
    assert "\n" not in str(caught.value)


@dataclass(frozen=True, kw_only=True)
class Trusting(Sound):
    """Reads from its file what it never declared."""

    def sample(self, victim, data, *, budget, generator):
        queries = super().sample(victim, data, budget=budget, generator=generator)
        return Queries(queries.inputs, notes={"order": list(range(budget))})

    def represent(self, oracle, queries):
        return Representation(oracle.labels(queries.inputs[queries.notes["order"][: len(queries)]]))


def test_a_scheme_that_trusts_its_file_is_found():
    with pytest.raises(AssertionError, match="accepts a fingerprint with note order"):
        check_scheme(Trusting())


@dataclass(frozen=True, kw_only=True)
class Undeclared(Sound):
    def sample(self, victim, data, *, budget, generator):
        queries = super().sample(victim, data, budget=budget, generator=generator)
        return Queries(queries.inputs, {"more": torch.zeros(budget)})


def test_a_companion_that_is_not_declared_is_found():
    with pytest.raises(UsageError, match="declares no 'companions/more'"):
        check_scheme(Undeclared())


@dataclass(frozen=True, kw_only=True)
class Numbers(Scores, L2, Scheme):
    """For models that predict numbers, and for nothing else."""

    name: ClassVar[str] = "numbers"
    paper: ClassVar[str] = "none"
    idea: ClassVar[str] = "Distances of outputs."
    blind: ClassVar[str] = "everything else"
    needs_victim: ClassVar[Access] = Access.LOGITS
    tasks: ClassVar[frozenset[str]] = frozenset({"regression"})

    def sample(self, victim, data, *, budget, generator):
        return Queries(data.inputs(torch.randperm(len(data), generator=generator)[:budget]))


@dataclass(frozen=True, kw_only=True)
class Pictures(Numbers):
    name: ClassVar[str] = "pictures"
    tasks: ClassVar[frozenset[str]] = frozenset({"generation"})


@pytest.mark.parametrize("scheme", [Numbers(), Pictures()], ids=lambda each: each.name)
def test_a_scheme_of_another_task_is_checked_on_it(scheme):
    check_scheme(scheme)


@dataclass(frozen=True, kw_only=True)
class Layered(Sound):
    """Needs hidden features beside labels, and neither probabilities nor logits."""

    name: ClassVar[str] = "layered"
    needs_suspect: ClassVar[frozenset[str]] = grants("labels", "features")


def test_a_scheme_may_need_what_no_level_holds():
    check_scheme(Layered())
