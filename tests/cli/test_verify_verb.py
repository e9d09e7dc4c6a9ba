"""``whorl verify``: the document, the text, the page, and what it refuses."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest
from model_server import ModelServer
from safetensors.torch import save_file

from whorl.nets.files import read_model

FIELDS = {
    "decision",
    "similarity",
    "p_value",
    "p_value_floor",
    "alpha",
    "error_bound",
    "null",
    "queries",
    "power",
    "scheme",
    "fingerprint",
    "suspect",
    "caveats",
}


def document(result):
    assert result.stderr == ""
    return json.loads(result.stdout)


def test_a_stolen_copy_is_called_derived(whorl, case):
    verdict = document(whorl("verify", case.calibrated, case.stolen, "--alpha", "0.05", "--json"))
    assert verdict.keys() >= FIELDS
    assert verdict["decision"] == "derived"
    assert verdict["similarity"] > 0.8
    assert verdict["p_value"] == verdict["p_value_floor"] == pytest.approx(1 / 20)
    assert verdict["alpha"] == 0.05
    assert 0 < verdict["error_bound"] <= 0.05
    assert verdict["null"]["pool"] == "19 nets"
    assert verdict["null"]["size"] == 19
    quantiles = list(verdict["null"]["quantiles"].values())
    assert quantiles == sorted(quantiles)
    assert verdict["null"]["quantiles"]["max"] < verdict["similarity"]
    assert verdict["queries"]["budget"] == case.queries
    assert verdict["queries"]["stopped_early"] is (verdict["queries"]["spent"] < case.queries)
    assert verdict["power"]["fine_tune(all, epochs=1)"]["caught"] == 14
    assert verdict["scheme"].startswith("ipguard(")
    assert verdict["suspect"] == "stolen.safetensors"
    assert any("not who copied whom" in caveat for caveat in verdict["caveats"])


def test_a_stranger_is_called_unrelated(whorl, case):
    verdict = document(whorl("verify", case.calibrated, case.stranger, "--alpha", "0.05", "--json"))
    assert verdict["decision"] == "unrelated"
    assert verdict["p_value"] > 0.05
    assert any(caveat.startswith("would have caught: fine_tune") for caveat in verdict["caveats"])


def test_too_few_independents_make_it_inconclusive_and_say_what_to_supply(whorl, case):
    verdict = document(whorl("verify", case.calibrated, case.stolen, "--alpha", "0.01", "--json"))
    assert verdict["decision"] == "inconclusive"
    assert any("at least 99 are needed: type whorl calibrate" in caveat for caveat in verdict["caveats"])


def test_without_a_null_nothing_is_derived(whorl, case):
    verdict = document(whorl("verify", case.raw, case.victim, "--rule", "population", "--json"))
    assert (verdict["decision"], verdict["similarity"]) == ("inconclusive", 1.0)
    assert "no independent model" in verdict["caveats"][0]


@pytest.mark.parametrize(
    ("fingerprint", "suspect", "fail_on", "code"),
    [
        ("calibrated", "stolen", "derived", 3),
        ("calibrated", "stolen", "inconclusive", 0),
        ("calibrated", "stranger", "derived", 0),
        ("calibrated", "stranger", "inconclusive", 0),
        ("raw", "stolen", "inconclusive", 4),
        ("raw", "stolen", "derived", 0),
    ],
)
def test_a_decision_becomes_an_exit_code_only_where_asked(whorl, case, fingerprint, suspect, fail_on, code):
    result = whorl(
        *("verify", getattr(case, fingerprint), getattr(case, suspect), "--alpha", "0.05", "--fail-on", fail_on),
        *("--rule", "population", "--json"),  # whatever twins another test began for the same file
    )
    assert result.exit_code == code
    document(result)


def test_the_text_names_each_number_and_the_caveats_go_to_stderr(whorl, case):
    result = whorl("verify", case.calibrated, case.stolen, "--alpha", "0.05")
    rows = [line.split(None, 1)[0] for line in result.stdout.splitlines() if not line.startswith(" ")]
    assert rows == ["verdict", "similarity", "p-value", "error", "suspect", "interface", "null", "queries", "power"]
    assert "DERIVED" in result.stdout
    asked = document(whorl("verify", case.calibrated, case.stolen, "--alpha", "0.05", "--json"))["queries"]["spent"]
    assert f"{asked} of {case.queries}, stopped early" in result.stdout
    assert "19 models: min" in result.stdout
    assert "14 of 14 [0." in result.stdout
    assert "not who copied whom" in " ".join(result.stderr.split())
    quiet = whorl("verify", case.calibrated, case.stolen, "--alpha", "0.05", "--quiet")
    assert (quiet.stdout, quiet.stderr) == (result.stdout, "")


def test_the_page_is_written_where_asked(whorl, case, tmp_path):
    page = tmp_path / "new" / "page.html"
    result = whorl("verify", case.calibrated, case.stolen, "--alpha", "0.05", "--report", page)
    assert f"page: {page}" in result.stderr
    assert "derived" in page.read_text().lower()


def test_a_smaller_budget_and_a_lower_access_are_kept_to(whorl, case):
    arguments = ("verify", case.calibrated, case.stolen, "--alpha", "0.05", "--json")
    assert document(whorl(*arguments, "--budget", "10"))["queries"]["budget"] == 10
    labels = document(whorl(*arguments, "--access", "labels"))
    assert labels["decision"] == "derived"


def test_bare_weights_need_only_their_architecture(whorl, case, tmp_path):
    net, _ = read_model(case.stolen)
    save_file(net.state_dict(), tmp_path / "bare.safetensors")
    arguments = ("verify", case.calibrated, tmp_path / "bare.safetensors", "--alpha", "0.05", "--json")
    assert document(whorl(*arguments, "--architecture", "mlp(width=32)"))["decision"] == "derived"
    assert "give --architecture" in whorl(*arguments).stderr


def test_an_address_is_asked_anew_once_there_is_a_verdict_and_replayed_where_asked(whorl, case):
    net, header = read_model(case.stolen)
    with ModelServer(net, header.input_shape, labels=True) as server:
        arguments = ("verify", case.calibrated, server.url, "--set", "model=m", "--set", "output=labels", "--json")
        first, second = document(whorl(*arguments, "--alpha", "0.05")), document(whorl(*arguments, "--alpha", "0.05"))
        once, twice = ({**each, "record": None, "caveats": None} for each in (first, second))
        assert once == twice
        assert first["decision"] == "derived"
        assert first["queries"]["spent"] < case.queries
        spent = first["queries"]["spent"] + first["queries"]["probes"]
        assert sum(server.asked.values()) == 2 * spent
        again = document(whorl(*arguments, "--alpha", "0.05", "--replay"))
        assert again["queries"]["replayed"] == spent
        told = whorl(*arguments[:-1], "--alpha", "0.05", "--replay")
        assert f"replayed {spent} answers, the oldest of {again['queries']['oldest']}" in " ".join(told.stdout.split())
        assert f"{spent} of {spent} answers were replayed" in " ".join(told.stderr.split())
        assert sum(server.asked.values()) == 2 * spent


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["{calibrated}", "{stolen}", "--alpha", "2"], 2, "alpha"),
        (["{calibrated}", "{stolen}", "--budget", "0"], 2, "at least one query"),
        (["{calibrated}", "{stolen}", "--access", "label"], 2, "no such access: 'label'"),
        (["{calibrated}", "{stolen}", "--set", "output"], 2, "--set takes KEY=VALUE"),
        (["{calibrated}", "{stolen}", "--set", "nonsense=1"], 2, "nonsense"),
        (["{calibrated}", "{folder}/missing.onnx"], 2, "no such file"),
        (["{folder}/missing.fp", "{stolen}"], 2, "no such file"),
        (["{calibrated}", "numpy:zeros"], 2, "--trust-code"),
        (["{stolen}", "{stolen}"], 7, "fingerprint"),
        (["{calibrated}", "{calibrated}"], 2, "is not known to be a model"),
    ],
)
def test_a_mistake_ends_in_one_line_and_its_code(whorl, case, arguments, code, told):
    paths = {name: str(getattr(case, name)) for name in ("calibrated", "stolen", "folder")}
    result = whorl("verify", *(argument.format(**paths) for argument in arguments))
    assert result.exit_code == code
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert told in line


def test_a_page_that_cannot_be_written_does_not_cost_the_verdict(whorl, case, tmp_path, monkeypatch):
    page = tmp_path / "page.html"

    def full(self, *_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self))

    monkeypatch.setattr(Path, "write_bytes", full)
    result = whorl("verify", str(case.calibrated), str(case.stolen), "--quiet", "--report", page)
    assert result.exit_code == 1
    assert "similarity" in result.stdout
    assert result.stderr == f"error: {page} lies on a disk that is full; make room, or give another path\n"


def test_a_described_endpoint_is_asked_once_its_host_is_named(whorl, case, tmp_path, monkeypatch):
    net = read_model(case.stranger)[0]
    monkeypatch.setenv("WHORL_SHOP_KEY", "s3cret")
    with ModelServer(net, (1, 8, 8)) as server:
        text = f'kind = "http"\nurl = "{server.url}"\noutput = "logits"\nclasses = 10\n[input]\nshape = [1, 8, 8]\n'
        (tmp_path / "model.toml").write_text(text + '[http]\nmodel = "m"\nkey_env = "WHORL_SHOP_KEY"\n')
        refused = whorl("verify", case.calibrated, tmp_path, "--json")
        assert (refused.exit_code, refused.stdout, server.asked) == (2, "", {})
        told = f"--trust-host {server.url.removeprefix('http://')}"
        assert told in " ".join(refused.stderr.split())
        verdict = document(whorl("verify", case.calibrated, tmp_path, "--json", *told.split()))
        assert verdict["queries"]["spent"] + verdict["queries"]["probes"] == sum(server.asked.values())


@pytest.mark.parametrize("more", [(), ("--also", "")])
def test_an_empty_name_is_no_folder(whorl, case, more):
    """As an unset variable of the shell gives it; as a path it is the folder that one stands in."""
    told = whorl("verify", case.calibrated, case.stolen if more else "", *more)
    assert told.exit_code == 2
    what = "the value of --also" if more else f"the argument after {case.calibrated}"
    assert told.stderr == (
        f"error: {what} is empty, as a variable of the shell that is not set; give it, or leave it out\n"
    )
