"""PEFT adapters of low rank over the checkpoint that they adapt: W + scaling B A (Hu et al. 2022, "LoRA", section 4.1).

The scaling is lora_alpha / r, or lora_alpha / sqrt(r) with ``use_rslora`` (Kalajdzievski 2023). Tensors that an adapter
holds whole (``modules_to_save``, biases) stand in for those of the base.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, ClassVar, Final

import torch
from torch import Tensor

from whorl.checkpoints.checkpoint import Checkpoint, TensorEntry, read_config
from whorl.checkpoints.readers.safetensors import SafetensorsCheckpoint
from whorl.checkpoints.readers.torch_file import TorchCheckpoint
from whorl.errors import InvalidFile, UsageError
from whorl.storage import check_size

__all__ = ["ADAPTER_CONFIG", "Adapter"]

ADAPTER_CONFIG: Final = "adapter_config.json"
MAX_CONFIG: Final = 4 << 20
FACTOR: Final = re.compile(r"(?P<module>.+)\.lora_(?P<kind>|embedding_)(?P<side>[AB])(?:\.default)?(?:\.weight)?")
REBASED: Final = ("pissa", "olora", "corda", "lora_ga", "loftq")  # starts that change the base's own weights


@dataclass(frozen=True)
class _Update:
    """The two factors of one update, by their names in the adapter's file."""

    a: str
    b: str
    rank: int
    scaling: float
    turned: bool  # the base stores the matrix as [in, out]


class Adapter(Checkpoint):
    """A base with an adapter merged in, tensor by tensor; the base is read only for tensors that are asked for.

    Parameters:
        path: the adapter's folder, with ``adapter_config.json`` and ``adapter_model.safetensors`` or ``.bin``.
        base: the checkpoint that was adapted. Its names may lack the words before the first layer.

    Raises:
        UsageError: an adapter that is not of low rank, or one (DoRA, PiSSA) whose sum with the base is not W + s B A.
        InvalidFile: factors that do not fit each other or the base.
    """

    format: ClassVar[str] = "adapter"

    def __init__(self, path: Path, base: Checkpoint) -> None:
        self.base = base
        self.settings = _settings(path)
        self._file = _file(path)
        self._updates, self._whole = _contents(self._file, self.settings, base)
        entries = dict(base.entries)
        for name, update in self._updates.items():
            factors = self._file.entries[update.a].nbytes + self._file.entries[update.b].nbytes
            entries[name] = TensorEntry(base.entries[name].shape, "LORA", base.entries[name].nbytes + factors)
        entries |= {name: self._file.entries[own] for name, own in self._whole.items()}
        super().__init__(path, entries, base.config)

    @property
    def updated(self) -> tuple[str, ...]:
        """Names of the tensors to which an update of low rank is added."""
        return tuple(self._updates)

    def rank(self, name: str) -> int:
        """The rank of a tensor's update, 0 where it has none."""
        return self._updates[name].rank if name in self._updates else 0

    def update(self, name: str) -> tuple[Tensor, Tensor, float]:
        """(B [m, r], A [r, n], scaling): what is added to a tensor [m, n] is scaling B A, as float32.

        Convolutions have their axes after the first flattened. Raises `UsageError` where nothing is added.
        """
        if name not in self._updates:
            raise UsageError(f"{self.path} adds nothing to {name!r}; see Adapter.updated")
        update = self._updates[name]
        before = self._file.bytes_read
        a, b = self._file.read(update.a).flatten(1), self._file.read(update.b).flatten(1)
        self.bytes_read += self._file.bytes_read - before
        return (a.T, b.T, update.scaling) if update.turned else (b, a, update.scaling)

    def _stored(self, name: str, rows: Sequence[int] | None) -> Tensor:
        source, own = (self._file, self._whole[name]) if name in self._whole else (self.base, name)
        before = source.bytes_read
        value = source.stored(own, rows)
        self.bytes_read += source.bytes_read - before
        if name not in self._updates:
            return value
        b, a, scaling = self.update(name)
        chosen = b if rows is None else b[list(rows)]
        return value.to(torch.float32) + scaling * (chosen @ a).reshape(value.shape)


def _settings(path: Path) -> Mapping[str, Any]:
    check_size(path / ADAPTER_CONFIG, MAX_CONFIG)
    settings = read_config(path, ADAPTER_CONFIG)
    kind, start = str(settings.get("peft_type", ""))[:50], str(settings.get("init_lora_weights", "")).lower()
    if kind != "LORA":
        raise UsageError(f"{path} is an adapter of the type {kind!r}; LORA is read. Merge it: model.merge_and_unload()")
    if settings.get("use_dora") or settings.get("lora_bias"):
        raise UsageError(f"{path} uses DoRA or biases of its factors, which are not read: model.merge_and_unload()")
    if start.startswith(REBASED):
        raise UsageError(
            f"{path} began as {start[:20]!r}, which changes the base too. Convert it: "
            "save_pretrained(folder, path_initial_model_for_weight_conversion=...)"
        )
    return settings


def _file(path: Path) -> Checkpoint:
    for name, kind in (("adapter_model.safetensors", SafetensorsCheckpoint), ("adapter_model.bin", TorchCheckpoint)):
        if (path / name).is_file():
            return kind(path / name)
    raise UsageError(f"{path} has an {ADAPTER_CONFIG} and neither adapter_model.safetensors nor adapter_model.bin")


def _contents(
    file: Checkpoint, settings: Mapping[str, Any], base: Checkpoint
) -> tuple[dict[str, _Update], dict[str, str]]:
    """What is added to which tensor of the base, and what replaces which."""
    factors: dict[tuple[str, str], dict[str, str]] = {}
    whole: dict[str, str] = {}
    for name in file.entries:
        if match := FACTOR.fullmatch(name):
            factors.setdefault((match["module"], match["kind"]), {})[match["side"]] = name
        elif ".lora_" in name:
            raise UsageError(f"{file.path}: {name[:100]!r} is a part of an adapter that is not read")
        else:
            module, _, end = name.rpartition(".")
            target = _target(base, module.replace(".modules_to_save.default", "").replace(".modules_to_save", ""), end)
            if base.entries[target].shape != file.entries[name].shape:
                raise InvalidFile(f"{file.path}: {name[:100]!r} is {file.entries[name].shape}, unlike the base")
            whole[target] = name
    updates = {
        _target(base, module, "weight"): _update(file, base, settings, module, kind, sides)
        for (module, kind), sides in factors.items()
    }
    return updates, whole


def _target(base: Checkpoint, module: str, end: str) -> str:
    """The base's name of a module's tensor: its own words, less what the base does not say."""
    words = f"{module.removeprefix('base_model.model.')}.{end}".split(".")
    for first in range(len(words) - 1):
        if (name := ".".join(words[first:])) in base.entries:
            return name
    raise InvalidFile(
        f"the adapter changes {module[:100]!r}, which the base {base.path} does not hold; is it its base?"
    )


def _update(
    file: Checkpoint, base: Checkpoint, settings: Mapping[str, Any], module: str, kind: str, sides: Mapping[str, str]
) -> _Update:
    if set(sides) != {"A", "B"}:
        raise InvalidFile(f"{file.path}: {module[:100]!r} has only one of two factors")
    a, b = file.entries[sides["A"]].shape, file.entries[sides["B"]].shape
    shape = base.entries[_target(base, module, "weight")].shape
    if min(len(a), len(b), len(shape)) < 2 or not a[0] or a[0] != b[1]:
        raise InvalidFile(f"{file.path}: the factors of {module[:100]!r} are {a} and {b}")
    turned = kind == "embedding_" or bool(settings.get("fan_in_fan_out"))
    product = (prod(a[1:]), b[0]) if turned else (b[0], prod(a[1:]))
    if product != (shape[0], prod(shape[1:])):
        raise InvalidFile(f"{file.path}: the factors {a} and {b} of {module[:100]!r} do not make {shape}")
    return _Update(sides["A"], sides["B"], a[0], _scaling(file, settings, module, a[0]), turned)


def _scaling(file: Checkpoint, settings: Mapping[str, Any], module: str, rank: int) -> float:
    alpha: Any = settings.get("lora_alpha")
    patterns = settings.get("alpha_pattern")
    for pattern, value in patterns.items() if isinstance(patterns, Mapping) else ():
        if not re.fullmatch(r"[\w.]{1,300}", pattern):  # a file's own expression may run for ever
            raise UsageError(f"{file.path}: alpha_pattern {pattern[:50]!r} is no plain name, and is not read")
        if f".{module}".endswith(f".{pattern}"):
            alpha = value
            break
    if type(alpha) not in (int, float) or not math.isfinite(alpha):
        raise InvalidFile(f"{file.path}: lora_alpha is {str(alpha)[:50]}; a number is needed")
    return alpha / (math.sqrt(rank) if settings.get("use_rslora") else rank)
