"""ADV-TRA: label agreement along adversarial trajectories that cross several boundaries.

Paper: T. Xu et al., *United We Stand, Divided We Fall: Fingerprinting Deep Neural Networks via Adversarial
Trajectories*, NeurIPS 2024, openreview.net/forum?id=YwpL0BVxts.

Queries: trajectories of ``crossings`` x ``length`` inputs each (`Trajectory`). Representation: labels along each.
Similarity: 1 - mutation rate, the share of a trajectory's labels that the suspect keeps, averaged over trajectories.
Access: gradients of the victim, labels of the suspect.

Changed from the paper: it calls a trajectory matched when less than half of its labels mutate, and a model stolen when
more than half of the trajectories match; here the shares themselves are compared, and the verdict ranks the suspect
among independent models. The authors optimise each step size by descent; here the shape of the steps is fixed and their
common scale found by bracketing, to the same end: the boundary lies in the middle. Steps follow the lead of the target
over the largest other logit instead of a loss that vanishes where softmax saturates. The order of the classes (here
random), their number (here 5; in the authors' experiments up to 10) and the decay are settings, UNVERIFIED as the
paper's values. Trajectories start after the picture itself, which any good model labels alike.
The paper's own figures by others (CIFAR-10): AUC .88 and .80; fine-tuning and pruning 1.0, distillation .81,
adversarial training .03.
Measured here (digits, ResNet-8, 2 victims x 3 extractions of 50): strangers .07 to .19; fine-tuned .93 to .99, pruned
.62 to .95, retrained .45 to .84; adversarial fine-tuning at epsilon .03 .48 to .65 and at .1 .17 to .23; extraction
and distillation .13 to .18, as strangers. Nine crossings instead of four lower a stranger's mean only from .12 to .10.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from whorl.errors import UsageError
from whorl.queries.trajectory import Trajectory
from whorl.representations.base import Comparer
from whorl.representations.labels import Labels
from whorl.schemes.base import Scheme
from whorl.types import Evidence, Representation

__all__ = ["AdvTra", "Unmutated"]


class Unmutated(Comparer):
    """Share of equal labels along each trajectory: 1 - the paper's mutation rate."""

    def similarity(self, reference: Representation, observed: Representation) -> Evidence:
        """Mean over trajectories, in [0, 1]; both are labels ``[n, m]``. Raises `UsageError` if they are not."""
        ours, theirs = reference.values, observed.values
        if ours.ndim != 2 or ours.shape != theirs.shape or not ours.numel():
            raise UsageError(
                f"trajectories are compared label by label [n, m]; these are {list(ours.shape)} and "
                f"{list(theirs.shape)}"
            )
        shares = (ours == theirs).float().mean(1)
        return Evidence(float(shares.double().mean()), shares)


@dataclass(frozen=True, kw_only=True)
class AdvTra(Trajectory, Labels, Unmutated, Scheme):
    """Walks over several boundaries of the victim; see `Trajectory` for the settings."""

    name: ClassVar[str] = "adv-tra"
    paper: ClassVar[str] = "Xu et al., NeurIPS 2024, openreview.net/forum?id=YwpL0BVxts"
    idea: ClassVar[str] = "Agreement along walks that cross several of the victim's boundaries, step by step."
    blind: ClassVar[str] = "extraction, and adversarial training beyond small steps: both draw other boundaries"
