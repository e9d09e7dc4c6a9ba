"""Other statistics of lineage on pairs like those of `lineage.py`: how well each separates derivatives from strangers.

    python benchmarks/lineage_peers.py --cache CACHE [-o benchmarks/results/lineage-peers.json]

Seeds begin at 0: on these whorl's own tests were chosen. Each statistic is written from its paper's formula, and gives
one number for a pair, larger where the two are more alike; a pair that it cannot compare counts as the least alike.

- ``cosine``: of all parts of one shape, flattened.
- ``std profile`` (Yoon et al., arXiv 2507.03014): standard deviation of query, key, value and output by layer, each
  curve standardised; mean Pearson correlation. With two layers a curve has two points: unfair to it, and said so.
- ``huref`` (Zeng et al., NeurIPS 2024): for the last two layers X Wq' Wk X', X Wv' Wo X' and X Wu' Wd X' of embedded
  tokens X, gains folded in and key-value heads repeated for the heads of their group; cosine of the standardised stack.
- ``awm`` (ICLR 2026, arXiv 2510.06738): axes of the stream aligned with their signs by the embedding, then the unbiased
  CKA of query and key matrices over axes.
- ``cka``: the same without alignment.
- ``likeness``: whorl's effect size: the same statistic after an orthogonal Procrustes rotation, gains folded in, of
  each layer of A and the most similar one of B.
- ``csu`` (Zhu et al., ICML 2025): rows of ``up`` matched one to one; -log p of Spearman, Fisher's sum over layers.
- ``whorl``: -log p of `whorl compare`; ``whorl, exact``: by its exact tests alone.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from scipy.stats import pearsonr, spearmanr
from torch import Tensor
from torch.nn.functional import normalize

from whorl.bench.result import describe_machine
from whorl.checkpoints.opening import open_checkpoint
from whorl.checkpoints.roles import Weights
from whorl.detection.exact import bonferroni, fisher
from whorl.metrics import auc, tpr_at_fpr
from whorl.storage import write_json
from whorl.weights.comparison import compare
from whorl.weights.layering import LayerMap
from whorl.weights.likeness import likeness
from whorl.weights.pairing import basis
from whorl.zoo.cache import Zoo, default_cache
from whorl.zoo.lineages import SMALL, bases, derived, independent_pairs

NOTHING = -1e9
ATTENTION = ("query", "key", "value", "output")


def cosine(one: Weights, two: Weights) -> float:
    product = ours = theirs = 0.0
    for key in one.structure.parts:
        if key in two and one.shape(*key) == two.shape(*key):
            a, b = one.read(*key), two.read(*key)
            product, ours, theirs = (
                product + float((a * b).sum()),
                ours + float(a.norm()) ** 2,
                theirs + float(b.norm()) ** 2,
            )
    return product / (ours * theirs) ** 0.5


def std_profile(one: Weights, two: Weights) -> float:
    found = []
    for role in ATTENTION:
        curves = [[float(net.read(role, layer).std()) for layer in range(net.structure.layers)] for net in (one, two)]
        points = np.linspace(0, 1, max(map(len, curves)))
        spread = [np.interp(points, np.linspace(0, 1, len(curve)), curve) for curve in curves]
        found.append(float(pearsonr(*spread).statistic) if all(np.ptp(curve) > 0 for curve in spread) else 0.0)
    return sum(found) / len(found)


def huref(one: Weights, two: Weights) -> float:
    stacks = []
    for net in (one, two):
        tokens, found = net.tokens(range(min(one.vocabulary, two.vocabulary))), []
        groups, dim = net.structure.heads // net.structure.kv_heads, net.structure.head_dim
        for layer in range(max(0, net.structure.layers - 2), net.structure.layers):
            query, key, value = (net.folded(role, layer) for role in ATTENTION[:3])
            wide = [
                part.view(-1, dim, part.shape[1]).repeat_interleave(groups, 0).flatten(0, 1) for part in (key, value)
            ]
            found += [
                tokens @ query.T @ wide[0] @ tokens.T,
                tokens @ wide[1].T @ net.read("output", layer).T @ tokens.T,
            ]
            expert = next(expert for place, expert in net.structure.mlps() if place == layer)
            up = net.folded("up", layer, expert)
            up = up * net.folded("gate", layer, expert) if net.structure.gated else up
            found.append(tokens @ up.T @ net.read("down", layer, expert).T @ tokens.T)
        stacks.append(torch.cat([((each - each.mean()) / each.std()).flatten() for each in found]))
    return float(torch.cosine_similarity(*stacks, dim=0))


def unbiased_cka(one: Tensor, two: Tensor) -> float:
    """Of two sets of features of the same things, the rows: [n, a] and [n, b]."""
    grams = [each @ each.T for each in (one, two)]
    grams = [gram - gram.diag().diag() for gram in grams]
    count = len(one)

    def hsic(a: Tensor, b: Tensor) -> float:
        cross = (
            (a * b).sum() + a.sum() * b.sum() / ((count - 1) * (count - 2)) - 2 * (a.sum(0) @ b.sum(0)) / (count - 2)
        )
        return float(cross) / (count * (count - 3))

    return hsic(*grams) / max(1e-30, hsic(grams[0], grams[0]) * hsic(grams[1], grams[1])) ** 0.5


def cka(one: Weights, two: Weights, *, align: bool = False) -> float:
    first, second = torch.arange(one.structure.width), torch.arange(one.structure.width)
    signs = torch.ones(one.structure.width)
    if align:
        rows = range(min(one.vocabulary, two.vocabulary))
        similarity = normalize(one.tokens(rows), dim=0).T @ normalize(two.tokens(rows), dim=0)
        places = linear_sum_assignment(similarity.abs().numpy(), maximize=True)
        first, second = (torch.tensor(each) for each in places)
        signs = similarity[first, second].sign()
    layers = range(min(one.structure.layers, two.structure.layers))
    found = [
        unbiased_cka(one.read(role, layer).T[first], two.read(role, layer).T[second] * signs[:, None])
        for layer in layers
        for role in ("query", "key")
    ]
    return sum(found) / len(found)


def csu(one: Weights, two: Weights) -> float:
    logs = []
    for (layer, expert), (paired, other) in zip(one.structure.mlps(), two.structure.mlps(), strict=False):
        rows = [normalize(net.read("up", *at), dim=1) for net, at in ((one, (layer, expert)), (two, (paired, other)))]
        _, matched = linear_sum_assignment((rows[0] @ rows[1].T).numpy(), maximize=True)
        p = float(spearmanr(matched, np.arange(len(matched)), alternative="greater").pvalue)
        logs.append(float(np.log(max(p, 1e-300))))
    return -fisher(logs)


def whorl(one: Weights, two: Weights, *, exact: bool = False) -> float:
    found = compare(one.checkpoint, two.checkpoint, layers=0)
    return -bonferroni([each.log_p for each in found.findings if each.exact]) if exact else -found.log_p


def turned(one: Weights, two: Weights) -> float:
    axes = basis(one, two, 256)
    assert axes is not None
    found = likeness(one, two, LayerMap(one, two, axes).moved(range(one.structure.layers)))
    return NOTHING if found is None else found.aligned


STATISTICS: dict[str, Callable[[Weights, Weights], float]] = {
    "cosine": cosine,
    "std profile": std_profile,
    "huref": huref,
    "awm": lambda one, two: cka(one, two, align=True),
    "cka": cka,
    "likeness": turned,
    "csu": csu,
    "whorl": whorl,
    "whorl, exact": lambda one, two: whorl(one, two, exact=True),
}


def asked(statistic: Callable[[Weights, Weights], float], one: Weights, two: Weights) -> tuple[float, float]:
    """A statistic of a pair and its processor seconds."""
    started = time.process_time()
    try:
        value = statistic(one, two)
    except (
        RuntimeError,
        ValueError,
        KeyError,
        IndexError,
        ZeroDivisionError,
    ):  # shapes or parts that it has no rule for
        value = NOTHING
    return (value if np.isfinite(value) else NOTHING), time.process_time() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=default_cache())
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("-o", "--output", type=Path, default=Path("benchmarks/results/lineage-peers.json"))
    options = parser.parse_args()
    document: dict[str, Any] = {"machine": describe_machine("cpu").model_dump()}
    for family, first in SMALL.items():
        nets = bases(first, options.seeds)
        pairs = {name: (nets[0], recipe) for name, recipe in derived(nets[0]).items()}
        apart = independent_pairs(nets)
        document[family] = {}
        for name, statistic in STATISTICS.items():
            rows: list[list[tuple[float, float]]] = [[], []]
            for kind, group in enumerate((pairs.values(), apart)):
                for pair in group:
                    opened = [Weights(open_checkpoint(path)) for path in Zoo(options.cache).build(pair, workers=1)]
                    rows[kind].append(asked(statistic, opened[0], opened[1]))
            found, strangers = ([value for value, _ in group] for group in rows)
            document[family][name] = {
                "auc": auc(found, strangers),
                "tpr_at_no_false_positive": tpr_at_fpr(found, strangers, 0.0).rate,
                "missed": [each for each, value in zip(pairs, found, strict=True) if value <= max(strangers)],
                "not_compared": sum(value == NOTHING for value in found),
                "cpu_seconds_each": sum(spent for group in rows for _, spent in group) / (len(found) + len(strangers)),
            }
            told = document[family][name]
            print(family, name, f"{told['auc']:.3f} {told['tpr_at_no_false_positive']:.2f}", flush=True)
        write_json(options.output, document)


if __name__ == "__main__":
    main()
