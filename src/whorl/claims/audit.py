"""Is a fingerprint what its file says? Made again from scheme, seed and model, and held against what is in the file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import torch

from whorl.claims.cost import check_cost
from whorl.claims.leaves import part_of
from whorl.claims.making import seed_of
from whorl.claims.opening import OpenedClaim
from whorl.data import SOURCES, Dataset
from whorl.errors import InvalidFile, UsageError
from whorl.fingerprints.looks import BEGUN
from whorl.oracles.base import Oracle
from whorl.oracles.wrappers import digests_of
from whorl.schemes import SCHEMES
from whorl.storage import digest_tensors
from whorl.suspects import earlier_looks, known_fingerprint, one_of, opened_for
from whorl.types import Fingerprint

__all__ = ["FAR", "LEAST_EQUAL", "Audit", "audit", "check_victim", "made_again"]

FAR: Final = 2 / 255
"""How far an input that is made again may lie from the one in the file, in the unit of its space."""
LEAST_EQUAL: Final = 0.98
"""Of the victim's answers that are made again, how many have to be equal; another processor sums in another order."""


@dataclass(frozen=True)
class Audit:
    """What was found.

    ``same`` says whether the queries and answers made again are equal to the byte, ``near`` whether inputs lie within
    `FAR` and answers agree on `LEAST_EQUAL`; ``largest`` is the largest difference of an input, ``equal`` the share of
    equal answers. ``drawn`` says whether the seed is the one that nobody chooses (`whorl.claims.making.seed_of`).
    ``looks`` counts finished verifications that are logged, ``settings`` the other settings that models of the null
    calibrated before: by ``tries`` a p-value is to be multiplied.
    """

    same: bool
    near: bool
    largest: float
    equal: float
    drawn: bool
    looks: int
    settings: tuple[str, ...]

    @property
    def tries(self) -> int:
        """What was tried before and beside, one at least."""
        return max(1, self.looks) + len(self.settings)


def audit(
    fingerprint: Fingerprint | str | Path,
    victim: Any,
    *,
    data: Dataset | str | None = None,
    cache: Path | None = None,
    **options: Any,
) -> Audit:
    """Extract the fingerprint again and compare.

    Parameters:
        victim: the model that it was made from.
        data: where its seeds were taken from; what the file names by default.
        cache: folder that remembers verifications, as in `whorl.ownership.verify`.

    Raises:
        UsageError: it is another model, the file does not name its data, or the scheme learns from shadow models.
    """
    known = known_fingerprint(fingerprint)
    scheme = SCHEMES.make(known.scheme)
    oracle = opened_for(known, victim, **options)
    if known.victim not in digests_of(oracle):
        raise UsageError(f"{oracle.name} is not the victim of this fingerprint; give the model that it was made from")
    if scheme.needs_pool:
        raise UsageError(f"{scheme.name} learns from shadow models, which no file keeps, so it can't be made again")
    if (source := data if data is not None else known.data) == "" and scheme.needs_data:
        raise UsageError("this fingerprint does not name its data: give --data")
    pictures = SOURCES.make(source).load(scheme.part) if isinstance(source, str) and source else source or None
    again = scheme.extract(oracle, pictures, budget=len(known.queries), seed=known.seed)
    looks = earlier_looks(fingerprint, known, cache)
    return replace(
        compared(known, again),
        drawn=len(known.victim) == 64 and known.seed == seed_of(known.victim, known.scheme),
        looks=sum(look.decision != BEGUN for look in looks),
        settings=known.calibration.earlier if known.calibration else (),
    )


def check_victim(opened: OpenedClaim, victim: Any, **options: Any) -> None:
    """Raise `UsageError` where a model is not the victim of a claim, before anybody trains models for a judge.

    And where making its queries again is more work than a judge does (`whorl.claims.cost`).
    """
    _check_costs(opened)
    for part in opened.families.values():
        _victim_of(opened, part, victim, options)
        return


def _check_costs(opened: OpenedClaim) -> None:
    for name in (*opened.families, *opened.reserves):
        family = opened.claim.body.families[name]
        check_cost(name, family.scheme, family.size)


def _victim_of(opened: OpenedClaim, part: Fingerprint, victim: Any, options: Mapping[str, Any]) -> Oracle:
    oracle = one_of(part, victim, **options)
    if opened.claim.victim not in digests_of(oracle):
        raise UsageError(f"{oracle.name} is not the victim of this claim; ask its owner for the weights")
    return oracle


def made_again(opened: OpenedClaim, victim: Any, **options: Any) -> OpenedClaim:
    """Extract every opened family again from the victim's weights, with the seed that nobody chose.

    Whoever asked the suspect first and kept what it answers as he likes can't have got his queries so. What is returned
    holds the queries and answers that were made here: within `FAR` of them an owner could have moved the others until
    the suspect answers as he likes.

    Raises:
        UsageError: it is another model than the claim's, or more work than a judge does (`whorl.claims.cost`).
        InvalidFile: the opened queries, or the victim's answers, are not what scheme, seed and model give.
    """
    _check_costs(opened)
    own: dict[str, Fingerprint] = {}
    for name, part in {**opened.families, **opened.reserves}.items():
        family = opened.claim.body.families[name]
        scheme = SCHEMES.make(family.scheme)
        oracle = _victim_of(opened, part, victim, options)
        if part.seed != seed_of(opened.claim.victim, family.scheme):
            raise InvalidFile(f"the seed of {name} was chosen, and is not the one that the victim's digest gives")
        pictures = SOURCES.make(opened.claim.body.data).load(scheme.part)
        again = scheme.extract(oracle, pictures, budget=family.size, seed=part.seed)
        here = part_of(again, opened.opening.body.families[name].indices)
        found = compared(part, here)
        if not found.near:
            raise InvalidFile(
                f"the opened queries of {name} are not what its scheme makes of the victim: inputs differ by up to "
                f"{found.largest:.3g}, answers agree on {found.equal:.1%}"
            )
        own[name] = replace(part, queries=here.queries, reference=here.reference)
    return replace(
        opened,
        families={name: own[name] for name in opened.families},
        reserves={name: own[name] for name in opened.reserves},
    )


def compared(known: Fingerprint, again: Fingerprint) -> Audit:
    """Queries and answers of two fingerprints, place by place."""
    largest, equal = float("inf"), 0.0
    if known.queries.inputs.shape == again.queries.inputs.shape:
        apart = (known.queries.inputs.double() - again.queries.inputs.double()).abs()
        largest = float(apart.max())
    if known.reference.values.shape == again.reference.values.shape:
        close = torch.isclose(known.reference.values.double(), again.reference.values.double(), rtol=1e-3, atol=1e-3)
        equal = float(close.double().mean())
    same = _digest(known) == _digest(again)
    return Audit(same, same or (largest <= FAR and equal >= LEAST_EQUAL), largest, equal, False, 0, ())


def _digest(fingerprint: Fingerprint) -> str:
    queries = fingerprint.queries
    tensors = {"inputs": queries.inputs, "reference": fingerprint.reference.values}
    tensors |= {f"companions/{name}": value for name, value in queries.companions.items()}
    tensors |= {f"shared/{name}": value for name, value in queries.shared.items()}
    return digest_tensors(tensors)
