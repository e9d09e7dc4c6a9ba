"""A model that gives numbers, from bare files to a verdict, on the command line and in Python."""

from __future__ import annotations

import copy
import json
import warnings

import pytest
import torch
from model_server import ModelServer
from reasoned import reason_in
from safetensors.torch import save_file
from torch import nn

import whorl as library
from whorl.errors import UsageError
from whorl.testing import tiny_data

NET = """
from torch import nn

def make():
    return nn.Sequential(nn.Flatten(), nn.Linear(10, 24), nn.ReLU(), nn.Linear(24, 1))
"""
BARE = ("--architecture", "net_of_numbers:make", "--trust-code", "--shape", "1,1,10", "--classes", "1")
HOW = (*BARE, "--set", "task=regression")


def trained(seed):
    torch.manual_seed(seed)
    return learned(nn.Sequential(nn.Flatten(), nn.Linear(10, 24), nn.ReLU(), nn.Linear(24, 1)), "victim", 150, 0.01)


def learned(net, part, steps, rate):
    data = tiny_data(part, "regression")
    step = torch.optim.Adam(net.parameters(), rate)
    for _ in range(steps):
        chosen = torch.randint(len(data), (32,))
        step.zero_grad()
        nn.functional.mse_loss(net(data.inputs(chosen)), data.labels[chosen]).backward()
        step.step()
    return net.eval()


@pytest.fixture
def nets(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "net_of_numbers.py").write_text(NET)
    nets = [trained(seed) for seed in range(5)]
    for number, net in enumerate(nets):
        save_file(net.state_dict(), f"{number}.safetensors")
    return nets


def test_a_lineup_of_models_that_give_numbers(nets, whorl, tmp_path):
    told = whorl("extract", "0.safetensors", *HOW, "--data", "diabetes", "--scheme", "random", "-o", "a.fp")
    assert "random is for classification; 0.safetensors does regression" in " ".join(told.stderr.split())
    assert "random+scores+l2" in told.stderr
    scheme = ("--scheme", "random+scores+l2", "--budget", "4")
    made = whorl("extract", "0.safetensors", *HOW, "--data", "diabetes", *scheme, "-o", "a.fp")
    assert made.exit_code == 0, made.stderr
    twins = [word for number in (1, 2, 3) for word in ("--twin", f"{number}.safetensors")]
    size = ("--questions", "60", "--alpha", ".25")
    made = whorl("twins", "a.fp", "--victim", "0.safetensors", *HOW, *twins, *size)
    assert made.exit_code == 0, made.stderr
    reason_in(tmp_path / "a.fp")
    tuned = learned(copy.deepcopy(nets[0]), "attacker", 20, 0.001)
    tuned[-1].bias.data += 1  # an offset says nothing of whose copy it is
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sizes = {"x": {0: "n"}, "y": {0: "n"}}
        torch.onnx.export(
            tuned, (torch.rand(2, 1, 1, 10),), "s.onnx", input_names=["x"], output_names=["y"], dynamic_axes=sizes,
            dynamo=False,
        )  # fmt: skip
    found = json.loads(whorl("verify", "a.fp", "s.onnx", "--json").stdout)
    assert (found["decision"], found["lineup"]["rank"], found["lineup"]["statistic"]) == ("derived", 1, "residual")
    assert {"error", "loss", "parameters"} == found["lineup"]["figures"].keys()
    assert not any("nothing was measured" in each for each in found["caveats"])
    with ModelServer(tuned, (1, 1, 10)) as server:
        served = json.loads(whorl("verify", "a.fp", server.url, "--set", "model=m", "--json").stdout)
    assert (served["lineup"]["rank"], served["queries"]["sentinels"]) == (1, 8)
    assert served["lineup"]["totals"] == pytest.approx(found["lineup"]["totals"], abs=1e-4)
    twin = whorl("verify", "a.fp", "2.safetensors", *BARE)
    assert "is a twin of this lineup" in " ".join(twin.stderr.split())


def test_the_same_in_python(nets, tmp_path):
    data = tiny_data("test", "regression")
    about = {"input_shape": (1, 1, 10), "classes": 1, "task": "regression"}
    made = library.extract(nets[0], data=data, scheme="random+scores+l2", budget=4, **about)
    twins = {str(number): nets[number] for number in (1, 2, 3)}
    made, secret = library.line_up(made, nets[0], twins, data=data, size=40, alpha=0.25, cache=tmp_path, **about)
    tuned = learned(copy.deepcopy(nets[0]), "attacker", 20, 0.001)
    assert library.verify(made, tuned, secret=secret, cache=tmp_path).lineup["rank"] == 1
    with pytest.raises(UsageError, match="is a twin"):
        library.verify(made, nets[2], secret=secret, cache=tmp_path)


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (("--set", "task=weather"), "task"),
        (("--set", "task=regression", "--set", "output=labels"), "regression has no classes: leave output"),
        (("--set", "task=regression", "--set", 'class_names=["a"]'), "regression has no classes: leave output"),
    ],
)
def test_a_task_that_is_none_is_one_line(nets, whorl, more, told):
    wrong = whorl("extract", "0.safetensors", *BARE, *more, "--data", "diabetes", "-o", "a.fp")
    assert wrong.exit_code == 2
    assert told in " ".join(wrong.stderr.split())


def test_a_file_of_whorls_own_knows_its_task(whorl, case, tmp_path):
    wrong = whorl(
        "extract", case.victim, "--set", "task=regression", "--data", "digits(size=8)", "-o", tmp_path / "a.fp"
    )
    assert wrong.exit_code == 2
    assert "does classification, and task=regression is given" in " ".join(wrong.stderr.split())
