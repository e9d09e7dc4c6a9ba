"""A classifier that answers truly where it is sure and misinforms where it is not.

Paper: S. Kariyappa, M. K. Qureshi, *Defending Against Model Stealing Attacks with Adaptive Misinformation*, CVPR 2020.
"""

from __future__ import annotations

from typing import ClassVar, Final

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

from whorl.errors import UsageError
from whorl.nets.base import Classifier, HiddenUnits, Net
from whorl.settings import NetName, Probability
from whorl.types import Task

__all__ = ["Misinforming", "misinformation"]

STEEPNESS: Final = 1e4  # nu: the change from one answer to the other is all but a step
TINY: Final = torch.finfo(torch.float32).tiny  # asked of a traced value's type it may be that of another


class Misinforming(Net):
    """(1 - h) f(x) + h g(x) with h = sigmoid(10^4 (threshold - max f(x))), of probabilities.

    ``member`` is the architecture of both f, the honest net, and g, the decoy that learned to be wrong; it names a
    single classifier.

    Shape:
        forward: ``[n, c, h, w]`` in [0, 1] to log-probabilities ``[n, classes]``.
    """

    task: ClassVar[Task] = "classification"
    decoy: Classifier
    honest: Classifier

    def __init__(
        self,
        input_shape: tuple[int, int, int],
        classes: int,
        *,
        member: NetName = "resnet8",
        threshold: Probability = 0.7,
    ) -> None:
        from whorl.nets import NETS

        super().__init__(input_shape, classes)
        decoy, honest = (NETS.make(member, input_shape=input_shape, classes=classes) for _ in range(2))
        if not isinstance(decoy, Classifier) or not isinstance(honest, Classifier):
            raise UsageError(f"the members of a misinforming net are single classifiers of the catalog, not {member}")
        self._hold(decoy, honest, float(threshold))

    @classmethod
    def of(cls, honest: Classifier, decoy: Classifier, threshold: float) -> Misinforming:
        """A net of two that exist, of one architecture."""
        net = cls.__new__(cls)
        Net.__init__(net, honest.input_shape, honest.classes)
        net._hold(decoy, honest, threshold)
        return net

    def _hold(self, decoy: Classifier, honest: Classifier, threshold: float) -> None:
        if not 0 <= threshold <= 1:
            raise UsageError(f"a misinforming net is sure above a probability in [0, 1], not {threshold}")
        # The honest net comes last, since whoever looks for the head takes the last linear layer.
        self.decoy, self.honest, self.threshold = decoy, honest, threshold

    def forward(self, inputs: Tensor) -> Tensor:
        """The logarithm of the mixed probabilities ``[n, classes]``."""
        honest, decoy = self.honest(inputs).softmax(1), self.decoy(inputs).softmax(1)
        share = (STEEPNESS * (self.threshold - honest.amax(1, keepdim=True))).sigmoid()
        return ((1 - share) * honest + share * decoy).clamp_min(TINY).log()

    def objective(self, inputs: Tensor, targets: Tensor, generator: torch.Generator) -> Tensor:
        """Cross-entropy of the honest net plus `misinformation` of the decoy; they share no parameter."""
        del generator
        return cross_entropy(self.honest(inputs), targets) + misinformation(self.decoy(inputs), targets)

    def hidden_units(self) -> list[HiddenUnits]:
        """Those of both nets."""
        return [*self.decoy.hidden_units(), *self.honest.hidden_units()]

    def standardise(self, images: Tensor) -> None:
        """Both nets take mean and spread from ``images`` ``[n, c, h, w]`` in [0, 1]."""
        self.decoy.standardise(images)
        self.honest.standardise(images)


def misinformation(logits: Tensor, targets: Tensor) -> Tensor:
    """The mean of -log(1 - p_y), small where the true class y is thought unlikely.

    Shape:
        logits: ``[n, classes]``; targets: ``[n]`` int64. Returns a scalar.
    """
    true = one_hot(targets, logits.shape[1]).bool()
    return (logits.logsumexp(1) - logits.masked_fill(true, -torch.inf).logsumexp(1)).mean()
