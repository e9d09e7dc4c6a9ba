"""A lineup by a scheme: every candidate has a fingerprint of its own, and the suspect's likeness to each is compared.

All are made by one rule, of the same seed, pictures and size, so permuting the candidates permutes the likenesses, and
the victim's rank is a p-value as with common questions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from torch import Tensor

from whorl.data import Dataset
from whorl.detection.lineup import Showing
from whorl.errors import UsageError
from whorl.fingerprints.joined import fingerprint_of, join, part_of
from whorl.oracles.base import Oracle
from whorl.schemes import SCHEMES, Scheme
from whorl.schemes.asking import admit, admit_victim, compare, represent
from whorl.types import Candidates, Fingerprint, Queries

__all__ = ["admit_by", "make_each", "scheme_of", "show_by"]


def scheme_of(by: str, victim: Oracle, *, questions: int, candidates: int) -> Scheme:
    """The scheme of a lineup, refused where it can't serve: to be asked before any twin is trained.

    Raises:
        UsageError: no such scheme, it learns from shadow models, or the questions are fewer than the candidates.
        AccessRefused: it needs more of the candidates than ``victim`` grants.
    """
    scheme = SCHEMES.make(by)
    if scheme.needs_pool:
        raise UsageError(
            f"{scheme.name} learns from shadow models, copies of one model, and twins have none of their own: give a "
            "scheme without (whorl schemes), or leave --by out and ask all candidates the same"
        )
    admit_victim(scheme, victim)
    if questions < candidates:
        raise UsageError(
            f"a lineup by {scheme.name} divides its questions among the candidates, and {questions:,} are fewer than "
            f"the {candidates:,} candidates: give --questions {candidates} or more"
        )
    return scheme


def make_each(
    scheme: Scheme,
    candidates: Sequence[Oracle],
    data: Dataset | None,
    *,
    questions: int,
    seed: int,
    progress: Callable[[], None],
) -> tuple[Queries, Tensor]:
    """The fingerprints of all candidates, joined; each of as many queries as the questions allow.

    Parameters:
        data: what they are made from, the same for all.
        progress: called after each candidate.
    """
    size, made = questions // len(candidates), list[Fingerprint]()
    for each in candidates:
        made.append(scheme.extract(each, data, budget=size, seed=seed))
        progress()
    return join(made)


def admit_by(fingerprint: Fingerprint, by: str, oracle: Oracle, budget: int | None = None) -> None:
    """Raise `AccessRefused` or `UsageError`, before the first query, where the oracle can't be asked by that scheme.

    A budget has to hold all queries: a fingerprint that was asked in part is no equal of the others.
    """
    first = fingerprint_of(fingerprint, by, 0)
    admit(SCHEMES.make(by), first, oracle)
    size = len(fingerprint.candidates.queries) if fingerprint.candidates else 0
    if budget is not None and budget < size:
        raise UsageError(
            f"a lineup by {first.scheme.partition('(')[0]} asks all {size:,} queries of its candidates; the budget is "
            f"{budget:,}. Leave it out, or make a lineup without --by"
        )


def show_by(lineup: Candidates, by: str, suspect: Oracle, *, progress: Callable[[int], None]) -> Showing:
    """Ask the suspect every candidate's queries; its likeness to each, by the scheme, is the candidate's total."""
    scheme, size = SCHEMES.make(by), len(lineup.queries)
    totals = np.zeros(len(lineup.digests))
    for place in range(len(totals)):
        queries, reference = part_of(lineup, place)
        totals[place] = compare(scheme, reference, represent(scheme, suspect, queries)).similarity
        progress(len(queries))
    return Showing("similarity", totals, asked=size, budget=size, size=size, won=False, sent=size)
