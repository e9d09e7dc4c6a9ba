"""MetaV: a verifier trained together with its inputs says from a model's answers whether it was made from the victim.

Paper: X. Pan, Y. Yan, M. Zhang, M. Yang, *MetaV: A Meta-Verifier Approach to Task-Agnostic Model Fingerprinting*,
KDD 2022, arXiv 2201.07391.

Queries: inputs X, trained together with the verifier V on the victim and its copies against independent models.
Representation: V's logit for the suspect's joined answers. Similarity: V's probability, in [0, 1].
Access: gradients of the victim and of the shadow models, probabilities (or the outputs of another task) of a suspect
with as many outputs in the same order.

Changed from the paper: both sides of the loss weigh alike however many models each holds; V sees standardised answers,
probabilities of classifiers and outputs of other models; X stays in [0, 1] and starts from held-out pictures. Learning
rates, widths and steps are not published, so they are settings.
The paper's own figure: all 70 suspects of a skin-cancer ResNet-18 told rightly. On small nets, with fine-tuned and
pruned copies alone in the pool, retrained and quantised ones rank above every independent model and extracted ones at
an AUC of .98 (.63 with inputs that are not trained). The paper's rule V > 1/2 does not carry over: V stays below 1/2
for most extracted copies, and only its order of models is right. Inputs that start from noise do worse on them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from whorl.layouts import Layout
from whorl.oracles.base import Oracle
from whorl.queries.meta import JointlyTrained
from whorl.queries.perceptron import respond, signals, unpack
from whorl.schemes.base import Scheme
from whorl.types import Access, Evidence, Queries, Representation, Task

__all__ = ["MetaV"]


@dataclass(frozen=True, kw_only=True)
class MetaV(JointlyTrained, Scheme):
    """The verdict of a verifier that was trained with its inputs; see `JointlyTrained` for the settings."""

    name: ClassVar[str] = "metav"
    paper: ClassVar[str] = "Pan et al., KDD 2022, arXiv 2201.07391"
    idea: ClassVar[str] = "What a verifier, trained together with its inputs on shadow models, makes of the answers."
    blind: ClassVar[str] = "copies unlike every shadow copy, and a suspect that permutes or drops outputs"
    tasks: ClassVar[frozenset[Task]] = frozenset({"classification", "regression", "generation"})
    needs_suspect: ClassVar[Access] = Access.PROBABILITIES
    per_query: ClassVar[bool] = False
    values: ClassVar[Layout] = Layout("1")

    def represent(self, oracle: Oracle, queries: Queries) -> Representation:
        """V's logit ``[1]``."""
        shared = queries.shared
        seen = (signals(oracle.scores(queries.inputs), oracle.task) - shared["centre"]) / shared["scale"]
        return Representation(respond(unpack(shared, "verifier"), seen.flatten()[None]).squeeze(1))

    def similarity(self, reference: Representation, observed: Representation) -> Evidence:
        """V's probability in [0, 1], whatever it makes of the victim itself."""
        del reference
        return Evidence(float(observed.values.double().sigmoid()))
