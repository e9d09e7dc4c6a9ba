"""The first five minutes, against a model that whorl has never seen: one verdict, however the suspect is reached."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
from model_server import ModelServer
from safetensors.torch import save_file
from torch import nn
from typer.testing import CliRunner

from whorl.cli.app import app
from whorl.nets.training import Schedule, accuracy, fit
from whorl.oracles.torch import TorchOracle
from whorl.removals import REMOVALS
from whorl.testing import tiny_data

DATA = "digits(size=8)"
SHAPE = (1, 8, 8)
CODE = "own_net:OwnNet"
OWN_NET = '''
from torch import nn


class OwnNet(nn.Module):
    """Somebody's own architecture: no catalog knows it, and it takes pictures in [-1, 1]."""

    def __init__(self, classes=10):
        super().__init__()
        self.stem = nn.Conv2d(1, 12, 3, padding=1)
        self.gate = nn.Conv2d(12, 12, 1)
        self.mix = nn.Linear(12 * 4 * 4, 48)
        self.out = nn.Linear(48, classes)

    def forward(self, pictures):
        x = nn.functional.silu(self.stem(pictures))
        x = nn.functional.max_pool2d(x * self.gate(x).sigmoid(), 2)
        return self.out(nn.functional.gelu(self.mix(x.flatten(1))))
'''
RANGE = ("--set", "range=[-1, 1]")
BARE = ("--architecture", CODE, "--trust-code", *RANGE)
NULL, QUERIES, ALPHA = 19, 60, 0.05
PROBES = 180  # neutral ones, beside the budget
SAME = ("decision", "similarity", "p_value", "p_value_floor", "error_bound", "null", "power", "fingerprint")


class Whole(nn.Module):
    """Pictures in [0, 1] to the range of the owner's net, for training with whorl's loop."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, pictures):
        return self.inner(pictures * 2 - 1)


def train(make, seed, part, epochs=8):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = Whole(make())
    schedule = Schedule(epochs=epochs, learning_rate=0.2, policy="one-cycle", batch=25, shift=0)
    fit(net, tiny_data(part), schedule, generator=torch.Generator().manual_seed(seed))
    return net


def export(net, path):
    example, free = (torch.rand(2, *SHAPE),), ({0: "n"},)
    torch.onnx.export(net, example, path, dynamo=True, dynamic_shapes=free, external_data=False, verbose=False)


def whorl(*arguments, code=0):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return result


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the owner works: the net's code lies here, as do all files."""
    folder = tmp_path_factory.mktemp("owner")
    (folder / "own_net.py").write_text(OWN_NET)
    before = Path.cwd()
    os.chdir(folder)
    os.environ["WHORL_CACHE"] = str(folder / "cache")
    yield folder
    del os.environ["WHORL_CACHE"]
    sys.modules.pop("own_net", None)
    os.chdir(before)


@pytest.fixture(scope="module")
def own(folder):
    """The owner's files, made by typing what the README types: net, stolen copy, stranger, calibrated fingerprint."""
    sys.path.insert(0, str(folder))
    from own_net import OwnNet

    sys.path.remove(str(folder))
    nets = {"victim": train(OwnNet, 0, "victim"), "stranger": train(OwnNet, 100, "victim")}
    assert accuracy(nets["victim"], tiny_data("test")) > 0.85
    tune = REMOVALS.make("fine_tune(all, epochs=1, learning_rate=0.02)")
    victim = TorchOracle(nets["victim"], input_shape=SHAPE, classes=10)
    nets["stolen"] = tune(victim, tiny_data("attacker"), generator=torch.Generator().manual_seed(1))
    nets |= {f"independent/{seed}": train(OwnNet, seed, "calibration", epochs=5) for seed in range(1, 1 + NULL)}
    (folder / "independent").mkdir()
    for name, net in nets.items():
        save_file(net.inner.state_dict(), folder / f"{name}.safetensors")
    for name in ("stolen", "stranger"):
        export(nets[name].inner.eval(), folder / f"{name}.onnx")
    own = ("--shape", "1,8,8", "--classes", "10")
    whorl("extract", "victim.safetensors", "--data", DATA, "--budget", QUERIES, "-o", "mine.fp", *own, *BARE)
    known = ("--victim", "victim.safetensors", "--removal", "fine_tune(all, epochs=1, learning_rate=0.02)")
    whorl("calibrate", "mine.fp", "--independent", "independent", *known, "--data", DATA, *BARE)
    return nets


def verdict(*arguments, alpha=ALPHA):
    result = whorl("verify", "mine.fp", *arguments, "--alpha", alpha, "--json")
    assert result.stderr == ""
    return json.loads(result.stdout)


def served(mlserver, name, output="logits"):
    url, model = mlserver(f"{name}.onnx")
    return url, "--set", f"model={model}", "--set", f"output={output}", *RANGE


def test_a_stolen_copy_gets_the_same_verdict_as_a_file_as_onnx_and_behind_a_server(own, mlserver):
    found = [
        verdict("stolen.safetensors", *BARE),
        verdict("stolen.onnx", *RANGE),
        verdict(*served(mlserver, "stolen")),
    ]
    assert found[0]["decision"] == "derived"
    assert found[0]["p_value"] <= ALPHA
    assert found[0]["null"]["size"] == NULL
    for other in found[1:]:
        assert {key: other[key] for key in SAME} == {key: found[0][key] for key in SAME}
    assert len({each["queries"]["needed"] for each in found}) == 1


def test_an_independent_model_is_accused_in_no_form(own, mlserver):
    found = [
        verdict("stranger.safetensors", *BARE),
        verdict("stranger.onnx", *RANGE),
        verdict(*served(mlserver, "stranger")),
    ]
    assert found[0]["decision"] == "unrelated"
    assert found[0]["p_value"] > ALPHA
    for other in found[1:]:
        assert {key: other[key] for key in SAME} == {key: found[0][key] for key in SAME}


@pytest.mark.parametrize(("name", "decision"), [("stolen", "derived"), ("stranger", "unrelated")])
def test_labels_are_enough(own, name, decision):
    with ModelServer(own[name].inner, SHAPE, labels=True) as server:
        found = verdict(server.url, "--set", "model=m", "--set", "output=labels", *RANGE)
    assert found["decision"] == decision
    assert sum(server.asked.values()) == found["queries"]["spent"] + PROBES <= QUERIES + PROBES


def test_a_verification_that_is_killed_goes_on_and_asks_only_sentinels_again(own, folder):
    strict = 0.001  # no verdict can be reached with so small a null, so every query is asked
    with ModelServer(own["stolen"].inner, SHAPE, stall_after=PROBES + QUERIES // 2) as server:
        endpoint = ("--set", "model=m", "--set", "output=logits", "--set", "batch=5", "--set", "concurrency=1", *RANGE)
        command = [Path(sys.executable).with_name("whorl"), "verify", "mine.fp", server.url, *endpoint]
        with subprocess.Popen(
            [*command, "--alpha", str(strict)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            assert server.stalled.wait(120)
            process.send_signal(signal.SIGKILL)
            assert process.communicate() == (b"", b"")
        assert process.returncode == -signal.SIGKILL
        before, asked = Counter(server.answered), Counter(server.asked)
        assert sum(before.values()) == PROBES + QUERIES // 2
        server.stall_after = None
        found = verdict(server.url, *endpoint, alpha=strict)
        again = (server.asked - asked).keys() & before.keys()
        assert len(again) == found["queries"]["sentinels"] == 8
        assert found["queries"]["replayed"] == PROBES + QUERIES // 2
        assert found["queries"]["spent"] == QUERIES
        assert len(server.answered) == PROBES + QUERIES
        assert sum(server.answered.values()) == PROBES + QUERIES + 8
        replayed = verdict(server.url, *endpoint, "--replay")
        assert replayed["decision"] == "derived"
        assert replayed["queries"]["replayed"] == PROBES + replayed["queries"]["spent"]
        assert sum(server.answered.values()) == PROBES + QUERIES + 8
    assert found["similarity"] == verdict("stolen.onnx", *RANGE, alpha=strict)["similarity"]


def test_the_owners_code_runs_only_where_it_is_trusted(own):
    bare = [option for option in BARE if option != "--trust-code"]
    refused = whorl("verify", "mine.fp", "stolen.safetensors", *bare, code=2)
    assert refused.stdout == ""
    assert "only with --trust-code" in refused.stderr
