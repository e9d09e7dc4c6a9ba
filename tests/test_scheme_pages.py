"""What follows from the committed run of the field is what is committed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_measured_figures_pages_and_the_readme_follow_from_the_result():
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "cards.py"), "--check"], capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr
