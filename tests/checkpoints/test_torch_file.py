"""PyTorch's files: nothing runs, nothing unpacks to more than the file holds."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections import OrderedDict

import pytest
import torch
from torch import nn

from whorl.checkpoints.opening import open_checkpoint
from whorl.checkpoints.readers.torch_file import TorchCheckpoint
from whorl.errors import InvalidFile, UsageError


class Malicious:
    """Unpickling it makes a file."""

    def __init__(self, witness):
        self.witness = witness

    def __reduce__(self):
        return os.system, (f"touch {self.witness}",)


@pytest.mark.parametrize("zipped", [True, False])
def test_pickled_code_is_not_run(tmp_path, zipped):
    witness, path = tmp_path / "owned", tmp_path / "x.bin"
    torch.save({"w": torch.ones(1), "x": Malicious(witness)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(InvalidFile, match=r"pickled code.*safetensors\.torch\.save_file"):
        TorchCheckpoint(path)
    (tmp_path / "y.bin").write_bytes(pickle.dumps(Malicious(witness), protocol=2))
    with pytest.raises(InvalidFile):
        TorchCheckpoint(tmp_path / "y.bin")
    assert not witness.exists()
    torch.load(path, weights_only=False)
    assert witness.exists()  # the file was dangerous indeed


def test_tensors_that_are_more_than_the_file(tmp_path):
    one = torch.ones(1)
    strange = {
        "wide": one.expand(1 << 20, 1 << 10),
        "huge": one.expand(1 << 40, 1 << 20),
        "windows": torch.arange(100.0).unfold(0, 50, 1),
        "complex": torch.ones(2, dtype=torch.complex64),
        "sparse": torch.eye(3).to_sparse(),
        "nowhere": torch.ones(3, device="meta"),
    }
    for name, value in strange.items():
        torch.save({name: value}, tmp_path / "x.pt")
        with pytest.raises(InvalidFile) as error:
            TorchCheckpoint(tmp_path / "x.pt")
        assert str(error.value).isprintable(), name


def test_compressed_archives_and_other_archives(tmp_path):
    torch.save({"w": torch.zeros(1 << 16)}, tmp_path / "x.pt")
    with zipfile.ZipFile(tmp_path / "x.pt") as plain, zipfile.ZipFile(tmp_path / "y.pt", "w", 8) as packed:
        for entry in plain.namelist():
            packed.writestr(entry, plain.read(entry))
    with pytest.raises(InvalidFile, match="compressed"):
        TorchCheckpoint(tmp_path / "y.pt")
    with zipfile.ZipFile(tmp_path / "z.pt", "w") as other:
        other.writestr("hello.txt", "hello")
    with pytest.raises(InvalidFile):
        TorchCheckpoint(tmp_path / "z.pt")


def test_views_and_strides_are_read_as_what_they_show(tmp_path):
    whole = torch.arange(24.0).reshape(4, 6)
    state = {"turned": whole.T, "part": whole[1:3], "shared": whole, "number": torch.tensor(3.0)}
    state["parameter"] = nn.Parameter(torch.ones(2, 2))
    torch.save(state, tmp_path / "x.pth")
    checkpoint = TorchCheckpoint(tmp_path / "x.pth")
    for name, value in state.items():
        assert torch.equal(checkpoint.read(name), value.detach())
        assert checkpoint.read(name).is_contiguous()
        assert not checkpoint.read(name).requires_grad
    assert torch.equal(checkpoint.read("turned", rows=[1, 4]), whole.T[[1, 4]])


def test_a_read_tensor_is_a_copy(tmp_path):
    torch.save({"w": torch.zeros(4)}, tmp_path / "x.bin")
    checkpoint = TorchCheckpoint(tmp_path / "x.bin")
    checkpoint.read("w").add_(1)
    assert checkpoint.read("w").sum() == 0
    assert torch.load(tmp_path / "x.bin")["w"].sum() == 0


@pytest.mark.parametrize("nesting", ["", "state_dict", "model"])
@pytest.mark.parametrize("zipped", [True, False])
def test_training_checkpoints_and_the_old_format(tmp_path, nesting, zipped):
    state = {"a": torch.randn(5, 3, generator=torch.Generator().manual_seed(0)), "b": torch.arange(3)}
    content = {"epoch": 3, nesting: state} if nesting else state
    torch.save(content, tmp_path / "x.pt", _use_new_zipfile_serialization=zipped)
    checkpoint = TorchCheckpoint(tmp_path / "x.pt")
    assert {name: entry.dtype for name, entry in checkpoint.entries.items()} == {"a": "float32", "b": "int64"}
    assert all(torch.equal(checkpoint.stored(name), value) for name, value in state.items())


def test_tensors_stay_on_disk_until_they_are_read(tmp_path):
    """What another program writes into the mapped file meanwhile is seen: nothing had been copied."""
    path = tmp_path / "x.bin"
    torch.save({"w": torch.full((1000,), 7.0)}, path)
    checkpoint = TorchCheckpoint(path)
    assert checkpoint.bytes_read == 0
    content = path.read_bytes()
    with path.open("r+b") as file:
        file.seek(content.index(torch.full((1000,), 7.0).numpy().tobytes()))
        file.write(torch.full((1000,), 8.0).numpy().tobytes())
    assert torch.equal(checkpoint.read("w"), torch.full((1000,), 8.0))
    assert checkpoint.bytes_read == 4000


def test_rows_into_which_fsdp_laid_many_tensors_are_told(tmp_path):
    flat = {"_fsdp_wrapped_module._flat_param": torch.ones(40), "0._fsdp_wrapped_module._flat_param": torch.ones(30)}
    torch.save(flat, tmp_path / "x.pt")
    with pytest.raises(InvalidFile, match=r"no tensor that can be used.*FSDP.*FULL_STATE_DICT"):
        TorchCheckpoint(tmp_path / "x.pt")
    torch.save(flat | {"head.weight": torch.ones(3, 4)}, tmp_path / "x.pt")
    checkpoint = TorchCheckpoint(tmp_path / "x.pt")
    assert (list(checkpoint.entries), checkpoint.left_out.keys()) == (["head.weight"], flat.keys())


def deepspeed(folder, stage):
    """What DeepSpeed saves of a net to ``folder``, and its tensors."""
    state = {name: value.half() for name, value in nn.Linear(5, 3).state_dict().items()}
    inner = folder / "global_step3"
    inner.mkdir(parents=True)
    (folder / "latest").write_text("global_step3")
    (folder / "zero_to_fp32.py").write_text("raise SystemExit")
    shapes = [OrderedDict((name, value.shape) for name, value in state.items())]
    about = {"ds_version": "0.16", "param_shapes": shapes, "dp_world_size": 2, "ds_config": {"train": nn.Linear}}
    held = {name: torch.empty(0) for name in state} if stage == 3 else state
    for rank in range(2):
        parted = {"optimizer_state_dict": {"fp32_flat_groups": [torch.ones(9)], "partition_count": 2}}
        torch.save(parted, inner / f"bf16_zero_pp_rank_{rank}_mp_rank_00_optim_states.pt")
        name = f"zero_pp_rank_{rank}_mp_rank_00_model_states.pt" if stage == 3 else "mp_rank_00_model_states.pt"
        torch.save({"module": held} | about, inner / name)
    return state


@pytest.mark.parametrize("stage", [2, 3])
def test_what_deepspeed_saves(tmp_path, stage):
    state = deepspeed(tmp_path / "run", stage)
    inner = tmp_path / "run" / "global_step3"
    with pytest.raises(UsageError, match=r"DeepSpeed.*latest.*zero_to_fp32\.py"):
        open_checkpoint(tmp_path / "run")
    with pytest.raises(UsageError, match=r"one of the parts that DeepSpeed.*zero_to_fp32\.py"):
        open_checkpoint(inner / "bf16_zero_pp_rank_1_mp_rank_00_optim_states.pt")
    if stage == 2:
        checkpoint = open_checkpoint(inner)
        assert all(torch.equal(checkpoint.stored(name), value) for name, value in state.items())
        return
    for path in (inner, inner / "zero_pp_rank_0_mp_rank_00_model_states.pt"):
        with pytest.raises(UsageError, match=r"DeepSpeed.*zero_to_fp32\.py"):
            open_checkpoint(path)


def test_a_folder_without_its_file(tmp_path):
    with pytest.raises(UsageError, match=r"no such file: .*pytorch_model\.bin"):
        TorchCheckpoint(tmp_path)
