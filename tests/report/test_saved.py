"""Pages of verdicts that were kept as JSON."""

from __future__ import annotations

import contextlib
import dataclasses
import json

import pytest
from synthetic_results import make_fingerprint, make_verdict

from whorl.errors import InvalidFile
from whorl.report.saved import read_verdict, verdict_in


@pytest.fixture
def document():
    return json.loads(json.dumps(dataclasses.asdict(make_verdict(make_fingerprint(), 1.0))))


def test_a_kept_verdict_gives_the_page_that_it_had(tmp_path, document):
    path = tmp_path / "verdict.json"
    path.write_text(json.dumps(document))
    assert verdict_in(path)
    page = read_verdict(path)
    assert "Derived" in page
    assert all(model["name"] in page for model in document["null"]["models"]), "every model of the null is named"
    assert "<b>D</b>: the null was chosen by whoever made this fingerprint" in page
    assert "<img" not in page, "queries are secret"


def test_a_weak_verdict_does_not_look_like_a_strong_one(tmp_path):
    weak = make_verdict(make_fingerprint(independents=5), 1.0, alpha=0.17)
    assert weak.decision == "derived"
    path = tmp_path / "verdict.json"
    path.write_text(json.dumps(dataclasses.asdict(weak)))
    assert "Weak: at this error rate 6 innocent models" in read_verdict(path)


@pytest.mark.parametrize("part", ["null", "queries", "p_value", "caveats", "likeness", "power", "record"])
@pytest.mark.parametrize("value", [None, 3, "<b>", [], {"size": -1}, {"a": {"b": 1}}])
def test_what_is_wrong_in_a_verdict_is_one_line_or_plain_text(tmp_path, document, part, value):
    path = tmp_path / "verdict.json"
    path.write_text(json.dumps({**document, part: value}))
    page = ""
    with contextlib.suppress(InvalidFile):
        page = read_verdict(path)
    assert "<b></" not in page, "text stays text, and what has no page is one clear line"
