"""The contract of settings: each field says what it may be, and what it may not be is refused when it is named.

As scikit-learn's tests of parameter constraints do, wrong values are made from the annotation: of another type, out of
range, misspelt, of no such name. So a range that is declared is a range that is kept.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Collection, Iterator, Mapping
from fractions import Fraction
from types import UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, Predicate

from whorl.errors import UsageError
from whorl.expressions import Call
from whorl.settings import Named, Setting, checked, settings_of
from whorl.testing.promises import promise

__all__ = ["check_settings", "wrong_values"]

NOWHERE: Final = "no-such-name"
OTHERS: Final = (None, True, 0, 7, 0.5, Fraction(1, 3), "", NOWHERE, (), (1, "a"), Call(NOWHERE, (1,)))
"""Values of every type that an expression can hold."""
PROBED: Final = range(-1, 100)
"""Whole numbers among which one that a predicate refuses is looked for."""


def check_settings(
    target: Callable[..., Any],
    given: Mapping[str, Any] | None = None,
    *,
    bind: Callable[[Mapping[str, Any]], object] | None = None,
    fixed: Collection[str] = (),
) -> None:
    """Raise `AssertionError` unless every wrong setting of a class or function is refused with `UsageError`.

    Parameters:
        given: right values of the parameters that have no default.
        bind: names the target with settings, as a catalogue does; by default its annotations alone are asked.
        fixed: parameters that an expression may not give.

    A parameter without an annotation breaks the contract, and so does one that allows anything.
    """
    name, known = target.__name__, settings_of(target)
    parameters = {key: each for key, each in inspect.signature(target).parameters.items() if key not in fixed}
    right = {key: each.default for key, each in parameters.items() if each.default is not each.empty} | dict(
        given or {}
    )
    name_it = bind or (lambda settings: checked(name, target, settings))
    promise(_refusal(name_it, right) is None, f"{name} refuses settings that are right: {_refusal(name_it, right)}")
    for key in parameters:
        promise(key in known, f"{name}: {key} has no annotation, so nothing can be checked; give its type and range")
        wrong = list(wrong_values(known[key]))
        promise(wrong, f"{name}: {key} allows anything; annotate what the code bears")
        for value in wrong:
            refusal = _refusal(name_it, right | {key: value})
            promise(refusal is not None, f"{name}: {key}={value!r} is accepted, which the annotation of {key} forbids")
            promise("\n" not in str(refusal), f"{name}: {key}={value!r} is refused in more than one line")


def _refusal(name_it: Callable[[Mapping[str, Any]], object], settings: Mapping[str, Any]) -> str | None:
    try:
        name_it(settings)
    except UsageError as error:
        return str(error)
    return None


def wrong_values(setting: Setting) -> Iterator[Any]:
    """Values that the annotation does not allow: ends of ranges and just beyond, other types, words that are none."""
    allowed = _branches(setting.hint)
    for value in (*OTHERS, *(each for branch in allowed for each in _beyond(*branch))):
        if not any(_allows(value, *branch) for branch in allowed):
            yield value


Branch = tuple[Any, tuple[Any, ...]]


def _branches(hint: Any, outer: tuple[Any, ...] = ()) -> list[Branch]:
    """Every plain type that an annotation allows, with the constraints upon it."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        if any(isinstance(each, Named) for each in inner[1:]):
            return [(next(each for each in inner[1:] if isinstance(each, Named)), ())]
        return _branches(inner[0], (*outer, *inner[1:]))
    if origin in (Union, UnionType):
        return [branch for each in inner for branch in _branches(each, outer)]
    if origin is Literal:
        return [(hint, ())]
    return [(hint, outer)]


def _beyond(kind: Any, constraints: tuple[Any, ...]) -> Iterator[Any]:
    """What is only just wrong of a plain type."""
    if get_origin(kind) is Literal:
        yield from (f"{word}x" for word in get_args(kind) if isinstance(word, str))
    if get_origin(kind) is tuple:
        inner = get_args(kind)
        yield from ((value,) * (1 if inner[-1] is ... else len(inner)) for value in (NOWHERE, None, -math.pi))
    for each in constraints:
        match each:
            case Ge(ge=end):
                yield _step(kind, end, -1)
            case Le(le=end):
                yield _step(kind, end, 1)
            case Gt(gt=end) | Lt(lt=end):
                yield end
            case Predicate(func=holds) if kind is int:
                yield from (number for number in PROBED if not holds(number))
            case _:
                pass


def _step(kind: Any, end: Any, way: int) -> Any:
    return end + way if kind is int else math.nextafter(float(end), way * math.inf)


def _allows(value: Any, kind: Any, constraints: tuple[Any, ...]) -> bool:
    """Whether a plain type with its constraints holds a value, said anew and without pydantic."""
    if kind is Any or kind is object:
        return True
    if isinstance(kind, Named):
        return not kind.catalogs and isinstance(value, str | Call)
    if get_origin(kind) is Literal:
        return any(value == word and type(value) is type(word) for word in get_args(kind))
    if get_origin(kind) is tuple:
        return isinstance(value, tuple) and _holds_all(value, get_args(kind)) and _meets(value, constraints)
    types: dict[Any, tuple[type, ...]] = {
        float: (int, float, Fraction),
        Fraction: (Fraction,),
        type(None): (type(None),),
        None: (type(None),),
    }
    return type(value) in types.get(kind, (kind,)) and _meets(value, constraints)


def _holds_all(values: tuple[Any, ...], inner: tuple[Any, ...]) -> bool:
    kinds = inner[:1] * len(values) if inner[-1] is ... else inner
    return len(values) == len(kinds) and all(
        any(_allows(value, *branch) for branch in _branches(kind)) for value, kind in zip(values, kinds, strict=True)
    )


def _meets(value: Any, constraints: tuple[Any, ...]) -> bool:
    for each in constraints:
        match each:
            case Ge(ge=end):
                met = value >= end
            case Gt(gt=end):
                met = value > end
            case Le(le=end):
                met = value <= end
            case Lt(lt=end):
                met = value < end
            case Predicate(func=holds):
                met = holds(value)
            case _:
                met = True
        if not met:
            return False
    return True
