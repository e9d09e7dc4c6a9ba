"""Tests of independence: counts, on plain matrices, whose law is known when one of two nets was trained alone.

Null hypothesis of all: the training of one of the two nets (either) did not depend on the other. Each uses a symmetry
that initialisation and optimiser share (Zhu et al., ICML 2025, arXiv 2502.12292, section 3): had the net been another
member of the orbit, it would have been as likely. SGD, Adam(W), Lion, Adafactor and Muon commute with permutations of
hidden units, of heads and of residual axes, and with joint sign flips of a linear unit's row and column.

- `sign_flips`: units that are linear in their input (the ungated branch of a gated MLP; the values of attention) may be
  negated together with the column that reads them. Units are matched without looking at signs; the signs that agree
  are then fair coins.
- `fixed_points`: units may be permuted. A map from A's units to B's, whatever it is, meets a uniform permutation in F
  places with P(F >= k) <= C(m, k) / (h)_k.
- `constrained`: the same symmetry, by Spearman's correlation of the best matching with the identity (CSU of Zhu et
  al.), ranked among random permutations.
- `matches`: two matchings of the same units by different parts of them should not agree. Not exact: hubs and classes of
  units may agree by chance. The expected number is computed within strata of row norms and with every hub kept
  (`Matches.expected`), and `ALIKE` of all units are allowed on top: nets of one kind of data learn some units alike.

Where several units are equally near (dead or equal ones, rows of one number), the partner is drawn among them. A search
that takes the first, or an assignment that starts from the identity, would find equal units of strangers in place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from whorl.detection.exact import log_binomial_tail, log_fixed_points, log_permutations, log_poisson_tail
from whorl.errors import UsageError
from whorl.symmetry.alignment.assignment import assign

__all__ = [
    "ALIKE",
    "Fixed",
    "Matches",
    "NearestUnits",
    "Ranks",
    "Signs",
    "constrained",
    "fixed_points",
    "match_units",
    "matches",
    "rank_law",
    "sign_flips",
]

CHUNK: Final = 512  # rows compared at a time: 23 MB of similarities for 11,008 units
STRATA: Final = 8
# Share of units that strangers may learn alike. More than was seen: .8 % in gated language models (seeds 100 to 107 of
# the larger ones), .4 % in trained vision nets. Copies agree on most.
ALIKE: Final = 1 / 32
DRAWN: Final = 1024  # permutations drawn at a time


@dataclass(frozen=True)
class Signs:
    """Of ``trials`` matched units ``agreements`` have the same sign."""

    agreements: int
    trials: int

    @property
    def log_p(self) -> float:
        """Exact: the tail of the binomial law."""
        return log_binomial_tail(self.agreements, self.trials)


@dataclass(frozen=True)
class Fixed:
    """Of ``rows`` units of A ``fixed`` are nearest to the unit of B in the same place, out of ``units``."""

    fixed: int
    rows: int
    units: int

    @property
    def log_p(self) -> float:
        """Exact: a bound for any sample size."""
        return log_fixed_points(self.fixed, self.rows, self.units)


@dataclass(frozen=True)
class Ranks:
    """Spearman's correlation of the best matching with the identity, and those of random permutations."""

    correlation: float
    drawn: tuple[float, ...]

    @property
    def log_p(self) -> float:
        """Exact, and never below 1 / (1 + draws)."""
        return log_permutations(self.correlation, self.drawn)


@dataclass(frozen=True)
class Matches:
    """Of ``rows`` units ``agreements`` are matched to the same unit by both parts; ``expected`` are so by chance."""

    agreements: int
    rows: int
    expected: float

    @property
    def log_p(self) -> float:
        """Not exact: the tail of a Poisson law whose mean is `allowed`."""
        return log_poisson_tail(self.agreements, self.allowed)

    @property
    def allowed(self) -> float:
        """What strangers may agree on: by chance, at least one, and as many as they may learn alike."""
        return max(1.0, self.expected) + ALIKE * self.rows


@dataclass(frozen=True)
class NearestUnits:
    """For each unit of A the nearest unit of B, out of ``units``; ``mutual`` where it is nearest both ways.

    The mutual part is injective, so that no hub can dominate it.

    Shape:
        nearest, mutual: ``[n]``.
    """

    nearest: Tensor
    mutual: Tensor
    units: int


def match_units(
    rows: Tensor, others: Tensor, *, signed: bool = True, generator: torch.Generator | None = None
) -> NearestUnits:
    """Match units by the cosine of their rows, or by its absolute value; ties are drawn.

    Two matchings that are held against each other need one ``generator``, or they draw alike. Without one each call
    draws the same.

    Shape:
        rows: ``[n, d]``; others: ``[h, d]``.
    """
    chance = generator or torch.Generator().manual_seed(len(others))
    order, places = torch.randperm(len(rows), generator=chance), torch.randperm(len(others), generator=chance)
    found = _nearest(rows[order], others[places], signed)
    nearest, mutual = torch.empty_like(found.nearest), torch.empty_like(found.mutual)
    nearest[order], mutual[order] = places[found.nearest], found.mutual
    return NearestUnits(nearest, mutual, len(others))


def _nearest(rows: Tensor, others: Tensor, signed: bool) -> NearestUnits:
    """The same, the first of those that are equally near."""
    unit = normalize(others, dim=1).T
    forth: list[Tensor] = []
    best = torch.full((len(others),), -torch.inf)
    back = torch.zeros(len(others), dtype=torch.long)
    for first in range(0, len(rows), CHUNK):
        similarity = normalize(rows[first : first + CHUNK], dim=1) @ unit
        similarity = similarity if signed else similarity.abs_()
        forth.append(similarity.argmax(1))
        value, place = similarity.max(0)
        better = value > best
        best, back = torch.where(better, value, best), torch.where(better, place + first, back)
    nearest = torch.cat(forth)
    return NearestUnits(nearest, back[nearest] == torch.arange(len(rows)), len(others))


def sign_flips(ours: Tensor, theirs: Tensor, matching: NearestUnits | None = None) -> Signs:
    """Do mutually matched units have the same sign?

    Units are matched by parts that no flip touches (gate rows), or else by the absolute cosine of the units themselves,
    which is the same for every choice of signs.

    Shape:
        ours: ``[n, d]``; theirs: ``[h, d]``.
    """
    pairs = matching or match_units(ours, theirs, signed=False)
    products = (ours[pairs.mutual] * theirs[pairs.nearest[pairs.mutual]]).sum(1)
    told = products != 0  # a unit that is zero has no sign
    return Signs(int((products > 0).sum()), int(told.sum()))


def fixed_points(ours: Tensor, theirs: Tensor, *, places: Tensor | None = None) -> Fixed:
    """How many units of A are nearest to the unit of B in the same place?

    Shape:
        ours: ``[m, d]``, theirs: ``[h, d]`` with m <= h; places: ``[m]``, where the rows of ours stood among h;
        the first m by default.
    """
    where = torch.arange(len(ours)) if places is None else places
    if len(ours) > len(theirs):
        raise UsageError(f"fixed points of {len(ours)} units among {len(theirs)}: swap the two nets")
    return Fixed(int((match_units(ours, theirs).nearest == where).sum()), len(ours), len(theirs))


def constrained(ours: Tensor, theirs: Tensor, *, generator: torch.Generator, draws: int = 999) -> Ranks:
    """Spearman's correlation of the best matching of equally many units with the identity (CSU).

    Shape:
        ours, theirs: ``[h, d]``.
    """
    if ours.shape != theirs.shape:
        raise UsageError(f"a matching of {list(ours.shape)} with {list(theirs.shape)} has no identity to compare with")
    similarity = normalize(ours, dim=1) @ normalize(theirs, dim=1).T
    correlation = _spearman(assign(similarity, generator=generator).numpy(), np.arange(len(ours), dtype=np.float64))
    return Ranks(correlation, rank_law(len(ours), generator=generator, draws=draws))


def rank_law(units: int, *, generator: torch.Generator, draws: int) -> tuple[float, ...]:
    """Spearman's correlations with the identity of permutations of ``units`` things that were drawn uniformly."""
    place = torch.arange(units)
    keys = (torch.rand(min(DRAWN, draws - at), units, generator=generator) for at in range(0, draws, DRAWN))
    drawn = [(key.argsort(1) - place).square().sum(1) for key in keys]
    return tuple(_correlation(int(total), units) for part in drawn for total in part.tolist())


def matches(first: NearestUnits, second: NearestUnits, sizes: Tensor) -> Matches:
    """Is a unit of A matched to the same unit of B by two different parts of it?

    What two matchings would share by chance is summed within strata of A's units, by ``sizes``, from how often each
    unit of B is anybody's nearest: sum over j of n1(j) n2(j) / size of the stratum.

    Shape:
        sizes: ``[n]``, by which units of A are stratified, as the product of the norms of both parts.
    """
    expected = 0.0
    for stratum in sizes.argsort().tensor_split(min(STRATA, len(sizes))):
        one = torch.bincount(first.nearest[stratum], minlength=first.units).double()
        two = torch.bincount(second.nearest[stratum], minlength=second.units).double()
        expected += float(one @ two) / len(stratum)
    return Matches(int((first.nearest == second.nearest).sum()), len(sizes), expected)


def _spearman(ranks: np.ndarray, place: np.ndarray) -> float:
    """Of two permutations, which have no ties."""
    return _correlation(float(np.square(ranks - place).sum()), len(place))


def _correlation(squares: float, count: int) -> float:
    """From the sum of squared differences of ranks."""
    return 1.0 if count < 2 else float(1 - 6 * squares / (count * (count**2 - 1)))
