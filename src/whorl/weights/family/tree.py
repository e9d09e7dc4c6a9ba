"""The family trees of a folder of checkpoints: who is related, who was made from whom, and where weights do not tell.

Copies are put together first; sketches choose the pairs that are compared, and independence is refuted with one error
rate for all pairs that could have been chosen (`whorl.weights.family.pairs`); merges are found
(`whorl.weights.family.merges`) and trees grown (`whorl.weights.family.planting`, which says what direction rests on,
and what cannot be told).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import networkx as nx

from whorl.errors import UsageError
from whorl.weights.comparison import check_asked
from whorl.weights.family.cells import Cells, Memory
from whorl.weights.family.gathering import Member, gather, words
from whorl.weights.family.merges import Merge, merges_of
from whorl.weights.family.pairs import NEAREST, Pair, Progress, chosen, known_of, related, sketched
from whorl.weights.family.planting import Family, plant
from whorl.weights.family.relations import Kinship

__all__ = ["CAVEATS", "Lineage", "document", "earlier_of", "lineage", "net_document", "opened", "tool"]

CAVEATS = (
    "Related means that one net was made from the other or both from a common ancestor, which may not be here.",
    "An undetermined edge could as well be the other way round, or join two children of a net that is not here.",
    "Which of two tunes came first is told by movement, if at all; a sibling that was tuned far less may look like it.",
    "Distillation and training anew leave no trace in weights, so that such a descent is not found.",
    "An adapter is read with the net that its configuration names, and all its relations rest on that word.",
)
TOGETHER: Final = 24  # related nets among which merges are looked for at once; of more, each among its own relatives


@dataclass(frozen=True)
class Lineage:
    """All families of a folder, the largest first; a family of one is a net without relatives here.

    ``skipped`` says what could not be read and why, ``failed`` which nets and pairs could not be compared. ``parts``
    are pairs of which only a part goes back to the other net; ``untested`` are pairs that no test applies to, or that
    failed. Of all ``pairs`` so many were ``tested``, ``compared`` of them now; the others are known from before.
    Pairs that are neither tested nor untested were not compared, as their sketches are not alike. ``made`` is when,
    in UTC.
    """

    folder: str
    families: tuple[Family, ...]
    members: tuple[Member, ...]
    skipped: Mapping[str, str]
    parts: tuple[tuple[str, str], ...]
    untested: tuple[tuple[str, str], ...]
    alpha: float
    pairs: int
    tested: int
    compared: int
    failed: Mapping[str, str]
    made: str


def lineage(
    folder: str | Path,
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
        cells: where sketches and relations of pairs are kept once they are known; what is there is not made again.

    Raises:
        UsageError: no folder, or nothing in it that can be read.
        InvalidFile: a file was damaged while it was read.
    """
    check_asked(alpha, layers, tokens)
    folder = Path(folder)
    members, skipped = opened(folder, progress)
    cells = Memory() if cells is None else cells
    sketches, failed = sketched(members, cells, progress)
    pairs, compared = related(members, chosen(sketches, progress), cells, progress, layers=layers, tokens=tokens)
    count = len(members) * (len(members) - 1) // 2
    level = alpha / max(1, count)
    seen = {pair: found for pair, found in pairs.items() if found.refuted(level)}
    joined = {pair: found for pair, found in seen.items() if found.related(level)}
    untested = [pair for pair, found in pairs.items() if not known_of(found)]
    names = [member.name for member in members]
    failed |= {f"{names[one]} and {names[two]}": found.note for (one, two), found in pairs.items() if found.note}
    return Lineage(
        folder=folder.resolve().name,
        families=tuple(plant(names, joined, _merges(members, seen, failed, progress))),
        members=tuple(members),
        skipped=skipped,
        parts=_named(names, seen.keys() - joined.keys()),
        untested=_named(names, untested),
        alpha=alpha,
        pairs=count,
        tested=len(pairs) - len(untested),
        compared=compared,
        failed=failed,
        made=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def opened(folder: Path, progress: Progress) -> tuple[list[Member], dict[str, str]]:
    """The nets of a folder, and why others cannot be read. Raises `UsageError` where there is none."""
    members, skipped = gather(folder, progress)
    if not members:
        first = next((f". {name}: {why}" for name, why in skipped.items()), "")
        raise UsageError(f"{folder} holds no checkpoint that can be read{first}")
    return members, skipped


def _merges(
    members: Sequence[Member], seen: Mapping[Pair, Kinship], failed: dict[str, str], progress: Progress
) -> dict[int, Merge]:
    """Merges among nets that have something in common: a merge has it with each of its parents."""
    graph, earlier = nx.Graph(list(seen)), earlier_of(seen)
    groups: list[tuple[list[int], int | None]] = []
    for part in map(sorted, nx.connected_components(graph)):
        few = len(part) <= TOGETHER
        groups += [(part, None)] if few else [(sorted({each, *graph[each]}), each) for each in part]
    found: dict[int, Merge] = {}
    for done, (group, child) in enumerate(groups):
        progress("merges", done, len(groups))
        told = {(group.index(a), group.index(b)) for a, b in earlier if a in group and b in group}
        try:
            merges = merges_of([members[place].checkpoint for place in group], told)
        except Exception as error:  # as for files and pairs
            failed[f"merges among {members[group[0]].name} and its relatives"] = words(error)
            continue
        placed = {group[place]: merge.among(group) for place, merge in merges.items()}
        found |= {place: merge for place, merge in placed.items() if child in (None, place)}
    return dict(sorted(found.items()))


def earlier_of(pairs: Mapping[Pair, Kinship]) -> set[Pair]:
    """(Ancestor, descendant) of every pair whose direction is told or likely."""
    forward = {pair for pair, found in pairs.items() if found.likely == "A first"}
    return forward | {(two, one) for (one, two), found in pairs.items() if found.likely == "B first"}


def _named(names: Sequence[str], pairs: Iterable[Pair]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((min(names[one], names[two]), max(names[one], names[two])) for one, two in pairs))


def tool() -> dict[str, str]:
    """What made a document."""
    return {"name": "whorl", "version": version("whorl")}


def net_document(member: Member) -> dict[str, Any]:
    """What is said of a net in documents."""
    return {
        "sha256": member.digest,
        "copies": list(member.copies),
        "parameters": member.checkpoint.parameters,
        "format": member.checkpoint.format,
        "architecture": member.architecture,
        "adapter_of": member.base or None,
    }


def document(found: Lineage) -> dict[str, Any]:
    """The trees as JSON. ``checkpoints`` have the SHA-256 of their tensors' names, types, shapes and numbers."""
    return {
        "tool": tool(),
        "made": found.made,
        "folder": found.folder,
        "alpha": found.alpha,
        "pairs": found.pairs,
        "tested": found.tested,
        "compared": found.compared,
        "nearest": NEAREST,
        "checkpoints": {member.name: net_document(member) for member in found.members},
        "architectures": dict(Counter(member.architecture for member in found.members).most_common()),
        "families": [asdict(family) for family in found.families],
        "parts_reused": [list(pair) for pair in found.parts],
        "untested": [list(pair) for pair in found.untested],
        "failed": dict(found.failed),
        "skipped": dict(found.skipped),
        "caveats": list(CAVEATS),
    }
