"""How well a trigger works on a model that is asked.

Source: the attack success rate of Gu, Dolan-Gavitt, Garg, *BadNets*, arXiv 1708.06733, 2017, on pictures of other
classes alone: a picture of the target class shows nothing.
"""

from __future__ import annotations

from whorl.data.base import Dataset
from whorl.data.triggers import Trigger
from whorl.oracles.base import Oracle

__all__ = ["attack_success"]


def attack_success(oracle: Oracle, data: Dataset, trigger: Trigger) -> float | None:
    """Share of the pictures of other classes that get the target once they are stamped; None where there are none."""
    others = data.subset((data.labels != trigger.target).nonzero().flatten())
    if not len(others):
        return None
    return float((oracle.labels(trigger.stamp(others.inputs())) == trigger.target).float().mean())
