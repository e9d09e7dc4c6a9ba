"""What thieves made of the victims, by family, for tests that name families themselves.

Read by path: the name ``conftest`` belongs to whichever file of that name pytest met last.
"""

from __future__ import annotations

import runpy
from pathlib import Path

_recipes = runpy.run_path(str(Path(__file__).with_name("conftest.py")))
COPIES: dict[str, str] = _recipes["COPIES"]
FILTERS: dict[str, str] = _recipes["FILTERS"]
QUANTISED: dict[str, str] = _recipes["QUANTISED"]
EXTRACTED: dict[str, str] = _recipes["EXTRACTED"]
ALL: dict[str, str] = _recipes["ALL"]
