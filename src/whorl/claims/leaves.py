"""The leaves of a fingerprint: one for each query, so that some can be opened while the others stay secret.

A leaf holds ``salt || place || row``: 32 bytes that nobody can guess (`whorl.attest.draw.leaf_salt`), the place of the
query in 8 bytes, big-endian, and the SHA-256 of the query's own tensors (`row`). It is hashed as RFC 6962 says
(`whorl.attest.merkle.leaf_hash`). What all queries share is bound by its own SHA-256 (`facts`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import torch

from whorl.attest.draw import leaf_salt
from whorl.attest.merkle import Tree, leaf_hash
from whorl.errors import UsageError
from whorl.schemes import SCHEMES
from whorl.storage import canonical_json, digest_tensors
from whorl.types import Access, Fingerprint

__all__ = ["check_openable", "facts", "leaf", "part_of", "row", "tree"]


def row(fingerprint: Fingerprint, place: int) -> bytes:
    """SHA-256 over the input, the victim's answer and the companions of one query (`digest_tensors`), 32 bytes."""
    queries = fingerprint.queries
    tensors = {"inputs": queries.inputs[place], "reference": fingerprint.reference.values[place]}
    tensors |= {f"companions/{name}": values[place] for name, values in queries.companions.items()}
    return bytes.fromhex(digest_tensors(tensors))


def leaf(salt: bytes, place: int, tensors: bytes) -> bytes:
    """The hash of a leaf, 32 bytes."""
    return leaf_hash(salt + place.to_bytes(8, "big") + tensors)


def tree(fingerprint: Fingerprint, secret: bytes, family: str) -> Tree:
    """The tree over all queries of a family, whose salts come from the owner's secret."""
    places = range(len(fingerprint.queries))
    return Tree(leaf(leaf_salt(secret, family, place), place, row(fingerprint, place)) for place in places)


def facts(fingerprint: Fingerprint) -> str:
    """SHA-256 of what is no query's own: scheme, victim, space, classes, seed, notes, and what the queries share."""
    document = {
        "scheme": fingerprint.scheme,
        "victim": fingerprint.victim,
        "space": str(fingerprint.space),
        "task": fingerprint.task,
        "classes": fingerprint.classes,
        "class_names": list(fingerprint.class_names),
        "data": fingerprint.data,
        "seed": str(fingerprint.seed),
        "nonce": fingerprint.nonce,
        "notes": dict(fingerprint.queries.notes),
        "shared": digest_tensors(fingerprint.queries.shared),
        "versions": dict(fingerprint.versions),
    }
    return hashlib.sha256(canonical_json(document)).hexdigest()


def part_of(fingerprint: Fingerprint, places: Sequence[int]) -> Fingerprint:
    """The fingerprint of some of the queries alone, without anything that the owner measured."""
    chosen = torch.tensor(places, dtype=torch.int64)
    return replace(
        fingerprint,
        queries=fingerprint.queries[chosen],
        reference=fingerprint.reference[chosen],
        seconds=0.0,
        calibration=None,
        probes=None,
        candidates=None,
        mark=None,
        looks=(),
        pool=(),
        provenance={},
    )


def check_openable(scheme: str, *, labels: bool = True) -> None:
    """Raise `UsageError` where a part of the queries has no answer, or a suspect might not give what is asked.

    ``labels`` says that no more than labels may be asked.
    """
    if (made := SCHEMES.make(scheme)).needs_suspect is not Access.LABELS and labels:
        raise UsageError(
            f"{made.name} needs more than labels of a suspect, and a judge may be shown no more; schemes that work in "
            "a claim ask for labels, as akh, random, igsm, ipguard and multipoint do"
        )
    if not made.per_query:
        raise UsageError(
            f"{made.name} compares its queries as a whole, so none of them can be opened by itself; schemes that work "
            "in a claim compare query by query, as akh, random, igsm, ipguard and multipoint do"
        )
