"""Attacks that make a stolen model harder to recognise, one family a file."""

from whorl.catalog import Catalog
from whorl.removals.base import Removal

__all__ = ["REMOVALS", "Removal"]

REMOVALS: Catalog[Removal] = Catalog(
    "removals",
    {
        "adversarial_fine_tune": "whorl.removals.adversarial:AdversarialFineTune",
        "adversarial_train": "whorl.removals.adversarial:AdversarialTrain",
        "active": "whorl.removals.active:Active",
        "answer_labels": "whorl.removals.defend:AnswerLabels",
        "answer_poisoned": "whorl.removals.defend:AnswerPoisoned",
        "answer_randomly": "whorl.removals.defend:AnswerRandomly",
        "answer_reverse_sigmoid": "whorl.removals.defend:AnswerReverseSigmoid",
        "answer_rounded": "whorl.removals.defend:AnswerRounded",
        "answer_shuffled": "whorl.removals.defend:AnswerShuffled",
        "answer_softened": "whorl.removals.defend:AnswerSoftened",
        "answer_top": "whorl.removals.defend:AnswerTop",
        "autoencode": "whorl.removals.autoencode:Autoencode",
        "detect_queries": "whorl.removals.defend:DetectQueries",
        "filter_inputs": "whorl.removals.filter:FilterInputs",
        "misinform": "whorl.removals.misinform:Misinform",
        "smooth": "whorl.removals.filter:Smooth",
        "data_free": "whorl.removals.datafree:DataFree",
        "distil": "whorl.removals.extract:Distil",
        "extract": "whorl.removals.extract:Extract",
        "extract_adversarial": "whorl.removals.extract_adversarial:ExtractAdversarial",
        "fine_tune": "whorl.removals.finetune:FineTune",
        "jacobian": "whorl.removals.jacobian:Jacobian",
        "knockoff": "whorl.removals.knockoff:Knockoff",
        "overwrite": "whorl.removals.overwrite:Overwrite",
        "prune_filters": "whorl.removals.prune:PruneFilters",
        "prune_weights": "whorl.removals.prune:PruneWeights",
        "quantise": "whorl.removals.quantise:Quantise",
        "randomise_boundary": "whorl.removals.symmetry:RandomiseBoundary",
        "recover_relu": "whorl.removals.relu:RecoverRelu",
        "reparametrise": "whorl.removals.reparametrise:Reparametrise",
        "scramble_boundary": "whorl.removals.scramble:ScrambleBoundary",
        "transfer": "whorl.removals.transfer:Transfer",
        "retrain": "whorl.removals.finetune:Retrain",
        "unlearn": "whorl.removals.unlearn:Unlearn",
        "fine_prune": "whorl.removals.fine_pruning:FinePrune",
        "low_rank": "whorl.removals.lora:LowRank",
        "lora": "whorl.removals.lora:LoRA",
        "merge": "whorl.removals.merge:Merge",
        "regularise": "whorl.removals.regularise:Regularise",
        "removal_net": "whorl.removals.removal_net:RemovalNet",
        "shift_weights": "whorl.removals.shift:ShiftWeights",
        "smooth_labels": "whorl.removals.regularise:SmoothLabels",
    },
)
