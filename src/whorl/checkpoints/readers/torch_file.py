"""Tensors of PyTorch state dicts, in one file or in shards.

`whorl.oracles.files.map_weights` opens them without running what they hold. Tensors stay mapped from the disk until
they are read, and are copied then: a file that another program cuts off meanwhile ends the process, as with any
mapped file. Only safetensors are free of that.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Final

import torch
from torch import Tensor

from whorl.checkpoints.checkpoint import Checkpoint, TensorEntry, check_promised, read_config, shards
from whorl.errors import InvalidFile, UsageError
from whorl.oracles.files import map_weights

__all__ = ["PARTED", "TORCH_INDEX", "TorchCheckpoint"]

TORCH_INDEX: Final = "pytorch_model.bin.index.json"
MAX_BYTES: Final = 1 << 42
COMPLEX: Final = "complex, which is not read"
FLAT: Final = "what FSDP laid into one row, whose matrices cannot be told; save it as StateDictType.FULL_STATE_DICT"
FLAT_NAME: Final = re.compile(r"(.*\.)?_?flat_param(_\d+)?")
# DeepSpeed's parts of what several processes hold; those of ZeRO-3 hold names alone, the numbers are its optimiser's.
PARTED: Final = re.compile(r"(bf16_|fp16_)?zero_pp_rank_\d+_mp_rank_\d+_(model|optim)_states\.pt")


class TorchCheckpoint(Checkpoint):
    """One PyTorch file, or a folder with ``pytorch_model.bin`` or with shards and their index.

    Raises:
        UsageError: a file or shard is missing, or it is one of the parts that DeepSpeed's ZeRO writes.
        InvalidFile: pickled code or objects (which are not run), a damaged file, a tensor that is larger than what
            the file holds of it, sparse or quantised; or two shards that hold one name. Complex tensors, and those of
            FSDP that hold many in a row, are left out.
    """

    format: ClassVar[str] = "torch"
    suffixes: ClassVar[tuple[str, ...]] = (".bin", ".pt", ".pth", ".pth.tar", ".ckpt")
    whole: ClassVar[tuple[str, ...]] = (TORCH_INDEX, "pytorch_model.bin")

    def __init__(self, path: Path) -> None:
        if PARTED.fullmatch(path.name):
            raise UsageError(
                f"{path} is one of the parts that DeepSpeed's ZeRO cuts a net into; where you trust them, put them "
                "together with the script beside their folder: python zero_to_fp32.py . whole"
            )
        folder = path if path.is_dir() else path.parent
        promised = shards(path, TORCH_INDEX) if (path / TORCH_INDEX).is_file() else {}
        whole = path / "pytorch_model.bin" if path.is_dir() else path
        self._mapped: dict[str, Tensor] = {}
        for file in sorted(set(promised.values())) or [whole]:
            tensors = map_weights(file, max_bytes=MAX_BYTES)
            if shared := sorted(tensors.keys() & self._mapped.keys()):
                raise InvalidFile(f"{path}: two of its files hold {shared[0][:100]!r}")
            self._mapped |= tensors
        every = {name: _entry(path, name, value) for name, value in self._mapped.items()}
        left_out = {name: COMPLEX for name, value in self._mapped.items() if value.is_complex()}
        left_out |= {name: FLAT for name in self._mapped if FLAT_NAME.fullmatch(name)}
        entries = {name: entry for name, entry in every.items() if name not in left_out}
        super().__init__(path, entries, read_config(folder), left_out)
        check_promised(path, promised, every)

    def _stored(self, name: str, rows: Sequence[int] | None) -> Tensor:
        mapped = self._mapped[name].detach()
        value = mapped.clone(memory_format=torch.contiguous_format) if rows is None else mapped[list(rows)]
        self.bytes_read += value.numel() * value.element_size()
        return value


def _entry(path: Path, name: str, value: Tensor) -> TensorEntry:
    """What a tensor promises, if the file holds as much: strides of zero make terabytes out of one number."""
    size = value.numel() * value.element_size()
    if size > value.untyped_storage().nbytes():
        raise InvalidFile(f"{path}: {name[:100]!r} unpacks to {size:,} bytes, which the file does not hold")
    return TensorEntry(tuple(value.shape), str(value.dtype).removeprefix("torch."), size)
