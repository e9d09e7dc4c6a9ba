"""A served model that was tampered with, end to end: whorl verify asks a server by an integrity fingerprint."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from model_server import ModelServer
from typer.testing import CliRunner

import whorl
from whorl.cli.app import app
from whorl.testing import tiny_data, tiny_victim

NET = "mlp(width=12)"
SEEDS = (0, 1, 2)
SCHEMES = ("sensitive-samples(candidates=60, iterations=20)", "sensitive-samples-labels(candidates=60, iterations=5)")


def tampered(net, scale, seed):
    """Every weight moved by a share of its layer's spread."""
    generator, moved = torch.Generator().manual_seed(seed), copy.deepcopy(net)
    with torch.no_grad():
        for weight in moved.parameters():
            weight += scale * weight.std() * torch.randn(weight.shape, generator=generator)
    return moved


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_model_itself_shows_no_change_and_a_tampered_one_is_changed(tmp_path, scheme):
    """Over three models: the served one itself, and one with weights moved by .01 of their spread (labels: .3)."""
    labels = "labels" in scheme
    for seed in SEEDS:
        declared = tiny_victim(seed=seed, architecture=NET)
        path = tmp_path / f"{seed}.fp"
        whorl.write_fingerprint(whorl.extract(declared, data=tiny_data("test"), scheme=scheme, budget=20), path)
        nets = {"no change shown": declared.module, "changed": tampered(declared.module, 0.3 if labels else 0.01, seed)}
        for expected, net in nets.items():
            with ModelServer(net, (1, 8, 8), labels=labels) as server:
                output = "labels" if labels else "logits"
                served = [server.url, "--set", "model=m", "--set", f"output={output}", "--fail-on", "changed"]
                ask = ["verify", str(path), *served, "--json", "-q", "--cache", str(tmp_path / f"{seed}{expected}")]
                done = CliRunner().invoke(app, ask)
                document = json.loads(done.stdout)
                assert document["decision"] == expected, seed
                assert done.exit_code == (3 if expected == "changed" else 0)
                assert sum(server.asked.values()) == document["asked"]
                if expected == "no change shown":
                    assert document["upper"] == pytest.approx(1 - 0.05 ** (1 / document["drawn"]))
                    assert "never show that a model is unchanged" in document["caveats"][0]
