"""No registered check of integrity sees a keyed switch, and the contract finds one that claims to."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from test_schemes import CHEAP, Numbers, Pictures

from whorl.errors import AccessRefused
from whorl.oracles.keyed import KeyedSwitch
from whorl.oracles.reordered import Reordered
from whorl.schemes import SCHEMES
from whorl.schemes.base import Purpose
from whorl.schemes.random import Random
from whorl.testing import check_integrity, check_scheme, integrity, tiny_data, tiny_victim
from whorl.types import Access, Evidence, Representation, grants

INTEGRITY = [name for name in SCHEMES if getattr(SCHEMES[name], "purpose", "") == "integrity"]


def test_there_are_checks_of_integrity():
    assert "sensitive-samples" in INTEGRITY


def reordered():
    """The declared model with each class called by the next one's number, so that every answer is another."""
    return Reordered(tiny_victim(), [*range(1, 10), 0])


def extracted(scheme):
    return scheme.extract(tiny_victim(), tiny_data(scheme.part), budget=20)


@pytest.mark.parametrize("name", INTEGRITY)
def test_every_check_of_integrity_sees_nothing_without_the_key(name):
    scheme = SCHEMES.make(CHEAP.get(name) or name)
    fingerprint, declared, other = extracted(scheme), tiny_victim(), reordered()
    check_integrity(scheme, fingerprint, declared)
    # The same pictures with the signal: the declared model and the switch differ there, and the key alone shows it.
    switch = KeyedSwitch(declared, other, b"of nobody's here")
    signed = dataclasses.replace(fingerprint.queries, inputs=switch.signed(fingerprint.queries.inputs))
    own, hidden, seen = (scheme.represent(model, signed).values for model in (declared, other, switch))
    assert torch.equal(seen, hidden)
    assert (seen != own).reshape(len(own), -1).any(1).all()


@dataclass(frozen=True, kw_only=True)
class Sound(Random):
    """Labels of pictures drawn by chance, as a check of integrity."""

    name: ClassVar[str] = "sound"
    purpose: ClassVar[Purpose] = "integrity"


@dataclass(frozen=True, kw_only=True)
class Peeks(Sound):
    """Looks at what a provider would not say."""

    def represent(self, oracle, queries):
        return Representation(oracle.labels(queries.inputs) * (oracle.treatment == ""))


@dataclass(frozen=True, kw_only=True)
class Blind(Sound):
    def similarity(self, reference, observed):
        return Evidence(1.0, torch.ones(len(observed.values)))


@dataclass(frozen=True, kw_only=True)
class Alarms(Sound):
    """Finds one change more each time."""

    asked: ClassVar[list[int]] = []

    def represent(self, oracle, queries):
        self.asked.append(0)
        return Representation((oracle.labels(queries.inputs) + (torch.arange(len(queries)) < len(self.asked))) % 10)


@dataclass(frozen=True, kw_only=True)
class ByWeights(Sound):
    """Reads weights, which a switch does not grant."""

    needs_suspect: ClassVar[Access] = Access.WEIGHTS


@dataclass(frozen=True, kw_only=True)
class BySet(Sound):
    needs_suspect: ClassVar[frozenset[str]] = grants("labels")  # pyright: ignore[reportIncompatibleVariableOverride]


@pytest.mark.parametrize("scheme", [Sound(), ByWeights(), BySet()], ids=lambda each: type(each).__name__)
def test_a_plug_in_passes(scheme):
    check_integrity(scheme, extracted(scheme), tiny_victim())


@dataclass(frozen=True, kw_only=True)
class IntegrityOfNumbers(Numbers):
    purpose: ClassVar[Purpose] = "integrity"


@dataclass(frozen=True, kw_only=True)
class IntegrityOfPictures(Pictures):
    purpose: ClassVar[Purpose] = "integrity"


@pytest.mark.parametrize("scheme", [IntegrityOfNumbers(), IntegrityOfPictures()], ids=lambda each: type(each).__name__)
def test_checks_of_models_of_other_tasks_are_held_to_it(scheme, monkeypatch):
    check_scheme(scheme)
    monkeypatch.setattr(integrity, "KeyedSwitch", lambda declared, other, *_, **__: other)
    with pytest.raises(AssertionError, match="tells a keyed switch"):
        check_scheme(scheme)


def test_a_check_that_reads_weights_refuses_the_switch():
    with pytest.raises(AccessRefused, match="needs WEIGHTS"):
        ByWeights().observe(extracted(ByWeights()), KeyedSwitch(tiny_victim(), reordered(), b"of nobody's here"))


@pytest.mark.parametrize(
    ("scheme", "says"),
    [(Peeks(), "tells a keyed switch"), (Blind(), "all weights are gone"), (Alarms(), "tells a keyed switch")],
    ids=lambda value: type(value).__name__ if isinstance(value, Random) else "",
)
def test_a_check_that_breaks_the_contract_is_named(scheme, says):
    with pytest.raises(AssertionError, match=says) as caught:
        check_integrity(scheme, extracted(scheme), tiny_victim())
    assert "\n" not in str(caught.value)
