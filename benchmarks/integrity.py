"""How small a change of a served model is seen, and what is taken for one that is none.

Five perceptrons of width 32 on digits at 8 pixels and three ResNet-8 of width 8 on textures at 16 pixels, each with 40
queries of three integrity checks: two decimals of the probabilities, labels of sensitive samples, labels next to the
boundary. Changes: every weight by a share of its tensor's spread, and one weight of the net by a share of its tensor's
largest. Ten draws of each. Benign: eleven batch sizes, double precision, an ONNX export, traced, 2 threads. A keyed
switch and a learned one stand before another net. Seen is what `whorl verify` calls changed; `by_queries` leaves the
control pictures out. Nothing was chosen.

Run: python benchmarks/integrity.py [-o benchmarks/results/integrity.json]
"""

from __future__ import annotations

import argparse
import copy
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

import whorl
from whorl.bench.result import describe_machine
from whorl.detection.integrity import Integrity
from whorl.nets.training import Schedule, build, fit
from whorl.oracles.base import Oracle
from whorl.oracles.keyed import KeyedSwitch
from whorl.oracles.learned_switch import LearnedSwitch
from whorl.oracles.torch import TorchOracle
from whorl.storage import write_json
from whorl.types import Fingerprint

NETS: Final = (
    ("mlp(width=32)", "digits(size=8)", 30, 5),
    ("resnet8(width=8)", "textures(size=16, images=2000)", 10, 3),
)
SCHEMES: Final = ("sensitive-samples", "sensitive-samples-labels", "near-boundary")
QUERIES: Final = 40
ALL: Final = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)  # of the spread of each tensor
ONE: Final = (1e-3, 1e-2, 1e-1, 1.0)  # of the largest weight of its tensor
DRAWS: Final = 10
BATCHES: Final = (1, 2, 3, 5, 7, 16, 33, 64, 100, 256, 1000)


class Double(nn.Module):
    """A net that computes in double precision."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = copy.deepcopy(inner).double()

    def forward(self, inputs: Tensor) -> Tensor:
        """As the inner net, in the end."""
        return self.inner(inputs.double()).float()


def trained(architecture: str, data: str, epochs: int, seed: int) -> TorchOracle:
    """A net of one seed."""
    pictures, generator = whorl.SOURCES.make(data).load("victim"), torch.Generator().manual_seed(seed)
    net = build(architecture, pictures.input_shape, len(pictures.classes), generator)
    fit(net, pictures, Schedule(epochs=epochs, learning_rate=0.1, policy="one-cycle"), generator=generator)
    return served(net, pictures.input_shape)


def served(net: nn.Module, shape: tuple[int, ...], *, batch: int = 256) -> TorchOracle:
    return TorchOracle(net, input_shape=shape, classes=10, batch=batch)


def everywhere(net: nn.Module, share: float, generator: torch.Generator) -> nn.Module:
    """Every weight moved by a normal number times a share of its tensor's spread."""
    changed = copy.deepcopy(net)
    with torch.no_grad():
        for weight in changed.parameters():
            if weight.numel() > 1:
                weight += share * weight.std() * torch.randn(weight.shape, generator=generator)
    return changed


def once(net: nn.Module, share: float, generator: torch.Generator) -> nn.Module:
    """One weight, drawn among all, moved by a share of the largest of its tensor."""
    changed = copy.deepcopy(net)
    weights = list(changed.parameters())
    place = int(torch.randint(sum(each.numel() for each in weights), (), generator=generator))
    with torch.no_grad():
        for weight in weights:
            if place < weight.numel():  # not by a view: convolutions may lie channels last
                weight[torch.unravel_index(torch.tensor(place), weight.shape)] += share * weight.abs().max()
                break
            place -= weight.numel()
    return changed


def benign(victim: TorchOracle, folder: Path) -> Iterator[Oracle]:
    """The same model, served otherwise."""
    net, shape = victim.module, victim.input_shape
    yield from (served(net, shape, batch=batch) for batch in BATCHES)
    yield served(Double(net), shape)
    example = torch.zeros(1, *shape)
    traced = torch.jit.trace(copy.deepcopy(net).eval(), example)
    assert isinstance(traced, nn.Module)
    yield served(traced, shape)
    with_any_batch = {"input_names": ["x"], "dynamic_axes": {"x": {0: "n"}}}
    torch.onnx.export(net, (example,), folder / "net.onnx", dynamo=False, **with_any_batch)
    yield whorl.open_oracle(folder / "net.onnx")
    torch.set_num_threads(2)
    yield served(net, shape)
    torch.set_num_threads(1)


def asked(fingerprint: Fingerprint, suspects: Iterator[Oracle] | list[Oracle]) -> dict[str, Any]:
    """How many of the suspects are called changed, by everything and by the queries alone."""
    found = [each for each in (whorl.verify(fingerprint, each) for each in suspects) if isinstance(each, Integrity)]
    return {
        "asked": len(found),
        "changed": sum(each.decision == "changed" for each in found),
        "by_queries": sum(each.changed > each.drawn_changed for each in found),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=Path("benchmarks/results/integrity.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    started = time.perf_counter()
    rows: list[dict[str, Any]] = []
    for architecture, data, epochs, nets in NETS:
        for number in range(nets):
            victim, other = (trained(architecture, data, epochs, seed) for seed in (number, 100 + number))
            for scheme in SCHEMES:
                row = {"net": architecture, "victim": number, "scheme": scheme, **measured(victim, other, data, scheme)}
                rows.append(row)
                print(row, flush=True)
        document = {
            "queries": QUERIES,
            "rows": rows,
            "seconds": round(time.perf_counter() - started),
            "machine": describe_machine("cpu").model_dump(),
        }
        write_json(options.output, document)


def measured(victim: TorchOracle, other: TorchOracle, data: str, scheme: str) -> dict[str, Any]:
    """What one check of one victim calls changed."""
    fingerprint = whorl.extract(victim, data=data, scheme=scheme, budget=QUERIES)
    generator = torch.Generator().manual_seed(1)
    net, shape, pictures = victim.module, victim.input_shape, whorl.SOURCES.make(data).load("calibration").inputs()

    def drawn(change: Callable[[nn.Module, float, torch.Generator], nn.Module], share: float) -> dict[str, Any]:
        return asked(fingerprint, [served(change(net, share, generator), shape) for _ in range(DRAWS)])

    with tempfile.TemporaryDirectory() as folder:
        unchanged = asked(fingerprint, benign(victim, Path(folder)))
    keyed = KeyedSwitch(victim, other, bytes(range(32)))
    learned = LearnedSwitch(victim, other, pictures, generator=generator)
    return {
        "benign": unchanged,
        "every weight": {str(share): drawn(everywhere, share) for share in ALL},
        "one weight": {str(share): drawn(once, share) for share in ONE},
        "another net": asked(fingerprint, [other]),
        "keyed switch": asked(fingerprint, [keyed]),
        "learned switch": asked(fingerprint, [learned]),
    }


if __name__ == "__main__":
    main()
