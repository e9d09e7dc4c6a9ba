"""A witness of somebody else's log: who sees that it only grows, and says so under its checkpoints.

The witness keeps the last checkpoint that it signed. Before it signs another the log has to continue that one, so that
a log that was cut or written anew is found by it, and it signs each size once, so that nobody has it draw again
(`whorl.attest.draw.LoggedDraw`).

Source: C2SP tlog-witness and tlog-cosignature v1; here files pass between the two in the place of requests.
"""

from __future__ import annotations

from pathlib import Path

from whorl.attest.checkpoint import Checkpoint, check_cosignature, cosign, read_checkpoint
from whorl.attest.keys import Ed25519PrivateKey, Ed25519PublicKey, key_id, raw_key
from whorl.attest.log import Log
from whorl.errors import InvalidFile, UsageError
from whorl.storage import check_size, write_whole

__all__ = ["witness", "witness_name"]

MOST_BYTES = 64 << 10


def witness_name(key: Ed25519PublicKey) -> str:
    """The name under which a witness signs unless it takes another."""
    return f"whorl/witness/{key_id(key)[:16]}"


def witness(
    path: Path, log_key: Ed25519PublicKey, key: Ed25519PrivateKey, seen: Path, *, time: int, name: str = ""
) -> Checkpoint:
    """Verify a log, cosign its latest checkpoint, and keep what was signed.

    Parameters:
        log_key: the log's public key. key: the witness's own.
        seen: where the witness keeps the last checkpoint of this log with its cosignature; begun if it is not there,
            and then nothing says what the log was before.
        time: seconds since 1970, UTC.

    Raises:
        UsageError: the witness is the owner of the log.
        InvalidFile: the log is damaged, or does not continue what the witness saw.
    """
    public = key.public_key()
    if raw_key(public) == raw_key(log_key):
        raise UsageError("a log is witnessed by somebody else than its owner: give a key of your own (--key)")
    called = name or witness_name(public)
    log = Log(path, log_key)
    try:
        found = log.checkpoint()
        kept = _kept(seen, log_key) if seen.exists() else None
        if kept is not None:
            log.follows(kept)
            before, line = _signed(kept, log_key, called, public)
            if before.size == found.size:  # signed before: the same line again, should the log have lost it
                if line not in log.cosigned(public).get(found.size, []):
                    log.keep(line, found.size, public)
                return found
        line = cosign(found, called, key, time)
        # Before the log has it: a witness forgets nothing that it gave away.
        write_whole(seen, log.note() + line.encode())
        log.keep(line, found.size, public)
        return found
    finally:
        log.close()


def _kept(seen: Path, log_key: Ed25519PublicKey) -> bytes:
    check_size(seen, MOST_BYTES)
    note = seen.read_bytes()
    read_checkpoint(note, log_key)
    return note


def _signed(note: bytes, log_key: Ed25519PublicKey, name: str, key: Ed25519PublicKey) -> tuple[Checkpoint, str]:
    """The checkpoint of a note and this witness's own line below it, the last one."""
    checkpoint, _ = read_checkpoint(note, log_key)
    line = note.decode().splitlines(keepends=True)[-1]
    signer, _ = check_cosignature(line, checkpoint, key)
    if signer != name:
        raise InvalidFile(f"what was seen was signed as {signer}, and not as {name}: give the same --name")
    return checkpoint, line
