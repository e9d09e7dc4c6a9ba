"""What two nets of a folder are to each other, as far as a family tree needs it, in a form that can be kept.

How far apart they are says `whorl.weights.family.distances`. Which of them came first is told by operations, and where
they say nothing by movement, if at all (`whorl.weights.parting`); nets between which neither tells stay
``undetermined``.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from whorl.checkpoints.checkpoint import Checkpoint
from whorl.errors import UsageError
from whorl.revisions import digest_of
from whorl.weights.comparison import compare
from whorl.weights.family.distances import distance
from whorl.weights.family.gathering import Member, words
from whorl.weights.history import AT_MIDDLE
from whorl.weights.operation import FIRST, Direction, Operation

__all__ = ["Kinship", "pair_key", "relate", "restore"]

DIRECTIONS: Final = (*FIRST, "undetermined")
LETTER: Final = re.compile(r"\b[AB]\b")
AT_END: Final = 0.25  # how far the branch point of a likely descent may be from an end; chosen as `AT_MIDDLE` was
ALPHA: Final = 0.01  # beyond which no operations are looked for; a tree asks for less


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
        return self.refuted(alpha) and (not seen or 2 * sum(seen) > len(seen))

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

    @property
    def siblings(self) -> bool:
        """Whether neither seems to be the other's parent, by the branch point alone."""
        midway = self.branch is not None and abs(self.branch - 0.5) <= AT_MIDDLE
        return midway and self.direction == "undetermined"

    def evidence(self, first: str, second: str) -> tuple[str, ...]:
        """What happened, with the names of the two nets for A and B."""
        named = {"A": first, "B": second}
        told = [(each.name, each.told) for each in self.operations]
        if self.branch is not None:
            way = min(1.0, max(0.0, self.branch))
            name = "common ancestor" if self.siblings else "branch point"
            told.append((name, f"an estimated {way:.0%} of the way from A to B"))
        return tuple(f"{name}: {LETTER.sub(lambda found: named[found[0]], text)}" for name, text in told)

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def restore(document: Mapping[str, Any]) -> Kinship:
    """A relation that was kept as JSON. Raises `ValueError`, `TypeError` or `KeyError` for what is none."""
    operations = tuple(Operation(**each) for each in document["operations"])
    kept = {**document, "operations": operations, "places": tuple(map(float, document["places"]))}
    found = Kinship(**kept)
    numbers = (found.log_p, found.distance, *found.places)
    if not all(math.isfinite(number) for number in numbers) or found.log_p > 0 or found.direction not in DIRECTIONS:
        raise ValueError("no relation of two nets")
    return found


def pair_key(first: Member, second: Member, *, layers: int, tokens: int) -> str:
    """Content hash of everything that the relation of two nets depends on, the code that finds it included."""
    parts = [digest_of([__name__]), first.identity, second.identity, layers, tokens]
    return "pair-" + hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:24]


def relate(first: Checkpoint, second: Checkpoint, *, layers: int, tokens: int) -> Kinship:
    """Compare two nets. Those that share nothing to compare are untested; so are those where it failed, with a note."""
    untested = Kinship(0.0, False, False, (), 2.0, "none", (), "undetermined")
    try:
        found = compare(first, second, alpha=ALPHA, layers=layers, tokens=tokens)
        apart, how = distance(first, second, found, tokens)
    except UsageError:  # no parts of one role, or name and shape
        return untested
    except Exception as error:  # whatever is wrong with one pair of thousands must not cost the others
        return replace(untested, note=words(error))
    inner = tuple(place.log_p for place in found.layers if place.layer >= 0)
    return Kinship(
        log_p=found.log_p,
        exact=found.exact,
        tested=found.tested,
        places=inner,
        distance=apart,
        how=how,
        operations=found.operations,
        direction=found.direction,
        branch=found.branch,
    )
