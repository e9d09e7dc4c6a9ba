"""Pages of verdicts that were kept as JSON. They may come from anybody: what is wrong in one is said in a line."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from jinja2 import TemplateError
from pydantic import TypeAdapter, ValidationError

from whorl.detection.integrity import Integrity
from whorl.errors import InvalidFile
from whorl.report.integrity import integrity_page
from whorl.report.pages import combination_page, verdict_page
from whorl.storage import read_json
from whorl.types import Combination, Verdict

__all__ = ["read_verdict", "verdict_in"]


def verdict_in(path: Path) -> bool:
    """Whether a JSON file holds a verdict, as ``whorl verify --json`` prints it."""
    found: Any = read_json(path)
    if not isinstance(found, dict):
        return False
    keys = cast(dict[str, Any], found).keys()
    return {"decision", "alpha"} <= keys and bool({"p_value", "drawn_changed"} & keys)


def read_verdict(path: Path) -> str:
    """The page of the verdict, of the combination of several, or of the integrity check that a JSON file holds.

    Raises:
        InvalidFile: it holds none, or one with parts missing.
    """
    found: Any = read_json(path)
    try:
        if "drawn_changed" in found:
            return integrity_page(TypeAdapter(Integrity).validate_python(found))
        if "verdicts" in found:
            return combination_page(TypeAdapter(Combination).validate_python(found))
        return verdict_page(TypeAdapter(Verdict).validate_python(found))
    except ValidationError as error:
        place = ".".join(map(str, error.errors()[0]["loc"]))
        raise InvalidFile(f"{path} is no sound verdict: {place}: {error.errors()[0]['msg']}") from None
    except (TemplateError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise InvalidFile(f"{path} is no sound verdict: {type(error).__name__} where its page is made") from None
