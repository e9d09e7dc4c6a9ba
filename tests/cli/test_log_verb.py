"""``whorl log make`` and ``whorl log verify``."""

from __future__ import annotations

import json
import shutil

import pytest

RECIPE = "train(mlp(width=16), digits(size=8), epochs=12, batch=40, seed={})"


@pytest.fixture
def made(whorl, tmp_path):
    for seed in (0, 1):
        where = ("-o", tmp_path / f"{seed}.log", "--model", tmp_path / f"{seed}.safetensors", "--every", 9)
        done = whorl("log", "make", RECIPE.format(seed), *where)
        assert done.exit_code == 0, done.output
    return tmp_path


def test_a_log_is_made_checked_and_refused(whorl, made):
    check = ("log", "verify", made / "0.log", "--own", made / "1.log", "--recipe", RECIPE.format(0))
    told = whorl(*check, "--model", made / "0.safetensors", "--fail-on", "inconsistent", "--original", 0.5)
    assert told.exit_code == 0, told.output
    assert told.stdout.startswith("CONSISTENT with this recipe")
    assert "as published passes" in " ".join(told.stdout.split())
    assert "proves neither ownership" in " ".join(told.stderr.split())
    document = json.loads(whorl(*check, "--model", made / "1.safetensors", "--json", "-q").stdout)
    assert document["decision"] == "inconsistent"
    assert document["faults"] == ["it ends in other weights than the model's"]
    again = json.loads(whorl(*check, "--nonce", document["nonce"], "--json", "-q").stdout)
    assert again["decision"] == "consistent with this recipe"
    assert again["replayed"] == document["replayed"]
    refused = whorl(*check[:-1], RECIPE.format(1), "--fail-on", "inconsistent")
    assert refused.exit_code == 3
    assert refused.stdout.startswith("INCONSISTENT")


def test_an_anchor_of_another_log_and_a_torn_log_end_in_7(whorl, made):
    check = ("log", "verify", made / "0.log", "--rho", 0.01)
    assert whorl(*check, "--anchor", made / "0.log" / "root.json").exit_code == 0
    other = whorl(*check, "--anchor", made / "1.log" / "root.json")
    assert (other.exit_code, len(other.stderr.splitlines())) == (7, 1)
    shutil.copytree(made / "0.log", made / "torn")
    lines = made / "torn" / "log.jsonl"
    lines.write_bytes(lines.read_bytes()[:-30])
    torn = whorl("log", "verify", made / "torn", "--rho", 0.01)
    assert torn.exit_code == 7
    assert "torn" in torn.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("{log}",), "--own LOG"),
        (("{log}", "--rho", "0.01", "--nonce", "12"), "64 hexadecimal digits"),
        (("{log}", "--rho", "0.01", "--recipe", "trian(mlp, digits)"), "a recipe begins with train"),
        (("missing.log", "--rho", "0.01"), "whorl log make"),
    ],
)
def test_mistakes_end_in_one_line(whorl, made, arguments, told):
    done = whorl("log", "verify", *(each.format(log=made / "0.log") for each in arguments))
    assert done.exit_code == 2
    assert told in done.stderr.splitlines()[-1]
