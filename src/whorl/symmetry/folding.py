"""Norms folded into the layers before them, and biases that are added to each other made one."""

from __future__ import annotations

import operator

import torch
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from whorl.symmetry.channels import Norm, bias_of, graph_of

__all__ = ["fold"]


def fold(net: nn.Module) -> None:
    """Take batch norms out of ``net``, in place, as they are in evaluation: W' = (γ/σ) W, b' = β + γ (b − μ)/σ.

    A norm that does not follow a linear layer or convolution, or is not alone in reading it (before the blocks of a
    pre-activation net), becomes its factor and offset, with statistics 0 and 1. All layers get a bias; where two are
    added, as at the end of a residual block with a projection, the first holds the sum.
    """
    modules = dict(net.named_modules())
    graph = graph_of(net)
    once = {node.target: node for node in graph.nodes if node.op == "call_module"}
    for layer in modules.values():
        if isinstance(layer, nn.Linear | nn.Conv2d) and layer.bias is None:
            layer.bias = nn.Parameter(layer.weight.new_zeros(len(layer.weight)))
    for node in graph.nodes:
        norm = modules.get(str(node.target)) if node.op == "call_module" else None
        if isinstance(norm, Norm):
            before = node.args[0]
            layer = modules.get(str(before.target)) if before.op == "call_module" else None
            alone = len(before.users) == 1 and once[node.target] is node
            if isinstance(layer, nn.Conv2d | nn.Linear) and alone:
                fuse = fuse_conv_bn_eval if isinstance(layer, nn.Conv2d) else fuse_linear_bn_eval
                folded = fuse(layer, norm)  # pyright: ignore[reportArgumentType] each with its own kind
                layer.weight, layer.bias = folded.weight, folded.bias
                net.set_submodule(str(node.target), nn.Identity())
            else:
                _make_plain(norm)
    _join_biases(net)


@torch.no_grad()
def _make_plain(norm: Norm) -> None:
    mean, variance = norm.running_mean, norm.running_var
    if mean is None or variance is None:
        return  # it normalises each batch by itself and is not a fixed map; comparing functions will tell
    weight = torch.ones_like(mean) if norm.weight is None else norm.weight
    factor = weight / (variance + norm.eps).sqrt()
    offset = (0 if norm.bias is None else norm.bias) - factor * mean
    norm.weight, norm.bias = nn.Parameter(factor), nn.Parameter(offset)
    mean.zero_()
    variance.fill_(1)
    norm.eps = 0.0


@torch.no_grad()
def _join_biases(net: nn.Module) -> None:
    modules = dict(net.named_modules())
    for node in graph_of(net).nodes:
        if node.op == "call_function" and node.target in (operator.add, operator.iadd, torch.add):
            sides = [_layer_before(each, modules) for each in node.all_input_nodes]
            if len(sides) == 2 and (first := sides[0]) and (last := sides[1]) and first is not last:
                bias_of(first).add_(bias_of(last))
                bias_of(last).zero_()


def _layer_before(node: fx.Node, modules: dict[str, nn.Module]) -> nn.Linear | nn.Conv2d | None:
    """The layer whose output, and nothing else of it, is added."""
    while node.op == "call_module" and len(node.users) == 1:
        layer = modules[str(node.target)]
        if isinstance(layer, nn.Linear | nn.Conv2d):
            return layer
        if not isinstance(layer, nn.Identity):
            return None
        node = node.all_input_nodes[0]
    return None
