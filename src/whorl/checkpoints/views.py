"""A checkpoint seen otherwise: some of its tensors, under other names; and the nets of a file that holds several.

Trainers lay an average (EMA), an optimiser's moments, a reference or a teacher beside the weights: the same names after
other prefixes. Each is a net, and a file of them is compared net by net.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import ClassVar, Final

from torch import Tensor

from whorl.checkpoints.checkpoint import Checkpoint
from whorl.errors import InvalidFile
from whorl.printable import printable

__all__ = ["NETS", "UNUSABLE", "View", "nets", "passed_over", "unread_in", "unwrapped", "without"]

# Words that torch.compile, FSDP and checkpointing of activations put into names.
WRAPPERS: Final = frozenset({"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
DEEPEST: Final = 4  # words of a prefix
MANY: Final = 16  # prefixes with one and the same name below: no nets, but layers or experts
ALIKE: Final = 0.9  # of the tensors below a prefix are below another one too, in the same shape
SHARE: Final = 0.05  # of the numbers of a file are in a net that is worth its tests
MOST: Final = 0.5  # of the numbers of a file are in its nets: else these are parts of one
MATRICES: Final = 3  # that a net has at least
UNUSABLE: Final = 16  # tensors of a net that may be left out, for NaN or infinity
NAMED: Final = 4  # tensors in one line
NETS: Final = 4  # of one file that are compared, the largest first

Prefix = tuple[str, ...]


class View(Checkpoint):
    """Some tensors of a checkpoint, each under a name of its own: ``names`` are the checkpoint's, by name here.

    ``prefix`` is what was left out before them all, where it is a net among others; ``turned`` are names of matrices
    that are handed out with rows for columns.
    """

    format: ClassVar[str] = "view"

    def __init__(
        self, inner: Checkpoint, names: Mapping[str, str], prefix: str = "", turned: frozenset[str] = frozenset()
    ) -> None:
        entries = {name: inner.entries[own] for name, own in names.items()}
        entries |= {name: replace(entries[name], shape=entries[name].shape[::-1]) for name in turned}
        super().__init__(inner.path, entries, inner.config, inner.left_out)
        self.prefix, self._inner, self._names, self._turned = prefix, inner, names, turned

    def _stored(self, name: str, rows: Sequence[int] | None) -> Tensor:
        before = self._inner.bytes_read
        try:
            if name not in self._turned:
                return self._inner.stored(self._names[name], rows)
            value = self._inner.stored(self._names[name]).T
            return (value if rows is None else value[list(rows)]).contiguous()
        finally:
            self.bytes_read += self._inner.bytes_read - before


def unwrapped(checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint itself, or the same without the words that wrappers of modules put into names.

    ``module.``, as of data-parallel training, goes where all names begin with it. Names that would be two stay.
    """
    parts = {name: [word for word in name.split(".") if word not in WRAPPERS] for name in checkpoint.entries}
    led = all(len(words) > 1 and words[0] == "module" for words in parts.values())
    names = {".".join(words[led:]): name for name, words in parts.items()}
    plain = names.keys() == checkpoint.entries.keys() or len(names) < len(parts) or "" in names
    return checkpoint if plain else View(checkpoint, names)


def without(checkpoint: Checkpoint, name: str) -> Checkpoint:
    """A checkpoint less one of its tensors, which is not finite. Raises `InvalidFile` where no other is left."""
    if len(checkpoint.entries) < 2:
        raise InvalidFile(f"{checkpoint.path} holds no tensor that can be used: all hold NaN or an infinity")
    prefix = checkpoint.prefix if isinstance(checkpoint, View) else ""
    return View(checkpoint, {each: each for each in checkpoint.entries if each != name}, prefix)


def unread_in(checkpoint: Checkpoint) -> str:
    """Tensors of a file that are not read, on one line: their number, the first names, and the first reason."""
    names = [*checkpoint.left_out]
    some = ", ".join(map(printable, names[:NAMED])) + (", ..." if len(names) > NAMED else "")
    return f"{some} ({len(names):,}), {checkpoint.left_out[names[0]]}"


def nets(checkpoint: Checkpoint) -> list[Checkpoint]:
    """The nets of a checkpoint, the largest first: itself where it holds one.

    Below two prefixes lie two nets where nearly all tensors below the one have namesakes of their shape below the other
    (`ALIKE`). Words that are numbers make no prefix: layers and experts are parts of one net, and so are two decoders
    that hold less than half of the file. What lies below no such prefix is in the net that has the shortest one.
    """
    prefixes = _prefixes(checkpoint)
    if len(prefixes) < 2:
        return [checkpoint]
    rest = min(prefixes, key=lambda prefix: (len(prefix), prefix))
    groups: dict[Prefix, dict[str, str]] = {prefix: {} for prefix in prefixes}
    for name in checkpoint.entries:
        words = tuple(name.split("."))
        held = [prefix for prefix in prefixes if words[: len(prefix)] == prefix]
        prefix = max(held, key=len, default=rest)
        groups[prefix][".".join(words[len(prefix) :]) if held else name] = name
    views: list[Checkpoint] = [
        View(checkpoint, names, ".".join([*prefix, ""])) for prefix, names in sorted(groups.items())
    ]
    return sorted(views, key=lambda view: -view.parameters)


def passed_over(checkpoint: Checkpoint) -> list[str]:
    """Prefixes of the nets of a file that are not compared, for they are smaller than `NETS` others."""
    return [net.prefix if isinstance(net, View) else "" for net in nets(checkpoint)[NETS:]]


def _prefixes(checkpoint: Checkpoint) -> list[Prefix]:
    """Prefixes, none or one of them empty, below which the same names stand in the same shapes."""
    below: dict[tuple[str, tuple[int, ...]], list[Prefix]] = {}
    sizes: Counter[Prefix] = Counter()
    counts: Counter[Prefix] = Counter()
    matrices: Counter[Prefix] = Counter()
    for name, entry in checkpoint.entries.items():
        words = name.split(".")
        for depth in range(min(DEEPEST, len(words) - 1) + 1):
            if depth and words[depth - 1].isdigit():
                break
            prefix = tuple(words[:depth])
            below.setdefault((".".join(words[depth:]), entry.shape), []).append(prefix)
            counts[prefix] += 1
            sizes[prefix] += entry.nbytes
            matrices[prefix] += len(entry.shape) > 1
    shared: Counter[tuple[Prefix, Prefix]] = Counter()
    for prefixes in below.values():
        if 1 < len(prefixes) <= MANY:
            shared.update((one, two) for one in prefixes for two in prefixes if one != two)
    least = SHARE * checkpoint.nbytes
    pairs = {
        frozenset((one, two))
        for (one, two), count in shared.items()
        if count >= ALIKE * counts[one] and matrices[one] >= MATRICES and sizes[one] >= least
    }
    # What lies deeper in two nets is alike too, and says the same once more.
    found = {each for pair in pairs if frozenset(_above(pair)) not in pairs for each in pair}
    found = [prefix for prefix in found if not any(prefix[:depth] in found for depth in range(1, len(prefix)))]
    held = checkpoint.nbytes if () in found else sum(sizes[prefix] for prefix in found)
    return found if held > MOST * checkpoint.nbytes else []


def _above(pair: Iterable[Prefix]) -> list[Prefix]:
    """Two prefixes less the word that ends both; none where they end in two words."""
    pair = list(pair)
    return [prefix[:-1] for prefix in pair] if all(pair) and len({prefix[-1] for prefix in pair}) == 1 else []
