"""Families in reserve: an endpoint is asked them with the others, and a later judgment rests on its frozen answers."""

from __future__ import annotations

import pytest
import torch
from disputes import JUDGE, SIZE

from whorl.claims.case import Case
from whorl.claims.judging import PICTURES, chosen_families, judge
from whorl.errors import UsageError
from whorl.oracles.base import Oracle
from whorl.types import Access

SEEN = Case(nonce=JUDGE.hex())


class Endpoint(Oracle):
    """A model behind an address, which may be exchanged there."""

    def __init__(self, model):
        super().__init__(
            access=Access.LABELS,
            input_shape=(1, 8, 8),
            classes=10,
            name="http://127.0.0.1/model",
            digest="ab" * 32,
        )
        self.model, self.asked, self.block = model, [], 64

    def _stream(self, inputs):
        self.asked.append(inputs)
        yield torch.arange(len(inputs)), self.model.labels(inputs)


@pytest.fixture
def opened(case, tmp_path):
    return case.opened(Endpoint(case.copy), tmp_path / "o", reserves=True)


def test_reserves_are_asked_in_the_session_and_judged_from_its_answers(case, opened, strata, tmp_path):
    endpoint, record = Endpoint(case.copy), tmp_path / "record"
    assert (list(opened.families), list(opened.reserves)) == (["akh", "igsm"], ["multipoint"])
    options = {"victim": case.victim, "case": SEEN, "record": record}
    found = judge(opened, endpoint, strata, **options)
    assert set(found.matches) == {"akh", "igsm"}
    assert any("asked in reserve, and not judged: multipoint" in each for each in found.caveats)
    asked = torch.cat(endpoint.asked)
    for part in (*opened.families.values(), *opened.reserves.values()):
        for query in part.queries.inputs:
            assert bool((asked == query).flatten(1).all(1).any())
    exchanged = Endpoint(case.stranger)
    later = judge(opened, exchanged, strata, families=["akh", "multipoint"], replay=True, **options)
    assert exchanged.asked == [], "what is behind the address now is not asked"
    direct = judge(case.opened(case.copy, tmp_path / "d", families=["akh", "multipoint"]), case.copy, strata)
    assert later.matches["multipoint"] == direct.matches["multipoint"]
    assert later.tries == 2, "there are two pairs to choose from"
    assert any("number of pairs" in each.replace("the number", "number") for each in later.caveats)


def test_queries_hide_among_as_many_pictures(case, opened, strata, tmp_path, monkeypatch):
    monkeypatch.setattr("whorl.claims.judging.PICTURES", 10)
    endpoint = Endpoint(case.copy)
    judge(opened, endpoint, strata, record=tmp_path / "record")
    parts = (*opened.families.values(), *opened.reserves.values())
    queries = sum(len(part.queries) for part in parts)
    # A few of the judge's pictures are queries of the natural family themselves, and nothing is asked twice.
    assert sum(map(len, endpoint.asked)) >= 1.9 * queries
    assert PICTURES > 10


def test_other_families_than_the_first_are_paid_for(case, opened, tmp_path):
    assert SEEN.tries_of(opened) == 1
    other = case.opened(case.copy, tmp_path / "other", families=["akh", "multipoint"])
    assert SEEN.tries_of(other) == 2
    spent = Case(nonce=JUDGE.hex(), spent=frozenset({"igsm"}))
    assert spent.tries_of(other) == 1, "the first was spent in another dispute, as the log says"
    lineup = case.opened(case.copy, tmp_path / "lineup", lineup=True)
    assert SEEN.tries_of(lineup) == 1


def test_what_can_not_be_judged_is_refused(opened):
    with pytest.raises(UsageError, match="one of natural and one of made"):
        chosen_families(opened, ["igsm", "multipoint"])
    with pytest.raises(UsageError, match="no family 'afa'"):
        chosen_families(opened, ["akh", "afa"])
    assert list(chosen_families(opened, ["akh", "multipoint"]).reserves) == ["igsm"]
    assert len(opened.families["akh"].queries) < SIZE
