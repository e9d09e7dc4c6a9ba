"""``whorl mark``: from a model to a marked one, drawn for alone or with others, and found again in a stolen copy."""

from __future__ import annotations

import json

import pytest
import torch

from whorl.nets.files import write_model
from whorl.oracles.opening import open_oracle
from whorl.removals import REMOVALS
from whorl.schemes.opening import read_fingerprint
from whorl.testing import tiny_data, tiny_net

MLP = "mlp(width=64)"
DIGITS = ("--data", "digits(size=8)")


@pytest.fixture(scope="module")
def mine(tmp_path_factory):
    path = tmp_path_factory.mktemp("mine") / "mine.safetensors"
    write_model(tiny_net(seed=0, architecture=MLP), path, architecture=MLP, input_shape=(1, 8, 8))
    return path


def tuned(marked, path):
    victim = open_oracle(marked)
    removal = REMOVALS.make("fine_tune(all, epochs=1)")
    net = removal(victim, tiny_data("attacker"), generator=torch.Generator().manual_seed(1))
    write_model(net, path, architecture=MLP, input_shape=(1, 8, 8))
    return path


def test_a_mark_is_embedded_and_found_in_a_tuned_copy(whorl, mine, tmp_path):
    marked = tmp_path / "marked.safetensors"
    result = whorl("mark", mine, "--kind", "backdoor", *DIGITS, "-n", 40, "-o", marked)
    assert result.exit_code == 0, result.stderr
    assert "before others that is your word" in result.stderr
    fingerprint = marked.with_suffix(".fp")
    assert read_fingerprint(fingerprint).victim == open_oracle(marked).digest
    suspect = tuned(marked, tmp_path / "suspect.safetensors")
    verdict = json.loads(whorl("verify", fingerprint, suspect, "--json").stdout)
    assert (verdict["decision"], verdict["grade"], verdict["alpha"]) == ("derived", "D", 1e-6)
    shown = whorl("verify", fingerprint, mine, "--report", tmp_path / "page.html")
    assert "INCONCLUSIVE" in shown.stdout
    assert "drawn labels, one of 10 each; grade D; the draw is the owner's word" in shown.stdout
    assert "drawn labels, one of 10 each" in (tmp_path / "page.html").read_text()
    several = whorl("verify", fingerprint, suspect, "--also", mine)
    assert "0.0000" not in several.stdout, "an alpha of 1e-6 needs more than four decimals"
    # What suspects were held against keeps its place, and its log.
    held = fingerprint.read_bytes()
    for typed in (
        ("mark", mine, "--kind", "backdoor", *DIGITS, "-o", marked),
        ("extract", mine, *DIGITS, "--scheme", "random", "-o", fingerprint),
    ):
        refused = whorl(*typed)
        assert refused.exit_code == 2
        assert f"{fingerprint}.looks says what was held against" in refused.stderr
    assert fingerprint.read_bytes() == held


def test_a_draw_with_others_gives_grade_b_to_who_drew(whorl, mine, tmp_path):
    prepared, drawing = tmp_path / "mine.mark", tmp_path / "mark.draw"
    made = whorl("mark", mine, "--kind", "uchida", *DIGITS, "-n", 40, "--prepare", prepared, "--json")
    commitment = json.loads(made.stdout)["commitment"]
    judge, owner = tmp_path / "judge.nonce", tmp_path / "owner.nonce"
    begun = json.loads(
        whorl("claim", "draw", drawing, "--as", "judge", "--nonce", judge, "--mark", prepared, "--json").stdout
    )
    assert (begun["claim"], begun["suspect"]) == (commitment, None)
    marked = tmp_path / "marked.safetensors"
    embed = ("mark", mine, "--from", prepared, "--draw", drawing, "-o", marked)
    assert "has not ended" in whorl(*embed).stderr
    for role, nonce in (("owner", owner), ("owner", owner), ("judge", judge)):
        assert whorl("claim", "draw", drawing, "--as", role, "--nonce", nonce).exit_code == 0
    assert whorl(*embed).exit_code == 0
    asked = ("verify", marked.with_suffix(".fp"), marked, "--json")
    assert json.loads(whorl(*asked).stdout)["grade"] == "D"
    assert json.loads(whorl(*asked, "--nonce", judge).stdout)["grade"] == "B"
    assert json.loads(whorl(*asked, "--nonce", owner).stdout)["grade"] == "D"
    for number, told in ((judge, "each; grade B\n"), (owner, "each; grade D; the draw is the owner's word\n")):
        assert told in whorl(*asked[:-1], "--nonce", number, "--quiet").stdout


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ((), "say which mark"),
        (("--kind", "backdoor", "--from", "a.mark", "-o", "m.safetensors"), "a.mark says which mark it is"),
        (("--kind", "backdoor"), "--data"),
        (("--kind", "backdoor", *DIGITS), "--output"),
        (("--kind", "backdoor", *DIGITS, "-o", "m.onnx"), "safetensors"),
        (("--kind", "backdor", *DIGITS, "-o", "m.safetensors"), "Did you mean backdoor"),
        (("--kind", "backdoor", *DIGITS, "-o", "m.safetensors", "--draw", "a.draw"), "--prepare"),
        (("--kind", "backdoor", *DIGITS, "-o", "m.safetensors", "--prepare", "a.mark"), "embeds nothing"),
        (("--kind", "uchida(layer=nowhere)", *DIGITS, "-o", "m.safetensors"), "there is no layer"),
        (("--kind", "uchida", *DIGITS, "-n", "5000", "-o", "m.safetensors"), "ask for"),
        (("--kind", "backdoor", *DIGITS, "--seed", "9" * 23, "-o", "m.safetensors"), "from 0 to 2^63 - 1"),
        (("--kind", "backdoor", *DIGITS, "--draws", "9" * 15, "-o", "m.safetensors"), "4,294,967,296 times at most"),
    ],
)
def test_mistakes_end_in_one_line(whorl, mine, typed, told):
    result = whorl("mark", mine, *typed)
    assert result.exit_code == 2
    assert told in result.stderr


def test_the_model_that_is_marked_stays_as_it_is(whorl, mine):
    held = mine.read_bytes()
    result = whorl("mark", mine, "--kind", "backdoor", *DIGITS, "-o", mine)
    assert (result.exit_code, "read and written over" in result.stderr) == (2, True)
    assert mine.read_bytes() == held


@pytest.mark.parametrize(("kind", "learned"), [("backdoor(epochs=1)", False), ("backdoor", True)])
def test_a_mark_that_was_not_learned_is_told(whorl, mine, tmp_path, kind, learned):
    """A verdict on the marked model itself would be inconclusive, and its owner would learn that in a dispute."""
    marked = tmp_path / "m.safetensors"
    result = whorl("mark", mine, "--kind", kind, *DIGITS, "-n", 40, "-o", marked, "--quiet")
    assert result.exit_code == 0
    assert ("warning: the marked model itself would not be found" in result.stderr) is not learned
    verdict = json.loads(whorl("verify", marked.with_suffix(".fp"), marked, "--json").stdout)
    assert (verdict["decision"] == "derived") is learned


def test_another_model_than_the_prepared_one_is_refused(whorl, mine, tmp_path):
    prepared, other = tmp_path / "mine.mark", tmp_path / "other.safetensors"
    whorl("mark", mine, "--kind", "backdoor", *DIGITS, "-n", 10, "--prepare", prepared)
    write_model(tiny_net(seed=1, architecture=MLP), other, architecture=MLP, input_shape=(1, 8, 8))
    result = whorl("mark", other, "--from", prepared, "-o", tmp_path / "m.safetensors")
    assert "is not the model that this mark was prepared for" in result.stderr


def test_a_net_behind_a_conversion_of_its_inputs_is_marked_and_kept_as_it_is(whorl, tmp_path):
    bare = tmp_path / "bare.safetensors"
    net = tiny_net(seed=0, architecture=MLP)
    from safetensors.torch import save_file

    save_file({name: value.contiguous() for name, value in net.state_dict().items()}, bare)
    described = ("--architecture", MLP, "--classes", 10, "--shape", "1,8,8", "--set", "mean=[0.5]", "--set", "std=[2]")
    for kind in ("backdoor(epochs=1)", "uchida(epochs=1)"):
        marked = tmp_path / f"{kind[:4]}.safetensors"
        assert whorl("mark", bare, *described, "--kind", kind, *DIGITS, "-n", 8, "-o", marked).exit_code == 0
        oracle = open_oracle(marked, architecture=MLP, classes=10, input_shape=[1, 8, 8], mean=[0.5], std=[2.0])
        assert oracle.digest == read_fingerprint(marked.with_suffix(".fp")).victim
        assert whorl("verify", marked.with_suffix(".fp"), marked, *described).exit_code == 0


def test_marks_are_listed(whorl):
    rows = {row["name"]: row for row in json.loads(whorl("marks", "--json").stdout)}
    assert rows["uchida"]["drawn"] == "bits"
    assert rows["backdoor"]["suspect"] == "labels"
    assert "uchida" in whorl("marks").stdout


def test_too_few_bits_are_told_before_they_are_drawn(whorl, mine, tmp_path):
    asked = ("--kind", "uchida", *DIGITS, "-q")
    for count, few in ((20, True), (21, False)):  # 2 tests times 2^-n
        result = whorl("mark", mine, *asked, "-n", count, "--prepare", tmp_path / f"{count}.mark")
        assert (result.exit_code, "too few" in result.stderr) == (0, few)
        assert ("--count 21" in result.stderr) is few
    result = whorl("mark", mine, *asked, "-n", 12, "-o", tmp_path / "m.safetensors")
    assert "12 of 12 bits match" in result.stderr
    assert "Mark again with --count 22 or more" in result.stderr, "the second draw doubles p"
