"""What everything that an expression can name has in common."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any

from whorl.testing.promises import promise
from whorl.testing.settings import check_settings

__all__ = ["check_parameters"]


def check_parameters(thing: Any) -> None:
    """Assert a frozen dataclass that stores its fields unchanged and refuses what they may not be."""
    kind = type(thing)
    name = kind.__name__
    promise(dataclasses.is_dataclass(kind), f"{name} is not a dataclass")
    promise(kind.__dataclass_params__.frozen, f"{name} is not frozen: type @dataclass(frozen=True)")
    values = {field.name: getattr(thing, field.name) for field in dataclasses.fields(kind)}
    parameters = list(inspect.signature(kind).parameters)
    promise(
        parameters == list(values), f"{name} takes {parameters} and stores {list(values)}; its fields are its settings"
    )
    again = kind(**values)
    promise(again == thing and hash(again) == hash(thing), f"{name} made again from its fields is not equal to itself")
    stored = {key: getattr(again, key) for key in values}
    promise(stored == values, f"the constructor of {name} changes its settings: {values} become {stored}")
    check_settings(kind, values)
