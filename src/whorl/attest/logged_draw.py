"""A draw without a counterpart: from a log that somebody else witnesses.

Its owner fixes a commitment by appending it. What the witness signs below a checkpoint nobody knows before it signs; so
what is drawn from that was not known when the commitment was made. Labels of marks are drawn so
(`whorl.detection.design`). Who would have another draw has to have another checkpoint, and appends an entry for it,
which is counted. A witness in league with the owner is out of reach; judges say whom they trust.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from whorl.attest.checkpoint import read_checkpoint
from whorl.attest.draw import Drawn, Role
from whorl.attest.keys import Ed25519PublicKey, raw_key
from whorl.attest.log import Log
from whorl.attest.merkle import check_inclusion, leaf_hash
from whorl.errors import InvalidFile, UsageError

__all__ = ["LoggedDraw", "logged_draw"]

OWN: Final = 5  # lines of a note before those of witnesses: origin, size, root, an empty one, the log's signature


@dataclass(frozen=True)
class LoggedDraw(Drawn):
    """A draw by the first witnessed checkpoint of a log that includes a commitment.

    The seed is SHA-256 of the note: three lines, the log's signature, and the witness's. The owner of a log knows all
    but the last. A witness signs each size of a log once; so who dislikes a draw appends an entry to have another, and
    p is multiplied by the number of entries that came since: ``size - index`` of the log, the commitment's own for one.

    Parameters:
        claim: SHA-256 of the commitment, which is the log's entry ``index``, in hexadecimal.
        note: the checkpoint, with the log's signature and one witness's, and no other line.
        index: of the entry, from 0. path: its inclusion among the entries of the checkpoint.
        entry: the commitment itself.
        log_key, witness_key: whose signatures these are. witness: its name.

    Raises:
        InvalidFile: a signature does not fit, nobody else witnessed the log, or the entry is not included.
    """

    claim: str
    note: bytes
    index: int
    path: tuple[bytes, ...]
    entry: bytes
    log_key: Ed25519PublicKey
    witness_key: Ed25519PublicKey
    witness: str

    def __post_init__(self) -> None:
        if raw_key(self.log_key) == raw_key(self.witness_key):
            raise InvalidFile("a log that nobody but its owner witnesses is no draw: he signs until a draw suits him")
        checkpoint, seen = read_checkpoint(self.note, self.log_key, {self.witness: self.witness_key})
        if self.witness not in seen or self.note.count(b"\n") != OWN + 1:
            raise InvalidFile("a draw from a log rests on a checkpoint with two signatures, the log's and a witness's")
        if hashlib.sha256(self.entry).hexdigest() != self.claim:
            raise InvalidFile("this draw is from the checkpoint of another entry")
        check_inclusion(leaf_hash(self.entry), self.index, checkpoint.size, list(self.path), checkpoint.root)

    @property
    def size(self) -> int:
        """Entries of the log at the checkpoint."""
        return read_checkpoint(self.note, self.log_key)[0].size

    @property
    def withheld(self) -> tuple[Role, ...]:
        """Nobody had anything to withhold."""
        return ()

    @property
    def tries(self) -> int:
        """How many checkpoints there were to choose from at most, 1 where the first was witnessed at once."""
        return self.size - self.index

    @cached_property
    def seed(self) -> bytes:
        """SHA-256 of the note."""
        return hashlib.sha256(self.note).digest()


def logged_draw(log: Log, index: int, witness_key: Ed25519PublicKey) -> LoggedDraw:
    """The draw for entry ``index`` of a log, by the first checkpoint that includes it and that a witness cosigned.

    Raises:
        UsageError: there is none yet; the witness has to sign (``whorl claim witness``).
        InvalidFile: the witness is the log's owner.
    """
    signed = log.cosigned(witness_key)
    if (size := min((each for each in signed if each > index), default=None)) is None:
        raise UsageError(
            f"no checkpoint that includes entry {index} of {log.path} is cosigned by this witness: whorl claim witness"
        )
    line = signed[size][0]
    entry, own = log.entry(index), b"".join(log.note(size).splitlines(keepends=True)[:OWN])
    return LoggedDraw(
        hashlib.sha256(entry).hexdigest(),
        own + line.encode(),
        index,
        tuple(log.inclusion(index, size)),
        entry,
        log.key,
        witness_key,
        line.split(" ")[1],
    )
