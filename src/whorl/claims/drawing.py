"""A draw on its way: who has committed, who has revealed, who comes next. The finished one is `whorl.attest.draw.Draw`.

The file passes from hand to hand: the judge begins it, owner and, if there is one at the table, suspect commit, they
reveal, and the judge ends it. Each party keeps its nonce in a file of its own until it reveals.
"""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import Field, ValidationError

from whorl.attest.draw import NONCE, Draw, Event, Role, commitment
from whorl.claims.opening import dispute
from whorl.errors import InvalidFile, UsageError
from whorl.fingerprints.parts import Document
from whorl.storage import check_size, read_json, write_json

__all__ = ["Drawing", "begin", "finished", "kept_nonce", "next_step", "read_drawing", "step", "withhold"]

MOST: Final = 1 << 16

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Drawing(Document):
    """What is known of a draw: the claim by the SHA-256 of its envelope, the suspect by digest, and all events.

    Of a draw for a mark the claim is the mark's commitment (`whorl.marks.base.commitment_of`), and there is no suspect.
    """

    format: Literal[1] = 1
    claim: Digest
    suspect: Annotated[str, Field(min_length=1, max_length=300)] | None
    events: Annotated[list[tuple[Role, Literal["commits", "reveals", "withholds"], str]], Field(max_length=6)]

    @property
    def purpose(self) -> str:
        """What nonces are committed for: claim and suspect (`dispute`), or a mark."""
        return self.claim if self.suspect is None else dispute(self.claim, self.suspect)

    def by(self, role: Role) -> list[str]:
        """What a party has done so far."""
        return [what for who, what, _ in self.events if who == role]


def begin(claim: str, suspect: str | None, nonce: Path, path: Path) -> Drawing:
    """The judge's first step: fix claim and suspect, or a mark by its commitment, and commit.

    Raises:
        UsageError: ``path`` is there.
    """
    if path.exists():
        raise UsageError(f"{path} is a draw already; give another path for a new one")
    return _written(_with(Drawing(claim=claim, suspect=suspect, events=[]), "judge", "commits", _new(nonce)), path)


def step(path: Path, role: Role, nonce: Path) -> Drawing:
    """The next step of a party: to commit, or to reveal once all have committed.

    Raises:
        UsageError: the party has nothing left to do, or the judge would reveal before the others.
        InvalidFile: the file is no draw, or the nonce does not open what was committed.
    """
    known = read_drawing(path)
    done = known.by(role)
    revealed = [who for who, what, _ in known.events if what != "commits"]
    if not done:
        if revealed:
            raise UsageError("somebody has revealed already, so nobody can commit any more; begin another draw")
        return _written(_with(known, role, "commits", _new(nonce)), path)
    if len(done) > 1:
        raise UsageError(f"the {role} has committed and revealed; nothing is left to do")
    if "owner" not in {who for who, _, _ in known.events}:
        raise UsageError("the owner has not committed yet: whorl claim draw --as owner")
    if role == "judge" and (missing := sorted({who for who, _, _ in known.events} - {"judge", *revealed})):
        raise UsageError(
            f"the judge reveals last, and the {missing[0]} has not revealed; if that nonce is withheld, say so: "
            f"--withholds {missing[0]}"
        )
    value = kept_nonce(nonce)
    if commitment(role, known.purpose, value) != next(each for who, _, each in known.events if who == role):
        raise InvalidFile(f"{nonce} does not open what the {role} committed to")
    return _written(_with(known, role, "reveals", value), path)


def withhold(path: Path, role: Role) -> Drawing:
    """Note that a party withholds its nonce; the judge does so, and p is doubled for it."""
    known = read_drawing(path)
    if known.by(role) != ["commits"]:
        raise UsageError(f"the {role} has not committed, or has revealed; there is nothing to withhold")
    return _written(known.model_copy(update={"events": [*known.events, (role, "withholds", "")]}), path)


def next_step(known: Drawing) -> str:
    """Who does what next, as a line to type; empty where the draw has ended."""
    parties = {who for who, _, _ in known.events}
    waiting = [who for who in ("owner", "suspect", "judge") if known.by(who) == ["commits"]]
    if "owner" not in parties:
        return "the owner commits: whorl claim draw --as owner"
    return f"the {waiting[0]} reveals: whorl claim draw --as {waiting[0]}" if waiting else ""


def finished(path: Path) -> tuple[Drawing, Draw]:
    """A draw that has ended, all its promises checked.

    Raises:
        UsageError: it has not ended; says whose step is next.
        InvalidFile: it breaks a promise.
    """
    known = read_drawing(path)
    if ahead := next_step(known):
        raise UsageError(f"{path} has not ended: {ahead}")
    events: tuple[Event, ...] = tuple(known.events)
    return known, Draw(known.purpose, events)


def read_drawing(path: Path) -> Drawing:
    """The draw of a file. Raises `InvalidFile` where it is none."""
    text = _text(path)
    read_json(path, max_bytes=MOST)  # which refuses a key that stands twice
    try:
        return Drawing.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"])) or "the whole"
        raise InvalidFile(f"{path} is no draw: {place}: {first['msg']}") from None


def _text(path: Path) -> bytes:
    check_size(path, MOST)
    return path.read_bytes()


def _with(known: Drawing, role: Role, what: Literal["commits", "reveals"], nonce: bytes) -> Drawing:
    value = commitment(role, known.purpose, nonce) if what == "commits" else nonce.hex()
    return known.model_copy(update={"events": [*known.events, (role, what, value)]})


def _written(drawing: Drawing, path: Path) -> Drawing:
    write_json(path, drawing.model_dump())
    return drawing


def _new(path: Path) -> bytes:
    if path.exists():
        raise UsageError(f"{path} is there already, and a nonce is used once; give another --nonce")
    nonce = secrets.token_bytes(NONCE)
    write_json(path, {"nonce": nonce.hex()})
    path.chmod(0o600)
    return nonce


def kept_nonce(path: Path) -> bytes:
    """The secret number that a party keeps in a file. Raises `InvalidFile` where it holds none."""
    document: Any = read_json(path, max_bytes=1 << 12)
    try:
        value = bytes.fromhex(document["nonce"])
    except (TypeError, KeyError, ValueError):
        value = b""
    if len(value) != NONCE:
        raise InvalidFile(f"{path} holds no nonce")
    return value
