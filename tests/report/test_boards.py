"""Boards: results of one test side by side."""

from __future__ import annotations

from synthetic_boards import ROWS, board_result

from whorl.report.boards import boards_of, leaders


def test_leaders_of_one_are_itself():
    (board,) = boards_of({"a.json": board_result(schemes=("akh",))})
    assert [entry.name for entry in leaders(board.entries)] == ["akh"]
    assert set(board.families) == set(ROWS.values())
