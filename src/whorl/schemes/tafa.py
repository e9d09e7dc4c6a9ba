"""TAFA: does the suspect bend where the victim's hidden ReLUs switch?

Paper: Pan, Zhang, Lu, Yang, *TAFA: A Task-Agnostic Fingerprinting Algorithm for Neural Networks*, ESORICS 2021 (arXiv
2201.07391v2). For any net of ReLUs, whether it classifies, predicts numbers or makes pictures; no training data.
The full text could not be read, so all below is a reconstruction from its abstract.

Queries: short lines across boundaries of the victim's hidden ReLUs (`whorl.queries.kinks`), of five inputs each.
Representation: along each line the second difference of the scores that is largest in norm, per unit of length. On
the victim that is the kink ``a |grad z|``; on a copy whose boundary has moved a little, still most of it.
Similarity: ``<k, k'> / (|k| max(|k|, |k'|))`` within [0, 1], of the victim's bend k and the suspect's k'; the mean
over lines. A suspect that is flat there, bends less or bends other outputs has less than 1.
Access: the victim's weights; a suspect's real-valued answers. Logits and log-probabilities differ by what is the same
for all classes, which centring removes, so that kinks stay exact.
Changed from the paper: unknown. Lines reach 0.9 of the way to the next bend instead of staying near the kink, as a
fine-tuned copy bends elsewhere by as much as the boundary moved. Float32 answers limit it where ReLUs are many:
boundaries lie close, and what is left between them is hardly more than rounding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from whorl.layouts import Layout
from whorl.oracles.base import Oracle
from whorl.queries.kinks import Kinks
from whorl.representations.base import Comparer, Representer, ask
from whorl.schemes.base import Scheme
from whorl.types import Access, Evidence, Queries, Representation, Task

__all__ = ["TAFA", "Bends"]


class Bends(Representer):
    """The largest second difference of the scores along each line, per unit of length: ``[n, classes]`` float32."""

    needs_suspect: ClassVar[Access] = Access.PROBABILITIES
    values: ClassVar[Layout] = Layout("n k")

    def represent(self, oracle: Oracle, queries: Queries) -> Representation:
        """One bend per line, from as many inputs as the line has."""
        scores = ask(oracle.scores, queries.inputs, oracle.space)
        bends = scores.diff(n=2, dim=1) / queries.companions["spacing"][:, None, None]
        largest = bends.norm(dim=2).argmax(1)
        return Representation(bends.take_along_dim(largest[:, None, None], dim=1).squeeze(1))


class Alignment(Comparer):
    """How much of the victim's bend the suspect shows, in [0, 1] a line."""

    def similarity(self, reference: Representation, observed: Representation) -> Evidence:
        """The mean over lines of the projection on the victim's bend, over the longer of the two bends."""
        ours, theirs = reference.values.double(), observed.values.double()
        length = ours.norm(dim=1)
        longer = length.maximum(theirs.norm(dim=1))
        rates = ((ours * theirs).sum(1) / (length * longer).clamp_min(1e-300)).clamp(0, 1)
        return Evidence(float(rates.mean()), rates.float())


@dataclass(frozen=True, kw_only=True)
class TAFA(Kinks, Bends, Alignment, Scheme):
    """Kinks of hidden ReLUs."""

    name: ClassVar[str] = "tafa"
    paper: ClassVar[str] = "Pan et al., ESORICS 2021"
    idea: ClassVar[str] = "Bends of the outputs where hidden ReLUs of the victim switch."
    blind: ClassVar[str] = "extracted models, whose ReLUs are their own; rounded answers; nets without ReLUs"
    tasks: ClassVar[frozenset[Task]] = frozenset({"classification", "regression", "generation"})
