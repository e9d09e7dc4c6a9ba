"""p-values that a design gives: labels or bits that were drawn after the inputs were fixed.

Where each of n labels is uniform over C and independent of the inputs and of the suspect, a suspect that knows nothing
of the draw matches Binomial(n, 1/C) of them, however it answers, adaptively or not: fix all its answers so far, and the
next label still falls on the next answer with probability 1/C. So no null model is needed, and an owner can't choose
one. What an owner can do is draw again until the labels suit: p is multiplied by the number of draws, which a log has
to count. Labels that were chosen, or drawn before the inputs, have no such null.

Source: Adi et al., *Turning Your Weakness Into a Strength*, USENIX Security 2018 (drawn labels); Shafer, *Testing by
betting*, JRSS-A 2021, and Ville, 1939 (the e-value).
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from whorl.attest.draw import Draw, Drawn
from whorl.detection.exact import bonferroni, log_binomial_tail
from whorl.detection.sequential import wager
from whorl.errors import UsageError

__all__ = ["Design", "DesignBets", "DesignTest", "strongest"]


@dataclass(frozen=True)
class DesignTest:
    """What drawn labels say of a suspect: ``matches`` of ``n``, each by chance with probability 1/``choices``.

    ``log_p`` is the natural logarithm of the p-value, after it was multiplied by ``draws`` and by the number of
    ``tests`` of which this is the strongest. ``exact`` is True only where the transcript of a draw showed that these
    very labels were drawn after the claim that fixes the inputs; ``why`` says what is missing where it is not.
    """

    log_p: float
    matches: int
    n: int
    choices: int
    draws: int
    exact: bool
    why: str = ""
    tests: int = 1

    @property
    def p(self) -> float:
        """The p-value in (0, 1]; one below the smallest float is given as that."""
        return max(math.exp(self.log_p), sys.float_info.min)


@dataclass(frozen=True)
class Design:
    """Labels (or bits) that were drawn for inputs, and the proof of that.

    Parameters:
        drawn: n labels in 0, ..., ``choices`` - 1, in the order of the inputs.
        choices: C, how many labels each was drawn from; 2 for bits.
        draws: how many draws the owner has in the log for this, at least 1.
        proof: the transcript of the draw, or a witnessed checkpoint of a log (`whorl.attest.logged_draw`).
        claim: SHA-256, in hexadecimal, of the claim that fixes the inputs, which the draw has to be for.
        name: of the mark, by which its labels are drawn.
        kind: the stream that they are drawn from.

    Raises:
        UsageError: labels out of range, or counts below 1.
    """

    drawn: tuple[int, ...]
    choices: int
    draws: int
    proof: Drawn | None = None
    claim: str = ""
    name: str = ""
    kind: Literal["labels", "bits"] = "labels"

    def __post_init__(self) -> None:
        if self.choices < 2 or (self.kind == "bits" and self.choices != 2):
            raise UsageError(f"{self.kind} can't be drawn from {self.choices} choices; labels have 2 or more, bits 2")
        if not self.drawn or not 0 <= min(self.drawn) <= max(self.drawn) < self.choices:
            raise UsageError(f"a mark has at least one label, and all of them below {self.choices}")
        if self.draws < 1:
            raise UsageError(f"labels were drawn at least once; the number of draws given is {self.draws}")

    @property
    def why(self) -> str:
        """What keeps the design's p-values from being exact; empty where nothing does."""
        if (proof := self.proof) is None:
            return "nobody showed that the labels were drawn after the inputs were fixed: there is no draw"
        if proof.claim != self.claim:
            return "the draw was made for another claim than the one that fixes the inputs"
        count = len(self.drawn)
        bits = self.kind == "bits"
        told = proof.bits(count, self.name) if bits else proof.labels(count, self.choices, self.name)
        if list(self.drawn) != told:
            return "the labels are not those that were drawn"
        if proof.withheld:
            return f"{' and '.join(proof.withheld)} withheld a nonce, so that p is doubled for each and not exact"
        return ""

    def doubt(self, nonce: str) -> str:
        """Why nobody but whoever made the mark has to believe the draw; empty where nothing does.

        Parameters:
            nonce: the judge's own number, in hexadecimal, for an owner can play every party of a draw, and draw until
                one suits; empty where whoever asks took no part.
        """
        if self.why or self.proof is None:
            return self.why
        if not isinstance(self.proof, Draw) or (nonce and ("judge", "reveals", nonce) in self.proof.events):
            return ""  # what a witness signed is as good as the witness's key, and whoever trusts that gave it
        return (
            "your own number is not in the draw, so that whoever made the mark may have played all of its parties, and "
            "drawn until the outcome suited (give the number that you drew with: --nonce)"
        )

    @property
    def tries(self) -> int:
        """By what p is multiplied: the number of draws, twice for each nonce that was withheld in this one."""
        return self.draws * (self.proof.tries if self.proof else 1)

    def test(self, answers: ArrayLike) -> DesignTest:
        """The exact test of all answers: P(Binomial(n, 1/C) >= matches), times the draws.

        Shape:
            answers: ``[n]`` integers, in the order of the inputs; one that is no label (-1) matches nothing.
        """
        found = self._answers(answers, len(self.drawn))
        matches = int((found == np.asarray(self.drawn)).sum())
        log_p = log_binomial_tail(matches, len(found), 1 / self.choices)
        return self.told(log_p, matches, len(found))

    def told(self, log_p: float, matches: int, asked: int) -> DesignTest:
        """The result of this log p, before it is multiplied by the draws."""
        why = self.why
        corrected = min(0.0, log_p + math.log(self.tries))
        return DesignTest(corrected, matches, asked, self.choices, self.tries, not why, why)

    def _answers(self, answers: ArrayLike, count: int) -> NDArray[np.int64]:
        found = np.asarray(answers)
        if found.shape != (count,) or not np.issubdtype(found.dtype, np.integer):
            raise UsageError(f"{count} answers are needed, each a label; given is {found.dtype} {list(found.shape)}")
        return found.astype(np.int64)


class DesignBets:
    """An e-value that grows with every match, and may be looked at after each answer, so that one may stop at will.

    Before the next answer q is bet on a match against the odds of chance c = 1/C: the wealth is multiplied by q/c, or
    by (1 - q)/(1 - c). Whatever q, which may depend on all that was seen, and whichever input is asked next, which may
    too (but not on labels of inputs that were not asked yet), a suspect that knows nothing of the draw has an expected
    factor of 1. So the largest wealth ever reaches 1/alpha with probability at most alpha (Ville), in any order.

    Parameters:
        design: the labels that were drawn.
    """

    def __init__(self, design: Design) -> None:
        self.design = design
        self._asked: set[int] = set()
        self._matches = 0
        self._log_wealth = 0.0
        self._log_peak = 0.0

    @property
    def log_e(self) -> float:
        """log of the e-value as of now, before it is divided by the draws."""
        return self._log_wealth

    def update(self, place: int, answer: int) -> None:
        """Take the answer to input ``place``, from 0.

        Raises:
            UsageError: no such input, or one that was asked before, whose label is known by now.
        """
        if not 0 <= place < len(self.design.drawn) or place in self._asked:
            raise UsageError(f"input {place} can't be asked, or was: each of {len(self.design.drawn)} is asked once")
        chance = 1 / self.design.choices
        bet = float(wager(self._matches, len(self._asked), chance))
        match = answer == self.design.drawn[place]
        self._log_wealth += math.log(bet / chance) if match else math.log1p(-bet) - math.log1p(-chance)
        self._log_peak = max(self._log_peak, self._log_wealth)
        self._asked.add(place)
        self._matches += match

    def test(self) -> DesignTest:
        """The result as of now; p is at most 1 over the largest e-value so far, times the draws."""
        return self.design.told(-self._log_peak, self._matches, len(self._asked))


def strongest(tests: Sequence[DesignTest]) -> DesignTest:
    """The strongest of several marks, keys or suspects, its p-value multiplied by their number (Bonferroni).

    Valid however they depend on each other. Exact where all of them are.

    Raises:
        UsageError: no test, or one that was corrected for several before.
    """
    if not tests or any(each.tests != 1 for each in tests):
        raise UsageError("several tests are corrected once, each of them as it was given by a design")
    best = min(tests, key=lambda each: each.log_p)
    why = next((each.why for each in tests if not each.exact), "")
    log_p = bonferroni([each.log_p for each in tests])
    return replace(best, log_p=log_p, tests=len(tests), exact=not why, why=why)
