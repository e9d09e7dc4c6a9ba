"""``whorl align``."""

from __future__ import annotations

import json

import torch

from whorl.nets.files import read_model, write_model
from whorl.symmetry.alignment.permutations import permute, random_permutations
from whorl.symmetry.alignment.tracing import permutation_spec


def test_a_shuffled_copy_is_written_in_order(whorl, case, tmp_path):
    net, header = read_model(case.victim)
    spec = permutation_spec(net)
    moved = permute(net.state_dict(), spec, random_permutations(spec, torch.Generator().manual_seed(1)))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    net.load_state_dict(moved)
    write_model(
        net, tmp_path / "shuffled.safetensors", architecture=header.architecture, input_shape=header.input_shape
    )
    written = tmp_path / "ordered.safetensors"
    told = whorl("align", case.victim, tmp_path / "shuffled.safetensors", "-o", written)
    assert told.exit_code == 0, told.output
    assert "the same net in disguise" in told.stdout
    assert "the same function of every input" in told.stdout
    for name, value in read_model(written)[0].state_dict().items():
        torch.testing.assert_close(value, before[name])


def test_paths_are_measured_with_pictures(whorl, case):
    ask = ("align", case.victim, case.stranger, "--data", "digits(size=8)", "--points", 5)
    told = whorl(*ask)
    assert told.exit_code == 0, told.output
    assert "as they are" in told.stdout
    assert "evidence of descent" in told.stderr
    document = json.loads(whorl(*ask, "--json", "-q").stdout)
    assert list(document["paths"]) == ["as they are", "aligned", "repaired"]
    assert len(document["paths"]["aligned"]["losses"]) == 5
    assert document["same_digest"] is False


def test_wrong_questions_end_in_one_line(whorl, case, tmp_path):
    for ask in (
        ("align", case.victim, case.stranger, "--match", "loss"),
        ("align", case.victim, case.stranger, "--data", "digits(size=16)"),
        ("align", case.victim, case.stranger, "-o", tmp_path / "net.onnx"),
        ("align", case.victim, tmp_path / "absent.safetensors"),
        ("align", case.victim, case.stranger, "-o", case.stranger),
    ):
        told = whorl(*ask)
        assert told.exit_code == 2, told.output
        assert len(told.stderr.splitlines()) == 1
