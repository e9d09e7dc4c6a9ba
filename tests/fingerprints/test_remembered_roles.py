"""Who stood as victim and who as twin, in which lineup."""

from __future__ import annotations

from whorl.fingerprints.roles import take_roles, turned

ONE, TWO, THREE = (letter * 64 for letter in "abc")


def test_a_net_in_another_role_is_remembered_by_both_lineups(tmp_path):
    assert take_roles(tmp_path, ONE, ["v"], ["x", "y"]) == 0
    assert take_roles(tmp_path, TWO, ["v"], ["x", "z"]) == 0, "the same victim with other twins has no other role"
    assert [turned(tmp_path, each) for each in (ONE, TWO)] == [0, 0]
    assert take_roles(tmp_path, THREE, ["y"], ["z", "w"]) == 1, "y was a twin of the first, and z stays a twin"
    assert [turned(tmp_path, each) for each in (ONE, TWO, THREE)] == [1, 0, 1]


def test_a_victim_that_becomes_a_twin_has_turned_too(tmp_path):
    take_roles(tmp_path, ONE, ["v"], ["x"])
    assert take_roles(tmp_path, TWO, ["u"], ["v"]) == 1
    assert turned(tmp_path, ONE) == turned(tmp_path, TWO) == 1
    assert turned(tmp_path / "elsewhere", ONE) == 0
