"""Templates of requests, which a received model.toml may bring: what they may do is bounded in memory and time.

jinja2's sandbox keeps a template from reaching objects. It does not keep one of a few bytes from making terabytes, as
``{{ "x" * 10**12 }}`` does when it is compiled already. So calls are refused, operators work on numbers alone, of the
filters there are those that cannot multiply a text, nothing is assigned, and the text that comes out is cut off.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final

from whorl.errors import UsageError

__all__ = ["bounded_environment", "filled", "refuse_growth"]

FILTERS: Final = ("abs", "first", "float", "int", "join", "last", "length", "list", "lower", "round", "tojson", "upper")
MAX_LOOPS: Final = 4  # within each other, as pictures, channels, rows and columns are
MAX_CHARACTERS: Final = 1 << 28  # of one request


@cache
def bounded_environment() -> Any:
    """A sandbox without calls, whose operators work on numbers and whose filters are few."""
    from jinja2 import StrictUndefined
    from jinja2.exceptions import SecurityError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Bounded(ImmutableSandboxedEnvironment):
        intercepted_binops = frozenset(ImmutableSandboxedEnvironment.default_binop_table)

        def is_safe_callable(self, obj: Any) -> bool:
            del obj
            return False

        def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
            if operator == "**" or not isinstance(left, int | float) or not isinstance(right, int | float):
                raise SecurityError(f"{operator} is for numbers in a template, and ** is not for them")
            return super().call_binop(context, operator, left, right)

    environment = Bounded(undefined=StrictUndefined)
    environment.globals.clear()
    environment.filters = {name: environment.filters[name] for name in FILTERS}
    return environment


def refuse_growth(tree: Any) -> None:
    """Raise `UsageError` for a parsed template that assigns, joins by ~, or has too many loops in each other."""
    from jinja2 import nodes

    kinds = (nodes.Assign, nodes.AssignBlock, nodes.Macro, nodes.CallBlock, nodes.Concat, nodes.Include, nodes.Extends)
    if found := next(tree.find_all(kinds), None):
        word = type(found).__name__
        raise UsageError(f"the template uses {word}; it may use for, if, filters ({', '.join(FILTERS)}) and numbers")
    if any(each.name == "tojson" and (each.args or each.kwargs) for each in tree.find_all(nodes.Filter)):
        raise UsageError("the template gives tojson a setting, as an indent of any width would be; leave it out")
    left = [(tree, 0)]
    while left:
        node, depth = left.pop()
        depth += isinstance(node, nodes.For)
        recursive = isinstance(node, nodes.For) and node.recursive
        if recursive or depth > MAX_LOOPS:
            raise UsageError(f"the template has more than {MAX_LOOPS} loops within each other, or a recursive one")
        left += [(child, depth) for child in node.iter_child_nodes()]


def filled(template: Any, **values: object) -> str:
    """The text that a compiled template gives. Raises `UsageError` where it has no end in sight."""
    parts: list[str] = []
    size = 0
    for part in template.generate(**values):
        size += len(part)
        if size > MAX_CHARACTERS:
            raise UsageError(f"the template gives more than {MAX_CHARACTERS:,} characters for one request")
        parts.append(part)
    return "".join(parts)
