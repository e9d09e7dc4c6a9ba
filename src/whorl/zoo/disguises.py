"""Changes of a language model's weights that leave what it computes as it is: what a thief gets for free.

Each works through `Roles`, in float64, on every family that admits it, and refuses the others in one line. The
symmetries: hidden neurons may be permuted, and scaled where nothing bends one of their branches; key-value heads may be
permuted, and the queries inside a group; values and outputs of a head may be mixed by any invertible matrix, queries
and keys by what commutes with the rotary positions; experts may be permuted; gains of norms may move into the matrices
that read them; the axes of the residual stream may be permuted, and rotated once those gains are gone. A layer norm
subtracts a mean over the axes, so there a rotation has to keep the vector of ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal

import torch
from torch import Generator, Tensor

from whorl.checkpoints.roles import NORM_OF, Key
from whorl.errors import UsageError
from whorl.settings import NonNegative, Seed, Share
from whorl.zoo.causal import Change, LanguageModel, Roles
from whorl.zoo.steps import only

__all__ = [
    "flip_signs",
    "mix_queries",
    "mix_values",
    "obfuscate",
    "permute_experts",
    "permute_heads",
    "permute_neurons",
    "permute_residual",
    "rotate_residual",
    "scale_neurons",
    "scale_norms",
]

NORMS: Final = ("attention_norm", "mlp_norm", "final_norm")
BENT: Final = "without gates an activation bends every branch of a neuron; use permute_neurons"
CLIQUE: Final = 3  # neurons of a clique; two that cancel each other are the easiest to see


def permute_neurons(model: LanguageModel, *, seed: Seed = 0) -> LanguageModel:
    """Permute the neurons of every hidden layer."""
    net, generator = Roles(model), _generator(seed)
    for down in net.keys("down"):
        order = torch.randperm(net.get(down).shape[1], generator=generator)
        _neurons(net, down, _taken(order))
    return net.model


def permute_heads(model: LanguageModel, *, seed: Seed = 0) -> LanguageModel:
    """Permute the key-value heads of every layer, and the query heads inside each group."""
    net, generator = Roles(model), _generator(seed)
    heads, groups, wide = _heads(net)
    for output in net.keys("output"):
        order = torch.randperm(groups, generator=generator)
        inside = torch.stack([torch.randperm(heads // groups, generator=generator) for _ in order])
        queries = (order[:, None] * (heads // groups) + inside).flatten()
        for role, chosen in (("query", queries), ("key", order), ("value", order)):
            net.outputs(_taken(_axes(chosen, wide)), output._replace(role=role))
        net.inputs(_taken(_axes(queries, wide)), output)
    return net.model


@only("mixtral", why="others have no experts; use permute_neurons")
def permute_experts(model: LanguageModel, *, seed: Seed = 0) -> LanguageModel:
    """Permute the experts of every layer. Refused where there are none."""
    net, generator = Roles(model), _generator(seed)
    for router in net.keys("router"):
        order = torch.randperm(len(net.get(router)), generator=generator)
        net.outputs(_taken(order), router)
        for role in ("gate", "up", "down"):
            before = [net.get(key) for key in net.keys(role, layer=router.layer)]
            for key, source in zip(net.keys(role, layer=router.layer), order.tolist(), strict=True):
                net.put(key, before[source])
    return net.model


@only("llama", "mixtral", why=BENT)
def scale_neurons(
    model: LanguageModel, *, spread: NonNegative = 1.0, signs: bool = False, seed: Seed = 0
) -> LanguageModel:
    """Multiply each neuron's ungated branch by 10 to the power of a number within ±``spread``, and divide after it.

    With ``signs`` half of the factors are negative. Refused without gates, where an activation bends every branch.
    """
    net, generator = Roles(model), _generator(seed)
    for down in net.keys("down"):
        factors = _scales(net.get(down).shape[1], spread, generator)
        if signs:
            factors *= _signs(len(factors), generator)
        net.outputs(_times(factors), down._replace(role="up"))
        net.inputs(_times(1 / factors), down)
    return net.model


@only("llama", "mixtral", why=BENT, of="neurons")
@only("llama", "mixtral", why="layer norms subtract means over the residual axes; use rotate_residual", of="residual")
def flip_signs(
    model: LanguageModel, *, of: Literal["neurons", "values", "residual"] = "neurons", seed: Seed = 0
) -> LanguageModel:
    """Flip signs at random: ``of`` gated ``neurons``, the ``values`` of heads, or axes of the ``residual``.

    Layer norms subtract a mean over the axes of the residual stream, so there its signs stay.
    """
    if of == "neurons":
        return scale_neurons(model, spread=0.0, signs=True, seed=seed)
    net, generator = Roles(model), _generator(seed)
    if of == "values":
        heads, groups, wide = _heads(net)
        for output in net.keys("output"):
            signs = _signs(groups * wide, generator)
            net.outputs(_times(signs), output._replace(role="value"))
            shared = signs.view(groups, 1, wide, 1).expand(-1, heads // groups, -1, -1).reshape(-1, 1)
            net.inputs(_times(shared), output)
    else:
        signs = _signs(net.plan.width, generator)
        _turn(net, _times(signs))
    return net.model


def mix_values(model: LanguageModel, *, spread: NonNegative = 0.5, seed: Seed = 0) -> LanguageModel:
    """Mix the values of each key-value head by a random invertible matrix, and undo it before the outputs.

    The matrix is a rotation, scales of 10 to the power of ±``spread``, and another rotation.
    """
    net, generator = Roles(model), _generator(seed)
    heads, groups, wide = _heads(net)
    for output in net.keys("output"):
        mixing = torch.stack([_invertible(wide, spread, generator) for _ in range(groups)])
        undone = torch.linalg.inv(mixing).mT.repeat_interleave(heads // groups, 0)
        net.outputs(_mixed(mixing), output._replace(role="value"))
        net.inputs(_mixed(undone), output)
    return net.model


def mix_queries(model: LanguageModel, *, spread: NonNegative = 0.5, seed: Seed = 0) -> LanguageModel:
    """Mix queries and keys of each key-value head: rotary pairs turn and scale, other axes mix freely."""
    net, generator = Roles(model), _generator(seed)
    heads, groups, wide = _heads(net)
    rotary = 0 if net.family == "gpt2" else int(wide * _rotary_share(net))
    for query in net.keys("query"):
        mixing = torch.zeros(groups, wide, wide, dtype=torch.float64)
        for each in mixing:
            each[:rotary, :rotary] = _rotary(rotary, spread, generator)
            each[rotary:, rotary:] = _invertible(wide - rotary, spread, generator)
        undone = torch.linalg.inv(mixing).mT
        net.outputs(_mixed(mixing.repeat_interleave(heads // groups, 0)), query)
        net.outputs(_mixed(undone), query._replace(role="key"))
    return net.model


def scale_norms(model: LanguageModel, *, spread: NonNegative = 0.5, seed: Seed = 0) -> LanguageModel:
    """Multiply gains of norms by 10 to the power of ±``spread`` per axis, and divide in the matrices after them.

    The last norm stays where the unembedding is tied.
    """
    net, generator = Roles(model), _generator(seed)
    for norm in net.keys(*NORMS):
        if readers := list(_readers(net, norm)):
            factors = _scales(net.plan.width, spread, generator)
            net.outputs(_times(factors), norm)
            for reader in readers:
                net.inputs(_times(1 / factors), reader)
    return net.model


def permute_residual(model: LanguageModel, *, seed: Seed = 0) -> LanguageModel:
    """Permute the axes of the residual stream."""
    net = Roles(model)
    order = torch.randperm(net.plan.width, generator=_generator(seed))
    _turn(net, _taken(order))
    for norm in net.keys(*NORMS):
        net.outputs(_taken(order), norm)
    return net.model


def rotate_residual(model: LanguageModel, *, seed: Seed = 0) -> LanguageModel:
    """Rotate the residual stream by a random orthogonal matrix, after the gains of its norms are folded away.

    Where norms subtract a mean over the axes the matrix keeps the vector of ones. A tied unembedding becomes a matrix
    of its own, because the gain of the last norm can move nowhere else.
    """
    net = Roles(model)
    net.untie()
    for norm in net.keys(*NORMS):
        gain = net.get(norm).double()[:, None]
        if bool((gain.abs() < 1e-6).any()):
            raise UsageError(f"rotate_residual: a gain of {norm.role} in layer {norm.layer} is zero")
        for reader in _readers(net, norm):
            net.inputs(_times(gain), reader)
        net.outputs(_times(1 / gain), norm)
    turning = _rotation(net.plan.width, _generator(seed), keeps_ones=net.plan.norm == "layer")
    _turn(net, lambda rows: turning @ rows)
    for norm in net.keys(*NORMS):
        if (shift := net.bias(norm)) is not None:
            net.put_bias(norm, turning @ shift.double())
    return net.model


def obfuscate(
    model: LanguageModel, *, share: Share = 0.5, kind: Literal["all", "zero", "clique", "split"] = "all", seed: Seed = 0
) -> LanguageModel:
    """Add neurons, ``share`` of those there are, that change nothing, and permute all.

    ``zero`` neurons are read by nobody; a ``clique`` of three has one input and outputs that cancel; ``split`` ones
    take over a part of another neuron's output; ``all`` mixes the three. Source: Yan et al., neural structural
    obfuscation, USENIX Security 2023, arXiv:2303.09732.
    """
    kinds = ("zero", "clique", "split") if kind == "all" else (kind,)
    net, generator, hidden = Roles(model), _generator(seed), 0
    for down in net.keys("down"):
        total = round(share * net.get(down).shape[1])
        for number, each in enumerate(kinds):
            _add_neurons(net, down, each, total * (number + 1) // len(kinds) - total * number // len(kinds), generator)
        hidden = net.get(down).shape[1]
    net.configure("hidden", hidden)
    return permute_neurons(net.model, seed=seed)


def _add_neurons(net: Roles, down: Key, kind: str, count: int, generator: Generator) -> None:
    """Add ``count`` neurons whose joint effect is none."""
    outputs = net.get(down).double().T
    members = torch.arange(count) // (CLIQUE if kind == "clique" else 1)
    chosen = torch.randperm(len(outputs), generator=generator)[:count]
    added = torch.zeros(count, outputs.shape[1], dtype=torch.float64)
    if kind == "split":
        part = 3 * torch.rand(count, 1, generator=generator, dtype=torch.float64) - 1
        added, outputs[chosen] = part * outputs[chosen], (1 - part) * outputs[chosen]
    elif kind == "clique":
        for clique in members.unique():
            drawn = outputs.std() * _normal(int((members == clique).sum()), outputs.shape[1], generator)
            added[members == clique] = drawn - drawn.mean(0)

    def widened(rows: Tensor) -> Tensor:
        copies = rows[chosen] if kind == "split" else rows.std() * _normal(count, rows.shape[1], generator)[members]
        return torch.cat([rows, copies])

    for role in ("gate", "up"):
        if (key := down._replace(role=role)) in net.plan.parts:
            net.outputs(widened, key)
    net.inputs(lambda _: torch.cat([outputs, added]), down)


def _neurons(net: Roles, down: Key, change: Change) -> None:
    """The same change for all that a hidden neuron is made of."""
    for role in ("gate", "up"):
        if (key := down._replace(role=role)) in net.plan.parts:
            net.outputs(change, key)
    net.inputs(change, down)


def _turn(net: Roles, change: Change) -> None:
    """The same change for all that reads or writes the residual stream; norms are left to the caller."""
    for key in net.keys("embedding", "position", *NORM_OF):
        net.inputs(change, key)
    for key in net.keys("output", "down"):
        net.outputs(change, key)


def _readers(net: Roles, norm: Key) -> Iterator[Key]:
    """The matrices that read the residual stream through this norm."""
    yield from net.keys(
        *(role for role, name in NORM_OF.items() if name == norm.role),
        layer=None if norm.role == "final_norm" else norm.layer,
    )


def _heads(net: Roles) -> tuple[int, int, int]:
    return net.plan.heads, net.plan.kv_heads, net.plan.head_dim


def _axes(heads: Tensor, wide: int) -> Tensor:
    """The axes of these heads, in order."""
    return (heads[:, None] * wide + torch.arange(wide)).flatten()


def _taken(order: Tensor) -> Change:
    return lambda rows: rows[order]


def _times(factors: Tensor) -> Change:
    return lambda rows: rows * factors


def _mixed(matrices: Tensor) -> Change:
    """Multiply each head's rows [heads * wide, k] by its matrix [heads, wide, wide]."""
    return lambda rows: (matrices @ rows.view(len(matrices), -1, rows.shape[1])).flatten(0, 1)


def _rotary_share(net: Roles) -> float:
    rope = net.config.get("rope_parameters")
    return float((rope if isinstance(rope, dict) else {}).get("partial_rotary_factor", 1.0))


def _rotary(width: int, spread: float, generator: Generator) -> Tensor:
    """A matrix [width, width] that turns and scales each rotary pair (i, i + width / 2)."""
    angle = 2 * torch.pi * torch.rand(width // 2, generator=generator, dtype=torch.float64)
    scale = _scales(width // 2, spread, generator)[:, 0]
    cosine, sine = torch.diag(scale * angle.cos()), torch.diag(scale * angle.sin())
    return torch.cat([torch.cat([cosine, -sine], 1), torch.cat([sine, cosine], 1)])


def _invertible(width: int, spread: float, generator: Generator) -> Tensor:
    first, second = _rotation(width, generator), _rotation(width, generator)
    return first @ (_scales(width, spread, generator) * second)


def _rotation(width: int, generator: Generator, *, keeps_ones: bool = False) -> Tensor:
    """A random orthogonal matrix [width, width] by the law of Haar, on the complement of the ones where these stay."""
    if keeps_ones:
        drawn = _normal(width, width, generator)
        drawn[:, 0] = 1
        basis, inner = torch.linalg.qr(drawn)[0], torch.eye(width, dtype=torch.float64)
        inner[1:, 1:] = _rotation(width - 1, generator)
        return basis @ inner @ basis.T
    turned, triangle = torch.linalg.qr(_normal(width, width, generator))
    return turned * triangle.diagonal().sign()


def _normal(rows: int, columns: int, generator: Generator) -> Tensor:
    return torch.randn(rows, columns, generator=generator, dtype=torch.float64)


def _scales(count: int, spread: float, generator: Generator) -> Tensor:
    """Powers of ten from ``-spread`` to ``spread``, evenly in the exponent: [count, 1]."""
    return 10 ** (spread * (2 * torch.rand(count, 1, generator=generator, dtype=torch.float64) - 1))


def _signs(count: int, generator: Generator) -> Tensor:
    return 2.0 * torch.randint(2, (count, 1), generator=generator) - 1


def _generator(seed: int) -> Generator:
    return torch.Generator().manual_seed(seed)
