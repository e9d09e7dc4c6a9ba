"""The file of recorded answers: what was answered, when, and in which session.

One SQLite file per model and access, held by one process at a time. A session is one verification: answers of one
session are taken for answers of one model. Every chunk of answers is committed as it arrives. The file may come from
somebody else, so its layout, its owner and every answer are checked on reading; it holds numbers and times only.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import secrets
import sqlite3
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from whorl.errors import InvalidFile, OracleError, UsageError
from whorl.storage import disk_refusal

__all__ = ["Record"]

_APPLICATION: Final = 0x77686F72  # "whor", SQLite's mark of the program that a file belongs to
_META: Final = "CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID"
_TABLES: Final = {
    "meta": _META,
    "sessions": (
        "CREATE TABLE sessions (number INTEGER PRIMARY KEY, id TEXT NOT NULL, purpose TEXT NOT NULL, "
        "rule TEXT NOT NULL, started TEXT NOT NULL, finished TEXT)"
    ),
    "answers": (
        "CREATE TABLE answers (session TEXT NOT NULL, key BLOB NOT NULL, answer BLOB NOT NULL, time TEXT NOT NULL, "
        "seal BLOB NOT NULL, PRIMARY KEY (session, key)) WITHOUT ROWID"
    ),
}
_FORMER: Final = {
    "meta": _META,
    "answers": "CREATE TABLE answers (key BLOB PRIMARY KEY, answer BLOB NOT NULL, seal BLOB NOT NULL) WITHOUT ROWID",
}
_LOOKUP: Final = 500  # keys per SELECT; SQLite's oldest limit on parameters is 999
_WAIT: Final = 30.0  # seconds to wait for a program other than whorl that reads or writes the file
_TIME: Final = "%Y-%m-%dT%H:%M:%SZ"


class Record:
    """The answers of one session after another in the file ``path``.

    Parameters:
        owner: what the answers are of, as facts by name; a file of another owner is refused.
        longest: bytes of the longest answer.

    Raises:
        UsageError: the file cannot be made at ``path``.
        InvalidFile: the file is no such record, is of an earlier layout, of another owner, or is damaged.
        OracleError: another process holds the file, or it cannot be written (disk full).
    """

    def __init__(self, path: Path, owner: Mapping[str, str], *, longest: int) -> None:
        self.path = path
        self.session = ""
        self._longest = longest
        self._lock = _Lock(path)
        try:
            self._connection = self._open(owner)
        except BaseException:
            self._lock.release()
            raise

    def close(self) -> None:
        """Close the file and let others have it. Everything that arrived is on disk already."""
        self._connection.close()
        self._lock.release()

    def resume(self, purpose: str, rule: str) -> None:
        """Go on with the unfinished session of this purpose and rule; where there is none, begin one."""
        unfinished = "purpose = ? AND rule = ? AND finished IS NULL"
        if not self._choose(unfinished, purpose, rule):
            self.session = secrets.token_hex(16)
            with self._translated(), self._connection:
                self._connection.execute(
                    "INSERT INTO sessions VALUES (NULL, ?, ?, ?, ?, NULL)", (self.session, purpose, rule, _now())
                )

    def reopen(self, purpose: str) -> bool:
        """Take the answers of the last finished session of this purpose, under any rule; False if there is none."""
        return self._choose("purpose = ? AND finished IS NOT NULL", purpose)

    def finish(self) -> None:
        """The session has led to what it was for. One that had finished before keeps its time."""
        with self._translated(), self._connection:
            self._connection.execute(
                "UPDATE sessions SET finished = ? WHERE id = ? AND finished IS NULL", (_now(), self.session)
            )

    def read(self, keys: Sequence[bytes]) -> dict[bytes, tuple[bytes, str]]:
        """Answers of the session by key, as bytes, each with the UTC time at which it was given."""
        known: dict[bytes, tuple[bytes, str]] = {}
        with self._translated():
            for start in range(0, len(keys), _LOOKUP):
                part = keys[start : start + _LOOKUP]
                marks = ", ".join("?" * len(part))
                rows = self._connection.execute(
                    f"SELECT key, answer, time, seal FROM answers WHERE session = ? AND key IN ({marks})",  # marks only
                    (self.session, *part),
                )
                for key, answer, time, seal in rows:
                    sealed = isinstance(answer, bytes) and isinstance(time, str)
                    if not sealed or seal != _seal(self.session, key, answer, time) or not _is_time(time):
                        raise self.damaged("an answer or its time is not what was recorded")
                    known[key] = (answer, time)
        return known

    def write(self, answers: Mapping[bytes, bytes]) -> None:
        """Keep answers by key, as given now."""
        time = _now()
        rows = [
            (self.session, key, answer, time, _seal(self.session, key, answer, time)) for key, answer in answers.items()
        ]
        with self._translated(), self._connection:
            self._connection.executemany("INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?)", rows)

    def damaged(self, reason: str) -> InvalidFile:
        """The error of a file that does not hold what it should."""
        return InvalidFile(f"{self.path} is damaged or holds no recorded answers ({reason}); give another file")

    def _choose(self, condition: str, *values: str) -> bool:
        with self._translated():
            statement = f"SELECT id FROM sessions WHERE {condition} ORDER BY number DESC LIMIT 1"
            found = self._connection.execute(statement, values).fetchone()
        if found is None:
            return False
        if not isinstance(found[0], str) or not re.fullmatch("[0-9a-f]{32}", found[0]):
            raise self.damaged("a session has no name of 32 hexadecimal digits")
        self.session = found[0]
        return True

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:  # the disk or another program, not what the file says
            refused = disk_refusal(error, self.path) or f"can't hold answers: {error}"
            raise OracleError(f"{self.path} {refused}") from None
        except (sqlite3.Error, OverflowError, UnicodeError) as error:
            raise self.damaged(str(error)) from None

    def _open(self, owner: Mapping[str, str]) -> sqlite3.Connection:
        try:
            connection = sqlite3.connect(self.path, timeout=_WAIT, check_same_thread=False)
        except sqlite3.OperationalError as error:
            raise _unusable(self.path, error) from None
        try:
            with self._translated():
                # The file may be hostile: bound the size of a value, and let nothing in its schema call a function.
                connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 65536 + self._longest)
                connection.execute("PRAGMA trusted_schema = OFF")
                if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0:
                    _create(connection, owner)
                self._identify(connection, owner)
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = FULL")
        except BaseException:
            connection.close()
            raise
        return connection

    def _identify(self, connection: sqlite3.Connection, owner: Mapping[str, str]) -> None:
        tables = dict[Any, Any](connection.execute("SELECT name, sql FROM sqlite_master").fetchall())
        ours = connection.execute("PRAGMA application_id").fetchone()[0] == _APPLICATION
        if ours and tables == _FORMER:
            raise InvalidFile(
                f"{self.path} holds answers of an earlier layout, which says neither when nor for what they were "
                "given; delete it or give another file (--record FILE)"
            )
        if not ours or tables != _TABLES:
            raise InvalidFile(f"{self.path} holds no recorded answers; give another file")
        found = dict(connection.execute("SELECT name, value FROM meta LIMIT 100"))
        for name, value in owner.items():
            if found.get(name) != value:
                raise InvalidFile(
                    f"{self.path} was recorded for another {name} ({str(found.get(name, ''))[:80]!r}, "
                    f"not {value[:80]!r}); give another file"
                )


class _Lock:
    """Holds ``path`` for this process, by a file beside it, until `release` or the end of the process.

    The system drops the lock of a process that ends, however it ends; a lock file that is left behind holds nothing.

    Raises:
        OracleError: a process holds it; says which, and since when.
        UsageError: the folder of ``path`` cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._beside = path.with_name(f"{path.name}.lock").absolute()
        while True:
            try:
                file = os.open(self._beside, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
            except OSError as error:
                raise _unusable(path, error) from None
            self._close = weakref.finalize(self, os.close, file)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                who = _holder(file)
                raise OracleError(f"{path} is in use by {who}; wait for it to end, or give another file") from None
            if os.fstat(file).st_nlink:
                break
            self._close()  # its holder removed it between our opening and our locking it
        try:
            os.ftruncate(file, 0)
            os.pwrite(file, f"{os.getpid()} {_now()}".encode(), 0)
        except OSError as error:  # a pipe, or a full disk
            raise _unusable(path, error) from None

    def release(self) -> None:
        """Let others have it; the lock file goes."""
        if self._close.alive:
            self._beside.unlink(missing_ok=True)
            self._close()


def _holder(file: int) -> str:
    try:
        held = re.fullmatch(rb"(\d{1,10}) ([0-9TZ:-]{20})", os.pread(file, 100, 0))
    except OSError:
        held = None
    return f"process {held[1].decode()} since {held[2].decode()}" if held else "another process"


def _create(connection: sqlite3.Connection, owner: Mapping[str, str]) -> None:
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(f"PRAGMA application_id = {_APPLICATION}")
        for statement in _TABLES.values():
            connection.execute(statement)
        connection.executemany("INSERT INTO meta VALUES (?, ?)", list(owner.items()))


def _seal(session: str, key: bytes, answer: bytes, time: str) -> bytes:
    parts = session.encode() + key + time.encode(errors="replace") + answer
    return hashlib.blake2b(parts, digest_size=8).digest()  # finds damage; it is no signature


def _now() -> str:
    return datetime.now(UTC).strftime(_TIME)


@lru_cache
def _is_time(text: str) -> bool:
    try:
        return datetime.strptime(text, _TIME).strftime(_TIME) == text
    except ValueError:
        return False


def _unusable(path: Path, error: OSError | sqlite3.Error) -> UsageError:
    return UsageError(f"{path} {disk_refusal(error, path)}")
