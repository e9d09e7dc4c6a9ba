"""``python -m whorl`` is the command ``whorl``, for an interpreter whose scripts are on no search path."""

from __future__ import annotations

from whorl.cli.app import main

if __name__ == "__main__":
    main()
