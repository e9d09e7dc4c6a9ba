"""The tests of independence on two nets, layer by layer: which matrices go into which test, and what came out.

A net is read one matrix at a time. Where a net has experts, its hidden units are those of all experts of a layer
together for tests that match units, so that experts in another order, or copies of one dense layer, are found; tests of
places compare an expert with the one of the same number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from whorl.detection.exact import fisher, log_poisson_tail
from whorl.weights.independence import Fixed, Matches, Signs, fixed_points, matches, sign_flips
from whorl.weights.pairing import Basis, spread
from whorl.weights.roles import Key, Weights

__all__ = ["ABOUT", "Finding", "Observation", "Test", "findings"]

ROWS: Final = 256  # units of A whose place is tested in each layer
EXPERTS: Final = 2  # experts of A whose units are matched in each layer


@dataclass(frozen=True)
class Test:
    """What a test assumes, what its p-value means, and what evades it."""

    null_hypothesis: str
    assumption: str
    evasion: str
    exact: bool


ALONE: Final = "the training of one of the two nets did not depend on the other"
ABOUT: Final = {
    "gated signs": Test(
        f"{ALONE}; then each matched hidden unit has its sign of the ungated branch by a fair coin",
        "initial weights symmetric about zero, no bias on the ungated branch; an optimiser that commutes with flips",
        "negating the ungated branch and its columns at random",
        exact=True,
    ),
    "value signs": Test(
        f"{ALONE}; then each matched value coordinate has its sign by a fair coin",
        "initial weights symmetric about zero; an optimiser that commutes with sign flips",
        "mixing value and output matrices inside a head, or negating their coordinates at random",
        exact=True,
    ),
    "unit places": Test(
        f"{ALONE}; then the order of hidden units is a uniformly random permutation",
        "hidden units alike at the start; an optimiser that commutes with permutations",
        "permuting the hidden units, or rotating the residual stream",
        exact=True,
    ),
    "axis places": Test(
        f"{ALONE}; then the order of the residual stream's axes is a uniformly random permutation",
        "axes alike at the start; an optimiser that commutes with permutations",
        "permuting or rotating the residual stream; a new embedding",
        exact=True,
    ),
    "two matchings": Test(
        f"{ALONE}; then two matchings of units, by different parts, agree no more than hubs make them",
        "an approximation: Poisson, with a mean from strata of norms and the nearest units of each part",
        "mixing hidden units, which no function-preserving change of a net with activations can do; training anew",
        exact=False,
    ),
}


@dataclass(frozen=True)
class Observation:
    """What a test saw in one place. ``share`` is from 0 to 1, with ``chance`` what the null leads one to expect."""

    layer: int
    paired: int
    share: float
    chance: float
    log_p: float


@dataclass(frozen=True)
class Finding:
    """One test over all places it looked at."""

    test: str
    log_p: float
    told: str
    observations: tuple[Observation, ...]

    @property
    def exact(self) -> bool:
        """Whether its p-value holds for any sample size."""
        return ABOUT[self.test].exact


def findings(
    first: Weights, second: Weights, axes: Basis | None, layers: dict[int, int], progress: Callable[[], None]
) -> list[Finding]:
    """Every test that these two nets admit. ``layers`` maps layers of A to layers of B; empty where nothing fits."""
    seen: dict[str, list[tuple[Observation, Signs | Fixed | Matches]]] = {name: [] for name in ABOUT}
    if axes is not None:
        for layer, paired in layers.items():
            for name, found, chance in _layer(first, second, axes, layer, paired):
                share = _share(found)
                seen[name].append((Observation(layer, paired, share, chance, found.log_p), found))
            progress()
    if axes is not None and axes.ours is not None and axes.theirs is not None and len(axes.ours) == len(axes.theirs):
        found = fixed_points(axes.ours, axes.theirs)
        seen["axis places"].append((Observation(-1, -1, _share(found), 1 / found.units, found.log_p), found))
    return [_finding(name, rows) for name, rows in seen.items() if rows]


def _share(found: Signs | Fixed | Matches) -> float:
    match found:
        case Signs(agreements, trials):
            return agreements / trials if trials else 0.0
        case Fixed(fixed, rows, _):
            return fixed / rows
        case Matches(agreements, rows, _):
            return agreements / rows


def _finding(name: str, rows: list[tuple[Observation, Signs | Fixed | Matches]]) -> Finding:
    """Counts of signs and matches are summed over layers, whose coins are independent; places are Fisher's."""
    kinds = [found for _, found in rows]
    observations = tuple(observation for observation, _ in rows)
    if signs := [found for found in kinds if isinstance(found, Signs)]:
        total = Signs(sum(each.agreements for each in signs), sum(each.trials for each in signs))
        return Finding(name, total.log_p, f"{total.agreements:,} of {total.trials:,} signs agree", observations)
    if places := [found for found in kinds if isinstance(found, Fixed)]:
        fixed, of = sum(each.fixed for each in places), sum(each.rows for each in places)
        return Finding(name, fisher([each.log_p for each in places]), f"{fixed:,} of {of:,} in place", observations)
    pairs = [found for found in kinds if isinstance(found, Matches)]
    agreed, expected = sum(each.agreements for each in pairs), sum(max(1.0, each.expected) for each in pairs)
    told = f"{agreed:,} of {sum(each.rows for each in pairs):,} matched alike, {expected:.1f} expected"
    return Finding(name, log_poisson_tail(agreed, expected), told, observations)


def _layer(
    first: Weights, second: Weights, axes: Basis, layer: int, paired: int
) -> Iterator[tuple[str, Signs | Fixed | Matches, float]]:
    gated = first.structure.gated and second.structure.gated
    ours = _hidden(first, layer, axes.ours, gated, EXPERTS)
    theirs = _hidden(second, paired, axes.theirs, gated, None)
    if ours is not None and theirs is not None:
        if gated:
            yield "gated signs", sign_flips((ours[1], theirs[1]), (ours[0], theirs[0])), 0.5
        found = matches(ours, theirs)
        yield "two matchings", found, found.expected / max(1, found.rows)
    if (values := _values(first, second, axes, layer, paired)) is not None:
        yield "value signs", sign_flips(values), 0.5
    if (units := _places(first, second, layer, paired)) is not None:
        found = fixed_points(*units[:2], places=units[2])
        yield "unit places", found, 1 / found.units


def _hidden(
    net: Weights, layer: int, axes: Tensor | None, gated: bool, experts: int | None
) -> tuple[Tensor, Tensor] | None:
    """Two signatures [units, m] of a layer's hidden units: gate and up, or up and what they write."""
    held = [expert for place, expert in net.structure.mlps() if place == layer][:experts]
    pairs: list[tuple[Tensor, Tensor]] = []
    for expert in held:
        up = net.folded("up", layer, expert)
        other = net.folded("gate", layer, expert) if gated else net.read("down", layer, expert).T
        if other.shape == up.shape:
            one, two = (other, up) if gated else (up, other)
            pairs.append((one, two) if axes is None else (one @ axes, two @ axes))
    if not pairs:
        return None
    return torch.cat([one for one, _ in pairs]), torch.cat([two for _, two in pairs])


def _values(first: Weights, second: Weights, axes: Basis, layer: int, paired: int) -> tuple[Tensor, Tensor] | None:
    if Key("value", layer) not in first or Key("value", paired) not in second:
        return None
    ours, theirs = first.folded("value", layer), second.folded("value", paired)
    if axes.ours is None or axes.theirs is None:
        return ours, theirs
    return ours @ axes.ours, theirs @ axes.theirs


def _places(first: Weights, second: Weights, layer: int, paired: int) -> tuple[Tensor, Tensor, Tensor] | None:
    """Some rows of A's hidden layer, all rows of B's, and where those of A stood: in the stream's own axes."""
    ours, theirs = (
        next((expert for place, expert in net.structure.mlps() if place == at), None)
        for net, at in ((first, layer), (second, paired))
    )
    if ours is None or theirs is None or first.structure.width != second.structure.width:
        return None
    rows, others = first.folded("up", layer, ours), second.folded("up", paired, theirs)
    if len(rows) > len(others):
        rows, others = others, rows
    places = torch.tensor(spread(len(rows), ROWS))
    return rows[places], others, places
