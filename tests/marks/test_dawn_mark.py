"""What a service altered is a mark of whoever learned it from the answers, checked like any other."""

from __future__ import annotations

import json

import pytest
import torch
from test_marks import MLP, oracle, verified

from whorl.errors import UsageError
from whorl.marks.base import TriggerMark
from whorl.marks.dawn import service_mark
from whorl.marks.making import prepare
from whorl.nets.files import write_model
from whorl.oracles.dawn import Cells, Dawn
from whorl.schemes import MARKS
from whorl.testing import tiny_data, tiny_net


@pytest.fixture(scope="module")
def victim():
    return oracle(tiny_net(seed=0, architecture=MLP))


@pytest.fixture(scope="module")
def log(victim):
    """What the service altered of 1,000 questions, many of them, so that a test has some."""
    served = Dawn(victim, Cells(b"a key of 32 bytes, that is known", 10, share=0.1))
    served.labels(torch.cat([tiny_data("attacker").inputs(), tiny_data("queries").inputs()]))
    return served.log


class Learned(torch.nn.Module):
    """The model, but that it gives what the service told on every input that was altered."""

    def __init__(self, net, log):
        super().__init__()
        self.net, self.inputs, self.told = net, log.inputs.flatten(1), log.told

    def forward(self, inputs):
        same = torch.cdist(inputs.flatten(1), self.inputs) < 1e-6
        answers = self.net(inputs).softmax(1)
        for row, place in same.nonzero().tolist():
            answers[row] = torch.nn.functional.one_hot(self.told[place], 10).float()
        return answers.clamp_min(1e-9).log()


def test_who_learned_the_altered_answers_is_derived_and_nobody_else(victim, log):
    fingerprint = service_mark(log, victim)
    verdict = verified(fingerprint, oracle(Learned(victim.module, log)))
    assert (verdict.decision, verdict.null["design"]["choices"]) == ("derived", 9)
    for other in (victim, oracle(tiny_net(seed=7, architecture=MLP))):
        assert verified(fingerprint, other).decision == "inconclusive"
    assert verified(fingerprint, victim).similarity == 0, "the model itself never gives another label than its own"


def test_it_agrees_with_the_test_of_the_log(victim, log):
    fingerprint = service_mark(log, victim)
    suspect = oracle(tiny_net(seed=8, architecture=MLP))
    mark = MARKS.make("dawn")
    assert isinstance(mark, TriggerMark)
    design = mark.design(fingerprint)
    answers = suspect.labels(log.inputs)
    own = torch.where(answers == log.labels, -1, answers - (answers > log.labels).long())
    assert design.test(own.numpy()).matches == log.test(answers).matches


def test_nothing_is_embedded(victim):
    with pytest.raises(UsageError, match="nothing is embedded"):
        prepare(victim, "dawn", "digits(size=8)")
    log = Dawn(victim, Cells(b"another key of more than 16 bytes", 10, share=1.0))
    log.labels(tiny_data("test").inputs()[:3])
    other = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 5))
    from whorl.oracles.torch import TorchOracle

    with pytest.raises(UsageError, match="10 classes"):
        service_mark(log.log, TorchOracle(other, input_shape=(1, 8, 8), classes=5))


def test_the_verb_makes_it_from_a_log(victim, log, tmp_path):
    from typer.testing import CliRunner

    from whorl.cli.app import app

    mine, fingerprint = tmp_path / "mine.safetensors", tmp_path / "dawn.fp"
    write_model(victim.module, mine, architecture=MLP, input_shape=(1, 8, 8))
    log.write(tmp_path / "service.log")
    typed = ["mark", mine, "--service-log", tmp_path / "service.log", "--fingerprint", fingerprint, "--json"]
    done = CliRunner().invoke(app, [*map(str, typed)])
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["count"] == len(log.inputs)
    told = CliRunner().invoke(app, ["verify", str(fingerprint), str(mine), "--quiet"])
    assert "one of 9 each; grade D; the draw is the owner's word" in told.stdout
    found = CliRunner().invoke(app, ["verify", str(fingerprint), str(mine), "--json"])
    assert json.loads(found.stdout)["decision"] == "inconclusive"
    refused = CliRunner().invoke(app, ["mark", str(mine), "--service-log", str(tmp_path / "service.log")])
    assert refused.exit_code == 2
