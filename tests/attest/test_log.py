"""Logs and their checkpoints: what is appended stays, proofs verify, and a rewritten file is refused."""

from __future__ import annotations

import base64
import hashlib
import random
import sqlite3
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from whorl.attest import checkpoint as notes
from whorl.attest.checkpoint import Checkpoint, check_cosignature, cosign, read_checkpoint, sign_checkpoint
from whorl.attest.keys import raw_key, signature_fits
from whorl.attest.log import Log
from whorl.attest.merkle import EMPTY, check_consistency, check_inclusion, leaf_hash
from whorl.errors import InvalidFile, UsageError

KEY, WITNESS, OTHER = (Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32) for n in (1, 2, 3))
ENTRIES = [f"entry {n}".encode() * (n + 1) for n in range(5)]
TIME = 1_790_000_000


@pytest.fixture
def log(tmp_path):
    made = Log.create(tmp_path / "log.sqlite", "example.org/log", KEY)
    for entry in ENTRIES:
        made.append(entry, KEY)
    made.keep(cosign(made.checkpoint(4), "witness.example", WITNESS, TIME), 4, WITNESS.public_key())
    made.keep(cosign(made.checkpoint(), "witness.example", WITNESS, TIME + 9), 5, WITNESS.public_key())
    yield made
    made.close()


def test_the_published_note():
    """The example of the signed notes of Go's checksum database, golang.org/x/mod/sumdb/note."""
    key = Ed25519PublicKey.from_public_bytes(base64.b64decode("ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW")[1:])
    assert notes._key_hash("PeterNeumann", 1, key).hex() == "c74f20a3"
    text = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
    line = "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM="
    assert base64.b64decode(line)[:4].hex() == "c74f20a3"
    assert signature_fits(key, base64.b64decode(line)[4:], text.encode())


def test_a_note_to_the_byte():
    root = hashlib.sha256(b"root").digest()
    checkpoint = Checkpoint("example.org/log", 7, root)
    note = sign_checkpoint(checkpoint, KEY)
    text, line = note.split("\n\n")
    assert text == f"example.org/log\n7\n{base64.b64encode(root).decode()}"
    public = KEY.public_key().public_bytes_raw()
    blob = hashlib.sha256(b"example.org/log\n\x01" + public).digest()[:4] + KEY.sign(f"{text}\n".encode())
    assert line == f"— example.org/log {base64.b64encode(blob).decode()}\n"
    seen = cosign(checkpoint, "w", WITNESS, TIME)
    public = WITNESS.public_key().public_bytes_raw()
    signed = WITNESS.sign(f"cosignature/v1\ntime {TIME}\n{text}\n".encode())
    blob = hashlib.sha256(b"w\n\x04" + public).digest()[:4] + TIME.to_bytes(8, "big") + signed
    assert seen == f"— w {base64.b64encode(blob).decode()}\n"
    at = datetime.fromtimestamp(TIME, UTC)
    assert check_cosignature(seen, checkpoint, WITNESS.public_key()) == ("w", at)
    read = read_checkpoint((note + seen).encode(), KEY.public_key(), {"w": WITNESS.public_key()})
    assert read == (checkpoint, {"w": at})
    assert read_checkpoint((note + seen).encode(), KEY.public_key()) == (checkpoint, {})


def test_every_single_bit_of_a_note():
    """Refused, or the witness's name or key is another than that asked for, and then it saw nothing."""
    checkpoint = Checkpoint("example.org/log", 7, hashlib.sha256(b"root").digest())
    note = (sign_checkpoint(checkpoint, KEY) + cosign(checkpoint, "witness", WITNESS, TIME)).encode()
    known, fewer = {"witness": WITNESS.public_key()}, 0
    for bit in range(8 * len(note)):
        changed = bytearray(note)
        changed[bit // 8] ^= 1 << bit % 8
        try:
            found = read_checkpoint(bytes(changed), KEY.public_key(), known)
        except InvalidFile:
            continue
        assert found == (checkpoint, {})
        fewer += 1
    assert 0 < fewer <= 8 * (len("witness") + 7)  # name, and the four bytes that stand for name and key


@pytest.mark.parametrize(
    "change",
    [
        lambda note: note.replace("\n7\n", "\n07\n"),
        lambda note: note.replace("\n7\n", "\n-7\n"),
        lambda note: note.replace("\n7\n", "\n7\nmore\n"),
        lambda note: note.replace("\n\n", "\n"),
        lambda note: note + "\n",
        lambda note: note[:-1],
        lambda note: note.split("\n\n")[0] + "\n\n",
        lambda note: note + note.split("\n\n")[1],
        lambda note: note + "— a b\n",
        lambda note: note + note.split("\n\n")[1] * 200,
        lambda note: "",
        lambda note: "\n" * 1000,
        lambda note: "x" * (1 << 20),
    ],
)
def test_what_is_no_note(change):
    note = sign_checkpoint(Checkpoint("example.org/log", 7, hashlib.sha256(b"root").digest()), KEY)
    assert read_checkpoint(note.encode(), KEY.public_key())
    with pytest.raises(InvalidFile):
        read_checkpoint(change(note).encode(), KEY.public_key())
    with pytest.raises(InvalidFile, match="not signed by the key"):
        read_checkpoint(note.encode(), OTHER.public_key())


def test_a_log_remembers(log):
    assert len(log) == 5
    assert [log.entry(n) for n in range(5)] == ENTRIES
    again = Log(log.path, KEY.public_key())
    assert [again.note(size) for size in range(6)] == [log.note(size) for size in range(6)]
    assert log.checkpoint(0).root == EMPTY
    for size in range(6):
        checkpoint, seen = read_checkpoint(log.note(size), KEY.public_key(), {"witness.example": WITNESS.public_key()})
        assert (checkpoint.origin, checkpoint.size) == ("example.org/log", size)
        assert bool(seen) == (size in (4, 5))
        for index in range(size):
            check_inclusion(leaf_hash(ENTRIES[index]), index, size, again.inclusion(index, size), checkpoint.root)
        for old in range(size + 1):
            before = log.checkpoint(old).root
            check_consistency(old, before, size, checkpoint.root, again.consistency(old, size))


def test_two_programs_append_to_one_log(log):
    other = Log(log.path, KEY.public_key())
    assert other.append(b"from the other", KEY) == 5
    assert log.append(b"from the first", KEY) == 6
    assert other.append(b"again", KEY) == 7
    assert [Log(log.path, KEY.public_key()).entry(n) for n in (5, 6, 7)] == [
        b"from the other",
        b"from the first",
        b"again",
    ]
    log.follows(other.note())
    assert log.entry(7) == b"again"


def test_a_write_that_fails_leaves_the_log_as_it_was(log, monkeypatch):
    def fail(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("whorl.attest.log.sign_checkpoint", fail)
        with pytest.raises(KeyboardInterrupt):
            log.append(b"never", KEY)
    assert len(log) == len(Log(log.path, KEY.public_key())) == 5
    assert log.append(b"next", KEY) == 5
    assert Log(log.path, KEY.public_key()).note() == log.note()


@pytest.mark.parametrize("table", ["log", "checkpoints", "cosignatures"])
def test_rows_cannot_be_changed(log, table):
    database = sqlite3.connect(log.path)
    column = {"log": "entry", "checkpoints": "note", "cosignatures": "line"}[table]
    values = {"log": "0, x'00'", "checkpoints": "0, x'00'", "cosignatures": "0, 4, x'00', x'00'"}[table]
    for statement in (
        f"UPDATE {table} SET {column} = x'00'",
        f"DELETE FROM {table}",
        f"INSERT OR REPLACE INTO {table} VALUES ({values})",
        f"INSERT INTO {table} VALUES (99{values[1:]})",
    ):
        with pytest.raises(sqlite3.IntegrityError, match="append only"):
            database.execute(statement)


def rewrite(path, *statements):
    """As one does who knows SQLite: without the triggers, which are put back."""
    with sqlite3.connect(path) as database:
        triggers = database.execute("SELECT rowid, name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for _, name, _ in triggers:
            database.execute(f"DROP TRIGGER {name}")
        for statement in statements:
            database.execute(statement)
        for _, _, sql in triggers:
            database.execute(sql)
    database.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE log SET entry = x'00' WHERE position = 2",
        "UPDATE log SET entry = 'entry' WHERE position = 2",
        "DELETE FROM log WHERE position = 4",
        "DELETE FROM log WHERE position = 2",
        "DELETE FROM log",
        "INSERT INTO log VALUES (5, x'00')",
        "INSERT INTO log VALUES (-1, x'00')",
        "UPDATE log SET position = 9 WHERE position = 4",
        "UPDATE log SET entry = (SELECT entry FROM log WHERE position = 1) WHERE position = 0",
        "DELETE FROM checkpoints WHERE position = 5",
        "DELETE FROM checkpoints WHERE position = 2",
        "DELETE FROM checkpoints",
        "UPDATE checkpoints SET note = (SELECT note FROM checkpoints WHERE position = 1) WHERE position = 2",
        "UPDATE checkpoints SET note = 7 WHERE position = 2",
        "INSERT INTO checkpoints SELECT 6, note FROM checkpoints WHERE position = 5",
        "UPDATE cosignatures SET size = 3 WHERE position = 0",
        "UPDATE cosignatures SET size = -1 WHERE position = 0",
        "UPDATE cosignatures SET size = 'x' WHERE position = 0",
        "UPDATE cosignatures SET key = x'00' WHERE position = 0",
        "UPDATE cosignatures SET line = x'00' WHERE position = 0",
        "DELETE FROM cosignatures WHERE position = 0",
        "DELETE FROM log WHERE position = 4; DELETE FROM checkpoints WHERE position = 5",
        "CREATE TABLE more (x)",
        "CREATE VIEW more AS SELECT * FROM log",
        "PRAGMA user_version = 2",
        "PRAGMA application_id = 2",
    ],
)
def test_a_rewritten_log_is_refused(log, statement):
    log.close()
    assert Log(log.path, KEY.public_key())
    rewrite(log.path, *statement.split("; "))
    with pytest.raises(InvalidFile) as refused:
        Log(log.path, KEY.public_key())
    assert refused.value.exit_code == 7
    assert "\n" not in str(refused.value)


def test_a_log_without_its_triggers_is_refused(log):
    log.close()
    with sqlite3.connect(log.path) as database:
        database.execute("DROP TRIGGER log_update")
    with pytest.raises(InvalidFile, match="tables were changed"):
        Log(log.path, KEY.public_key())


def test_who_holds_the_key_can_rewrite_and_is_found_by_an_older_note(log, tmp_path):
    kept = log.note(3)
    new = Log.create(tmp_path / "new.sqlite", "example.org/log", KEY)
    for entry in (ENTRIES[0], b"another", *ENTRIES[2:]):
        new.append(entry, KEY)
    log.follows(kept)
    new.follows(log.note(1))
    for note in (kept, log.note()):
        with pytest.raises(InvalidFile, match="was rewritten"):
            new.follows(note)
    new.close()
    rewrite(new.path, "DELETE FROM log WHERE position > 0", "DELETE FROM checkpoints WHERE position > 1")
    short = Log(new.path, KEY.public_key())  # an earlier log, as far as the file tells
    assert len(short) == 1
    with pytest.raises(InvalidFile, match="was rewritten"):
        short.follows(kept)
    named = Log.create(tmp_path / "named.sqlite", "example.org/other", KEY)
    with pytest.raises(InvalidFile, match="was rewritten"):
        named.follows(log.note(0))


def contents(path):
    opened = Log(path, KEY.public_key())
    try:
        return [opened.entry(n) for n in range(len(opened))], [opened.note(n) for n in range(len(opened) + 1)]
    finally:
        opened.close()


def test_single_bits_of_a_log_file(log, tmp_path):
    """800 drawn bits and those that count rows (``benchmarks/attest.py`` has all): refused, or without any meaning.

    Free space in pages and some fields of the header are such; what is read is then the same to the byte.
    """
    log.close()
    whole, data = contents(log.path), log.path.read_bytes()
    chance, path, refused = random.Random(0), tmp_path / "changed.sqlite", 0
    meant = [place for place, byte in enumerate(data) if byte]  # most of the others are free space
    drawn = [(place, chance.randrange(8)) for place in chance.choices(meant, k=800)]
    counts = [(page + 4, bit) for page in range(4096, len(data), 4096) for bit in range(8)]  # of the rows in a page
    for place, bit in drawn + counts:
        changed = bytearray(data)
        changed[place] ^= 1 << bit
        path.write_bytes(changed)
        try:
            assert contents(path) == whole
        except InvalidFile:
            refused += 1
    assert refused > 400


def test_what_is_no_log(log, tmp_path):
    for data in (b"", b"none", bytes(4096), b"SQLite format 3\x00" + bytes(4080), log.path.read_bytes()[:-4096]):
        path = tmp_path / "none.sqlite"
        path.write_bytes(data)
        with pytest.raises(InvalidFile):
            Log(path, KEY.public_key())
    with pytest.raises(UsageError, match="no such file"):
        Log(tmp_path / "nowhere", KEY.public_key())
    with pytest.raises(InvalidFile, match="not signed by the key"):
        Log(log.path, OTHER.public_key())
    with pytest.raises(UsageError, match="there already"):
        Log.create(log.path, "example.org/log", KEY)
    for origin in ("", "two words", "a+b", "x" * 300, "a\nb", "a\x07b"):
        with pytest.raises(UsageError):
            Log.create(tmp_path / "new", origin, KEY)
    assert not (tmp_path / "new").exists()


def test_what_a_log_does_not_take(log):
    with pytest.raises(UsageError, match="not the one of the log"):
        log.append(b"entry", OTHER)
    for entry in (b"", bytes((4 << 20) + 1)):
        with pytest.raises(UsageError, match="an entry has"):
            log.append(entry, KEY)
    line = cosign(log.checkpoint(), "witness.example", WITNESS, TIME)
    for bad, size, key in ((line, 4, WITNESS), (line, 5, OTHER), ("none", 5, WITNESS), (line + line, 5, WITNESS)):
        with pytest.raises(InvalidFile):
            log.keep(bad, size, key.public_key())
    for call in (log.entry, log.note, log.checkpoint, log.inclusion, log.consistency):
        with pytest.raises(UsageError):
            call(99)
    assert raw_key(log.key) == raw_key(KEY.public_key())
    assert len(Log(log.path, KEY.public_key())) == 5
