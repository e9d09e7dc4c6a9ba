"""``python -m whorl`` is the command ``whorl``, for an interpreter whose scripts are on no search path."""

from __future__ import annotations

import os
import signal

from whorl.cli.exits import INTERRUPTED

__all__ = ["main"]


def main() -> None:
    """Entry point of the console script."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # which would end an import in a traceback
        signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))
    from whorl.cli.app import main as run

    run()


if __name__ == "__main__":
    main()
