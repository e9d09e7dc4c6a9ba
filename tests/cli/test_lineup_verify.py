"""``whorl verify`` with a lineup, against an endpoint: JSON, budget, resume, replay, page, and the log of looks."""

from __future__ import annotations

import json

import pytest
import torch
from model_server import ModelServer
from reasoned import reason_in

from whorl.nets.files import read_model

QUESTIONS = 80


@pytest.fixture(scope="module")
def lined_up(case, tmp_path_factory):
    """The case's victim among the 19 models that its calibration knows, as if they were its twins."""
    from typer.testing import CliRunner

    from whorl.cli.app import app

    path = tmp_path_factory.mktemp("lineup") / "a.fp"
    twins = [word for each in sorted(case.independents.iterdir()) for word in ("--twin", str(each))]
    made = CliRunner().invoke(
        app,
        [
            "twins",
            str(case.raw),
            "--victim",
            str(case.victim),
            *twins,
            "-o",
            str(path),
            "--questions",
            str(QUESTIONS),
            "--quiet",
        ],
    )
    assert made.exit_code == 0, made.stderr
    reason_in(path)
    return path


@pytest.fixture
def endpoint(case):
    model, header = read_model(case.stolen)
    with ModelServer(model, header.input_shape, labels=True) as server:
        yield server


@pytest.fixture
def fresh(lined_up, tmp_path):
    """A copy that nobody looked through yet."""
    for suffix in ("", ".secret"):
        (tmp_path / f"b.fp{suffix}").write_bytes(lined_up.with_name(f"a.fp{suffix}").read_bytes())
    return tmp_path / "b.fp"


def paid(server, *more):
    return (server.url, "--set", "model=m", "--set", "output=labels", "--set", "batch=8", *more)


def test_an_interrupted_lineup_goes_on_without_asking_twice_and_replays(whorl, fresh, endpoint, tmp_path):
    kept = ("--record", tmp_path / "answers.sqlite")
    cut = whorl("verify", fresh, *paid(endpoint, "--set", "budget=190"), *kept)
    assert cut.exit_code == 5, "180 probes and a few questions, and nothing more may be asked"
    before = sum(endpoint.asked.values())
    assert 180 <= before <= 190
    whole = whorl("verify", fresh, *paid(endpoint), *kept, "--json")
    assert whole.exit_code == 0, whole.stderr
    verdict = json.loads(whole.stdout)
    assert verdict["lineup"]["rank"] == 1
    assert verdict["queries"]["replayed"] >= before, "a disputed picture may be a control picture too"
    twice = sum(count - 1 for count in endpoint.asked.values())
    assert twice <= verdict["queries"]["sentinels"], "nothing twice but what shows whether the model is still the same"
    assert verdict["queries"]["spent"] <= QUESTIONS
    assert any(
        "verifications by this fingerprint before this one: 1, of this suspect: 1" in c for c in verdict["caveats"]
    )
    asked = sum(endpoint.asked.values())
    again = json.loads(whorl("verify", fresh, *paid(endpoint), *kept, "--replay", "--json").stdout)
    assert sum(endpoint.asked.values()) - asked <= again["queries"]["sentinels"]
    assert again["lineup"]["totals"] == verdict["lineup"]["totals"]
    assert any("before this one: 2" in caveat for caveat in again["caveats"])


class Exchanged(torch.nn.Module):
    """Another model after ``count`` answers."""

    def __init__(self, net, count):
        super().__init__()
        self.net, self.left = net, count

    def forward(self, inputs):
        self.left -= len(inputs)
        scores = self.net(inputs)
        return scores if self.left >= 0 else scores.roll(1, dims=1)


def test_a_model_that_is_exchanged_in_the_middle_of_the_race_is_refused(whorl, fresh, case):
    model, header = read_model(case.stolen)
    with ModelServer(Exchanged(model, 180 + 16), header.input_shape, labels=True) as server:
        told = whorl("verify", fresh, *paid(server))
        assert told.exit_code == 1
        said = " ".join(told.stderr.split())
        assert "are answered otherwise now: it is another model than the one that was asked" in said
    with ModelServer(model, header.input_shape, labels=True) as server:
        verdict = json.loads(whorl("verify", fresh, *paid(server), "--json").stdout)
        assert verdict["queries"]["sentinels"] == 8
        assert sum(count - 1 for count in server.asked.values()) == 8, "and nothing else twice"


def test_twins_that_were_begun_are_told_before_a_look_is_spent(whorl, case, tmp_path):
    alone = tmp_path / "c.fp"
    alone.write_bytes(case.calibrated.read_bytes())
    (tmp_path / "c.fp.twins").mkdir()
    for more in ((), ("--also", case.stranger)):
        told = whorl("verify", alone, case.stolen, *more)
        assert told.exit_code == 2
        assert "c.fp.twins holds twins for one" in " ".join(told.stderr.split())
    assert not (tmp_path / "c.fp.looks").exists()
    assert whorl("verify", alone, case.stolen, "--rule", "population", "--alpha", ".05").exit_code == 0


def test_a_reason_is_given_before_the_first_look(whorl, lined_up, fresh, case, tmp_path):
    assert whorl("verify", fresh, case.stolen).exit_code == 0
    copy = tmp_path / "c.fp"
    for suffix in ("", ".secret"):
        (tmp_path / f"c.fp{suffix}").write_bytes(lined_up.with_name(f"a.fp{suffix}").read_bytes())
    for each in (fresh, copy):
        told = whorl("twins", each, "--reason", "accuracy=it is the best that I have")
        assert told.exit_code == 2
        assert "a reason is given before the first look" in " ".join(told.stderr.split())


def test_a_budget_ends_the_lineup_and_the_page_draws_it(whorl, fresh, endpoint, tmp_path):
    page = tmp_path / "page.html"
    told = whorl("verify", fresh, *paid(endpoint), "--budget", "5", "--json", "--report", page, "--pictures")
    assert told.exit_code == 0, told.stderr
    verdict = json.loads(told.stdout)
    assert verdict["queries"]["spent"] == verdict["queries"]["budget"] == 5
    assert verdict["queries"]["size"] == QUESTIONS
    text = page.read_text()
    assert "The lineup</h2>" in text
    assert "<img" in text, "the first questions"
    document = tmp_path / "verdict.json"
    document.write_text(told.stdout)
    assert whorl("report", document, "-o", tmp_path / "kept.html").exit_code == 0
    assert "The lineup</h2>" in (tmp_path / "kept.html").read_text()


def test_a_sealed_lineup_says_so_and_has_its_page(whorl, fresh, case, tmp_path):
    (tmp_path / "b.fp.secret").unlink()
    told = whorl("verify", fresh, case.stolen, "--report", tmp_path / "page.html")
    assert "sealed; of 20 candidates candidate" in " ".join(told.stdout.split())
    assert "The lineup is sealed" in (tmp_path / "page.html").read_text()
