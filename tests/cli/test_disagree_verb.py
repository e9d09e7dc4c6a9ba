"""``whorl disagree``."""

from __future__ import annotations

import json

import torch

from whorl.nets.files import read_model, write_model


def test_two_models_are_held_against_each_other(whorl, case):
    ask = ("disagree", case.victim, case.stolen, "--data", "digits(size=8)", "--inputs", 50)
    told = whorl(*ask)
    assert told.exit_code == 0, told.output
    assert "searched by gradients from 50 inputs" in told.stdout
    assert "whorl explain" in told.stderr
    document = json.loads(whorl(*ask, "--json", "-q").stdout)
    assert document["interval"][0] <= document["differing"] / document["asked"] <= document["interval"][1]
    assert sum(pair["inputs"] for pair in document["pairs"]) == document["differing"]
    near = [pair["nearest"] for pair in document["pairs"] if pair["nearest"] is not None]
    assert near == sorted(near)
    assert document["found"] >= len(near) > 0


def test_a_model_that_gives_labels_alone_is_asked_for_labels(whorl, case, tmp_path):
    (tmp_path / "model.toml").write_text(f'kind = "torch"\npath = "{case.victim}"\naccess = "labels"\n')
    told = whorl("disagree", tmp_path, case.stolen, "--data", "digits(size=8)", "--inputs", 30)
    assert "searched by labels" in told.stdout


def test_models_of_other_shapes_are_refused(whorl, case):
    assert read_model(case.victim)[1].input_shape == (1, 8, 8)
    told = whorl("disagree", case.victim, case.stolen, "--data", "digits(size=16)")
    assert (told.exit_code, len(told.stderr.splitlines())) == (2, 1)
    assert whorl("disagree", case.victim, case.stolen, "--data", "digits(size=8)", "--most", 2).exit_code == 2


def test_a_model_and_itself_have_no_table_and_a_p_value_is_never_0(whorl, case, tmp_path):
    told = whorl("disagree", case.victim, case.victim, "--data", "digits(size=8)", "--inputs", 30, "-q")
    assert told.exit_code == 0
    assert "first says" not in told.stdout
    net, header = read_model(case.victim)
    with torch.no_grad():
        for each in net.parameters():
            each.zero_()
    write_model(net, tmp_path / "zero.safetensors", architecture=header.architecture, input_shape=header.input_shape)
    told = whorl("disagree", case.victim, tmp_path / "zero.safetensors", "--data", "digits(size=8)", "--inputs", 30)
    assert "(p below 1e-300)" in told.stdout
