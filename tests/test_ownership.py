"""The owner's verbs in Python know and do what the command line knows and does."""

from __future__ import annotations

import dataclasses

import pytest
from model_server import ModelServer
from torch import nn

import whorl
from whorl import ownership
from whorl.errors import UsageError
from whorl.schemes import SCHEMES
from whorl.testing import tiny_data, tiny_net, tiny_victim

ALPHA, MLP, QUERIES = 0.05, "mlp(width=32)", 40
SCHEME = SCHEMES.make("ipguard(margin=2, learning_rate=0.01, iterations=300)")
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


def test_shape_and_classes_of_a_plain_module_come_from_the_fingerprint(fingerprint, plain):
    assert whorl.verify(fingerprint, plain, alpha=ALPHA).decision == "derived"
    wrong = {"input_shape": [1, 8, 8], "classes": 5}
    with pytest.raises(UsageError, match="of 5"):
        whorl.verify(fingerprint, plain, alpha=ALPHA, **wrong)
    null = ownership.calibrate(fingerprint, {"plain": plain}, pool="itself").calibration.null
    assert null.similarities == (1.0,)


def test_an_address_needs_no_more_than_its_protocol_and_is_recorded(fingerprint, plain, tmp_path):
    with ModelServer(plain, (1, 8, 8), labels=True) as server:
        first = whorl.verify(fingerprint, server.url, alpha=ALPHA, cache=tmp_path, **SERVED)
        asked = sum(server.asked.values())
        again = whorl.verify(fingerprint, server.url, alpha=ALPHA, cache=tmp_path, **SERVED)
    assert first == again
    assert first.decision == "derived"
    assert asked == first.queries["spent"] == sum(server.asked.values()), "what is recorded is not asked twice"
    assert len(list((tmp_path / "answers").iterdir())) >= 1


def test_what_a_file_recorded_is_not_asked_again(fingerprint, plain, tmp_path):
    with ModelServer(plain, (1, 8, 8), labels=True) as server:
        record = tmp_path / "new" / "answers.sqlite"
        whorl.verify(fingerprint, server.url, alpha=ALPHA, record=record, cache=tmp_path, **SERVED)
        asked = sum(server.asked.values())
        other = dataclasses.replace(fingerprint, calibration=None)  # settles nothing, so it asks everything
        whorl.verify(other, server.url, alpha=ALPHA, record=record, **SERVED)
    assert record.is_file()
    assert not (tmp_path / "answers").exists()
    assert asked < sum(server.asked.values()) == QUERIES


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
