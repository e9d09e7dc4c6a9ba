"""What follows from the committed run of the field is what is committed, on whatever machine it is checked."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PLAIN = {"OMP_NUM_THREADS": "1", "ATEN_CPU_CAPABILITY": "default", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2"}


def vector_units():
    """What numpy would use of this processor beyond the least it needs, as its environment variable takes it."""
    from numpy._core import _multiarray_umath as numpy

    return " ".join(name for name in numpy.__cpu_dispatch__ if numpy.__cpu_features__[name])


@pytest.mark.parametrize("machine", ["this one", "one without wide vector units"])
def test_measured_figures_pages_and_the_readme_follow_from_the_result(machine):
    other = {} if machine == "this one" else PLAIN | {"NPY_DISABLE_CPU_FEATURES": vector_units()}
    command = [sys.executable, str(ROOT / "benchmarks" / "cards.py"), "--check"]
    done = subprocess.run(command, env=os.environ | other, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
