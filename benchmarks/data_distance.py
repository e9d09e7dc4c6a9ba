"""Does the distance of data sets through models grow with the shift, and is its p-value uniform without one?

    python benchmarks/data_distance.py -o benchmarks/results/data-distance.json

Perceptrons of 24 units on textures at 8 pixels, 300 pictures each, 20 + 20 models. `noise` and `classes`: the shift
of the second set grows (noise of pixels from 0; the share of pictures that one half of the classes loses), in five
repeats; the baseline is the distance of class means of one sample of each set. `fresh`: no shift, every model has
pictures of its own. `halves`: no shift, all models of a set learn the same 300 pictures. `subsampled`: each learns
150 of these 300. The last three over 60 pairs. Nothing was chosen.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import kstest, spearmanr
from torch import Tensor
from torch.nn.functional import cross_entropy

from whorl.bench.result import describe_machine
from whorl.data import SOURCES
from whorl.detection.energy import energy_test
from whorl.explanations.data_distance import answer_distances
from whorl.storage import write_json

IMAGES, MODELS, WIDTH, STEPS, BATCH = 300, 20, 24, 150, 50
NOISES = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3)
LOST = (0.0, 0.15, 0.3, 0.45, 0.6, 0.75, 0.9)
REPEATS, PAIRS = 5, 60
Sample = tuple[Tensor, Tensor]


def textures(seed: int, count: int, noise: float = 0.0) -> Sample:
    """``count`` pictures ``[count, 192]`` and labels."""
    found = SOURCES.make(f"textures(size=8, images={2 * count}, noise={noise}, seed={seed})").load("victim")
    return found.inputs().flatten(1)[:count], found.labels[:count]


def cut(pictures: Sample, count: int) -> list[Sample]:
    return list(zip(pictures[0].split(count), pictures[1].split(count), strict=True))


def thinned(pool: Sample, lost: float, chance: torch.Generator) -> Sample:
    """A sample in which classes 0 to 4 are rarer by the share ``lost``."""
    weights = torch.where(pool[1] < 5, 1 - lost, 1.0).double()
    index = torch.multinomial(weights, IMAGES, generator=chance)
    return pool[0][index], pool[1][index]


def trained(samples: list[Sample], probes: Tensor, chance: torch.Generator) -> Tensor:
    """Answers ``[k, n, 10]`` of one perceptron for each sample, all trained together by SGD with momentum."""
    count, size = len(samples), samples[0][0].shape[1]
    inputs = torch.stack([each for each, _ in samples]) - 0.5
    labels = torch.stack([each for _, each in samples])
    first = (torch.randn(count, size, WIDTH, generator=chance) * (2 / size) ** 0.5).requires_grad_()
    second = (torch.randn(count, WIDTH, 10, generator=chance) * (2 / WIDTH) ** 0.5).requires_grad_()
    offsets = torch.zeros(count, 1, WIDTH).requires_grad_(), torch.zeros(count, 1, 10).requires_grad_()
    weights = [first, second, *offsets]

    def logits(at: Tensor) -> Tensor:
        return (at @ first + offsets[0]).relu() @ second + offsets[1]

    optimiser = torch.optim.SGD(weights, lr=0.1, momentum=0.9)
    for _ in range(STEPS):
        index = torch.randint(inputs.shape[1], (count, BATCH), generator=chance)
        rows = torch.arange(count)[:, None]
        found = logits(inputs[rows, index])
        loss = cross_entropy(found.flatten(0, 1), labels[rows, index].flatten(), reduction="sum") / BATCH
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        return logits(probes - 0.5).softmax(-1)


def compared(one: list[Sample], other: list[Sample], probes: Tensor, seed: int) -> dict[str, float]:
    answers = trained([*one, *other], probes, torch.Generator().manual_seed(seed))
    found = energy_test(answer_distances(answers).numpy(), len(one), generator=np.random.default_rng(seed))
    means = [torch.stack([x[y == label].mean(0) for label in range(10)]) for x, y in (one[0], other[0])]
    baseline = float((means[0] - means[1]).nan_to_num().norm(dim=1).mean())
    return {"distance": found.statistic, "p": found.p_value, "baseline": baseline}


def shifted(kind: str, level: float, repeat: int) -> dict[str, float]:
    seed = 10_000 + 100 * repeat
    plain = cut(textures(seed, MODELS * IMAGES), IMAGES)
    if kind == "noise":
        other = textures(seed + 1, MODELS * IMAGES, level)
        moved, probes = cut(other, IMAGES), torch.cat([textures(seed + 2, 100)[0], textures(seed + 3, 100, level)[0]])
    else:
        pool, chance = textures(seed + 1, 3 * MODELS * IMAGES), torch.Generator().manual_seed(seed)
        parts = cut(pool, 3 * IMAGES)
        moved, probes = [thinned(each, level, chance) for each in parts], textures(seed + 2, 200)[0]
    return compared(plain, moved, probes, seed + 4)


def unshifted(kind: str, pair: int) -> dict[str, float]:
    seed, chance = 20_000 + 10 * pair, torch.Generator().manual_seed(pair)
    probes = textures(seed + 2, 200)[0]
    if kind == "fresh":
        pools = [cut(textures(seed + side, MODELS * IMAGES), IMAGES) for side in (0, 1)]
        return compared(*pools, probes, seed + 4)
    halves = cut(textures(seed, 2 * IMAGES), IMAGES)
    if kind == "halves":
        return compared(*([half] * MODELS for half in halves), probes, seed + 4)
    draws = [[torch.randperm(IMAGES, generator=chance)[: IMAGES // 2] for _ in range(MODELS)] for _ in halves]
    return compared(
        *([(x[i], y[i]) for i in each] for (x, y), each in zip(halves, draws, strict=True)), probes, seed + 4
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, required=True)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    started, document = time.perf_counter(), dict[str, Any]()
    for kind, levels in (("noise", NOISES), ("classes", LOST)):
        rows = [[shifted(kind, level, repeat) for level in levels] for repeat in range(REPEATS)]
        orders = {
            key: [float(spearmanr(levels, [each[key] for each in row]).statistic) for row in rows]
            for key in ("distance", "baseline")
        }
        document[kind] = {"levels": levels, "rows": rows, "spearman": orders}
        print(kind, orders, [each["distance"] for each in rows[0]], flush=True)
    for kind in ("fresh", "halves", "subsampled"):
        rows = [unshifted(kind, pair) for pair in range(PAIRS)]
        p = [each["p"] for each in rows]
        told = {"ks_p": float(kstest(p, "uniform").pvalue), "below_05": sum(each <= 0.05 for each in p) / len(p)}
        document[kind] = told | {"p": p, "mean_distance": sum(each["distance"] for each in rows) / len(rows)}
        print(kind, told, flush=True)
    document |= {"seconds": round(time.perf_counter() - started), "machine": describe_machine("cpu").model_dump()}
    write_json(asked.output, document)


if __name__ == "__main__":
    main()
