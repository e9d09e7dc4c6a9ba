"""``whorl extract`` and ``whorl calibrate``: what an owner does before any suspect."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import torch

from whorl.nets import NETS
from whorl.nets.files import read_model
from whorl.schemes.opening import read_fingerprint
from whorl.testing import tiny_net

DATA = "digits(size=8)"
STRANGER = "train(mlp(width=8), digits(size=8), part=calibration, epochs=1)"


def test_extract_writes_the_same_bytes_for_the_same_seed(whorl, case, tmp_path):
    first, second = tmp_path / "new" / "first.fp", tmp_path / "second.fp"
    arguments = ("extract", case.victim, "--data", DATA, "--scheme", "fgsm", "--budget", "7", "--json")
    result = whorl(*arguments, "-o", first)
    assert result.stderr == ""
    document = json.loads(result.stdout)
    assert document["fingerprint"] == str(first)
    assert (document["queries"], document["bytes"]) == (7, first.stat().st_size)
    assert document["scheme"].startswith("fgsm(")
    assert document["seconds"] >= 0
    again = json.loads(whorl(*arguments, "-o", second).stdout)
    assert again["id"] == document["id"]
    other = json.loads(whorl(*arguments, "--seed", "1", "-o", second).stdout)
    assert other["id"] != document["id"]


def test_extract_says_what_to_type_next_and_is_quiet_where_asked(whorl, case, tmp_path):
    arguments = ("extract", case.victim, "--data", DATA, "--scheme", "ipguard(iterations=5)", "--budget", "3")
    path = tmp_path / "odd [name].fp"
    loud = whorl(*arguments, "-o", path)
    assert loud.stdout.startswith(f"{path}  ")
    assert " bytes  3 queries  id " in loud.stdout
    assert "secret" in loud.stderr
    assert "whorl twins --help, whorl calibrate --help" in loud.stderr.splitlines()[-1]
    quiet = whorl(*arguments, "-o", path, "--quiet")
    # The file holds the seconds that it took, so that its size may differ by some digits.
    assert (re.sub(r"[\d,]+ bytes", "", quiet.stdout), quiet.stderr) == (re.sub(r"[\d,]+ bytes", "", loud.stdout), "")


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["--data", DATA, "--scheme", "ipgard"], 2, "Did you mean ipguard"),
        (["--data", DATA, "--scheme", "ipguard(marginn=1)"], 2, "Did you mean margin"),
        (["--data", "digit"], 2, "digits"),
        (["--data", "digits(size=16)"], 2, "takes pictures [1, 8, 8]"),
        (["--data", DATA, "--part", "thief"], 2, "no such part"),
        (["--data", DATA, "--budget", "0"], 2, "at least one query"),
        (["--data", DATA, "--scheme", "random", "--budget", "100000"], 2, "pictures"),
        (["--data", DATA, "--scheme", "random", "--classes", "3"], 2, "classes"),
    ],
)
def test_a_mistake_of_extract_ends_in_one_line(whorl, case, tmp_path, arguments, code, told):
    result = whorl("extract", case.victim, "-o", tmp_path / "x.fp", *arguments)
    assert (result.exit_code, result.stdout) == (code, "")
    assert told in result.stderr.splitlines()[-1]
    assert result.stderr.count("error: ") == 1
    assert not (tmp_path / "x.fp").exists()


def test_a_model_that_grants_too_little_is_refused(whorl, case, tmp_path):
    (tmp_path / "model.toml").write_text(f'kind = "torch"\npath = "{case.victim}"\naccess = "logits"\n')
    result = whorl("extract", tmp_path, "--data", DATA, "-o", tmp_path / "x.fp", "--quiet")
    assert result.exit_code == 6
    assert "ipguard needs GRADIENTS of the victim" in result.stderr
    assert "whorl schemes --victim-access logits" in result.stderr


def test_calibrate_takes_a_folder_of_independents(whorl, case, tmp_path):
    output = tmp_path / "mine.fp"
    result = whorl("calibrate", case.raw, "--independent", case.independents, "-o", output, "--json")
    document = json.loads(result.stdout)
    (doubt,) = document["doubts"]  # the 19 learned from other pictures than the victim did
    assert "your model is right on 0.98 of the control pictures, the null's models on 0." in doubt
    assert result.stderr == f"{doubt}\n"
    assert document["null"]["size"] == 19
    assert document["null"]["pool"] == "19 models given by the owner"
    assert document["smallest_alpha"] == pytest.approx(1 / 20)
    calibrated = read_fingerprint(output)
    assert calibrated.calibration is not None
    assert sorted(calibrated.calibration.null.similarities) == sorted(
        read_fingerprint(case.calibrated).calibration.null.similarities
    )
    assert max(calibrated.calibration.null.similarities) == document["null"]["max"]


def test_calibrate_finds_models_below_a_folder_and_says_what_it_skipped(whorl, case, tmp_path):
    folder, (one, two) = tmp_path / "theirs", sorted(case.independents.iterdir())[:2]
    for place in (folder / "a", folder / "b" / "c"):
        place.mkdir(parents=True)
    shutil.copy(one, folder / "b" / "c" / "ONE.SAFETENSORS")
    net, header = read_model(two)
    torch.save(net.state_dict(), folder / "a" / "weights.bin")
    (folder / "a" / "model.toml").write_text(
        f'kind = "torch"\npath = "weights.bin"\narchitecture = "{header.architecture}"\nclasses = {header.classes}\n'
        f"[input]\nshape = {list(header.input_shape)}\n"
    )
    (folder / "torn.PT").write_bytes(b"PK")
    (folder / "notes.txt").write_text("none")
    done = whorl("calibrate", case.raw, "--independent", folder, "-o", tmp_path / "new.fp", "--json")
    assert done.exit_code == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["null"]["size"] == 2
    assert {Path(path).name for path in told["skipped"]} == {"torn.PT", "notes.txt"}
    assert "no model by its suffix" in done.stderr
    assert "torn.PT is not a whole PyTorch file" in done.stderr
    (tmp_path / "empty").mkdir()
    done = whorl("calibrate", case.raw, "--independent", tmp_path / "empty")
    assert (done.exit_code, "holds no model" in done.stderr) == (2, True)


def test_calibrate_trains_independents_and_makes_copies(whorl, case, tmp_path):
    output = tmp_path / "mine.fp"
    arguments = ("calibrate", case.raw, "--train", STRANGER, "--count", "2", "-j", "1", "-o", output)
    copies = ("--victim", case.victim, "--removal", "quantise(int8)", "--copies", "2", "--data", DATA)
    known = ("--derived", f"tuned={case.stolen}", "--pool", "two small nets", "--siblings", "1")
    refused = whorl(*arguments, *copies)
    assert (refused.exit_code, "--allow-unlike" in refused.stderr) == (2, True), "two nets of one epoch"
    result = whorl(*arguments, *copies, *known, "--allow-unlike")
    assert f"{output}  null of 2 models, largest similarity 0." in result.stdout
    assert "smallest alpha that it allows: 0.3333" in result.stderr
    calibration = read_fingerprint(output).calibration
    assert calibration.null.pool == f"two small nets; 2 models of {STRANGER}", "words never hide what is known"
    assert calibration.null.siblings == 1
    assert {name: len(values) for name, values in calibration.derived.items()} == {"quantise(int8)": 2, "tuned": 1}
    assert min(calibration.derived["quantise(int8)"]) > max(calibration.null.similarities)
    quiet = whorl(*arguments, "--allow-unlike", "--quiet")
    assert quiet.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "give --independent MODEL (repeatable) or --train RECIPE"),
        (["--independent", "{independents}", "--removal", "quantise(int8)"], "give --victim MODEL and --data PICTURES"),
        (["--independent", "{independents}", "--derived", "{stolen}"], "--derived takes REMOVAL=MODEL"),
        (["--train", "train(mlp, digits(size=8)) -> quantise(int8)"], "trained from nothing"),
        (["--train", "trane(mlp)"], "a recipe begins with train"),
        (["--independent", "{folder}/missing.onnx"], "no such file"),
        (["--independent", "{independents}", "--interface", "Nope"], "no such treatment of answers: 'Nope'"),
        (["--independent", "{independents}", "--interface", "TopK(k=11)"], "needs k in 1..10"),
        (["--independent", "{independents}", "--interface", "Rounded(decimals=0.5)"], "is no treatment"),
    ],
)
def test_a_mistake_of_calibrate_ends_in_one_line(whorl, case, arguments, told):
    before = case.raw.read_bytes()
    paths = {name: str(getattr(case, name)) for name in ("independents", "stolen", "folder")}
    result = whorl("calibrate", case.raw, *(argument.format(**paths) for argument in arguments))
    assert (result.exit_code, result.stdout) == (2, "")
    (line,) = result.stderr.splitlines()
    assert told in line
    assert case.raw.read_bytes() == before


MINE = ["--victim", "{victim}", "--removal", "quantise(int8)", "--data", DATA]
WIDE = ["--architecture", "mlp", "--shape", "1,9,9"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--victim", "{folder}/bare.pt", *MINE[2:]], "bare.pt holds weights without their architecture"),
        ([*MINE[:-1], "digits(size=9)"], "give --data like those that it learned from, as in size=8"),
        ([*MINE[:3], "quantize(int8)", *MINE[4:]], "quantise"),
        (["--derived", "tuned={folder}/none.safetensors"], "no such file"),
        (
            ["--derived", "tuned={folder}/wide.pt", *WIDE],
            "wide.pt takes pictures [1, 9, 9] of 10",
        ),
        (["--train", "train(mlp(width=8), digits(size=9))"], "takes pictures [1, 9, 9] of 10"),
        (["--train", "train(mlp(width=8), textures(classes=8, size=8))"], "of 8 (classification)"),
        (["--victim", "{folder}/wide.pt", *MINE[2:], *WIDE], "wide.pt takes pictures [1, 9, 9] of 10"),
        (["--independent", "{victim}"], "is the fingerprint's own victim"),
    ],
)
def test_a_mistake_of_calibrate_is_found_before_anything_is_trained(whorl, case, monkeypatch, arguments, told):
    def nobody_trains(*_, **__):
        raise AssertionError("strangers were trained before the mistake was found")

    monkeypatch.setattr("whorl.populations.strangers", nobody_trains)
    torch.save(tiny_net(architecture="mlp").state_dict(), case.folder / "bare.pt")
    wide = NETS.make("mlp", input_shape=(1, 9, 9), classes=10)
    torch.save(wide.state_dict(), case.folder / "wide.pt")
    given = [argument.format(victim=case.victim, folder=case.folder) for argument in arguments]
    result = whorl("calibrate", case.raw, "--train", STRANGER, *given)
    assert (result.exit_code, result.stdout) == (2, "")
    (line,) = result.stderr.splitlines()
    assert told in line


def test_calibrate_says_what_changes_nothing_and_names_a_copy_among_strangers(whorl, case, tmp_path):
    folder = tmp_path / "theirs"
    shutil.copytree(case.independents, folder)
    shutil.copy(case.stolen, folder / "friend.safetensors")
    done = whorl("calibrate", case.raw, "--independent", folder, "--interface", "TopK(k=2)", "-o", tmp_path / "new.fp")
    assert done.exit_code == 0, done.stderr
    assert "--interface changes nothing: ipguard does not compare probabilities" in done.stderr
    assert f"{folder / 'friend.safetensors'}: far more like your model than all others of the null" in done.stderr


def test_an_architecture_is_for_the_bare_weights_among_several_models(whorl, case, tmp_path):
    folder, (one, two, three) = tmp_path / "theirs", sorted(case.independents.iterdir())[:3]
    folder.mkdir()
    for path, name in ((one, "bare.pt"), (two, "graph.onnx"), (three, "own.safetensors")):
        net, _ = read_model(path)
        if name == "bare.pt":
            torch.save(net.state_dict(), folder / name)
        elif name == "graph.onnx":
            torch.onnx.export(net, (torch.zeros(2, 1, 8, 8),), folder / name, dynamo=True, external_data=False)
        else:
            shutil.copy(path, folder / name)
    many = ["--independent", folder, "--architecture", "mlp(width=32)", "-o", tmp_path / "new.fp", "--json"]
    done = whorl("calibrate", case.raw, *many)
    assert done.exit_code == 0, done.stderr
    assert (json.loads(done.stdout)["null"]["size"], "skipped" in done.stderr) == (3, False)
    one = whorl("verify", case.calibrated, folder / "graph.onnx", "--architecture", "mlp")
    assert (one.exit_code, "graph.onnx: architecture is for kind" in one.stderr) == (2, True)
