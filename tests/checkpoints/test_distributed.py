"""Folders that several processes wrote together: parts put together, and nothing believed that does not fit."""

from __future__ import annotations

import io
import pickle
import warnings

import pytest
import torch
import torch.distributed.checkpoint as dcp
from safetensors.torch import save_file
from torch import nn
from torch.distributed.checkpoint import filesystem, metadata

from whorl.checkpoints.opening import open_checkpoint
from whorl.errors import InvalidFile, UsageError, WhorlError
from whorl.testing import check_reader
from whorl.weights.comparison import compare


def boxes(shape, cuts):
    """Offset and size of the parts of a grid that is cut ``cuts`` times along the first axes, unevenly."""
    found = [((), ())]
    for axis, length in enumerate(shape):
        step = -(-length // cuts[axis]) if axis < len(cuts) else length
        ends = [(at, min(step, length - at)) for at in range(0, length, max(step, 1))] or [(0, 0)]
        found = [((*offset, at), (*size, part)) for offset, size in found for at, part in ends]
    return found


def written(folder, tensors, cuts=(1,), change=lambda about: about):
    """What processes that hold a part of every tensor write; ``change`` is made to what they say of it."""
    folder.mkdir(exist_ok=True)
    files, said, places = {}, {}, {}
    for name, value in tensors.items():
        chunks = []
        for rank, (offset, size) in enumerate(boxes(value.shape, cuts)):
            part = value[tuple(slice(at, at + length) for at, length in zip(offset, size, strict=True))]
            stream = files.setdefault(f"__{rank % 3}_0.distcp", io.BytesIO())
            start = stream.tell()
            saved = io.BytesIO()
            torch.save(part.clone(), saved)
            stream.write(saved.getvalue())
            index = metadata.MetadataIndex(name, torch.Size(offset), rank)
            file = f"__{rank % 3}_0.distcp"
            places[index] = filesystem._StorageInfo(file, start, stream.tell() - start)
            chunks.append(metadata.ChunkStorageMetadata(torch.Size(offset), torch.Size(size)))
        kind = metadata.TensorProperties.create_from_tensor(value)
        said[name] = metadata.TensorStorageMetadata(kind, value.shape, chunks)
    for name, stream in files.items():
        (folder / name).write_bytes(stream.getvalue())
    about = change(metadata.Metadata(said, planner_data={}, storage_data=places))
    (folder / ".metadata").write_bytes(pickle.dumps(about))
    return folder


def some(dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    shapes = {"a.weight": (7, 5), "a.bias": (7,), "conv": (4, 3, 2, 2), "none": (0, 3), "one": (1, 3)}
    return {name: torch.randn(shape, generator=generator).to(dtype) for name, shape in shapes.items()} | {
        "step": torch.tensor(3.0).to(dtype)
    }


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("cuts", [(1,), (2,), (3, 2), (7,)])
def test_parts_are_put_together(tmp_path, cuts, dtype):
    tensors = some(dtype)
    checkpoint = open_checkpoint(written(tmp_path / "c", tensors, cuts))
    assert checkpoint.format == "distributed"
    assert checkpoint.bytes_read == 0
    assert {name: entry.shape for name, entry in checkpoint.entries.items()} == {
        name: tuple(value.shape) for name, value in sorted(tensors.items())
    }
    for name, value in tensors.items():
        assert torch.equal(checkpoint.stored(name), value), name
    assert torch.equal(checkpoint.stored("a.weight", [1, 4]), tensors["a.weight"][[1, 4]])


def test_what_pytorch_itself_writes_is_compared(tmp_path):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 10))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dcp.save({"model": net.state_dict(), "epoch": 3}, checkpoint_id=tmp_path / "c", no_dist=True)
    save_file(net.state_dict(), tmp_path / "net.safetensors")
    found = compare(tmp_path / "net.safetensors", tmp_path / "c")
    assert (found.decision, found.operations[0].name) == ("related", "identical")


def test_the_contract_of_readers(tmp_path):
    def write(tensors, folder):
        return written(folder / "c", tensors, (3, 2)) / "__0_0.distcp"

    check_reader(write, open_file=lambda path: open_checkpoint(path.parent))
    check_reader(
        lambda *given: write(*given).with_name(".metadata"), open_file=lambda path: open_checkpoint(path.parent)
    )


def first(about):
    return next(iter(about.storage_data.values()))


LIES = {
    "another folder": lambda about: setattr(first(about), "relative_path", "../x"),
    "no file": lambda about: setattr(first(about), "relative_path", "__9_0.distcp"),
    "beyond the end": lambda about: setattr(first(about), "length", 1 << 50),
    "before the beginning": lambda about: setattr(first(about), "offset", -1),
    "no number": lambda about: setattr(first(about), "offset", 1.5),
    "packed": lambda about: setattr(first(about), "transform_descriptors", ["zstd"]),
    "elsewhere": lambda about: about.storage_data.pop(next(iter(about.storage_data))),
    "a huge tensor": lambda about: setattr(about.state_dict_metadata["a.weight"], "size", torch.Size([1 << 40, 5])),
    "a part missing": lambda about: about.state_dict_metadata["a.weight"].chunks.pop(),
    "a part twice": lambda about: about.state_dict_metadata["a.weight"].chunks.append(
        about.state_dict_metadata["a.weight"].chunks[0]
    ),
    "more axes": lambda about: setattr(
        about.state_dict_metadata["a.weight"].chunks[0], "offsets", torch.Size([0, 0, 0])
    ),
    "a longer part": lambda about: setattr(
        about.state_dict_metadata["a.weight"].chunks[0], "sizes", torch.Size([9, 5])
    ),
    "no shape": lambda about: setattr(about.state_dict_metadata["a.weight"], "size", "7, 5"),
    "nothing": lambda about: about.state_dict_metadata.clear(),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_list_that_lies_is_refused_in_one_line(tmp_path, lie):
    def change(about):
        LIES[lie](about)
        return about

    with pytest.raises(WhorlError) as error:
        open_checkpoint(written(tmp_path / "c", some(), (2,), change))
    assert isinstance(error.value, InvalidFile | UsageError)
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 400


def test_one_part_that_is_said_to_be_many(tmp_path):
    """A thousand rows that all lie in one place would make gigabytes of a small file."""
    value = torch.zeros(1, 1000)

    def change(about):
        place = next(iter(about.storage_data.values()))
        rows = [torch.Size([row, 0]) for row in range(1000)]
        about.storage_data = {metadata.MetadataIndex("w", row): place for row in rows}
        about.state_dict_metadata["w"].size = torch.Size([1000, 1000])
        about.state_dict_metadata["w"].chunks = [
            metadata.ChunkStorageMetadata(row, torch.Size([1, 1000])) for row in rows
        ]
        return about

    with pytest.raises(InvalidFile, match="take more bytes than it has"):
        open_checkpoint(written(tmp_path / "c", {"w": value}, (1,), change))


class Hostile:
    """Unpickling it makes a file."""

    def __init__(self, witness):
        self.witness = witness

    def __reduce__(self):
        return open, (str(self.witness), "w")


def test_nothing_is_run(tmp_path):
    def change(about):
        about.planner_data = Hostile(tmp_path / "owned")
        return about

    folder = written(tmp_path / "c", some(), (2,), change)
    assert torch.equal(open_checkpoint(folder).read("a.bias"), some()["a.bias"])
    assert not (tmp_path / "owned").exists()
    pickle.loads((folder / ".metadata").read_bytes())  # noqa: S301 to show what it would have done
    assert (tmp_path / "owned").exists()  # it was dangerous indeed


def test_parts_that_are_not_what_is_said(tmp_path):
    folder = written(tmp_path / "c", some(), (2,))
    other = written(tmp_path / "d", {name: value.to(torch.float64) for name, value in some().items()}, (2,))
    for file in ("__0_0.distcp", "__1_0.distcp"):
        (folder / file).write_bytes((other / file).read_bytes())
    checkpoint = open_checkpoint(folder)
    with pytest.raises(InvalidFile, match=r"not a whole part|holds another part of conv"):
        checkpoint.read("conv")


def test_a_part_alone_asks_for_its_folder(tmp_path):
    folder = written(tmp_path / "c", some())
    with pytest.raises(UsageError, match="give its folder"):
        open_checkpoint(folder / "__0_0.distcp")
