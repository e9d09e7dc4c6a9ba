"""Aligned distance of canonical forms: against noise, of copies by symmetry, and of independent nets.

    python benchmarks/canonical.py -o benchmarks/results/canonical.json

Every architecture is trained on digits for a few epochs with several seeds. Noise of a share of each tensor's root mean
square is added, and units are permuted and scaled by 10^U(-2, 2): the distance should grow in proportion, a slope of 1
in logarithms. Copies that are obfuscated, rescaled and permuted should have no distance and the same digest, and keep
the answers, which is checked first.
"""

from __future__ import annotations

import argparse
import math
import time
from copy import deepcopy
from itertools import combinations
from pathlib import Path
from statistics import median

import torch
from torch import nn

from whorl.bench.result import describe_machine
from whorl.data import SOURCES
from whorl.data.base import Dataset
from whorl.nets.base import Net
from whorl.nets.training import Schedule, build, fit
from whorl.storage import write_json
from whorl.symmetry.canonical import Canonical, canonical, centred
from whorl.symmetry.copies import distance, exact_hash
from whorl.symmetry.obfuscation import obfuscate, rescale, shuffle

NETS = {
    "mlp(width=64,depth=3)": 0.05,
    "lenet5": 0.02,
    "vgg(width=8)": 0.05,
    "resnet8(width=8)": 0.05,
    "mobilenet(width=8)": 0.05,
    "wrn(depth=10,widen=1)": 0.05,
}
SEEDS = 3
COPIES = 5
NOISE = [10.0**power for power in range(-6, 0)]


def trained(architecture: str, seed: int, data: Dataset) -> Net:
    generator = torch.Generator().manual_seed(seed)
    net = build(architecture, data.input_shape, data.outputs, generator)
    assert isinstance(net, Net)
    net.standardise(data.inputs())
    schedule = Schedule(epochs=4, learning_rate=NETS[architecture], policy="one-cycle")
    fit(net, data, schedule, generator=generator)
    return net.eval()


def noisy(net: Net, size: float, generator: torch.Generator) -> Net:
    copy = deepcopy(net)
    for weight in copy.parameters():
        scale = size * weight.data.square().mean().sqrt()
        weight.data += scale * torch.randn(weight.shape, generator=generator)
    return rescale(shuffle(copy, generator=generator), generator=generator)


def slope(pairs: list[tuple[float, float]]) -> float:
    xs, ys = ([math.log10(pair[side]) for pair in pairs] for side in (0, 1))
    x, y = sum(xs) / len(xs), sum(ys) / len(ys)
    return sum((a - x) * (b - y) for a, b in zip(xs, ys, strict=True)) / sum((a - x) ** 2 for a in xs)


@torch.no_grad()
def error_of(net: nn.Module, copy: nn.Module, data: Dataset) -> float:
    """How far a copy's logits are from the net's, of the largest."""
    inputs = data.inputs()[:200]
    one, other = centred(net, net(inputs)), centred(copy, copy(inputs))
    return float((one - other).abs().max() / one.abs().max())


def copies_of(net: Net, form: Canonical, data: Dataset, generator: torch.Generator) -> list[dict[str, object]]:
    found = []
    for _ in range(COPIES):
        copy = shuffle(rescale(obfuscate(net, generator=generator), generator=generator), generator=generator)
        other = canonical(copy)
        one_hash, other_hash = exact_hash(form), exact_hash(other)
        found.append(
            {
                "logit_error": error_of(net, copy, data),
                "removed": sum(other.removed.values()),
                "distance": distance(form, other, generator=generator).total,
                "same_digest": one_hash.digest == other_hash.digest,
                "hash_matches": one_hash.matches(other_hash),
            }
        )
    return found


def measured(architecture: str, data: Dataset) -> dict[str, object]:
    generator = torch.Generator().manual_seed(99)
    nets = [trained(architecture, seed, data) for seed in range(SEEDS)]
    forms = [canonical(net) for net in nets]
    pairs, copies, changed = [], [], []
    for net, form in zip(nets, forms, strict=True):
        for size in NOISE:
            other = canonical(noisy(net, size, generator))
            pairs.append((size, distance(form, other, generator=generator).total))
            if size == 1e-3:
                changed.append(exact_hash(form).digest != exact_hash(other).digest)
        copies += copies_of(net, form, data, generator)
    started = time.perf_counter()
    strangers = [distance(one, other, generator=generator).total for one, other in combinations(forms, 2)]
    by_noise = {f"{size:.0e}": [value for at, value in pairs if at == size] for size in NOISE}
    return {
        "slope": slope(pairs),
        "distance_by_noise": by_noise,
        "median_distance_over_noise": {key: median(values) / float(key) for key, values in by_noise.items()},
        "copies": copies,
        "largest_copy_distance": max(each["distance"] for each in copies),
        "copies_with_same_digest": sum(each["same_digest"] for each in copies),
        "copies_whose_hash_matches": sum(each["hash_matches"] for each in copies),
        "digests_changed_by_noise_of_1e-3": sum(changed),
        "independent_distances": strangers,
        "seconds_per_distance": (time.perf_counter() - started) / len(strangers),
        "merged_or_dead_in_the_originals": [sum(form.removed.values()) for form in forms],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True)
    output = parser.parse_args().output
    torch.set_num_threads(1)
    data = SOURCES.make("digits").load("victim")
    found = {}
    for architecture in NETS:
        found[architecture] = measured(architecture, data)
        print(architecture, {key: value for key, value in found[architecture].items() if key != "copies"})
    write_json(
        output, {"seeds": SEEDS, "copies": COPIES, "machine": describe_machine("cpu").model_dump(), "nets": found}
    )


if __name__ == "__main__":
    main()
