"""``whorl guard``: from a file and from a recipe, as a table and as JSON."""

from __future__ import annotations

import json

QUICK = (
    *("--data", "digits(size=8)", "--guard", "answer_labels", "--length", 50),
    *("--thief", "knockoff('mlp(width=16)', budget=60, epochs=1)"),
)


def test_a_table_from_a_file_and_the_same_from_what_was_kept(whorl, case, tmp_path):
    told = whorl("guard", case.victim, *QUICK, "--cache", tmp_path)
    assert told.exit_code == 0, told.output
    for words in ("answer_labels", "knockoff", "honest: near duplicates", "of 4 clients"):
        assert words in told.stdout
    found = json.loads(whorl("guard", case.victim, *QUICK, "--cache", tmp_path, "--json", "-q").stdout)
    assert [row["guard"] for row in found["guards"]] == ["none", "answer_labels"]
    assert f"{found['guards'][0]['thieves']['knockoff']['fidelity']:.3f}" in told.stdout


def test_a_table_from_a_recipe(whorl, tmp_path):
    recipe = "train('mlp(width=16)', digits(size=8), epochs=2, batch=50, seed=3)"
    done = whorl("guard", recipe, *QUICK, "--cache", tmp_path, "--json", "-q")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["guards"][0]["accuracy"] > 0.3
