"""The last part of the demo on a suite of seconds: the same models as a null and as twins."""

from __future__ import annotations

from whorl.cli.demo import SUITE, THIEF, _lined_up
from whorl.removals import REMOVALS
from whorl.suites.rows import models
from whorl.suites.suite import SUITES, Suite

SETTINGS = "digits(size=8), epochs=4, batch=50, learning_rate=0.2"


def small():
    return Suite(
        name="tests/demo",
        about="perceptrons on digits",
        data="digits(size=8)",
        victims=models("mlp(width=16)", SETTINGS, [10]),
        derived=(),
        independents={"other": models("mlp(width=24)", SETTINGS, [20])},
        null=models("mlp(width=16)", SETTINGS, range(1000, 1005)),
        schemes={"random": "random"},
        alpha=0.2,
    )


def test_one_copy_is_judged_by_the_schemes_and_by_a_lineup_at_one_alpha(tmp_path, capsys):
    verdict = _lined_up(small(), "fine_tune(all, epochs=1)", tmp_path, 1, quiet=False)
    # Among six, each figure of a victim stands outside of its twins in a third of all lineups: no decision is awaited.
    assert verdict.lineup["rank"] == 1
    assert (verdict.alpha, verdict.null["size"], verdict.lineup["strangers"]["asked"]) == (0.2, 5, 1)
    said = capsys.readouterr()
    assert "of 1 schemes call it derived at alpha 0.2" in said.out
    assert f"{verdict.decision.upper()}, the victim is 1st of 6" in said.out
    assert "the victim's seed is small or common" in " ".join(said.err.split()), "the demo hides no caveat"


def test_the_suite_of_the_demo_has_twins_of_its_victim():
    suite = SUITES[SUITE]()
    REMOVALS.bind(THIEF)
    (victim,) = suite.victims
    assert [victim.with_seed(1000 + each) for each in range(99)] == list(suite.null)
