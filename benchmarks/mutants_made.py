"""Small changes of whorl's code, one at a time, for `mutants.py`.

They are those of mutmut, without those that end in a `TypeError` or change what is read by people alone: of arguments
only the named ones are dropped, strings without a space are changed in one way, others not; docstrings, annotations,
decorators, imports and ``__all__`` stay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import libcst as cst
from libcst.metadata import ByteSpanPositionProvider, MetadataWrapper, PositionProvider
from mutmut.mutation import mutators

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Mutant:
    """One change: ``first`` to ``last`` are the lines of its outermost function, 0 where it takes effect on import."""

    file: str
    function: str
    line: int
    was: str
    now: str
    first: int
    last: int
    source: bytes

    @property
    def row(self) -> dict[str, Any]:
        """What a result says of it."""
        return {name: value for name, value in asdict(self).items() if name not in ("first", "last", "source")}


class Changes(cst.CSTVisitor):
    """All mutants of a file."""

    METADATA_DEPENDENCIES = (ByteSpanPositionProvider, PositionProvider)

    def __init__(self, file: str) -> None:
        super().__init__()
        self.file, self.source = file, (ROOT / file).read_bytes()
        self.scopes: list[cst.FunctionDef | cst.ClassDef] = []
        self.at_import = 0  # how many decorators and defaults of outermost functions we are in
        self.found: list[Mutant] = []
        MetadataWrapper(cst.parse_module(self.source)).visit(self)

    def on_visit(self, node: cst.CSTNode) -> bool:
        """Note what becomes of a node, and whether to look into it."""
        if isinstance(node, cst.Annotation | cst.Decorator | cst.Import | cst.ImportFrom):
            return False
        if isinstance(node, cst.Expr) and isinstance(node.value, cst.SimpleString | cst.ConcatenatedString):
            return False
        if isinstance(node, cst.Assign) and getattr(node.targets[0].target, "value", "") == "__all__":
            return False
        if isinstance(node, cst.FunctionDef | cst.ClassDef):
            self.scopes.append(node)
        if isinstance(node, cst.Parameters):
            self.at_import += 1
        for kind, operator in mutators.mutation_operators:
            if isinstance(node, kind):
                for changed in _kept(operator, node):
                    self._add(node, changed)
        return True

    def on_leave(self, original_node: cst.CSTNode) -> None:
        """Go on outside of a node."""
        if isinstance(original_node, cst.FunctionDef | cst.ClassDef):
            self.scopes.pop()
        if isinstance(original_node, cst.Parameters):
            self.at_import -= 1

    def _add(self, node: cst.CSTNode, changed: cst.CSTNode) -> None:
        span = self.get_metadata(ByteSpanPositionProvider, node)
        was, now = self.source[span.start : span.start + span.length], cst.Module([]).code_for_node(changed).strip()
        source = self.source[: span.start] + now.encode() + self.source[span.start + span.length :]
        functions = [each for each in self.scopes if isinstance(each, cst.FunctionDef)]
        first = last = 0
        if functions and not (self.at_import and len(functions) == 1):
            outermost = functions[0]
            lines = self.get_metadata(PositionProvider, outermost)
            first, last = lines.start.line, lines.end.line
            if outermost.decorators:
                first = self.get_metadata(PositionProvider, outermost.decorators[0]).start.line
        name = ".".join(each.name.value for each in self.scopes)
        line = self.get_metadata(PositionProvider, node).start.line
        try:
            compile(source, self.file, "exec")
        except SyntaxError:
            return
        self.found.append(Mutant(self.file, name, line, _shown(was.decode()), _shown(now), first, last, source))


def _kept(operator: Callable[[Any], Any], node: Any) -> Iterator[cst.CSTNode]:
    """What an operator of mutmut makes of a node, without what the head of this file leaves out."""
    if operator is mutators.operator_arg_removal:
        for i, argument in enumerate(node.args):
            if argument.keyword:
                yield node.with_changes(args=[*node.args[:i], *node.args[i + 1 :]])
    elif operator is mutators.operator_string:
        if isinstance(node, cst.SimpleString) and " " not in node.value:
            yield from list(operator(node))[:1]
    else:
        yield from operator(node)


def _shown(code: str) -> str:
    return " ".join(code.split())[:160]
