"""Was B made from A? Two checkpoints, read a tensor at a time, and the verdict with all that led to it.

The decision rests on tests of independence (`whorl.weights.findings`) under Bonferroni's bound. What is refuted is that
one net was trained without regard to the other; that leaves descent, a common ancestor (a shared initialisation or
public checkpoint), or a part that was taken over. The map of layers tells the last from the first two.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

from whorl.checkpoints.checkpoint import Checkpoint
from whorl.checkpoints.opening import open_checkpoint
from whorl.checkpoints.readers.adapter import Adapter
from whorl.checkpoints.roles import Weights
from whorl.detection.exact import bonferroni
from whorl.errors import UsageError
from whorl.printable import printable
from whorl.types import Grade
from whorl.weights.changes import TensorChange
from whorl.weights.coverage import Coverage, coverage
from whorl.weights.differences import Differences, differences_by_name, kept, tables, unequal
from whorl.weights.exchangeable import natural
from whorl.weights.findings import Finding, about, findings
from whorl.weights.history import (
    Direction,
    Operation,
    Relation,
    branch_point,
    direction,
    operations,
    relation,
    same_plan,
    telling,
)
from whorl.weights.kurtosis import attention_kurtosis
from whorl.weights.layering import LayerMap
from whorl.weights.likeness import Likeness, likeness
from whorl.weights.pairing import basis, spread, vocabularies_differ
from whorl.weights.parting import STUDIED, Parting, parting
from whorl.weights.renaming import Renamed
from whorl.weights.several import each_with_each
from whorl.weights.unnamed import GIVEN, ByName, by_name

__all__ = ["NULL", "Comparison", "LayerEvidence", "check_asked", "compare", "document"]

Decision = Literal["related", "part reused", "inconclusive"]
NULL: Final = "the training of one of the two nets did not depend on the other"
BY_MOVEMENT: Final = (
    "Who came first rests on movement where no operation says it: a sibling that was tuned far less than the other, on "
    f"the same text, looks like its parent. Of {STUDIED.told} told so in a study {STUDIED.wrong} were wrong (95 %: "
    f"{STUDIED.interval[0]:.0%} to {STUDIED.interval[1]:.0%})."
)
LAYERS: Final = 4
TOKENS: Final = 256
EQUAL: Final = 4  # tensors that a caveat names


@dataclass(frozen=True)
class LayerEvidence:
    """The smallest p-value of any test in one layer (Bonferroni over tests), as a natural logarithm."""

    layer: int
    paired: int
    log_p: float
    related: bool
    name: str = ""


@dataclass(frozen=True)
class Comparison:
    """The verdict and all that led to it.

    ``tested`` says whether any test that decides could be made; if not, ``log_p`` is 0 and stands for no p-value.
    ``coverage`` (of A and B) tells what was tested and what was left out; ``passed_over`` are prefixes of nets in
    either file that were not compared, as others of the same file are larger (`whorl.checkpoints.views.NETS`).
    ``log_p`` is that of the whole; ``exact`` says whether exact tests were made and the decision is the same by them
    alone; ``branch`` is an estimate of where the two parted, and ``parting`` what movement says of who came
    first; ``kurtosis`` (of A and B) and ``likeness`` are figures by which nothing is decided.
    """

    decision: Decision
    tested: bool
    coverage: tuple[Coverage, Coverage]
    log_p: float
    exact: bool
    alpha: float
    findings: tuple[Finding, ...]
    layers: tuple[LayerEvidence, ...]
    changes: tuple[TensorChange, ...]
    operations: tuple[Operation, ...]
    relation: Relation
    direction: Direction
    branch: float | None
    parting: Parting | None
    kurtosis: tuple[float | None, float | None]
    likeness: Likeness | None
    axes: str
    architectures: tuple[str, str]
    bytes_read: int
    seconds: float
    caveats: tuple[str, ...]
    passed_over: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())

    @property
    def grade(self) -> Grade | None:
        """A where the p-value rests on exact tests alone; None where it does not, or there is none."""
        return Grade.A if self.tested and self.exact else None


def compare(
    first: Checkpoint | str | Path,
    second: Checkpoint | str | Path,
    *,
    alpha: float = 0.01,
    layers: int = LAYERS,
    tokens: int = TOKENS,
    progress: Callable[[str, int, int], None] = lambda *_: None,
) -> Comparison:
    """Compare two checkpoints, or files and folders of them.

    Parameters:
        alpha: the error rate asked for.
        layers: how many layers to read, evenly spread; 0 for all.
        tokens: how many shared tokens span the space in which rows are compared.

    Raises:
        UsageError: nothing in them can be compared.
        InvalidFile: a file is damaged or untrue.
    """
    check_asked(alpha, layers, tokens)
    first, second = (each if isinstance(each, Checkpoint) else open_checkpoint(Path(each)) for each in (first, second))
    started, before = time.perf_counter(), first.bytes_read + second.bytes_read

    def compared(pair: Renamed, level: float) -> Comparison:
        if not vocabularies_differ(Weights(pair.first), Weights(pair.second)):
            return _compared(pair, level, layers, tokens, progress)
        # Two pairings of tokens, of which a wrong tokenizer spoils but one; Bonferroni, whether the second is needed.
        found = _compared(pair, level / 2, layers, tokens, progress)
        if found.decision != "related":
            other = _compared(pair, level / 2, layers, tokens, progress, by_number=True)
            found = min(found, other, key=lambda each: each.log_p)
        return replace(found, log_p=min(0.0, found.log_p + math.log(2)))

    told = replace(each_with_each(first, second, compared, alpha), alpha=alpha)
    read = first.bytes_read + second.bytes_read - before
    return replace(told, bytes_read=read, seconds=time.perf_counter() - started)


def check_asked(alpha: float, layers: int, tokens: int) -> None:
    """Raise `UsageError` for an error rate, or numbers of layers and tokens, that nothing can be compared with."""
    if not 0 < alpha < 1 or tokens < 2 or layers < 0:
        raise UsageError("alpha lies between 0 and 1, tokens are at least 2, and layers not below 0 (0 for all)")


def _compared(
    pair: Renamed,
    alpha: float,
    layers: int,
    tokens: int,
    progress: Callable[[str, int, int], None],
    *,
    by_number: bool = False,
) -> Comparison:
    """Two nets compared."""
    first, second = pair.first, pair.second
    one, two = Weights(first), Weights(second)
    known = one.structure.known and two.structure.known
    axes = basis(one, two, tokens, by_number=by_number) if known else None
    depth = one.structure.layers
    chosen = spread(depth, layers or depth) if depth else []
    places = LayerMap(one, two, axes) if axes else None
    pairs = places.pairs(chosen) if places else {}
    differences = Differences(one, two, whole=not layers, progress=progress)
    roled = [*findings(one, two, axes, pairs, differences.through)] if known else []
    named = by_name(first, second, apart=(_with_roles(one), _with_roles(two)) if known else ((), ()))
    found = [*roled, *named.findings]
    tested = any(each.decides for each in found)
    log_p = min(0.0, bonferroni([each.log_p for each in found if each.decides]) + pair.ways)
    by_layer = _by_layer(found, alpha)
    if places and _refuted(log_p, alpha):
        by_layer = _elsewhere(places, by_layer, alpha)
    held = [(at.layer, at.paired) for at in by_layer if at.related and at.layer >= 0 and not at.name]
    matched = places.settled(dict(held) or pairs) if places else pairs
    changes = differences.of(matched) if known else list(differences_by_name(first, second))
    if not found and not changes:
        raise UsageError(
            f"{first.path} ({one.structure.architecture}) and {second.path} ({two.structure.architecture}) have no "
            "parts of one role or name and shape, so that nothing can be compared"
        )
    progress("layers", 1 + len(pairs), 1 + len(pairs))
    same = bool(changes) and all(change.equal or change.cast for change in changes)
    same = same and (same_plan(one, two) or next(unequal(one, two), None) is None)
    proven = [each.log_p for each in found if each.exact]
    exact = bool(proven) and (_refuted(bonferroni(proven) + pair.ways, alpha) or not _refuted(log_p, alpha))
    decision = _decide(log_p, alpha, by_layer, lambda name: kept(first, second, name))
    related = decision != "inconclusive" or same
    told = operations((one, two), held, changes, roled if known else found, places) if related else []
    disguised = any(each.kind.disguise for each in told)
    parted = [] if disguised or not told else [each for each in changes if _in_related(each, decision, by_layer)]
    branch = branch_point(parted)
    movement = parting(telling(parted), tables(one, two)) if parted and branch is not None else None
    first_of = direction(told, movement)
    return Comparison(
        decision=decision,
        tested=tested,
        coverage=(
            coverage(one, pairs.keys(), named.tested[0], named.left_out[0]),
            coverage(two, pairs.values(), named.tested[1], named.left_out[1]),
        ),
        log_p=log_p,
        exact=exact,
        alpha=alpha,
        findings=tuple(found),
        layers=by_layer,
        changes=tuple(changes),
        operations=tuple(told),
        relation=relation(first_of, branch) if told else "undetermined",
        direction=first_of,
        branch=branch,
        parting=movement,
        kurtosis=(attention_kurtosis(one, matched.keys()), attention_kurtosis(two, matched.values())),
        likeness=likeness(one, two, matched if related else pairs, most=2 if layers else 4),
        axes=axes.how if axes else "tensors by name and shape",
        architectures=(one.structure.architecture, two.structure.architecture),
        bytes_read=0,
        seconds=0.0,
        caveats=(
            *_caveats(one, two, found, layers),
            *_given(named),
            *([BY_MOVEMENT] if first_of != "undetermined" and movement else []),
        ),
    )


def _in_related(change: TensorChange, decision: Decision, by_layer: Sequence[LayerEvidence]) -> bool:
    """Whether a tensor tells where two nets parted: any where the nets are related, else those of related places."""
    if decision != "part reused":
        return True
    return any(
        change.name == at.name if at.name else change.name.startswith(f"layer {at.layer} ")
        for at in by_layer
        if at.related
    )


def _with_roles(net: Weights) -> frozenset[str]:
    return frozenset(part.tensor for part in net.structure.parts.values())


def _refuted(log_p: float, alpha: float) -> bool:
    return log_p <= math.log(alpha)


def _by_layer(found: Sequence[Finding], alpha: float) -> tuple[LayerEvidence, ...]:
    """Where the evidence lies: each place on its own, at alpha over the number of places."""
    places: dict[tuple[int, int, str], list[float]] = {}
    for finding in (each for each in found if each.decides):
        for seen in finding.observations:
            places.setdefault((seen.layer, seen.paired, seen.name), []).append(seen.log_p)
    logs = {place: bonferroni(values) for place, values in places.items()}
    return tuple(
        LayerEvidence(layer, paired, log_p, _refuted(log_p, alpha / len(logs)), name)
        for (layer, paired, name), log_p in sorted(logs.items())
    )


def _elsewhere(places: LayerMap, by_layer: tuple[LayerEvidence, ...], alpha: float) -> tuple[LayerEvidence, ...]:
    """The map again, with layers that showed nothing held against the most similar one of B: they may have moved.

    The p-value of the whole, which has refuted independence without this, stays as it was.
    """
    lost = [place.layer for place in by_layer if place.layer >= 0 and not place.name and not place.related]
    moved = {layer: at for layer, at in places.moved(lost).items() if at != layer} if lost else {}
    if not moved:
        return by_layer
    tests = findings(places.first, places.second, places.axes, moved)
    tests = [each for each in tests if each.test != "axis places"]
    again = {place.layer: place for place in _by_layer(tests, alpha / len(by_layer) * len(moved)) if place.related}
    return tuple(place if place.name else again.get(place.layer, place) for place in by_layer)


def _decide(
    log_p: float, alpha: float, places: Sequence[LayerEvidence], kept: Callable[[str], bool] = lambda _: False
) -> Decision:
    """Related where independence is refuted in most layers of B that were read; a part where only in some.

    Tensors without roles are judged so by themselves: they may be a tower of their own, of more tensors than the other.
    One that is too small to show anything by itself, and has ``kept`` its numbers, is no other net's.
    """
    if not _refuted(log_p, alpha):
        return "inconclusive"
    kinds = [[place for place in places if place.layer >= 0 and bool(place.name) == named] for named in (False, True)]
    theirs = [{place.paired for place in kind} for kind in kinds]
    held = [{at.paired for at in kind if at.related or (at.name and kept(at.name))} for kind in kinds]
    if not any(place.related for place in places):  # it lies in no place alone, so no part is told from the rest
        return "related"
    whole = any(theirs) and all(2 * len(some) > len(each) for some, each in zip(held, theirs, strict=True) if each)
    return "related" if whole else "part reused"


def _caveats(one: Weights, two: Weights, found: Sequence[Finding], layers: int) -> list[str]:
    told = [
        "A refuted independence means descent or a common ancestor: nets from one initialisation are related, and "
        "neither was made from the other.",
        "Distillation into fresh weights, and training anew, leave no trace in weights: only behaviour can tell.",
    ]
    for net in (one, two):
        if isinstance(net.checkpoint, Adapter):
            told.append(
                f"{net.checkpoint.path} is an adapter, read with {net.checkpoint.base.path} under it: what is found is "
                "found in that base, and that the adapter belongs to it is the word of whoever named the base."
            )
        if not net.structure.known:
            told.append(f"{net.checkpoint.path}: the names of its tensors are of no known architecture.")
        elif not net.structure.heads:
            told.append(f"{net.checkpoint.path}: the number of its heads is not known; fused attention was left out.")
    if layers and one.structure.layers > layers:
        told.append(f"{layers} of {one.structure.layers} layers were read; --all-layers reads every one.")
    told += [f"{test}: evaded by {about(test).evasion}." for test in dict.fromkeys(each.test for each in found)]
    return told


def _given(named: ByName) -> list[str]:
    """What was taken for constants: equal numbers that a reader may know to have been trained."""
    equal = sorted((name for name, why in named.left_out[0].items() if why == GIVEN), key=natural)
    if not equal:
        return []
    some = ", ".join(map(printable, equal[:EQUAL])) + (", ..." if len(equal) > EQUAL else "")
    return [
        f"Equal in both nets, {len(equal)} in number: {some}. All else is apart and no bias or gain is equal, so they "
        "are taken for constants that both were given, and are no evidence. If training made them, they were copied."
    ]


def document(comparison: Comparison) -> dict[str, Any]:
    """The comparison as JSON. ``p_value`` is 0.0 where it is smaller than a float can be; ``log10_p`` never lies."""
    return {
        "decision": comparison.decision,
        "null_hypothesis": NULL,
        "tested": comparison.tested,
        "coverage": [asdict(each) for each in comparison.coverage],
        "passed_over": comparison.passed_over,
        **(_p_value(comparison.log_p) if comparison.tested else {"p_value": None, "log10_p": None}),
        "exact": comparison.exact,
        "alpha": comparison.alpha,
        "tests": [
            {
                "name": each.test,
                **asdict(about(each.test)),
                **_p_value(each.log_p),
                "result": each.told,
                "layers": [
                    {
                        "layer": at.layer,
                        "paired": at.paired,
                        "share": at.share,
                        "chance": at.chance,
                        **_p_value(at.log_p),
                    }
                    for at in each.observations
                ],
            }
            for each in comparison.findings
        ],
        "grade": comparison.grade,
        "layers": [
            {"layer": at.layer, "paired": at.paired, "name": at.name, "related": at.related, **_p_value(at.log_p)}
            for at in comparison.layers
        ],
        "operations": [asdict(each) for each in comparison.operations],
        "relation": comparison.relation,
        "direction": comparison.direction,
        "branch": comparison.branch,
        "parting": asdict(comparison.parting) if comparison.parting else None,
        "kurtosis": comparison.kurtosis,
        "likeness": asdict(comparison.likeness) if comparison.likeness else None,
        "changes": [asdict(each) for each in comparison.changes],
        "architectures": comparison.architectures,
        "axes": comparison.axes,
        "bytes_read": comparison.bytes_read,
        "seconds": comparison.seconds,
        "caveats": comparison.caveats,
    }


def _p_value(log_p: float) -> dict[str, float]:
    return {"p_value": math.exp(log_p), "log10_p": max(-1e9, log_p / math.log(10))}
