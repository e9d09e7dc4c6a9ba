"""Figures as they are written and ranked: to the digits on which machines agree.

The last bits of a mean or an interval depend on the order in which a machine's vector units add. Rounded to nine
significant digits they do not, so that what one machine writes another can check.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Final, cast

__all__ = ["DIGITS", "rounded"]

DIGITS: Final = 9


def rounded(figures: Any) -> Any:
    """The same with every float at `DIGITS` significant digits.

    Floats are looked for in dataclasses, mappings, lists and tuples, at any depth; all else stays as it is.
    """
    if isinstance(figures, float):
        return float(f"{figures:.{DIGITS}g}")
    if dataclasses.is_dataclass(figures) and not isinstance(figures, type):
        fields = {each.name: getattr(figures, each.name) for each in dataclasses.fields(figures)}
        return dataclasses.replace(figures, **rounded(fields))
    if isinstance(figures, Mapping):
        return {key: rounded(value) for key, value in cast("Mapping[Any, Any]", figures).items()}
    if isinstance(figures, list | tuple):
        values = [rounded(value) for value in cast("list[Any] | tuple[Any, ...]", figures)]
        return tuple(values) if isinstance(figures, tuple) else values
    return figures
