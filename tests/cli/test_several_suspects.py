"""``whorl verify`` with several suspects, or with both rules: one error rate, fixed before anybody is asked."""

from __future__ import annotations

import json
import shutil

import pytest
from model_server import ModelServer
from reasoned import reason_in

import whorl
from whorl.fingerprints.encounters import other_lineups
from whorl.nets.files import read_model
from whorl.schemes.opening import read_fingerprint


@pytest.fixture(scope="module")
def lined_up(case, tmp_path_factory):
    """The case's calibrated fingerprint with a lineup of 19 at alpha .25, which leaves room for five tests."""
    from typer.testing import CliRunner

    from whorl.cli.app import app

    path = tmp_path_factory.mktemp("several") / "a.fp"
    twins = [word for each in sorted(case.independents.iterdir()) for word in ("--twin", str(each))]
    terms = ("--questions", "80", "--alpha", ".25", "--quiet")
    made = CliRunner().invoke(
        app, ["twins", str(case.calibrated), "--victim", str(case.victim), *twins, "-o", str(path), *terms]
    )
    assert made.exit_code == 0, made.stderr
    reason_in(path)
    return path


@pytest.fixture
def fresh(lined_up, tmp_path):
    """A copy that nobody looked through yet."""
    for suffix in ("", ".secret"):
        shutil.copy(f"{lined_up}{suffix}", tmp_path / f"b.fp{suffix}")
    return tmp_path / "b.fp"


def test_three_suspects_share_alpha_and_the_worst_decides(whorl, fresh, case, tmp_path):
    folder = tmp_path / "suspects"
    folder.mkdir()
    for each in (case.stolen, case.stranger):
        shutil.copy(each, folder)
    (folder / "notes.txt").write_text("no model")
    page = tmp_path / "page.html"
    told = whorl("verify", fresh, folder, "--also", case.independents / "10.safetensors", "--json", "--report", page)
    joined = json.loads(told.stdout)
    assert joined["over"] == "suspects"
    assert (joined["decision"], joined["alpha"]) == ("derived", 0.25)
    by = {verdict["suspect"].rpartition("/")[2]: verdict for verdict in joined["verdicts"]}
    assert by.keys() == {"stolen.safetensors", "stranger.safetensors"}
    assert [verdict["alpha"] for verdict in joined["verdicts"]] == [0.25 / 3] * 2
    assert by["stolen.safetensors"]["decision"] == "derived"
    for verdict in by.values():
        assert (verdict["decision"] == "derived") == (verdict["lineup"]["rank"] / 20 <= 0.25 / 3)
    assert joined["p_value"] == pytest.approx(3 / 20), "times the number of suspects"
    ((refused, reason),) = joined["refused"].items()
    assert refused.endswith("10.safetensors"), "who is a twin counts as a suspect and is not judged"
    assert "is a twin of this lineup" in reason
    assert list(joined["skipped"]) == [str(folder / "notes.txt")]
    assert "3 suspects share alpha" in joined["caveats"][0]
    assert not any("verifications by this fingerprint before" in caveat for caveat in joined["caveats"])
    text = page.read_text()
    assert "3 suspects before one fingerprint" in text
    assert "1 of 20" in text
    kept = tmp_path / "kept.json"
    kept.write_text(told.stdout)
    assert whorl("report", kept, "-o", tmp_path / "again.html").exit_code == 0
    assert (tmp_path / "again.html").read_text() == text
    later = whorl("verify", fresh, folder, "--fail-on", "derived")
    assert later.exit_code == 3
    assert "verifications by this fingerprint before this one: 3" in " ".join(later.stderr.split())
    assert "1 of 20" in later.stdout


def test_what_can_show_nothing_is_said_before_anybody_is_asked(whorl, fresh, case):
    model, header = read_model(case.stolen)
    with ModelServer(model, header.input_shape, labels=True) as server:
        also = [word for port in range(5) for word in ("--also", f"http://127.0.0.1:{port + 1}/")]
        served = ("--set", "model=m", "--set", "output=labels")
        told = whorl("verify", fresh, server.url, *also, *served)
        assert told.exit_code == 2
        assert "with 19 twins nothing can be called derived at 0.04167: at least 23 are" in " ".join(
            told.stderr.split()
        )
        assert not server.asked


def test_several_suspects_before_a_null(whorl, case):
    told = whorl("verify", case.calibrated, case.stolen, "--also", case.stranger, "--alpha", ".1", "--json")
    joined = json.loads(told.stdout)
    assert [verdict["decision"] for verdict in joined["verdicts"]] == ["derived", "unrelated"]
    assert joined["adjusted"][0] == pytest.approx(2 * joined["verdicts"][0]["p_value"])
    told = whorl("verify", case.calibrated, case.stolen, "--also", case.stranger, "--alpha", ".05")
    assert "with 19 models in the null nothing can be called derived at 0.025: at least 39" in " ".join(
        told.stderr.split()
    )


def test_both_rules_count_at_half_of_alpha_each(whorl, fresh, case, tmp_path):
    page = tmp_path / "page.html"
    told = whorl("verify", fresh, case.stolen, "--rule", "both", "--json", "--report", page)
    assert told.exit_code == 0, told.stderr
    joined = json.loads(told.stdout)
    assert (joined["over"], joined["decision"], joined["alpha"]) == ("rules", "derived", 0.25)
    lineup, population = joined["verdicts"]
    assert (lineup["alpha"], population["alpha"]) == (0.125, 0.125)
    assert lineup["lineup"]["rank"] == 1
    assert population["scheme"].startswith("ipguard")
    assert "asked by two rules" in page.read_text()
    assert "half of alpha, 0.125" in joined["caveats"][0]
    shown = whorl("verify", fresh, case.stranger, "--rule", "both")
    assert "lineup" in shown.stdout
    assert "ipguard" in shown.stdout


def test_the_lineup_alone_decides_where_nobody_asks_for_both(whorl, fresh, case):
    verdict = json.loads(whorl("verify", fresh, case.stolen, "--json").stdout)
    assert verdict["lineup"]["candidates"] == 20
    assert verdict["alpha"] == 0.25


def test_a_lineup_made_anew_against_the_same_suspect_is_told(whorl, fresh, lined_up, case, tmp_path):
    assert whorl("verify", fresh, case.stolen).exit_code == 0
    twins = [word for each in sorted(case.independents.iterdir())[:9] for word in ("--twin", str(each))]
    terms = ("--questions", "40", "--alpha", ".25")
    other = tmp_path / "c.fp"
    made = whorl("twins", case.raw, "--victim", case.victim, *twins, "-o", other, *terms)
    assert made.exit_code == 0, made.stderr
    told = whorl("verify", other, case.stolen)
    assert "other lineups of this victim before which this suspect stood: 1;" in " ".join(told.stderr.split())
    assert "other lineups" not in whorl("verify", other, case.stranger).stderr, "that one stood before none"
    assert "stood: 1;" in " ".join(whorl("verify", other, case.stolen).stderr.split()), "its own does not count"
    assert other_lineups(tmp_path / "nowhere", read_fingerprint(other), "digest") == 0


def test_a_memory_that_cannot_be_read_is_one_line(whorl, fresh, case, tmp_path):
    assert whorl("verify", fresh, case.stolen).exit_code == 0
    (path,) = (tmp_path / "cache" / "lineups").iterdir()
    path.write_text("{}")
    told = whorl("verify", fresh, case.stolen)
    assert told.exit_code == 7
    assert "move it away to begin another" in " ".join(told.stderr.split())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("calibrated", "calibrated", "stolen", "--also", "stranger"), "against one fingerprint"),
        (("calibrated", "stolen", "--also", "stranger", "--record", "answers"), "--record"),
        (("calibrated", "stolen", "--also", "stranger", "--group", "a"), "--group"),
        (("calibrated", "stolen", "--also", "stranger", "--rule", "both"), "one rule decides"),
        (("calibrated", "stolen", "--rule", "both", "--budget", "3"), "--budget"),
        (("calibrated", "stolen", "--rule", "both"), "holds no lineup"),
        (("calibrated", "stolen", "--rule", "both", "--match-labels"), "can't match labels"),
        (("calibrated", "stolen", "--match-labels"), "labels are matched in a lineup"),
        (("calibrated", "raw", "stolen", "--match-labels"), "held alone"),
    ],
)
def test_refusals(whorl, case, arguments, says):
    result = whorl("verify", *(getattr(case, each, each) for each in arguments))
    assert result.exit_code == 2
    assert says in " ".join(result.stderr.split())


def test_a_suspect_that_does_not_open_is_listed_and_counts(whorl, fresh, case, tmp_path):
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"none")
    told = whorl("verify", fresh, case.stolen, "--also", broken, "--also", tmp_path / "nowhere.onnx", "--json")
    joined = json.loads(told.stdout)
    assert [verdict["decision"] for verdict in joined["verdicts"]] == ["derived"]
    assert joined["verdicts"][0]["alpha"] == pytest.approx(0.25 / 3), "whoever was named counts"
    assert joined["refused"].keys() == {str(broken), str(tmp_path / "nowhere.onnx")}
    assert "no such file" in joined["refused"][str(tmp_path / "nowhere.onnx")]
    none = whorl("verify", fresh, broken, "--also", tmp_path / "nowhere.onnx")
    assert none.exit_code == 2, "and where none opens, that is an error"


def test_a_suspect_that_is_no_model_is_listed_and_costs_no_other_its_verdict(fresh, case, tmp_path):
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"none")
    joined = whorl.verify_suspects(fresh, {"stolen": case.stolen, "broken": broken}, cache=tmp_path)
    assert [verdict.decision for verdict in joined.verdicts] == ["derived"]
    assert list(joined.refused) == ["broken"]
    assert joined.verdicts[0].alpha == 0.25 / 2, "it counts"
