"""What a setting may be, said by its annotation and checked when it is named.

Every field that an expression may give (`whorl.catalog`) is annotated with its type and the range that its code bears:
``epochs: Count``, ``share: Annotated[float, Gt(0), Le(1)]``, ``method: Literal["pgd", "trades"]``. The constraints are
those of the library annotated-types; pydantic checks them, strictly: no text is read as a number, true is no number,
and a whole number or a fraction is accepted where a float is meant. `Named` marks a setting that is itself an
expression of a catalogue: it is checked in turn, and its defaults are written out.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, is_dataclass
from fractions import Fraction
from functools import cache, cached_property
from inspect import isclass
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Union, get_args, get_origin, get_type_hints

from annotated_types import DocInfo, Ge, Gt, Le, Lt

from whorl.errors import UsageError
from whorl.expressions import Call, Value, parse, show

if TYPE_CHECKING:
    from pydantic import TypeAdapter

__all__ = [
    "Architecture",
    "Checked",
    "Count",
    "Multiple",
    "Named",
    "NetName",
    "NonNegative",
    "Positive",
    "Probability",
    "ProperShare",
    "Radius",
    "Seed",
    "Setting",
    "Share",
    "SourceName",
    "TaskSource",
    "Whole",
    "checked",
    "named",
    "settings_of",
]


@dataclass(frozen=True)
class Named:
    """Marks a setting that is an expression of one of these catalogues, each given as ``"module:attribute"``.

    ``role`` is what the named thing is to the one that names it, where that matters to others: ``architecture`` is the
    net that comes out, ``task`` the data set that the outcome is measured on, ``recipe`` a model of its own, whose
    recipe is no expression of a catalogue and is read by those who know how it begins.
    """

    catalogs: tuple[str, ...]
    role: Literal["", "architecture", "task", "recipe"] = ""

    def bind(self, value: object) -> Value:
        """The expression with all defaults; a name without parameters stays a word. Raises `UsageError`."""
        if not isinstance(value, str | Call):
            raise ValueError
        if not self.catalogs:
            return value
        call = parse(value) if isinstance(value, str) else value
        known = [self._catalog(each) for each in self.catalogs]
        bound: Call = next((each for each in known if call.name in each), known[0]).bind(call)
        return bound if bound.kwargs else bound.name

    @property
    def words(self) -> str:
        """What it is an expression of, in words."""
        words = [f"an expression of the {self._catalog(each).kind}" for each in self.catalogs]
        return " or ".join(words) or "a recipe in quotes"

    @staticmethod
    def _catalog(target: str) -> Any:
        module, _, attribute = target.partition(":")
        return getattr(importlib.import_module(module), attribute)

    def __get_pydantic_core_schema__(self, source: object, handler: object) -> Any:
        from pydantic_core import core_schema

        del source, handler  # the expression is all that may be given, whatever Python type stands for it
        return core_schema.no_info_plain_validator_function(self.bind)


MOST: Final = 10**6  # of anything that is counted: files that others wrote name settings too, and must end
Count = Annotated[int, Ge(1), Le(MOST)]
"""How many, at least one."""
Whole = Annotated[int, Ge(0), Le(MOST)]
"""How many, perhaps none."""
Seed = Annotated[int, Ge(0), Le(2**32 - 1)]
"""Of a generator of random numbers; NumPy's takes no larger one."""
LongSeed = Annotated[int, Ge(0), Le(2**63 - 1)]
"""The same for torch's; one of so many bits is met by nobody."""
Positive = Annotated[float, Gt(0)]
NonNegative = Annotated[float, Ge(0)]
Probability = Annotated[float, Ge(0), Le(1)]
Share = Annotated[float, Gt(0), Le(1)]
"""Part of a whole, perhaps all of it."""
ProperShare = Annotated[float, Gt(0), Lt(1)]
"""Part of a whole, never all of it."""
Radius = Annotated[float, Gt(0), Le(1)]
"""How far a pixel in [0, 1] may move."""
Multiple = Annotated[float, Ge(1)]
"""How many times as many."""

NetName = Annotated[str | Call, Named(("whorl.nets:NETS",))]
"""Any net of the catalogue."""
Architecture = Annotated[str | Call, Named(("whorl.nets:NETS",), "architecture")]
"""The net that comes out."""
SourceName = Annotated[str | Call, Named(("whorl.data:SOURCES",))]
"""Any data set of the catalogue."""
TaskSource = Annotated[str | Call, Named(("whorl.data:SOURCES",), "task")]
"""The data set that the outcome is measured on, and that a thief holds."""


@dataclass(frozen=True)
class Setting:
    """One parameter of a catalogued thing, by its annotation."""

    hint: Any

    @cached_property
    def marks(self) -> tuple[Named, ...]:
        """What it names, if it is an expression."""
        return tuple(each for each in _parts(self.hint) if isinstance(each, Named))

    @cached_property
    def exact(self) -> bool:
        """Whether a fraction stays one."""
        return Fraction in _parts(self.hint)

    @cached_property
    def _adapter(self) -> TypeAdapter[Any]:
        from pydantic import ConfigDict, TypeAdapter

        return TypeAdapter(self.hint, config=ConfigDict(strict=True, allow_inf_nan=False, arbitrary_types_allowed=True))

    def supplied(self, value: Any) -> Any:
        """The value as code takes it: a fraction as a float, where a float is meant."""
        return float(value) if isinstance(value, Fraction) and not self.exact else value

    def check(self, owner: str, key: str, value: Any) -> Any:
        """The value as it was given, or an expression with its defaults. Raises `UsageError` naming the mistake."""
        from pydantic import ValidationError

        try:
            found = self._adapter.validate_python(self.supplied(value))
        except ValidationError as error:
            counted = Le(MOST) in _parts(self.hint)
            most = f" and at most {MOST:,}" if counted and isinstance(value, int) and value > MOST else ""
            mistake = f"{Call(owner, (), ((key, value),))}: {key} is {self.words}{most}, not {show(value)}"
            inner = [each.get("ctx", {}).get("error") for each in error.errors(include_url=False)]
            usage = next((each for each in inner if isinstance(each, UsageError)), None)
            raise (usage if usage is not None and value != "" else UsageError(mistake + self._near(value))) from None
        return found if self.marks else value

    @property
    def words(self) -> str:
        """What it may be, as the end of "epochs is ..."."""
        return _words(self.hint)

    def _near(self, value: object) -> str:
        words = [each for each in _parts(self.hint) if isinstance(each, str)]
        near = difflib.get_close_matches(value, words, n=1, cutoff=0.5) if isinstance(value, str) else []
        return f". Did you mean {near[0]}?" if near else ""


@cache
def settings_of(target: Callable[..., Any]) -> Mapping[str, Setting]:
    """The annotated parameters of a class or function. Raises `UsageError` for an annotation that can't be read."""
    holder = getattr(target, "__init__") if isclass(target) and not is_dataclass(target) else target  # noqa: B009
    try:
        hints = get_type_hints(holder, include_extras=True)
    except NameError as error:
        raise UsageError(
            f"the annotations of {target} can't be read: {error}. Import the name when the module is run"
        ) from None
    return {key: Setting(hint) for key, hint in hints.items()}


def checked(owner: str, target: Callable[..., object], values: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of ``target``, each checked and its expressions with all defaults.

    ``owner`` is the name for messages. Raises `UsageError` for the first that can't be.
    """
    known = settings_of(target)
    return {key: known[key].check(owner, key, value) if key in known else value for key, value in values.items()}


class Checked:
    """A dataclass whose fields are checked when it is made in Python, as they are when an expression names it."""

    def __post_init__(self) -> None:
        """Raise `UsageError` for the first field that its annotation does not allow."""
        checked(getattr(type(self), "name", type(self).__name__), type(self), vars(self))


def named(target: Callable[..., object], values: Mapping[str, Any], role: str) -> list[Any]:
    """The values of those settings that name something in this role."""
    known = settings_of(target)
    keys = (key for key, setting in known.items() if any(mark.role == role for mark in setting.marks))
    return [values[key] for key in keys if values.get(key) not in (None, "")]


_PLAIN: Final[dict[Any, str]] = {
    int: "a whole number",
    float: "a number",
    str: "a text",
    bool: "true or false",
    NoneType: "none",
}


def _parts(hint: Any) -> Iterator[Any]:
    """Types, words and constraints that an annotation is made of."""
    origin = get_origin(hint)
    if origin is None:
        yield hint
        return
    for each in get_args(hint):
        yield from (each,) if origin is Literal else _parts(each)


def _words(hint: Any) -> str:
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _constrained(*inner)
    if origin is Literal:
        return _or([show(each) for each in inner])
    if origin in (Union, UnionType):
        return _or([_words(each) for each in inner if each is not Fraction])
    if origin is tuple:
        return f"a list, each {_words(inner[0])}" if inner[-1] is ... else f"a list of {len(inner)} values"
    return _PLAIN.get(hint, getattr(hint, "__name__", str(hint)))


def _constrained(base: Any, *constraints: Any) -> str:
    for each in constraints:
        if isinstance(each, DocInfo):
            return each.documentation
        if isinstance(each, Named):
            return each.words
    low = next((each.ge for each in constraints if isinstance(each, Ge)), None)
    above = next((each.gt for each in constraints if isinstance(each, Gt)), None)
    high = next((each.le for each in constraints if isinstance(each, Le) and each.le != MOST), None)
    below = next((each.lt for each in constraints if isinstance(each, Lt)), None)
    if low is not None and high is not None:
        return f"{_words(base)} from {low} to {high}"
    bounds = {"of at least": low, "above": above, "at most": high, "below": below}
    said = " and ".join(f"{word} {bound}" for word, bound in bounds.items() if bound is not None)
    return f"{_words(base)} {said}".rstrip()


def _or(words: list[str]) -> str:
    return " or ".join(filter(None, (", ".join(words[:-1]), words[-1])))
