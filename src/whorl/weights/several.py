"""Files of several nets, or with tensors that cannot be used or are too many: what is held against each other."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING, Final, NamedTuple

from whorl.checkpoints.checkpoint import Checkpoint, UnusableTensor
from whorl.checkpoints.crowds import CROWD, surplus, within
from whorl.checkpoints.views import NETS, UNUSABLE, View, nets, passed_over, unread_in, without
from whorl.errors import UsageError
from whorl.printable import printable
from whorl.weights.coverage import Coverage
from whorl.weights.differences import alike
from whorl.weights.operation import Operation
from whorl.weights.renaming import Renamed, renamed

if TYPE_CHECKING:
    from whorl.weights.comparison import Comparison

__all__ = ["each_with_each"]

SURPLUS: Final = "tensors beyond those that are compared"

Compared = Callable[[Renamed, float], "Comparison"]


class _Tried(NamedTuple):
    found: Comparison
    ours: Checkpoint
    theirs: Checkpoint

    @property
    def related(self) -> bool:
        return self.found.decision != "inconclusive"

    @property
    def equal(self) -> bool:
        return any(each.kind.equal for each in self.found.operations)


def each_with_each(first: Checkpoint, second: Checkpoint, compared: Compared, alpha: float) -> Comparison:
    """What ``compared`` finds in two files; where they hold several nets, in the most alike of all pairs.

    Each pair is compared at alpha over their number, and the p-value is multiplied by it (Bonferroni). B is `related`
    only where most of its numbers are in nets that are, and else a part of it was reused; that something is equal is
    told of the files only where it is told of each of their nets. Of more than `NETS` in a file the largest are
    compared. Tensors that hold NaN or an infinity are left out and named in the caveats, `UNUSABLE` of each pair; of
    more than `CROWD` tensors the smallest are left out and counted there.

    Raises:
        UsageError: no pair of nets has anything that can be compared.
        InvalidFile: a file is damaged or untrue.
    """
    held = nets(first), nets(second)
    pairs = [(one, two) for one in held[0][:NETS] for two in held[1][:NETS]]
    tried: list[_Tried] = []
    for one, two in pairs:
        try:
            tried.append(_Tried(_in_a_crowd(one, two, compared, alpha / len(pairs)), one, two))
        except UsageError:
            if not tried and (one, two) == pairs[-1]:
                raise
    unread = tuple(f"{net.path}: left out: {unread_in(net)}." for net in (first, second) if net.left_out)
    if len(pairs) == 1:
        return _beside(tried[0].found, unread)
    best = _best(tried, held, len(pairs), second.parameters)
    return _beside(replace(best, passed_over=(tuple(passed_over(first)), tuple(passed_over(second)))), unread)


def _beside(found: Comparison, unread: tuple[str, ...]) -> Comparison:
    """The same beside tensors that are not read, which may be anything: no nets are equal that have such."""
    if not unread:
        return found
    partly = Operation("partly untouched", "the tensors that can be read are equal; there are others")
    told = tuple(partly if each.kind.equal else each for each in found.operations)
    return replace(found, operations=told, caveats=(*unread, *found.caveats))


def _best(
    tried: Sequence[_Tried], held: tuple[Sequence[Checkpoint], Sequence[Checkpoint]], pairs: int, parameters: int
) -> Comparison:
    best = min(tried, key=lambda each: (not each.related, not each.equal, each.found.log_p))
    theirs = {id(each.theirs): each.theirs for each in tried if each.related}
    most = 2 * sum(net.parameters for net in theirs.values()) > parameters
    whole = {id(net) for each in tried if each.equal for net in each[1:]} >= {id(net) for side in held for net in side}
    names = [repr(net.prefix if isinstance(net, View) else "") for net in best[1:]]
    told = Operation("partly untouched", f"the net {names[0]} of A is the net {names[1]} of B; there are others")
    several = (
        f"A holds {len(held[0])} and B {len(held[1])} nets, by the prefixes of names; each of the {NETS} largest was "
        f"compared with each, and what is told is of {names[0]} in A and {names[1]} in B."
    )
    return replace(
        best.found,
        decision=best.found.decision if most or not best.related else "part reused",
        log_p=min(0.0, best.found.log_p + math.log(pairs)),
        operations=tuple(told if each.kind.equal and not whole else each for each in best.found.operations),
        caveats=(several, *best.found.caveats),
    )


def _in_a_crowd(first: Checkpoint, second: Checkpoint, compared: Compared, alpha: float) -> Comparison:
    """Two nets, of whose tensors some are left out where they are too many. Nets are equal if these are so too."""
    nets, left = (first, second), (surplus(first, second), surplus(second, first))
    few = [within(net, names) for net, names in zip(nets, left, strict=True)]
    found = _usable(renamed(few[0], few[1]), compared, alpha)
    if not any(left):
        return found
    told = tuple(
        f"{net.path} holds {len(net.entries):,} tensors, of which {len(names):,} were left out, with at most "
        f"{prod(net.entries[names[0]].shape):,} numbers each, as {printable(names[0])}: of those without roles "
        f"{CROWD:,} are compared."
        for net, names in zip(nets, left, strict=True)
        if names
    )
    one, two = found.coverage
    found = replace(found, coverage=(_of_all(one, first), _of_all(two, second)), caveats=(*told, *found.caveats))
    if not any(each.kind.equal for each in found.operations) or _equal(first, second, left):
        return found
    partly = Operation("partly untouched", "the tensors that were compared are equal; of those left out some are not")
    return replace(found, operations=tuple(partly if each.kind.equal else each for each in found.operations))


def _of_all(seen: Coverage, net: Checkpoint) -> Coverage:
    """The coverage of some tensors of a net as that of the net."""
    share = seen.numbers / max(1, net.parameters)
    left_out = {reason: share * part for reason, part in seen.left_out.items()}
    left_out |= {SURPLUS: 1 - share} if share < 1 else {}
    return Coverage(net.parameters, share * seen.read, share * seen.tested, left_out)


def _equal(first: Checkpoint, second: Checkpoint, left: tuple[Sequence[str], Sequence[str]]) -> bool:
    """Whether tensors that were left out are the same in both nets, in name and number."""
    if sorted(left[0]) != sorted(left[1]):
        return False
    try:
        return all(alike(first.stored(name), second.stored(name)) for name in left[0])
    except UnusableTensor:
        return False


def _usable(pair: Renamed, compared: Compared, alpha: float) -> Comparison:
    skipped: list[str] = []
    while True:
        try:
            found = compared(pair, alpha)
        except UnusableTensor as error:
            sides = error.checkpoint is pair.first, error.checkpoint is pair.second
            if len(skipped) == UNUSABLE or not any(sides):
                raise
            pair = replace(pair, first=without(pair.first, error.tensor)) if sides[0] else pair
            pair = replace(pair, second=without(pair.second, error.tensor)) if sides[1] else pair
            skipped.append(f"{error}; it was left out.")
        else:
            return replace(found, caveats=(*skipped, *found.caveats))
