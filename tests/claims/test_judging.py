"""The judge's procedure: copies and strangers, dishonest nulls, dates, tries, and the lineup with its accusers."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from disputes import ALPHA, DATA, JUDGE, RECIPE, SEED, drawn

from whorl.attest.log import Log
from whorl.attest.stamp import Stamp
from whorl.claims import twins as twins_module
from whorl.claims.documents import Claim, read_signed, write_signed
from whorl.claims.judging import Case, claims_logged, judge, made_from, train_strata
from whorl.claims.making import family_of, make_claim
from whorl.claims.opening import open_claim, read_opening
from whorl.claims.twins import judge_lineup
from whorl.errors import InvalidFile, UsageError
from whorl.nets.training import build
from whorl.oracles.torch import TorchOracle
from whorl.oracles.wrappers import digests_of
from whorl.types import Representation
from whorl.zoo.recipe import parse_recipe

NOW = datetime(2026, 6, 1, tzinfo=UTC)
SEEN = Case(nonce=JUDGE.hex())


def stamp(days, accuracy=None):
    return Stamp(NOW + timedelta(days=days), accuracy, "1.2.3", 1, "CN=an authority")


@pytest.fixture(scope="module")
def opened(case, tmp_path_factory):
    folder = tmp_path_factory.mktemp("openings")
    return {name: case.opened(getattr(case, name), folder / name) for name in ("copy", "stranger")}


def test_a_copy_is_derived_and_a_stranger_is_not(case, opened, strata):
    for name, relation in (("copy", "derived"), ("stranger", "inconclusive")):
        found = judge(opened[name], getattr(case, name), strata, victim=case.victim, case=SEEN)
        assert found.relation == relation
        assert found.grade == "C"
        assert found.p_value_floor == 1 / 8
        assert [len(each.models) for each in found.strata] == [7, 7]
        assert (found.priority, found.counterpart) == ("not shown", "none shown")
        assert "trained by the judge" in found.caveats[0]
    found = judge(opened["copy"], case.copy, strata, case=SEEN)
    assert (found.p_value, found.grade) == (1 / 8, "D")
    assert "may have been picked" in found.caveats[0]


def test_an_owner_who_plays_the_judge_gets_no_grade(case, opened, strata):
    """He draws as often as he likes, and keeps what suits him; only the judge's own number shows another draw."""
    found = judge(opened["copy"], case.copy, strata, victim=case.victim)
    assert (found.relation, found.grade) == ("derived", "D")
    assert "draws until one suits him" in found.caveats[0]
    for wrong in (bytes(31) + b"X", bytes(31) + b"O"):
        with pytest.raises(InvalidFile, match="by another draw"):
            judge(opened["copy"], case.copy, strata, victim=case.victim, case=Case(nonce=wrong.hex()))


def test_queries_that_were_picked_by_what_the_suspect_answers_are_not_made_again(case, strata, tmp_path):
    """An innocent suspect stands out on them, and nothing but its answers says so."""
    suspect, whole = case.stranger, case.secrets
    picked = {}
    for name, made in whole.families.items():
        answers = suspect.labels(made.queries.inputs)
        picked[name] = replace(made, reference=Representation(answers))
    known = replace(whole, families=picked)
    families = {name: family_of(known, name) for name in picked}
    body = case.claim.body.model_copy(update={"families": families})
    claim = write_signed(body, case.claim.victim, case.key, tmp_path / "picked")
    draw = drawn(claim.digest, digests_of(suspect)[0])
    open_claim(claim, known, draw, digests_of(suspect)[0], key=case.key, folder=tmp_path / "o")
    opened = read_opening(tmp_path / "o", claim, [case.key.public_key()])
    assert judge(opened, suspect, strata).relation == "derived"
    with pytest.raises(InvalidFile, match="not what its scheme makes of the victim"):
        judge(opened, suspect, strata, victim=case.victim)
    with pytest.raises(UsageError, match="not the victim of this claim"):
        judge(opened, suspect, strata, victim=case.copy)


def test_the_victims_own_weights_are_told(case, strata, tmp_path):
    found = judge(case.opened(case.victim, tmp_path / "o"), case.victim, strata, victim=case.victim, case=SEEN)
    assert found.relation == "derived"
    assert any("to the byte" in each for each in found.caveats)
    assert not any(
        "to the byte" in each for each in judge(case.opened(case.copy, tmp_path / "p"), case.copy, strata).caveats
    )


def test_p_is_the_largest_over_kinds_and_families(case, opened, strata):
    """A copy stands in for a model that one kind of stranger is like: it takes the verdict away."""
    alike = case.net(f"{parse_recipe(RECIPE).with_seed(SEED)} -> fine_tune(all, epochs=3, seed=5)")
    kind = {
        **strata[RECIPE],
        "alike": alike,
        "too": case.net(f"{parse_recipe(RECIPE).with_seed(SEED)} -> quantise(int8)"),
        "and this": case.net(f"{parse_recipe(RECIPE).with_seed(SEED)} -> quantise(bf16)"),  # one may miss what is drawn
    }
    found = judge(opened["copy"], case.copy, {**strata, RECIPE: kind})
    assert found.p_value > 1 / 8
    assert found.relation == "inconclusive"


def test_tries_are_paid_for(case, opened, strata):
    assert judge(opened["copy"], case.copy, strata, case=Case(tries=2)).p_value == 2 / 8
    assert judge(opened["copy"], case.copy, strata, case=Case(tries=2)).relation == "inconclusive"


def test_models_that_know_nothing_are_no_null(case, opened):
    """Random maps agree with nothing, so that any model of the task would stand out among them."""
    maps = {
        f"map {seed}": TorchOracle(
            build("mlp(width=4)", (1, 8, 8), 10, torch.Generator().manual_seed(seed)), input_shape=(1, 8, 8), classes=10
        )
        for seed in range(7)
    }
    found = judge(opened["stranger"], case.stranger, {"random maps": maps})
    assert found.relation == "inconclusive"
    assert found.strata[0].void
    assert any("void" in each for each in found.caveats)


def test_another_suspect_than_was_drawn_for_is_refused(case, opened, strata):
    with pytest.raises(UsageError, match="made for another suspect"):
        judge(opened["copy"], case.stranger, strata)


def test_neither_victim_nor_suspect_stands_in_the_null(case, opened, strata):
    for name, told in (("victim", "the victim"), ("copy", "the suspect")):
        with pytest.raises(UsageError, match=told):
            judge(opened["copy"], case.copy, {RECIPE: {**strata[RECIPE], "one": getattr(case, name)}})
    twice = {**strata[RECIPE], "again": next(iter(strata[RECIPE].values()))}
    with pytest.raises(UsageError, match="each once"):
        judge(opened["copy"], case.copy, {RECIPE: twice})


def test_a_suspect_that_answers_by_chance_is_asked_to_describe_itself(case, strata, tmp_path):
    net = case.copy.module
    shuffled = TorchOracle(torch.nn.Sequential(net, _Turned()), input_shape=(1, 8, 8), classes=10)
    with pytest.raises(UsageError, match="in which order its labels stand"):
        judge(case.opened(shuffled, tmp_path / "o"), shuffled, strata)


class _Turned(torch.nn.Module):
    def forward(self, logits):
        return logits.roll(3, 1)


def test_strata_have_seeds_from_the_draw(case, opened):
    found = train_strata(opened["copy"], [RECIPE], count=4, folder=case.zoo.cache, workers=1)
    again = train_strata(opened["copy"], [RECIPE], count=4, folder=case.zoo.cache, workers=1)
    assert list(found[RECIPE]) == list(again[RECIPE])
    assert len(found[RECIPE]) == 4
    with pytest.raises(UsageError, match="with 3 models of each kind nothing"):
        train_strata(opened["copy"], [RECIPE], count=3)
    with pytest.raises(UsageError, match="named twice"):
        train_strata(opened["copy"], [RECIPE, RECIPE.replace(", ", ",  ")], count=4)
    with pytest.raises(UsageError, match="with 8 models of each kind nothing"):
        train_strata(opened["copy"], [RECIPE], count=8, tries=2)


@pytest.mark.parametrize(
    ("mine", "theirs", "priority", "counterpart"),
    [
        (None, None, "not shown", "none shown"),
        (0, None, "shown", "none shown"),
        (0, 5, "shown", "none shown"),
        (0, -5, "shown", "earlier"),
        (None, -5, "not shown", "earlier"),
        (0, 0, "shown", "undecided"),
    ],
)
def test_three_statements_are_never_one(case, opened, strata, mine, theirs, priority, counterpart):
    dates = replace(
        SEEN,
        since=NOW + timedelta(days=1),
        stamp=None if mine is None else stamp(mine),
        earlier=() if theirs is None else (stamp(theirs),),
    )
    found = judge(opened["copy"], case.copy, strata, victim=case.victim, case=dates)
    assert found.relation == "derived"
    assert (found.priority, found.counterpart) == (priority, counterpart)
    assert made_from(found) is (priority == "shown" and counterpart == "none shown")


def test_a_stamp_that_is_no_older_than_the_suspect_shows_no_priority(case, opened, strata):
    for since, priority in (
        (NOW + timedelta(days=1), "shown"),
        (NOW, "not shown"),
        (datetime(2001, 1, 1, tzinfo=UTC), "not shown"),
        (None, "not shown"),
    ):
        found = judge(
            opened["copy"], case.copy, strata, victim=case.victim, case=replace(SEEN, stamp=stamp(0), since=since)
        )
        assert found.priority == priority
        assert made_from(found) is (priority == "shown")
        reasons = ("not older than the suspect", "since when the suspect exists")
        assert any(reason in each for each in found.caveats for reason in reasons) is (priority != "shown")


def test_missing_dates_on_both_sides_say_no_direction(case, opened, strata):
    both = replace(SEEN, undated=1)
    assert both.counterpart == "undecided"
    assert replace(both, stamp=stamp(0)).counterpart == "none shown", "ours alone is dated"
    assert replace(both, earlier=(stamp(9),)).counterpart == "earlier", "theirs alone is dated"
    found = judge(opened["copy"], case.copy, strata, victim=case.victim, case=both)
    assert found.counterpart == "undecided"
    assert "neither side shows a verified time: related, direction unknown" in found.caveats
    assert not made_from(found)


def test_who_fingerprints_somebody_elses_model_has_no_victim_of_his_own(case, strata, tmp_path):
    """His victim is the suspect itself: related as can be, and the other side dates it earlier."""
    dates = replace(SEEN, stamp=stamp(0), since=NOW + timedelta(days=1), earlier=(stamp(-5),))
    found = judge(case.opened(case.victim, tmp_path / "o"), case.victim, strata, victim=case.victim, case=dates)
    assert (found.relation, found.counterpart) == ("derived", "earlier")
    assert any("no victim of his own" in each for each in found.caveats)
    assert not made_from(found)


def test_dates_within_the_accuracy_of_their_authorities_decide_nothing():
    near = stamp(0, timedelta(hours=3))
    assert Case(stamp=near, earlier=(stamp(-0.1, timedelta(hours=3)),)).counterpart == "undecided"
    assert Case(stamp=near, earlier=(stamp(-0.5, timedelta(hours=3)),)).counterpart == "earlier"


def test_claims_in_the_log_are_counted(case, tmp_path):
    log = Log.create(tmp_path / "log", "an-owner", case.key)
    log.append(b"something else", case.key)
    with pytest.raises(InvalidFile, match="does not hold this claim"):
        claims_logged(log, case.claim, [case.key.public_key()])
    log.append(case.claim.data, case.key)
    assert claims_logged(log, case.claim, [case.key.public_key()]) == 1
    for number, key in enumerate((case.key, Ed25519PrivateKey.generate())):
        path = tmp_path / f"{number}.claim"
        options = {"schemes": ["akh", "igsm", "multipoint"], "size": 4, "opened": 2}
        make_claim(case.stranger, data=DATA, key=key, path=path, folder=tmp_path / f"s{number}", **options)
        log.append(path.read_bytes(), case.key)
    assert claims_logged(log, case.claim, [case.key.public_key()]) == 2, "the other is another owner's"


@pytest.fixture(scope="module")
def disclosed(case, tmp_path_factory):
    return case.opened(case.copy, tmp_path_factory.mktemp("lineup") / "o", lineup=True)


def lineup(of, opened, suspect, dates=None):
    dates = replace(dates or Case(stamp=stamp(-9)), nonce=JUDGE.hex(), since=NOW)
    options = {"twins": 4, "size": 400, "folder": of.zoo.cache, "workers": 1}
    return judge_lineup(opened, suspect, case=dates, **options)


def test_a_lineup_of_the_judges_own_twins_convicts_a_copy(case, disclosed):
    found = lineup(case, disclosed, case.copy)
    # The copy names the victim; with four twins one of four figures sets the victim apart in most draws, as is told.
    apart = any("twins unlike the victim" in each for each in found.caveats)
    assert found.relation == ("inconclusive" if apart else "derived")
    assert (found.p_value, found.alpha) == (ALPHA, ALPHA)
    assert found.grade == "C"
    assert found.lineup["candidates"] == 5
    assert made_from(found) != apart
    assert "repeated the victim's training" in found.caveats[0]
    assert not any("grade D" in each for each in found.caveats)
    with pytest.raises(UsageError, match=r"derived after 2 tries at 0\.2.*train 9 or more"):
        lineup(case, disclosed, case.copy, Case(stamp=stamp(-9), tries=2))


def test_a_lineup_tells_how_many_strangers_name_the_victim(case, disclosed, strata):
    dates = Case(stamp=stamp(-9), nonce=JUDGE.hex(), since=NOW)
    found = judge_lineup(
        disclosed,
        case.copy,
        case=dates,
        twins=4,
        strangers=strata[RECIPE],
        size=400,
        folder=case.zoo.cache,
        workers=1,
    )
    assert found.lineup["strangers"]["asked"] == 7
    assert any("of 7 known strangers name the victim" in each for each in found.caveats)


def test_what_fits_no_lineup_is_refused_before_anything_is_trained(case, disclosed, monkeypatch):
    monkeypatch.setattr(twins_module, "_trained_anew", lambda *_: pytest.fail("the victim was trained"))
    dates = Case(stamp=stamp(-9), nonce=JUDGE.hex(), since=NOW)
    fewer = TorchOracle(
        torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 5)), input_shape=(1, 8, 8), classes=5
    )
    larger = TorchOracle(
        torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(81, 10)), input_shape=(1, 9, 9), classes=10
    )
    with pytest.raises(UsageError, match="another suspect"):
        judge_lineup(disclosed, case.stranger, case=dates, twins=4)
    for wrong in (fewer, larger):
        wrong.digest = disclosed.opening.body.suspect
        with pytest.raises(UsageError, match="no lineup of its victim can be held"):
            judge_lineup(disclosed, wrong, case=dates, twins=4)


def test_a_lineup_keeps_the_alpha_that_the_claim_fixed(case, disclosed):
    dates = Case(stamp=stamp(-9), nonce=JUDGE.hex(), since=NOW)
    with pytest.raises(UsageError, match=r"at 0\.2, which the claim fixed: train 4 or more"):
        judge_lineup(disclosed, case.copy, case=dates, twins=3, folder=case.zoo.cache)


def test_a_lineup_needs_a_stamp_that_is_older_than_the_suspect(case, disclosed):
    for dates in (Case(), Case(stamp=stamp(0)), Case(stamp=stamp(1))):
        with pytest.raises(UsageError, match="older than the suspect"):
            lineup(case, disclosed, case.copy, dates)


def test_a_victim_that_was_made_from_an_innocent_model_has_no_training_to_repeat(case, tmp_path):
    """The sixth accuser: he tunes somebody's model, calls it his, and commits to an honest-looking recipe."""
    innocent = case.stranger
    his = case.net(f"{parse_recipe(RECIPE).with_seed(77)} -> fine_tune(all, epochs=2)")
    options = {"schemes": ["akh", "igsm", "multipoint"], "size": 4, "opened": 2, "recipe": RECIPE, "seed": 4321}
    make_claim(his, data=DATA, key=case.key, path=tmp_path / "c", folder=tmp_path / "s", alpha=ALPHA, **options)
    claim = read_signed(tmp_path / "c", Claim, [case.key.public_key()])
    accuser = type(case)(tmp_path, case.key, claim, case.zoo)
    (tmp_path / "s").rename(tmp_path / "secrets")
    opened = accuser.opened(innocent, tmp_path / "o", lineup=True)
    with pytest.raises(UsageError, match="other weights than the claim's victim"):
        lineup(case, opened, innocent)


def test_an_opening_without_queries_is_judged_by_twins_alone(case, disclosed, strata, opened):
    with pytest.raises(UsageError, match="judge it by twins"):
        judge(disclosed, case.copy, strata)
    with pytest.raises(UsageError, match="disclosed no recipe"):
        lineup(case, opened["copy"], case.copy)
    assert digests_of(case.copy)[0] == disclosed.opening.body.suspect
