"""The QuRD grid: any queries, any representation and any similarity, joined by name.

Paper: A. Godinot, E. Le Merrer, C. Penzo, F. Taiani, G. Tredan, *Queries, Representation & Detection: The Next 100
Model Fingerprinting Schemes*, AAAI 2025, arXiv 2412.13021.

``negative+labels+hamming`` is a scheme like any other: ``SCHEMES.make("negative+labels+hamming(augment=false)")``.
The names come from the catalogs `QUERIES`, `REPRESENTATIONS` and `SIMILARITIES`; ``train-`` before the queries takes
their seeds from the pictures that trained the victim and ``test-`` from held-out ones, where that is not so anyway.
Published points: AKH is negative+labels+hamming, IPGuard boundary+labels+hamming, SAC-m mixtures+sac+l1; SAC's
label-only variant is mixtures+hard-sac+hamming.

The paper's own figure: replacing random by negative queries is the largest single gain, the representation is of
second order. On digits (two victims, three extractions, 50 queries, direct copies) negative queries take the AUC of
labels from .67 to .98; scores with cosine reach .92 and correlations .96 on random queries, and adversarial and
boundary queries 1.00. For extracted copies it is otherwise: correlations add more than negative queries.

Changed from the paper: a query may ask several inputs (a pair, masks of one picture) and then the budget counts
pairs and beacons, not inputs; the cosine is averaged as (1 + cos) / 2.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any, ClassVar, Final, get_args

from whorl.catalog import Catalog
from whorl.errors import UsageError
from whorl.queries import QUERIES
from whorl.representations import REPRESENTATIONS, SIMILARITIES, Comparer
from whorl.schemes.base import Scheme
from whorl.types import Evidence, Representation, Task

__all__ = ["Combination", "combinations", "compose", "parts_of"]

SPLITS: Final = {"train": "victim", "test": "queries"}
PAPER = "Godinot et al., AAAI 2025, arXiv 2412.13021 (grid)"
WHOLE: Final = (("ddv", "cosine"),)  # a distance is one number a query, and only many have an angle


@dataclass(frozen=True)
class Combination:
    """A point of the grid; ``refusal`` says why it has no meaning, or is None where it works."""

    name: str
    refusal: str | None


def combinations() -> Iterator[Combination]:
    """Every combination of the three catalogs, for both splits of the data where the split matters."""
    queries = [name for plain in QUERIES for name in (plain, _other_split(plain))]
    for parts in product(queries, REPRESENTATIONS, SIMILARITIES):
        name = "+".join(parts)
        try:
            compose(name)
        except UsageError as error:
            yield Combination(name, str(error))
        else:
            yield Combination(name, None)


@cache
def compose(name: str) -> type[Scheme]:
    """The scheme of that name, the same class each time.

    Raises:
        UsageError: a part has no such name, or the parts have no meaning together; it says why.
    """
    parts = name.split("+")
    if len(parts) != 3:
        raise UsageError(
            f"a composed scheme is queries+representation+similarity, as in negative+labels+hamming; "
            f"{name!r} has {len(parts)} parts"
        )
    queries, representation, similarity = parts
    plain, part = _split(queries)
    sampler: Any = QUERIES[plain]
    representer: Any = REPRESENTATIONS[representation]
    comparer: Any = SIMILARITIES[similarity]
    if reason := _no_meaning(plain, representation, similarity):
        raise UsageError(f"{name} has no meaning: {reason}")
    _check_fields(name, sampler, representer, comparer)
    stops_early = representer.per_query and getattr(comparer, "per_query", True)
    stops_early = stops_early and (representation, similarity) not in WHOLE
    bases = (() if stops_early else (_Whole,)) + (sampler, representer, comparer, Scheme)
    what = f"{queries.replace('-', ' ')} queries, {representation} and {similarity}"
    described: dict[str, Any] = {
        "__doc__": f"{what}; see `{sampler.__name__}`, `{representer.__name__}` and `{comparer.__name__}`.",
        "__module__": __name__,
        "name": name,
        "paper": PAPER,
        "idea": f"A point of the QuRD grid: {what}.",
        "blind": "what its queries, its representation or its similarity leave out",
        "part": part,
    }
    if sampler.any_task and representer.any_task:
        described["tasks"] = frozenset(get_args(Task))
    return dataclass(frozen=True, kw_only=True)(type(name, bases, described))


def parts_of(name: str) -> tuple[str, ...]:
    """The targets of a composed scheme's parts, and of what composes them. Raises `UsageError` as `compose` does."""
    compose(name)
    queries, representation, similarity = name.split("+")
    parts = [QUERIES.targets(_split(queries)[0]), REPRESENTATIONS.targets(representation)]
    return (__name__, *(target for part in [*parts, SIMILARITIES.targets(similarity)] for target in part))


class _Whole(Comparer):
    """First among the bases of a scheme that compares its queries as a whole."""

    per_query: ClassVar[bool] = False

    def similarity(self, reference: Representation, observed: Representation) -> Evidence:
        return Evidence(super().similarity(reference, observed).similarity)  # pyright: ignore[reportAbstractUsage] the next comparer's


def _split(queries: str) -> tuple[str, str]:
    """The sampler's own name and the part of the data that it takes."""
    split, _, plain = queries.partition("-")
    if queries in QUERIES or split not in SPLITS:
        kind: Any = QUERIES[queries]
        return queries, kind.part
    kind = QUERIES[plain]
    if kind.part == SPLITS[split]:
        raise UsageError(f"{plain} takes {split} pictures anyway: type {plain} for {queries}")
    return plain, SPLITS[split]


def _other_split(plain: str) -> str:
    kind: Any = QUERIES[plain]
    return next(f"{split}-{plain}" for split, part in SPLITS.items() if part != kind.part)


def _no_meaning(queries: str, representation: str, similarity: str) -> str | None:
    """Why the parts do not fit; None where they do, or where a plug-in has not said."""
    samplers, comparers = (_kinds(catalog) for catalog in (QUERIES, SIMILARITIES))
    representer: Any = REPRESENTATIONS[representation]
    held, needed = representer.holds, representer.takes
    asked, compared = samplers[queries].asks, comparers[similarity].compares
    if held and compared and held not in compared:
        fitting = [name for name, kind in comparers.items() if held in kind.compares]
        return f"{similarity} compares {' and '.join(compared)}, {representation} holds {held}; use {_or(fitting)}"
    if needed and asked != needed:
        fitting = [name for name, kind in samplers.items() if kind.asks == needed]
        return f"{representation} needs {needed} and {queries} asks {asked}; use {_or(fitting)}"
    return None


def _kinds(catalog: Catalog[Any]) -> dict[str, Any]:
    return {name: catalog[name] for name in catalog}


def _or(names: list[str]) -> str:
    return " or ".join(names)


def _check_fields(name: str, *kinds: Any) -> None:
    """Parts that share a parameter's name could not be told apart in an expression."""
    fields = [field.name for kind in kinds if dataclasses.is_dataclass(kind) for field in dataclasses.fields(kind)]
    if twice := sorted({field for field in fields if fields.count(field) > 1}):
        raise UsageError(f"the parts of {name} share the parameter {', '.join(twice)}; write a scheme of its own")
