"""Grades: one for each origin of a null, and the sentence that each verdict begins with."""

from __future__ import annotations

import json
from typing import get_args

from pydantic import TypeAdapter

from whorl.grades import Grade, Origin
from whorl.storage import canonical_json
from whorl.types import Null


def test_every_origin_has_its_grade():
    assert {origin: Grade.of(origin) for origin in get_args(Origin)} == {"owner": "D", "judge": "C", "design": "B"}
    assert Null("", (), ()).grade is Grade.D


def test_only_the_owners_word_has_to_be_believed():
    told = {grade: grade.caveat("nobody cheated") for grade in Grade}
    assert [grade for grade, caveat in told.items() if "on their word that nobody cheated" in caveat] == ["D"]
    assert all(told[grade].endswith(f"(grade {grade})") for grade in Grade)
    assert len({grade.sentence for grade in Grade}) == 4


def test_a_grade_is_its_letter_in_json():
    assert json.dumps({"grade": Grade.D}) == '{"grade": "D"}'
    assert canonical_json({"grade": Grade.A}) == b'{"grade":"A"}'
    assert TypeAdapter(Grade).validate_json('"C"') is Grade.C
