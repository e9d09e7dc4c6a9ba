"""Pictures that a claim names and that would be fetched: only those that the judge names too.

A claim is written by the owner. What it names on the hub would reach the judge's machine, and the owner would learn
when it is judged.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from whorl.errors import UsageError
from whorl.expressions import Call, Value, parse_chain

__all__ = ["check_fetched"]

FETCHED: Final = "hf"


def check_fetched(expression: str, named: str = "") -> None:
    """Raise `UsageError` where an expression of the owner's fetches pictures that the judge did not name.

    Parameters:
        expression: of a claim's data, or a recipe.
        named: what the judge says of data (``--data``).
    """
    if strange := sorted(_fetched(expression) - (_fetched(named) if named else set())):
        raise UsageError(
            f"the owner names pictures of the hub, {strange[0]}, which would be fetched: look what they are, and name "
            f"them yourself: --data '{strange[0]}'"
        )


def _fetched(expression: str) -> set[str]:
    return {str(each) for step in parse_chain(expression).steps for each in _calls(step) if each.name == FETCHED}


def _calls(value: Value) -> Iterator[Call]:
    if isinstance(value, Call):
        yield value
        for each in (*value.args, *(each for _, each in value.kwargs)):
            yield from _calls(each)
    elif isinstance(value, tuple):
        for each in value:
            yield from _calls(each)
