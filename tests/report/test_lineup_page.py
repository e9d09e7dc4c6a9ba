"""The page of a lineup: everything that its verdict knows is on it, and a hostile file is one clear line."""

from __future__ import annotations

import dataclasses
import json
import re

import numpy as np
import pytest
from synthetic_results import make_fingerprint
from test_pages import HOSTILE, sound

from whorl.detection.lineup import Race, Showing
from whorl.detection.lineup_verdict import lineup_verdict
from whorl.errors import InvalidFile, UsageError
from whorl.fingerprints.terms import Terms
from whorl.report.pages import verdict_page
from whorl.report.saved import read_verdict

COUNT = 20


def made(*, place: int | None = 7, best=7, margin: float | None = 8.0, statistic="mixture", recipe="python train.py"):
    """The verdict on a suspect that candidate ``best`` resembles most."""
    generator = np.random.default_rng(3)
    scores = generator.normal(0, 0.3, (COUNT, 200))
    scores[best] += 0.2
    race = Race(COUNT, margin)
    race.update(scores)
    figures = {
        "accuracy": tuple(np.round(generator.uniform(0.9, 0.92, COUNT), 4).tolist()),
        "loss": tuple(np.round(generator.uniform(0.2, 0.3, COUNT), 4).tolist()),
    }
    figures["loss"] = (*figures["loss"][:7], 0.25, *figures["loss"][8:])
    figures["accuracy"] = (*figures["accuracy"][:7], 0.91, *figures["accuracy"][8:])
    terms = Terms(
        seeds="secret", margin=margin, figures=figures, strangers={"public": 3}, copies={"tune": (20, 20)},
        hypothesis="made without the last stage", reasons={"loss": "measured twice"},
    )  # fmt: skip
    path = () if statistic == "residual" else race.path
    showing = Showing(statistic, race.totals, race.asked, 200, 1000, race.won, path, 200)
    return lineup_verdict(showing, place, terms, recipe=recipe, fingerprint="9f86", suspect="suspect.onnx")


def document(verdict):
    return json.loads(json.dumps(dataclasses.asdict(verdict)))


def read(tmp_path, found):
    path = tmp_path / "verdict.json"
    path.write_text(json.dumps(found))
    return read_verdict(path)


def shown(verdict):
    return " ".join("".join(sound(verdict_page(verdict)).text).split())


def test_the_page_says_all_that_the_verdict_knows_of_its_lineup():
    verdict = made()
    assert verdict.decision == "derived"
    text = shown(verdict)
    for told in (
        "Your model is 1st of 20",
        "p = 1/20",
        "19 twins of the victim",
        "0.05 (cannot be below 0.05)",
        "Any suspect that was made without your model",
        "What is tested is narrower: made without the last stage",
        "0 of 1 known stranger name your model",
        "python train.py",
        "Lead that ends the race8",
        "Questions, and their order1,000",
    ):
        assert told in text, told
    assert "measured twice" not in text.partition("The lineup")[0], "it stands outside of nothing"
    page = sound(verdict_page(verdict))
    values = verdict.lineup["figures"]["accuracy"]
    place = sum(value < values[7] for value in values) + 1
    assert page.row("accuracy")[1] == f"{values[7]:.4g}"
    assert page.row("accuracy")[2].startswith(f"{place}")
    assert page.row("tune")[1:3] == ["20 of 20", "1.00"]


def test_every_candidate_is_a_mark_and_the_race_ends_where_it_ended():
    html = verdict_page(made())
    lineup, race = re.findall(r"<svg.*?</svg>", html, re.DOTALL)[1:3]
    assert lineup.count("<circle") == COUNT
    assert lineup.count("<title>your model: ") == 1
    assert lineup.count("<title>twin ") == COUNT - 1
    assert race.count("<polyline") == COUNT
    assert "The lead that ends the race, 8, was reached." in race
    assert "Nobody led by the margin" in verdict_page(made(margin=90.0))
    assert "standard deviations" in verdict_page(made(margin=90.0))
    assert "The race</h3>" not in verdict_page(made(statistic="residual", margin=None))


def test_a_sealed_lineup_names_no_victim():
    text = shown(made(place=None))
    assert "The lineup is sealed" in text
    assert "Candidate 8 leads" in text
    assert "your model:" not in verdict_page(made(place=None))
    assert "Several candidates lead alike" in shown(
        dataclasses.replace(made(place=None), lineup={**made(place=None).lineup, "leader": None})
    )


def test_a_twin_that_leads_is_named():
    verdict = made(best=3)
    assert "twin 4 leads" in shown(verdict)
    assert verdict.lineup["rank"] > 1


def test_a_kept_verdict_gives_its_page_again_with_or_without_what_later_versions_say(tmp_path):
    found = document(made())
    assert read(tmp_path, found) == verdict_page(made())
    assert "Your model is" in read(tmp_path, {**found, "lineup": {**found["lineup"], "new": 1}})
    without = {name: value for name, value in found["lineup"].items() if name != "terms"}
    assert "Your model is" in read(tmp_path, {**found, "lineup": without})
    older = {name: value for name, value in found.items() if name != "lineup"}
    assert "The suspect against the null" in read(tmp_path, older)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"totals": [1.0] * 19}, "another number"),
        ({"totals": [float("nan")] * 20}, "NaN is not a JSON number"),
        ({"totals": [0.0] * 10_001, "candidates": 10_001}, "10000"),
        ({"race": [{"asked": 1, "totals": [0.0] * 21}]}, "another number"),
        ({"race": [{"asked": 1, "totals": [0.0] * 20}] * 1001}, "1000"),
        ({"figures": {"accuracy": [1.0] * 19}}, "another number"),
        ({"totals": [1e308, -1e308] * 10}, "1000000000"),
        ({"place": 20}, "beyond them"),
        ({"leader": 20}, "beyond them"),
        ({"place": -1}, "greater than or equal to 0"),
        ({"rank": 5}, "not the one that the totals give"),
        ({"rank": None}, "a place and a rank"),
        ({"strangers": {"asked": 1, "named_the_victim": 2}}, "more strangers"),
        ({"statistic": "<b>"}, "mixture"),
        ({"recipe": "x" * 5000}, "4096"),
        ({"terms": {"seeds": "<b>"}}, "Field required"),
        ({"exact": "<b>"}, "boolean"),
    ],
)
def test_a_hostile_lineup_is_one_clear_line(tmp_path, change, told):
    found = document(made())
    with pytest.raises(InvalidFile) as caught:
        read(tmp_path, {**found, "lineup": {**found["lineup"], **change}})
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_hostile_words_stay_text_and_huge_lineups_small(tmp_path):
    page = sound(verdict_page(made(recipe=HOSTILE)))
    assert "<script>alert(1)</script>" in "".join(page.text)
    large = {**made().lineup, "candidates": 10_000, "totals": [0.001 * each for each in range(10_000)]}
    large |= {"rank": 9_993, "leader": 9_999, "figures": {}, "race": [], "outermost": {}}
    sound(verdict_page(dataclasses.replace(made(), lineup=large)))
    equal = {**made().lineup, "totals": [1e9] * COUNT, "rank": COUNT, "race": [], "leader": None}
    sound(verdict_page(dataclasses.replace(made(), lineup=equal)))


def test_a_fingerprint_of_another_lineup_is_refused():
    with pytest.raises(UsageError, match="holds another lineup"):
        verdict_page(made(), fingerprint=make_fingerprint())
