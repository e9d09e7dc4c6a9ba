"""What `whorl doctor` looks for, and a terminal without signs beyond ASCII."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

from whorl.cli.doctor import EXTRAS, PURPOSES


def test_doctor_knows_every_extra_and_its_packages():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    assert extras.pop("all") == [f"whorl[{','.join(extras)}]"]
    wanted = {extra: {re.split(r"[^\w.-]", each)[0] for each in needed} for extra, needed in extras.items()}
    assert {extra: set(packages) for extra, packages in EXTRAS.items()} == wanted
    assert list(PURPOSES) == list(EXTRAS)


def test_the_c_locale_ends_no_verb():
    environment = os.environ | {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    script = (
        "from whorl.cli import app, console\n"
        "app.app = lambda: (console.out.print(chr(183), chr(8594), chr(8230)), console.say(chr(9679)))\napp.main()"
    )
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "u2192" in done.stdout
