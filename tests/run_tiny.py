"""Runs the least suite with two workers and kills itself at a given moment; for tests of what is left then."""

import os
import signal
import sys
from pathlib import Path

from tiny_suite import least_suite

from whorl.bench.runner import run

if __name__ == "__main__":
    folder, stage, count = sys.argv[1:]

    def die(now: str, done: int, total: int) -> None:
        if (now, done) == (stage, int(count)):
            os.kill(os.getpid(), signal.SIGKILL)

    run(least_suite(), folder=Path(folder), workers=2, progress=die)
