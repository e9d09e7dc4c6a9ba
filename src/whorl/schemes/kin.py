"""Which of several models were made from one another, as their weights show: in a null they count as one model.

Tunes of one net keep its hidden units in their places, also after an epoch or a hundred. Nets that were trained apart
keep none: initialisation and optimiser treat hidden units alike, so had one of the nets its units in any other order,
it would have been as likely (Zhu et al., ICML 2025, arXiv 2502.12292, section 3). How many units of a layer are nearest
to the unit in the same place of another net has a law then, which holds for any sample size
(`whorl.detection.exact.log_fixed_points`). Nets of one random initialisation are kin too.

A net whose layers are all narrower than a dozen units shows nothing, nor does a model that shows no weights. Layers
that begin as the identity, or that are drawn from one seed and never trained, make strangers kin.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Final

import torch
from torch import Tensor
from torch.nn.functional import normalize

from whorl.detection.exact import log_fixed_points
from whorl.oracles.base import Oracle
from whorl.oracles.torch import TorchOracle
from whorl.types import Access

__all__ = ["kin"]

ALPHA: Final = 1e-4  # chance that any two that were trained apart are taken for kin
LAYERS: Final = 3  # of a net, the widest, beside the first: each is a test of its own
UNITS, COLUMNS = 64, 256  # of a layer that are looked at, so that a thousand models take a minute


def kin(oracles: Sequence[Oracle]) -> list[list[int]]:
    """Places of models that were made from one another, or share an ancestor; those that stand alone are left out.

    All pairs of nets with layers of one name and shape are compared, at `ALPHA` over their number.
    """
    shown = [dict(_layers(oracle)) for oracle in oracles]
    alike = defaultdict[tuple[str, tuple[int, ...]], list[int]](list)
    for place, layers in enumerate(shown):
        for name, rows in layers.items():
            alike[name, tuple(rows.shape)].append(place)
    tests = sum(math.comb(len(places), 2) for places in alike.values())
    found = list(range(len(oracles)))
    for (name, _), places in alike.items():
        for one, other in _related([shown[place][name] for place in places], math.log(ALPHA / max(tests, 1))):
            first, second = found[places[one]], found[places[other]]
            if first != second:
                found = [first if each == second else each for each in found]
    families = defaultdict[int, list[int]](list)
    for place, family in enumerate(found):
        families[family].append(place)
    return [members for members in families.values() if len(members) > 1]


def _layers(oracle: Oracle) -> Iterator[tuple[str, Tensor]]:
    """Some hidden layers of a net by name, a row a unit: those whose units stand in any order."""
    if not isinstance(oracle, TorchOracle) or oracle.access < Access.WEIGHTS:
        return
    units = {name: count for name, count in oracle.layers.items() if count != oracle.classes}
    widest = sorted(units, key=lambda name: -min(units[name], UNITS))
    parts = dict(oracle.module.named_modules())
    for name in dict.fromkeys([*list(units)[:1], *widest][: LAYERS + 1]):
        weight = parts[name].weight
        assert isinstance(weight, Tensor)
        rows = weight.detach().flatten(1)[:UNITS, :COLUMNS].cpu().float().nan_to_num()
        yield name, normalize(rows - rows.mean(0), dim=1)  # what all units share tells none from another


def _related(nets: Sequence[Tensor], level: float) -> Iterator[tuple[int, int]]:
    """Pairs of places of nets, of which each gives one layer ``[units, inputs]``, that were not trained apart."""
    if len(nets) < 2:
        return
    units = len(nets[0])
    enough = next((k for k in range(units + 1) if log_fixed_points(k, units, units) <= level), None)
    if enough is None:
        return
    stack, places = torch.stack(list(nets)), torch.arange(units)
    for one, rows in enumerate(stack[:-1]):
        nearest = (stack[one + 1 :] @ rows.T).argmax(1)  # of the other's units, for each unit of this one
        fixed = (nearest == places).sum(1)
        yield from ((one, one + 1 + int(other)) for other in (fixed >= enough).nonzero().flatten())
