"""Names and what they stand for, without importing what is not used.

A catalog maps a name to ``"module:attribute"``. Installed plug-ins add names through entry points of the group
``whorl.<kind>``. Looking up a wrong name says which names are near.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from importlib.metadata import entry_points
from typing import Any, Generic, TypeVar

from whorl.errors import UsageError
from whorl.expressions import Call, parse
from whorl.settings import checked, settings_of

__all__ = ["Catalog"]

T = TypeVar("T")


class Catalog(Generic[T]):
    """Lazy table of the things of one kind.

    Parameters:
        kind: the plural word for the things, as in ``schemes``; also the entry-point group ``whorl.schemes``.
        targets: name to ``"module:attribute"``; the attribute is a class or function whose parameters are those
            that an expression may give, or, in a catalog of plain data, the thing itself.
        fixed: parameters that the caller supplies and an expression may not.
    """

    def __init__(self, kind: str, targets: Mapping[str, str], *, fixed: tuple[str, ...] = ()) -> None:
        self.kind = kind
        self.fixed = fixed
        self._builtin = dict(targets)

    @cached_property
    def _targets(self) -> dict[str, str]:
        plugins = {entry.name: entry.value for entry in entry_points(group=f"whorl.{self.kind}")}
        if clash := sorted(plugins.keys() & self._builtin.keys()):
            raise UsageError(
                f"a plug-in redefines the {self.kind} {', '.join(clash)}; uninstall it or rename its entry"
            )
        return self._builtin | plugins

    def __repr__(self) -> str:
        return f"<catalog of {self.kind}>"

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._targets))

    def in_order(self) -> Iterator[str]:
        """The names as they were declared, those of plug-ins last: for catalogs that are tried one after the other."""
        return iter(self._targets)

    def __contains__(self, name: object) -> bool:
        return name in self._targets

    def __len__(self) -> int:
        return len(self._targets)

    def targets(self, name: str) -> tuple[str, ...]:
        """What makes the thing of that name, each ``"module:attribute"``. Raises `UsageError` naming the near ones."""
        return (self._target(name),)

    def _target(self, name: str) -> str:
        if name not in self._targets:
            near = difflib.get_close_matches(name, self._targets, n=3, cutoff=0.5)
            hint = f"Did you mean {' or '.join(near)}?" if near else f"Known: {', '.join(self)}."
            raise UsageError(f"no such name among the {self.kind}: {name!r}. {hint}")
        return self._targets[name]

    def __getitem__(self, name: str) -> Callable[..., T]:
        """The class or function of that name. Raises `UsageError` naming the near ones."""
        module, _, attribute = self._target(name).partition(":")
        return getattr(importlib.import_module(module), attribute)

    def parameters(self, name: str) -> dict[str, Any]:
        """The parameters an expression may give to that name, with their defaults (a required one maps to ``...``)."""
        signature = inspect.signature(self[name])
        return {
            key: ... if parameter.default is inspect.Parameter.empty else parameter.default
            for key, parameter in signature.parameters.items()
            if key not in self.fixed
        }

    def bind(self, expression: Call | str) -> Call:
        """The expression with every parameter by name, defaults included: equal meaning, equal text.

        Raises `UsageError` for a setting that its annotation does not allow (`whorl.settings`).
        """
        call = parse(expression) if isinstance(expression, str) else expression
        known = self.parameters(call.name)
        if len(call.args) > len(known):
            raise UsageError(f"{call}: {call.name} takes {len(known)} parameters: {', '.join(known) or 'none'}")
        given = dict(zip(known, call.args, strict=False))
        for key, value in call.kwargs:
            if key not in known:
                near = difflib.get_close_matches(key, known, n=1)
                hint = f" Did you mean {near[0]}?" if near else f" Known: {', '.join(known) or 'none'}."
                raise UsageError(f"{call}: {call.name} has no parameter {key!r}.{hint}")
            if key in given:
                raise UsageError(f"{call}: {key!r} is given twice")
            given[key] = value
        bound = known | given
        if missing := [key for key, value in bound.items() if value is ...]:
            raise UsageError(f"{call}: {call.name} needs {', '.join(missing)}")
        return Call(call.name, (), tuple(checked(call.name, self[call.name], bound).items()))

    def make(self, expression: Call | str, **supplied: Any) -> T:
        """Build the thing that an expression names."""
        call = self.bind(expression)
        target = self[call.name]
        known = settings_of(target)
        values = {key: known[key].supplied(value) if key in known else value for key, value in call.kwargs}
        return target(**values, **supplied)
