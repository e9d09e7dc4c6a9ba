"""What is refused before it costs a judge, or whoever measures guards, a machine without end."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from disputes import DATA
from typer.testing import CliRunner

from whorl.claims.audit import check_victim, made_again
from whorl.claims.cost import MOST_WORK, check_cost, work_of
from whorl.claims.making import make_claim
from whorl.claims.opening import OpenedClaim
from whorl.cli.app import app
from whorl.errors import UsageError
from whorl.guards.table import GuardSettings
from whorl.schemes import SCHEMES


def whorl(*given):
    found = CliRunner().invoke(app, [str(each) for each in given], env={"COLUMNS": "200"})
    return found.exit_code, found.stderr


def test_what_a_scheme_does_by_default_is_its_unit():
    assert {name: work_of(name, 1000) for name in SCHEMES} == dict.fromkeys(SCHEMES, 1.0)
    assert work_of("ipguard(iterations=50000)", 200) == 50
    assert work_of("ipguard(iterations=50000)", 4000) == 200
    assert work_of("cw-l2(searches=90, iterations=10000)", 10) == 9 * 10
    assert work_of("ipguard(patience=9)", 10) == 1


def test_a_claim_that_asks_for_endless_steps_is_neither_made_nor_run(case, tmp_path):
    dear = f"ipguard(iterations={1000 * MOST_WORK + 1})"
    check_cost("ipguard", f"ipguard(iterations={1000 * MOST_WORK})", 200)
    made = {"path": tmp_path / "c", "folder": tmp_path / "s", "size": 20, "opened": 10, "alpha": 0.2}
    with pytest.raises(UsageError, match="times the work of its scheme's defaults"):
        make_claim(case.victim, data=DATA, schemes=["akh", "igsm", dear], key=case.key, **made)
    assert not list(tmp_path.iterdir())
    # Another program signs such a claim: the judge's machine is asked for nothing.
    body = case.claim.body
    families = {name: each.model_copy(update={"scheme": dear}) for name, each in body.families.items()}
    claim = replace(case.claim, body=body.model_copy(update={"families": families}))
    parts = dict.fromkeys(families)
    opened = OpenedClaim(claim, None, None, parts)
    for ask in (check_victim, made_again):
        with pytest.raises(UsageError, match=f"a judge does {MOST_WORK} times"):
            ask(opened, case.victim)


def test_a_draw_is_for_a_claim_and_for_no_other_file(case, tmp_path):
    draw = ["claim", "draw", tmp_path / "d", "--as", "judge", "--nonce", tmp_path / "n", "--suspect", tmp_path / "s.pt"]
    other = tmp_path / "other"
    for content, told in (
        (b"any file", "is no claim"),
        (json.dumps({"payload": "e30=", "payloadType": "application/vnd.in-toto+json"}).encode(), "is no claim"),
        (b"x" * (2 << 20), "at most"),
    ):
        other.write_bytes(content)
        code, error = whorl(*draw, "--claim", other)
        assert (code, told in error, len(error.splitlines())) == (7, True, 1), error
    assert whorl(*draw, "--claim", tmp_path / "none")[0] == 2
    assert not (tmp_path / "d").exists()
    assert not (tmp_path / "n").exists()
    (tmp_path / "real").write_bytes(case.claim.data)
    code, error = whorl(*draw, "--claim", tmp_path / "real")
    assert "s.pt" in error, error  # the claim is one; the suspect is not there


def test_suspects_are_counted_from_one():
    code, error = whorl("claim", "check", "c", "o", "s", "--owner-key", "k", "--suspects", "0")
    assert (code, len(error.splitlines()), "--suspects is 0" in error) == (2, 1, True)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"length": 10**9}, "1 to 10,000 questions each"),
        ({"length": 0}, "1 to 10,000 questions each"),
        ({"clients": 10**9}, "1,000 clients at most"),
        ({"clients": 1000, "length": 10_000}, "more than 1,000,000 in all"),
    ],
)
def test_a_table_of_guards_without_end_is_refused(given, message):
    with pytest.raises(UsageError, match=message):
        GuardSettings("digits", **given)


def test_guard_says_so_in_one_line():
    code, error = whorl("guard", "none.safetensors", "--data", "digits", "--length", 10**9)
    assert (code, len(error.splitlines()), "10,000 questions" in error) == (2, 1, True)
