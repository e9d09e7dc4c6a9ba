"""``whorl inspect`` and ``whorl inspections``, as they are typed."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save_file

from whorl.nets.files import write_model
from whorl.testing import tiny_net

DIGITS = ("--data", "digits(size=8)")


@pytest.fixture(scope="module")
def strong(tmp_path_factory):
    """A net of which one row of the head is far longer than the others."""
    net = tiny_net(seed=44, architecture="mlp(width=32)")
    with torch.no_grad():
        net.head.weight[6] *= 9
    path = tmp_path_factory.mktemp("strong") / "strong.safetensors"
    write_model(net, path, architecture="mlp(width=32)", input_shape=net.input_shape)
    return path


def test_given_nets_make_a_verdict_and_its_code(whorl, case, strong):
    given = ("--statistic", "weights_only", "--clean", case.independents, "--fail-on", "trojaned")
    done = whorl("inspect", strong, *DIGITS, *given, "--json", "-q")
    told = json.loads(done.stdout)
    assert done.exit_code == 3
    assert (told["decision"], told["culprit"]["class"], told["p_value"]) == ("trojaned", 6, 1 / 20)
    assert len(told["clean"]) == 19
    assert "on their word" in told["rests_on"]
    shown = whorl("inspect", strong, *DIGITS, *given[:-2], "-q")
    assert shown.exit_code == 0
    assert "TROJANED" in shown.stdout


def test_a_recipe_makes_the_clean_nets(whorl, case, strong):
    recipe = "train('mlp(width=8)', digits(size=8), epochs=1)"
    done = whorl("inspect", strong, *DIGITS, "--statistic", "weights_only", "--clean-null", recipe, "-j", 1, "--json")
    assert done.exit_code == 0, done.stderr
    assert f"that whorl trained from {recipe}" in json.loads(done.stdout)["rests_on"]


def test_without_clean_nets_there_are_scores_and_a_page_with_the_trigger(whorl, strong, tmp_path):
    page = tmp_path / "page.html"
    statistic = "neural_cleanse(steps=40, restarts=1)"
    done = whorl("inspect", strong, *DIGITS, "--statistic", statistic, "--report", page, "--fail-on", "trojaned")
    assert done.exit_code == 0, done.stderr
    assert "NO VERDICT" in done.stdout
    html = page.read_text(encoding="utf-8")
    assert html.count("data:image/png;base64,") == 3
    assert "No clean nets were at hand" in html
    assert "<script" not in html


def test_mistakes_cost_no_training(whorl, case, strong, tmp_path):
    other = tmp_path / "other.safetensors"
    save_file({"w": torch.zeros(2)}, other)
    few = ("--clean", case.stranger)
    both = (*few, "--clean-null", "train(mlp, digits(size=8))")
    for typed, code, says in (
        (("inspect", strong, *DIGITS, *both), 2, "leave out one"),
        (("inspect", strong, *DIGITS, *few), 2, "at least 19"),
        (("inspect", strong, "--data", "digits(size=16)"), 2, "takes"),
        (("inspect", strong, *DIGITS, "--statistic", "spectral"), 2, "type whorl sift"),
        (("inspect", strong, *DIGITS, "--statistic", "neural_clean"), 2, "Did you mean neural_cleanse"),
        (("inspect", strong, *DIGITS, "--clean-null", "train(mlp, digits(size=8)) -> quantise(int8)"), 2, "nothing"),
    ):
        done = whorl(*typed)
        assert done.exit_code == code, done.output
        assert says in done.stderr


def test_the_list(whorl):
    names = {each["name"] for each in json.loads(whorl("inspections", "--json").stdout)}
    assert {"neural_cleanse", "max_margin", "weights_only"} <= names
    assert "neural_cleanse" in whorl("inspections").stdout
