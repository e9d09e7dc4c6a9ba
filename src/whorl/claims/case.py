"""What a judge has at hand beside an opening: dates, tries, the log, and what the other side shows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal, TypeVar

from whorl.attest.draw import Draw
from whorl.attest.log import Log
from whorl.attest.stamp import Stamp
from whorl.claims.documents import Claim, Judgment, Revocation, Signed, parse_signed
from whorl.claims.making import KINDS, kind_of
from whorl.claims.opening import OpenedClaim, families_to_open
from whorl.errors import InvalidFile, UsageError

__all__ = ["MADE_FROM", "Case", "accuracy_of", "claims_logged", "direction", "made_from", "place_in", "revoked_in"]
__all__ += ["unproven"]

Kept = TypeVar("Kept", Claim, Revocation)
ALONE: Final = (
    "nobody showed that the judge took part in the draw, and an owner who plays all parties draws until one suits him: "
    "there is no error rate then (grade D); give --nonce"
)
USUAL: Final = 0.05  # beyond which a claim's alpha is told in words
MADE_FROM: Final = "derived, priority shown, and no earlier counterpart shown: the suspect was made from the victim"


@dataclass(frozen=True)
class Case:
    """What a judge has at hand beside the opening.

    ``tries`` multiplies p-values: claims of this key for this task, suspects that were tried, and what the draw costs.
    ``nonce`` is what the judge revealed in the draw, in hexadecimal: without it nobody knows that a judge took part.
    ``stamp`` is the verified time-stamp of the claim, ``since`` when the suspect is first known to have existed,
    ``earlier`` holds the times of dated artefacts of the other side, ``undated`` counts those that nobody dates.
    ``spent`` names families that the owner's log revokes. ``alpha`` is the judge's own bound, which counts where it is
    below that of the claim: an owner may have fixed any.
    """

    tries: int = 1
    nonce: str = ""
    stamp: Stamp | None = None
    since: datetime | None = None
    earlier: tuple[Stamp, ...] = ()
    undated: int = 0
    spent: frozenset[str] = frozenset()
    alpha: float = 1.0
    caveats: tuple[str, ...] = ()

    @property
    def priority(self) -> Literal["shown", "not shown"]:
        """Whether a stamp proves that the claim existed before the suspect did.

        Whoever tunes somebody's model and calls the result his victim is related to it as well, and dates his claim.
        Within the authority's accuracy a stamp proves nothing.
        """
        if self.stamp is None or self.since is None or not self.stamp.time + accuracy_of(self.stamp) < self.since:
            return "not shown"
        return "shown"

    def alpha_of(self, opened: OpenedClaim) -> float:
        """The accepted chance of accusing an independent model: the claim's, or the judge's where that is smaller."""
        return min(self.alpha, opened.claim.body.alpha)

    def loose(self, opened: OpenedClaim) -> str:
        """What a large alpha, which the owner fixed, means; empty where it is at most `USUAL`."""
        if (alpha := self.alpha_of(opened)) <= USUAL:
            return ""
        return (
            f"the owner fixed alpha at {alpha:g}, so of independent suspects one in {1 / alpha:.3g} may be called "
            "derived; a judge who accepts less says so (--alpha)"
        )

    def check_drawn(self, draw: Draw) -> str:
        """Why nobody knows that the judge took part in a draw; empty where this judge did.

        Raises:
            InvalidFile: the draw holds another number than the judge's.
        """
        if not self.nonce:
            return ALONE
        if ("judge", "reveals", self.nonce) not in draw.events:
            raise InvalidFile("the opening is by another draw than the one in which the judge's number was revealed")
        return ""

    def tries_of(self, opened: OpenedClaim, families: Sequence[str] = ()) -> int:
        """What multiplies p: tries, nonces withheld, and pairs of families where not the first are judged.

        An owner may have asked the suspect everything before, and open what suits him.
        """
        tries = self.tries * opened.draw.tries
        if not opened.families and not families:
            return tries
        judged = set(families or opened.families)
        if len(judged) == len(KINDS):
            try:
                if judged == set(families_to_open(opened.claim.body, spent=sorted(self.spent))):
                    return tries
            except UsageError:  # none is left that is not spent
                pass
        of = [kind_of(family.scheme) for family in opened.claim.body.families.values()]
        return tries * of.count(KINDS[0]) * of.count(KINDS[1])

    @property
    def counterpart(self) -> Literal["none shown", "earlier", "undecided"]:
        """What the other side's dates say: the earliest verified time wins.

        Within the authorities' accuracy nothing is decided, nor where both sides show something and no date.
        """
        if not self.earlier:
            return "undecided" if self.undated and self.stamp is None else "none shown"
        if self.stamp is None:
            return "earlier"
        first = min(self.earlier, key=lambda each: each.time)
        slack = accuracy_of(first) + accuracy_of(self.stamp)
        apart = first.time - self.stamp.time
        return "undecided" if abs(apart) <= slack else "earlier" if apart < timedelta() else "none shown"


def accuracy_of(stamp: Stamp) -> timedelta:
    """Within what a stamp's time may be wrong: what its authority states, or a second."""
    return stamp.accuracy or timedelta(seconds=1)


def unproven(case: Case) -> str:
    """Why no priority was shown."""
    if case.stamp is None:
        return "no time-stamp of the claim was shown, so nothing says that the victim was there first"
    if case.since is None:
        return "nobody said since when the suspect exists, so the time-stamp shows no priority (--suspect-since)"
    return "the claim's time-stamp is not older than the suspect, so the suspect may have been there first"


def made_from(found: Judgment) -> bool:
    """Whether all three statements hold, and at grade C: else nobody says that the suspect was made from the victim."""
    told = (found.relation, found.priority, found.counterpart, found.grade)
    return told == ("derived", "shown", "none shown", "C")


def place_in(log: Log, claim: Signed[Claim]) -> int:
    """Which entry of the log a claim is, from 0. Raises `InvalidFile` where it is none."""
    for place in range(len(log)):
        if log.entry(place) == claim.data:
            return place
    raise InvalidFile(f"{log.path} does not hold this claim; its owner appends it: whorl claim make --log")


def claims_logged(log: Log, claim: Signed[Claim], keys: Sequence[Any]) -> int:
    """How many claims of these keys, for the same task and inputs, the log holds: this one and those beside it.

    Raises:
        InvalidFile: the claim is not in the log.
    """
    count, found = 0, False
    for each in _logged(log, Claim, keys):
        found |= each.digest == claim.digest
        same = (claim.body.task, claim.body.space, claim.body.classes)
        count += (each.body.task, each.body.space, each.body.classes) == same
    if not found:
        raise InvalidFile(f"{log.path} does not hold this claim; its owner appends it: whorl claim make --log")
    return count


def revoked_in(log: Log, claim: Signed[Claim], keys: Sequence[Any]) -> set[str]:
    """Families of a claim that the log says are spent."""
    revocations = (each.body for each in _logged(log, Revocation, keys))
    return {name for body in revocations if body.claim == claim.digest for name in body.families}


def _logged(log: Log, kind: type[Kept], keys: Sequence[Any]) -> Iterator[Signed[Kept]]:
    """The statements of one kind that these keys signed; entries of others, and of other kinds, are passed over."""
    for place in range(len(log)):
        with suppress(InvalidFile):
            yield parse_signed(log.entry(place), kind, keys, f"entry {place}")


def direction(opened: OpenedClaim, case: Case) -> str:
    """What the other side's artefacts say of who was first; empty where they say nothing."""
    if case.counterpart == "none shown":
        return ""
    if case.counterpart == "undecided" and not case.earlier:
        return "neither side shows a verified time: related, direction unknown"
    if case.counterpart == "undecided":
        return (
            "the dates of both sides lie within what their authorities can tell apart: related, direction unknown; "
            "what weights say of the direction: whorl compare"
        )
    if opened.claim.victim == opened.opening.body.suspect:
        return (
            "the claim's victim is the suspect itself, which the other side dates earlier: whoever claims it has no "
            "victim of his own"
        )
    return "the other side shows an artefact that is older than the claim: related, and made in the other direction"
