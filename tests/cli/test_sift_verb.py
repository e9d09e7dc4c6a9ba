"""``whorl sift``, as it is typed."""

from __future__ import annotations

import json

DIGITS = ("--data", "digits(size=8)")


def test_pictures_and_their_classes_are_told(whorl, case):
    done = whorl("sift", case.victim, *DIGITS, "--statistic", "spectral", "--json", "-q")
    assert done.exit_code == 0, done.stderr
    told = json.loads(done.stdout)
    assert len(told["named"]) == sum(each["named"] for each in told["classes"]) > 0
    assert sum(each["pictures"] for each in told["classes"]) == told["pictures"] == len(told["values"])
    assert told["rate_of_clean"] is None
    assert any("no net" in each for each in told["caveats"])
    shown = whorl("sift", case.victim, *DIGITS, "--statistic", "spectral")
    assert f"{len(told['named'])} of {told['pictures']} pictures named; the rule states no error rate" in shown.stdout
    assert "judges no net" in shown.stderr


def test_ranks_say_their_rate(whorl, case):
    ranks = ("--statistic", "layer_ranks", "--clean", "digits(size=8)")
    shown = whorl("sift", case.victim, *DIGITS, "--part", "attacker", *ranks, "-q")
    assert shown.exit_code == 0, shown.stderr
    assert "of clean pictures 5% would be named" in shown.stdout
    assert shown.stderr == ""


def test_mistakes_end_in_one_line(whorl, case):
    for typed, says in (
        (("--statistic", "layer_ranks"), "--clean"),
        (("--clean", "digits(size=8)"), "leave them out"),
        (("--statistic", "spectra"), "Did you mean spectral"),
        (("--statistic", "neural_cleanse"), "neural_cleanse judges nets and no pictures: type whorl inspect"),
        (("--part", "victims"), "no such part"),
    ):
        done = whorl("sift", case.victim, *DIGITS, *typed)
        assert done.exit_code == 2, done.output
        assert says in done.stderr
        assert done.stderr.count("\n") == 1, done.stderr


def test_the_list_says_what_each_judges(whorl):
    judges = {each["name"]: each["judges"] for each in json.loads(whorl("inspections", "--json").stdout)}
    assert judges["spectral"] == judges["layer_ranks"] == judges["activation_clusters"] == "pictures"
    assert judges["neuron_noise"] == "nets"
