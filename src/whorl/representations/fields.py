"""The gradient field of a model along paths to reference pictures, accumulated as integrated gradients.

Papers: Song et al., *ModelGiF*, ICCV 2023, arXiv 2309.11013; Sundararajan et al., ICML 2017 (integrated gradients).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import torch
from annotated_types import Ge, Le
from torch import Tensor

from whorl.errors import AccessRefused
from whorl.layouts import Layout
from whorl.oracles.base import Oracle
from whorl.representations.base import Comparer, Representer
from whorl.types import Access, Evidence, Queries, Representation

__all__ = ["FieldAngle", "GradientFields", "alignment", "gradient_fields"]

PASS = 1024  # inputs per forward-backward pass, a bound on memory


@dataclass(frozen=True, kw_only=True)
class GradientFields(Representer):
    """Cumulative integrated gradients of the predicted class's logit, from black to each query.

    Parameters:
        nodes: Gauss-Legendre nodes on each path.
    """

    needs_suspect: ClassVar[Access] = Access.GRADIENTS
    any_classes: ClassVar[bool] = True
    values: ClassVar[Layout] = Layout("n nodes numbers", low=-1, high=1)

    nodes: Annotated[int, Ge(1), Le(10_000)] = 50

    def represent(self, oracle: Oracle, queries: Queries) -> Representation:
        """Fields of length 1, ``[n, nodes, c * h * w]`` float32 (0 where no gradient reached the node)."""
        fields = gradient_fields(oracle, queries.inputs, self.nodes)
        return Representation(torch.nn.functional.normalize(fields, dim=2))


class FieldAngle(Comparer):
    """1 - d / 2 of the paper's distance d, the mean of 1 - cosine over pictures and nodes; in [0, 1]."""

    def similarity(self, reference: Representation, observed: Representation) -> Evidence:
        """Mean of (1 + cosine) / 2; models without anything in common have 1/2."""
        alike = alignment(reference.values, observed.values)
        return Evidence(float(alike.double().mean()), alike)


def alignment(first: Tensor, second: Tensor) -> Tensor:
    """Mean over nodes of (1 + cosine) / 2, ``[n]`` in [0, 1], of fields ``[n, nodes, d]`` of length 1."""
    cosine = (first * second).sum(2).mean(1)
    return ((1 + cosine) / 2).clamp(0, 1)


def gradient_fields(oracle: Oracle, inputs: Tensor, nodes: int) -> Tensor:
    """A_s = x * sum over s' <= s of w_s' dZ/dx at a_s' x, where Z is the logit of the class predicted for x.

    By completeness the sum of the last row is Z(x) - Z(0), up to the quadrature's error.

    Shape:
        inputs: ``[n, c, h, w]``. Returns ``[n, nodes, c * h * w]`` float32.

    Raises:
        AccessRefused: the oracle has no gradient to follow.
    """
    differentiable = getattr(oracle, "differentiable", None)
    if differentiable is None:
        raise AccessRefused(f"a gradient field follows gradients; {oracle.name} grants {oracle.access.name}")
    model, device = differentiable(), getattr(oracle, "device", inputs.device)
    # Legendre nodes on [-1, 1], moved to [0, 1].
    places, weights = (torch.from_numpy(each).float() for each in np.polynomial.legendre.leggauss(nodes))
    places, weights = (places + 1) / 2, weights / 2
    predicted = oracle.labels(inputs)
    fields: list[Tensor] = []
    for chunk, classes in zip(inputs.split(max(1, PASS // nodes)), predicted.split(max(1, PASS // nodes)), strict=True):
        path = (places.view(-1, 1, 1, 1) * chunk[:, None]).flatten(0, 1).to(device).requires_grad_()
        own = model(path).gather(1, classes.repeat_interleave(nodes)[:, None].to(device))
        (slope,) = torch.autograd.grad(own.sum(), path)
        weighted = slope.cpu().unflatten(0, (-1, nodes)).flatten(2) * weights[:, None]
        fields.append(chunk.flatten(1)[:, None] * weighted.cumsum(1))
    return torch.cat(fields)
