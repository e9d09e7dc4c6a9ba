"""Trace and top eigenvalue of the Hessian of a loss, from its products with vectors alone.

Source: Yao et al., *PyHessian*, IEEE Big Data 2020, arXiv 1912.07145, sections III-A and III-B. Eigenvalues are by
Lanczos' method (ARPACK), which ends sooner than the power iteration there and tells the largest from the most negative.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse.linalg import ArpackError, LinearOperator, eigsh
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from whorl.errors import UsageError
from whorl.nets.modes import evaluating

__all__ = ["Loss", "hessian_trace", "loss_of", "top_eigenvalue"]

Loss = Callable[[Tensor], Tensor]
"""All parameters as one vector ``[d]`` to a scalar that can be differentiated twice."""


def loss_of(net: nn.Module, inputs: Tensor, labels: Tensor) -> tuple[Loss, Tensor]:
    """The mean cross-entropy of a net in evaluation mode as a function of its parameters, and where these are now.

    Shape:
        inputs: ``[n, c, h, w]`` in [0, 1]; labels: ``[n]`` int64. The point: ``[d]``.
    """
    shapes = {name: value.shape for name, value in net.named_parameters()}

    def loss(point: Tensor) -> Tensor:
        parts = point.split([prod(shape) for shape in shapes.values()])
        weights = {name: part.view(shape) for part, (name, shape) in zip(parts, shapes.items(), strict=True)}
        with evaluating(net):
            return cross_entropy(functional_call(net, weights, (inputs,)), labels)

    return loss, nn.utils.parameters_to_vector(net.parameters()).detach()


def hessian_trace(loss: Loss, point: Tensor, *, generator: torch.Generator, draws: int = 100) -> tuple[float, float]:
    """Hutchinson's estimate of the trace with random signs, and its standard error.

    Raises `UsageError` for less than 2 draws.
    """
    if draws < 2:
        raise UsageError(f"a trace is estimated from 2 draws or more, not {draws}")
    product = _hessian_product(loss, point)
    signs = (torch.randint(0, 2, point.shape, generator=generator).to(point) * 2 - 1 for _ in range(draws))
    values = torch.stack([each @ product(each) for each in signs]).double()
    return float(values.mean()), float(values.std() / draws**0.5)


def top_eigenvalue(loss: Loss, point: Tensor, *, generator: torch.Generator, tolerance: float = 1e-4) -> float:
    """The largest eigenvalue, to a relative ``tolerance``.

    Raises `UsageError` for less than two parameters, or where it does not converge.
    """
    if point.numel() < 2:
        raise UsageError("the top eigenvalue needs a net of two parameters or more")
    product = _hessian_product(loss, point)

    def multiply(vector: NDArray[np.float64]) -> NDArray[np.float64]:
        return product(torch.from_numpy(vector).flatten().to(point)).double().cpu().numpy()

    operator = LinearOperator((len(point), len(point)), matvec=multiply, dtype="float64")  # pyright: ignore  stubs err
    start = torch.randn(point.shape, generator=generator).double().numpy()
    found: Any = eigsh  # its stubs want a whole number for a tolerance
    try:
        return float(found(operator, k=1, which="LA", v0=start, tol=tolerance, return_eigenvectors=False)[0])
    except ArpackError as error:
        raise UsageError(f"the top eigenvalue was not found ({error}); give more tolerance") from None


def _hessian_product(loss: Loss, point: Tensor) -> Callable[[Tensor], Tensor]:
    """Products of the Hessian at a point with vectors ``[d]``; the gradient is taken once."""
    point = point.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(point), point, create_graph=True)

    def product(vector: Tensor) -> Tensor:
        return torch.autograd.grad(gradient @ vector, point, retain_graph=True)[0]

    return product
