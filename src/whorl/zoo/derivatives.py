"""Changes of a language model's weights that keep it roughly what it was: what is made of a model without training.

Quantised, cast, pruned by weights, neurons, axes or layers, with layers or tokens added, with noise, merged with
another, or turned into a mixture of experts. Every function takes and gives a `LanguageModel`; what a family does not
admit is refused in one line.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Annotated, Final, Literal

import torch
from annotated_types import Ge, Gt, Le, Lt
from torch import Generator, Tensor
from torch.nn.functional import pad

from whorl.checkpoints.roles import NORM_OF, Key
from whorl.errors import UsageError
from whorl.settings import Count, Named, NonNegative, Seed, Share, Whole
from whorl.zoo.causal import LanguageModel, Roles
from whorl.zoo.steps import only, says

__all__ = [
    "cast",
    "drop_layer",
    "duplicate_layer",
    "extend_vocabulary",
    "merge",
    "noise",
    "prune_weights",
    "prune_width",
    "quantise",
    "swap_layers",
    "upcycle",
]

Another = Annotated[LanguageModel | str, Named((), "recipe")]
"""A second model, which an expression gives by its recipe."""
Part = Annotated[float | Fraction, Gt(0), Lt(1)]
"""Part of a whole, to the last digit of a fraction."""
MATRICES: Final = ("query", "key", "value", "output", "gate", "up", "down")
TYPES: Final = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
_LAYER: Final = re.compile(r"(?:(?<=\.layers\.)|(?<=\.h\.))\d+(?=\.)")


def quantise(
    model: LanguageModel, *, bits: Annotated[int, Ge(2), Le(8)] = 4, group: Count = 32, embedding: bool = False
) -> LanguageModel:
    """Round the matrices of all layers to a symmetric grid of ``bits``, one scale for ``group`` inputs of a row.

    They stay stored as float32. The embedding is left out unless asked for, as is usual.
    """
    roles = (*MATRICES, "embedding", "unembedding") if embedding else MATRICES
    return _each(model, roles, lambda matrix: _rounded(matrix, 2 ** (bits - 1) - 1, group))


def cast(model: LanguageModel, *, dtype: Literal["bf16", "fp16", "fp32"] = "bf16") -> LanguageModel:
    """Store the weights as ``bf16``, ``fp16`` or ``fp32``."""
    tensors = {name: value.to(TYPES[dtype]) for name, value in model.tensors.items()}
    return LanguageModel({**model.config, "dtype": str(TYPES[dtype]).removeprefix("torch.")}, tensors, model.adapter)


def prune_weights(model: LanguageModel, *, share: Part = 0.5) -> LanguageModel:
    """Set the smallest ``share`` of each matrix of the layers to zero."""

    def pruned(matrix: Tensor) -> Tensor:
        order = matrix.abs().flatten().argsort(stable=True)
        return matrix.flatten().index_fill(0, order[: int(share * len(order))], 0).view_as(matrix)

    return _each(model, MATRICES, pruned)


@only("llama", "mixtral", why="elsewhere heads divide the width, so the residual axes stay", of="residual")
def prune_width(
    model: LanguageModel, *, share: Part = 0.25, of: Literal["neurons", "residual"] = "neurons"
) -> LanguageModel:
    """Remove the ``share`` of ``neurons``, or of axes of the ``residual`` stream, whose weights are smallest."""
    net = Roles(model)
    if of == "residual":
        return _narrowed(net, share)
    for down in net.keys("down"):
        readers = [key for role in ("gate", "up") if (key := down._replace(role=role)) in net.plan.parts]
        sizes = net.get(down).norm(dim=0) * torch.stack([net.get(key).norm(dim=1) for key in readers]).prod(0)
        kept = _largest(sizes, share)
        for key in readers:
            net.outputs(lambda rows, kept=kept: rows[kept], key)
        net.inputs(lambda rows, kept=kept: rows[kept], down)
        net.configure("hidden", len(kept))
    return net.model


def noise(model: LanguageModel, *, share: NonNegative = 0.1, seed: Seed = 0) -> LanguageModel:
    """Add Gaussian noise to every matrix, ``share`` times its own standard deviation."""
    generator = torch.Generator().manual_seed(seed)

    def noisy(matrix: Tensor) -> Tensor:
        return matrix + float(share) * matrix.std() * torch.randn(matrix.shape, generator=generator)

    return _each(model, (*MATRICES, "embedding", "unembedding", "router"), noisy)


def drop_layer(model: LanguageModel, *, layer: Whole = 1) -> LanguageModel:
    """Remove a layer."""
    order = _layers(model, layer)
    return _arranged(model, order[:layer] + order[layer + 1 :])


def duplicate_layer(model: LanguageModel, *, layer: Whole = 0, silent: bool = False) -> LanguageModel:
    """Put a copy of a layer after it; a ``silent`` copy adds nothing to the residual stream until it is trained.

    The silent one is the block expansion of C. Wu et al., LLaMA Pro, ACL 2024.
    """
    order = _layers(model, layer)
    net = Roles(_arranged(model, [*order[: layer + 1], layer, *order[layer + 1 :]]))
    for key in net.keys("output", "down", layer=layer + 1) if silent else ():
        net.outputs(torch.zeros_like, key)
    return net.model


def swap_layers(model: LanguageModel, *, first: Whole = 0, second: Whole = 1) -> LanguageModel:
    """Exchange two layers."""
    order = _layers(model, first, second)
    order[first], order[second] = second, first
    return _arranged(model, order)


def extend_vocabulary(model: LanguageModel, *, tokens: Count = 16, seed: Seed = 0) -> LanguageModel:
    """Add tokens whose rows are the mean of the others and a tenth of their spread."""
    net, generator = Roles(model), torch.Generator().manual_seed(seed)
    for key in net.keys("embedding", "unembedding"):
        rows = net.get(key)
        drawn = rows.std(0) * torch.randn(tokens, rows.shape[1], generator=generator) / 10
        net.put(key, torch.cat([rows, rows.mean(0) + drawn]))
    net.config["vocab_size"] += tokens
    return net.model


def merge(
    model: LanguageModel,
    *,
    other: Another,
    weight: float = 0.5,
    method: Literal["linear", "slerp", "ties", "dare"] = "linear",
    ancestor: Another = "base",
    density: Share = 0.5,
    seed: Seed = 0,
) -> LanguageModel:
    """Merge with ``other``, whose weight is ``weight``: ``linear``, ``slerp``, ``ties`` or ``dare``.

    The last two add what both changed since their ``ancestor``, thinned to ``density``: TIES (P. Yadav et al., NeurIPS
    2023) keeps the largest changes and settles signs by majority, DARE (L. Yu et al., ICML 2024) keeps random ones.
    """
    assert isinstance(other, LanguageModel)
    assert isinstance(ancestor, LanguageModel)
    generator, w, kept = torch.Generator().manual_seed(seed), float(weight), float(density)
    ours, theirs, start = Roles(model), Roles(other), Roles(ancestor if method in ("ties", "dare") else model)
    if any(Key("unembedding") in net.plan.parts for net in (ours, theirs, start)):
        for net in (ours, theirs, start):
            net.untie()  # where one has been untied, all are merged as if they were
    base = start.tensors
    rules: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
        "linear": lambda a, b, _: torch.lerp(a, b, w),
        "slerp": lambda a, b, _: _slerp(a, b, w),
        "ties": lambda a, b, start: start + _ties(a - start, b - start, w, kept),
        "dare": lambda a, b, start: start + _dare(a - start, b - start, w, kept, generator),
    }
    for name, value in ours.tensors.items():
        if any(name not in each or each[name].shape != value.shape for each in (theirs.tensors, base)):
            raise UsageError(f"merge: {name} is not of one shape in all models; only equal architectures merge")
        ours.tensors[name] = rules[method](value, theirs.tensors[name], base[name])
    return ours.model


@only("llama", why="a dense gated model becomes a mixture of experts")
@says(becomes=lambda _: "mixtral")
def upcycle(
    model: LanguageModel, *, experts: Annotated[int, Ge(2)] = 4, share: NonNegative = 0.0, seed: Seed = 0
) -> LanguageModel:
    """Make a mixture of experts of a dense llama: copies of each hidden layer, behind a router drawn at random.

    Each copy gets noise of ``share`` of its spread; without it the function stays. Source: A. Komatsuzaki et al.,
    Sparse Upcycling, ICLR 2023.
    """
    net, generator = Roles(model), torch.Generator().manual_seed(seed)
    tensors = {name: value for name, value in net.tensors.items() if ".mlp." not in name}
    for layer in range(net.plan.layers):
        place = f"model.layers.{layer}.block_sparse_moe"
        tensors[f"{place}.gate.weight"] = torch.randn(experts, net.plan.width, generator=generator) / 50
        for expert in range(experts):
            for role, word in {"gate": "w1", "down": "w2", "up": "w3"}.items():
                matrix = net.get(Key(role, layer))
                drawn = float(share) * matrix.std() * torch.randn(matrix.shape, generator=generator)
                tensors[f"{place}.experts.{expert}.{word}.weight"] = matrix + drawn
    kind = {"model_type": "mixtral", "architectures": ["MixtralForCausalLM"], "sliding_window": None}
    return LanguageModel(net.config | kind | {"num_local_experts": experts, "num_experts_per_tok": 2}, tensors)


def _each(model: LanguageModel, roles: tuple[str, ...], change: Callable[[Tensor], Tensor]) -> LanguageModel:
    net = Roles(model)
    for key in net.keys(*roles):
        net.put(key, change(net.get(key)))
    return net.model


def _rounded(matrix: Tensor, levels: int, group: int) -> Tensor:
    rows, columns = matrix.shape
    grouped = pad(matrix, (0, -columns % group)).view(rows, -1, group)
    scale = grouped.abs().amax(-1, keepdim=True).clamp_min(1e-12) / levels
    return (grouped.div(scale).round() * scale).view(rows, -1)[:, :columns]


def _narrowed(net: Roles, share: float | Fraction) -> LanguageModel:
    kept = _largest(torch.stack([net.get(key).square().sum(1) for key in net.keys("output", "down")]).sum(0), share)
    for key in net.keys("embedding", *NORM_OF):
        net.inputs(lambda rows: rows[kept], key)
    for key in net.keys("output", "down", "attention_norm", "mlp_norm", "final_norm"):
        net.outputs(lambda rows: rows[kept], key)
    net.config |= {"hidden_size": len(kept), "head_dim": net.plan.head_dim}
    return net.model


def _largest(sizes: Tensor, share: float | Fraction) -> Tensor:
    """Places of all but the smallest ``share``, in order."""
    return sizes.argsort(stable=True)[int(share * len(sizes)) :].sort().values


def _layers(model: LanguageModel, *named: int) -> list[int]:
    count = Roles(model).plan.layers
    if any(layer >= count for layer in named):
        raise UsageError(f"this model has layers 0 to {count - 1}, not {', '.join(map(str, named))}")
    return list(range(count))


def _arranged(model: LanguageModel, order: list[int]) -> LanguageModel:
    """The model whose layers are those of ``order``, a layer of which may come twice."""
    if not order:
        raise UsageError("the only layer of a model stays")
    net = Roles(model)
    tensors = {name: value for name, value in net.tensors.items() if not _LAYER.search(name)}
    for place, source in enumerate(order):
        for name, value in _of_layer(net.tensors, source):
            tensors[_LAYER.sub(str(place), name, count=1)] = value
    net.configure("layers", len(order))
    return LanguageModel(net.config, tensors)


def _of_layer(tensors: dict[str, Tensor], layer: int) -> Iterator[tuple[str, Tensor]]:
    for name, value in tensors.items():
        if (match := _LAYER.search(name)) and int(match.group()) == layer:
            yield name, value


def _slerp(a: Tensor, b: Tensor, weight: float) -> Tensor:
    """The way between two tensors along the great circle of their directions."""
    cosine = (a * b).sum() / (a.norm() * b.norm()).clamp_min(1e-12)
    angle = torch.acos(cosine.clamp(-1, 1))
    if float(angle.sin()) < 1e-4:
        return torch.lerp(a, b, weight)
    return (torch.sin((1 - weight) * angle) * a + torch.sin(weight * angle) * b) / angle.sin()


def _ties(a: Tensor, b: Tensor, weight: float, density: float) -> Tensor:
    both = torch.stack([_largest_kept(a, density), _largest_kept(b, density)])
    weights = torch.tensor([1 - weight, weight]).view(-1, *[1] * a.ndim)
    sign = (weights * both).sum(0).sign()
    agreed = weights * (both.sign() == sign) * (both != 0)
    return (agreed * both).sum(0) / agreed.sum(0).clamp_min(1e-12)


def _largest_kept(change: Tensor, density: float) -> Tensor:
    order = change.abs().flatten().argsort(stable=True)
    return change.flatten().index_fill(0, order[: len(order) - round(density * len(order))], 0).view_as(change)


def _dare(a: Tensor, b: Tensor, weight: float, density: float, generator: Generator) -> Tensor:
    kept = torch.rand(2, *a.shape, generator=generator) < density
    return ((1 - weight) * a * kept[0] + weight * b * kept[1]) / density
