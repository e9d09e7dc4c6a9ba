"""A person with an architecture and pictures of her own, from the command line alone."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from whorl.nets import NETS

CODE = """
from torch import nn

class Net(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4), nn.ReLU())
        self.head = nn.Linear(4 * 36, classes)

    def forward(self, inputs):
        return self.head(self.body(inputs).view(len(inputs), -1))
"""
DATA = "folder(./my-pictures, size=8)"


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("her_nets.py").write_text(CODE)
    draw = np.random.default_rng(0)
    for label, name in enumerate(("ant", "bee")):
        folder = Path("my-pictures", name)
        folder.mkdir(parents=True)
        for number in range(40):
            noise = draw.integers(100 * label, 100 * label + 120, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(noise).save(folder / f"{number}.png")
    yield tmp_path
    NETS._admitted.clear()
    sys.modules.pop("her_nets", None)


MODEL = ("--architecture", "her_nets:Net", "--classes", 2, "--shape", "3,8,8", "--trust-code")


def untrained(place):
    """A net of hers, in a file of its weights."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        sys.path.insert(0, str(place))
        import her_nets  # pyright: ignore[reportMissingImports]

        sys.path.remove(str(place))
        torch.save(her_nets.Net(2).state_dict(), "mine.pt")


def test_extract_calibrate_and_verify(place, whorl):
    untrained(place)
    model = MODEL
    scheme = ["--scheme", "ipguard(learning_rate=0.01)", "--budget", 20]
    done = whorl("extract", "mine.pt", *model, "--data", DATA, *scheme, "-o", "mine.fp")
    assert done.exit_code == 0, done.stderr
    recipe = f"train(her_nets:Net, {DATA}, epochs=2, batch=10)"
    calibrate = ["calibrate", "mine.fp", "--train", recipe, "--count", 4, "--jobs", 1]
    refused = whorl(*calibrate)
    assert (refused.exit_code, "--trust-code" in refused.stderr) == (2, True)
    done = whorl(*calibrate, "--trust-code")
    assert done.exit_code == 0, done.stderr
    assert "null of 4 models" in done.stdout
    done = whorl("verify", "mine.fp", "mine.pt", *model, "--alpha", 0.2)
    assert "similarity   1.000" in done.stdout, done.stderr
    assert "INCONCLUSIVE" in done.stdout, "her net was not trained, and the null's were"
    assert "nothing is called derived" in " ".join((done.stdout + done.stderr).split())


def test_her_net_is_marked_and_its_copies_are_traced(place, whorl):
    untrained(place)
    chosen = ("--data", DATA, *MODEL)
    done = whorl("mark", "mine.pt", "--kind", "uchida", "-n", 8, *chosen, "-o", "bits.safetensors")
    assert done.exit_code == 0, done.stderr
    found = whorl("verify", "bits.fp", "bits.safetensors", *MODEL, "--align-to", "mine.pt", "--alpha", 0.05, "--json")
    assert found.exit_code == 0, found.stderr
    assert json.loads(found.stdout)["null"]["design"]["matches"] >= 7
    refused = whorl("verify", "bits.fp", "bits.safetensors", *MODEL, "--align-to", "bits.safetensors")
    assert (refused.exit_code, "is not the model that this mark was put into" in refused.stderr) == (2, True)
    Path("users.txt").write_text("ann\nbea\n")
    for typed in (
        ("codes", "make", "mine.pt", "--users", "users.txt", "--plan", "block", *chosen, "-o", "her.codes"),
        ("codes", "copy", "her.codes", "mine.pt", "--user", "bea", *MODEL, "-o", "bea.safetensors"),
    ):
        done = whorl(*typed)
        assert done.exit_code == 0, done.stderr
    traced = whorl("trace", "bea.safetensors", "--codes", "her.codes", *MODEL, "--align-to", "mine.pt", "--json")
    assert [row["user"] for row in json.loads(traced.stdout)["users"] if row["named"]] == ["bea"]


def test_the_zoo_runs_code_with_consent_alone(place, whorl):
    recipe = f"train(her_nets:Net, {DATA}, epochs=1, batch=10)"
    for verb in (["build", recipe, "-j", 1], ["card", recipe], ["export", recipe, "-o", "hers.safetensors"]):
        refused = whorl("zoo", *verb)
        assert (refused.exit_code, refused.stdout) == (2, "")
        assert refused.stderr == ("error: her_nets:Net is code, and code is run for a model only with --trust-code\n")
    assert "her_nets" not in sys.modules
    absent = whorl("zoo", "card", recipe, "--trust-code").stderr
    typed = shlex.split(absent.partition("Type: whorl ")[2])
    NETS._admitted.clear()
    built = whorl(*typed, "-j", 1)  # what the message says is what works
    assert built.exit_code == 0, built.stderr
    NETS._admitted.clear()
    assert "revision unknown  1.000" in whorl("zoo", "list").stdout
    assert json.loads(whorl("zoo", "card", recipe, "--trust-code").stdout)["agreement"] == 1
    NETS._admitted.clear()
    assert whorl("zoo", "export", recipe, "--trust-code", "-o", "hers.safetensors").stdout == "hers.safetensors\n"
    assert Path("hers.safetensors").stat().st_size


def test_a_folder_of_one_class_is_refused_for_training(place, whorl):
    for picture in Path("my-pictures", "bee").iterdir():
        picture.unlink()
    Path("my-pictures", "bee").rmdir()
    done = whorl("zoo", "build", "train(mlp, folder(my-pictures/, size=16))", "--jobs", 1)
    assert done.exit_code == 2
    assert "one class" in done.stderr
    assert "ant" in done.stderr
