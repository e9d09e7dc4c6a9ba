"""Which tensors have roles: names of one family under one prefix, for a file may hold several towers or nets.

An encoder beside a decoder, a picture's tower beside that of text, and an optimiser's moments beside the weights have
the same names after other prefixes. Mixed, they would be no net at all; so one of them has roles, and the rest none.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Final, NamedTuple

from whorl.checkpoints.naming import NAMINGS, Naming

__all__ = ["NONE", "SHARED", "Key", "named_parts"]

NONE: Final = -1  # no layer, no expert
SHARED: Final = -2  # the expert that every token passes


class Key(NamedTuple):
    """Which part of a net: its role, its layer and its expert, `NONE` where it has none."""

    role: str
    layer: int = NONE
    expert: int = NONE


class _Hit(NamedTuple):
    before: tuple[str, ...]  # words that precede what the naming knows
    key: Key
    name: str


def named_parts(naming: Naming, names: Iterable[str]) -> dict[Key, str]:
    """The tensor of each role, as a family calls them, in one tower.

    Of several the tower is taken that has the embedding in it, then that of most roles, then that of most tensors.
    What lies outside of layers is taken from around the tower, from the nearest place.
    """
    names = list(names)
    hits = [hit for name in names if (hit := _hit(naming, name))]
    counts = Counter(hit.before for hit in hits if hit.key.layer != NONE)
    embeddings = [hit.before for hit in hits if hit.key.role == "embedding"]

    def worth(tower: tuple[str, ...]) -> tuple[int, int, int, int, tuple[str, ...]]:
        apart = min((len(tower) - len(each) for each in embeddings if _around(tower, each)), default=len(tower) + 1)
        held = sum(name.startswith(".".join([*tower, ""])) for name in names) if len(counts) > 1 else 0
        return -apart, counts[tower], held, -len(tower), tower

    tower = max(counts, key=worth, default=())
    found: dict[Key, str] = {}
    for hit in sorted(hits, key=lambda hit: -len(hit.before)):
        if hit.before == tower or (hit.key.layer == NONE and _around(tower, hit.before)):
            found.setdefault(hit.key, hit.name)
    return found


def _around(tower: tuple[str, ...], before: tuple[str, ...]) -> bool:
    """Whether a tower lies below these words."""
    return tower[: len(before)] == before


def _hit(naming: Naming, name: str) -> _Hit | None:
    tails, patterns = _patterns(naming.name)
    if not name.endswith(tails):  # most names are of no family, and patterns are slow
        return None
    for role, pattern in patterns:
        if match := pattern.fullmatch(name):
            numbers = match.groupdict()
            expert = SHARED if role.endswith(".shared") else int(numbers.get("expert") or NONE)
            bare = role.removesuffix(".shared").removesuffix(".expert")
            key = Key(bare, int(numbers.get("layer") or NONE), expert)
            return _Hit(tuple(match["before"].split(".")[:-1]), key, name)
    return None


@lru_cache
def _patterns(name: str) -> tuple[tuple[str, ...], list[tuple[str, re.Pattern[str]]]]:
    """What names of a family may end in, and the pattern of each role."""
    naming: Any = NAMINGS[name]
    # Words before a name are no numbers, so that no layer is skipped; but for the first, as in a torch.nn.Sequential.
    before = r"(?P<before>(?:\d{1,3}\.)?(?:[A-Za-z_]\w*\.)*)"
    tails = dict.fromkeys(template.rpartition("}")[2] for template in naming.parts.values())
    return tuple(tails), [
        (
            role,
            re.compile(
                before
                + re.escape(template)
                .replace(r"\{layer\}", r"(?P<layer>\d{1,5})")
                .replace(r"\{expert\}", r"(?P<expert>\d{1,5})")
            ),
        )
        for role, template in naming.parts.items()
    ]
