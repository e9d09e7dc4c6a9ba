"""An append-only log in one SQLite file: entries, a signed checkpoint after each, and what witnesses cosigned.

Triggers refuse every change of a row. They stop accidents; what stops a forger is that a log is verified whole when it
is opened: entries are hashed again, and every checkpoint has to be signed over the root of the entries before it. Two
things a file alone can't show: that its last entries were cut off together with their checkpoints, and that whoever
holds the log's own key wrote another log. Both are found by who kept an earlier checkpoint (`follows`).

Source: RFC 9162, section 2.1; C2SP tlog-checkpoint (`whorl.attest.checkpoint`).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from whorl.attest.checkpoint import Checkpoint, check_cosignature, read_checkpoint, sign_checkpoint
from whorl.attest.keys import Ed25519PrivateKey, Ed25519PublicKey, raw_key, read_raw_key
from whorl.attest.merkle import EMPTY, Tree, leaf_hash
from whorl.errors import InvalidFile, UsageError, WhorlError
from whorl.storage import check_size, disk_refusal, one_line

__all__ = ["MOST_ENTRIES", "MOST_ENTRY", "Log"]

MOST_ENTRIES: Final = 1 << 17  # opening verifies a signature for each
MOST_ENTRY: Final = 4 << 20  # bytes
MOST_FILE: Final = 4 << 30
MOST_COSIGNATURES: Final = 1 << 17
PATIENCE: Final = 60  # seconds to wait for another process that writes
APPLICATION: Final = 0x77686C67  # "whlg" in the header of the file
FORMAT: Final = 1

TABLES: Final = {
    "log": "position INTEGER PRIMARY KEY, entry BLOB NOT NULL",
    "checkpoints": "position INTEGER PRIMARY KEY, note BLOB NOT NULL",
    "cosignatures": "position INTEGER PRIMARY KEY, size INTEGER NOT NULL, key BLOB NOT NULL, line BLOB NOT NULL",
}
SCHEMA: Final = tuple(
    statement
    for table, columns in TABLES.items()
    for statement in (
        f"CREATE TABLE {table} ({columns})",
        f"CREATE TRIGGER {table}_update BEFORE UPDATE ON {table} BEGIN SELECT RAISE(ABORT, 'append only'); END",
        f"CREATE TRIGGER {table}_delete BEFORE DELETE ON {table} BEGIN SELECT RAISE(ABORT, 'append only'); END",
        # A row put in place of another would be no deletion to SQLite.
        f"CREATE TRIGGER {table}_insert BEFORE INSERT ON {table} WHEN NEW.position IS NOT "
        f"(SELECT count(*) FROM {table}) BEGIN SELECT RAISE(ABORT, 'append only'); END",
    )
)


class Log:
    """A log that was verified when it was opened, and is again, as far as it grew, before each append.

    Parameters:
        path: the file.
        key: the log's public key.

    Raises, here and in every method:
        UsageError: no such file, or an entry that the log does not have.
        InvalidFile: no log, or one that was changed.
        WhorlError: it can't be read or written, as where the disk is full or another program holds it.
    """

    def __init__(self, path: str | Path, key: Ed25519PublicKey) -> None:
        self.path = Path(path)
        self.key = key
        check_size(self.path, MOST_FILE)
        self._tree = Tree()
        self._notes: list[bytes] = []
        self._origin = ""
        self._cosigned = 0
        self._database = self._connected()
        self._check_schema()
        self._refresh()

    @classmethod
    def create(cls, path: str | Path, origin: str, key: Ed25519PrivateKey) -> Log:
        """A new log with a checkpoint of no entry.

        Parameters:
            origin: the log's name for ever, as in ``example.org/whorl``, without spaces and +.
        """
        target = Path(path)
        note = sign_checkpoint(Checkpoint(origin, 0, EMPTY), key)
        try:
            target.touch(exist_ok=False)
        except FileExistsError:
            raise UsageError(f"{target} is there already; give another path for a new log") from None
        except OSError as error:
            raise WhorlError(f"{target} {disk_refusal(error, target)}") from None
        new = cls.__new__(cls)
        new.path = target
        database = new._connected()
        with new._translated(), database:
            database.execute("BEGIN IMMEDIATE")
            database.execute(f"PRAGMA application_id = {APPLICATION}")
            database.execute(f"PRAGMA user_version = {FORMAT}")
            for statement in SCHEMA:
                database.execute(statement)
            database.execute("INSERT INTO checkpoints VALUES (0, ?)", (note.encode(),))
        database.close()
        return cls(target, key.public_key())

    def __len__(self) -> int:
        return len(self._tree)

    @property
    def origin(self) -> str:
        """The log's name."""
        return self._origin

    def append(self, entry: bytes, key: Ed25519PrivateKey) -> int:
        """Add an entry and sign the checkpoint after it. Returns the entry's number, from 0."""
        if raw_key(key.public_key()) != raw_key(self.key):
            raise UsageError(f"this key is not the one of the log {self.origin}")
        if not 0 < len(entry) <= MOST_ENTRY:
            raise UsageError(f"an entry has 1 to {MOST_ENTRY:,} bytes; this has {len(entry):,}")
        try:
            with self._translated(), self._database:
                self._database.execute("BEGIN IMMEDIATE")
                self._verify()  # what another process added since
                if (place := len(self)) >= MOST_ENTRIES:
                    raise UsageError(f"{self.path} is full with {place:,} entries; begin a new log")
                self._tree.append(leaf_hash(entry))
                note = sign_checkpoint(Checkpoint(self.origin, place + 1, self._tree.root()), key).encode()
                self._database.execute("INSERT INTO log VALUES (?, ?)", (place, entry))
                self._database.execute("INSERT INTO checkpoints VALUES (?, ?)", (place + 1, note))
        except BaseException:  # nothing was written, so nothing is known of it
            self._tree = Tree(self._tree.leaves[: len(self._notes) - 1])
            raise
        self._notes.append(note)
        return place

    def entry(self, index: int) -> bytes:
        """Entry ``index``, from 0."""
        if not 0 <= index < len(self):
            raise UsageError(f"this log has {len(self)} entries, and none of number {index}")
        found = self._rows("SELECT entry FROM log WHERE position = ?", index)[0][0]
        if not isinstance(found, bytes) or leaf_hash(found) != self._tree.leaves[index]:
            raise InvalidFile(f"{self.path}: entry {index} was changed")
        return found

    def checkpoint(self, size: int | None = None) -> Checkpoint:
        """The checkpoint of the first ``size`` entries, all by default."""
        return read_checkpoint(self._note(size), self.key)[0]

    def note(self, size: int | None = None) -> bytes:
        """The same as a signed note, with the lines of all witnesses whose cosignatures were kept."""
        size = len(self) if size is None else size
        lines = self._rows("SELECT line FROM cosignatures WHERE size = ? ORDER BY position", size)
        return self._note(size) + b"".join(line for (line,) in lines)

    def inclusion(self, index: int, size: int | None = None) -> list[bytes]:
        """The proof that entry ``index`` is among the first ``size`` (`whorl.attest.merkle.check_inclusion`)."""
        return self._tree.inclusion(index, size)

    def consistency(self, old: int, size: int | None = None) -> list[bytes]:
        """The proof that the first ``size`` entries begin with the first ``old`` (`check_consistency`)."""
        return self._tree.consistency(old, size)

    def follows(self, note: bytes) -> None:
        """Raise `InvalidFile` unless this log continues the checkpoint of ``note``, as somebody kept it."""
        seen, _ = read_checkpoint(note, self.key)
        self._refresh()
        if seen.origin != self.origin or seen.size > len(self) or self._tree.root(seen.size) != seen.root:
            raise InvalidFile(f"{self.path} was rewritten: it does not continue the checkpoint of {seen.size} entries")

    def keep(self, line: str, size: int, key: Ed25519PublicKey) -> None:
        """Keep the cosignature line of a witness over the checkpoint of the first ``size`` entries.

        Parameters:
            key: the witness's. It says that the line is whole; whom to trust says the reader of the note.
        """
        check_cosignature(line, self.checkpoint(size), key)
        with self._translated(), self._database:
            statement = "INSERT INTO cosignatures SELECT count(*), ?, ?, ? FROM cosignatures"
            self._database.execute(statement, (size, raw_key(key), line.encode()))

    def cosigned(self, key: Ed25519PublicKey) -> dict[int, list[str]]:
        """The lines of one witness, by the number of entries of the checkpoint that each is over."""
        found: dict[int, list[str]] = {}
        rows = self._rows("SELECT size, key, line FROM cosignatures ORDER BY position")
        for size, of, line in rows:
            if of == raw_key(key):
                found.setdefault(size, []).append(line.decode())
        return found

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def _note(self, size: int | None) -> bytes:
        place = len(self) if size is None else size
        if not 0 <= place <= len(self):
            raise UsageError(f"this log has {len(self)} entries, and no checkpoint of {place}")
        return self._notes[place]

    def _refresh(self) -> None:
        """Verify what was added since, as of one moment: another process may be writing."""
        with self._translated(), self._database:
            self._database.execute("BEGIN")
            self._verify()

    def _verify(self) -> None:
        """Hash and check what was not seen yet: every entry, every checkpoint, every cosignature."""
        for place, entry in self._since("log", len(self)):
            if place != len(self) or not isinstance(entry, bytes) or len(self) >= MOST_ENTRIES:
                raise InvalidFile(f"{self.path}: entry {len(self)} is missing, or none")
            self._tree.append(leaf_hash(entry))
        for size, note in self._since("checkpoints", len(self._notes)):
            if size != len(self._notes) or size > len(self) or not isinstance(note, bytes):
                raise InvalidFile(f"{self.path}: the checkpoint of {len(self._notes)} entries is missing, or none")
            found, _ = read_checkpoint(note, self.key)
            self._origin = self._origin or found.origin
            if found != Checkpoint(self._origin, size, self._tree.root(size)):
                raise InvalidFile(f"{self.path} was rewritten: its first {size} entries are not those that were signed")
            self._notes.append(note)
        if len(self._notes) != len(self) + 1:
            raise InvalidFile(f"{self.path} lacks the checkpoint of {len(self._notes)} entries")
        for place, size, key, line in self._since("cosignatures", self._cosigned):
            whole = type(size) is int and isinstance(key, bytes) and isinstance(line, bytes) and 0 <= size <= len(self)
            if not whole or place != self._cosigned or place >= MOST_COSIGNATURES:
                raise InvalidFile(f"{self.path}: cosignature {self._cosigned} is missing, or none")
            check_cosignature(line.decode(errors="replace"), self.checkpoint(size), read_raw_key(key))
            self._cosigned += 1

    def _check_schema(self) -> None:
        """Before a row is read: views and triggers of others would run with it."""
        found = [sql for (sql,) in self._rows("SELECT sql FROM sqlite_master ORDER BY sql")]
        mark = [self._rows(f"PRAGMA {name}")[0][0] for name in ("application_id", "user_version")]
        if found != sorted(SCHEMA) or mark != [APPLICATION, FORMAT]:
            raise InvalidFile(f"{self.path} is no log of format {FORMAT}, or its tables were changed")
        # A page that counts one row less than lies in it would else hide its last cosignature.
        if (said := self._rows("PRAGMA quick_check(1)")) != [("ok",)]:
            raise InvalidFile(f"{self.path} is damaged: {one_line(ValueError(said[0][0]))}")

    def _connected(self) -> sqlite3.Connection:
        with self._translated():
            database = sqlite3.connect(self.path, timeout=PATIENCE, isolation_level=None)
            for setting in ("trusted_schema = OFF", "cell_size_check = ON", "synchronous = EXTRA"):
                database.execute(f"PRAGMA {setting}")
            return database

    def _rows(self, statement: str, *values: int) -> list[Any]:
        with self._translated():
            return self._database.execute(statement, values).fetchall()

    def _since(self, table: str, position: int) -> Iterator[Any]:
        """The rows from a position on; from 0 on all, those below too."""
        statement = f"SELECT * FROM {table} WHERE position >= ? ORDER BY position"
        with self._translated():
            yield from self._database.execute(statement, (position or -(1 << 63),))

    @contextmanager
    def _translated(self) -> Generator[None]:
        try:
            yield
        except (sqlite3.DatabaseError, OverflowError, UnicodeDecodeError) as error:
            if isinstance(error, sqlite3.Error) and (refused := disk_refusal(error, self.path)):
                raise WhorlError(f"{self.path} {refused}") from None
            raise InvalidFile(f"{self.path} is no sound log ({one_line(error)})") from None
