"""Files of plain data: tensors in safetensors, documents in JSON. Nothing here is ever executed.

Everything is written to a temporary file in the same folder and then moved into place, so that a reader never sees
half a file. Everything is read as if an enemy had written it: sizes are limited, headers and documents are checked,
and what fails ends in one line (`InvalidFile`).
"""

from __future__ import annotations

import difflib
import errno
import hashlib
import itertools
import json
import os
import re
import shutil
import sqlite3
import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn, cast

import rfc8785
from safetensors import SafetensorError, safe_open

from whorl.errors import InvalidFile, UsageError, WhorlError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "appending",
    "canonical_json",
    "check_size",
    "contained",
    "digest_file",
    "digest_tensors",
    "disk_refusal",
    "no_file",
    "not_whole",
    "one_line",
    "read_json",
    "read_metadata",
    "read_tensors",
    "replacing",
    "text_in",
    "write_json",
    "write_tensors",
    "write_whole",
]

MAX_TENSOR_BYTES: Final = 4 << 30  # a vision model of 10^9 float32 weights, or 10^6 queries of 32 x 32 pixels in uint8
MAX_JSON_BYTES: Final = 64 << 20
REFUSALS: Final = {  # of the system, which say nothing about what is in a file
    **dict.fromkeys((errno.EACCES, errno.EPERM), "is not yours to read; change its permissions, or give another file"),
    **dict.fromkeys(
        (errno.EMFILE, errno.ENFILE),
        "can't be opened, as too many files are open; end other programs, or allow more: ulimit -n 65536",
    ),
    errno.EIO: "can't be read from its disk; copy it to another one, and give that",
    errno.ENOMEM: "finds no memory to be read into; end other programs",
    errno.ENOENT: "is gone; it was there when its reading began",
}
PYDANTIC: Final = re.compile(r" +\[type=\w+, input_value=.*, input_type=\w+\]|\n? +For further information visit \S+")
NO_ROOM: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
MOST_NAMES: Final = 10_000  # of a folder that are compared with a name that is not there
ADDRESS: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):[/\\]")  # a single letter names a disk, and a path lost a slash
MAX_START: Final = 1024  # by which it is told whether a file holds text


@contextmanager
def replacing(path: str | Path) -> Generator[Path]:
    """A temporary path beside ``path`` that takes its place when the block ends well, and vanishes when it fails.

    What the block makes is a file, or a folder where nothing stands yet.

    A link stays, and what it leads to is replaced; to a device or a pipe, as /dev/null, is written as it stands.

    Raises `OSError` with the name of the file where there is no room for it.
    """
    target = Path(path)
    if target.exists() and not target.is_file() and not target.is_dir():
        yield target
        return
    target = Path(os.path.realpath(target)) if target.is_symlink() else target
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{os.getpid()}-{threading.get_ident()}.{target.name[-64:]}.tmp")
    try:
        yield temporary
        os.replace(temporary, target)
    except SafetensorError as error:  # which tells the system's own errors in words
        if code := re.search(r"\(os error (\d+)\)", str(error)):
            raise OSError(int(code[1]), os.strerror(int(code[1])), str(target)) from None
        raise
    except OSError as error:
        # A write that finds no room does not say of which file, or names the one that was copied.
        if error.errno in NO_ROOM or str(error.filename or temporary).startswith(str(temporary)):
            error.filename = str(target)
        raise
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary)
        temporary.unlink(missing_ok=True)


def write_whole(path: str | Path, content: str | bytes) -> None:
    """Write text, as UTF-8, or bytes. Raises `OSError` as `replacing` does; a file that was there is then as it was."""
    with replacing(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


@contextmanager
def appending(path: Path) -> Generator[Callable[[bytes], None]]:
    """A function that adds bytes to the end of a file: all of them or, where it raises `OSError`, none.

    While one process is in the block, others that add to the same file wait, where the system has such locks.
    """
    with path.open("ab", buffering=0) as file, _alone(file.fileno()):  # a buffer would keep what found no room

        def add(content: bytes) -> None:
            size, rest = os.fstat(file.fileno()).st_size, memoryview(content)
            try:
                while rest:  # a disk that becomes full takes a part
                    rest = rest[file.write(rest) :]
            except OSError as error:
                file.truncate(size)
                error.filename = str(path)
                raise

        yield add


@contextmanager
def _alone(file: int) -> Generator[None]:
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    fcntl.flock(file, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.fsync(file)
        fcntl.flock(file, fcntl.LOCK_UN)


def contained(folder: Path, name: object) -> Path:
    """A file that another file of a folder names: in the folder itself, whatever is said.

    Raises `InvalidFile` for a name with a path, `UsageError` where there is no such file.
    """
    if not isinstance(name, str) or name != Path(name).name or name in ("", ".", ".."):
        raise InvalidFile(f"{folder}: a file there names {str(name)[:100]!r}, which is no file of this folder")
    check_size(folder / name, 1 << 62)
    return folder / name


def check_size(path: str | Path, max_bytes: int) -> int:
    """Size of a file that can be read, in bytes.

    Raises:
        UsageError: there is no file, or the system refuses to open it; says which.
        InvalidFile: it has more than ``max_bytes``.
    """
    path = Path(path)
    try:
        found = path.is_file()
    except OSError as error:  # a name that is too long, or a folder that may not be searched
        raise UsageError(f"no such file: {str(path)[:300]} ({error.strerror})") from None
    if not found:
        raise UsageError(no_file(path))
    try:
        with path.open("rb"):
            size = path.stat().st_size
    except OSError as error:
        raise UsageError(_refused(path, error)) from None
    if size > max_bytes:
        raise InvalidFile(f"{path} holds {size:,} bytes; at most {max_bytes:,} are read")
    return size


def no_file(path: Path) -> str:
    """What stands at a path that is no file, and what to do: of a wrong name the nearest one in that folder."""
    if address := ADDRESS.match(str(path)):  # which may hold a key, so no more of it is shown
        told = "give the path alone" if address[1] == "file" else "download what it leads to, and give the path of that"
        return f"an address of {address[1]}:// is no path of a file, and nothing is fetched from it; {told}"
    if path.is_dir():
        return f"{path} is a folder; a file is needed"
    if path.is_symlink():
        try:
            path.resolve(strict=True)
        except FileNotFoundError:
            told = f"to {os.readlink(path)[:200]}, which is not there"
            return f"{path} is a symbolic link {told}; give the file that it was to lead to"
        except (OSError, RuntimeError):  # which of both depends on the version of Python
            return f"{path} is a symbolic link that leads in a circle; give the file that it was to lead to"
    if path.exists():
        return f"{path} is a pipe, a socket or a device and no file; write what it gives to a file, and give that"
    return f"no such file: {str(path)[:300]}{_nearest(path)}"


def _nearest(path: Path) -> str:
    """``; there is X``, the name that is most like the first part of a path that is not there; empty for none."""
    missing = next((part for part in (*reversed(path.parents), path) if not part.exists()), path)
    try:
        names = [each.name for each in itertools.islice(missing.parent.iterdir(), MOST_NAMES)]
    except OSError:
        return ""
    found = difflib.get_close_matches(missing.name, names, n=1)
    return f"; there is {missing.with_name(found[0])}" if found else ""


def not_whole(path: str | Path, what: str, error: BaseException) -> WhorlError:
    """What ended the reading of a file: the system's refusal (`UsageError`), or that it is no whole ``what``."""
    if isinstance(error, OSError) and error.errno in REFUSALS:
        return UsageError(_refused(path, error))
    return InvalidFile(f"{path} is not a whole {what}: {one_line(error)}")


def _refused(path: str | Path, error: OSError) -> str:
    told = REFUSALS.get(error.errno or 0, f"can't be read ({error.strerror}); give another file")
    return f"{str(path)[:300]} {told}"


def text_in(path: str | Path) -> str:
    """How a file begins that holds text, at most 60 characters; empty for any other file, and where there is none."""
    try:
        with Path(path).open("rb") as file:
            start = file.read(MAX_START)
        text = (start if len(start) < MAX_START else start.rsplit(maxsplit=1)[0]).decode("utf-8")
    except (OSError, UnicodeDecodeError, IndexError):
        return ""
    words = " ".join(text.split())
    return words[:60] if words.isprintable() else ""


def disk_refusal(error: OSError | sqlite3.Error, path: Path) -> str:
    """What the system refused of a file or a database, as the end of "FILE ..."; empty where its content is wrong."""
    name = getattr(error, "sqlite_errorname", "")
    system = isinstance(error, OSError)
    # In its write-ahead log SQLite does not tell a full disk from a broken one.
    broken = name.startswith("SQLITE_IOERR")
    if name == "SQLITE_FULL" or (system and error.errno == errno.ENOSPC) or (broken and not _room(path)):
        return "lies on a disk that is full; make room, or give another path"
    if system or name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM", "SQLITE_AUTH")):
        return "can't be opened; give a file in an existing, writable folder"
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return "is in use by another program; wait for it to end, or give another path"
    return f"can't be read or written ({error}); give another path" if broken else ""


def _room(path: Path) -> int:
    try:
        return shutil.disk_usage(path.parent).free
    except OSError:
        return 1


def write_tensors(path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write tensors and text as safetensors. Tensors may share memory, be strided or lie on any device.

    With at most one key of metadata equal arguments give equal bytes (safetensors orders several keys at random).
    """
    import torch  # here, since rooms that hold documents alone do not wait for it
    from safetensors import torch as safetensors_torch

    owned = {name: value.detach().cpu().clone(memory_format=torch.contiguous_format) for name, value in tensors.items()}
    with replacing(path) as temporary:
        cast(Any, safetensors_torch).save_file(owned, temporary, dict(metadata))


def read_tensors(path: str | Path, *, max_bytes: int = MAX_TENSOR_BYTES) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors (in memory of their own, on the CPU) and metadata of a safetensors file.

    Raises:
        UsageError: no such file.
        InvalidFile: too large, or not safetensors.
    """
    with _opened(path, max_bytes) as file:
        # Copies, because a mapped tensor changes, or kills the process, when another program rewrites the file.
        tensors: dict[str, Tensor] = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
        return tensors, dict(file.metadata() or {})


def read_metadata(path: str | Path, *, max_bytes: int = MAX_TENSOR_BYTES) -> dict[str, str]:
    """Metadata of a safetensors file, whose tensors stay unread. Raises what `read_tensors` raises."""
    with _opened(path, max_bytes) as file:
        return dict(file.metadata() or {})


@contextmanager
def _opened(path: str | Path, max_bytes: int) -> Generator[Any]:
    check_size(path, max_bytes)
    try:
        with cast(Any, safe_open(str(path), framework="pt")) as file:
            yield file
    except (SafetensorError, OSError, RuntimeError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise not_whole(path, "safetensors file", error) from None


def write_json(path: str | Path, document: Any) -> None:
    """Write a JSON document, indented. Raises `UsageError` for NaN, infinities and what JSON can't hold."""
    try:
        text = json.dumps(document, indent=2, allow_nan=False, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(f"{path} can't be written as JSON: {one_line(error)}") from None
    write_whole(path, text + "\n")


def read_json(path: str | Path, max_bytes: int = MAX_JSON_BYTES) -> Any:
    """The JSON document of a file. Raises `UsageError` where there is none, `InvalidFile` for what is not JSON."""
    check_size(path, max_bytes)
    try:
        return json.loads(Path(path).read_bytes(), parse_constant=_refuse_constant, object_pairs_hook=_each_once)
    except (ValueError, RecursionError) as error:
        raise InvalidFile(f"{path} is not a JSON document: {one_line(error)}") from None


def canonical_json(document: Any) -> bytes:
    """The one text of a JSON document (RFC 8785). Raises `UsageError` for what has none: NaN, integers beyond 2^53."""
    try:
        return rfc8785.dumps(document)
    except (rfc8785.CanonicalizationError, RecursionError) as error:
        raise UsageError(f"this can't be written as canonical JSON: {one_line(error)}") from None


def digest_tensors(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 in hexadecimal over names, types, shapes and bytes, whatever the order, strides and device."""
    import torch

    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous()
        # A line of JSON holds no raw newline, so no two sets of tensors give the same stream of bytes.
        digest.update(json.dumps([name, str(value.dtype), list(value.shape)]).encode() + b"\n")
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def digest_file(path: str | Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal. Raises `UsageError` where no file can be read."""
    check_size(path, 1 << 62)
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def one_line(error: BaseException, limit: int = 300) -> str:
    """The error's message on one line without control characters: files may put anything into it."""
    text = PYDANTIC.sub("", str(error)) or type(error).__name__
    return "".join(mark if mark.isprintable() else " " for mark in " ".join(text.split()))[:limit]


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys stand in it once: of two readers one would take the first and one the last."""
    if len(found := dict(pairs)) != len(pairs):
        raise ValueError("a key stands twice in an object of it")
    return found
