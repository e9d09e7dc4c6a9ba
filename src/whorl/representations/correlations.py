"""How a model's answers to the queries resemble each other: a picture of the model that needs no common classes.

Paper: Guan, Liang, He, *Are You Stealing My Model? Sample Correlation for Fingerprinting Deep Neural Networks*,
NeurIPS 2022, section 3; the label-equality matrix is what its label-only variant comes to (QuRD's hard-SAC).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor
from torch.nn.functional import normalize

from whorl.errors import UsageError
from whorl.layouts import Layout
from whorl.oracles.base import Oracle
from whorl.representations.base import Held, Representer, ask
from whorl.settings import Positive
from whorl.types import Access, Queries, Representation

__all__ = ["Correlations", "LabelEqualities", "correlations"]

MOST = 4096  # inputs; their matrix fills 64 MiB

Kernel = Literal["cosine", "gaussian"]


@dataclass(frozen=True, kw_only=True)
class Correlations(Representer):
    """Matrix of pairwise correlations of the score vectors: ``[n, n]`` float32 in [0, 1].

    ``[n m, n m]`` where each query asks m inputs.

    Parameters:
        kernel: ``cosine`` is (1 - cos) / 2; ``gaussian`` is exp(-|u - v|^2 / bandwidth^2) of vectors of length 1.
        bandwidth: delta of the Gaussian kernel, which the paper does not publish; 1 is the authors' code's.
    """

    holds: ClassVar[Held | None] = "shares"
    needs_suspect: ClassVar[Access] = Access.PROBABILITIES
    per_query: ClassVar[bool] = False
    any_classes: ClassVar[bool] = True
    values: ClassVar[Layout] = Layout("n n", low=0, high=1)

    kernel: Kernel = "cosine"
    bandwidth: Positive = 1.0

    def represent(self, oracle: Oracle, queries: Queries) -> Representation:
        """One row and one column per input."""
        _few(queries)
        scores = ask(oracle.scores, queries.inputs, oracle.space)
        return Representation(correlations(scores.reshape(-1, scores.shape[-1]), self.kernel, self.bandwidth))


class LabelEqualities(Representer):
    """Which inputs get the same label: ``[n, n]`` int64, 0 or 1; ``[n m, n m]`` where each query asks m inputs."""

    holds: ClassVar[Held | None] = "classes"
    needs_suspect: ClassVar[Access] = Access.LABELS
    per_query: ClassVar[bool] = False
    any_classes: ClassVar[bool] = True
    values: ClassVar[Layout] = Layout("n n", "int64", 0, 1)

    def represent(self, oracle: Oracle, queries: Queries) -> Representation:
        """One row and one column per input."""
        _few(queries)
        labels = ask(oracle.labels, queries.inputs, oracle.space).reshape(-1)
        return Representation((labels[:, None] == labels).long())


def correlations(scores: Tensor, kernel: Kernel, bandwidth: float) -> Tensor:
    """Pairwise correlations in [0, 1] of the rows of ``scores`` ``[n, classes]``, as ``[n, n]`` float32."""
    rows = normalize(scores.double())
    angles = (rows @ rows.T).clamp(-1, 1)
    angles.fill_diagonal_(1)
    if kernel == "cosine":
        return ((1 - angles) / 2).float()
    return ((2 * angles - 2) / bandwidth**2).exp().float()


def _few(queries: Queries) -> None:
    count = queries.inputs.shape[:-3].numel()
    if count > MOST:
        raise UsageError(f"correlations of {count:,} inputs are {count:,}^2 numbers; ask for at most {MOST:,} inputs")
