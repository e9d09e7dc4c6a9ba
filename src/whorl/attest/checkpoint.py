"""Checkpoints of a log, signed by the log and cosigned by witnesses, in the text of C2SP.

A note is a text, an empty line, and a line for each signature: an em dash, the signer's name, and base64 of a 4-byte
hash of name and key before the signature. The text of a checkpoint is three lines: the log's origin, which is also the
name of its key, the number of entries, and base64 of the root. A witness signs ``"cosignature/v1\\ntime T\\n" || text``
and has T before its signature, in 8 bytes, big-endian.

Source: C2SP signed-note, tlog-checkpoint and tlog-cosignature, all v1. Extension lines are refused.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from whorl.attest.envelope import decoded
from whorl.attest.keys import Ed25519PrivateKey, Ed25519PublicKey, raw_key, signature_fits
from whorl.attest.merkle import HASH
from whorl.errors import InvalidFile, UsageError

__all__ = ["Checkpoint", "check_cosignature", "cosign", "read_checkpoint", "sign_checkpoint"]

MOST_BYTES: Final = 64 << 10
MOST_LINES: Final = 100
ED25519, COSIGNATURE = 1, 4  # types of signatures
NAME: Final = re.compile(r"[^\s+]{1,256}")  # of a signer, and so of a log
LINE: Final = re.compile(r"\u2014 ([^\s+]{1,256}) ([A-Za-z0-9+/=]{1,400})\n")
LATEST: Final = 253402300799  # the last second of the year 9999


@dataclass(frozen=True)
class Checkpoint:
    """That the first ``size`` entries of the log ``origin`` have the root ``root`` (32 bytes)."""

    origin: str
    size: int
    root: bytes

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.origin) or not self.origin.isprintable():
            raise UsageError("the origin of a log is a name of 1 to 256 marks without spaces and +, as example.org/log")

    @property
    def text(self) -> str:
        """The three lines that are signed."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"


def sign_checkpoint(checkpoint: Checkpoint, key: Ed25519PrivateKey) -> str:
    """The note: the text and the log's own signature."""
    signature = _key_hash(checkpoint.origin, ED25519, key.public_key()) + key.sign(checkpoint.text.encode())
    return f"{checkpoint.text}\n{_line(checkpoint.origin, signature)}"


def cosign(checkpoint: Checkpoint, name: str, key: Ed25519PrivateKey, time: int) -> str:
    """The line by which the witness ``name`` says that it saw this checkpoint, consistent with all it saw before.

    Parameters:
        time: seconds since 1970, UTC.
    """
    if not NAME.fullmatch(name):
        raise UsageError("the name of a witness has 1 to 256 marks without spaces and +")
    signature = key.sign(_cosigned(checkpoint, time))
    stamped = _key_hash(name, COSIGNATURE, key.public_key()) + time.to_bytes(8, "big") + signature
    return _line(name, stamped)


def check_cosignature(line: str, checkpoint: Checkpoint, key: Ed25519PublicKey) -> tuple[str, datetime]:
    """Name of the witness and time (UTC) of a cosignature line. Raises `InvalidFile` where this key did not make it."""
    if (found := LINE.fullmatch(line)) is None:
        raise InvalidFile("this is no line of a cosignature")
    signature = decoded(found[2], "signature of a note")
    time = _fits(found[1], signature, checkpoint, key)
    if time is None:
        raise InvalidFile(f"the witness {found[1]} did not cosign the checkpoint of {checkpoint.size} entries")
    return found[1], time


def read_checkpoint(
    note: bytes, key: Ed25519PublicKey, witnesses: Mapping[str, Ed25519PublicKey] | None = None
) -> tuple[Checkpoint, dict[str, datetime]]:
    """The checkpoint of a note that the log's key signed, and when which of these witnesses cosigned it.

    Signatures of others say nothing and are passed over. Raises `InvalidFile` where the note is none, the log did not
    sign it, or a signature in the name of a key that is known does not fit.
    """
    checkpoint, lines = _parsed(note)
    known = witnesses or {}
    mine, seen = 0, dict[str, datetime]()
    for name, signature in lines:
        if name == checkpoint.origin and signature[:4] == _key_hash(name, ED25519, key):
            if not signature_fits(key, signature[4:], checkpoint.text.encode()):
                raise InvalidFile(f"the checkpoint of {name} was changed after it was signed")
            mine += 1
        elif name in known and signature[:4] == _key_hash(name, COSIGNATURE, known[name]):
            if (time := _fits(name, signature, checkpoint, known[name])) is None or name in seen:
                raise InvalidFile(f"the cosignature of {name} does not fit its checkpoint")
            seen[name] = time
    if mine != 1:
        raise InvalidFile(f"the checkpoint of {checkpoint.origin} is not signed by the key of this log")
    return checkpoint, seen


def _parsed(note: bytes) -> tuple[Checkpoint, list[tuple[str, bytes]]]:
    if len(note) > MOST_BYTES:
        raise InvalidFile(f"this checkpoint holds {len(note):,} bytes; at most {MOST_BYTES:,} are read")
    try:
        text, _, signed = note.decode().partition("\n\n")
        origin, size, root = text.split("\n")
        lines = LINE.findall(signed)
        if "".join(f"\u2014 {name} {value}\n" for name, value in lines) != signed or not 0 < len(lines) <= MOST_LINES:
            raise ValueError
        if not re.fullmatch(r"0|[1-9][0-9]{0,18}", size) or len(decoded(root, "root of a checkpoint")) != HASH:
            raise ValueError
        checkpoint = Checkpoint(origin, int(size), decoded(root, "root of a checkpoint"))
    except ValueError:
        raise InvalidFile("this is no checkpoint: origin, size, root, and at least one signature") from None
    return checkpoint, [(name, decoded(value, "signature of a note")) for name, value in lines]


def _fits(name: str, signature: bytes, checkpoint: Checkpoint, key: Ed25519PublicKey) -> datetime | None:
    time = int.from_bytes(signature[4:12], "big")
    if signature[:4] != _key_hash(name, COSIGNATURE, key) or time > LATEST:
        return None
    fits = signature_fits(key, signature[12:], _cosigned(checkpoint, time))
    return datetime.fromtimestamp(time, UTC) if fits else None


def _cosigned(checkpoint: Checkpoint, time: int) -> bytes:
    return f"cosignature/v1\ntime {time}\n{checkpoint.text}".encode()


def _key_hash(name: str, kind: int, key: Ed25519PublicKey) -> bytes:
    return hashlib.sha256(name.encode() + bytes([0x0A, kind]) + raw_key(key)).digest()[:4]


def _line(name: str, signature: bytes) -> str:
    return f"\u2014 {name} {base64.b64encode(signature).decode()}\n"
