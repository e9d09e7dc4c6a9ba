"""Numbers of things, as people read them."""

from __future__ import annotations

from whorl.printable import counted


def test_one_is_singular():
    assert [counted(number, "net") for number in (0, 1, 2, 3000)] == ["0 nets", "1 net", "2 nets", "3,000 nets"]
    assert counted(1, "query", "queries") == "1 query"
    assert counted(2, "query", "queries") == "2 queries"
