"""A lineup by a scheme: a fingerprint of each candidate, fixed before the first answer, and the same rank."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from reasoned import reasoned

import whorl
from whorl.detection.lineup import rank
from whorl.errors import AccessRefused, InvalidFile, UsageError
from whorl.fingerprints.files import write_fingerprint
from whorl.fingerprints.joined import fingerprint_of, join
from whorl.fingerprints.second import identity
from whorl.fingerprints.terms import terms_of
from whorl.lineups.asking import order_of, show
from whorl.oracles.torch import TorchOracle
from whorl.oracles.wrappers import LabelsOnly
from whorl.removals import REMOVALS
from whorl.removals.base import opened
from whorl.schemes import SCHEMES
from whorl.schemes.opening import read_fingerprint
from whorl.testing import tiny_data, tiny_net
from whorl.types import Access, Queries

SIZE = 205  # ten for each of 20 candidates, and five that nobody gets
# Labels; scores; masked pictures, a hundred a query, of one set of masks a candidate.
BY = ("akh", "sac-normal", "zest")


def oracle(seed):
    net = tiny_net(seed=seed, architecture="mlp(width=32)")
    return TorchOracle(net, input_shape=(1, 8, 8), classes=10, access=Access.WEIGHTS, name=f"net {seed}")


@pytest.fixture(scope="module")
def nets():
    return [oracle(seed) for seed in range(700, 720)]


@pytest.fixture(scope="module")
def tuned(nets):
    removal = REMOVALS.make("fine_tune(all, epochs=1)")
    copy = removal(nets[0], tiny_data("attacker"), generator=torch.Generator().manual_seed(1))
    return opened(copy, nets[0], name="t")


@pytest.fixture(scope="module")
def made(nets, tmp_path_factory):
    """By scheme the fingerprint with its lineup, as it is read from its file, and the secret."""
    cache = tmp_path_factory.mktemp("cache")
    bare = whorl.extract(nets[0], data="digits(size=8)", scheme="random", budget=4)
    found = {}
    for by in BY:
        twins = {each.name: each for each in nets[1:]}
        lined_up, secret = whorl.line_up(bare, nets[0], twins, size=SIZE, by=by, cache=cache)
        write_fingerprint(reasoned(lined_up, secret), cache / "a.fp")
        found[by] = read_fingerprint(cache / "a.fp"), secret
    return found


@pytest.mark.parametrize("by", BY)
def test_a_tuned_copy_is_most_like_the_fingerprint_of_the_victim(made, tuned, by, tmp_path):
    fingerprint, secret = made[by]
    verdict = whorl.verify(fingerprint, tuned, secret=secret, cache=tmp_path)
    assert (verdict.decision, verdict.p_value, verdict.lineup["rank"]) == ("derived", 0.05, 1)
    assert verdict.lineup["statistic"] == "similarity"
    assert verdict.lineup["terms"]["by"] == str(SCHEMES.make(by))
    assert verdict.scheme == f"lineup(by={SCHEMES.make(by)})"
    assert verdict.queries["spent"] == verdict.queries["size"] == 200
    # What a verdict says of a candidate is what its scheme says of its fingerprint alone.
    scheme = SCHEMES.make(by)
    alone = [scheme.observe(fingerprint_of(fingerprint, str(scheme), place), tuned).similarity for place in range(20)]
    assert verdict.lineup["totals"] == pytest.approx(alone, abs=1e-5)


@pytest.mark.parametrize("by", BY)
def test_permuting_candidates_permutes_what_they_get(made, tuned, by):
    lineup = made[by][0].candidates
    terms, order = terms_of(lineup, "classification"), torch.randperm(20, generator=torch.Generator().manual_seed(3))
    before = show(lineup, terms, order_of(lineup), tuned).totals
    name = str(SCHEMES.make(by))
    queries, answers = join([fingerprint_of(made[by][0], name, int(place)) for place in order])
    turned = dataclasses.replace(
        lineup, queries=queries, answers=answers, digests=tuple(lineup.digests[int(place)] for place in order)
    )
    after = show(turned, terms, order_of(turned), tuned).totals
    assert after.tolist() == before[order.numpy()].tolist()
    assert [rank(after, place) for place in range(20)] == [rank(before, int(place)) for place in order]


def test_scheme_and_fingerprints_are_fixed_before_the_first_answer(made, nets):
    known = made["akh"][0]
    lineup = known.candidates
    other = dataclasses.replace(lineup, settings={**lineup.settings, "by": "random"})
    assert identity(dataclasses.replace(known, candidates=other)) != identity(known)
    answers = lineup.answers.clone()
    answers[0, 0] = (answers[0, 0] + 1) % 10
    other = dataclasses.replace(lineup, answers=answers)
    assert identity(dataclasses.replace(known, candidates=other)) != identity(known)
    assert not fingerprint_of(known, "akh", 0).victim, "no candidate is named"
    assert nets[0].digest not in str(lineup.queries.notes)


def test_who_can_not_be_asked_is_told_before_the_first_query(made, tuned, nets, tmp_path):
    fingerprint, secret = made["sac-normal"]
    shut, asked = LabelsOnly(tuned), tuned.queries_spent
    with pytest.raises(AccessRefused, match="sac-normal needs PROBABILITIES of the suspect"):
        whorl.verify(fingerprint, shut, secret=secret, cache=tmp_path)
    with pytest.raises(UsageError, match=r"asks all 200 queries of its candidates; the budget is 50\. Leave it out"):
        whorl.verify(fingerprint, tuned, secret=secret, cache=tmp_path, budget=50)
    with pytest.raises(UsageError, match="reads classes in the order that the suspect states"):
        whorl.verify(fingerprint, tuned, secret=secret, cache=tmp_path, match_labels=True)
    assert tuned.queries_spent == asked


@pytest.mark.parametrize(
    ("by", "size", "told"),
    [
        ("conferrable", 100, "conferrable learns from shadow models, copies of one model, and twins have none"),
        ("akh", 3, "divides its questions among the candidates, and 3 are fewer than the 5 candidates: give --ques"),
        ("akhh", 100, "no such name among the schemes: 'akhh'"),
        ("ipguard(margin=-1)", 100, "margin"),
        ("ipguard", 100, "ipguard needs GRADIENTS of the victim; net 700 grants LABELS"),
    ],
)
def test_a_scheme_that_can_not_serve_is_refused_in_one_line(nets, by, size, told):
    shut = [LabelsOnly(each) for each in nets[:5]]
    bare = whorl.extract(shut[0], data="digits(size=8)", scheme="random", budget=4)
    with pytest.raises((UsageError, AccessRefused)) as refused:
        whorl.line_up(bare, shut[0], {each.name: each for each in shut[1:]}, size=size, alpha=0.2, by=by)
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)


def test_known_strangers_and_copies_are_asked_by_the_scheme(nets, tuned, tmp_path):
    bare = whorl.extract(nets[0], data="digits(size=8)", scheme="random", budget=4)
    common = {"size": 100, "alpha": 0.2, "by": "sac-normal", "cache": tmp_path}
    twins = {each.name: each for each in nets[1:5]}
    lined_up, _ = whorl.line_up(
        bare, nets[0], twins, strangers={"s": oracle(801)}, copies={"fine_tune": [tuned]}, **common
    )
    terms = terms_of(lined_up.candidates, "classification")
    assert (set(terms.strangers), terms.copies) == ({"s"}, {"fine_tune": (1, 1)})
    with pytest.raises(AccessRefused, match="of the suspect"):
        whorl.line_up(bare, nets[0], twins, strangers={"s": LabelsOnly(oracle(801))}, **common)


class Hot(TorchOracle):
    """Rows of 0 and 1."""

    def _stream(self, inputs):
        for positions, answers in super()._stream(inputs):
            yield positions, torch.nn.functional.one_hot(answers.argmax(1), 10).float()


def test_rows_of_0_and_1_are_read_as_a_scheme_reads_them(made, tuned, tmp_path):
    fingerprint, secret = made["sac-normal"]
    hot = Hot(tuned.module, input_shape=(1, 8, 8), classes=10, access=Access.PROBABILITIES, name="hot")
    assert whorl.verify(fingerprint, hot, secret=secret, cache=tmp_path).lineup["statistic"] == "similarity"


def _there_and_back(fingerprint, path):
    write_fingerprint(fingerprint, path)
    return read_fingerprint(path)


def _changed(candidates, **fields):
    queries = candidates.queries
    known = {
        "inputs": queries.inputs,
        "companions": queries.companions,
        "notes": queries.notes,
        "shared": queries.shared,
    }
    return dataclasses.replace(candidates, queries=Queries(**(known | fields)))


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda c: _changed(c, notes={"each": [{}]}), "notes are not those of 20 candidates"),
        (lambda c: _changed(c, notes={"other": 1}), "notes are not those of 20 candidates"),
        (lambda c: _changed(c, inputs=c.inputs[:199], companions={}), "199 queries, which 20 candidates do not share"),
        (lambda c: _changed(c, shared={"x": torch.zeros(3)}), "'x' does not count the 20 candidates"),
        (lambda c: _changed(c, shared={"x": torch.zeros(20)}), "declares no 'shared/x'"),
        (lambda c: dataclasses.replace(c, answers=c.answers[:19]), "does not count the 20 candidates"),
        (lambda c: dataclasses.replace(c, answers=c.answers + 10), "reference"),
        (lambda c: dataclasses.replace(c, settings={**c.settings, "by": "no-such"}), "no such name among the schemes"),
    ],
)
def test_a_file_whose_candidates_break_their_scheme_is_refused(made, tmp_path, damage, told):
    known = made["akh"][0]
    broken = dataclasses.replace(known, candidates=damage(known.candidates))
    with pytest.raises((UsageError, InvalidFile), match=told):  # seen by any reader, or by who knows the schemes
        _there_and_back(broken, tmp_path / "b.fp")


def test_fingerprints_of_different_shapes_do_not_stand_in_one_lineup(made):
    one = fingerprint_of(made["akh"][0], "akh", 0)
    cut = dataclasses.replace(one, queries=one.queries[:5])
    with pytest.raises(UsageError, match="fingerprints of different shapes"):
        join([one, cut])
    more = dataclasses.replace(one, queries=dataclasses.replace(one.queries, shared={"x": torch.zeros(1)}))
    with pytest.raises(UsageError, match="fingerprints of different shapes"):
        join([one, more])
