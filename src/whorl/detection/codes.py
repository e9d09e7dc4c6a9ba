"""Codes of users: what is written into each user's copy, so that a leaked one, or a mixture of several, is traced.

Two kinds. *Tardos codes* have a bias for each position and an independent bit for each user and position; an innocent
user's row is independent of whatever others made, so that `whorl.detection.tracing` has an exact p-value for it.
*Block codes* are the complements of the blocks of a symmetric design, few and short: any k - 1 of their rows have an
AND of their own. What is drawn of them is only which user has which block, so that no p-value is below 1 in the number
of blocks: they name, and can't accuse.

All of it is drawn after the list of users was fixed, and is secret until a copy is traced: whoever knows another user's
row can write it into a copy, the owner and the judge of the draw included. A p-value protects users from each other,
and not from those.

Source: Tardos, *Optimal Probabilistic Fingerprint Codes*, J. ACM 55, 2008, in the symmetric form of Skoric,
Katzenbeisser & Celik, Designs, Codes and Cryptography 46, 2008; block codes: Trappe et al., IEEE Trans. Signal
Processing 51, 2003, used by Chen et al., *DeepMarks*, ICMR 2019; difference sets: Singer, Trans. AMS 43, 1938.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from whorl.attest.draw import Draw
from whorl.errors import UsageError

__all__ = ["DESIGNS", "BlockCode", "Origin", "TardosCode", "TardosPlan", "block_code"]

Bits = NDArray[np.uint8]

GRAIN: Final = 1 << 16  # biases are multiples of 1/GRAIN, so that no rounding of a sine moves a bit
MOST_USERS: Final = 100_000
MOST_POSITIONS: Final = 1 << 16
MOST_BITS: Final = 1 << 28  # of all rows together
DESIGNS: Final = {7: (0, 1, 3), 13: (0, 1, 3, 9), 31: (1, 5, 11, 24, 25, 27)}
"""Singer's difference sets by the number v of positions, users and blocks: every d other than 0 is one difference."""


@dataclass(frozen=True)
class Origin:
    """Where the chance in a code comes from.

    Parameters:
        draws: how many draws the owner has in the log for this code, at least 1.
        proof: the transcript of the draw; None where chance came from a generator.
        claim: SHA-256, in hexadecimal, of what fixes the list of users, which the draw has to be for.
        name: of the code, by which its bits are drawn.
    """

    draws: int = 1
    proof: Draw | None = None
    claim: str = ""
    name: str = ""

    def __post_init__(self) -> None:
        if self.draws < 1:
            raise UsageError(f"a code was drawn at least once; the number of draws given is {self.draws}")

    @property
    def tries(self) -> int:
        """By what p-values are multiplied: the number of draws, twice for each nonce that was withheld in this one."""
        return self.draws * (self.proof.tries if self.proof else 1)

    @property
    def why(self) -> str:
        """What keeps p-values from being exact, whatever the rows are; empty where nothing does."""
        if (proof := self.proof) is None:
            return "nobody showed that the rows were drawn after the users were fixed: there is no draw"
        if proof.claim != self.claim:
            return "the draw was made for another claim than the one that fixes the users"
        if proof.withheld:
            return f"{' and '.join(proof.withheld)} withheld a nonce, so that p is doubled for each and not exact"
        return ""


@dataclass(frozen=True)
class TardosPlan:
    """How long a Tardos code is, and between which biases.

    Parameters:
        users: n.
        colluders: c, the most users whose copies one leak may mix.
        error: epsilon, the chance of accusing any innocent that the length is made for.
        positions: another length than the one that follows, for studies; 0 for that one.

    Raises:
        UsageError: numbers out of range, or a code too large.
    """

    users: int
    colluders: int
    error: float = 1e-3
    positions: int = 0

    def __post_init__(self) -> None:
        if not 2 <= self.users <= MOST_USERS or not 1 <= self.colluders <= self.users:
            raise UsageError(
                f"a code has 2..{MOST_USERS:,} users, of whom 1 or more collude; "
                f"these are {self.users} and {self.colluders}"
            )
        if not 0 < self.error < 1:
            raise UsageError(f"a code is made for an error in (0, 1), as 0.001; this is {self.error}")
        if not 0 <= self.positions <= MOST_POSITIONS or not self.length <= MOST_POSITIONS:
            raise UsageError(f"a code has at most {MOST_POSITIONS:,} positions; this one would have {self.length:,}")
        if self.users * self.length > MOST_BITS:
            raise UsageError(f"all rows together have at most {MOST_BITS:,} bits; give fewer users or colluders")

    @property
    def length(self) -> int:
        """m = pi^2 / 2 * c^2 ln(n / epsilon), rounded up: what the symmetric score needs asymptotically."""
        needed = math.pi**2 / 2 * self.colluders**2 * math.log(self.users / self.error)
        return self.positions or math.ceil(needed)

    @property
    def cutoff(self) -> float:
        """t = 1 / (300 c): biases lie in [t, 1 - t]."""
        return 1 / (300 * self.colluders)

    def levels(self, uniform: NDArray[np.float64]) -> NDArray[np.int64]:
        """Biases times 65,536, in 1..65,535, of numbers in (0, 1): sin^2 of an angle between those of t and 1 - t."""
        least = math.asin(math.sqrt(self.cutoff))
        angles = least + (math.pi / 2 - 2 * least) * uniform
        return np.clip(np.rint(np.sin(angles) ** 2 * GRAIN), 1, GRAIN - 1).astype(np.int64)

    def sampled(self, generator: np.random.Generator) -> TardosCode:
        """A code for simulations, whose chance is of a generator and proves nothing."""
        levels = self.levels((generator.integers(GRAIN, size=self.length) + 0.5) / GRAIN)
        rows = generator.integers(GRAIN, size=(self.users, self.length)) < levels
        return TardosCode(self, levels, rows.astype(np.uint8))

    def drawn(self, draw: Draw, *, claim: str, name: str, draws: int = 1) -> TardosCode:
        """The code that a draw gives, to the bit.

        Position i has the i-th of the labels below 2^16 of the stream ``NAME/biases``, u, and the angle of
        (u + 1/2) / 2^16. User j, counted from 0 in the list that the claim fixes, has the i-th label below 2^16 of the
        stream ``NAME/user j``, and a 1 where it is below 65,536 times the bias. So one user's row is made without the
        others'.
        """
        found = np.array(draw.labels(self.length, GRAIN, f"{name}/biases"))
        levels = self.levels((found + 0.5) / GRAIN)
        rows = [np.array(draw.labels(self.length, GRAIN, f"{name}/user {user}")) < levels for user in range(self.users)]
        return TardosCode(self, levels, np.array(rows, np.uint8), Origin(draws, draw, claim, name))


@dataclass(frozen=True, eq=False)
class TardosCode:
    """A Tardos code.

    Shape:
        levels: ``[m]`` int64, the biases times 65,536, in 1..65,535.
        rows: ``[users, m]`` of 0 and 1.

    Raises:
        UsageError: shapes or numbers that are no code of this plan.
    """

    plan: TardosPlan
    levels: NDArray[np.int64]
    rows: Bits
    origin: Origin = field(default_factory=Origin)

    def __post_init__(self) -> None:
        shape = (self.plan.users, self.plan.length)
        if self.rows.shape != shape or self.levels.shape != shape[1:] or bool((self.rows > 1).any()):
            raise UsageError(f"a code of this plan has bits {list(shape)}; these are {list(self.rows.shape)}")
        if int(self.levels.min()) < 1 or int(self.levels.max()) >= GRAIN:
            raise UsageError(f"biases times {GRAIN:,} lie in 1..{GRAIN - 1:,}")

    @property
    def biases(self) -> NDArray[np.float64]:
        """``[m]``, the chance of a 1 at each position, exactly."""
        return self.levels / GRAIN

    @cached_property
    def why(self) -> str:
        """What keeps p-values from being exact; empty where the draw gives these very rows."""
        if (told := self.origin.why) or (proof := self.origin.proof) is None:
            return told
        again = self.plan.drawn(proof, claim=self.origin.claim, name=self.origin.name)
        same = np.array_equal(again.levels, self.levels) and np.array_equal(again.rows, self.rows)
        return "" if same else "the rows are not those that were drawn"


@dataclass(frozen=True, eq=False)
class BlockCode:
    """The code of a symmetric (v, k, 1) design.

    Parameters:
        positions: v, also the number of blocks, 7, 13 or 31.
        deal: ``[users]``, the block of each user, all different.
    """

    positions: int
    deal: tuple[int, ...]
    origin: Origin = field(default_factory=Origin)

    def __post_init__(self) -> None:
        if self.positions not in DESIGNS:
            raise UsageError(f"there are designs of {', '.join(map(str, DESIGNS))} positions, not {self.positions}")
        if not self.deal or len(set(self.deal)) != len(self.deal) or set(self.deal) - set(range(self.positions)):
            raise UsageError(f"each user has one of {self.positions} blocks, no two the same")

    @property
    def colluders(self) -> int:
        """k - 1: mixtures of so many copies are told apart."""
        return len(DESIGNS[self.positions]) - 1

    @cached_property
    def blocks(self) -> Bits:
        """``[v, v]``: row t is 0 on the block t + difference set, and 1 elsewhere."""
        made = np.ones((self.positions, self.positions), np.uint8)
        for shift in range(self.positions):
            made[shift, [(each + shift) % self.positions for each in DESIGNS[self.positions]]] = 0
        return made

    @property
    def rows(self) -> Bits:
        """``[users, v]`` of 0 and 1."""
        return self.blocks[list(self.deal)]

    @property
    def why(self) -> str:
        """What keeps p-values from being exact; empty where the draw dealt these very blocks."""
        if (told := self.origin.why) or (proof := self.origin.proof) is None:
            return told
        dealt = proof.indices(self.positions, len(self.deal), self.origin.name)
        return "" if tuple(dealt) == self.deal else "the blocks are not those that were dealt"


def block_code(
    positions: int, users: int, chance: Draw | np.random.Generator, *, claim: str = "", name: str = "", draws: int = 1
) -> BlockCode:
    """A block code whose deal is drawn: user j, from 0, has the j-th of the indices of v that a draw gives.

    Parameters:
        positions: v: 7 for at most 7 users and 2 colluders, 13 for 13 and 3, 31 for 31 and 5.
        chance: a draw, or a generator for simulations.

    Raises:
        UsageError: another v, or more users than blocks.
    """
    if positions not in DESIGNS or not 1 <= users <= positions:
        raise UsageError(
            f"designs have {', '.join(map(str, DESIGNS))} blocks, one for each user; "
            f"{users} users can't have {positions}. For more users take a Tardos code"
        )
    if isinstance(chance, Draw):
        deal = chance.indices(positions, users, name)
        return BlockCode(positions, tuple(deal), Origin(draws, chance, claim, name))
    return BlockCode(positions, tuple(map(int, chance.permutation(positions)[:users])), Origin(draws))
