"""What two nets of a folder are to each other, as far as a family tree needs it, in a form that can be kept.

The distance of two nets is the chord between their directions, sqrt(2 (1 - cosine)): near the relative change
|B - A| / |A| where it is small, 1.41 for nets that have nothing to do with each other. The cosine is the mean over
tensors that both have, weighted by their sizes. Where units or axes were reordered or turned, tensors have no common
basis; then the cosine is that of hidden units of A with their nearest ones of B in token space. The two scales are of
one kind and not exactly comparable.

Which of two nets came first is told by operations, and where they say nothing by movement, if at all
(`whorl.weights.parting`); nets between which neither tells, and whose units were reordered, stay ``undetermined``.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Protocol

import torch
from torch.nn.functional import normalize

from whorl.checkpoints.checkpoint import Checkpoint
from whorl.checkpoints.roles import Key, Weights
from whorl.errors import WhorlError
from whorl.revisions import digest_of
from whorl.storage import one_line
from whorl.weights.changes import Change
from whorl.weights.comparison import Comparison, compare
from whorl.weights.family.gathering import Member
from whorl.weights.history import Direction, Operation
from whorl.weights.layering import LayerMap
from whorl.weights.pairing import basis, spread

__all__ = ["Cells", "Kinship", "Memory", "pair_key", "relate", "restore"]

ALPHA: Final = 0.01  # beyond which no operations are looked for; a tree asks for less
UNITS: Final = 256
AT_END: Final = 0.25  # how far the branch point of a likely descent may be from an end; chosen as `AT_MIDDLE` was
EXACT: Final = 1e-4  # of 1 - cosine: below, single precision no longer tells


class Cells(Protocol):
    """What keeps relations: documents by key, as `whorl.engine.store.Store` does."""

    def get_many(self, keys: Iterable[str]) -> dict[str, Any]:
        """The documents that are there."""
        ...

    def put(self, key: str, document: Any) -> None:
        """Keep a document."""
        ...


class Memory:
    """Cells that end with the process."""

    def __init__(self) -> None:
        self.held: dict[str, Any] = {}

    def get_many(self, keys: Iterable[str]) -> dict[str, Any]:
        """The documents that are there."""
        return {key: self.held[key] for key in keys if key in self.held}

    def put(self, key: str, document: Any) -> None:
        """Keep a document."""
        self.held[key] = document


@dataclass(frozen=True)
class Kinship:
    """Two nets, A and B.

    ``log_p`` and ``places`` (one for each layer that was read) are natural logarithms of p-values; ``tested`` is false
    where no test applied. ``branch`` is where between A (0) and B (1) their common ancestor is estimated to lie.
    ``distance`` is from 0 to 2, ``how`` is ``weights``, ``units`` or ``none``.
    """

    log_p: float
    exact: bool
    tested: bool
    places: tuple[float, ...]
    distance: float
    how: str
    operations: tuple[Operation, ...]
    direction: Direction
    branch: float | None = None
    note: str = ""

    def refuted(self, alpha: float) -> bool:
        """Whether independence is refuted at this level; where nothing could be tested, whether B is A rounded."""
        cast = any(each.kind.equal for each in self.operations)
        return self.log_p <= math.log(alpha) if self.tested else cast

    def related(self, alpha: float) -> bool:
        """Whether it is refuted in most of the layers too, so that more than a part goes back to the other net."""
        seen = [log_p <= math.log(alpha / len(self.places)) for log_p in self.places]
        return self.refuted(alpha) and 2 * sum(seen) >= len(seen)

    @property
    def estimated(self) -> bool:
        """Whether its direction is an estimate: told by movement and no operation."""
        return self.direction != "undetermined" and all(each.first == "undetermined" for each in self.operations)

    @property
    def likely(self) -> Direction:
        """The direction, or what the branch point suggests: enough to look for merges by, and to tell nobody."""
        lossy = any(each.kind.lossy for each in self.operations)
        if self.direction != "undetermined" or self.branch is None or lossy:
            return self.direction
        return (
            "A first" if abs(self.branch) <= AT_END else "B first" if abs(self.branch - 1) <= AT_END else "undetermined"
        )

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def restore(document: Mapping[str, Any]) -> Kinship:
    """A relation that was kept as JSON."""
    operations = tuple(Operation(**each) for each in document["operations"])
    return Kinship(**{**document, "operations": operations, "places": tuple(document["places"])})


def pair_key(first: Member, second: Member, *, layers: int, tokens: int) -> str:
    """Content hash of everything that the relation of two nets depends on, the code that finds it included."""
    parts = [digest_of([__name__]), first.identity, second.identity, layers, tokens]
    return "pair-" + hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:24]


def relate(first: Checkpoint, second: Checkpoint, *, layers: int, tokens: int) -> Kinship:
    """Compare two nets. Nets that cannot be compared are unrelated and untested, with a note that says why."""
    try:
        found = compare(first, second, alpha=ALPHA, layers=layers, tokens=tokens)
    except (WhorlError, OSError) as error:
        return Kinship(0.0, False, False, (), 2.0, "none", (), "undetermined", note=one_line(error))
    distance, how = _distance(first, second, found, tokens)
    inner = tuple(place.log_p for place in found.layers if place.layer >= 0)
    return Kinship(
        log_p=found.log_p,
        exact=found.exact,
        tested=found.tested,
        places=inner,
        distance=distance,
        how=how,
        operations=found.operations,
        direction=found.direction,
        branch=found.branch,
    )


def _distance(first: Checkpoint, second: Checkpoint, found: Comparison, tokens: int) -> tuple[float, str]:
    turned = any(each.kind.turned for each in found.operations)
    if turned or not found.changes:
        units = _unit_distance(Weights(first), Weights(second), tokens)
        if units is not None:
            return units, "units"
    return chord(found.changes), "weights"


def chord(changes: Sequence[Change]) -> float:
    """Mean distance over tensors, as a root mean square weighted by their sizes. From 0 to 2."""
    total = sum(change.elements for change in changes)
    squares = sum(change.elements * _square(change) for change in changes)
    return math.sqrt(squares / max(1, total))


def _square(change: Change) -> float:
    """Of nearly equal tensors the cosine has lost its digits, and the relative change is the chord."""
    apart = 2 * (1 - change.cosine)
    return apart if apart > 2 * EXACT else min(4.0, change.relative**2)


def _unit_distance(first: Weights, second: Weights, tokens: int) -> float | None:
    """The same for hidden units and their nearest ones, whatever their order; None where nets have no common axes."""
    if not (first.structure.known and second.structure.known):
        return None
    axes = basis(first, second, tokens)
    if axes is None:
        return None
    role = "gate" if first.structure.gated and second.structure.gated else "up"
    pairs = LayerMap(first, second, axes).pairs(spread(first.structure.layers, 2))
    cosines: list[torch.Tensor] = []
    for layer, paired in pairs.items():
        ours, theirs = _hidden(first, role, layer), _hidden(second, role, paired)
        if ours is None or theirs is None:
            continue
        few = first.folded(*ours)
        few, many = few[spread(len(few), UNITS)], second.folded(*theirs)
        few = few if axes.ours is None else few @ axes.ours
        many = many if axes.theirs is None else many @ axes.theirs
        cosines.append((normalize(few, dim=1) @ normalize(many, dim=1).T).abs().amax(1))
    return math.sqrt(2 * max(0.0, 1 - float(torch.cat(cosines).mean()))) if cosines else None


def _hidden(net: Weights, role: str, layer: int) -> Key | None:
    return next((Key(role, layer, expert) for place, expert in net.structure.mlps() if place == layer), None)
