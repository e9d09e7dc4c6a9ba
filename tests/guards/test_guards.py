"""The table of guards, over a net small enough to steal in seconds."""

from __future__ import annotations

import json

import pytest
import torch

from whorl.data import SOURCES
from whorl.errors import AccessRefused, UsageError
from whorl.guards.clients import BLOCK, KINDS, clients, strangeness
from whorl.guards.table import NONE, GuardSettings, guard_table
from whorl.oracles.wrappers import LabelsOnly
from whorl.testing import tiny_victim

DATA = "digits(size=8)"
NET = "mlp(width=32)"
THIEVES = (
    ("knockoff", "knockoff('mlp(width=64)', probabilities, budget=150, epochs=40)"),
    ("jacobian", "jacobian('mlp(width=32)', probabilities, seeds=80, rounds=2, epochs=5, round_epochs=2)"),
    ("data_free", "data_free('mlp(width=16)', budget=700)"),
)
GUARDS = ("answer_labels", "detect_queries", "answer_marked(share=1.0)")


@pytest.fixture(scope="module")
def settings():
    return GuardSettings(DATA, GUARDS, THIEVES, length=150)


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    return tmp_path_factory.mktemp("guards")


@pytest.fixture(scope="module")
def table(settings, kept):
    return guard_table(tiny_victim(architecture=NET), settings, folder=kept)


def rows(table):
    return {row["guard"]: row for row in table["guards"]}


def test_honest_clients_and_thieves_are_answered_as_each_guard_does(table):
    found = rows(table)
    assert list(found) == [NONE, *GUARDS]
    bare = found[NONE]
    assert bare["agreement"] == 1
    assert found["answer_labels"]["accuracy"] == bare["accuracy"] > 0.8
    assert found["answer_marked(share=1.0)"]["agreement"] == 0
    assert found["answer_labels"]["thieves"]["data_free"]["fidelity"] is None
    assert "PROBABILITIES" in found["answer_labels"]["thieves"]["data_free"]["why"]
    assert found["answer_labels"]["thieves"]["knockoff"]["fidelity"] > 0.5, "labels will do where they are all there is"
    assert bare["thieves"]["knockoff"]["queries"] == 150
    assert bare["thieves"]["data_free"]["queries"] == 700


def test_prada_ends_augmentation_and_not_natural_questions(table):
    watched = rows(table)["detect_queries"]["thieves"]
    assert watched["knockoff"]["detected"] is None
    assert watched["jacobian"]["detected"] == table["watches"]["prada"]["thieves"]["jacobian"]["detected"]
    assert 80 < watched["jacobian"]["detected"] <= 320
    assert watched["jacobian"]["fidelity"] < rows(table)[NONE]["thieves"]["jacobian"]["fidelity"]


def test_a_mark_is_read_from_a_net_that_learned_nothing_but_altered_answers(table):
    cell = rows(table)["answer_marked(share=1.0)"]["thieves"]["knockoff"]
    assert cell["altered"] == 150
    assert cell["matches"] > 2 * cell["cells"] / 9
    assert cell["log10_p"] < -6


def test_thieves_are_ranked_among_all_clients_and_clients_are_counted_by_kind(table, settings):
    for watch in table["watches"].values():
        assert len(watch["clients"]) == settings.clients
        assert {client["kind"] for client in watch["clients"]} == set(KINDS)
        for thief in watch["thieves"].values():
            assert round(thief["p"] * 21) == pytest.approx(thief["p"] * 21)
    stream = table["watches"]["stream"]["thieves"]
    assert stream["data_free"]["p"] == pytest.approx(1 / 21), "made pictures are stranger than any client's"
    assert stream["data_free"]["detected"] is not None
    assert stream["knockoff"]["p"] > 1 / 21
    json.dumps(table, allow_nan=False)


def test_what_is_finished_is_kept(table, settings, kept, monkeypatch):
    monkeypatch.setattr("whorl.guards.table._Table._stolen", None)
    seen = []
    again = guard_table(tiny_victim(architecture=NET), settings, folder=kept, progress=lambda *done: seen.append(done))
    assert again == table
    assert seen[-1] == ("guards", 17, 17)
    other = GuardSettings(DATA, GUARDS, THIEVES, length=150, seed=1)
    with pytest.raises(TypeError):
        guard_table(tiny_victim(architecture=NET), other, folder=kept)


def test_clients_are_of_five_kinds_and_follow_from_the_seed():
    data, victim = SOURCES.make(DATA).load("calibration"), tiny_victim(architecture=NET)
    one, again, other = (clients(victim, data, 5, 60, seed) for seed in (0, 0, 1))
    assert [each.kind for each in one] == list(KINDS)
    assert all(torch.equal(each.inputs, same.inputs) for each, same in zip(one, again, strict=True))
    assert not any(torch.equal(each.inputs, else_.inputs) for each, else_ in zip(one, other, strict=True))
    for each in one:
        assert each.inputs.shape == (60, 1, 8, 8)
        assert 0 <= each.inputs.min() <= each.inputs.max() <= 1
    nearest = torch.cdist(one[3].inputs.flatten(1), one[3].inputs.flatten(1)).fill_diagonal_(9).amin(1)
    assert nearest.median() < 0.5 < torch.cdist(one[0].inputs.flatten(1), data.inputs().flatten(1)).median()


def test_strangeness_is_of_whole_blocks_and_of_what_is_in_them():
    references = torch.zeros(3, 1, 2, 2)
    inputs = torch.cat([torch.zeros(BLOCK, 1, 2, 2), torch.ones(BLOCK, 1, 2, 2), torch.ones(7, 1, 2, 2)])
    assert strangeness(inputs, references) == pytest.approx(
        [torch.tensor(1e-6).log().item(), torch.tensor(2.0).log().item()]
    )
    assert strangeness(inputs[:3], references) == []


def test_what_cannot_be_is_refused(settings):
    for wrong, message in (
        ({"clients": 18}, "--clients 19"),
        ({"guards": ("prune_weights(1/2)",)}, "not a guard"),
        ({"thieves": (("t", "answer_labels"),)}, "not a thief"),
        ({"guards": ("answer_labels", "answer_labels")}, "named once"),
    ):
        with pytest.raises(UsageError, match=message):
            GuardSettings(**({"data": DATA} | wrong))
    with pytest.raises(AccessRefused, match="give the file that holds them"):
        guard_table(LabelsOnly(tiny_victim(architecture=NET)), settings)
    with pytest.raises(UsageError, match="does regression"):
        guard_table(tiny_victim(task="regression"), settings)
