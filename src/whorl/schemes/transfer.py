"""Transfer: do the victim's adversarial examples fool the suspect, and into the same class?

Papers: Hwang, Han, Heo, Park, Chun, Lee, *Similarity of Neural Architectures using Adversarial Attack Transferability*,
ECCV 2024, arXiv 2210.11407, for transfer as relatedness; the rate is directed and matched by label:
T(A -> B) = P(B(x_A) = A(x_A) | A(x_A) != A(x)), for A the victim and x_A its adversarial example of x.

Queries: untargeted sign-gradient examples that cross on the victim. Representation: labels. Similarity: matching rate,
which on these queries is T. Access: gradients of the victim, labels of the suspect.

Changed from the paper: one direction instead of the symmetric score, so that the suspect gives labels only; rates are
ranked among independent models and never against a threshold. The null must hold models of the victim's architecture,
for they share more adversarial directions than others do. epsilon has to leave the null in between: where everything
transfers nothing is told. The published constants could not be verified.
Measured here (digits, 2 victims, 3 seeds, 50 queries, epsilon .1): copies fine-tuned or pruned by weight .98, by
filter .94, quantised .97, retrained .82; independent models of the victim's architecture .21 (at most .30), of others
.06. Nets extracted into the victim's architecture transfer at .24, hardly more than independent ones, and at epsilon
.15 and above less than those.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from whorl.data.base import Dataset
from whorl.errors import UsageError
from whorl.oracles.base import Oracle
from whorl.queries.adversarial import SignGradient
from whorl.schemes.matching import Matching
from whorl.settings import Count, Multiple, Radius
from whorl.types import Queries

__all__ = ["Transfer"]


@dataclass(frozen=True, kw_only=True)
class Transfer(SignGradient, Matching):
    """The label-matched transfer rate.

    Parameters:
        epsilon, steps, step: see `SignGradient`; choose epsilon so that independent models of the victim's
            architecture transfer at .2 to .5.
        candidates: pictures to start from, as a multiple of the budget; the first that cross are kept.
    """

    name: ClassVar[str] = "transfer"
    paper: ClassVar[str] = "Hwang et al., ECCV 2024, arXiv 2210.11407 (idea); directed and matched by label"
    idea: ClassVar[str] = "Does the suspect follow the victim's adversarial examples into the same class?"
    blind: ClassVar[str] = "extraction, adversarial training, and shared architecture where the null lacks it"

    epsilon: Radius = 0.1
    steps: Count = 20
    candidates: Multiple = 1.5

    def sample(self, victim: Oracle, data: Dataset, *, budget: int, generator: torch.Generator) -> Queries:
        """Adversarial examples that change the victim's class, with their seeds and the class they left."""
        count = max(budget, min(len(data), round(self.candidates * budget)))
        found = super().sample(victim, data, budget=count, generator=generator)
        # On the answers themselves: the frozen copy that the attack ran on rounds otherwise.
        crossed = victim.labels(found.inputs) != found.companions["source"]
        kept = crossed.nonzero().squeeze(1)[:budget]
        if len(kept) < budget:
            raise UsageError(
                f"{len(kept)} of {count} pictures changed class within {self.epsilon:g} and {budget} are needed; "
                "raise epsilon or candidates, or ask for fewer queries"
            )
        return found[kept]
