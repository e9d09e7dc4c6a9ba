"""AFA: label agreement on adversarial examples that were made to survive changes of the victim.

Paper: J. Zhao, Q. Hu, G. Liu, X. Ma, F. Chen, M. M. Hassan, *AFA: Adversarial Fingerprinting Authentication for Deep
Neural Networks*, Computer Communications 150 (2020) 488-497.

Queries: targeted MI-FGSM on ghost networks, one perturbed victim per step. Representation: labels.
Similarity: matching rate. Access: gradients of the victim, labels of the suspect.

Changed from the paper: only its abstract is public, so every number is a setting (UNVERIFIED), the erosions are those
of the ghost networks that it names, and marks that miss their target on the victim are replaced from a surplus of
candidates and not from public models. Each picture has ghosts of its own, so that a mark does not depend on its
neighbours in the batch.
Measured on the small zoo: at IGSM's own epsilon it survives filter pruning better and is no less unique (see
`tests/published/test_afa.py`). The gain is that of aiming at a class and keeping the surest marks; the ghosts add
nothing that two victims with three extractions can show.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from whorl.queries.ghost import Ghost
from whorl.schemes.matching import Matching

__all__ = ["AFA"]


@dataclass(frozen=True, kw_only=True)
class AFA(Ghost, Matching):
    """Adversarial marks of a longitudinal ensemble of ghosts; see `Ghost` for the settings."""

    name: ClassVar[str] = "afa"
    paper: ClassVar[str] = "Zhao et al., Computer Communications 150 (2020)"
    idea: ClassVar[str] = "Agreement on adversarial examples that fool perturbed versions of the victim as well."
    blind: ClassVar[str] = "adversarial training, and extraction into another architecture"
