"""Weights that a quantiser packed into integers, presented as the matrices that the net computes with.

Written from the formats' own definitions, with i an input and o an output of a linear layer, g(i) the group of i:

- GPTQ (Frantar et al. 2023; the layout of AutoGPTQ): ``qweight`` packs numbers of 2, 3, 4 or 8 bits along i into a
  little-endian stream of int32, ``qzeros`` packs zero points less one along o, and
  ``W[o, i] = scales[g(i), o] (q[i, o] - zero[g(i), o])``. ``checkpoint_format: gptq_v2`` stores zero points as they
  are. ``g_idx`` is g; without it groups are consecutive.
- AWQ (Lin et al. 2024; version ``gemm``): the same with 4 bits, both packed along o, the eight numbers of an int32 in
  the places 0, 2, 4, 6, 1, 3, 5, 7, and zero points as they are.
- fp8 and int8 with scales: ``W = weight_scale * weight`` for a tensor or each row, and ``weight_scale_inv`` for blocks,
  of 128 x 128 unless ``weight_block_size`` says otherwise (DeepSeek-V3, section 3.3). A scale multiplies in spite of
  its name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Protocol

import torch
from torch import Tensor

from whorl.checkpoints.checkpoint import Checkpoint, TensorEntry, read_config
from whorl.errors import InvalidFile, UsageError

__all__ = ["Packed", "unpacked"]

AWQ_ORDER: Final = (0, 2, 4, 6, 1, 3, 5, 7)
BLOCK: Final = (128, 128)
EIGHT_BITS: Final = frozenset({"F8_E4M3", "F8_E5M2", "I8", "float8_e4m3fn", "float8_e5m2", "int8"})
METHODS: Final = frozenset({"", "gptq", "awq", "fp8", "fbgemm_fp8", "compressed-tensors"})
FOREIGN: Final = {  # how the names of other packed formats end
    ".absmax": "bitsandbytes 4-bit",
    ".quant_state.bitsandbytes__nf4": "bitsandbytes 4-bit",
    ".quant_state.bitsandbytes__fp4": "bitsandbytes 4-bit",
    ".SCB": "bitsandbytes 8-bit",
    ".weight_packed": "compressed-tensors packed",
    ".weight_zero_point": "compressed-tensors asymmetric",
    "_proj_blocks": "MXFP4",
}
Read = Callable[[str, Sequence[int] | None], Tensor]


class _Pack(Protocol):
    """How one matrix is packed: the file's word, its shape, the tensors that it takes, and their unpacking."""

    @property
    def word(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def names(self) -> tuple[str, ...]: ...
    def unpack(self, read: Read, rows: Sequence[int] | None) -> Tensor: ...


class Packed(Checkpoint):
    """A checkpoint in which ``X.weight`` stands for the packed tensors of X; all others stay as they are.

    Some rows of GPTQ and AWQ take reading the whole packed matrix, whose bytes run across rows.
    """

    format: ClassVar[str] = "packed"

    def __init__(self, inner: Checkpoint, packs: Mapping[str, _Pack]) -> None:
        hidden = {name for pack in packs.values() for name in pack.names}
        entries = {name: entry for name, entry in inner.entries.items() if name not in hidden}
        for name, pack in packs.items():
            if name in entries:
                raise InvalidFile(f"{inner.path} holds {name[:100]!r} both packed and plain")
            entries[name] = TensorEntry(pack.shape, pack.word, sum(inner.entries[each].nbytes for each in pack.names))
        self._inner, self._packs = inner, packs
        super().__init__(inner.path, entries, inner.config, inner.left_out)

    def _stored(self, name: str, rows: Sequence[int] | None) -> Tensor:
        before = self._inner.bytes_read
        try:
            pack = self._packs.get(name)
            return pack.unpack(self._inner.stored, rows) if pack else self._inner.stored(name, rows)
        except ValueError as error:
            if isinstance(error, UsageError):
                raise
            raise InvalidFile(f"{self.path}: {name[:100]!r} {error}") from None
        finally:
            self.bytes_read += self._inner.bytes_read - before


def unpacked(checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint itself, or `Packed` around it where its configuration or its names say that it is packed.

    Raises:
        UsageError: packed in a way that is not read, such as bitsandbytes; the message says what to do.
        InvalidFile: the parts of a packed matrix do not fit each other.
    """
    if checkpoint.format == "onnx":  # whose reader has unpacked what its nodes unpack, whatever the names
        return checkpoint
    about = _quantisation(checkpoint)
    method = str(about.get("quant_method", "")).lower()
    foreign = next((word for end, word in FOREIGN.items() for name in checkpoint.entries if name.endswith(end)), "")
    if method not in METHODS or foreign:
        raise UsageError(
            f"{checkpoint.path} is packed as {foreign or method[:50]}, which is not read. Unpack it first: "
            "transformers.AutoModelForCausalLM.from_pretrained(path).dequantize(), then save_pretrained(folder)"
        )
    packs: dict[str, _Pack] = {}
    for name, entry in checkpoint.entries.items():
        stem = name.removesuffix(".qweight")
        if stem != name:
            packs[f"{stem}.weight"] = _integers(checkpoint, stem, about)
        elif entry.dtype in EIGHT_BITS and (scale := _scale(checkpoint, name)):
            packs[name] = _scaled(checkpoint, name, scale, about)
    return Packed(checkpoint, packs) if packs else checkpoint


def _quantisation(checkpoint: Checkpoint) -> Mapping[str, Any]:
    """What the configuration says of packing, or the file that AutoGPTQ or AutoAWQ lay beside the weights."""
    about = checkpoint.config.get("quantization_config")
    if about is None and any(name.endswith(".qweight") for name in checkpoint.entries):
        folder = checkpoint.path if checkpoint.path.is_dir() else checkpoint.path.parent
        about = read_config(folder, "quantize_config.json") or read_config(folder, "quant_config.json")
    return about if isinstance(about, Mapping) else {}


@dataclass(frozen=True)
class _Integers:
    """A GPTQ or AWQ matrix. ``awq`` tells the layout, ``added`` what is added to a stored zero point."""

    stem: str
    shape: tuple[int, ...]
    bits: int
    groups: int
    awq: bool
    added: int
    indexed: bool

    @property
    def word(self) -> str:
        return f"{'AWQ' if self.awq else 'GPTQ'}{self.bits}"

    @property
    def names(self) -> tuple[str, ...]:
        ends = ("qweight", "qzeros", "scales", *(("g_idx",) if self.indexed else ()))
        return tuple(f"{self.stem}.{end}" for end in ends)

    def unpack(self, read: Read, rows: Sequence[int] | None) -> Tensor:
        weight, zeros, scales = (read(name, None) for name in self.names[:3])
        chosen = slice(None) if rows is None else list(rows)
        if self.awq:
            numbers, zeros = _nibbles(weight)[:, chosen], _nibbles(zeros)
        else:
            numbers, zeros = _stream(weight[:, chosen].T, self.bits).T, _stream(zeros, self.bits)
        group = read(self.names[3], None).long() if self.indexed else self._consecutive()
        if group.numel() and not (0 <= int(group.min()) and int(group.max()) < self.groups):
            raise ValueError(f"has groups up to {int(group.max())}; there are {self.groups}")
        value = numbers.to(torch.float32)
        value -= (zeros[:, chosen].to(torch.float32) + self.added)[group]
        value *= scales[:, chosen].to(torch.float32)[group]
        return value.T.contiguous()

    def _consecutive(self) -> Tensor:
        return torch.arange(self.shape[1]) // max(self.shape[1] // self.groups, 1)


@dataclass(frozen=True)
class _Scaled:
    """A matrix of 8-bit numbers and its scales; ``block`` is (0, 0) where scales spread as torch spreads them."""

    name: str
    scale: str
    shape: tuple[int, ...]
    dtype: str
    block: tuple[int, int]

    @property
    def word(self) -> str:
        return f"{self.dtype} scaled"

    @property
    def names(self) -> tuple[str, ...]:
        return self.name, self.scale

    def unpack(self, read: Read, rows: Sequence[int] | None) -> Tensor:
        value, scale = read(self.name, rows).to(torch.float32), read(self.scale, None).to(torch.float32)
        places = torch.arange(self.shape[0]) if rows is None else torch.tensor(list(rows), dtype=torch.long)
        if self.block == (0, 0):
            scale = scale[:, None] if scale.ndim == 1 and len(scale) > 1 else scale
            return value.mul_(scale.expand(self.shape)[places])
        high, wide = self.block
        return value.mul_(scale.repeat_interleave(wide, 1)[:, : self.shape[1]][places // high])


def _integers(checkpoint: Checkpoint, stem: str, about: Mapping[str, Any]) -> _Integers:
    """How a matrix is packed, told by the shapes of its parts. Raises `InvalidFile` where they contradict."""
    entries = checkpoint.entries
    parts = [entries.get(f"{stem}.{end}") for end in ("qweight", "qzeros", "scales")]
    shapes = [part.shape for part in parts if part and len(part.shape) == 2]
    version = str(about.get("version", about.get("checkpoint_format", "gptq"))).lower()
    if version not in ("gemm", "gptq", "gptq_v2"):
        raise UsageError(f"{checkpoint.path} is packed in the layout {version[:50]!r}; gemm, gptq and gptq_v2 are read")
    if len(shapes) != 3 or any(part and part.dtype not in ("I32", "int32") for part in parts[:2]):
        raise InvalidFile(f"{checkpoint.path}: {stem[:100]!r} lacks qzeros or scales, or they are no integer matrices")
    (high, wide), (groups, packed), (rows, outputs) = shapes
    awq = wide * 8 == outputs and high >= groups
    bits = 4 if awq else 32 * packed // max(outputs, 1)
    inputs = high if awq else high * 32 // max(bits, 1)
    indexed = entries.get(f"{stem}.g_idx")
    fits = groups == rows and packed * 32 == outputs * bits and 0 < groups <= inputs
    fits &= awq or (wide == outputs and bits in (2, 3, 4, 8) and high * 32 == inputs * bits)
    if not fits or (indexed and indexed.shape != (inputs,)) or (not indexed and inputs % groups):
        raise InvalidFile(f"{checkpoint.path}: the parts of {stem[:100]!r} contradict each other: {shapes}")
    added = 0 if awq or about.get("checkpoint_format") == "gptq_v2" else 1
    return _Integers(stem, (outputs, inputs), bits, groups, awq, added, bool(indexed) and not awq)


def _scale(checkpoint: Checkpoint, name: str) -> str:
    """The tensor that scales another one, if there is one."""
    return next((name + end for end in ("_scale_inv", "_scale") if name + end in checkpoint.entries), "")


def _scaled(checkpoint: Checkpoint, name: str, scale: str, about: Mapping[str, Any]) -> _Scaled:
    """How a tensor of 8-bit numbers is scaled. Raises `InvalidFile` for scales that do not fit."""
    entry, shape = checkpoint.entries[name], checkpoint.entries[scale].shape
    said = about.get("weight_block_size") or BLOCK
    if not (
        isinstance(said, list | tuple) and len(said) == 2 and all(type(n) is int and 0 < n < 1 << 20 for n in said)
    ):
        raise InvalidFile(f"{checkpoint.path}: weight_block_size is {str(said)[:50]}; two numbers are needed")
    column = (*shape, 1) if len(shape) == 1 and shape != (1,) else shape
    if scale.endswith("_inv") and len(entry.shape) == 2:
        if shape == tuple(-(-size // step) for size, step in zip(entry.shape, said, strict=True)):
            return _Scaled(name, scale, entry.shape, entry.dtype, (said[0], said[1]))
    elif len(column) <= len(entry.shape) and all(
        size in (1, whole) for size, whole in zip(column[::-1], entry.shape[::-1], strict=False)
    ):
        return _Scaled(name, scale, entry.shape, entry.dtype, (0, 0))
    raise InvalidFile(f"{checkpoint.path}: {scale[:100]!r} is {shape}, which does not scale {entry.shape}")


def _stream(words: Tensor, bits: int) -> Tensor:
    """Numbers of ``bits`` bits from little-endian streams of int32: [n, 32 k / bits] of uint8 from [n, k]."""
    count = words.shape[1] * 32 // bits
    value = torch.empty(len(words), count, dtype=torch.uint8)
    period = 32 if 32 % bits else 32 // bits  # after so many numbers a number begins with a word again
    step = period * bits // 32
    for place in range(period):
        word, shift = divmod(place * bits, 32)
        # Shifts of int32 drag the sign along, which the mask takes away.
        number = words[:, word::step] >> shift
        if (known := 32 - shift) < bits:
            number = (number & ((1 << known) - 1)) | (words[:, word + 1 :: step] << known)
        value[:, place::period] = (number & ((1 << bits) - 1)).to(torch.uint8)
    return value


def _nibbles(words: Tensor) -> Tensor:
    """Numbers of 4 bits in the order of AWQ: [n, 8 k] of uint8 from [n, k]."""
    value = torch.empty(len(words), 8 * words.shape[1], dtype=torch.uint8)
    for place, column in enumerate(AWQ_ORDER):
        value[:, column::8] = ((words >> 4 * place) & 15).to(torch.uint8)
    return value
