"""Near-boundary: whether a served model is exactly the owner's, by labels next to its boundary.

Papers: S. Wang, S. Abuadba et al., *PublicCheck*, arXiv 2203.10902, for the idea of an integrity check by samples near
the boundary; theirs are made by a generative model, these lie between two pictures.

Integrity, not ownership: any label that differs means that the model was changed. Queries: points on either side of the
boundary between two natural pictures (`whorl.queries.near_boundary`). Representation: labels. Similarity: share that
did not change. Access: labels of both. What answers cannot show is in docs/integrity.md.

What it sees is measured beside `sensitive-samples-labels` in `benchmarks/integrity.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from whorl.queries.near_boundary import NearBoundary as Points
from whorl.schemes.base import Purpose
from whorl.schemes.matching import Matching

__all__ = ["NearBoundary"]


@dataclass(frozen=True, kw_only=True)
class NearBoundary(Points, Matching):
    """The predicted class next to the boundary; see `whorl.queries.near_boundary.NearBoundary` for the setting."""

    name: ClassVar[str] = "near-boundary"
    paper: ClassVar[str] = "Wang et al., arXiv 2203.10902 (PublicCheck's idea of samples near the boundary)"
    idea: ClassVar[str] = "Any change of the labels next to the victim's boundary: integrity, not ownership."
    purpose: ClassVar[Purpose] = "integrity"
    blind: ClassVar[str] = (
        "changes behind a key, or that leave the boundary as it is; and it cannot tell a thief's copy from a stranger"
    )
