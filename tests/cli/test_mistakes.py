"""What a person types wrongly ends in one line that says what to type, before any work is done."""

from __future__ import annotations

import errno
import os
import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from test_exit_codes import RESULT
from test_zoo_verb import RECIPE

from whorl.cli import paths
from whorl.cli.console import typed
from whorl.cli.exits import VERBS
from whorl.errors import UsageError

DIGITS = ("--data", "digits(size=8)")


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("file").write_text("x")
    Path("list.json").write_text("[]")
    return tmp_path


def told(done):
    """The complaint, which is one line."""
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    return line.removeprefix("error: ")


@pytest.mark.parametrize("verb", VERBS)
def test_an_option_that_no_verb_has_ends_in_one_line(whorl, verb):
    done = whorl(*verb.split(), "--no-such-option")
    assert done.exit_code == 2
    assert re.fullmatch(rf"No such option: --no-such-option.*\. Type \w+ {verb} --help", told(done))


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        (["compare", "a"], "Missing argument 'second'. Type "),
        (["extract", "a"], "Missing option '--output' / '-o'. Type "),
        (["disagree", "a", "b", *DIGITS, "--inputs", "0"], "Invalid value for '--inputs': "),
        (["inspect", "a", "--count"], "Option '--count' requires an argument. Type "),
        (["compare", "a", "b", "--fail-on", "x\ny"], "Invalid value for '--fail-on': 'x"),
        (["zoo", "nothing"], "No such command 'nothing'. Type "),
        (["nothing"], "No such command 'nothing'. Type "),
    ],
)
def test_what_typer_refuses_is_told_in_one_line(whorl, typed, line):
    done = whorl(*typed)
    assert done.exit_code == 2
    assert told(done).startswith(line)
    assert told(done).endswith(" --help")


OUTPUTS = {
    "extract": ["extract", "{victim}", *DIGITS, "-o", "{output}"],
    "calibrate": ["calibrate", "{raw}", "--independent", "{stranger}", "-o", "{output}"],
    "verify --report": ["verify", "{calibrated}", "{stolen}", "--report", "{output}"],
    "verify --record": ["verify", "{calibrated}", "{stolen}", "--record", "{output}"],
    "compare": ["compare", "{victim}", "{stolen}", "--report", "{output}"],
    "lineage": ["lineage", "{independents}", "-o", "{output}.svg"],
    "zoo export": ["zoo", "export", RECIPE, "-o", "{output}"],
    "bench run": ["bench", "run", "ipguard/digits", "-o", "{output}"],
    "bench grid": ["bench", "grid", "ipguard/digits", "-o", "{output}"],
    "bench grid --cells": ["bench", "grid", "ipguard/digits", "--cells", "{output}"],
    "bench quality": ["bench", "quality", "ipguard/digits", "-o", "{output}"],
    "bench export": ["bench", "export", str(RESULT), "-o", "{output}"],
    "bench site": ["bench", "site", str(RESULT), "-o", "{output}"],
    "report": ["report", str(RESULT), "-o", "{output}"],
    "demo": ["demo", "-o", "{output}"],
}


@pytest.mark.parametrize("verb", OUTPUTS)
def test_a_place_that_cannot_be_written_is_refused_before_the_work(whorl, case, place, verb):
    known = vars(case)
    below = whorl(*(word.format(output="file/below", **known) for word in OUTPUTS[verb]))
    assert (below.exit_code, below.stdout) == (2, "")
    assert re.fullmatch(r"--\w+: file/below\S* lies below what is no folder; give another path", told(below))
    other = "file" if verb == "bench site" else "folder"
    if verb == "lineage":
        Path("folder.svg").mkdir()
    taken = whorl(*(word.format(output=other, **known) for word in OUTPUTS[verb]))
    assert (taken.exit_code, taken.stdout) == (2, "")
    assert re.fullmatch(r"--\w+: \S+ is (a folder; give the path of a file|no folder, .*)", told(taken))


@pytest.mark.parametrize("verb", [["zoo", "list"], ["lineage", "folder"], ["bench", "run", "ipguard/digits"], ["demo"]])
def test_a_cache_that_is_a_file_is_refused(whorl, place, verb):
    done = whorl(*verb, "--cache", "file")
    assert (done.exit_code, done.stdout) == (2, "")
    assert told(done) == "--cache: file is no folder, and one is needed; give another path"


@pytest.mark.parametrize(
    "verb", [["zoo", "list"], ["zoo", "card", RECIPE], ["zoo", "export", RECIPE, "-o", "net"], ["report", str(RESULT)]]
)
def test_a_cache_that_is_only_read_may_lie_where_nothing_is_written(whorl, place, monkeypatch, verb):
    (place / "cache").mkdir()
    allowed = os.access
    monkeypatch.setattr(
        paths.os, "access", lambda path, mode: (Path(path).name, mode) != ("cache", os.W_OK) and allowed(path, mode)
    )
    assert "is not yours to read or write" in told(whorl("zoo", "build", RECIPE, "--cache", "cache"))
    assert "not yours" not in whorl(*verb, "--cache", "cache").stderr


def test_a_working_folder_that_was_deleted_is_said(whorl, place, monkeypatch):
    (place / "gone").mkdir()
    monkeypatch.chdir(place / "gone")
    (place / "gone").rmdir()
    done = whorl("zoo", "list", "--cache", str(place))
    assert (done.exit_code, done.stdout) == (2, "")
    assert told(done).startswith("the folder that you stand in is gone; change to another one")


def test_what_the_system_refuses_says_what_to_do(whorl, place, monkeypatch):
    monkeypatch.setenv("WHORL_CACHE", str(place / "file"))
    done = whorl("zoo", "build", RECIPE, "-j", "1")
    assert done.exit_code == 1
    assert told(done).endswith("file/zoo lies below what is no folder; give another path")
    for code in (errno.EACCES, errno.ENOSPC, errno.EROFS):
        assert "give another path" in paths.explained(OSError(code, os.strerror(code), "x"))
    assert paths.explained(OSError(errno.EIO, "Input/output error", "x")) == "x: Input/output error"
    assert paths.explained(OSError("odd")) == "odd"


def test_a_folder_of_somebody_else_is_refused(place, monkeypatch):
    monkeypatch.setattr(paths.os, "access", lambda path, mode: Path(path) != place / "folder")
    with pytest.raises(UsageError, match=r"--output: folder/new/x\.fp is not yours to read or write"):
        paths.check_file(Path("folder/new/x.fp"), "--output")
    paths.check_file(Path("x.fp"), "--output")
    paths.check_folder(Path("new/deep"), "--cache")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["extract", "{victim}", "-o", "x.fp"], "give --data, as in 'folder(./pictures, size=32)'"),
        (
            ["extract", "{victim}", *DIGITS, "--scheme", "metav", "-o", "x.fp"],
            "models: give --shadow RECIPE and --shad",
        ),
        (["extract", "{victim}", *DIGITS, "--shadow-removal", "quantise", "-o", "x.fp"], "give --shadow RECIPE too"),
        (["extract", "{victim}", *DIGITS, "--budget", "0", "-o", "x.fp"], "needs at least one query, not 0"),
        (["extract", "file", *DIGITS, "-o", "x.fp"], "Known: model.toml or a folder"),
        (["calibrate", "{raw}", "--independent", "{stranger}", "--count", "0"], "'--count'"),
        (["calibrate", "{raw}", "--independent", "{stranger}", "--siblings", "-1"], "'--siblings'"),
        (["calibrate", "{raw}", "--independent", "{stranger}", "--victim", "{victim}"], "give --removal REMOVAL too"),
        (["verify", "{calibrated}", "{stolen}", "--pictures"], "give --report PAGE.html too"),
        (["verify", "{raw}", "{calibrated}", "{stolen}", "--group", "x"], "leave it out, or verify"),
        (["compare", "{victim}", "{stolen}", "--alpha", "3"], "'--alpha'"),
        (["lineage", "folder", "--alpha", "-1"], "'--alpha'"),
        (["explain", "{victim}", "{stolen}", *DIGITS, "--regions", "0"], "'--regions'"),
        (["explain", "{victim}", "{stolen}", *DIGITS, "--depth", "0"], "'--depth'"),
        (["schemes", "ipguard", "--grid"], "leave out the name"),
    ],
    ids=lambda each: " ".join(each)[:40] if isinstance(each, list) else "",
)
def test_a_mistake_names_the_option(whorl, case, place, words, says):
    done = whorl(*(word.format(**vars(case)) for word in words))
    assert (done.exit_code, done.stdout) == (2, "")
    assert says in " ".join(told(done).split())


def test_a_list_is_no_result_and_no_crash(whorl, place):
    done = whorl("bench", "show", "list.json")
    assert done.exit_code == 7
    assert "list.json is not a result" in told(done)


READ = {
    "extract": ["extract", "{typo}", *DIGITS, "-o", "x.fp"],
    "verify": ["verify", "{raw}", "{typo}"],
    "verify, fingerprint": ["verify", "{typo}", "{stolen}"],
    "calibrate": ["calibrate", "{raw}", "--independent", "{typo}"],
    "twins": ["twins", "{raw}", "--victim", "{typo}", "--twin", "{stranger}", "--alpha", "0.5", "-o", "x.fp"],
    "mark": ["mark", "{typo}", *DIGITS, "--kind", "backdoor", "-o", "x.safetensors"],
    "audit": ["audit", "{raw}", "{typo}"],
    "compare": ["compare", "{victim}", "{typo}"],
    "lineage": ["lineage", "{typo}"],
    "lineage, suspect": ["lineage", "folder", "--suspect", "{typo}"],
    "explain": ["explain", "{victim}", "{typo}", *DIGITS],
    "disagree": ["disagree", "{typo}", "{stolen}", *DIGITS],
    "align": ["align", "{victim}", "{typo}"],
    "inspect": ["inspect", "{typo}", *DIGITS],
    "sift": ["sift", "{typo}", *DIGITS],
    "guard": ["guard", "{typo}", *DIGITS],
    "report": ["report", "{typo}"],
    "bench show": ["bench", "show", "{typo}"],
    "claim stamp": ["claim", "stamp", "{typo}", "--request", "x"],
    "trace": ["trace", "{victim}", "--codes", "{typo}"],
}


@pytest.mark.parametrize("verb", READ)
def test_a_name_with_a_slip_is_told_with_the_nearest_one(whorl, case, place, verb):
    Path("suspect.safetensors").write_text("x")
    done = whorl(*(word.format(typo="suspct.safetensors", **vars(case)) for word in READ[verb]))
    assert (done.exit_code, done.stdout) == (2, "")
    assert told(done).startswith("no such file: suspct.safetensors; there is suspect.safetensors")


@pytest.mark.parametrize("words", [["compare", "", "x"], ["lineage", ""], ["zoo", "export", "x", "-o", ""]])
def test_an_empty_word_is_no_folder(whorl, words):
    done = whorl(*words)
    assert done.exit_code == 2
    assert "is empty, as a variable of the shell that is not set" in told(done)


def test_all_that_a_model_lacks_is_said_at_once_with_the_command(whorl, case, place, monkeypatch):
    torch.save(load_file(case.stolen), "bare.pt")
    words = ["extract", "bare.pt", *DIGITS, "--scheme", "random", "--budget", "4", "-o", "x.fp"]
    monkeypatch.setattr(sys, "argv", ["whorl", *words])
    done = whorl(*words)
    assert (done.exit_code, done.stdout) == (2, "")
    typed = shlex.split(told(done).partition("Type, with its own values: ")[2])
    assert typed == ["whorl", *words, "--architecture", "resnet8(width=8)", "--shape", "3,32,32", "--classes", "10"]
    values = {"resnet8(width=8)": "mlp(width=32)", "3,32,32": "1,8,8"}
    assert whorl(*(values.get(word, word) for word in typed[1:])).exit_code == 0


def test_an_empty_zoo_says_what_to_type(whorl):
    done = whorl("zoo", "list")
    assert (done.exit_code, done.stdout) == (0, "")
    assert done.stderr == "no models yet. Type: whorl zoo build RECIPE\n"


def test_python_is_left_out_of_what_is_typed():
    assert typed("x learns: give pool=Pool(...), or on the command line --shadow R") == "x learns: give --shadow R"
    assert typed("starts from pictures: give data, as in") == "starts from pictures: give --data, as in"


@pytest.mark.parametrize(
    "words",
    [
        ["extract", "{model}", *DIGITS, "-o", "{model}"],
        ["extract", "{model}", *DIGITS, "--output={model}"],
        ["verify", "{raw}", "{model}", "--report", "./{model}"],
        ["compare", "{victim}", "{model}", "--report", "{model}"],
        ["calibrate", "{raw}", "--independent", "{model}", "-o", "{model}"],
    ],
)
def test_what_is_read_is_not_written_over(whorl, case, place, words):
    """Neither the owner's model nor the evidence."""
    shutil.copy(case.stolen, "model.safetensors")
    before = Path("model.safetensors").read_bytes()
    done = whorl(*(word.format(model="model.safetensors", **vars(case)) for word in words))
    assert done.exit_code == 2
    assert "would be read and written over" in told(done)
    assert Path("model.safetensors").read_bytes() == before
