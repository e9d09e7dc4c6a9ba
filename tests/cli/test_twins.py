"""``whorl twins`` and the verdict that it leads to, typed as a person types it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

TRAIN = """
import argparse
import torch
from safetensors.torch import save_file
from torch import nn
from whorl.testing import tiny_data

given = argparse.ArgumentParser()
given.add_argument("--seed", type=int), given.add_argument("--out")
given = given.parse_args()
torch.manual_seed(given.seed)
data = tiny_data("victim")
net = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
step = torch.optim.Adam(net.parameters(), 0.01)
for _ in range(60):
    chosen = torch.randint(len(data), (64,))
    step.zero_grad()
    nn.functional.cross_entropy(net(data.inputs(chosen)), data.labels[chosen]).backward()
    step.step()
save_file(net.state_dict(), given.out)
"""
NET = """
from torch import nn

def make():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
"""
NEVER = "touch trained {seed} {out}"
HOW = ("--architecture", "net_of_a_script:make", "--trust-code", "--shape", "1,8,8", "--classes", "10")


@pytest.fixture
def own(tmp_path, monkeypatch, whorl):
    """A model of a script that whorl did not write, and its fingerprint."""
    import subprocess

    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "train.py").write_text(TRAIN)
    (tmp_path / "net_of_a_script.py").write_text(NET)
    seed = str(0xC0FFEE1234567890ABCDEF)
    subprocess.run(
        [sys.executable, "train.py", "--seed", str(int(seed) % 2**63), "--out", "mine.safetensors"], check=True
    )
    found = whorl(
        "extract",
        "mine.safetensors",
        "--data",
        "digits(size=8)",
        "--scheme",
        "random",
        "--budget",
        "4",
        "-o",
        "mine.fp",
        *HOW,
    )
    assert found.exit_code == 0, found.stderr
    return seed


def test_a_script_of_ones_own_goes_through_end_to_end(own, whorl, tmp_path):
    command = f"{sys.executable} train.py --seed {{seed63}} --out {{out}}"
    made = whorl(
        "twins", "mine.fp", "--victim", "mine.safetensors", "--command", command, "-n", "3", "--alpha", "0.25",
        "--questions", "200", "--victim-seed", own, "--json", *HOW,
    )  # fmt: skip
    assert made.exit_code == 0, made.stderr
    said = json.loads(made.stdout)
    assert (said["twins"], said["questions"], said["smallest_alpha"]) == (3, 200, 0.25)
    assert "twin 3 of 3" in made.stderr
    assert own not in made.stdout + made.stderr, "the victim's seed is secret"
    for figure in said["outermost"]:
        told = whorl("twins", "mine.fp", "--reason", f"{figure}=three twins", "--json")
        assert told.exit_code == 0, told.stderr
    copy = whorl("verify", "mine.fp", "mine.safetensors", "--json", *HOW)
    verdict = json.loads(copy.stdout)
    assert (verdict["decision"], verdict["lineup"]["rank"], verdict["lineup"]["exact"]) == ("derived", 1, True)
    shown = whorl("verify", "mine.fp", "mine.safetensors", *HOW)
    assert "the victim is 1st of 4" in shown.stdout
    assert "verifications by this fingerprint before this one: 1" in shown.stderr
    (tmp_path / "mine.fp.secret").rename(tmp_path / "elsewhere")
    sealed = whorl("verify", "mine.fp", "mine.safetensors", *HOW)
    assert "sealed" in sealed.stdout
    opened = whorl("verify", "mine.fp", "mine.safetensors", "--secret", "elsewhere", "--fail-on", "derived", *HOW)
    assert opened.exit_code == 3
    again = whorl("twins", "mine.fp", "--victim", "mine.safetensors", "--command", command, *HOW)
    assert again.exit_code == 2
    assert "fixed before the first look" in again.stderr


def test_a_recipe_of_whorl_needs_no_script(case, whorl, tmp_path):
    made = whorl(
        "twins", case.raw, "--victim", case.victim, "--recipe", "train(mlp(width=16), digits(size=8), epochs=1)",
        "-n", "2", "--alpha", "0.4", "-o", tmp_path / "a.fp", "--questions", "50", "-j", "1",
    )  # fmt: skip
    assert made.exit_code == 0, made.stderr
    assert "2 twins, one training each; the smallest alpha is 1/3" in " ".join(made.stderr.split())
    verdict = json.loads(whorl("verify", tmp_path / "a.fp", case.stranger, "--json").stdout)
    assert verdict["null"]["pool"] == "twins of the victim (2)"
    assert verdict["lineup"]["candidates"] == 3
    assert not verdict["lineup"]["exact"]
    assert any("nobody said which seed" in caveat for caveat in verdict["caveats"])


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ((), "say how twins are made"),
        (("--recipe", "train(mlp, digits)", "--twin", "a"), "say how twins are made"),
        (("--recipe", "train(mlp, digits)", "-n", "0"), "one twin at least"),
        (("--twin", "{stranger}", "--victim-seed", "many"), "whole number"),
        (("--twin", "{victim}", "--alpha", ".5"), "no twin is a copy"),
        (("--command", NEVER, "--alpha", ".01"), "with 19 twins nothing can be called derived below alpha 0.0500"),
        (("--command", NEVER, "-n", "3", "--alpha", ".05"), "give 19 twins or more"),
        (("--command", NEVER, "-n", "20000"), "holds 9,999 at most"),
        (("--command", NEVER, "--alpha", "2"), "a chance between 0 and 1"),
        (("--command", NEVER, "--hypothesis", "x" * 5000), "4,096 letters at most"),
        (("--command", NEVER, "--reason", "accuracy=why"), "a reason is given when it is known which figures"),
        (("--reason", "accuracy"), "takes FIGURE=TEXT"),
        (("--reason", "accuracy=why"), "holds no lineup"),
        (("--twin", "{stranger}", "--twin", "{stranger}", "--alpha", ".5"), "is given twice"),
        (("--command", NEVER, "--victim-seed", "-5"), "whole number of 0 or more"),
        (("--command", NEVER, "--suffix", "pt"), "a suffix begins with a dot"),
        (("--command", NEVER, "--copies", "0"), "--copies"),
        (("--command", NEVER, "--data", "no_such"), "no_such"),
        (("--command", NEVER, "--removal", "no_such"), "no_such"),
        (("--command", NEVER, "--stranger", "nowhere.onnx"), "nowhere.onnx"),
        (("--command", NEVER, "--questions", "1"), "questions"),
        (("--command", NEVER + "x" * 5000), "4,096 letters at most"),
    ],
)
def test_wrong_use_is_one_line(case, whorl, tmp_path, monkeypatch, given, told):
    monkeypatch.chdir(tmp_path)
    words = [word.replace("{stranger}", str(case.stranger)).replace("{victim}", str(case.victim)) for word in given]
    made = whorl("twins", case.raw, "--victim", case.victim, "-o", tmp_path / "a.fp", *words)
    assert made.exit_code in (1, 2, 7)
    assert told in " ".join(made.stderr.split())
    assert not (tmp_path / "a.fp").exists()
    assert not Path("trained").exists(), "what is wrong is said before anything is trained"


def test_another_model_is_not_the_victim_and_a_fingerprint_without_lineup_says_what_to_type(
    case, whorl, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    wrong = ("--victim", case.stranger, "--command", NEVER, "-o", tmp_path / "a.fp")
    made = whorl("twins", case.raw, *wrong, "--folder", tmp_path / "twins")
    assert not (tmp_path / "twins").exists(), "said before anything is trained"
    assert "is not the victim of this fingerprint" in made.stderr
    held = whorl("verify", case.calibrated, case.stranger, "--rule", "lineup")
    assert "whorl twins" in held.stderr
