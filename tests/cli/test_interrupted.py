"""What a stopped verb says: how to go on, and no secret. Whenever Ctrl-C comes, nobody sees a traceback."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys

import pytest

from whorl.cli.console import guarded

PATIENCE = 120  # seconds for a process on a busy machine
INTERRUPT = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a test run in the background of a shell ignores it
sys.argv = ["whorl", "--version"]
"""
EARLY = """
class Finder:
    def find_spec(self, name, *rest):
        if name == "whorl.cli.app":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Finder())
from whorl.__main__ import main

main()
"""
LATE = """
import atexit
from whorl.__main__ import main

class Last:
    def __del__(self, kill=os.kill, me=os.getpid()):
        kill(me, signal.SIGINT)

last = Last()  # goes when modules do, which is after all handlers of signals
atexit.register(os.kill, os.getpid(), signal.SIGINT)
main()
"""
WITHIN = """
from whorl.cli.app import app, main
from whorl.cli.console import guarded

@app.command("interrupted")
@guarded
def verb():
    exec("raise KeyboardInterrupt")  # as where a dataclass is made

sys.argv = ["whorl", "interrupted"]
main()
"""


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


@pytest.mark.parametrize(
    ("moment", "code", "said"),
    [
        (EARLY, 130, ""),  # while the command is imported
        (WITHIN, 130, "stopped; what is finished is kept. Go on with: whorl interrupted\n"),
        (LATE, 0, ""),  # while Python ends, after the verb has
    ],
)
def test_ctrl_c_has_its_exit_code_at_any_moment(tmp_path, moment, code, said):
    (tmp_path / "interrupted.py").write_text(INTERRUPT + moment)
    search = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    command = [sys.executable, "-m", "interrupted"]  # not as a file, which Python ends in another way
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=PATIENCE, env=os.environ | {"PYTHONPATH": search}
    )
    assert (done.returncode, done.stderr) == (code, said)
    assert bool(done.stdout) == (code == 0)
