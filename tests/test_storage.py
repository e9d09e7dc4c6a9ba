"""Files come back as they were written, and hostile ones end in one line."""

import errno
import json
import os
import resource
import shutil
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import NoReturn

import pytest
import torch
from pydantic import BaseModel, Field, ValidationError

from whorl import storage
from whorl.checkpoints.opening import open_checkpoint
from whorl.errors import InvalidFile, UsageError, WhorlError
from whorl.oracles.files import read_weights
from whorl.oracles.onnx import OnnxOracle
from whorl.oracles.skops import read_skops
from whorl.storage import (
    check_size,
    digest_file,
    digest_tensors,
    no_file,
    not_whole,
    read_json,
    read_metadata,
    read_tensors,
    text_in,
    write_json,
    write_tensors,
)


def raw(path: Path, header: object, data: bytes = b"") -> Path:
    """A safetensors file with the header as given, true or not."""
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def one_line(error: pytest.ExceptionInfo[BaseException]) -> str:
    text = str(error.value)
    assert text.isprintable()
    assert len(text) < 700
    return text


# Tensors


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool])
def test_tensors_round_trip(tmp_path: Path, dtype: torch.dtype) -> None:
    whole = torch.arange(12).reshape(3, 4).to(dtype)
    tensors = {"whole": whole, "shared": whole, "strided": whole[:, ::2].t(), "scalar": whole[0, 0], "none": whole[:0]}
    write_tensors(tmp_path / "new" / "x.safetensors", tensors, {"key": "välue"})
    found, metadata = read_tensors(tmp_path / "new" / "x.safetensors")
    assert metadata == read_metadata(tmp_path / "new" / "x.safetensors") == {"key": "välue"}
    assert found.keys() == tensors.keys()
    for name, value in tensors.items():
        assert found[name].dtype == dtype
        assert torch.equal(found[name], value)


def test_equal_tensors_give_equal_bytes_and_leave_no_temporary_file(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_tensors(tmp_path / name, {"y": torch.ones(2), "x": torch.zeros(3)}, {"whorl": "{}"})
    assert digest_file(tmp_path / "a") == digest_file(tmp_path / "b")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_a_failed_write_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "x"
    write_json(path, {"a": 1})
    with pytest.raises(ZeroDivisionError), storage.replacing(path) as temporary:
        temporary.write_text(f"half {1 / 0}" if temporary.write_text("half") else "")
    assert read_json(path) == {"a": 1}
    assert [entry.name for entry in tmp_path.iterdir()] == ["x"]


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """No file may become larger than so many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def copy_of_a_large_file(path: Path) -> None:
    large = path.parent.with_name("large")
    large.write_bytes(b"x" * 9000)
    with room_for(4096), storage.replacing(path) as temporary:
        shutil.copyfile(large, temporary)


def folder_of_files(path: Path) -> None:
    with storage.replacing(path) as temporary:
        temporary.mkdir()
        (temporary / "small").write_bytes(b"x")
        (temporary / "large").write_bytes(b"x" * 9000)


WRITERS: dict[str, Callable[[Path], None]] = {
    "tensors": lambda path: write_tensors(path, {"x": torch.ones(9000)}, {}),
    "json": lambda path: write_json(path, "x" * 9000),
    "text": lambda path: storage.write_whole(path, "x" * 9000),
    "copy": copy_of_a_large_file,
    "folder": folder_of_files,
}


@pytest.mark.parametrize("writer", WRITERS)
def test_a_write_without_room_names_the_file_and_leaves_nothing(tmp_path: Path, writer: str) -> None:
    place = tmp_path / "place"
    place.mkdir()
    limit = nullcontext() if writer == "copy" else room_for(4096)
    with limit, pytest.raises(OSError, match="x") as error:
        WRITERS[writer](place / "x")
    assert (error.value.errno, error.value.filename) == (errno.EFBIG, str(place / "x"))
    assert not list(place.iterdir())


def test_a_write_without_room_leaves_the_older_file(tmp_path: Path) -> None:
    storage.write_whole(tmp_path / "x", "older")
    with room_for(4096), pytest.raises(OSError, match="x"):
        storage.write_whole(tmp_path / "x", "x" * 9000)
    assert {each.name: each.read_text() for each in tmp_path.iterdir()} == {"x": "older"}


def test_links_and_devices_stay_what_they_are(tmp_path: Path) -> None:
    (tmp_path / "old").write_text("old")
    (tmp_path / "link").symlink_to("old")
    storage.write_whole(tmp_path / "link", "new")
    assert ((tmp_path / "link").is_symlink(), (tmp_path / "old").read_text()) == (True, "new")
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    storage.write_whole(tmp_path / "pipe", b"through")
    assert os.read(reader, 100) == b"through"
    os.close(reader)
    assert (tmp_path / "pipe").is_fifo()


def test_what_finds_no_room_is_added_in_no_part(tmp_path: Path) -> None:
    with storage.appending(tmp_path / "log") as add:
        add(b"x" * 4000 + b"\n")
        with room_for(4096), pytest.raises(OSError, match="log") as error:
            add(b"y" * 200 + b"\n")
        add(b"z\n")
    assert (error.value.errno, error.value.filename) == (errno.EFBIG, str(tmp_path / "log"))
    assert (tmp_path / "log").read_bytes() == b"x" * 4000 + b"\nz\n"


def test_read_tensors_own_their_memory(tmp_path: Path) -> None:
    path = tmp_path / "x"
    write_tensors(path, {"x": torch.ones(1000)}, {})
    found, _ = read_tensors(path)
    path.write_bytes(b"")
    assert torch.equal(found["x"], torch.ones(1000))


FLOATS = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    ("header", "data"),
    [
        ({"x": FLOATS}, b"1234567"),
        ({"x": FLOATS}, b"123456789"),
        ({"x": FLOATS | {"shape": [3]}}, b"12345678"),
        ({"x": FLOATS | {"shape": [-2]}}, b"12345678"),
        ({"x": FLOATS | {"shape": [2**40, 2**40]}}, b"12345678"),
        ({"x": FLOATS | {"dtype": "F31"}}, b"12345678"),
        ({"x": FLOATS | {"data_offsets": [8, 0]}}, b"12345678"),
        ({"x": FLOATS, "y": FLOATS}, b"12345678"),
        ({"x": FLOATS, "__metadata__": {"k": 1}}, b"12345678"),
        ([], b""),
    ],
)
def test_lying_headers(tmp_path: Path, header: object, data: bytes) -> None:
    with pytest.raises(InvalidFile, match="not a whole safetensors file") as error:
        read_tensors(raw(tmp_path / "x", header, data))
    one_line(error)


@pytest.mark.parametrize("content", [b"", b"1234", struct.pack("<Q", 2**62) + b"{}", struct.pack("<Q", 10) + b"{"])
def test_truncated_headers(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(InvalidFile) as error:
        read_tensors(tmp_path / "x")
    one_line(error)


def test_sizes_and_places(tmp_path: Path) -> None:
    write_tensors(tmp_path / "x", {"x": torch.ones(100)}, {})
    with pytest.raises(InvalidFile, match=r"x holds \d+ bytes; at most 100 are read"):
        read_tensors(tmp_path / "x", max_bytes=100)
    with pytest.raises(UsageError, match="no such file"):
        read_tensors(tmp_path / "y")
    with pytest.raises(UsageError, match="a file is needed"):
        read_tensors(tmp_path)
    with pytest.raises(UsageError, match=r"no such file: .*too long") as error:  # indices of folders name files
        read_tensors(tmp_path / ("x" * 5000))
    assert len(str(error.value)) < 400


@pytest.mark.parametrize("address", ["ftp://host/key.pt", "s3://bucket/key.pt", "https://host/?key"])
def test_an_address_is_no_path_and_is_not_shown(address: str) -> None:
    told = no_file(Path(address))
    assert told.startswith(f"an address of {address.partition(':')[0]}://")
    assert told.endswith("give the path of that")
    assert "key" not in told


def test_an_address_of_a_file_is_to_be_given_as_a_path_and_a_disk_is_no_address() -> None:
    assert no_file(Path("file:///model.pt")).endswith("give the path alone")
    assert no_file(Path("C:/model.pt")).startswith("no such file: C:/model.pt")


def test_what_is_no_file_is_called_what_it_is(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "one").symlink_to("two")
    (tmp_path / "two").symlink_to("one")
    (tmp_path / "gone").symlink_to("nowhere")
    for name, words in (
        ("pipe", "is a pipe"),
        ("one", "leads in a circle"),
        ("gone", "to nowhere, which is not there"),
    ):
        with pytest.raises(UsageError, match=words):
            check_size(tmp_path / name, 100)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid", "version https://git-lfs.github.com/spec/v1 oid"),
        ("wörter ".encode() * 1000, ("wörter " * 9)[:60]),
        (b"\x08\x0a\x12text", ""),
        (b"\x80\x02}q\x00", ""),
        (b"", ""),
        (b" " * 2000, ""),
    ],
)
def test_text_is_told_from_other_content(tmp_path: Path, content: bytes, told: str) -> None:
    (tmp_path / "x").write_bytes(content)
    assert text_in(tmp_path / "x") == told
    assert text_in(tmp_path / "none") == ""


# JSON


def test_json_round_trip(tmp_path: Path) -> None:
    document = {"ä": [1, 2.5, None, True], "nested": {"b": "text"}}
    write_json(tmp_path / "x.json", document)
    assert read_json(tmp_path / "x.json") == document


@pytest.mark.parametrize("document", [{"a": float("nan")}, {"a": object()}, [float("inf")]])
def test_json_refuses_what_it_cannot_hold(tmp_path: Path, document: object) -> None:
    with pytest.raises(UsageError, match=r"can't be written as JSON"):
        write_json(tmp_path / "x.json", document)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\xff", b"NaN", b"[" * 200_000, b"9" * 10_000])
def test_broken_json(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(InvalidFile, match="not a JSON document") as error:
        read_json(tmp_path / "x")
    one_line(error)


def test_json_of_more_bytes_than_allowed(tmp_path: Path) -> None:
    write_json(tmp_path / "x", [1, 2, 3])
    with pytest.raises(InvalidFile, match="at most 3 are read"):
        read_json(tmp_path / "x", max_bytes=3)


# Digests


def test_digest_sees_names_types_shapes_and_values_only() -> None:
    x = torch.arange(6, dtype=torch.float32).reshape(2, 3)
    base = digest_tensors({"a": x, "b": x + 1})
    assert len(base) == 64
    assert base == digest_tensors({"b": x + 1, "a": x.t().contiguous().t()})
    others = [
        {"a": x + 1, "b": x},
        {"a": x.reshape(3, 2), "b": x + 1},
        {"a": x.view(torch.int32), "b": x + 1},
        {"a": x, "c": x + 1},
        {"a": x},
        {"a": x, "b": torch.nextafter(x + 1, torch.tensor(9.0))},
    ]
    assert len({base, *map(digest_tensors, others)}) == 1 + len(others)
    assert digest_tensors({"a": torch.tensor(1.0)}) != digest_tensors({"a": torch.tensor([1.0])})


def test_digest_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    assert digest_file(tmp_path / "x") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    with pytest.raises(UsageError, match="no such file"):
        digest_file(tmp_path / "y")
    with pytest.raises(UsageError, match="is a folder"):
        digest_file(tmp_path)


READERS: dict[str, Callable[[Path], object]] = {
    **{f"weights{suffix}": open_checkpoint for suffix in (".safetensors", ".pt", ".ckpt", ".gguf", ".onnx")},
    **{f"model{suffix}": read_weights for suffix in (".safetensors", ".pt", ".bin")},
    "document.json": read_json,
    "anything": digest_file,
    "estimator.skops": read_skops,
    "graph.onnx": lambda path: OnnxOracle(path),
}


@pytest.mark.parametrize("name", READERS)
def test_what_the_system_refuses_is_not_called_damage(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"x" * 100)
    with suppress(WhorlError):
        READERS[name](path)  # what it imports is imported now
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with (tmp_path / "last").open("w") as last:
        resource.setrlimit(resource.RLIMIT_NOFILE, (last.fileno() + 1, hard))
        try:
            with pytest.raises(UsageError, match="too many files are open") as error:
                READERS[name](path)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert str(error.value).isprintable()


@pytest.mark.parametrize(
    ("code", "words"),
    [(errno.EACCES, "not yours to read"), (errno.EIO, "from its disk"), (errno.ESTALE, r"can't be read \(")],
)
def test_refusals_of_the_system_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, words: str
) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"abc")

    def refuse(*_: object) -> NoReturn:
        raise OSError(code, os.strerror(code), str(path))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(UsageError, match=words):
        check_size(path, 100)
    told = not_whole(path, "file", OSError(code, os.strerror(code)))
    assert isinstance(told, UsageError) == (code in storage.REFUSALS)
    assert isinstance(not_whole(path, "file", ValueError("cut off")), InvalidFile)


def test_what_a_checked_document_lacks_is_told_without_the_address_of_a_manual() -> None:
    class Document(BaseModel):
        size: int = Field(ge=1)

    with pytest.raises(ValidationError) as error:
        Document(size=0)
    told = storage.one_line(error.value)
    assert told == "1 validation error for Document size Input should be greater than or equal to 1"
    assert "https" in str(error.value)
