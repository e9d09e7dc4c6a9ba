"""The room stands on little: no torch, and without its extra it says what to install."""

from __future__ import annotations

import subprocess
import sys

import pytest


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)


def test_nothing_waits_for_torch():
    rooms = "checkpoint, draw, envelope, keys, log, merkle, stamp"
    done = run(f"import sys; from whorl.attest import {rooms}; print({{'torch', 'numpy'}} & sys.modules.keys())")
    assert (done.stdout, done.stderr) == ("set()\n", "")


@pytest.mark.parametrize("module", ["keys", "envelope", "checkpoint", "log", "stamp"])
def test_a_missing_extra_is_named(module):
    done = run(
        "import sys; sys.modules['cryptography'] = None\n"
        f"from whorl.errors import MissingExtra\ntry: import whorl.attest.{module}\nexcept MissingExtra as e: print(e)"
    )
    assert 'pip install "whorl[claims]"' in done.stdout


def test_trees_and_draws_need_no_extra():
    done = run("import sys; sys.modules['cryptography'] = None; import whorl.attest.merkle, whorl.attest.draw")
    assert (done.returncode, done.stderr) == (0, "")
