"""Files of a few hundred bytes that claim gigabytes, run code or never end: each is one line, in bounded memory."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import subprocess
import sys
import zipfile
from collections import Counter, OrderedDict
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from whorl.errors import InvalidFile
from whorl.oracles.archives import read_archive
from whorl.oracles.files import map_weights, read_weights

ROOM = 768 << 20  # bytes that one file may take beyond what Python and torch have taken


def text(value):
    raw = value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def number(value):
    raw = pickle.encode_long(value)
    return b"\x8a" + bytes([len(raw)]) + raw


def named(path):
    place, _, name = path.rpartition(".")
    return f"c{place}\n{name}\n".encode()


def called(path, *arguments):
    return named(path) + b"(" + b"".join(arguments) + b"tR"


def storage(count, *, kind="torch.FloatStorage", key="0", more=b""):
    return b"(" + text("storage") + named(kind) + text(key) + text("cpu") + number(count) + more + b"tQ"


def sizes(*values):
    return b"(" + b"".join(number(value) for value in values) + b"t"


def tensor(stored, size, stride, offset=0):
    hooks = named("collections.OrderedDict") + b")R"
    return called("torch._utils._rebuild_tensor_v2", stored, number(offset), size, stride, b"\x89", hooks)


def state(value):
    """The pickle of ``{"w": value}``."""
    return b"\x80\x02}" + text("w") + value + b"s."


def archive(path, body, *, held=b"\0" * 16, **entries):
    with zipfile.ZipFile(path, "w") as file:
        for name, content in {"data.pkl": body, "data/0": held, "version": b"3\n", **entries}.items():
            file.writestr(f"x/{name}", content)
    return path


def row(path, body, *, keys=("0",), held=b"\0" * 16, count=4):
    """A file of the format before PyTorch 1.6."""
    magic, version = pickle.dumps(0x1950A86A20F9469CFC6C, 2), pickle.dumps(1001, 2)
    system = pickle.dumps({"protocol_version": 1001, "little_endian": True, "type_sizes": {}}, 2)
    data = b"".join(struct.pack("<q", count) + held for _ in keys)
    path.write_bytes(magic + version + system + body + pickle.dumps(list(keys), 2) + data)
    return path


FOUR = storage(4)
PLAIN = tensor(FOUR, sizes(4), sizes(1))
VIEWED = storage(4, more=b"(" + text("v") + number(1) + number(2) + b"t")


def doubled(times):
    """A tuple of two tuples of two, of which only one each is written: 2^times steps to hash."""
    return b")" + b"".join(b"q\x00h\x00\x86" for _ in range(times))


def copied(times):
    """One long list, handed to OrderedDict again and again."""
    pairs = b"](" + (b"K\x00K\x00\x86" * 10_000) + b"eq\x01"
    return b"(" + pairs + (named("collections.OrderedDict") + b"h\x01\x85R") * times + b"t"


CLAIMS = {
    "bytearray": called("builtins.bytearray", number(3 * 10**9)),
    "bytearray of Python 2": called("__builtin__.bytearray", number(3 * 10**9)),
    "Tensor": called("torch.Tensor", number(2 * 10**9), number(2)),
    "Tensor, new": named("torch.Tensor") + number(2 * 10**9) + b"\x85\x81",
    "FloatTensor": called("torch.FloatTensor", number(2 * 10**9)),
    "UntypedStorage": called("torch.UntypedStorage", number(3 * 10**9)),
    "Size": called("torch.Size", number(3 * 10**9)),
    "set": called("builtins.set", named("torch.Tensor")),
    "storage that lies": tensor(storage(10**9), sizes(10**9), sizes(1)),
    "storage of 10^18": tensor(storage(10**18), sizes(4), sizes(1)),
    "storage of -1": tensor(storage(-1), sizes(4), sizes(1)),
    "storage of no type": tensor(storage(4, kind="torch.Tensor"), sizes(4), sizes(1)),
    "storage that is not there": tensor(storage(4, key="7"), sizes(4), sizes(1)),
    "tensor that is larger": tensor(FOUR, sizes(10**9), sizes(1)),
    "tensor that is wider": tensor(FOUR, sizes(10**6, 10**6), sizes(10**6, 1)),
    "tensor that begins later": tensor(FOUR, sizes(4), sizes(1), offset=10**9),
    "tensor of long integers": tensor(FOUR, sizes(2**2000), sizes(2**2000)),
    "tensor of negative strides": tensor(FOUR, sizes(4), sizes(-1)),
    "tensor of 1,000 dimensions": tensor(FOUR, sizes(*[1] * 1000), sizes(*[1] * 1000)),
    "nothing": called("torch._utils._rebuild_meta_tensor_no_storage", named("torch.float32"), sizes(1), sizes(1)),
    "from numpy": called("torch._utils._rebuild_device_tensor_from_numpy", number(3), named("torch.float32")),
    "wrapped": called("torch._utils._rebuild_wrapper_subclass", named("torch.Tensor")),
    "text of 4 GB": b"X\xff\xff\xff\xff",
    "bytes of 10^18": b"\x8e" + struct.pack("<Q", 10**18),
    "long of 2 GB": b"\x8b\xff\xff\xff\x7f",
    "20 million dictionaries": b"(" + b"}" * 20_000_000 + b"t",
    "33 million lists": b"(" + b"]" * 34_000_000 + b"t",
    "a million sets": b"(" + (named("builtins.set") + b"](K\x01e\x85R") * 700_000 + b"t",
    "a million objects": b"(" + (named("a.B") + b")\x81") * 300_000 + b"t",
    "objects made by objects": b"(" + named("a.B") + b")R" + b")R" * 300_000 + b"t",
    "an object that is a tensor's storage": tensor(named("a.B") + b")\x81", sizes(4), sizes(1)),
    "an object with a tensor": named("a.B") + b")\x81}" + text("w") + PLAIN + b"sb",
    "a million names": b"(" + b"".join(b"r" + struct.pack("<I", k) for k in range(2_200_000)) + b"t",
    "a list copied": copied(20_000),
    "a key that takes 2^60 steps": b"}" + doubled(60) + b"K\x01s",
    "code": called("os.system", text("true")),
    "code by another name": called("builtins.eval", text("1")),
    "state of a tensor": PLAIN + b"}" + text("data") + b"K\x01sb",
    "no end": b"(" * 10,
    "nothing to pop": b"\x87\x87",
    "no such memo": b"h\x09",
}

CHILD = """
import json, resource, sys
from pathlib import Path
from whorl.errors import InvalidFile
from whorl.oracles.files import map_weights
from whorl.checkpoints.readers.torch_file import TorchCheckpoint
taken = int(next(line for line in open("/proc/self/status") if line.startswith("VmSize")).split()[1]) << 10
resource.setrlimit(resource.RLIMIT_AS, (taken + int(sys.argv[1]),) * 2)
told = {}
for path in sys.argv[2:]:
    try:
        map_weights(Path(path), max_bytes=1 << 42)
    except InvalidFile as error:
        told[path] = str(error)
    except BaseException as error:
        told[path] = f"!{type(error).__name__}"
    else:
        told[path] = "!loaded"
print(json.dumps(told))
"""


def test_what_claims_gigabytes_is_refused_in_bounded_memory(tmp_path):
    paths, names = [], []
    for index, (name, claim) in enumerate(CLAIMS.items()):
        paths.append(archive(tmp_path / f"{index}.pt", state(claim)))
        names.append(name)
        if len(claim) < 1 << 20:  # the longer ones take a second each
            paths.append(row(tmp_path / f"{index}.bin", state(claim)))
            names.append(name)
    lying = archive(tmp_path / "lying.pt", state(PLAIN)).read_bytes()
    for name in (b"x/version", b"x/data.pkl"):
        raw, end = bytearray(lying), lying.rindex(name) - 46
        raw[end + 20 : end + 28] = struct.pack("<II", 3 * 10**9, 3 * 10**9)
        paths.append(tmp_path / f"{name[2:].decode()}.pt")
        paths[-1].write_bytes(raw)
    with zipfile.ZipFile(tmp_path / "twice.pt", "w") as twice:
        twice.writestr("x/data.pkl", state(PLAIN))
        with pytest.warns(UserWarning, match="Duplicate"):
            twice.writestr("x/data.pkl", state(PLAIN))
    paths.append(tmp_path / "twice.pt")
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(ROOM), *map(str, paths)],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout)
    names += ["a version of 3 GB", "a pickle of 3 GB", "two of one name"]
    for name, path in zip(names, paths, strict=True):
        line = told[str(path)]
        assert not line.startswith("!"), f"{name} in {path.suffix}: {line}"
        assert line.isprintable(), name
        assert len(line) < 700, name
        assert "MemoryError" not in line, name
        assert "alloc" not in line, name


def test_small_claims_of_the_same_kind_are_read(tmp_path):
    for make in (archive, row):
        assert map_weights(make(tmp_path / "x.pt", state(PLAIN)), max_bytes=1 << 20)["w"].tolist() == [0.0] * 4
    held = torch.arange(4.0).numpy().tobytes()
    viewed = row(tmp_path / "x.pt", state(tensor(VIEWED, sizes(2), sizes(1))), held=held)
    assert map_weights(viewed, max_bytes=1 << 20)["w"].tolist() == [1.0, 2.0]
    wide = storage(4, more=b"(" + text("v") + number(3) + number(2) + b"t")
    with pytest.raises(InvalidFile, match="lies outside"):
        map_weights(row(tmp_path / "x.pt", state(tensor(wide, sizes(2), sizes(1)))), max_bytes=1 << 20)


DTYPES = [
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
    *(torch.complex64, torch.complex128),
]
NEWER = [torch.float8_e4m3fn, torch.float8_e5m2, torch.uint16, torch.uint32, torch.uint64]


def contents():
    whole = torch.arange(24.0).reshape(4, 6)
    net = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    attributed = nn.Parameter(torch.ones(2))
    attributed.note = "kept by some trainers"
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    net(torch.ones(2, 3)).sum().backward()
    optimiser.step()
    return {
        "types": {str(dtype): torch.ones(3).to(dtype) for dtype in DTYPES},
        "types without a storage class": {str(dtype): torch.ones(3).to(dtype) for dtype in NEWER},
        "views": {
            "t": whole.T,
            "part": whole[1:3, ::2],
            "whole": whole,
            "last": whole[-1],
            "wide": whole[:1].expand(3, 6),
        },
        "scalars and empties": {"s": torch.tensor(3), "e": torch.empty(0, 4), "b": torch.tensor(True)},
        "a module's state": net.state_dict(),
        "parameters": {"p": nn.Parameter(torch.ones(2)), "q": attributed, "r": nn.Parameter(torch.ones(1), False)},
        "a checkpoint": {
            "state_dict": net.state_dict(),
            "optimizer": optimiser.state_dict(),
            "epoch": 3,
            "big": 2**70,
            "loss": [0.5, float("nan")],
            "name": "größer",
            "raw": b"\x00\xff",
            "flags": {1, 2},
            "count": Counter("aab"),
            "shape": torch.Size([2, 3]),
            "type": torch.float32,
            "device": torch.device("cuda", 1),
            "args": OrderedDict(a=1, b=(None, True)),
            "rng": torch.get_rng_state(),
        },
        "of a data-parallel engine": {"module": net.state_dict(), "dp_world_size": 2},
    }


def flattened(value, place=""):
    if isinstance(value, torch.Tensor):
        yield place, value.detach()
    elif isinstance(value, dict):
        for key, each in value.items():
            yield from flattened(each, f"{place}/{key}")


# Types without a storage class torch writes in the old format too, and cannot read there itself.
READ = [(name, zipped) for name in contents() for zipped in (True, False) if zipped or "storage class" not in name]


@pytest.mark.parametrize(("name", "zipped"), READ)
def test_what_people_have_is_read_as_torch_reads_it(tmp_path, name, zipped):
    path = tmp_path / "x.pt"
    torch.save(contents()[name], path, _use_new_zipfile_serialization=zipped)
    expected = dict(flattened(torch.load(path, weights_only=True)))
    found = dict(flattened(read_archive(path)))
    assert expected.keys() == found.keys()
    for key, value in expected.items():
        assert (found[key].dtype, found[key].shape) == (value.dtype, value.shape), key
        assert found[key].clone().flatten().view(torch.uint8).equal(value.clone().flatten().view(torch.uint8)), key
    if name == "of a data-parallel engine":
        assert read_weights(path).keys() == contents()[name]["module"].keys()


def saved():
    stream = io.BytesIO()
    torch.save({"state_dict": nn.Linear(2, 2).state_dict(), "epoch": 1}, stream)
    with zipfile.ZipFile(stream) as file:
        return {name.partition("/")[2]: file.read(name) for name in file.namelist()}


SAVED = saved()


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    st.lists(
        st.tuples(st.integers(0, len(SAVED["data.pkl"]) - 1), st.integers(0, 2), st.binary(min_size=1, max_size=4)),
        min_size=1,
        max_size=4,
    )
)
def test_a_damaged_pickle_is_refused_or_stays_within_the_file(tmp_path_factory, changes):
    body = SAVED["data.pkl"]
    for at, cut, put in changes:
        body = body[:at] + put + body[at + cut :]
    path = tmp_path_factory.getbasetemp() / "damaged.pt"
    with zipfile.ZipFile(path, "w") as file:
        for name, content in (SAVED | {"data.pkl": body}).items():
            file.writestr(f"x/{name}", content)
    try:
        tensors = map_weights(Path(path), max_bytes=1 << 20)
    except InvalidFile:
        return
    assert all(each.untyped_storage().nbytes() <= path.stat().st_size for each in tensors.values())
