"""What in one net stands where in another: tokens that both know, and layers that belong together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn.functional import normalize

from whorl.checkpoints.roles import Key, Weights
from whorl.errors import InvalidFile
from whorl.storage import read_json

__all__ = ["Basis", "basis", "layer_similarity", "spread", "vocabularies_differ", "vocabulary"]

PROBES: Final = 64  # rows of a layer by which layers are told apart
FLAT: Final = 1e-3  # of the largest spread of tokens: below lie the mean that was taken away, and rounding
LEAST: Final = 32  # tokens in common by which rows are paired by name
VOCABULARIES: Final = ("tokenizer.json", "vocab.json")


@dataclass(frozen=True)
class Basis:
    """Where rows of two nets are compared. A reader of the residual stream is multiplied by ``ours`` or ``theirs``.

    In token space the axes are tokens, and a rotation or permutation of the stream, its width, and the gains of norms
    make no difference. Without tokens the axes are those of the stream itself (``tokens`` is 0), which must then be as
    many, and a permutation of it hides a copy.

    Shape:
        ours: ``[width of A, m]``; theirs: ``[width of B, m]``; None for the stream itself.
    """

    ours: Tensor | None
    theirs: Tensor | None
    tokens: int
    how: str

    def whitened(self) -> Basis:
        """The same with tokens that spread alike in all directions: the polar factor of each net's embedding.

        Common words lie close together, so that in token space most rows look alike; here cosines of unrelated rows
        are small. Directions in which tokens hardly spread are left out.
        """
        if self.ours is None or self.theirs is None:
            return self
        return replace(self, ours=_polar(self.ours), theirs=_polar(self.theirs))


def _polar(embedded: Tensor) -> Tensor:
    left, values, right = torch.linalg.svd(embedded, full_matrices=False)
    return (left * (values > FLAT * values[0])) @ right


def basis(first: Weights, second: Weights, count: int, *, by_number: bool = False) -> Basis | None:
    """Token space of ``count`` shared tokens, or the residual stream; None where neither can be had.

    Tokens are shared that the tokenizers beside the weights name alike; ``by_number``, those of one number.
    """
    if not first.vocabulary or not second.vocabulary:
        same = 0 < first.structure.width == second.structure.width
        return Basis(None, None, 0, "the residual stream's own axes") if same else None
    places, how = _shared(first, second, count, by_number=by_number)
    ours, theirs = (_tokens(net, rows) for net, rows in zip((first, second), places, strict=True))
    return Basis(ours, theirs, len(places[0]), how)


def _tokens(net: Weights, places: Sequence[int]) -> Tensor:
    """Embedded tokens without their mean, which all rows share and no row is told by: [width, m]."""
    ascending = sorted(set(places))
    embedded = net.tokens(ascending)
    embedded = embedded[[ascending.index(place) for place in places]] if list(places) != ascending else embedded
    return (embedded - embedded.mean(0)).T


def vocabularies_differ(first: Weights, second: Weights) -> bool:
    """Whether tokens can be paired in two ways: by the names that tokenizers give them, and by their numbers."""
    names = [vocabulary(net.checkpoint.path) for net in (first, second)]
    return bool(first.vocabulary and second.vocabulary) and all(names) and names[0] != names[1]


def _shared(first: Weights, second: Weights, count: int, *, by_number: bool) -> tuple[tuple[list[int], list[int]], str]:
    """Rows of the same tokens in both embeddings."""
    names = [vocabulary(net.checkpoint.path) for net in (first, second)]
    if all(names) and names[0] != names[1] and not by_number:
        common = sorted(names[0].keys() & names[1].keys(), key=names[0].__getitem__)
        held = [
            (names[0][token], names[1][token])
            for token in common
            if names[0][token] < first.vocabulary and names[1][token] < second.vocabulary
        ]
        if len(held) >= LEAST:
            chosen = [held[place] for place in spread(len(held), count)]
            ours, theirs = [pair[0] for pair in chosen], [pair[1] for pair in chosen]
            return (ours, theirs), f"{len(chosen)} of {len(held):,} tokens that both vocabularies name"
    rows = spread(min(first.vocabulary, second.vocabulary), count)
    known = "one vocabulary" if all(names) and names[0] == names[1] else "equal numbers taken for equal tokens"
    return (rows, rows), f"{len(rows)} tokens by number ({known})"


def vocabulary(path: Path) -> dict[str, int]:
    """Tokens and their numbers from the tokenizer beside the weights; empty where there is none that can be read."""
    folder = path if path.is_dir() else path.parent
    for name in VOCABULARIES:
        if not (folder / name).is_file():
            continue
        try:
            document: Any = read_json(folder / name)
        except InvalidFile:  # a tokenizer helps, and what is none is no reason to compare nothing
            continue
        held = document
        if name == "tokenizer.json":
            model = document.get("model") if isinstance(document, Mapping) else None
            held = model.get("vocab") if isinstance(model, Mapping) else None
        if isinstance(held, list):  # a unigram model lists [token, score]
            held = {row[0]: place for place, row in enumerate(held) if isinstance(row, list) and row}
        if not isinstance(held, Mapping) or not all(
            isinstance(token, str) and type(place) is int and place >= 0 for token, place in held.items()
        ):
            continue
        return dict(held)
    return {}


def spread(total: int, count: int) -> list[int]:
    """At most ``count`` places out of ``total``, ascending and evenly spread, with both ends."""
    if count >= total:
        return list(range(total))
    return sorted({round(place) for place in torch.linspace(0, total - 1, count).tolist()})


def layer_similarity(first: Weights, second: Weights, axes: Basis) -> Tensor:
    """How alike each layer of A and each of B are, and, as a last row, readers of A's stream drawn at random.

    Similarity is the mean over some hidden units of A of the cosine with the nearest unit of B, in `Basis.whitened`.
    It is the same for every permutation and sign of units, for every rotation of the stream and for every gain, so
    that tests of these symmetries stay exact after a choice by it. Layers without a hidden layer are at -1.

    All matrices of B that read into hidden layers are read, and `PROBES` rows of each of A's; of experts the first.

    Shape:
        ``[layers of A + 1, layers of B]``, from -1 to 1.
    """
    role = "gate" if first.structure.gated and second.structure.gated else "up"
    ours, theirs = (dict(reversed(net.structure.mlps())) for net in (first, second))
    white, width = axes.whitened(), first.structure.width
    probes = {layer: _probe(first, Key(role, layer, expert)) for layer, expert in ours.items()}
    probes[first.structure.layers] = torch.randn(PROBES, width, generator=torch.Generator().manual_seed(0))
    seen = {place: _unit(rows, white.ours) for place, rows in probes.items()}
    found = torch.full((first.structure.layers + 1, second.structure.layers), -1.0)
    for layer, expert in theirs.items():
        rows = range(second.rows(role, layer, expert))
        best = {place: torch.full((len(probe),), -1.0) for place, probe in seen.items()}
        for block in second.blocks(role, layer, expert, rows):
            units = _unit(block, white.theirs).T
            best = {place: torch.maximum(value, (seen[place] @ units).amax(1)) for place, value in best.items()}
        for place, value in best.items():
            found[place, layer] = value.mean()
    return found


def _probe(net: Weights, key: Key) -> Tensor:
    return torch.cat(list(net.blocks(*key, spread(net.rows(*key), PROBES))))


def _unit(rows: Tensor, axes: Tensor | None) -> Tensor:
    return normalize(rows if axes is None else rows @ axes, dim=1)
