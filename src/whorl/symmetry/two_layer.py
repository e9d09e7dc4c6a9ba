"""Whether two nets with one hidden ReLU layer are the same function, decided from their weights.

As relu(z) = |z|/2 + z/2, such a net is the sum of C_k |r_k x + s_k| over distinct hyperplanes (r_k, s_k), plus L x + c.
Absolute values of distinct hyperplanes and affine maps are linearly independent, so these numbers are the function's
own: two nets agree everywhere if and only if they have the same. Whatever was done to the weights: permutation,
scaling, splitting, units that cancel, pairs that are linear. Widths may differ.

Source: the classification of shallow ReLU nets; Jagielski et al., USENIX Security 2020, section 6, for the use.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from whorl.errors import UsageError
from whorl.nets.plain import MLP
from whorl.nets.regression import MLPRegressor

__all__ = ["TwoLayer", "same_function", "two_layer"]

TOLERANCE = 1e-5  # float32 leaves some 1e-7, of what cancels more


@dataclass(frozen=True)
class TwoLayer:
    """The knots of a net with one hidden ReLU layer, and what is left without them.

    Shape:
        planes: ``[k, d + 1]`` float64, normals and offsets of the hyperplanes, of norm 1 together; either sign.
        jumps: ``[k, outputs]``, the factor of the absolute value, half of the jump of the gradient.
        affine: ``[outputs, d + 1]``, L and last c.
    """

    planes: Tensor
    jumps: Tensor
    affine: Tensor


@torch.no_grad()
def two_layer(net: nn.Module, *, tolerance: float = TOLERANCE) -> TwoLayer:
    """The canonical form of ``net``, as a function of pictures ``[d]`` that are flattened.

    Hyperplanes within ``tolerance`` count as one, and those whose jumps come to less than that, relative to the largest
    sum of jumps of a plane in absolute value, as none. Logits are centred over the classes, where the net classifies.

    Raises:
        UsageError: a net that is not a perceptron with one hidden layer.
    """
    return _reduced(*_parts(net), tolerance)


@torch.no_grad()
def same_function(one: nn.Module, other: nn.Module, *, tolerance: float = TOLERANCE) -> bool:
    """Whether two nets with one hidden layer give the same outputs (up to what softmax sees) to every real input.

    Their difference is a net of both nets' units: it is zero if and only if no knot and nothing affine is left of it.
    ``tolerance`` is for rounding only; 0 decides for the numbers as they are, computed in float64.

    Raises:
        UsageError: a net that is not a perceptron with one hidden layer, or nets of other inputs or outputs.
    """
    (rows, jumps, affine), (more, against, minus) = _parts(one), _parts(other)
    if affine.shape != minus.shape:
        raise UsageError(f"nets of {list(affine.shape)} and {list(minus.shape)} outputs and inputs are never the same")
    left = _reduced(torch.cat([rows, more]), torch.cat([jumps, -against]), affine - minus, tolerance)
    scale = max(float(affine.abs().max()), float(minus.abs().max()))
    return not len(left.planes) and float(left.affine.abs().max()) <= tolerance * scale


def _parts(net: nn.Module) -> tuple[Tensor, Tensor, Tensor]:
    """Rows ``[n, d + 1]`` and jumps ``[n, outputs]`` of all units, and the affine rest ``[outputs, d + 1]``."""
    if not isinstance(net, MLP | MLPRegressor) or len(net.layers) != 1:
        raise UsageError(f"equality is decided for mlp(depth=1), one hidden layer; {type(net).__name__} is more")
    hidden = net.layers[0]
    assert isinstance(hidden, nn.Linear)
    pixels = net.input_shape[1] * net.input_shape[2]
    mean, std = (buffer.double().flatten().repeat_interleave(pixels) for buffer in (net.mean, net.std))
    weight = hidden.weight.double() / std
    rows = torch.cat([weight, (hidden.bias.double() - weight @ mean)[:, None]], 1)
    head, bias = net.head.weight.double(), net.head.bias.double()
    if net.task == "classification":
        head, bias = head - head.mean(0), bias - bias.mean()
    affine = head @ rows / 2
    affine[:, -1] += bias
    return rows, head.T / 2, affine


def _reduced(rows: Tensor, jumps: Tensor, affine: Tensor, tolerance: float) -> TwoLayer:
    size = rows.norm(dim=1)
    flat = rows[:, :-1].norm(dim=1) <= tolerance * size  # |s| is a constant
    affine = affine.clone()
    affine[:, -1] += rows[flat, -1].abs() @ jumps[flat]
    planes, jumps = rows[~flat] / size[~flat, None], jumps[~flat] * size[~flat, None]
    if not len(planes):
        return TwoLayer(planes, jumps, affine)
    exactly = "donot_use_mm_for_euclid_dist"
    apart = torch.minimum(
        torch.cdist(planes, planes, compute_mode=exactly), torch.cdist(planes, -planes, compute_mode=exactly)
    )
    first = (apart <= tolerance).int().argmax(1)
    while not torch.equal(first[first], first):
        first = first[first]
    sums = torch.zeros_like(jumps).index_add_(0, first, jumps)
    reach = jumps.new_zeros(len(jumps)).index_add_(0, first, jumps.norm(dim=1))
    kept = sums.norm(dim=1) > tolerance * reach.max()
    return TwoLayer(planes[kept], sums[kept], affine)
