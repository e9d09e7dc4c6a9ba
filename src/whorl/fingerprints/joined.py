"""Fingerprints of all candidates of a lineup by one scheme: joined, so that a file holds one tensor of each kind.

Rows of candidates follow each other: the queries of the first, then those of the second.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, cast

import torch
from torch import Tensor

from whorl.errors import UsageError
from whorl.types import Candidates, Fingerprint, Queries, Representation

__all__ = ["fingerprint_of", "join", "part_of"]

EACH: Final = "each"  # the note that holds the notes of every candidate


def join(fingerprints: Sequence[Fingerprint]) -> tuple[Queries, Tensor]:
    """The queries ``[K * n, ...]`` of K fingerprints of one scheme and size, and their references ``[K, ...]``.

    Raises:
        UsageError: the fingerprints have tensors of different names or shapes.
    """
    queries = [each.queries for each in fingerprints]

    def joined(of: Callable[[Queries], Mapping[str, Tensor]], how: Callable[[list[Tensor]], Tensor]):
        names = {tuple(sorted(of(each))) for each in queries}
        if len(names) > 1:
            raise UsageError(_UNLIKE)
        return {name: _alike([of(each)[name] for each in queries], how) for name in next(iter(names))}

    notes = {EACH: [dict(each.notes) for each in queries]} if any(each.notes for each in queries) else {}
    return Queries(
        _alike([each.inputs for each in queries], torch.cat),
        joined(lambda each: each.companions, torch.cat),
        notes,
        joined(lambda each: each.shared, torch.stack),
    ), _alike([each.reference.values for each in fingerprints], torch.stack)


_UNLIKE: Final = (
    "this scheme makes fingerprints of different shapes for these candidates, so they can't stand in one lineup; "
    "give another scheme"
)


def _alike(tensors: list[Tensor], how: Callable[[list[Tensor]], Tensor]) -> Tensor:
    if len({(each.shape, each.dtype) for each in tensors}) > 1:
        raise UsageError(_UNLIKE)
    return how(tensors)


def part_of(lineup: Candidates, place: int) -> tuple[Queries, Representation]:
    """The queries and the reference of the candidate at ``place``.

    Raises:
        ValueError: what is joined, as in a file of anybody's, is not of as many fingerprints as there are candidates.
    """
    count, joined = len(lineup.digests), lineup.queries
    size, left = divmod(len(joined), count)
    if left:
        raise ValueError(f"its lineup holds {len(joined)} queries, which {count} candidates do not share evenly")
    if uneven := [name for name, values in joined.shared.items() if values.shape[:1] != (count,)]:
        raise ValueError(f"its lineup's {uneven[0]!r} does not count the {count} candidates on its axis 0")
    rows = slice(place * size, (place + 1) * size)
    companions = {name: values[rows] for name, values in joined.companions.items()}
    shared = {name: values[place] for name, values in joined.shared.items()}
    queries = Queries(joined.inputs[rows], companions, _notes(joined.notes, place, count), shared)
    return queries, Representation(lineup.answers[place])


def _notes(joined: Mapping[str, Any], place: int, count: int) -> Mapping[str, Any]:
    if not joined:
        return {}
    each = joined.get(EACH)
    known = cast(list[Any], each) if isinstance(each, list) else []
    if joined.keys() != {EACH} or len(known) != count or not isinstance(known[place], dict):
        raise ValueError(f"its lineup's notes are not those of {count} candidates")
    return cast(dict[str, Any], known[place])


def fingerprint_of(fingerprint: Fingerprint, by: str, place: int) -> Fingerprint:
    """The fingerprint by the scheme ``by`` of the candidate at ``place``, which it does not name. Raises ValueError."""
    assert fingerprint.candidates is not None
    queries, reference = part_of(fingerprint.candidates, place)
    return replace(
        fingerprint,
        scheme=by,
        victim="",
        queries=queries,
        reference=reference,
        calibration=None,
        probes=None,
        candidates=None,
        pool=(),
        looks=(),
    )
