"""A fingerprint made again from scheme, seed and model, and what was tried with it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from whorl import ownership
from whorl.claims.audit import audit
from whorl.claims.making import seed_of
from whorl.errors import UsageError
from whorl.oracles.wrappers import digests_of
from whorl.types import Representation


@pytest.mark.parametrize("name", ["akh", "igsm", "multipoint"])
def test_families_of_a_claim_are_made_again_to_the_byte(case, name):
    found = audit(case.secrets.families[name], case.victim)
    assert found.same
    assert found.near
    assert found.drawn
    assert (found.largest, found.equal, found.tries) == (0, 1, 1)


def test_a_chosen_seed_is_told(case):
    made = ownership.extract(case.victim, data="digits(size=8)", scheme="akh", budget=10, seed=3)
    assert not audit(made, case.victim).drawn
    drawn = seed_of(digests_of(case.victim)[0], "akh")
    made = ownership.extract(case.victim, data="digits(size=8)", scheme="akh", budget=10, seed=drawn)
    assert audit(replace(made, victim=digests_of(case.victim)[0]), case.victim).drawn


def test_queries_that_were_picked_are_found(case):
    """An accuser keeps those of his queries that the suspect answers as the victim does."""
    made = case.secrets.families["igsm"]
    torn = replace(made.queries, inputs=made.queries.inputs.flip(0))
    found = audit(replace(made, queries=torn), case.victim)
    assert not found.same
    assert not found.near
    answers = Representation((made.reference.values + 1) % 10)
    assert not audit(replace(made, reference=answers), case.victim).near
    other = torch.where(torch.arange(len(made.reference.values)) == 0, answers.values, made.reference.values)
    found = audit(replace(made, reference=Representation(other)), case.victim)
    assert (found.same, found.near) == (False, True), "one label of sixty, as another processor may give"


def test_another_model_is_refused(case):
    with pytest.raises(UsageError, match="is not the victim"):
        audit(case.secrets.families["akh"], case.stranger)


def test_every_finished_look_is_a_try(case, tmp_path):
    from whorl.fingerprints.files import write_fingerprint

    path = tmp_path / "mine.fp"
    write_fingerprint(case.secrets.families["akh"], path)
    for _ in range(3):
        ownership.verify(path, case.stranger, cache=tmp_path / "cache")
    assert audit(path, case.victim, cache=tmp_path / "cache").tries == 3
