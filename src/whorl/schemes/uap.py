"""UAP fingerprints: how a model answers to one perturbation that fools the victim everywhere, seen by an encoder.

Paper: Z. Peng, S. Li, G. Chen, C. Zhang, H. Zhu, M. Xue, *Fingerprinting Deep Neural Networks Globally via Universal
Adversarial Perturbations*, CVPR 2022, arXiv 2202.08602.

Queries: pairs (x, x + v) with one perturbation v for all, x around the k-means centres of the victim's scores.
Representation: the probabilities of one pair per cluster, joined into a view, and each view encoded by a network that
was trained by supervised contrastive loss on views of the victim, its copies and independent shadow models.
Similarity: mean over views of (1 + cosine) / 2, which lies in [0, 1] and orders models as the cosine does.
Access: gradients of the victim, probabilities of the suspect and of the shadow models, of which two inputs a query.

Changed from the paper: v comes from mini-batch Adam on the margin of the victim's label, stopped at the fooling rate;
each independent shadow model is a class of its own, since independent models need not be alike; the embedding is
compared without a projection head. The bound of v, the number of shadow models, the settings of the encoder and the
paper's test on several fingerprints are not all published: they are settings here, and the test is the verdict's.
The paper's own figure: infringement found with confidence above 99.99 % within 20 fingerprints, each of which is a
view of many points. On small nets, with fine-tuned and pruned copies alone in the pool, quantised copies rank above
every independent model and extracted ones at an AUC of .83. Without the encoder that is .00: their softer answers look
less like the victim's than a stranger's do. v tells more than the encoder: it changes the labels of 24 to 78 % of the
pictures for unseen copies of every kind, and of 2 to 21 % for independent models.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch.nn.functional import normalize

from whorl.layouts import Layout
from whorl.oracles.base import Oracle
from whorl.queries.perceptron import respond, signals, unpack
from whorl.queries.universal import UniversalPerturbation
from whorl.representations.base import ask
from whorl.schemes.base import Scheme
from whorl.types import Access, Evidence, Queries, Representation

__all__ = ["UAP"]


@dataclass(frozen=True, kw_only=True)
class UAP(UniversalPerturbation, Scheme):
    """Embedded answers to pairs under a universal perturbation; see `UniversalPerturbation` for the settings."""

    name: ClassVar[str] = "uap"
    paper: ClassVar[str] = "Peng et al., CVPR 2022, arXiv 2202.08602"
    idea: ClassVar[str] = "How answers move under one perturbation that fools the victim on most pictures."
    blind: ClassVar[str] = (
        "copies of another kind than the shadow copies, extraction into another architecture above all"
    )
    needs_suspect: ClassVar[Access] = Access.PROBABILITIES
    per_query: ClassVar[bool] = False
    values: ClassVar[Layout] = Layout("looks ...", low=-1.001, high=1.001)

    def represent(self, oracle: Oracle, queries: Queries) -> Representation:
        """Unit vectors ``[views, dimensions]``, or ``[views, 2 * classes * clusters]`` without an encoder."""
        answers = signals(ask(oracle.scores, queries.inputs, oracle.space), oracle.task)
        views = answers[queries.shared["views"]].flatten(1)
        encoder = unpack(queries.shared, "encoder")
        return Representation(normalize(respond(encoder, views) if encoder else views, dim=1))

    def similarity(self, reference: Representation, observed: Representation) -> Evidence:
        """Mean over views of (1 + cosine) / 2, in [0, 1]."""
        cosine = (reference.values.double() * observed.values.double()).sum(1).clamp(-1, 1)
        return Evidence(float((1 + cosine).mean()) / 2)
