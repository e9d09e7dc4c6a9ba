"""Draws that no party to a dispute chooses: commit and reveal, and what is drawn from the seed, to the byte.

Owner, judge and, where there is one at the table, suspect each fix 32 secret bytes, the nonce, by publishing

    commitment = SHA-256("whorl/commit/v1/" || role || claim || nonce)

with the role in ASCII and the claim's SHA-256 as 32 bytes. The judge commits first and reveals last, and nobody reveals
before all have committed. Then

    seed = SHA-256("whorl/draw/v1" || claim || the nonces, sorted as bytes)

where a party that withholds its nonce has 32 zero bytes instead and is named. From a seed the stream for a purpose
(``indices``, ``labels``, ``bits``) and a name (of a family or a mark, in UTF-8) is the concatenation of

    SHA-256("whorl/" || purpose || "/v1" || seed || counter || name)        counter = 0, 1, ... in 8 bytes, big-endian

read as words of 8 bytes, big-endian. A number below k is w mod k of the next word w that is below the largest multiple
of k up to 2^64; words that are not are skipped. Labels and bits are such numbers one after the other. The first m
indices of n are those of Fisher and Yates: a = 0, ..., n - 1, and for i = 0, ..., m - 1 exchange a[i] with a[i + r], r
the next number below n - i.

What withholding costs. Who reveals before the judge knows neither outcome, so with an honest judge the seed is uniform
whoever withholds. Against a judge in league with others p is doubled for each nonce withheld, and no such draw is
called complete: the chance that they reach alpha with a complete draw is at most alpha as long as one party is honest.

Without a counterpart a draw comes from a log that somebody else witnesses (`whorl.attest.logged_draw`).

Source: Blum, *Coin flipping by telephone*, 1981; HKDF: RFC 5869.
"""

from __future__ import annotations

import hashlib
import hmac
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from typing import Any, Final, Literal, cast, get_args

from whorl.errors import InvalidFile, UsageError

__all__ = ["Draw", "Drawn", "Event", "Role", "commitment", "leaf_salt", "numbers_below"]

Role = Literal["owner", "suspect", "judge"]
Event = tuple[Role, Literal["commits", "reveals", "withholds"], str]
"""Who, did what, and the commitment or nonce in hexadecimal; empty where it was withheld."""

NONCE: Final = 32
WITHHELD: Final = bytes(NONCE)
WORDS: Final = 1 << 64
MOST: Final = 1 << 32  # things to draw from, or labels to draw


def commitment(role: Role, claim: str, nonce: bytes) -> str:
    """What a party publishes before anybody reveals, in hexadecimal.

    Parameters:
        claim: SHA-256 of what the draw is for (a claim's envelope), in hexadecimal.
        nonce: 32 bytes from ``secrets.token_bytes``, used once and kept secret until all have committed.
    """
    if len(nonce) != NONCE or nonce == WITHHELD:
        raise UsageError(f"a nonce has {NONCE} bytes that nobody can guess; make one with secrets.token_bytes({NONCE})")
    return hashlib.sha256(b"whorl/commit/v1/" + role.encode() + _bytes(claim, "claim") + nonce).hexdigest()


class Drawn(ABC):
    """What is drawn from a seed that nobody chose.

    ``claim`` is the SHA-256 of what the draw is for, ``withheld`` names who withheld a nonce, ``tries`` says by what
    p-values are multiplied.
    """

    claim: str

    @property
    @abstractmethod
    def withheld(self) -> tuple[Role, ...]:
        """Who withheld a nonce."""

    @property
    @abstractmethod
    def tries(self) -> int:
        """By what p-values are multiplied."""

    @cached_property
    @abstractmethod
    def seed(self) -> bytes:
        """32 bytes that everything drawn comes from."""

    def indices(self, size: int, wanted: int, name: str) -> list[int]:
        """``wanted`` distinct ones of 0, ..., ``size`` - 1, in random order, for the family of this name."""
        if not 0 <= wanted <= size < MOST:
            raise UsageError(f"{wanted} of {size} can't be drawn; at most {MOST:,} things are drawn from")
        numbers = _below(_words(self.seed, "indices", name), range(size, size - wanted, -1))
        moved: dict[int, int] = {}  # the array, where it is not 0, 1, 2, ... any more
        drawn: list[int] = []
        for place, ahead in enumerate(numbers):
            drawn.append(moved.get(place + ahead, place + ahead))
            moved[place + ahead] = moved.get(place, place)
        return drawn

    def labels(self, count: int, choices: int, name: str) -> list[int]:
        """``count`` labels, uniform over 0, ..., ``choices`` - 1, for the mark of this name."""
        return numbers_below(self.seed, "labels", name, count=count, choices=choices)

    def bits(self, count: int, name: str) -> list[int]:
        """``count`` fair bits for the mark of this name."""
        return numbers_below(self.seed, "bits", name, count=count, choices=2)


@dataclass(frozen=True)
class Draw(Drawn):
    """The transcript of a finished draw, whose every promise is checked when it is made.

    Parameters:
        claim: SHA-256 of what the draw is for, in hexadecimal.
        events: in the order in which they were published.

    Raises:
        InvalidFile: a nonce opens no commitment, an order that lets somebody choose, or nobody but the owner revealed.
    """

    claim: str
    events: tuple[Event, ...]

    def __post_init__(self) -> None:
        _bytes(self.claim, "claim")
        half = len(self.events) // 2
        commits, rest = self.events[:half], self.events[half:]
        roles = [role for role, _, _ in commits]
        if any(what != "commits" for _, what, _ in commits) or any(what == "commits" for _, what, _ in rest):
            raise InvalidFile("in this draw somebody revealed before all had committed; draw again")
        if len(set(roles)) != half or {"owner", "judge"} - set(roles) or set(roles) - set(get_args(Role)):
            raise InvalidFile("a draw needs an owner and a judge, and perhaps a suspect, who each commit once")
        if sorted(roles) != sorted(role for role, _, _ in rest):
            raise InvalidFile("in this draw not everyone who committed revealed once, or is named as withholding")
        if roles[0] != "judge" or rest[-1][0] != "judge":
            raise InvalidFile("the judge commits first and reveals last, so that nobody sees a draw before it is fixed")
        published = {role: value for role, _, value in commits}
        for role, what, value in rest:
            if what == "withholds":
                if value:
                    raise InvalidFile(f"the {role} withholds a nonce that the draw holds")
            elif _opened(role, self.claim, value) != published[role]:
                raise InvalidFile(f"the nonce of the {role} does not open the commitment")
        if not {role for role, what, _ in rest if what == "reveals"} - {"owner"}:
            raise InvalidFile("nobody but the owner revealed a nonce, so the owner alone chose this draw; draw again")

    @property
    def withheld(self) -> tuple[Role, ...]:
        """Who withheld a nonce."""
        return tuple(role for role, what, _ in self.events if what == "withholds")

    @property
    def tries(self) -> int:
        """By what p-values are multiplied, 2 for each nonce withheld."""
        return 2 ** len(self.withheld)

    @cached_property
    def seed(self) -> bytes:
        """32 bytes that everything drawn comes from."""
        nonces = [bytes.fromhex(value) or WITHHELD for _, what, value in self.events if what != "commits"]
        return hashlib.sha256(b"whorl/draw/v1" + bytes.fromhex(self.claim) + b"".join(sorted(nonces))).digest()

    def document(self) -> dict[str, Any]:
        """As JSON values."""
        return {"claim": self.claim, "events": [list(event) for event in self.events]}

    @staticmethod
    def read(document: Any) -> Draw:
        """The draw of a JSON document. Raises `InvalidFile` where it is none."""
        match document:
            case {"claim": str(claim), "events": list(events), **rest} if not rest and len(events) in (4, 6):  # pyright: ignore
                for event in cast(list[Any], events):
                    match event:
                        case [str(), "commits" | "reveals" | "withholds", str()]:
                            pass
                        case _:
                            raise InvalidFile("an event of this draw is no role, deed and value")
                return Draw(claim, tuple(cast(Event, tuple(event)) for event in cast(list[Any], events)))
            case _:
                raise InvalidFile("this is no draw: a claim, and what two or three parties committed and revealed")


def numbers_below(seed: bytes, purpose: str, name: str, *, count: int, choices: int) -> list[int]:
    """``count`` numbers, uniform over 0, ..., ``choices`` - 1, from the stream of a purpose and a name."""
    if not (0 <= count <= MOST and 1 <= choices <= MOST):
        raise UsageError(f"{count} numbers below {choices} can't be drawn; both are at most {MOST:,}")
    return list(_below(_words(seed, purpose, name), (choices for _ in range(count))))


def leaf_salt(secret: bytes, family: str, index: int) -> bytes:
    """The 32-byte salt of one leaf, so that one secret restores them all: HKDF-SHA-256 (RFC 5869).

    Its salt is empty, its info ``"leaf" || index || family`` with the index in 8 bytes, big-endian, and the name of the
    family in UTF-8; 32 bytes are one block, so that expanding is one HMAC.
    """
    if len(secret) != NONCE:
        raise UsageError(f"the owner's secret has {NONCE} bytes; this has {len(secret)}")
    info = b"leaf" + index.to_bytes(8, "big") + family.encode()
    return hmac.digest(hmac.digest(bytes(32), secret, "sha256"), info + b"\x01", "sha256")


def _words(seed: bytes, purpose: str, name: str) -> Iterator[int]:
    for counter in count():
        head = b"whorl/" + purpose.encode() + b"/v1" + seed + counter.to_bytes(8, "big")
        block = hashlib.sha256(head + name.encode()).digest()
        yield from (int.from_bytes(block[at : at + 8], "big") for at in range(0, len(block), 8))


def _below(words: Iterator[int], limits: Iterable[int]) -> Iterator[int]:
    for limit in limits:
        whole = WORDS - WORDS % limit
        yield next(word for word in words if word < whole) % limit


def _opened(role: Role, claim: str, value: str) -> str:
    nonce = _bytes(value, "nonce")
    if nonce == WITHHELD:
        raise InvalidFile(f"the nonce of the {role} is that of one who withholds it")
    return commitment(role, claim, nonce)


def _bytes(value: str, what: str) -> bytes:
    if len(value) != 2 * NONCE or set(value) - set("0123456789abcdef"):
        raise InvalidFile(f"the {what} of a draw is no {NONCE} bytes in lower-case hexadecimal")
    return bytes.fromhex(value)
