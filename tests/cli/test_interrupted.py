"""What a stopped verb says: how to go on, and no secret."""

from __future__ import annotations

import shlex
import sys

import pytest

from whorl.cli.console import guarded


@pytest.mark.parametrize("typed", [("--victim-seed", "123456789"), ("--victim-seed=123456789",)])
def test_the_command_that_goes_on_holds_no_secret(capsys, monkeypatch, typed):
    @guarded
    def verb():
        raise KeyboardInterrupt

    monkeypatch.setattr(sys, "argv", ["whorl", "twins", "a b.fp", *typed, "-n", "19"])
    with pytest.raises(SystemExit):
        verb()
    said = " ".join(capsys.readouterr().err.split())
    assert "123456789" not in said
    words = shlex.split(said.partition("Go on with: ")[2])
    assert words[:3] == ["whorl", "twins", "a b.fp"]
    assert words[3].startswith("--victim-seed")
    assert words[-2:] == ["-n", "19"]
