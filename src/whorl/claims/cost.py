"""What a claim may ask of a judge's machine: a claim names schemes with settings, and the judge runs them."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Final

from whorl.errors import UsageError
from whorl.expressions import Call, Value, parse
from whorl.schemes import SCHEMES

__all__ = ["MOST_WORK", "check_cost", "work_of"]

MOST_WORK: Final = 100
"""How many times the work of a scheme's defaults, on 1,000 queries, a judge does for one family."""
USUAL_SIZE: Final = 1000
SMALL: Final = 10  # a whole setting up to it is never called dear, as defaults of 0 and 1 are of switches and patience


def work_of(scheme: str, size: int) -> float:
    """A bound on the work of a family in that of its scheme's defaults: the product of what each setting multiplies.

    Whole settings (steps, candidates, restarts, those of settings that are expressions too) count by what they are of
    their default, or of 10 where that is more; ``size``, the number of queries, by what it is of 1,000.
    """
    made = SCHEMES.make(scheme)
    call, usual = parse(str(made)), dict(_whole("", _defaults(made.name)))
    grown = [value / max(usual.get(name, 0), SMALL) for name, value in _whole("", call)]
    return prod(max(each, 1.0) for each in (*grown, size / USUAL_SIZE))


def check_cost(name: str, scheme: str, size: int) -> None:
    """Raise `UsageError` where a family asks for more than `MOST_WORK`."""
    if (work := work_of(scheme, size)) > MOST_WORK:
        raise UsageError(
            f"{name} asks for up to {work:,.3g} times the work of its scheme's defaults on {USUAL_SIZE:,} queries, and "
            f"a judge does {MOST_WORK} times: claim with smaller settings or budget; a judge without --victim runs none"
        )


def _defaults(name: str) -> Call:
    """A scheme as it is without a setting, but for those that have no default."""
    known = SCHEMES.parameters(name) if name in SCHEMES else {}
    return Call(name, (), tuple((key, value) for key, value in known.items() if _is_value(value)))


def _is_value(value: object) -> bool:
    return isinstance(value, int | float | str | Call)


def _whole(path: str, value: Value) -> Iterator[tuple[str, int]]:
    """Whole numbers in an expression, each by where it stands."""
    if isinstance(value, Call):
        for place, each in enumerate(value.args):
            yield from _whole(f"{path}/{value.name}.{place}", each)
        for name, each in value.kwargs:
            yield from _whole(f"{path}/{value.name}.{name}", each)
    elif isinstance(value, tuple | list):
        for place, each in enumerate(value):
            yield from _whole(f"{path}/{place}", each)
    elif isinstance(value, int) and not isinstance(value, bool):
        yield path, value
