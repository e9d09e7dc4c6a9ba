"""Owners who prepare a claim against an innocent model, and what the judge's own steps leave of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import torch
from disputes import ALPHA, JUDGE, RECIPE, drawn

from whorl.attest.stamp import Stamp
from whorl.claims.audit import FAR, made_again
from whorl.claims.documents import write_signed
from whorl.claims.fetched import check_fetched
from whorl.claims.judging import Case, judge, train_strata
from whorl.claims.making import family_of
from whorl.claims.opening import open_claim, read_opening
from whorl.claims.twins import check_lineup
from whorl.detection.judgment import MOST_MODELS, models_needed
from whorl.errors import UsageError
from whorl.oracles.wrappers import digests_of

SEEN = Case(nonce=JUDGE.hex())
PAIR = ("akh", "igsm")


def forged(case, suspect, changed, folder):
    """An opening, for a suspect, of a claim whose families the owner changed before he signed."""
    known = replace(case.secrets, families={name: changed(made) for name, made in case.secrets.families.items()})
    body = case.claim.body.model_copy(update={"families": {name: family_of(known, name) for name in known.families}})
    claim = write_signed(body, case.claim.victim, case.key, folder / "forged")
    digest = digests_of(suspect)[0]
    open_claim(claim, known, drawn(claim.digest, digest), digest, key=case.key, folder=folder / "o")
    return read_opening(folder / "o", claim, [case.key.public_key()])


def test_queries_that_were_moved_a_little_are_asked_as_the_judge_made_them(case, strata, tmp_path):
    """Within what another processor's sums may differ by, an accuser moves them until an innocent answers as his."""
    suspect = case.stranger

    def moved(made):
        inputs, by = made.queries.inputs, torch.zeros_like(made.queries.inputs)
        for _ in range(30):
            asked = (inputs + by).clamp(0, 1).requires_grad_()
            loss = torch.nn.functional.cross_entropy(suspect.module(asked), made.reference.values)
            by = (by - 0.002 * torch.autograd.grad(loss, asked)[0].sign()).clamp(-0.99 * FAR, 0.99 * FAR)
        return replace(made, queries=replace(made.queries, inputs=(inputs + by).clamp(0, 1).detach()))

    opened = forged(case, suspect, moved, tmp_path)
    as_given = judge(opened, suspect, strata, case=SEEN).matches
    found = judge(opened, suspect, strata, case=SEEN, victim=case.victim)
    assert found.grade == "C"
    assert sum(found.matches.values()) < sum(as_given.values()) - 0.05
    for name, part in made_again(opened, case.victim).families.items():
        places = torch.tensor(opened.opening.body.families[name].indices)
        honest = case.secrets.families[name]
        assert torch.equal(part.queries.inputs, honest.queries.inputs[places])
        assert not torch.equal(opened.families[name].queries.inputs, part.queries.inputs)


@pytest.fixture(scope="module")
def copied(case, tmp_path_factory):
    return case.opened(case.copy, tmp_path_factory.mktemp("copied") / "o")


def test_the_owners_alpha_binds_no_judge_who_accepts_less(case, copied, strata):
    """p is 1/8 with seven models of each kind: derived at the .2 that the owner fixed, and not at .1."""
    found = judge(copied, case.copy, strata, victim=case.victim, case=SEEN)
    assert (found.relation, found.alpha) == ("derived", ALPHA)
    assert any("one in 5 may be called derived" in each for each in found.caveats)
    for alpha, relation in ((0.125, "derived"), (0.1, "inconclusive")):
        found = judge(copied, case.copy, strata, victim=case.victim, case=replace(SEEN, alpha=alpha))
        assert (found.relation, found.alpha, found.p_value) == (relation, alpha, 0.125)
    found = judge(copied, case.copy, strata, victim=case.victim, case=replace(SEEN, alpha=0.5))
    assert found.alpha == ALPHA, "the claim's own stays"
    with pytest.raises(UsageError, match=r"at 0\.05; train 19 or more"):
        train_strata(copied, [RECIPE], alpha=0.05, count=4)


def test_a_victim_may_have_been_chosen_unless_priority_is_shown(case, copied, strata):
    now = datetime(2026, 6, 1, tzinfo=UTC)
    for accuracy, told in ((timedelta(hours=1), "shown"), (timedelta(days=2), "not shown")):
        stamped = Stamp(now - timedelta(days=1), accuracy, "1.2.3", 1, "CN=an authority")
        dates = replace(SEEN, stamp=stamped, since=now)
        assert dates.priority == told, "a stamp is no better than the accuracy that its authority states"
        found = judge(copied, case.copy, strata, victim=case.victim, case=dates)
        assert any("tried many nets as his victim" in each for each in found.caveats) is (told == "not shown")


def test_more_models_than_anybody_trains_are_refused_at_once(copied):
    assert models_needed(1 / (MOST_MODELS + 1)) == MOST_MODELS
    for tries, alpha in ((10**400, 0.5), (1, 1e-300), (MOST_MODELS, 0.5)):
        with pytest.raises(UsageError, match="are not trained"):
            models_needed(alpha, tries)
    with pytest.raises(UsageError, match="and 10,000 at most"):
        train_strata(copied, [RECIPE], count=10**9)
    with pytest.raises(UsageError, match="are not trained"):
        train_strata(copied, [RECIPE], tries=10**30)


def test_more_twins_than_anybody_trains_are_refused_at_once(case, tmp_path):
    disclosed = case.opened(case.copy, tmp_path / "o", lineup=True)
    now = datetime(2026, 6, 1, tzinfo=UTC)
    dates = replace(SEEN, stamp=Stamp(now - timedelta(days=9), None, "1.2.3", 1, "CN=an authority"), since=now)
    assert check_lineup(disclosed, case.copy, case=dates, twins=4).recipe
    with pytest.raises(UsageError, match=r"your --alpha: train 19 or more, and 10,000 at most"):
        check_lineup(disclosed, case.copy, case=replace(dates, alpha=0.05), twins=4)
    with pytest.raises(UsageError, match="and 10,000 at most"):
        check_lineup(disclosed, case.copy, case=dates, twins=10**9)


def test_nothing_that_an_owner_names_is_fetched_unless_the_judge_names_it(case, strata, tmp_path, monkeypatch):
    def asked(*_):
        raise AssertionError("the hub was asked")

    monkeypatch.setattr("whorl.data.hub.asking_hub", asked)
    named = 'noise(hf("somebody/pictures"))'
    body = case.claim.body.model_copy(update={"data": named})
    claim = write_signed(body, case.claim.victim, case.key, tmp_path / "claim")
    digest = digests_of(case.copy)[0]
    draw = drawn(claim.digest, digest)
    open_claim(claim, case.secrets, draw, digest, key=case.key, folder=tmp_path / "o", lineup=True, families=PAIR)
    opened = read_opening(tmp_path / "o", claim, [case.key.public_key()])
    for data in ("", "digits(size=8)", 'hf("somebody/else")'):
        with pytest.raises(
            UsageError, match=r"pictures of the hub, hf\(\"somebody/pictures\"\), which would be fetched"
        ):
            judge(opened, case.copy, strata, case=SEEN, data=data)
        with pytest.raises(UsageError, match="pictures of the hub"):
            check_lineup(opened, case.copy, case=SEEN, twins=4, data=data)
    check_fetched("train(mlp, hf(x)) -> fine_tune(all)", "hf(x)")
    with pytest.raises(UsageError, match="hf"):
        check_fetched("train(mlp, join([digits, hf(x)]))", "digits")
