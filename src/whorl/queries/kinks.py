"""Short lines across the boundaries of hidden ReLUs, where a piecewise linear net bends.

On each side of the boundary ``z(x) = 0`` of one hidden ReLU the net is affine, and crossing it along the unit vector
``u = grad z / |grad z|`` bends the outputs by ``a |grad z|``, where ``a`` is the outputs' derivative with respect to
that ReLU's output. Least-norm Newton steps find such points, exactly as far as no other unit switches on the way, for
many starts and units at once and in float64. The critical points are those of Carlini, Jagielski & Mironov, CRYPTO
2020, who search for them without the weights.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Final

import torch
import torch.nn.functional as F
from annotated_types import Ge, Predicate, doc
from torch import Tensor
from torch.overrides import TorchFunctionMode

from whorl.data.base import Dataset
from whorl.errors import AccessRefused, UsageError
from whorl.layouts import Layout
from whorl.oracles.base import Oracle
from whorl.oracles.torch import TorchOracle
from whorl.queries.base import Sampler
from whorl.settings import Count
from whorl.types import Access, Queries

__all__ = ["Kinks", "ReLUNet"]

RELUS: Final = (F.relu, torch.relu, torch.Tensor.relu, F.relu_, torch.relu_, torch.Tensor.relu_)
CURVED: Final = (
    "gelu",
    "silu",
    "mish",
    "elu",
    "selu",
    "celu",
    "softplus",
    "sigmoid",
    "tanh",
    "hardswish",
    "layer_norm",
)
PROBE: Final = 1e-6  # a step within one linear piece, long enough for float64
ERROR: Final = 1e-6  # relative, of the bend; a line that shows more crosses a boundary of a max-pool
GRID: Final = 2.0**-24  # sums of its multiples in [0, 1] are exact in float32
SHARE: Final = 0.9  # of the way to the next boundary
BATCH: Final = 512
VALUES: Final = 2**24  # of float64 in memory, for what the ReLUs of a batch see


Odd = Annotated[int, Ge(3), Predicate(lambda count: count % 2 == 1), doc("an odd number from 3 on")]


@dataclass(frozen=True, kw_only=True)
class Kinks(Sampler):
    """Lines of ``points`` inputs, evenly spaced along the normal of a hidden ReLU's boundary, which passes the middle.

    Starts are uniform noise; no data are used. A line reaches 0.9 of the way to the nearest other boundary or out of
    [0, 1], on both sides. Of ``starts`` lines a query, those with the largest bend times spacing are kept, since
    that is what has to be seen among the rounding errors of a suspect's answers. ``iterations`` bounds the steps.

    Companions: ``direction`` ``[n, c, h, w]`` of length 1, ``spacing`` ``[n]`` between neighbours, ``kink``
    ``[n, classes]`` the bend of the victim's scores per unit of length, ``unit`` ``[n, 2]`` which ReLU call and unit.
    """

    needs_victim: ClassVar[Access] = Access.WEIGHTS
    tensors: ClassVar[Mapping[str, Layout]] = {
        "inputs": Layout("n points *input", "input"),
        "companions/direction": Layout("n *input", low=-1, high=1),
        "companions/spacing": Layout("n", low=0),
        "companions/kink": Layout("n k"),
        "companions/unit": Layout("n 2", "int64", 0),
    }
    needs_data: ClassVar[bool] = False

    points: Odd = 5
    starts: Count = 20
    iterations: Count = 10

    def sample(self, victim: Oracle, data: Dataset, *, budget: int, generator: torch.Generator) -> Queries:
        """Refuses nets without ReLUs, or with activations that bend everywhere."""
        del data
        if self.points < 3 or not self.points % 2:
            raise UsageError(f"a line has an odd number of points from 3 on, not {self.points}")
        if not isinstance(victim, TorchOracle):
            raise AccessRefused(f"kinks are found in PyTorch weights; {victim.name} is {type(victim).__name__}")
        net = ReLUNet(victim)
        sizes = torch.ones(budget * self.starts).split(min(BATCH, max(1, VALUES // net.units)))
        bends = _join([self._search(net, len(size), generator) for size in sizes])
        order = (bends["kink"].norm(dim=1) * bends["reach"]).argsort(descending=True, stable=True)
        lines: list[dict[str, Tensor]] = []
        count = 0
        for rows in order.split(budget):
            lines.append(_draw(net, {name: values[rows] for name, values in bends.items()}, self.points // 2))
            count += len(lines[-1]["error"])
            if count >= budget:
                break
        else:
            raise UsageError(
                f"{count} of {budget} kinks were found in {victim.name}; ask for fewer, or raise starts={self.starts}"
            )
        drawn = {name: values[:budget] for name, values in _join(lines).items()}
        notes = {
            "units": net.units,
            "smallest_spacing": float(drawn["spacing"].min()),
            "largest_error": float(drawn.pop("error").max()),
        }
        return Queries(drawn.pop("inputs"), drawn, notes)

    def _search(self, net: ReLUNet, count: int, generator: torch.Generator) -> dict[str, Tensor]:
        """From ``count`` starts, the points on boundaries that were found, each with its surroundings."""
        start = torch.rand(count, *net.input_shape, generator=generator, dtype=torch.float64)
        units = _choose(net, start, generator)
        point, normal, near = _approach(net, start, units, self.iterations)
        point, normal, units = point[near], normal[near], units[near]
        direction = normal / _as_rows(normal.flatten(1).norm(dim=1).clamp_min(1e-300), normal)
        kink, reach = _surroundings(net, point, direction, units)
        return {"point": point, "direction": direction, "kink": kink, "reach": reach, "units": units}


def _draw(net: ReLUNet, bends: Mapping[str, Tensor], half: int) -> dict[str, Tensor]:
    """The lines of those bends that show the kink and nothing else."""
    point, direction, kink = bends["point"], bends["direction"], bends["kink"]
    length = SHARE * bends["reach"] / half
    step = _as_rows(length, direction) * direction
    wanted = kink * length[:, None]
    seen = _second_differences(net, _line(point, step, half))
    seen[:, half - 1] -= wanted
    good = (wanted.norm(dim=1) > 0) & (seen.norm(dim=2).amax(1) <= ERROR * wanted.norm(dim=1))
    # Were each input rounded on its own, the slopes on both sides would not cancel any more.
    inputs = _line((point / GRID).round() * GRID, (step / GRID).round() * GRID, half)
    spacing = ((inputs[:, 1] - inputs[:, 0]) * direction).flatten(1).sum(1)
    stored = _second_differences(net, inputs)[:, half - 1] / spacing.clamp_min(GRID)[:, None]
    lines = {
        "inputs": inputs.float(),
        "direction": direction.float(),
        "spacing": spacing.float(),
        "kink": kink.float(),
        "unit": torch.stack(net.place(bends["units"]), dim=1),
        "error": (stored - kink).norm(dim=1) / kink.norm(dim=1).clamp_min(1e-300),
    }
    return {name: values[good & (spacing > GRID)] for name, values in lines.items()}


class ReLUNet:
    """A victim in float64, with what its ReLUs see. Raises `UsageError` for a net that is not piecewise linear."""

    def __init__(self, victim: TorchOracle) -> None:
        self.input_shape = victim.input_shape
        self._centred = victim.task == "classification"
        self._module = copy.deepcopy(victim.module).cpu().double().eval().requires_grad_(False)
        watch = _Watch()
        with watch, torch.no_grad():
            self._module(torch.full((1, *victim.input_shape), 0.5, dtype=torch.float64))
        if watch.curved:
            raise UsageError(
                f"{victim.name} bends everywhere ({', '.join(sorted(watch.curved))}); this needs a net of ReLUs"
            )
        if not watch.seen:
            raise UsageError(f"{victim.name} has no ReLU; this needs a net of ReLUs")
        self.widths = torch.tensor([seen.shape[1] for seen in watch.seen])

    @property
    def units(self) -> int:
        """How many ReLUs there are, each position of a feature map counted."""
        return int(self.widths.sum())

    def __call__(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """What each ReLU sees ``[n, units]``, whose signs say on which linear piece a point lies; and the scores."""
        with _Watch() as watch:
            outputs = self._module(inputs)
        return torch.cat(watch.seen, dim=1), self._scores(outputs)

    @torch.no_grad()
    def scores(self, inputs: Tensor) -> Tensor:
        """``[n, classes]`` as `Oracle.scores` gives them, in float64."""
        return self._scores(self._module(inputs))

    def _scores(self, outputs: Tensor) -> Tensor:
        return outputs - outputs.mean(1, keepdim=True) if self._centred else outputs

    def place(self, units: Tensor) -> tuple[Tensor, Tensor]:
        """Which call of ReLU each of ``units`` ``[n]`` belongs to, and its number there."""
        ends = self.widths.cumsum(0)
        layer = torch.bucketize(units, ends, right=True)
        return layer, units - (ends - self.widths)[layer]


class _Watch(TorchFunctionMode):
    """Notes the inputs of every ReLU, however it is written, and the names of curved activations."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []
        self.curved: set[str] = set()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func in RELUS:
            self.seen.append(args[0].flatten(1).clone())  # it may be overwritten in place
        elif (name := getattr(func, "__name__", "")) in CURVED:
            self.curved.add(name)
        return func(*args, **(kwargs or {}))


def _choose(net: ReLUNet, start: Tensor, generator: torch.Generator) -> Tensor:
    """For each start a random layer, and in it a random unit ``[n]`` among the quarter that is nearest to switching."""
    with torch.no_grad():
        values = net(start)[0].abs()
    begins = net.widths.cumsum(0) - net.widths
    layer = torch.randint(len(net.widths), (len(start),), generator=generator)
    luck = torch.rand(len(start), generator=generator)
    units = torch.empty(len(start), dtype=torch.int64)
    for number, (begin, width) in enumerate(zip(begins.tolist(), net.widths.tolist(), strict=True)):
        rows = layer == number
        order = values[rows, begin : begin + width].argsort(dim=1)
        rank = (luck[rows] * max(1, width // 4)).long()
        units[rows] = begin + order.gather(1, rank[:, None]).squeeze(1)
    return units


def _approach(net: ReLUNet, start: Tensor, units: Tensor, iterations: int) -> tuple[Tensor, Tensor, Tensor]:
    """Least-norm Newton steps to ``z = 0``: the points, the gradients of z there, and which rows arrived."""
    point, normal = start.clone(), torch.zeros_like(start)
    arrived = torch.zeros(len(start), dtype=torch.bool)
    rows = torch.arange(len(start))
    for _ in range(iterations):
        here = point[rows].requires_grad_()
        value = net(here)[0].gather(1, units[rows, None]).squeeze(1)
        (slope,) = torch.autograd.grad(value.sum(), here)
        value, square = value.detach(), slope.flatten(1).square().sum(1)
        normal[rows] = slope
        done = value.abs() <= 1e-12 * square.sqrt()
        arrived[rows] = done & (square > 0)
        going = ~done & (square > 0)
        if not going.any():
            break
        step = _as_rows(value / square.clamp_min(1e-300), slope) * slope
        point[rows[going]] = (here.detach() - step)[going].clamp(0, 1)
        rows = rows[going]
    return point, normal, arrived


@torch.no_grad()
def _surroundings(net: ReLUNet, point: Tensor, direction: Tensor, units: Tensor) -> tuple[Tensor, Tensor]:
    """The bend of the scores ``[n, classes]`` at each point, and the way ``[n]`` to the next bend or to the box.

    On either side all is linear up to the next boundary, so one probe a side tells how far that is.
    """
    values, scores = net(point)
    kink, reach = torch.zeros_like(scores), torch.full((len(point),), torch.inf, dtype=torch.float64)
    for side in (1.0, -1.0):
        there, moved = net(point + side * PROBE * direction)
        kink += (moved - scores) / PROBE
        slopes = (there - values) / PROBE
        ways = torch.where(slopes * values < 0, -values / slopes, torch.inf).scatter(1, units[:, None], torch.inf)
        box = torch.where(direction * side > 0, 1 - point, point) / direction.abs().clamp_min(1e-300)
        reach = torch.minimum(reach, torch.minimum(ways.amin(1), box.flatten(1).amin(1)))
    return kink, reach


def _join(parts: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _line(point: Tensor, step: Tensor, half: int) -> Tensor:
    """``[n, 2 half + 1, c, h, w]``, with the points in the middle."""
    steps = torch.arange(-half, half + 1, dtype=point.dtype)[:, None, None, None]
    return point[:, None] + steps * step[:, None]


def _second_differences(net: ReLUNet, inputs: Tensor) -> Tensor:
    """``[n, m - 2, classes]`` of the scores along lines ``[n, m, c, h, w]``."""
    return net.scores(inputs.flatten(0, 1)).unflatten(0, inputs.shape[:2]).diff(n=2, dim=1)


def _as_rows(values: Tensor, like: Tensor) -> Tensor:
    return values.view(-1, *[1] * (like.ndim - 1))
