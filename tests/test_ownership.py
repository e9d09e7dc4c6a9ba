"""The owner's verbs in Python know and do what the command line knows and does."""

from __future__ import annotations

import dataclasses

import onnx
import pytest
import torch
from model_server import ModelServer
from onnx import TensorProto, helper
from torch import nn

import whorl
from whorl import ownership
from whorl.errors import BudgetExhausted, OracleError, UsageError
from whorl.nets.training import build
from whorl.populations import copies
from whorl.schemes import SCHEMES
from whorl.suspects import opened_for
from whorl.testing import tiny_data, tiny_net, tiny_victim

ALPHA, MLP, QUERIES = 0.05, "mlp(width=32)", 40
SCHEME = SCHEMES.make("ipguard(margin=2, learning_rate=0.01, iterations=300)")
NOTHING_REPLAYED = {"replayed": 0, "oldest": None, "sentinels": 0}
SERVED = {"model": "m", "output": "labels", "batch": 5, "concurrency": 1}


@pytest.fixture(scope="module")
def fingerprint():
    bare = SCHEME.extract(tiny_victim(architecture=MLP), tiny_data("victim"), budget=QUERIES)
    nets = {str(seed): tiny_net(seed=seed, part="calibration", architecture=MLP) for seed in range(100, 121)}
    return ownership.calibrate(bare, nets, pool="21 perceptrons")


@pytest.fixture(scope="module")
def plain():
    """The victim as somebody else's module, which says nothing of shape and classes."""
    return nn.Sequential(tiny_victim(architecture=MLP).module)


def interrupted(fingerprint, url, cache):
    """A verification that would ask everything, stopped after ten queries by the budget of its endpoint."""
    endless = dataclasses.replace(fingerprint, calibration=None)
    endpoint = opened_for(endless, url, **SERVED, budget=10)
    with pytest.raises(BudgetExhausted):
        whorl.verify(endless, endpoint, alpha=ALPHA, cache=cache)


def test_shape_and_classes_of_a_plain_module_come_from_the_fingerprint(fingerprint, plain):
    assert whorl.verify(fingerprint, plain, alpha=ALPHA).decision == "derived"
    wrong = {"input_shape": [1, 8, 8], "classes": 5}
    with pytest.raises(UsageError, match="of 5"):
        whorl.verify(fingerprint, plain, alpha=ALPHA, **wrong)
    null = ownership.calibrate(fingerprint, {"plain": plain}, pool="itself").calibration.null
    assert null.similarities == (1.0,)


def test_an_address_needs_only_its_protocol_and_is_asked_anew_after_a_verdict(fingerprint, plain, tmp_path):
    with ModelServer(plain, (1, 8, 8), labels=True) as server:
        first = whorl.verify(fingerprint, server.url, alpha=ALPHA, cache=tmp_path, **SERVED)
        asked = sum(server.asked.values())
        again = whorl.verify(fingerprint, server.url, alpha=ALPHA, cache=tmp_path, **SERVED)
    assert first == again
    assert first.decision == "derived"
    assert 2 * asked == 2 * first.queries["spent"] == sum(server.asked.values())
    assert {name: first.queries[name] for name in ("replayed", "oldest", "sentinels")} == NOTHING_REPLAYED
    assert len(list((tmp_path / "answers").iterdir())) >= 1


def test_a_replay_asks_only_what_the_record_lacks_and_says_how_old_it_is(fingerprint, plain, tmp_path, monkeypatch):
    with ModelServer(plain, (1, 8, 8), labels=True) as server:
        record = tmp_path / "new" / "answers.sqlite"
        with monkeypatch.context() as clock:
            clock.setattr("whorl.oracles.record._now", lambda: "2024-02-29T12:00:00Z")
            first = whorl.verify(fingerprint, server.url, alpha=ALPHA, record=record, cache=tmp_path, **SERVED)
        asked = sum(server.asked.values())
        again = whorl.verify(fingerprint, server.url, alpha=ALPHA, record=record, replay=True, **SERVED)
        assert sum(server.asked.values()) == asked
        other = dataclasses.replace(fingerprint, calibration=None)  # settles nothing, so it asks everything
        whole = whorl.verify(other, server.url, alpha=ALPHA, record=record, replay=True, **SERVED)
    assert record.is_file()
    assert not (tmp_path / "answers").exists()
    assert again.queries == {**first.queries, "replayed": asked, "oldest": "2024-02-29T12:00:00Z"}
    told = f"{asked} of {asked} answers were replayed from a record; the oldest is of 2024-02-29T12:00:00Z, and none"
    assert any(caveat.startswith(told) for caveat in again.caveats)
    assert dataclasses.replace(again, queries=first.queries, caveats=first.caveats) == first
    assert asked < len(server.asked) == QUERIES == sum(server.asked.values()) - whole.queries["sentinels"]
    assert any(f"and {whole.queries['sentinels']} were asked again and agreed" in caveat for caveat in whole.caveats)


def test_after_a_verdict_a_model_that_was_swapped_is_judged_by_its_own_answers(fingerprint, plain, tmp_path):
    with ModelServer(plain, (1, 8, 8), labels=True) as server:
        assert whorl.verify(fingerprint, server.url, alpha=ALPHA, cache=tmp_path, **SERVED).decision == "derived"
        server.module = tiny_net(seed=300, architecture=MLP)
        swapped = whorl.verify(fingerprint, server.url, alpha=ALPHA, cache=tmp_path, **SERVED)
    assert swapped.decision != "derived"
    assert swapped.queries["replayed"] == 0


def test_a_model_that_was_swapped_during_an_interruption_stops_it_before_a_verdict(fingerprint, plain, tmp_path):
    with ModelServer(plain, (1, 8, 8), labels=True) as server:
        interrupted(fingerprint, server.url, tmp_path)
        before, server.module = sum(server.asked.values()), tiny_net(seed=300, architecture=MLP)
        for _ in range(2):
            with pytest.raises(OracleError, match=r"\d of 5 answers asked again differ .* Nothing was decided"):
                whorl.verify(fingerprint, server.url, alpha=ALPHA, cache=tmp_path, **SERVED)
        assert sum(server.asked.values()) - before == 2 * 5
        fresh = whorl.verify(fingerprint, server.url, alpha=ALPHA, record=tmp_path / "fresh", **SERVED)
    assert fresh.queries["replayed"] == 0


def test_an_interruption_costs_sentinels_and_the_verdict_says_so(fingerprint, plain, tmp_path):
    with ModelServer(plain, (1, 8, 8), labels=True) as server:
        interrupted(fingerprint, server.url, tmp_path)
        endless = dataclasses.replace(fingerprint, calibration=None)
        verdict = whorl.verify(endless, server.url, alpha=ALPHA, cache=tmp_path, **SERVED)
    assert (verdict.queries["replayed"], verdict.queries["sentinels"]) == (10, 8)
    assert len(server.asked) == verdict.queries["spent"] == QUERIES == sum(server.asked.values()) - 8
    assert f"10 of {QUERIES} answers were replayed" in verdict.caveats[-1]


def test_fingerprints_that_are_verified_together_share_a_session(fingerprint, plain, tmp_path):
    other = ownership.calibrate(
        SCHEME.extract(tiny_victim(architecture=MLP), tiny_data("victim"), budget=QUERIES, seed=1),
        {str(seed): tiny_net(seed=seed, part="calibration", architecture=MLP) for seed in range(100, 121)},
        pool="the same",
    )
    known = [dataclasses.replace(each, calibration=None) for each in (fingerprint, other)]
    with ModelServer(plain, (1, 8, 8), labels=True) as server:
        with pytest.raises(BudgetExhausted):
            whorl.verify_all(known, server.url, cache=tmp_path, **SERVED, budget=QUERIES + 10)
        both = whorl.verify_all(known[::-1], server.url, cache=tmp_path, **SERVED)
        asked = sum(server.asked.values())
        again = whorl.verify_all(known, server.url, cache=tmp_path, replay=True, **SERVED)
        assert sum(server.asked.values()) == asked == len(server.asked) + 8
    some, everything = (verdict.queries["replayed"] for verdict in both.verdicts)
    assert 10 <= some < everything == QUERIES  # some pictures are in both
    assert [verdict.queries["replayed"] for verdict in again.verdicts] == [QUERIES, QUERIES]


def test_a_model_at_hand_has_nothing_to_replay(fingerprint, plain, tmp_path):
    with pytest.raises(UsageError, match="are not recorded, so none can be replayed; leave out --replay"):
        whorl.verify(fingerprint, plain, cache=tmp_path, replay=True)
    with pytest.raises(UsageError, match="no finished session"):
        whorl.verify(fingerprint, tiny_victim(architecture=MLP), record=tmp_path / "no" / "answers", replay=True)
    assert not list(tmp_path.iterdir())


def test_a_model_at_hand_leaves_no_record(fingerprint, plain, tmp_path):
    whorl.verify(fingerprint, plain, alpha=ALPHA, cache=tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_fingerprint_keeps_who_chose_its_settings():
    data = "digits(size=8)"
    chosen = {"margin": "the person, after a look at 12 other victims"}
    made = whorl.extract(
        tiny_victim(architecture=MLP), data=data, scheme="ipguard(margin=1, iterations=5)", budget=4, provenance=chosen
    )
    assert made.provenance["margin"] == chosen["margin"]
    assert made.provenance["iterations"] == "given"
    assert made.provenance["learning_rate"] == "the scheme's default"
    same = whorl.extract(tiny_victim(architecture=MLP), data=data, scheme=SCHEMES.make(made.scheme), budget=4)
    assert same.provenance["iterations"] == "given"
    assert same.provenance["learning_rate"] == "the scheme's default"


def test_copies_are_not_made_with_pictures_of_another_size():
    generator = torch.Generator().manual_seed(0)
    any_size = build("resnet8(width=2)", (1, 8, 8), 10, generator)
    for pictures in ("digits(size=16)", "textures(size=8)"):
        with pytest.raises(UsageError, match=r"takes pictures \[1, 8, 8\]; the data hold"):
            copies(any_size, ["fine_tune(all, epochs=1)"], data=pictures, count=1)


def graph(path, classes):
    """A file whose graph gives scores of that many classes."""
    weights = helper.make_tensor("w", TensorProto.FLOAT, [64, classes], torch.randn(64 * classes).tolist())
    nodes = [helper.make_node("Flatten", ["x"], ["rows"]), helper.make_node("MatMul", ["rows", "w"], ["y"])]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("x", ["n", 1, 8, 8]), ("y", ["n", classes]))
    ]
    made = helper.make_graph(nodes, "g", ends[:1], ends[1:], [weights])
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


def test_a_suspect_of_other_classes_is_asked_where_the_scheme_allows_and_else_told_by_which(fingerprint, tmp_path):
    suspect = graph(tmp_path / "four.onnx", 4)
    with pytest.raises(UsageError, match=r"of 4 \(classification\). Schemes for suspects of other classes: .*zest"):
        whorl.verify(fingerprint, suspect, classes=4)
    any_classes = whorl.extract(tiny_victim(), data=tiny_data("victim"), scheme="zest(masks=20)", budget=5)
    assert whorl.verify(any_classes, suspect).decision == "inconclusive"
