"""A lineup from its making to a verdict: symmetric, sealed, and careful about what it can't know."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch
from reasoned import reasoned

import whorl
from whorl.data.base import join
from whorl.detection.lineup import outermost
from whorl.errors import InvalidFile, UsageError
from whorl.fingerprints.files import write_fingerprint
from whorl.fingerprints.secret import commit
from whorl.fingerprints.terms import Terms, terms_of
from whorl.lineups.asking import order_of, show
from whorl.lineups.figures import with_reasons
from whorl.lineups.making import Material, check_twin, line_up, with_known
from whorl.lineups.session import hold
from whorl.oracles.torch import TorchOracle
from whorl.oracles.wrappers import LabelsOnly
from whorl.removals import REMOVALS
from whorl.removals.base import opened
from whorl.schemes.opening import read_fingerprint
from whorl.testing import tiny_data, tiny_net
from whorl.types import Access, Rule

MLP = "mlp(width=32)"
RULE = Rule(alpha=0.05)


def oracle(seed, access=Access.WEIGHTS, part="victim"):
    net = tiny_net(seed=seed, part=part, architecture=MLP)
    return TorchOracle(net, input_shape=(1, 8, 8), classes=10, access=access, name=f"net {seed}")


@pytest.fixture(scope="module")
def nets():
    return [oracle(seed) for seed in range(700, 720)]


@pytest.fixture(scope="module")
def material():
    return Material(join(tiny_data("queries"), tiny_data("test")), tiny_data("test"), tiny_data("victim"))


@pytest.fixture(scope="module")
def bare(nets):
    return whorl.extract(nets[0], data="digits(size=8)", scheme="random", budget=4)


@pytest.fixture(scope="module")
def made(nets, bare, material):
    terms = Terms(seeds="secret")
    made, secret = line_up(bare, nets[0], nets[1:], material, size=300, terms=terms, recipe="train(mlp, digits)")
    return reasoned(made, secret, "seeds 700 to 719 differ in nothing else"), secret


@pytest.fixture(scope="module")
def tuned(nets):
    removal = REMOVALS.make("fine_tune(all, epochs=1)")
    return opened(
        removal(nets[0], tiny_data("attacker"), generator=torch.Generator().manual_seed(1)), nets[0], name="t"
    )


@pytest.mark.parametrize("access", [Access.LABELS, Access.LOGITS])
def test_a_tuned_copy_names_the_victim_and_is_derived(made, tuned, access):
    suspect = LabelsOnly(tuned) if access is Access.LABELS else tuned
    verdict = hold(made[0], suspect, RULE, secret=made[1])
    assert verdict.decision == "derived"
    assert (verdict.p_value, verdict.p_value_floor, verdict.error_bound) == (0.05, 0.05, 0.05)
    assert verdict.lineup["leader"] == verdict.lineup["place"]
    assert verdict.lineup["exact"]


def test_candidates_that_share_a_history_are_levelled(nets, bare, tuned, tmp_path):
    common = {"data": "digits(size=8)", "size": 300, "alpha": 0.2, "cache": tmp_path}
    twins = {each.name: each for each in nets[1:5]}
    for hypothesis, statistic in (("", "residual"), ("made without the last stage", "levelled")):
        fingerprint, secret = whorl.line_up(bare, nets[0], twins, hypothesis=hypothesis, **common)
        verdict = whorl.verify(reasoned(fingerprint, secret), tuned, secret=secret, cache=tmp_path)
        assert (verdict.lineup["statistic"], verdict.lineup["rank"]) == (statistic, 1)
        assert (verdict.queries["spent"], verdict.lineup["terms"]["scores"]) == (100, statistic)
    lineup, place = fingerprint.candidates, secret.place
    order = order_of(lineup)
    by = {
        scores: show(lineup, terms_of(lineup, "classification").model_copy(update={"scores": scores}), order, tuned)
        for scores in ("residual", "levelled")
    }
    assert verdict.lineup["totals"][place] == pytest.approx(by["levelled"].totals[place], abs=1e-5)
    assert verdict.lineup["totals"][place] != pytest.approx(by["residual"].totals[place], abs=1e-5)


def test_rows_of_0_and_1_are_scored_as_the_labels_that_they_are(made, tuned):
    class Hot(TorchOracle):
        def _stream(self, inputs):
            for positions, answers in super()._stream(inputs):
                yield positions, torch.nn.functional.one_hot(answers.argmax(1), 10).float()

    hot = Hot(tuned.module, input_shape=(1, 8, 8), classes=10, access=Access.PROBABILITIES, name="hot")
    verdict = hold(made[0], hot, RULE, secret=made[1])
    shut = hold(made[0], LabelsOnly(tuned), RULE, secret=made[1])
    assert (verdict.decision, verdict.lineup["statistic"]) == ("derived", "mixture")
    assert verdict.lineup["totals"] == shut.lineup["totals"]


def test_a_stranger_ranks_each_candidate_the_same_whichever_of_them_is_the_victim(nets, bare, material, monkeypatch):
    monkeypatch.setattr("whorl.lineups.making.secrets.randbits", lambda _: 5)  # the same questions in every lineup
    every = Rule(alpha=0.05, budget=60)  # all of them are asked: the order, which is drawn anew, changes nothing
    strangers = [oracle(seed, part="calibration") for seed in (801, 802)] + [oracle(803)]
    ranks: list[list[float]] = [[] for _ in strangers]
    for place in range(0, 20, 2):  # another victim each time; the others are its twins
        others = nets[:place] + nets[place + 1 :]
        fingerprint, secret = line_up(bare, nets[place], others, material, size=60)
        for number, stranger in enumerate(strangers):
            verdict = hold(reasoned(fingerprint, secret), stranger, every, secret=secret)
            assert (verdict.decision == "derived") == (verdict.p_value <= 0.05)
            ranks[number].append(verdict.p_value)
    # One of 20 candidates has each rank, so ten victims have ten, and chance names one of 20.
    assert all(len(set(values)) == 10 for values in ranks), ranks


def test_without_the_secret_the_lineup_stays_sealed(made, tuned):
    verdict = hold(made[0], tuned, RULE)
    assert verdict.decision == "inconclusive"
    assert "sealed" in verdict.caveats[1]
    assert verdict.lineup["place"] is None
    with pytest.raises(UsageError, match="does not open"):
        hold(made[0], tuned, RULE, secret=commit(made[1].place))


def test_the_file_keeps_it_and_tells_nobody_who_the_victim_is(made, nets, tmp_path):
    fingerprint, secret = made
    write_fingerprint(fingerprint, tmp_path / "a.fp")
    known = read_fingerprint(tmp_path / "a.fp")
    torch.testing.assert_close(known.candidates.answers, fingerprint.candidates.answers)
    assert known.candidates.settings == fingerprint.candidates.settings
    text = (tmp_path / "a.fp").read_bytes()
    assert nets[1].digest.encode() not in text, "digests of candidates are sealed"
    assert secret.salt.encode() not in text
    assert order_of(known.candidates).tolist() == order_of(fingerprint.candidates).tolist()


def test_the_order_of_the_candidates_is_drawn(nets, bare, material):
    places = {line_up(bare, nets[0], nets[1:], material, size=4)[1].place for _ in range(12)}
    assert len(places) > 3  # 12 draws of 20 places: three or fewer once in 10^8


def test_who_is_no_twin(nets, bare, material):
    with pytest.raises(UsageError, match="needs twins"):
        line_up(bare, nets[0], [], material)
    with pytest.raises(UsageError, match="has the weights of"):
        line_up(bare, nets[0], [nets[1], nets[1]], material)
    wrapped = torch.nn.Sequential(nets[1].module)
    again = TorchOracle(wrapped, input_shape=(1, 8, 8), classes=10, access=Access.LOGITS, name="served")
    with pytest.raises(UsageError, match="answer alike"):
        line_up(bare, nets[0], [nets[1], again], material, size=20)


def test_the_victim_in_half_precision_is_no_twin(nets, bare, material):
    half = copy.deepcopy(nets[0].module).half().float()
    again = TorchOracle(half, input_shape=(1, 8, 8), classes=10, access=Access.LOGITS, name="half")
    with pytest.raises(UsageError, match="answer alike"):
        line_up(bare, nets[0], [*nets[1:4], again], material, size=100)
    labels = [LabelsOnly(each) for each in (*nets[:4], again)]
    with pytest.raises(UsageError, match="answer alike"):
        line_up(bare, labels[0], labels[1:], material, size=100)
    with pytest.raises(UsageError, match="every question alike"):
        line_up(bare, LabelsOnly(nets[0]), [LabelsOnly(again)], material, size=40)


def test_a_tuned_victim_is_no_twin_however_it_answers(nets, bare, material):
    tune = REMOVALS.make("fine_tune(all, epochs=4)")
    again = opened(tune(nets[0], tiny_data("attacker"), generator=torch.Generator().manual_seed(1)), nets[0], name="t")
    with pytest.raises(UsageError, match="nearly the same weights"):
        line_up(bare, nets[0], [*nets[1:5], again], material, size=40)
    shut = [TorchOracle(each.module, input_shape=(1, 8, 8), classes=10, access=Access.LOGITS) for each in nets[:4]]
    line_up(bare, shut[0], shut[1:], material, size=40)  # weights that may not be seen tell nothing
    shared = [opened(tune(nets[0], tiny_data("attacker"), generator=g), nets[0], name="b") for g in _seeds(4)]
    line_up(bare, shared[0], shared[1:], material, size=40)  # runs that branch from one model are as far as each other
    with pytest.raises(UsageError, match="share an ancestor or their first weights, and net 705 does not"):
        line_up(bare, nets[5], shared, material, size=40)  # beside a family whoever is not of it stands out


def _seeds(count):
    return [torch.Generator().manual_seed(seed) for seed in range(count)]


def test_a_twin_is_looked_at_before_the_next_is_trained(bare, nets):
    from whorl.errors import OracleError

    check_twin(bare, nets[0], nets[1])
    broken = copy.deepcopy(nets[1].module)
    torch.nn.init.constant_(next(broken.parameters()), float("nan"))
    nan = TorchOracle(broken, input_shape=(1, 8, 8), classes=10, access=Access.LOGITS, name="nan")
    with pytest.raises(OracleError, match="nan gave an answer that is NaN"):
        check_twin(bare, nets[0], nan)
    other = TorchOracle(tiny_net(seed=1), input_shape=(1, 8, 8), classes=9, access=Access.LOGITS, name="nine")
    with pytest.raises(UsageError, match="no twin"):
        check_twin(bare, nets[0], other)


def test_a_wrong_secret_costs_no_question(made, tuned):
    asked = tuned.queries_spent
    with pytest.raises(UsageError, match="does not open"):
        hold(made[0], tuned, RULE, secret=commit(made[1].place))
    assert tuned.queries_spent == asked


def test_a_twin_under_test_is_refused(made, nets):
    with pytest.raises(UsageError, match="is a twin of this lineup"):
        hold(made[0], nets[3], RULE, secret=made[1])


def test_a_victim_that_stands_outside_of_its_twins_convicts_nobody_without_a_reason(bare, material, tuned, nets):
    weak = [oracle(seed, part="test") for seed in range(900, 919)]  # twins that learned from a tenth of the pictures
    fingerprint, secret = line_up(bare, nets[0], weak, material, size=100)
    verdict = hold(fingerprint, tuned, RULE, secret=secret)
    assert verdict.decision == "inconclusive"
    assert "twins unlike the victim" in verdict.caveats[1]
    assert "accuracy" in verdict.lineup["outermost"]


def test_a_reason_is_for_a_figure_that_sets_the_victim_apart(bare, material, tuned, nets):
    weak = [oracle(seed, part="test") for seed in range(900, 919)]
    fingerprint, secret = line_up(bare, nets[0], weak, material, size=100)
    terms = terms_of(fingerprint.candidates, "classification")
    apart = outermost(terms.figures, secret.place)
    known = with_reasons(fingerprint, secret, {"accuracy": "the twins saw a tenth of the pictures"})
    verdict = hold(known, tuned, RULE, secret=secret)
    assert len(apart) > 1
    assert verdict.decision == "inconclusive", "the others have no reason yet"
    assert hold(reasoned(known, secret), tuned, RULE, secret=secret).decision == "derived"
    with pytest.raises(UsageError, match="does not stand outside of its twins by 'weather'; what sets it apart is"):
        with_reasons(fingerprint, secret, {"weather": "it rained"})
    with pytest.raises(UsageError, match="the reason for accuracy has 1 to 4,096 letters"):
        with_reasons(fingerprint, secret, {"accuracy": " "})
    lineup = fingerprint.candidates
    with pytest.raises(InvalidFile, match="a reason for 'weather', which is none of its figures"):
        terms_of(
            dataclasses.replace(lineup, settings={**lineup.settings, "reasons": {"weather": "x"}}), "classification"
        )


def test_twins_of_another_architecture_convict_nobody(bare, material, nets):
    wide = [
        TorchOracle(
            tiny_net(seed=seed, architecture="mlp(width=33)"),
            input_shape=(1, 8, 8),
            classes=10,
            access=Access.WEIGHTS,
            name=f"wide {seed}",
        )
        for seed in (1, 2)
    ]
    fingerprint, secret = line_up(bare, nets[0], [*nets[1:18], *wide], material, size=60)
    verdict = hold(fingerprint, nets[0], RULE, secret=secret)
    assert verdict.decision == "inconclusive"
    assert "a number of parameters that not every twin has" in verdict.caveats[1]
    shut = [LabelsOnly(each) for each in (*nets[:18], *wide)]
    fingerprint, secret = line_up(bare, shut[0], shut[1:], material, size=60)
    assert any("architecture was not seen" in c for c in hold(fingerprint, nets[0], RULE, secret=secret).caveats)


def test_runs_that_take_turns_as_the_victim_lose_the_word_exact(bare, nets, tmp_path):
    """Some run is like any stranger most, so whoever accuses with one after another accuses everybody."""
    runs, stranger, seed = nets[:5], oracle(815), 1 << 127
    many = {"data": "digits(size=8)", "size": 60, "alpha": 0.2, "victim_seed": seed, "cache": tmp_path}
    made = []
    for place, victim in enumerate(runs):
        own = whorl.extract(victim, data="digits(size=8)", scheme="random", budget=4)
        twins = {each.name: each for each in (*runs[:place], *runs[place + 1 :])}
        fingerprint, secret = whorl.line_up(own, victim, twins, **many)
        made.append((reasoned(fingerprint, secret), secret))
    for number, (fingerprint, secret) in enumerate(made):
        assert terms_of(fingerprint.candidates, "classification").turned == number, "as far as known when it was made"
        verdict = whorl.verify(fingerprint, stranger, secret=secret, cache=tmp_path)
        assert not verdict.lineup["exact"]
        assert any("in 4 other lineups" in each and "up to 5 times alpha" in each for each in verdict.caveats)
        elsewhere = whorl.verify(fingerprint, stranger, secret=secret, cache=tmp_path / "other")
        assert elsewhere.lineup["exact"] == (not number), "what the file itself says travels with it"
    own = whorl.extract(runs[0], data="digits(size=8)", scheme="random", budget=4)
    again = {each.name: each for each in runs[1:]}
    for cache in (tmp_path / "new", tmp_path / "new"):
        fingerprint, secret = whorl.line_up(own, runs[0], again, **{**many, "cache": cache})
        assert terms_of(fingerprint.candidates, "classification").turned == 0, "the same roles again are no turn"


def test_known_strangers_and_copies_are_counted_and_a_clump_convicts_nobody(made, tuned, nets):
    strangers = {f"s{seed}": oracle(seed) for seed in (811, 812)}
    known = with_known(made[0], made[1], strangers=strangers, copies={"fine_tune": [tuned, tuned]})
    terms = terms_of(known.candidates, "classification")
    assert terms.copies == {"fine_tune": (2, 2)}
    assert set(terms.strangers) == {"s811", "s812"}
    verdict = hold(known, tuned, RULE, secret=made[1])
    assert verdict.power["fine_tune"]["caught"] == 2
    assert any("of 2 known strangers name the victim" in each for each in verdict.caveats)
    settings = {**known.candidates.settings, "strangers": dict.fromkeys("abcdef", made[1].place)}
    clump = dataclasses.replace(known, candidates=dataclasses.replace(known.candidates, settings=settings))
    verdict = hold(clump, tuned, RULE, secret=made[1])
    assert verdict.decision == "inconclusive"
    assert "models of their kind" in verdict.caveats[1]


def test_the_rule_is_the_one_that_was_fixed(made, tuned):
    with pytest.raises(UsageError, match=r"alpha 0\.05 was fixed"):
        hold(made[0], tuned, Rule(alpha=0.2), secret=made[1])
    few, secret = made[0], made[1]
    verdict = hold(few, tuned, Rule(alpha=0.05, budget=3), secret=secret)
    assert verdict.queries["spent"] <= 3


def test_too_few_twins_for_alpha_are_told_with_the_number_that_would_do(nets, bare, material, tuned):
    fingerprint, secret = line_up(bare, nets[0], nets[1:5], material, size=50)
    verdict = hold(reasoned(fingerprint, secret), tuned, RULE, secret=secret)
    assert verdict.decision == "inconclusive"
    assert "at least 19 are needed" in verdict.caveats[1]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("labels", "magic"),
        ("margin", -1),
        ("alpha", 1.5),
        ("figures", {"accuracy": [0.5]}),
        ("strangers", {"a": 20}),
        ("copies", {"a": [3, 2]}),
        ("unknown", 1),
    ],
)
def test_damaged_terms_are_one_clear_line(made, name, value):
    lineup = made[0].candidates
    with pytest.raises(InvalidFile, match="the lineup"):
        terms_of(dataclasses.replace(lineup, settings={**lineup.settings, name: value}), "classification")
    with pytest.raises(InvalidFile, match="no probabilities"):
        terms_of(dataclasses.replace(lineup, answers=lineup.answers - 0.5), "classification")


def test_the_race_stops_early_on_a_copy_and_the_answers_after_it_change_nothing(made, tuned):
    lineup, order = made[0].candidates, order_of(made[0].candidates)
    showing = show(lineup, Terms(), order, LabelsOnly(tuned))
    assert showing.won
    assert showing.asked < showing.size
    one = LabelsOnly(tuned)
    one.block = 1
    again = show(lineup, Terms(), order, one)
    assert again.asked == again.sent == showing.asked
    assert again.totals == pytest.approx(showing.totals, rel=1e-9, abs=1e-9), "but for the order of sums"


def test_a_candidate_is_no_stranger(nets, made):
    """Each candidate names itself, so that a lineup of them would look as if nobody named the victim."""
    for known in (nets[0], nets[3]):
        with pytest.raises(UsageError, match="is a candidate of this lineup, and no stranger"):
            with_known(*made, strangers={"known": known}, copies={})
    other = oracle(750)
    with pytest.raises(UsageError, match=r"again has the weights of once.*counts once"):
        with_known(*made, strangers={"once": other, "again": other}, copies={})


def test_inputs_of_other_classes_show_no_figures(bare, nets, material):
    """A net of ten classes, and pictures that are sorted into two."""
    halves = dataclasses.replace(material.held_out, labels=material.held_out.labels % 2, classes=("even", "odd"))
    made, _ = line_up(bare, nets[0], nets[1:4], Material(material.pool, halves, halves), size=50)
    assert terms_of(made.candidates, "classification").figures.keys() == {"parameters"}


def test_lineups_are_not_joined_as_if_they_were_nulls(made, bare, tuned):
    with pytest.raises(UsageError, match="a lineup is held alone"):
        whorl.verify_all([made[0], bare], tuned)
