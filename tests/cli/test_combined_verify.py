"""``whorl verify`` with several fingerprints of one victim."""

from __future__ import annotations

import json

import pytest

from whorl import ownership
from whorl.fingerprints.files import write_fingerprint
from whorl.nets.files import read_model
from whorl.testing import tiny_net


@pytest.fixture(scope="module")
def pair(case, tmp_path_factory):
    """Two fingerprints of the case's victim, with nulls of 39 models: enough for alpha .05 shared by two."""
    folder = tmp_path_factory.mktemp("pair")
    nets = {str(seed): tiny_net(seed=seed, part="calibration", architecture="mlp(width=32)") for seed in range(50, 89)}
    paths = []
    for name, scheme in {"a": "ipguard(learning_rate=0.01)", "b": "akh"}.items():
        made = ownership.extract(case.victim, data="digits(size=8)", scheme=scheme, budget=40)
        paths.append(folder / f"{name}.fp")
        write_fingerprint(ownership.calibrate(made, nets, pool="39 nets"), paths[-1])
    return paths


def test_a_stolen_copy_is_derived_with_one_error_rate(whorl, case, pair, tmp_path):
    page = tmp_path / "pages" / "verdict.html"
    result = whorl("verify", *pair, case.stolen, "--alpha", "0.05", "--json", "--report", page)
    joined = json.loads(result.stdout)
    assert joined["decision"] == "derived"
    assert [verdict["scheme"].partition("(")[0] for verdict in joined["verdicts"]] == ["ipguard", "akh"]
    assert [verdict["alpha"] for verdict in joined["verdicts"]] == [0.025, 0.025]
    assert joined["p_value"] == min(joined["adjusted"]) == pytest.approx(2 / 40)
    assert 0 < joined["error_bound"] <= 0.05
    text = page.read_text()
    assert "Derived" in text
    assert "39" in text


def test_each_is_shown(whorl, case, pair):
    shown = whorl("verify", *pair, case.stranger, "--alpha", "0.05")
    assert shown.exit_code == 0
    assert "ipguard" in shown.stdout
    assert "akh" in shown.stdout
    assert "DERIVED" not in shown.stdout


def test_fail_on_counts_for_the_common_verdict(whorl, case, pair):
    assert whorl("verify", *pair, case.stolen, "--alpha", "0.05", "--quiet", "--fail-on", "derived").exit_code == 3


def test_a_null_that_is_too_small_for_two_says_how_many_it_needs(whorl, case, pair):
    shown = whorl("verify", pair[1], case.calibrated, case.stolen, "--alpha", "0.05")
    assert "at least 39 are needed" in shown.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("calibrated", "calibrated", "stolen"), "given twice"),
        (("calibrated", "raw", "stolen", "--budget", "10"), "--budget limits one fingerprint"),
    ],
)
def test_refusals(whorl, case, arguments, says):
    result = whorl("verify", *(getattr(case, each, each) for each in arguments))
    assert result.exit_code == 2
    assert says in result.stderr


def test_fingerprints_of_two_victims_are_refused(whorl, case, pair, tmp_path):
    other, _ = read_model(case.stranger)
    write_fingerprint(
        ownership.extract(other, data="digits(size=8)", scheme="akh", budget=20, input_shape=[1, 8, 8], classes=10),
        tmp_path / "other.fp",
    )
    result = whorl("verify", pair[0], tmp_path / "other.fp", case.stolen)
    assert result.exit_code == 2
    assert "different victims" in result.stderr
