"""A checkpoint whose tensors have roles: the same questions for every family of transformers.

Roles: ``embedding``, ``position``, ``patches``, ``unembedding``, ``final_norm``; in each layer ``attention_norm``,
``mlp_norm``, ``query``, ``key``, ``value``, ``output``, their biases, ``gate``, ``up``, ``down``, ``up_bias`` and
``router``. A matrix is handed out as [out, in], whatever the file's habit; a net without gates has only ``up`` and
``down``. A tied unembedding is absent.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any, Final, Literal
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from whorl.checkpoints.checkpoint import Checkpoint, Rows
from whorl.checkpoints.naming import Naming, namings
from whorl.checkpoints.towers import NONE, SHARED, Key, named_parts
from whorl.errors import InvalidFile

__all__ = ["NONE", "SHARED", "Key", "Part", "Structure", "Weights"]

STEP: Final = 1 << 20  # elements in memory at a time
MAX_LAYERS: Final = 10_000
MAX_EXPERTS: Final = 10_000  # in one tensor
NORMS: Final = ("attention_norm", "mlp_norm", "final_norm")
READERS: Final = frozenset({"query", "key", "value", "gate", "up", "router"})  # of the residual stream
WRITERS: Final = frozenset({"output", "down"})
NORM_OF: Final = {
    "query": "attention_norm",
    "key": "attention_norm",
    "value": "attention_norm",
    "gate": "mlp_norm",
    "up": "mlp_norm",
    "router": "mlp_norm",
    "unembedding": "final_norm",
}


@dataclass(frozen=True)
class Part:
    """Where a part lies: a tensor, one of its slices, some of its rows (after turning it to [out, in])."""

    tensor: str
    transposed: bool = False
    index: int | None = None
    rows: tuple[tuple[int, int], ...] = ()

    @property
    def straight(self) -> bool:
        """Whether its rows are rows of the tensor, in the tensor's order, so that some can be read alone."""
        return self.index is None and not self.transposed and list(self.rows) == sorted(self.rows)


@dataclass(frozen=True)
class Structure:
    """The plan of a net. ``parts`` is empty where the names mean nothing here (`known`).

    ``heads``, ``kv_heads`` and ``head_dim`` are 0 where neither file nor shapes tell. ``norm`` is ``layer`` where norms
    have biases and so subtract a mean, ``rms`` otherwise. ``placed`` says whether nets of this family write positions
    beside what the tokens are, by a table or by waves that no file holds.
    """

    architecture: str
    parts: Mapping[Key, Part] = field(default_factory=dict[Key, Part])
    layers: int = 0
    width: int = 0
    heads: int = 0
    kv_heads: int = 0
    head_dim: int = 0
    norm: Literal["rms", "layer"] = "rms"
    norm_offset: float = 0.0
    placed: bool = False

    @property
    def known(self) -> bool:
        """Whether roles are known at all."""
        return bool(self.parts)

    @property
    def gated(self) -> bool:
        """Whether the hidden layers are products of a gate and an ungated branch."""
        return any(key.role == "gate" for key in self.parts)

    def mlps(self) -> list[tuple[int, int]]:
        """(layer, expert) of every hidden layer, in order."""
        return sorted((key.layer, key.expert) for key in self.parts if key.role == "up")


_KNOWN: Final = WeakKeyDictionary[Checkpoint, Structure]()  # a checkpoint does not change


class Weights:
    """A checkpoint and its structure: parts by role, as float32."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint
        if (known := _KNOWN.get(checkpoint)) is None:
            known = _KNOWN[checkpoint] = _structure(checkpoint)
        self.structure = known

    def __contains__(self, key: object) -> bool:
        return key in self.structure.parts

    def read(self, role: str, layer: int = NONE, expert: int = NONE, *, rows: Rows | None = None) -> Tensor:
        """A part, or some of its rows. Raises `KeyError` where the net has no such part."""
        return _taken(self.checkpoint.read, self.structure.parts[Key(role, layer, expert)], rows)

    def shape(self, role: str, layer: int = NONE, expert: int = NONE) -> tuple[int, ...]:
        """The shape of a part, without reading it."""
        part = self.structure.parts[Key(role, layer, expert)]
        shape = self.checkpoint.entries[part.tensor].shape[0 if part.index is None else 1 :]
        shape = shape[::-1] if part.transposed and len(shape) == 2 else shape
        return (sum(last - first for first, last in part.rows), *shape[1:]) if part.rows else shape

    def rows(self, role: str, layer: int = NONE, expert: int = NONE) -> int:
        """How many rows a part has, without reading it."""
        return self.shape(role, layer, expert)[0]

    def stored(self, role: str, layer: int = NONE, expert: int = NONE, *, rows: Sequence[int]) -> Iterator[Tensor]:
        """Rows of a part in the file's own type, some at a time."""
        return self._steps(self.checkpoint.stored, Key(role, layer, expert), rows)

    def folded(self, role: str, layer: int = NONE, expert: int = NONE) -> Tensor:
        """A matrix that reads the residual stream, with the gain of the norm before it multiplied in: [out, in]."""
        return torch.cat(list(self.blocks(role, layer, expert, range(self.rows(role, layer, expert)))))

    def blocks(self, role: str, layer: int, expert: int, rows: Sequence[int]) -> Iterator[Tensor]:
        """Rows of the same, block by block."""
        gain = self.gain(role, layer)
        for block in self._steps(self.checkpoint.read, Key(role, layer, expert), rows):
            if gain is not None and len(gain) != block.shape[1]:
                raise InvalidFile(f"{self.checkpoint.path}: {len(gain)} gains of a norm for {block.shape[1]} axes")
            yield block if gain is None else block.mul_(gain)

    def _steps(self, take: Callable[[str, Rows | None], Tensor], key: Key, rows: Sequence[int]) -> Iterator[Tensor]:
        """Few rows at a time: large fresh buffers cost more than what is read into them."""
        part = self.structure.parts[key]
        whole = None if part.straight else _taken(take, part, None)
        step = max(1, STEP // max(1, prod(self.shape(*key)[1:])))
        for first in range(0, len(rows), step):
            some = rows[first : first + step]
            yield _taken(take, part, some) if whole is None else whole[list(some)]

    def gain(self, role: str, layer: int = NONE) -> Tensor | None:
        """The gains of the norm before a matrix that reads the residual stream: [width]; None where it has none."""
        if role not in NORM_OF:
            return None
        norm = Key(NORM_OF[role], NONE if role == "unembedding" else layer)
        return self.read(*norm[:2]) + self.structure.norm_offset if norm in self else None

    def tokens(self, rows: Rows) -> Tensor:
        """Rows of the embedding as the residual stream carries them on: [m, width].

        A layer norm subtracts the mean over axes, so it is subtracted here.
        """
        embedded = self.read("embedding", rows=rows)
        return embedded - embedded.mean(1, keepdim=True) if self.structure.norm == "layer" else embedded

    @property
    def vocabulary(self) -> int:
        """Rows of the embedding, 0 where the net reads no tokens."""
        part = self.structure.parts.get(Key("embedding"))
        return self.checkpoint.entries[part.tensor].shape[0] if part else 0


def _taken(take: Callable[[str, Rows | None], Tensor], part: Part, rows: Rows | None) -> Tensor:
    """A part, or some of its rows, as ``take`` reads its tensor."""
    if part.straight:
        return take(part.tensor, _places(part, rows))
    value = take(part.tensor, None if part.index is None else [part.index])
    value = value if part.index is None else value[0]
    value = value.T if part.transposed and value.ndim == 2 else value
    if part.rows:
        value = torch.cat([value[first:last] for first, last in part.rows])
    return value if rows is None else value[rows if isinstance(rows, slice) else list(rows)]


def _places(part: Part, rows: Rows | None) -> Rows | None:
    """Rows of a part as rows of its tensor."""
    if not part.rows:
        return rows
    held = [row for first, last in part.rows for row in range(first, last)]
    if rows is None:
        return held
    return held[rows] if isinstance(rows, slice) else [held[row] for row in rows]


def _structure(checkpoint: Checkpoint) -> Structure:
    naming, found = _naming(checkpoint)
    if naming is None:
        return Structure("unknown")
    layers = 1 + max((key.layer for key in found), default=NONE)
    if layers > MAX_LAYERS:
        raise InvalidFile(f"{checkpoint.path} names {layers:,} layers; at most {MAX_LAYERS:,} are read")
    shape = {key: checkpoint.entries[name].shape for key, name in found.items()}
    experts = max((size[0] for key, size in shape.items() if key.role.endswith(".experts") and size), default=0)
    if experts > MAX_EXPERTS:
        raise InvalidFile(f"{checkpoint.path} holds {experts:,} experts in a tensor; at most {MAX_EXPERTS:,} are read")
    width = _width(shape)
    if Key("embedding") in shape and shape[Key("embedding")][-1:] != (width,):  # projected into the stream
        del found[Key("embedding")]
    turned = _turned(shape, width, naming)
    shape = {key: size[::-1] if key in turned else size for key, size in shape.items()}
    heads = _heads(checkpoint.config, shape)
    parts: dict[Key, Part] = {}
    for key, name in found.items():
        parts |= dict(_split(key, Part(name, key in turned), shape[key], naming, heads))
    if naming.parallel:
        parts |= {key._replace(role="mlp_norm"): part for key, part in parts.items() if key.role == "attention_norm"}
    norms = [name for key, name in found.items() if key.role in NORMS]
    biased = any(f"{name.removesuffix('weight')}bias" in checkpoint.entries for name in norms)
    biased |= not norms and any(name.lower().endswith("norm.bias") for name in checkpoint.entries)  # after the sum
    return Structure(
        naming.name,
        parts,
        layers=layers,
        width=width,
        heads=heads[0],
        kv_heads=heads[1],
        head_dim=heads[2],
        norm="layer" if biased else "rms",
        norm_offset=naming.norm_offset,
        placed="position" in naming.parts,
    )


def _naming(checkpoint: Checkpoint) -> tuple[Naming | None, dict[Key, str]]:
    """The family whose model type is named, or whose names fit best (`_fit`); with the tensors by role."""
    kind = _model_type(checkpoint.config)
    known = namings().values()
    named = [naming for naming in known if kind in naming.models]
    for chosen in (named, [naming for naming in known if not naming.norm_offset]):
        fits = [(naming, named_parts(naming, checkpoint.entries)) for naming in chosen]
        naming, found = max(fits, key=_fit, default=(None, dict[Key, str]()))
        if any(key.role.startswith("up") or "up" in key.role.split("+") for key in found):
            return naming, found
    return None, {}


def _fit(naming_and_found: tuple[Naming, dict[Key, str]]) -> tuple[int, int]:
    """Most names found, and of several that find as many the family that knows no others: not one with experts."""
    naming, found = naming_and_found
    return len(found), -len(naming.parts)


def _model_type(config: Mapping[str, Any]) -> str:
    for section in (config.get("text_config"), config):
        if isinstance(section, Mapping) and isinstance(section.get("model_type"), str):
            return section["model_type"]
    architecture = config.get("general.architecture")
    return f"gguf {architecture}" if isinstance(architecture, str) else ""


def _heads(config: Mapping[str, Any], shape: Mapping[Key, tuple[int, ...]]) -> tuple[int, int, int]:
    """Query heads, key-value heads and axes of a head; zeros where they cannot be told or contradict the shapes.

    How many key-value heads there are is told by shapes where no configuration tells it.
    """
    nested = config.get("text_config")
    found: Mapping[str, Any] = nested if isinstance(nested, Mapping) else config
    arch = str(found.get("general.architecture", ""))
    heads = _count(found, "num_attention_heads", "n_head", "num_heads", "n_heads", f"{arch}.attention.head_count")
    kv_heads = _count(found, "num_key_value_heads", f"{arch}.attention.head_count_kv")
    head_dim = _count(found, "head_dim", f"{arch}.attention.key_length")
    matrices = {key.role: size for key, size in shape.items() if len(size) == 2}
    if not heads:
        return 0, 0, 0
    rows = {role: size[0] for role, size in matrices.items()}
    total = rows.get("query+key+value", 0) or rows.get("query", 0) + 2 * rows.get("key", 0)
    read = matrices["output"][1] if "output" in matrices else 0  # what the heads give together
    head_dim = head_dim or (total // (heads + 2 * kv_heads) if kv_heads else read // heads)
    kv_heads = kv_heads or (total // head_dim - heads) // 2 if head_dim else 0
    fits = head_dim > 0 and kv_heads > 0 and total == (heads + 2 * kv_heads) * head_dim
    if not fits or heads % kv_heads:
        return 0, 0, 0
    return heads, kv_heads, head_dim


def _count(config: Mapping[str, Any], *names: str) -> int:
    values = (config.get(name) for name in names)
    return next((value for value in values if type(value) is int and 0 < value < 1 << 20), 0)


def _split(
    key: Key, whole: Part, shape: tuple[int, ...], naming: Naming, heads: tuple[int, int, int]
) -> Iterator[tuple[Key, Part]]:
    """A tensor, whose ``shape`` is [out, in], as the parts that it holds."""
    roles = key.role.split("+")
    if key.role.endswith(".experts"):
        for expert in range(shape[0] if len(shape) == 3 else 0):
            yield Key(key.role.removesuffix(".experts"), key.layer, expert), replace(whole, index=expert)
    elif naming.paired and key.role in ("query", "key"):
        if heads[0]:
            yield key, replace(whole, rows=_halves(shape[0], heads[2]))
    elif len(roles) == 1:
        yield key, whole
    elif len(roles) == 2:
        half = shape[0] // 2
        yield key._replace(role=roles[0]), replace(whole, rows=((0, half),))
        yield key._replace(role=roles[1]), replace(whole, rows=((half, 2 * half),))
    elif heads[0]:
        for role, rows in zip(roles, _attention_rows(naming, heads), strict=True):
            yield key._replace(role=role), replace(whole, rows=rows)


def _halves(height: int, head_dim: int) -> tuple[tuple[int, int], ...]:
    """Rows of query or key whose neighbours a rotation turns, in the order in which it turns two halves of a head."""
    rows = (first + row for first in range(0, height, head_dim) for half in (0, 1) for row in range(half, head_dim, 2))
    return tuple((row, row + 1) for row in rows)


def _attention_rows(naming: Naming, heads: tuple[int, int, int]) -> list[tuple[tuple[int, int], ...]]:
    """Rows of query, key and value in a tensor that holds all three."""
    count, groups, wide = heads
    if naming.by_head and groups == count:
        return [tuple((wide * (3 * h + part), wide * (3 * h + part + 1)) for h in range(count)) for part in range(3)]
    ends = [0, count * wide, (count + groups) * wide, (count + 2 * groups) * wide]
    return [((first, last),) for first, last in itertools.pairwise(ends)]


def _width(shape: Mapping[Key, tuple[int, ...]]) -> int:
    """Axes of the residual stream: as many as a norm has gains, or else as many as the embedding or a matrix has."""
    norms = [size[0] for key, size in shape.items() if key.role in NORMS and len(size) == 1]
    others = [size[-1] for role in ("embedding", "up") for key, size in shape.items() if key.role == role and size]
    return next(iter(norms + others), 0)


def _turned(shape: Mapping[Key, tuple[int, ...]], width: int, naming: Naming) -> set[Key]:
    """Matrices of layers that are stored [in, out].

    The shape of one that is not square tells, by the side that is as wide as the stream; where none tells, or those
    that do disagree about the others, most of them do.
    """
    sides = {key: _reading_side(key) for key, size in shape.items() if len(size) == 2 and key.layer != NONE}
    told = {
        key: shape[key][1 - side] == width
        for key, side in sides.items()
        if side is not None and (shape[key][0] == width) != (shape[key][1] == width)
    }
    most = 2 * sum(told.values()) > len(told) if told else naming.transposed
    return {key for key, side in sides.items() if side is not None and told.get(key, most)}


def _reading_side(key: Key) -> int | None:
    """The axis of a matrix [out, in] that is the residual stream's; None for what has another orientation."""
    roles = {role.partition(".")[0] for role in key.role.split("+")}
    return 1 if roles <= READERS else 0 if roles <= WRITERS else None
