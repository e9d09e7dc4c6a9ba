"""``whorl twins --by`` and the verdict that it leads to."""

from __future__ import annotations

import json


def test_typed_as_a_person_types_it(case, whorl, tmp_path):
    twins = [word for each in sorted(case.independents.iterdir())[:4] for word in ("--twin", str(each))]
    common = ("twins", case.raw, "--victim", case.victim, *twins, "--alpha", ".2", "--questions", "100")
    refused = whorl(*common, "--by", "fbi", "-o", tmp_path / "a.fp")
    assert (refused.exit_code, (tmp_path / "a.fp").exists()) == (2, False)
    assert "fbi learns from shadow models" in " ".join(refused.stderr.split())
    told = whorl(*common, "--by", "ipguard(margin=7)", "-o", tmp_path / "a.fp")
    assert told.exit_code == 0, told.stderr
    assert "4 twins, 100 questions by ipguard(" in " ".join(told.stdout.split())
    page = tmp_path / "page.html"
    shown = whorl("verify", tmp_path / "a.fp", case.stolen, "--report", page, "--pictures")
    assert "(similarity by ipguard)" in " ".join(shown.stdout.split())
    text = " ".join(page.read_text().split())
    assert "asked the queries of a fingerprint of each, made by one scheme" in text
    assert "similarity by <span" in text
    verdict = json.loads(whorl("verify", tmp_path / "a.fp", case.stolen, "--json").stdout)
    assert verdict["lineup"]["terms"]["by"].startswith("ipguard(")
    assert verdict["queries"]["spent"] == 100
