"""From two models and data to the rules of their difference.

Features are what a person can read: the named columns of a table, or of pictures the brightness of superpixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from whorl.data.base import Dataset
from whorl.errors import UsageError
from whorl.explanations.changed import Comparison, compare_rules
from whorl.explanations.delta import Delta, explain_disagreement
from whorl.explanations.rules import Table
from whorl.explanations.surrogate import Learner
from whorl.oracles.base import Oracle
from whorl.queries.masks import superpixels

__all__ = ["Explanation", "explain", "readable"]


@dataclass(frozen=True)
class Explanation:
    """``delta`` says where the models differ, ``comparison`` which rule of the one became which of the other.

    ``names`` are those of the features that rules number; ``classes`` those of the labels.
    """

    names: tuple[str, ...]
    classes: tuple[str, ...]
    delta: Delta
    comparison: Comparison


def explain(
    first: Oracle,
    second: Oracle,
    data: Dataset,
    *,
    regions: int = 16,
    depth: int = 4,
    learner: Learner | None = None,
    seed: int = 0,
) -> Explanation:
    """Where two classifiers differ on ``data``. Their labels are asked once for each row; gradients are not needed.

    Parameters:
        regions: superpixels, where the data are pictures.
        depth: bounds in a rule of the disagreement, at most.
        learner: settings of the surrogates' rules.
        seed: of the division into rows that make rules and rows that judge them.

    Raises:
        UsageError: the models do not take these data, or are no classifiers.
    """
    for model in (first, second):
        if model.task != "classification":
            raise UsageError(f"rules tell labels apart; {model.name} does {model.task}")
        data.check_takes(model.name, model.space)
    values, names = readable(data, regions)
    one, other = (model.labels(data.inputs()).numpy() for model in (first, second))
    generator = np.random.default_rng(seed)
    return Explanation(
        names=names,
        classes=data.classes,
        delta=explain_disagreement(values, one != other, generator=generator, depth=depth),
        comparison=compare_rules(values, one, other, learner=learner),
    )


def readable(data: Dataset, regions: int = 16) -> tuple[Table, tuple[str, ...]]:
    """Values ``[n, features]`` and names of what a person can read in the data.

    Of pictures: the mean brightness of superpixels, which are those of the mean picture, named by where their centre
    lies, in pixels from the top and from the left.
    """
    inputs = data.inputs()
    if data.features:
        return inputs.flatten(1).double().numpy(), data.features
    segments = superpixels(inputs.mean(0, keepdim=True), regions)[0].flatten()
    grey = inputs.mean(1).flatten(1).double()
    members = torch.nn.functional.one_hot(segments).double()
    members = members[:, members.sum(0) > 0]
    values = grey @ (members / members.sum(0))
    width = data.input_shape[2]
    pixels = torch.arange(len(segments))
    centres = [(members * place[:, None]).sum(0) / members.sum(0) for place in (pixels // width, pixels % width)]
    names = [f"brightness at ({y:.0f}, {x:.0f})" for y, x in zip(*(each.tolist() for each in centres), strict=True)]
    return values.numpy(), tuple(names)
