"""Every deliberate error is one line that steers nothing, whatever it quotes."""

from __future__ import annotations

import pickle

import pytest

from whorl.errors import InvalidFile, MissingExtra, OracleError, UsageError, WhorlError

HOSTILE = "a\x1b[2J\x1b]0;t\x07\r\nDERIVED\u2028b\u202ec\u2066d\ud800e\x00f\tg"


@pytest.mark.parametrize("kind", [WhorlError, UsageError, InvalidFile, OracleError])
def test_a_message_is_one_printable_line(kind):
    error = kind(f"no such file: {HOSTILE}")
    assert str(error).isprintable()
    assert "\n" not in str(error)
    assert "DERIVED" in str(error)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)  # noqa: S301 our own bytes


def test_a_message_is_bounded_and_keeps_both_ends():
    told = str(UsageError("budget is " + "9" * 10**6 + "; give a number"))
    assert len(told) <= 2000
    assert told.startswith("budget is 9")
    assert told.endswith("; give a number")


def test_what_is_printable_stays_as_it_is():
    assert str(UsageError("Größe,  模型 ⟨here⟩")) == "Größe,  模型 ⟨here⟩"
    assert str(MissingExtra("x", "http")).startswith("x needs an optional dependency")
    assert str(WhorlError()) == ""
