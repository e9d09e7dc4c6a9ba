"""The tests of independence on two nets, layer by layer: which matrices go into which test, and what came out.

A net is read one matrix at a time. Where a net has experts, its hidden units are those of all experts of a layer
together for tests that match units, so that experts in another order, or copies of one dense layer, are found; tests of
places compare an expert with the one of the same number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn.functional import normalize

from whorl.catalog import Catalog
from whorl.checkpoints.roles import Key, Weights
from whorl.detection.exact import fisher, log_poisson_tail
from whorl.weights.exchangeable import has_order
from whorl.weights.independence import Fixed, Matches, Signs, fixed_points, match_units, matches, sign_flips
from whorl.weights.pairing import Basis, spread

__all__ = ["TESTS", "Finding", "Observation", "Test", "about", "findings"]

ROWS: Final = 256  # units of A whose place is tested in each layer
UNITS: Final = 2048  # units of A that are matched in each expert
TINY: Final = 1e-12  # a norm below which a unit is nobody's nearest
EXPERTS: Final = 2  # experts of A whose units are matched in each layer


Counted = Signs | Fixed | Matches


@dataclass(frozen=True)
class Test:
    """What a test assumes, what its p-value means, and what evades it.

    Only one that ``decides`` enters the p-value of the whole.
    """

    null_hypothesis: str
    assumption: str
    evasion: str
    exact: bool
    decides: bool = True

    def observe(
        self, first: Weights, second: Weights, axes: Basis, layer: int, paired: int
    ) -> Iterator[tuple[Counted, float]]:
        """What is counted in a layer of A and the one of B, with the share that chance leads one to expect.

        A test of another package overrides this and reads what it needs. Those of whorl count nothing here: `_layer`
        reads every matrix once for all of them.
        """
        del first, second, axes, layer, paired
        yield from ()


ALONE: Final = "the training of one of the two nets did not depend on the other"
GATED_SIGNS: Final = Test(
    f"{ALONE}; then each matched hidden unit has its sign of the ungated branch by a fair coin",
    "initial weights symmetric about zero, no bias on the ungated branch; an optimiser that commutes with flips",
    "negating the ungated branch and its columns at random",
    exact=True,
)
VALUE_SIGNS: Final = Test(
    f"{ALONE}; then each matched value coordinate has its sign by a fair coin",
    "initial weights symmetric about zero; an optimiser that commutes with sign flips",
    "mixing value and output matrices inside a head, or negating their coordinates at random",
    exact=True,
)
UNIT_PLACES: Final = Test(
    f"{ALONE}; then the order of hidden units is a uniformly random permutation",
    "hidden units alike at the start; an optimiser that commutes with permutations",
    "permuting the hidden units, or rotating the residual stream",
    exact=True,
)
ROW_PLACES: Final = Test(
    f"{ALONE}; then the order of rows is a uniformly random permutation",
    "that rows are units and may be permuted, which names and shapes do not show; else as places of units",
    "permuting the rows",
    exact=False,
)
AXIS_PLACES: Final = Test(
    f"{ALONE}; then the order of the residual stream's axes is a uniformly random permutation",
    "axes alike at the start; an optimiser that commutes with permutations",
    "permuting or rotating the residual stream; a new embedding",
    exact=True,
)
UNIT_RANKS: Final = Test(
    f"{ALONE}; then the best one-to-one matching of hidden units is a uniformly random permutation",
    "hidden units alike at the start; an optimiser that commutes with permutations",
    "permuting the hidden units, or those of the layer before",
    exact=True,
)
TWO_MATCHINGS: Final = Test(
    f"{ALONE}; then matchings of units by two of their parts, or by two tensors, agree by chance",
    "an approximation: Poisson, with a mean from strata of norms and nearest units, and a 32nd of all alike",
    "mixing hidden units, which no function-preserving change of a net with activations can do; training anew",
    exact=False,
)
MATCHED_UNITS: Final = Test(
    f"{ALONE}; then what units read and what they write agree no more than hubs make them",
    "that nets of one kind of data learn different units, which is not so: it shows likeness and decides nothing",
    "mixing hidden units, which no function-preserving change of a net with activations can do; training anew",
    exact=False,
    decides=False,
)
TESTS: Catalog[Test] = Catalog(
    "weight_tests",
    {
        "gated signs": "whorl.weights.findings:GATED_SIGNS",
        "value signs": "whorl.weights.findings:VALUE_SIGNS",
        "unit places": "whorl.weights.findings:UNIT_PLACES",
        "row places": "whorl.weights.findings:ROW_PLACES",
        "axis places": "whorl.weights.findings:AXIS_PLACES",
        "unit ranks": "whorl.weights.findings:UNIT_RANKS",
        "two matchings": "whorl.weights.findings:TWO_MATCHINGS",
        "matched units": "whorl.weights.findings:MATCHED_UNITS",
    },
)


def about(name: str) -> Test:
    """What a test assumes and means. Raises `UsageError` for no such test."""
    found: Any = TESTS[name]
    return found


@dataclass(frozen=True)
class Observation:
    """What a test saw in one place: a layer of A and the one of B, or a tensor by ``name``.

    ``share`` is from 0 to 1 (a correlation from -1), with ``chance`` what the null leads one to expect.
    """

    layer: int
    paired: int
    share: float
    chance: float
    log_p: float
    name: str = ""


Layers = Iterable[tuple[int, int]]
Tests = list[tuple[str, Observation, Counted]]
Through = Callable[[Callable[[tuple[int, int]], Tests], Layers], Iterable[Tests]]


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
        return about(self.test).exact

    @property
    def decides(self) -> bool:
        """Whether its p-value counts."""
        return about(self.test).decides


def findings(
    first: Weights, second: Weights, axes: Basis | None, layers: Mapping[int, int], through: Through = map
) -> list[Finding]:
    """Every test that these two nets admit.

    ``layers`` are layers of A, each with its layer of B; ``through`` goes through them as `map` does.
    """
    seen: dict[str, list[tuple[Observation, Counted]]] = {name: [] for name in TESTS.in_order()}
    if axes is not None:
        for tests in through(lambda pair: list(_observed(first, second, axes, *pair)), layers.items()):
            for name, observation, found in tests:
                seen[name].append((observation, found))
    ours, theirs = (axes.ours, axes.theirs) if axes else (None, None)
    if ours is not None and theirs is not None and len(ours) == len(theirs) and _alike(first) and _alike(second):
        found = fixed_points(ours, theirs)
        seen["axis places"].append((Observation(-1, -1, _share(found), 1 / found.units, found.log_p), found))
    return [_finding(name, rows) for name, rows in seen.items() if rows]


def _alike(net: Weights) -> bool:
    """Whether the axes of the residual stream may be permuted, as far as the file shows.

    Waves that are added to the stream (Vaswani et al., NeurIPS 2017, section 3.5) give each axis a frequency: nets that
    were trained apart then put the same things on the same axes. A table that was learned does not.
    """
    if (key := Key("position")) in net:
        return not has_order(net.read(*key).flatten(0, -2).T)
    return net.structure.gated or not net.structure.placed


def _share(found: Counted) -> float:
    match found:
        case Signs(agreements, trials):
            return agreements / trials if trials else 0.0
        case Fixed(fixed, rows, _):
            return fixed / rows
        case Matches(agreements, rows, _):
            return agreements / rows


def _finding(name: str, rows: list[tuple[Observation, Counted]]) -> Finding:
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
    agreed, expected = sum(each.agreements for each in pairs), sum(each.allowed for each in pairs)
    told = f"{agreed:,} of {sum(each.rows for each in pairs):,} matched alike, {expected:.1f} allowed"
    return Finding(name, log_poisson_tail(agreed, expected), told, observations)


def _observed(
    first: Weights, second: Weights, axes: Basis, layer: int, paired: int
) -> Iterator[tuple[str, Observation, Counted]]:
    counted = [
        *_layer(first, second, axes, layer, paired),
        *(
            (name, found, chance)
            for name in TESTS.in_order()
            for found, chance in about(name).observe(first, second, axes, layer, paired)
        ),
    ]
    for name, found, chance in counted:
        yield name, Observation(layer, paired, _share(found), chance, found.log_p), found


def _layer(
    first: Weights, second: Weights, axes: Basis, layer: int, paired: int
) -> Iterator[tuple[str, Counted, float]]:
    """The tests of one layer. Every matrix is read once."""
    gated = first.structure.gated and second.structure.gated
    ours, theirs = _Hidden(first, layer, gated, axes.ours), _Hidden(second, paired, gated, axes.theirs)
    chance = torch.Generator().manual_seed(layer)
    if ours.experts and theirs.experts:
        one = ours.signatures(UNITS, EXPERTS)
        fits = first.structure.width == second.structure.width and len(ours.places) and ours.units <= theirs.units
        two = theirs.signatures(near=ours.probes if fits else None)
        if fits:
            found = Fixed(int((theirs.nearest == ours.places).sum()), len(ours.places), theirs.units)
            yield "unit places", found, 1 / found.units
        guide = match_units(one[0], two[0], generator=chance)
        if gated:
            yield "gated signs", sign_flips(one[1], two[1], guide), 0.5
        other = match_units(one[1], two[1], signed=False, generator=chance)
        found = matches(guide, other, one[0].norm(dim=1) * one[1].norm(dim=1))
        yield "two matchings" if gated else "matched units", found, found.allowed / max(1, found.rows)
    if Key("value", layer) in first and Key("value", paired) in second:
        ours, theirs = Key("value", layer), Key("value", paired)
        values = _seen(first, ours, axes.ours, spread(first.rows(*ours), UNITS))
        yield "value signs", sign_flips(values, _seen(second, theirs, axes.theirs, range(second.rows(*theirs)))), 0.5


class _Hidden:
    """The hidden units of a layer.

    Reading them leaves some rows of the first expert's ``up`` in the stream's own axes (``probes``, which stood in
    ``places``), and for each row of another net's probes the ``nearest`` unit here.
    """

    probes: Tensor
    places: Tensor
    nearest: Tensor

    def __init__(self, net: Weights, layer: int, gated: bool, axes: Tensor | None) -> None:
        self.net, self.layer, self.gated, self.axes = net, layer, gated, axes
        held = [expert for place, expert in net.structure.mlps() if place == layer]
        self.experts = [expert for expert in held if Key("gate" if gated else "down", layer, expert) in net]
        self.units = net.rows("up", layer, self.experts[0]) if self.experts else 0

    def signatures(
        self, most: int | None = None, experts: int | None = None, near: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Two of [units, m]: gate and up, or up and what the unit writes. At most so many units, and experts."""
        pairs: list[tuple[Tensor, Tensor]] = []
        for place, expert in enumerate(self.experts[:experts]):
            total = self.net.rows("up", self.layer, expert)
            rows = range(total) if most is None else spread(total, most)
            up = self._up(expert, rows, near, first=place == 0)
            gate = _seen(self.net, Key("gate", self.layer, expert), self.axes, rows) if self.gated else None
            pairs.append((up, self._written(expert, rows)) if gate is None else (gate, up))
        one, two = zip(*pairs, strict=True)
        return (one[0], two[0]) if len(pairs) == 1 else (torch.cat(one), torch.cat(two))

    def _up(self, expert: int, rows: Sequence[int], near: Tensor | None, *, first: bool) -> Tensor:
        key = Key("up", self.layer, expert)
        if not first:
            return _seen(self.net, key, self.axes, rows)
        chosen = torch.tensor(spread(len(rows), ROWS))
        probes: list[Tensor] = []
        best = _Nearest(near) if near is not None else None

        def look(block: Tensor, done: int) -> None:
            probes.append(block[chosen[(done <= chosen) & (chosen < done + len(block))] - done])
            if best is not None:
                best.add(block)

        seen = _seen(self.net, key, self.axes, rows, look)
        self.probes, self.places = torch.cat(probes), torch.tensor(list(rows))[chosen]
        self.nearest = best.place if best is not None else torch.empty(0)
        return seen

    def _written(self, expert: int, rows: Sequence[int]) -> Tensor:
        """What units write into the stream: columns of ``down``, as rows."""
        down = self.net.rows("down", self.layer, expert)
        if self.axes is None:
            return self.net.read("down", self.layer, expert)[:, list(rows)].T
        written, done = torch.zeros(len(rows), self.axes.shape[1]), 0
        for block in self.net.blocks("down", self.layer, expert, range(down)):
            written += block[:, list(rows)].T @ self.axes[done : done + len(block)]
            done += len(block)
        return written


class _Nearest:
    """For each probe the most similar of rows that come in blocks, drawn among those that are equally similar."""

    def __init__(self, probes: Tensor) -> None:
        self.probes = normalize(probes, dim=1)
        self.value = torch.full((len(probes),), -torch.inf)
        self.place = torch.zeros(len(probes), dtype=torch.long)
        self.tied = torch.zeros(len(probes))
        self.done = 0
        self.chance = torch.Generator().manual_seed(len(probes))

    def add(self, block: Tensor) -> None:
        """Rows that follow those of before."""
        order = torch.randperm(len(block), generator=self.chance)
        similarity = (self.probes @ block.T).div_(block.norm(dim=1).clamp_min(TINY))[:, order]
        value, place = similarity.max(1)
        tied = (similarity == value[:, None]).sum(1)
        before = torch.where(value == self.value, self.tied, 0)  # as many draws were made among these
        drawn = torch.rand(len(value), generator=self.chance) * (before + tied) < tied
        better = (value > self.value) | ((value == self.value) & drawn)
        self.place = torch.where(better, order[place] + self.done, self.place)
        self.tied = torch.where(value >= self.value, before + tied, self.tied)
        self.value = torch.maximum(value, self.value)
        self.done += len(block)


def _seen(
    net: Weights,
    key: Key,
    axes: Tensor | None,
    rows: Sequence[int],
    look: Callable[[Tensor, int], None] = lambda *_: None,
) -> Tensor:
    """Rows of a part, seen along axes: [rows, m]. ``look`` is shown each block of them, and how many went before."""
    seen, done = torch.empty(len(rows), net.shape(*key)[1] if axes is None else axes.shape[1]), 0
    for block in net.blocks(*key, rows):
        place = seen[done : done + len(block)]
        if axes is None:
            place.copy_(block)
        else:
            torch.mm(block, axes, out=place)
        look(block, done)
        done += len(block)
    return seen
