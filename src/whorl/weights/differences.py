"""How each tensor that two nets share has changed, found beside the tests, so that the disk is read once for both."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise
from types import TracebackType
from typing import Final

from whorl.weights.changes import Change, describe
from whorl.weights.checkpoint import Checkpoint
from whorl.weights.pairing import spread
from whorl.weights.roles import NONE, Key, Weights

__all__ = ["Differences", "differences_by_name"]

ROWS: Final = 512  # of each tensor, where not all are read
OUTSIDE: Final = (NONE, NONE)  # tensors of no layer


class Differences:
    """Changes of tensors by role: those of a pair of layers are found in a thread of their own while tests read both.

    ``whole`` reads every row, and lets the disk fetch a layer while the one before is worked on.
    """

    def __init__(self, one: Weights, two: Weights, *, whole: bool) -> None:
        self.one, self.two, self.whole = one, two, whole
        self._beside = ThreadPoolExecutor(1)
        self._found: dict[tuple[int, int], Future[list[Change]]] = {}

    def __enter__(self) -> Differences:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._beside.shutdown(cancel_futures=True)

    def while_reading(
        self, layers: Mapping[int, int], progress: Callable[[str, int, int], None]
    ) -> Iterator[tuple[int, int]]:
        """The pairs of layers, each once the changes of the one before are known."""
        order = [OUTSIDE, *layers.items()]
        self._expect(*OUTSIDE)
        for done, (before, pair) in enumerate(pairwise(order)):
            progress("layers", done, len(order))
            self._begin(before)
            self._expect(*pair)
            self._begin(pair)
            if done + 2 < len(order):
                self._expect(*order[done + 2])
            yield pair
            self._found[pair].result()

    def of(self, layers: Mapping[int, int]) -> list[Change]:
        """Changes outside of layers, and of these pairs of layers in their order; what is not known yet is read."""
        pairs = [OUTSIDE, *layers.items()]
        for pair in pairs:
            self._begin(pair)
        return [change for pair in pairs for change in self._found[pair].result()]

    def _begin(self, pair: tuple[int, int]) -> None:
        if pair not in self._found:
            self._found[pair] = self._beside.submit(lambda: list(self._changes(*pair)))

    def _expect(self, layer: int, paired: int) -> None:
        if self.whole:
            self.one.expect(layer)
            self.two.expect(paired)

    def _changes(self, layer: int, paired: int) -> Iterator[Change]:
        for key in sorted(key for key in self.one.structure.parts if key.layer == layer):
            other = key._replace(layer=paired)
            if other not in self.two or self.one.shape(*key) != self.two.shape(*other):
                continue
            height = self.one.rows(*key)
            rows = range(height) if self.whole else spread(height, ROWS)
            blocks = zip(self.one.stored(*key, rows=rows), self.two.stored(*other, rows=rows), strict=True)
            yield describe(_label(key), blocks, matrix=len(self.one.shape(*key)) == 2)


def _label(key: Key) -> str:
    expert = f".{key.expert}" if key.expert >= 0 else ""
    return f"{key.role}{expert}" if key.layer < 0 else f"layer {key.layer} {key.role}{expert}"


def differences_by_name(first: Checkpoint, second: Checkpoint) -> Iterator[Change]:
    """The same of nets without roles: of tensors that have one name and shape in both."""
    for name, entry in first.entries.items():
        if name in second.entries and second.entries[name].shape == entry.shape:
            yield describe(name, [(first.stored(name), second.stored(name))], matrix=len(entry.shape) == 2)
