"""Files come back as they were written, and hostile ones end in one line."""

import json
import struct
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from whorl import storage
from whorl.errors import InvalidFile, UsageError
from whorl.storage import (
    digest_file,
    digest_tensors,
    read_fingerprint,
    read_json,
    read_metadata,
    read_tensors,
    write_fingerprint,
    write_json,
    write_tensors,
)
from whorl.types import Calibration, Fingerprint, Null, Queries, Representation

GOLDEN = Path(__file__).parent / "golden"


def fingerprint(n: int = 4) -> Fingerprint:
    inputs = torch.arange(n * 4, dtype=torch.float32).reshape(n, 1, 2, 2) / (n * 4)
    null = Null("trained anew on other pictures", ("a", "b", "c"), (0.1, 0.25, 1 / 3), siblings=1)
    return Fingerprint(
        scheme="ipguard(margin=5)",
        victim="0123abcd",
        queries=Queries(inputs, {"seed": inputs / 2, "target": torch.arange(n)}, {"converged": 0.75, "steps": [1, 2]}),
        reference=Representation(torch.arange(n) % 3),
        data="digits",
        seed=7,
        classes=3,
        seconds=1.5,
        calibration=Calibration(null, {"prune_weights(p=0.5)": (1.0, 0.75)}),
        versions={"whorl": "0.1.0", "torch": "2.13.0"},
    )


def same(left: Fingerprint, right: Fingerprint) -> bool:
    nothing = torch.empty(0)

    def plain(value: Fingerprint) -> Fingerprint:
        return replace(value, queries=Queries(nothing, {}, value.queries.notes), reference=Representation(nothing))

    def tensors(value: Fingerprint) -> dict[str, torch.Tensor]:
        return {"i": value.queries.inputs, "r": value.reference.values, **value.queries.companions}

    return digest_tensors(tensors(left)) == digest_tensors(tensors(right)) and plain(left) == plain(right)


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


# Fingerprints


@pytest.mark.parametrize(
    "given",
    [
        fingerprint(),
        replace(fingerprint(), calibration=None),
        replace(fingerprint(), queries=Queries(torch.rand(2, 3, 1, 4, 4, generator=torch.Generator().manual_seed(0)))),
        replace(fingerprint(), data="images('a b/c')", versions={"whorl": "0.1.0"}, seed=2**63),
    ],
)
def test_fingerprints_round_trip(tmp_path: Path, given: Fingerprint) -> None:
    write_fingerprint(given, tmp_path / "f")
    assert same(read_fingerprint(tmp_path / "f"), given)


def test_the_fingerprint_of_version_0_1_is_readable() -> None:
    assert same(read_fingerprint(GOLDEN / "v0.1" / "fingerprint.safetensors"), fingerprint())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scheme": "ipguard("}, "cannot read the expression"),
        ({"scheme": "a -> b"}, "not a chain"),
        ({"seconds": float("nan")}, "not JSON compliant"),
        ({"classes": -1}, "classes"),
        ({"queries": Queries(torch.full((2, 1, 2, 2), 1.5))}, r"0..1 is needed"),
        ({"queries": Queries(torch.full((2, 1, 2, 2), float("nan")))}, "holds NaN"),
        ({"queries": Queries(torch.zeros(2, 1, 2, 2, dtype=torch.float64))}, "float32"),
        ({"queries": Queries(torch.zeros(2, 4))}, r"\[n, c, h, w\]"),
        ({"queries": Queries(torch.zeros(0, 1, 2, 2))}, "is needed"),
        ({"queries": Queries(torch.zeros(2, 1, 2, 2), {"seed": torch.zeros(3)})}, "does not count the 2 queries"),
        ({"queries": Queries(torch.zeros(2, 1, 2, 2), {"a/b": torch.zeros(2)})}, "unknown tensor"),
        ({"queries": Queries(torch.zeros(2, 1, 2, 2), {}, {"f": torch.zeros})}, "not JSON serializable"),
        ({"reference": Representation(torch.tensor([float("inf")]))}, "holds NaN or an infinity"),
        ({"calibration": Calibration(Null("p", ("a",), (0.1, 0.2)))}, "one for each named model"),
        ({"calibration": Calibration(Null("p", ("a",), (0.1,), siblings=2))}, "2 siblings among 1"),
    ],
)
def test_unsound_fingerprints_are_not_written(tmp_path: Path, change: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message) as error:
        write_fingerprint(replace(fingerprint(), **change), tmp_path / "f")  # pyright: ignore[reportArgumentType]
    one_line(error)
    assert not list(tmp_path.iterdir())


def rewritten(path: Path, change: dict[str, object], tensors: dict[str, torch.Tensor] | None = None) -> Path:
    """A sound fingerprint with some of its document and tensors overwritten."""
    write_fingerprint(fingerprint(), path)
    found, metadata = read_tensors(path)
    save_file(found | (tensors or {}), path, {"whorl": json.dumps(json.loads(metadata["whorl"]) | change)})
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 0}, "format"),
        ({"format": "1"}, "format"),
        ({"scheme": 3}, "scheme"),
        ({"scheme": "x" * 5000}, "scheme"),
        ({"scheme": "\x1b[2Jevil("}, "cannot read the expression"),
        ({"extra": 1}, "extra"),
        ({"seconds": float("nan")}, "seconds"),
        ({"notes": {"rate": float("nan")}}, "NaN is not a JSON number"),
        ({"notes": []}, "notes"),
        ({"seed": 2**70}, "seed"),
        ({"calibration": {"pool": "p", "names": ["a"], "siblings": 0, "derived": {}}}, "one for each named model"),
        ({"calibration": {"pool": "p", "names": "abc"}}, "calibration.names"),
        ({"calibration": None}, "unknown tensor 'null/similarities'"),
    ],
)
def test_false_documents(tmp_path: Path, change: dict[str, object], message: str) -> None:
    path = rewritten(tmp_path / "f", change)
    with pytest.raises(InvalidFile, match=message) as error:
        read_fingerprint(path)
    assert str(path) in one_line(error)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"queries/inputs": torch.zeros(4, 1, 2, 2) - 1}, "0..1 is needed"),
        ({"queries/inputs": torch.zeros(5, 1, 2, 2)}, "does not count the 5 queries"),
        ({"queries/inputs": torch.zeros(1_000_001, 1, 1, 1)}, "1,000,001 queries"),
        ({"weights": torch.zeros(1)}, "unknown tensor 'weights'"),
        ({"null/similarities": torch.full((3,), float("nan"), dtype=torch.float64)}, "holds NaN"),
    ],
)
def test_false_tensors(tmp_path: Path, tensors: dict[str, torch.Tensor], message: str) -> None:
    with pytest.raises(InvalidFile, match=message) as error:
        read_fingerprint(rewritten(tmp_path / "f", {}, tensors))
    one_line(error)


def test_a_newer_format_names_the_whorl_that_reads_it(tmp_path: Path) -> None:
    path = rewritten(tmp_path / "f", {"format": 2, "unheard": 1, "versions": {"whorl": "3.1.0"}})
    with pytest.raises(InvalidFile, match=r'format 2.*pip install --upgrade "whorl>=3\.1\.0"'):
        read_fingerprint(path)


def test_other_safetensors_are_not_fingerprints(tmp_path: Path) -> None:
    write_tensors(tmp_path / "f", {"x": torch.ones(1)}, {"format": "pt"})
    with pytest.raises(InvalidFile, match="no key 'whorl'"):
        read_fingerprint(tmp_path / "f")
    for text in ("", "3", "[]", "{", "[" * 100_000):
        write_tensors(tmp_path / "f", {"x": torch.ones(1)}, {"whorl": text})
        with pytest.raises(InvalidFile) as error:
            read_fingerprint(tmp_path / "f")
        one_line(error)


@settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(edits=st.lists(st.tuples(st.integers(0, 3000), st.binary(min_size=0, max_size=4)), min_size=1, max_size=3))
def test_a_damaged_fingerprint_is_read_or_refused(tmp_path: Path, edits: list[tuple[int, bytes]]) -> None:
    content = bytearray((GOLDEN / "v0.1" / "fingerprint.safetensors").read_bytes())
    for place, value in edits:
        content[place % len(content) : place % len(content) + 3] = value
    path = tmp_path / "f"
    path.write_bytes(content)
    with suppress(InvalidFile):
        assert len(read_fingerprint(path).queries) > 0
