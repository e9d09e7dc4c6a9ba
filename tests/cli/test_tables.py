"""No table of any verb cuts a name or breaks a word, at 80 columns or in a pipe."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from rich.text import Text
from safetensors.torch import save_file
from test_console_script import on_a_terminal
from test_zoo_verb import RECIPE

from whorl.bench.difference import Comparison, Difference
from whorl.bench.quality import GroupQuality, Quality
from whorl.cli import board, doctor, explain, table, verdicts_shown
from whorl.cli.standings import quality_table
from whorl.cli.table import Column, Table, show
from whorl.metrics import Interval, over_victims
from whorl.removals import REMOVALS
from whorl.schemes.cards import card
from whorl.zoo.recipe import parse_recipe

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
LONG = "a-name-that-a-person-chose-with-care-and-that-is-longer-than-eighty-columns-so-that-no-terminal-holds-it"
ROOMS = (80, None)


@pytest.fixture(params=ROOMS, ids=["80 columns", "pipe"])
def room(request, monkeypatch):
    """The width of the terminal that stdout is taken for, or None for a pipe."""
    monkeypatch.setattr(table, "room", lambda: request.param)
    return request.param


def sound(done, *names):
    """Every name is there in one piece, and nothing was cut."""
    assert done.exit_code == 0, done.output
    for name in names:
        assert name in done.stdout, name
    assert "…" not in done.stdout
    assert not any(line != line.rstrip() for line in done.stdout.splitlines())


def test_columns_that_fit_are_shown_by_their_rank_and_the_rest_is_named(capsys, monkeypatch):
    made = Table([Column("name"), Column("least", rank=2), Column("less", True, rank=1), Column("most", True)])
    made.add("x" * 60, "b" * 10, "c", "7")
    monkeypatch.setattr(table, "room", lambda: 80)
    show(made)
    seen = capsys.readouterr()
    assert seen.out.splitlines() == [f"{'name':60}  less  most", f"{'x' * 60}     c     7"]
    assert seen.err == "no room for least in 80 columns; to see all, add --wide\n"
    show(made, quiet=True)
    assert capsys.readouterr().err == ""
    show(made, wide=True)
    seen = capsys.readouterr()
    assert seen.out.splitlines()[1] == f"{'x' * 60}  {'b' * 10}     c     7"
    assert seen.err == ""
    monkeypatch.setattr(table, "room", lambda: None)
    show(made)
    assert capsys.readouterr().out == seen.out


def test_what_is_never_left_out_takes_a_line_as_long_as_it_needs(capsys, room):
    made = Table([Column("a"), Column("b")])
    made.add(LONG, f"{LONG}-too")
    show(made)
    assert capsys.readouterr().out.splitlines()[1] == f"{LONG}  {LONG}-too"


def test_prose_goes_on_in_further_lines_of_a_terminal_and_is_not_broken_within_a_word(capsys, monkeypatch):
    made = Table([Column("word"), Column("text", prose=True)], header=False)
    made.add("fact", f"before {LONG} and-then-after " + "again " * 20)
    monkeypatch.setattr(table, "room", lambda: 80)
    show(made)
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["fact  before", f"      {LONG}"]
    assert all(len(line) <= 80 for line in lines if LONG not in line)
    monkeypatch.setattr(table, "room", lambda: None)
    show(made)
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_cells_are_aligned_by_what_a_terminal_shows_and_cannot_steer_it(capsys):
    made = Table([Column("a"), Column("b")], "title\x1b[2J")
    made.add("模型", "x\ny")
    made.add("abcd", Text("[bold]z", style="red"))
    show(made)
    assert capsys.readouterr().out == "title\ufffd[2J\na     b\n模型  x y\nabcd  [bold]z\n"


def test_the_width_counts_on_a_terminal_alone(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert table.room() is None
    monkeypatch.setattr(table.sys, "stdout", type("Terminal", (), {"isatty": lambda self: True})())
    assert table.room() == 80


@pytest.mark.parametrize("name", ["ipguard-digits", "field-textures", "grid-sacbench-tiny"])
def test_results_of_benchmarks(whorl, room, tmp_path, name):
    text = (RESULTS / f"{name}.json").read_text(encoding="utf-8")
    path, longest = tmp_path / "result.json", LONG
    if name.startswith("grid"):
        longest = "train-negative-adversarial+hard-sac+mutual-information"
    path.write_text(text.replace('"cw-l2"', f'"{longest}"'), encoding="utf-8")
    done = whorl("bench", "show", path)
    sound(done, longest)
    assert ("--wide" in done.stderr) == (room is not None)
    every = whorl("bench", "show", path, "--wide")
    sound(every, longest)
    assert every.stderr == ""
    if room is None:
        assert every.stdout == done.stdout


def test_what_moved_between_results(room, capsys):
    moved = Difference(LONG, "tpr", "adversarial", 0.1, 0.9, "paired", 3, Interval(0.7, 0.9), True)
    board._show(Comparison((moved,), (), ()), True, False)
    seen = capsys.readouterr().out
    for words in (LONG, "tpr, adversarial", "+0.800 [+0.700, +0.900]", "moved"):
        assert words in seen


def test_quality(capsys, room):
    rows = [GroupQuality(LONG, "independent", 3, 0.1, 0.2, 0.3, 0.4)]
    overlaps = {"gap": 0.1, "hamming": 0.2, "conditioned": None, "l2": 0.3}
    around = {name: None if value is None else over_victims([value] * 3, [9] * 3) for name, value in overlaps.items()}
    show(quality_table(Quality("s", [], rows, overlaps, around, {})))
    seen = capsys.readouterr().out
    assert f"{LONG}  independent" in seen
    assert table.estimate(around["gap"]) in seen


def test_models_of_the_zoo(whorl, room):
    whorl("zoo", "build", RECIPE, "-j", "1")
    sound(whorl("zoo", "list"), str(parse_recipe(RECIPE)))


def test_trees_and_comparisons_of_checkpoints(whorl, room, tmp_path):
    folder = tmp_path / "nets"
    folder.mkdir()
    value = torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
    half, copy, other = (folder / f"{LONG}-{name}.safetensors" for name in ("half", "copy", "other"))
    save_file({"w": value}, folder / "net.safetensors")
    save_file({"w": value}, copy)
    save_file({"w": value.half()}, half)
    save_file({"w": value.flip(0)}, other)
    sound(whorl("lineage", folder), half.name, copy.name)
    mixed = whorl("compare", folder / "net.safetensors", half, "--parent", other)
    sound(mixed, "net.safetensors", other.name)


def test_verdicts(whorl, room, case, tmp_path, capsys):
    sound(whorl("verify", case.calibrated, case.stolen, "--alpha", "0.05"), "DERIVED", "fine_tune(all, epochs=1): ")
    one = {"decision": "derived", "similarity": 1.0, "p_value": 0.01, "null": {"size": 1234}}
    one |= {"queries": {"spent": 12345, "budget": 67890, "replayed": 12345}, "scheme": f"{LONG}(margin=1)"}
    one["lineup"] = {}
    joined = {"decision": "derived", "alpha": 0.05, "p_value": 0.01, "error_bound": 0.01}
    joined |= {"over": "fingerprints", "refused": {}}
    verdicts_shown.show_verdicts(joined | {"verdicts": [one], "adjusted": [0.02], "caveats": []}, False, False)
    (row,) = (line for line in capsys.readouterr().out.splitlines() if LONG in line)
    assert row.split()[:2] == [LONG, "derived"]
    assert {"0.0100", "0.0200"} <= set(row.split())


def test_rules_with_long_names(room, monkeypatch, capsys):
    rule = {"rule": f"{LONG} > 3", "recall": 0.5, "precision": None}
    change = {"kind": "moved", "class": "malignant", "before": f"{LONG} > 3", "after": f"{LONG} > 4"}
    shares = dict.fromkeys(("disagreement", "recall", "precision", "change", "changes_cover", "changes_precision"), 0.1)
    document = shares | {"rows": 7, "fidelity": [0.9, 0.8], "rules": [rule], "changes": [change]}
    monkeypatch.setattr(explain, "_document", lambda found: document)
    explain._show(None)
    seen = capsys.readouterr().out
    assert f"{rule['rule']}\n" in seen
    assert f"moved  malignant  {change['before']}  {change['after']}\n" in seen


def test_lists_and_cards(whorl, room):
    sound(whorl("removals"), *REMOVALS, *(f"{key}=" for name in REMOVALS for key in REMOVALS.parameters(name)))
    sound(whorl("schemes"), "dataset-inference-white-box")
    shown = card("ipguard")
    sound(whorl("schemes", "ipguard"), *(f"{key}={value}" for key, value in shown.parameters.items()))
    sound(whorl("schemes", "--grid"), "train-negative-augment+labels+mutual-information")


def test_the_doctor(whorl, room, monkeypatch):
    monkeypatch.setattr(doctor, "_self_test", lambda: "passed")
    monkeypatch.setattr(doctor, "EXTRAS", {"onnx": ("onnx", "no-such-package")})
    monkeypatch.setattr(doctor, "_devices", lambda: ["cpu", LONG])
    sound(whorl("doctor"), LONG, 'type: pip install "whorl[onnx]"', doctor.PURPOSES["onnx"])


def test_a_terminal_of_80_columns():
    code, seen = on_a_terminal(["bench", "show", RESULTS / "grid-sacbench-tiny.json"], COLUMNS="80", NO_COLOR="1")
    assert code == 0
    assert "train-negative-adversarial+hard-sac+mutual-information" in seen
    assert "no room for TPR @50" in seen
