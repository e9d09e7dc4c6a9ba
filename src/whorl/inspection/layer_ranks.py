"""Layer ranks: pictures whose neighbours in early layers are of other classes than the one that is answered.

After Mo et al., *Robust Backdoor Detection for Deep Learning via Topological Evolution Dynamics* (TED), IEEE S&P 2024,
arXiv 2312.02673. In each layer clean pictures are sorted by their distance from the picture, and the rank of the first
that the net gives the same class is noted. A picture with a trigger looks like its own class until late, so the path of
its ranks is another than that of clean ones: its number is the squared length of log(1 + rank) in units of the
principal components of clean paths.

The paper sets its bound by a share of outliers. Here the number is ranked among clean pictures that were held out:
p = (1 + #) / (N + 1), and a picture is named at p <= alpha. If it were clean and drawn like them, it would be named
with a chance of at most alpha.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

import torch
from torch import Tensor

from whorl.data.base import Dataset
from whorl.errors import UsageError
from whorl.inspection.sieve import Found, Sieve
from whorl.oracles.torch import TorchOracle
from whorl.settings import Count, ProperShare
from whorl.types import Access

__all__ = ["LayerRanks"]

CHUNK: Final = 512  # pictures whose distances are kept side by side
FLOOR: Final = 1e-3  # variance of a component below which clean paths do not differ in it


@dataclass(frozen=True, kw_only=True)
class LayerRanks(Sieve):
    """How far the path of a picture's ranks lies from that of clean pictures.

    Parameters:
        alpha: share of clean pictures that may be named.
        references: clean pictures that are sorted by distance, at most half of all.
        layers: how many are looked at, evenly spread over the convolutions and linear layers.
    """

    name: ClassVar[str] = "layer_ranks"
    paper: ClassVar[str] = "after Mo et al., IEEE S&P 2024, arXiv 2312.02673"
    idea: ClassVar[str] = "Pictures whose neighbours in early layers are of other classes than the one answered."
    blind: ClassVar[str] = "triggers that early layers see as large, and nets with one or two layers"
    needs: ClassVar[Access] = Access.FEATURES
    clean: ClassVar[int] = 128

    alpha: ProperShare = 0.05
    references: Count = 1000
    layers: Count = 12

    @property
    def rate(self) -> float:
        """Alpha."""
        return self.alpha

    def find(self, net: TorchOracle, data: Dataset, clean: Dataset | None, *, generator: torch.Generator) -> Found:
        """Numbers of pictures."""
        assert clean is not None  # checked by the base class
        order = torch.randperm(len(clean), generator=generator)
        count = min(self.references, len(clean) // 2)
        references, rest = clean.inputs(order[:count]), clean.inputs(order[count:])
        if len(rest) - len(rest) // 2 + 1 < 1 / self.alpha:
            raise UsageError(
                f"alpha={self.alpha:g} needs a rank among {round(1 / self.alpha) - 1} held-out pictures at least, and "
                f"{len(clean)} clean ones leave {len(rest) - len(rest) // 2}; give more of them, or a larger alpha"
            )
        names = list(net.layers)
        chosen = torch.linspace(0, len(names) - 1, min(self.layers, len(names))).round().long().tolist()
        paths = _Paths(net, [names[each] for each in chosen], references)
        known, asked = paths.of(rest), paths.of(data.inputs())
        fitted, held_out = known[: len(rest) // 2], known[len(rest) // 2 :]
        centre = fitted.mean(0)
        variances, components = torch.linalg.eigh((fitted - centre).mT @ (fitted - centre) / len(fitted))
        scale = components / variances.clamp_min(FLOOR).sqrt()
        values, clean_values = (((each - centre) @ scale).square().sum(1) for each in (asked, held_out))
        as_far = len(clean_values) - torch.searchsorted(clean_values.sort().values, values)
        return Found(values, (1 + as_far) / (len(clean_values) + 1) <= self.alpha)


class _Paths:
    """log(1 + rank) of the nearest reference of the same answer, layer by layer."""

    def __init__(self, net: TorchOracle, layers: list[str], references: Tensor) -> None:
        self._net, self._layers = net, layers
        self._places = {layer: net.activations(references, layer) for layer in layers}
        self._answers = net.labels(references).cpu()

    def of(self, inputs: Tensor) -> Tensor:
        """``[n, layers]`` float64; a picture whose answer no reference has is behind all of them."""
        answers, columns = self._net.labels(inputs).cpu(), list[Tensor]()
        for layer in self._layers:
            found = self._net.activations(inputs, layer)
            columns.append(
                torch.cat(
                    [
                        self._ranks(rows, same, self._places[layer])
                        for rows, same in zip(found.split(CHUNK), answers.split(CHUNK), strict=True)
                    ]
                )
            )
        return torch.stack(columns, 1).double().log1p()

    def _ranks(self, rows: Tensor, answers: Tensor, places: Tensor) -> Tensor:
        apart = torch.cdist(rows, places)
        nearest = apart.masked_fill(self._answers != answers[:, None], torch.inf).amin(1, keepdim=True)
        return (apart < nearest).sum(1)
