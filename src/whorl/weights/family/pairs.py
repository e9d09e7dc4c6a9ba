"""Which pairs of nets are compared, and what they are to each other: by sketches first, then by the exact tests.

**Why the error rate holds although the sketch chose.** Let N pairs be there. Each pair of independent nets has a
p-value that is at most alpha / N with a chance of at most alpha / N, whether anybody looks at it or not. The chance
that any of them is so small is at most alpha (Bonferroni), and so it is for those among them that were looked at,
however these were chosen: by a sketch of the very weights too. So N is the number of all pairs that could have been
chosen, and not of those that were. What the sketch does not choose is not found; it cannot accuse.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import combinations

from whorl.revisions import digest_of
from whorl.weights.family.cells import Cells, held, keep
from whorl.weights.family.gathering import Member, words
from whorl.weights.family.relations import Kinship, pair_key, relate, restore
from whorl.weights.family.sketches import Index, Sketch, sketch
from whorl.weights.operation import FIRST, Operation

__all__ = ["NEAREST", "Pair", "Progress", "chosen", "chosen_for", "known_of", "related", "sketched"]

NEAREST = 10
"""Nets that are compared with each net in full: those that its sketch is most like."""
Pair = tuple[int, int]
Progress = Callable[[str, int, int], None]


def sketched(members: Sequence[Member], cells: Cells, progress: Progress) -> tuple[list[Sketch], dict[str, str]]:
    """The sketch of each net, kept by the digest of its tensors; and of which none could be made, and why."""
    keys = [_sketch_key(member) for member in members]
    known = held(cells, dict.fromkeys(keys), Sketch.restored)
    found: list[Sketch] = []
    failed: dict[str, str] = {}
    for done, (member, key) in enumerate(zip(members, keys, strict=True)):
        progress("sketches", done, len(members))
        if key not in known:
            try:
                known[key] = sketch(member.checkpoint)
            except Exception as error:  # as for files: one of thousands must not cost the others
                failed[member.name] = words(error)
                known[key] = Sketch.empty()
            else:
                keep(cells, key, known[key].document())
        found.append(known[key])
    progress("sketches", len(members), len(members))
    return found, failed


def _sketch_key(member: Member) -> str:
    parts = [digest_of([sketch.__module__]), member.digest]
    return "sketch-" + hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:24]


def chosen(sketches: Sequence[Sketch], progress: Progress) -> list[Pair]:
    """The pairs of places that are worth the tests: each net with its `NEAREST`. Of few nets these are all."""
    if len(sketches) <= NEAREST + 1:
        return list(combinations(range(len(sketches)), 2))
    index, found = Index(sketches), set[Pair]()
    for place, each in enumerate(sketches):
        progress("candidates", place, len(sketches))
        found |= {(min(place, near), max(place, near)) for near in index.nearest(each, NEAREST, apart=place)}
    progress("candidates", len(sketches), len(sketches))
    return sorted(found)


def chosen_for(suspect: Sketch, sketches: Sequence[Sketch]) -> list[int]:
    """The places of the nets that are worth the tests with a suspect; of few nets these are all."""
    few = len(sketches) <= NEAREST
    return list(range(len(sketches))) if few else Index(sketches).nearest(suspect, NEAREST)


def related(
    members: Sequence[Member], pairs: Iterable[Pair], cells: Cells, progress: Progress, *, layers: int, tokens: int
) -> tuple[dict[Pair, Kinship], int]:
    """The relation of each of these pairs, and how many were compared now. Of a pair the lesser identity is A."""
    ordered = [(one, two) if members[one].identity <= members[two].identity else (two, one) for one, two in pairs]
    keys = {(one, two): pair_key(members[one], members[two], layers=layers, tokens=tokens) for one, two in ordered}
    known = held(cells, keys.values(), restore)
    found: dict[Pair, Kinship] = {}
    compared = 0
    for done, ((one, two), key) in enumerate(keys.items()):
        progress("pairs", done, len(keys))
        if key in known:
            found[one, two] = known[key]
        else:
            found[one, two] = relate(members[one].checkpoint, members[two].checkpoint, layers=layers, tokens=tokens)
            compared += known_of(found[one, two])
            if not found[one, two].note:  # what failed may be mended, and is tried again
                keep(cells, key, found[one, two].document())
    progress("pairs", len(keys), len(keys))
    return {pair: _worded(members, pair, each) for pair, each in found.items()}, compared


def known_of(found: Kinship) -> bool:
    """Whether a comparison found anything out: a test applied, or one net is the other, rounded."""
    return found.refuted(1.0)


def _worded(members: Sequence[Member], pair: Pair, found: Kinship) -> Kinship:
    """An adapter comes after the net that it is read with. Not kept: another folder may have other names."""
    for place, letters in ((0, "AB"), (1, "BA")):
        adapter, other = members[pair[place]], members[pair[1 - place]]
        if adapter.base and adapter.base in (other.name, *other.copies):
            told = f"{letters[0]} is an adapter of {letters[1]} by the word of its configuration"
            word = Operation("adapter", told, FIRST[place])
            return replace(found, operations=(word, *found.operations), direction=FIRST[place])
    return found
