"""Which output of an ONNX graph is the answer, and what it means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from whorl.errors import UsageError
from whorl.oracles.convention import GRANTS, Output
from whorl.oracles.graph_answers import Kind, Made
from whorl.storage import one_line

__all__ = ["Answer", "choose"]

MOST: Final = 64  # outputs
FLOATS: Final = frozenset({"tensor(float)", "tensor(double)", "tensor(float16)"})
WORDS: Final = "tensor(string)"
LABELS: Final = frozenset(f"tensor({name})" for name in ("int8", "int16", "int32", "int64", "uint8", "bool", "string"))
MEANINGS: Final[dict[Kind, Output]] = {
    "scores": "logits",
    "logs": "logits",
    "probabilities": "probabilities",
    "columns": "probabilities",
    "labels": "labels",
}


@dataclass(frozen=True)
class Answer:
    """The output that is read.

    Parameters:
        name: its name in the graph.
        output: what it means.
        kind: what the graph says of it; finer than ``output``.
        classes: how many classes it tells apart, where the graph says so.
        labels: other outputs that say a class, against which scores are held; none where the caller named the answer.
        words: whether it gives words.
    """

    name: str
    output: Output
    kind: Kind
    classes: int | None
    labels: tuple[str, ...] = ()
    words: bool = False


@dataclass(frozen=True)
class _Candidate:
    item: Any
    made: Made
    bit: int
    width: int | None  # numbers a query, where the graph says so

    @property
    def output(self) -> Output:
        return MEANINGS[self.made.kind]

    def within(self, others: int) -> bool:
        return bool(self.bit & others)

    def decides(self, classes: int | None) -> bool:
        """Whether it says one of ``classes`` a query; what is true or false says one of two."""
        truth = self.item.type == "tensor(bool)" and classes != 2
        return self.output == "labels" and self.width in (None, 1) and not truth


def choose(
    items: Sequence[Any],
    made: Sequence[Made],
    *,
    output: Output | None,
    output_name: str | None,
    classes: int | None,
    numbers: bool = False,
    served: bool = False,
    path: object,
) -> Answer:
    """The answer among a session's outputs ``items``, made as ``made`` says.

    Parameters:
        output: what the caller says that the answer means; what the graph says where None.
        output_name: the output that the caller names.
        classes: how many classes the caller expects.
        numbers: the answers are as many numbers, and no scores of classes.
        served: labels alone are asked for, so that the graph's own go before its scores.

    Raises:
        UsageError: no output can be the answer, several can, or the graph contradicts the caller.
    """
    if output is not None and output not in GRANTS:
        raise UsageError(f"output must be one of {', '.join(GRANTS)}; it is {output!r}")
    if len(items) > MOST:
        raise UsageError(f"{path} has {len(items)} outputs; at most {MOST} are looked at")
    if output_name is not None and output_name not in [item.name for item in items]:
        raise UsageError(f"{path} has no output {output_name!r}; it gives {_listed(items, made)}")
    found = [
        _Candidate(item, how, 1 << place, _width(item.shape))
        for place, (item, how) in enumerate(zip(items, made, strict=True))
        if output_name in (None, item.name) and _readable(item, how)
    ]
    fitting = [each for each in found if (_counts if numbers else _fits)(each, classes)]
    if not fitting:
        wanted = "the answer" if output is None else output
        among = "" if classes is None else f" of {classes} classes"
        raise UsageError(
            f"{path} gives {_listed(items, made)}, none of which can be {wanted}{among}; mend classes or output_name"
        )
    agreeing = fitting if output is None or numbers else [each for each in fitting if _agrees(each, output)]
    if not agreeing:
        says = " and ".join(dict.fromkeys(each.output for each in fitting))
        raise UsageError(
            f"{path} gives {_listed(items, made)}, none of which can be {output}: its nodes make {says}. "
            "Leave output out, or name another output as output_name"
        )
    if output == "probabilities":  # what is probabilities by its making goes before what may be
        agreeing = [each for each in agreeing if each.output == output] or agreeing
    own = [each for each in agreeing if each.decides(classes)] if served and output_name is None else []
    chosen = own[0] if len(own) == 1 else _single(agreeing, items, made, path)
    if numbers:
        return Answer(chosen.item.name, "logits", "scores", classes or chosen.width)
    width = 2 if chosen.width == 1 and chosen.output != "labels" else chosen.width
    count = classes or (width if width is not None and width > 1 else None)
    kind = "probabilities" if output == "probabilities" and chosen.made.kind == "scores" else chosen.made.kind
    beside = [each.item.name for each in found if each is not chosen and each.decides(count)]
    held = output_name is None and chosen.output != "labels"
    words = chosen.item.type == WORDS
    return Answer(chosen.item.name, output or chosen.output, kind, count, tuple(beside) if held else (), words)


def _readable(item: Any, made: Made) -> bool:
    if made.kind in ("constant", "ranked") or not item.shape or _width(item.shape) == 0:
        return False
    # Whole numbers that no argmax made are quantised scores, unless there is one a query.
    return item.type in FLOATS or (item.type in LABELS and made.kind == "labels")


def _width(shape: Sequence[Any]) -> int | None:
    """Numbers a query: None where the graph leaves them open, 0 where no row of numbers is given."""
    sizes = list(shape[2:] if len(shape) == 3 and shape[0] == 1 and shape[1] != 1 and shape[2] != 1 else shape[1:])
    open_sizes = [size for size in sizes if not isinstance(size, int)]
    fixed = [size for size in sizes if isinstance(size, int) and size != 1]
    if len(fixed) > 1:
        return 0
    return fixed[0] if fixed else (None if open_sizes else 1)


def _fits(each: _Candidate, classes: int | None) -> bool:
    if each.output == "labels":
        return each.width in (None, 1) or classes in (None, each.width)
    if each.width == 1:  # one column stands for two classes; a number alone may also be a loss or a regression
        return classes == 2 or (classes is None and each.made.kind == "columns")
    return each.width is None or classes in (None, each.width)


def _counts(each: _Candidate, numbers: int | None) -> bool:
    return each.output != "labels" and (each.width is None or numbers in (None, each.width))


def _agrees(each: _Candidate, output: Output) -> bool:
    return each.output == output or (output == "probabilities" and each.made.kind == "scores")


def _single(found: list[_Candidate], items: Sequence[Any], made: Sequence[Made], path: object) -> _Candidate:
    """The one that says most: scores before labels, logits before their softmax, a head before what it reads."""
    scores = [each for each in found if each.output != "labels"] or found
    left = [each for each in scores if not any(_yields(each, other) for other in scores if other is not each)]
    if len(left) == 1:
        return left[0]
    names = [one_line(ValueError(each.item.name), 60) for each in left or scores]
    raise UsageError(
        f"{path} gives {_listed(items, made)}; {' and '.join(names)} could each be the answer. "
        f"Name one, as in output_name={names[0]}"
    )


def _yields(each: _Candidate, other: _Candidate) -> bool:
    if other.within(each.made.unlearned):
        return True  # the same answer once more, with less in it
    learned = each.within(other.made.after) and not each.within(other.made.unlearned)
    return learned and each.made.kind == "scores"  # an embedding that the other output is computed from


def _listed(items: Sequence[Any], made: Sequence[Made]) -> str:
    told = [
        f"{one_line(ValueError(item.name), 60)} ({how.kind}, {item.type} {one_line(ValueError(str(item.shape)), 60)})"
        for item, how in zip(items[:8], made, strict=False)
    ]
    return ", ".join(told) + (", ..." if len(items) > 8 else "")
