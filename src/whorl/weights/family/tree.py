"""The family trees of a folder of checkpoints: who is related, who was made from whom, and where weights do not tell.

Copies are put together first; then every pair of nets is compared, and independence refuted with one error rate for all
pairs together (Bonferroni); merges are found (`whorl.weights.family.merges`) and trees grown
(`whorl.weights.family.planting`, which says what direction rests on, and what cannot be told).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

from whorl.errors import UsageError
from whorl.weights.family.gathering import Member, gather
from whorl.weights.family.merges import merges_of
from whorl.weights.family.planting import Family, plant
from whorl.weights.family.relations import Cells, Kinship, Memory, pair_key, relate, restore
from whorl.weights.operation import FIRST, Operation

__all__ = ["CAVEATS", "Lineage", "document", "lineage"]

CAVEATS = (
    "Related means that one net was made from the other or both from a common ancestor, which may not be here.",
    "An undetermined edge could as well be the other way round, or join two children of a net that is not here.",
    "Which of two tunes came first is told by movement, if at all; a sibling that was tuned far less may look like it.",
    "Distillation and training anew leave no trace in weights, so that such a descent is not found.",
    "An adapter is read with the net that its configuration names, and all its relations rest on that word.",
)
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Lineage:
    """All families of a folder, the largest first; a family of one is a net without relatives here.

    ``skipped`` says what could not be read and why. ``parts`` are pairs of which only a part goes back to the other
    net; ``untested`` are pairs that no test applies to, or that failed. ``compared`` of all ``pairs`` were compared
    now; the others are known from before, or hold nothing that can be compared.
    """

    folder: str
    families: tuple[Family, ...]
    members: tuple[Member, ...]
    skipped: Mapping[str, str]
    parts: tuple[tuple[str, str], ...]
    untested: tuple[tuple[str, str], ...]
    alpha: float
    pairs: int
    compared: int


def lineage(
    folder: Path,
    *,
    alpha: float = 0.01,
    layers: int = 4,
    tokens: int = 256,
    cells: Cells | None = None,
    progress: Progress = lambda *_: None,
) -> Lineage:
    """The family trees of all checkpoints under a folder.

    Parameters:
        alpha: the accepted chance that any two independent nets of the folder are called related.
        layers: how many layers of each net to read, evenly spread; 0 for all.
        tokens: how many shared tokens span the space in which rows are compared.
        cells: where the relation of a pair is kept once it is known; what is there is not compared again.

    Raises:
        UsageError: no folder, or nothing in it that can be read.
        InvalidFile: a file was damaged while it was read.
    """
    if not 0 < alpha < 1 or tokens < 2 or layers < 0:
        raise UsageError("alpha lies between 0 and 1, tokens are at least 2, and layers not below 0 (0 for all)")
    members, skipped = gather(folder, progress)
    if not members:
        first = next((f". {name}: {why}" for name, why in skipped.items()), "")
        raise UsageError(f"{folder} holds no checkpoint that can be read{first}")
    pairs, compared = _relations(members, layers, tokens, Memory() if cells is None else cells, progress)
    level = alpha / max(1, len(pairs))
    joined = {pair: found for pair, found in pairs.items() if found.related(level)}
    names = [member.name for member in members]
    merges = merges_of([member.checkpoint for member in members], _earlier(joined))
    apart = {pair: found for pair, found in pairs.items() if pair not in joined}
    return Lineage(
        folder=folder.resolve().name,
        families=tuple(plant(names, joined, merges)),
        members=tuple(members),
        skipped=skipped,
        parts=_named(names, (pair for pair, found in apart.items() if found.refuted(level))),
        untested=_named(names, (pair for pair, found in apart.items() if not found.tested)),
        alpha=alpha,
        pairs=len(pairs),
        compared=compared,
    )


def _earlier(pairs: Mapping[tuple[int, int], Kinship]) -> set[tuple[int, int]]:
    """(Ancestor, descendant) of every pair whose direction is told or likely."""
    forward = {pair for pair, found in pairs.items() if found.likely == "A first"}
    return forward | {(two, one) for (one, two), found in pairs.items() if found.likely == "B first"}


def _named(names: Sequence[str], pairs: Iterable[tuple[int, int]]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((names[min(pair)], names[max(pair)]) for pair in pairs))


def _relations(
    members: Sequence[Member], layers: int, tokens: int, cells: Cells, progress: Progress
) -> tuple[dict[tuple[int, int], Kinship], int]:
    """The relation of every pair, and how many were compared now. Of a pair the lesser identity is A."""
    order = sorted(range(len(members)), key=lambda place: members[place].identity)
    keys = {
        (one, two): pair_key(members[one], members[two], layers=layers, tokens=tokens)
        for one, two in combinations(order, 2)
    }
    kept = {key: restore(each) for key, each in cells.get_many(keys.values()).items()}
    found: dict[tuple[int, int], Kinship] = {}
    compared = 0
    for done, ((one, two), key) in enumerate(keys.items()):
        progress("pairs", done, len(keys))
        if key in kept:
            found[one, two] = kept[key]
        else:
            found[one, two] = relate(members[one].checkpoint, members[two].checkpoint, layers=layers, tokens=tokens)
            if not found[one, two].note:  # what failed may be mended, and is tried again
                compared += 1
                cells.put(key, found[one, two].document())
    progress("pairs", len(keys), len(keys))
    return {pair: _worded(members, pair, each) for pair, each in found.items()}, compared


def _worded(members: Sequence[Member], pair: tuple[int, int], found: Kinship) -> Kinship:
    """An adapter comes after the net that it is read with. Not kept: another folder may have other names."""
    for place, letters in ((0, "AB"), (1, "BA")):
        adapter, other = members[pair[place]], members[pair[1 - place]]
        if adapter.base and adapter.base in (other.name, *other.copies):
            told = f"{letters[0]} is an adapter of {letters[1]} by the word of its configuration"
            word = Operation("adapter", told, FIRST[place])
            return replace(found, operations=(word, *found.operations), direction=FIRST[place])
    return found


def document(found: Lineage) -> dict[str, Any]:
    """The trees as JSON."""
    nets = {
        member.name: {
            "sha256": member.digest,
            "copies": list(member.copies),
            "parameters": member.checkpoint.parameters,
            "format": member.checkpoint.format,
            "adapter_of": member.base or None,
        }
        for member in found.members
    }
    return {
        "folder": found.folder,
        "alpha": found.alpha,
        "pairs": found.pairs,
        "compared": found.compared,
        "checkpoints": nets,
        "families": [asdict(family) for family in found.families],
        "parts_reused": [list(pair) for pair in found.parts],
        "untested": [list(pair) for pair in found.untested],
        "skipped": dict(found.skipped),
        "caveats": list(CAVEATS),
    }
