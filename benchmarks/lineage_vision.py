"""Vision nets with known parents: who is found from weights, by which test, and who is accused falsely.

    python benchmarks/lineage_vision.py [-o benchmarks/results/lineage-vision.json]

Nets without roles, compared by names and shapes alone: a perceptron, a VGG and a residual net, of eleven seeds on the
same pictures. Of three of them every removal that leaves weights, every change that keeps the function (which is
checked), and stacks of both; pairs that owe each other nothing, tuned ones of one second set of pictures among them;
twins (one initialisation, two orders of the pictures) and siblings (tuned from one net on different pictures); nets
that took over a third of the layers, and thieves that only asked.
"""

from __future__ import annotations

import argparse
import math
import re
import time
from collections.abc import Callable
from copy import deepcopy
from itertools import combinations, pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from lineage import row, strangers
from safetensors.torch import save_file
from torch import nn

from whorl.bench.result import describe_machine
from whorl.data import SOURCES
from whorl.data.base import Dataset
from whorl.nets.base import Net
from whorl.nets.training import Schedule, accuracy, build, fit
from whorl.oracles.torch import TorchOracle
from whorl.removals import REMOVALS
from whorl.storage import write_json
from whorl.symmetry.canonical import centred
from whorl.symmetry.channels import copied
from whorl.symmetry.folding import fold
from whorl.symmetry.obfuscation import obfuscate, rescale, shuffle
from whorl.weights.comparison import compare

NETS = {"mlp(width=48,depth=3)": 0.05, "vgg(width=16)": 0.05, "resnet8(width=16)": 0.1}
DATA = "digits(size=8)"
NUMBER = re.compile(r"\d+")
FIRST_SEED, SEEDS, VICTIMS = 500, 11, 3
DISGUISE = "shuffle -> rescale(2.0)"
MILD = "shuffle -> rescale(0.3)"  # with larger factors a net without norms does not train on
TASK = f"only({DATA},classes=[0, 1, 2, 3, 4])"
PLAIN = {
    "tuned": "fine_tune(all)",
    "tuned, last layer": "fine_tune(last)",
    "tuned long and hot": "fine_tune(all,epochs=30,learning_rate={rate})",
    "retrained": "retrain(all,epochs=10,learning_rate={rate})",
    "retrained, last layer": "retrain(last)",
    "another task": f"transfer({TASK},epochs=5)",
    "half the weights pruned": "prune_weights(1/2)",
    "nine tenths pruned": "prune_weights(9/10)",
    "half the filters pruned": "prune_filters(1/2)",
    "int8": "quantise(int8)",
    "int4": "quantise(int4)",
    "bf16": "quantise(bf16)",
    "noise 0.3": "noise(0.3)",
    "noise 1": "noise(1.0)",
    "noise 3": "noise(3.0)",
    "soup of tunes": "merge(linear)",
    "ties": "merge(ties)",
    "half a stranger": "stranger(0.5)",
    "three quarters a stranger": "stranger(0.75)",
    "lora": "lora(rank=4)",
    "low rank": "low_rank(1/4)",
    "regularised": "regularise",
    "PGD training": "adversarial_train(pgd,epochs=3)",
    "boundary scrambled": "scramble_boundary",
    "folded": "fold",
    "rescaled": "rescale(2.0)",
    "reparametrised": "reparametrise",
    "permuted": "shuffle",
    "obfuscated": "obfuscate",
}
STACKS = {
    "disguised": DISGUISE,
    **{
        f"disguised, {name}": f"{MILD} -> {PLAIN[name]}"
        for name in ("tuned", "half the weights pruned", "int4", "noise 0.3", "folded", "obfuscated")
    },
    **{
        f"{name}, disguised": f"{PLAIN[name]} -> {DISGUISE}"
        for name in (
            *("tuned long and hot", "retrained", "another task", "nine tenths pruned", "half the filters pruned"),
            *("noise 1", "noise 3", "half a stranger", "three quarters a stranger", "low rank", "PGD training"),
        )
    },
    "obfuscated, disguised, tuned": f"obfuscate -> {MILD} -> fine_tune(all)",
}
UNFINDABLE = {
    "labels asked": "extract({net},labels,epochs=12,learning_rate={rate})",
    "distilled": "distil({net},epochs=12,learning_rate={rate})",
}
KEEPING = {"fold": fold, "shuffle": shuffle, "rescale": rescale, "obfuscate": obfuscate}

Pictures = dict[str, Dataset]


def trained(architecture: str, data: Dataset, seed: int, order: int | None = None) -> Net:
    """A net of ``seed``; with an ``order``, one that begins with the same weights and sees other batches."""
    generator = torch.Generator().manual_seed(seed)
    net = build(architecture, data.input_shape, data.outputs, generator)
    assert isinstance(net, Net)
    net.standardise(data.inputs())
    schedule = Schedule(epochs=12, learning_rate=NETS[architecture], policy="one-cycle", batch=50)
    fit(net, data, schedule, generator=generator if order is None else torch.Generator().manual_seed(order))
    return net.eval()


def kept(net: Net, step: str, generator: torch.Generator, inputs: torch.Tensor, **settings: float) -> Net:
    """A change that keeps the function, and a check that it does."""
    if step == "fold":
        made = copied(net)
        fold(made)
    else:
        made = KEEPING[step](net, generator=generator, **settings)
    with torch.no_grad():
        before, after = (centred(each, each(inputs)) for each in (net, made.eval()))
    assert float((before - after).abs().max()) < 1e-3 * float(before.abs().max()), step
    return made


@torch.no_grad()
def mixed(net: Net, other: Net, share: float) -> Net:
    made, theirs = deepcopy(net), other.state_dict()
    made.load_state_dict(
        {k: v.lerp(theirs[k], share) if v.is_floating_point() else v for k, v in net.state_dict().items()}
    )
    return made


@torch.no_grad()
def noisy(net: Net, size: float, generator: torch.Generator) -> Net:
    made = deepcopy(net)
    for weight in made.parameters():
        if weight.ndim > 1:
            weight.add_(size * weight.std() * torch.randn(weight.shape, generator=generator))
    return made


def grafted(net: Net, other: Net, *, matrices_alone: bool = False) -> Net:
    """A stranger with the first third of this net's layers, or with their matrices and the stranger's vectors."""
    made, theirs = deepcopy(other), net.state_dict()
    names = [name for name, value in theirs.items() if value.ndim > 1 and value.numel() > value.shape[0]]
    held = names[: len(names) // 3]
    if not matrices_alone:  # vectors have the number of their matrix in their name, wherever they stand
        numbers = {NUMBER.findall(name)[0] for name in held}
        held += [name for name, value in theirs.items() if value.ndim == 1 and numbers & set(NUMBER.findall(name)[:1])]
    made.load_state_dict(made.state_dict() | {name: theirs[name] for name in held})
    return made


def made_of(net: Net, steps: str, stranger: Net, data: Pictures, seed: int) -> Net:
    """What a chain of steps makes of a net."""
    generator = torch.Generator().manual_seed(seed)
    for step in steps.split(" -> "):
        name, _, rest = step.partition("(")
        if name in KEEPING:
            settings = {"spread": float(rest[:-1])} if rest else {}
            net = kept(net, name, generator, data["test"].inputs()[:50], **settings)
        elif name == "noise":
            net = noisy(net, float(rest[:-1]), generator)
        elif name == "stranger":
            net = mixed(net, stranger, float(rest[:-1]))
        else:
            oracle = TorchOracle(net, input_shape=net.input_shape, classes=net.classes, name="victim")
            pictures = SOURCES.make(TASK).load("attacker") if name == "transfer" else data["attacker"]
            made = REMOVALS.make(step)(oracle, pictures, generator=generator)
            assert isinstance(made, Net)
            net = made
    return net


class Pairs:
    """Comparisons of nets, through files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.seconds = 0.0
        self.count = 0

    def __call__(self, one: nn.Module, two: nn.Module) -> dict[str, Any]:
        """Write both, compare them, and keep the seconds of the comparison alone."""
        paths = [self.folder / f"{side}.safetensors" for side in "ab"]
        for net, path in zip((one, two), paths, strict=True):
            save_file({name: value.contiguous() for name, value in net.state_dict().items()}, path)
        started = time.perf_counter()
        told = row(compare(*paths, layers=0))
        self.seconds += time.perf_counter() - started
        self.count += 1
        return told


def measured(
    architecture: str, data: Pictures, compared: Callable[[nn.Module, nn.Module], dict[str, Any]]
) -> dict[str, Any]:
    nets = [trained(architecture, data["victim"], FIRST_SEED + seed) for seed in range(SEEDS)]
    document: dict[str, Any] = {"accuracy": [round(accuracy(net, data["test"]), 4) for net in nets]}
    groups = {"derived": PLAIN | STACKS, "unfindable": UNFINDABLE}
    for group, texts in groups.items():
        document[group] = {name: [] for name in texts}
        for place, net in enumerate(nets[:VICTIMS]):
            for name, text in texts.items():
                steps = text.format(net=architecture, rate=NETS[architecture])
                made = made_of(net, steps, nets[place + 1], data, seed=900 + place)
                right = round(accuracy(made, data["test"]), 4) if made.classes == net.classes else None
                document[group][name].append({"accuracy": right, **compared(net, made)})
    document["partial"] = [compared(net, grafted(net, other)) for net, other in pairwise(nets)]
    document["matrices alone"] = [
        compared(net, grafted(net, other, matrices_alone=True)) for net, other in pairwise(nets)
    ]
    seeds = range(FIRST_SEED, FIRST_SEED + SEEDS)
    twins = [trained(architecture, data["victim"], seed, order=7000 + seed) for seed in seeds]
    document["twins"] = [compared(*pair) for pair in zip(nets, twins, strict=True)]
    tuned = [made_of(net, "fine_tune(all)", net, data, seed=1) for net in nets]
    other = [made_of(net, "fine_tune(all)", net, data | {"attacker": data["calibration"]}, seed=2) for net in nets]
    document["siblings"] = [compared(*pair) for pair in zip(tuned, other, strict=True)]
    apart = [compared(*pair) for group in (nets, tuned) for pair in combinations(group, 2)]
    document["independent"] = strangers(apart)
    return document | {"summary": summary(document)}


def summary(document: dict[str, Any]) -> dict[str, Any]:
    found = {name: [each["log10_p"] for each in rows] for name, rows in document["derived"].items()}
    rows = [each for group in document["derived"].values() for each in group]
    return {
        "derivatives": len(rows),
        "found_1e-6": sum(each["log10_p"] < -6 for each in rows),
        "of these by exact tests": sum(exactly(each) < -6 for each in rows),
        "missed": {name: logs for name, logs in found.items() if max(logs) >= -6},
        "descent": sum(each["relation"] == "descent" for each in rows),
        "B first, wrongly": named(document, "direction", "B first"),
        "called a part": named(document, "decision", "part reused"),
        **{
            f"{group}: {kind}": sum(each["relation"] == kind for each in document[group])
            for group in ("twins", "siblings")
            for kind in ("descent", "common ancestor", "undetermined")
        },
    }


def named(document: dict[str, Any], key: str, value: str) -> list[str]:
    """Derivatives of which some were told to be so."""
    return [name for name, rows in document["derived"].items() if any(each[key] == value for each in rows)]


def exactly(told: dict[str, Any]) -> float:
    """log10 p of the whole, had only exact tests been made."""
    logs = [told["tests"][name] for name in ("unit places", "unit ranks") if name in told["tests"]]
    return min(0.0, min(logs) + math.log10(len(logs))) if logs else 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", help="architectures, all by default")
    parser.add_argument("-o", "--output", type=Path, default=Path("benchmarks/results/lineage-vision.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    source = SOURCES.make(DATA)
    data = {part: source.load(part) for part in ("victim", "attacker", "calibration", "test")}
    document: dict[str, Any] = {"machine": describe_machine("cpu").model_dump(), "data": DATA}
    document |= {"first_seed": FIRST_SEED, "seeds": SEEDS, "victims": VICTIMS, "nets": {}}
    for architecture in options.only or NETS:
        with TemporaryDirectory() as folder:
            compared = Pairs(Path(folder))
            document["nets"][architecture] = measured(architecture, data, compared)
            document["nets"][architecture]["summary"]["seconds_each"] = compared.seconds / compared.count
        told = document["nets"][architecture]
        apart = {key: value for key, value in told["independent"].items() if key != "log10_p"}
        print(architecture, told["summary"], apart, flush=True)
        write_json(options.output, document)


if __name__ == "__main__":
    main()
