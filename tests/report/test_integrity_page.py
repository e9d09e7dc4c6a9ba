"""The page of an integrity check, from the answer and from its JSON."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from test_pages import HOSTILE, sound
from typer.testing import CliRunner

from whorl.cli.app import app
from whorl.detection.integrity import Counted, integrity, upper_bound
from whorl.errors import InvalidFile
from whorl.report.integrity import integrity_page
from whorl.report.saved import read_verdict, verdict_in


def answered(changed, drawn=200, **settings):
    return integrity(
        Counted(0, 30),
        Counted(changed, drawn),
        alpha=0.05,
        distribution="test(digits(size=8))",
        counted="another first label",
        scheme="sensitive-samples()",
        fingerprint="f" * 64,
        suspect=settings.pop("suspect", "served.onnx"),
        record={"date": "2026-01-01", "suspect": "a" * 64, "versions": {"whorl": "0.1.0"}},
        **settings,
    )


def words(answer):
    return " ".join("".join(sound(integrity_page(answer)).text).split())


def test_the_page_says_what_changed_and_what_that_bounds():
    page = words(answered(3))
    assert "Changed" in page
    assert "3 of 230" in page
    assert f"{100 * upper_bound(Counted(3, 200), 0.05):.2f}%" in page
    same = words(answered(0))
    assert "No change shown" in same
    assert f"{100 * (1 - 0.05 ** (1 / 200)):.2f}%" in same
    assert "never show that a model is unchanged" in same
    assert "nothing bounds how often" in words(answered(0, drawn=0))


def test_what_others_wrote_runs_nothing():
    hostile = replace(answered(1, suspect=HOSTILE), scheme=HOSTILE, counted=HOSTILE, caveats=(HOSTILE,))
    sound(integrity_page(hostile))


def test_a_kept_answer_gives_the_same_page(tmp_path):
    path = tmp_path / "answer.json"
    path.write_text(json.dumps(asdict(answered(2))))
    assert verdict_in(path)
    assert read_verdict(path) == integrity_page(answered(2))
    done = CliRunner().invoke(app, ["report", str(path), "-o", str(tmp_path / "page.html")])
    assert done.exit_code == 0, done.output
    assert Path(tmp_path / "page.html").read_text() == integrity_page(answered(2))
    path.write_text(json.dumps({name: value for name, value in asdict(answered(2)).items() if name != "upper"}))
    with pytest.raises(InvalidFile, match="upper"):
        read_verdict(path)
