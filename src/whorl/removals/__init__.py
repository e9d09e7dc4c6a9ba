"""Attacks that make a stolen model harder to recognise, one family a file."""

from whorl.catalog import Catalog
from whorl.removals.base import Removal

__all__ = ["REMOVALS", "Removal"]

REMOVALS: Catalog[Removal] = Catalog(
    "removals",
    {
        "adversarial_fine_tune": "whorl.removals.adversarial:AdversarialFineTune",
        "distil": "whorl.removals.extract:Distil",
        "extract": "whorl.removals.extract:Extract",
        "fine_tune": "whorl.removals.finetune:FineTune",
        "prune_filters": "whorl.removals.prune:PruneFilters",
        "prune_weights": "whorl.removals.prune:PruneWeights",
        "quantise": "whorl.removals.quantise:Quantise",
        "reparametrise": "whorl.removals.reparametrise:Reparametrise",
        "transfer": "whorl.removals.transfer:Transfer",
        "retrain": "whorl.removals.finetune:Retrain",
    },
)
