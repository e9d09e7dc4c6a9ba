"""Families of a null, each of which counts once, and the models of one group."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from whorl.detection.groups import Groups, families, in_group
from whorl.types import Calibration, Null, NullModel


def test_tunes_of_one_model_count_once_and_by_the_most_alike():
    """Of three groups; one holds two tunes of one model, another a model that answers as one of the first does."""
    generator = np.random.default_rng(0)
    answers_of = generator.dirichlet(np.ones(5), size=(7, 30))
    answers_of[1] = 0.99 * answers_of[0] + 0.01 / 5
    answers_of[5] = answers_of[2]
    models = tuple(NullModel(str(place), group="aaaabbc"[place]) for place in range(7))
    known = Null("", models, (0.1, 0.4, 0.2, 0.3, 0.5, 0.6, 0.7), 5, probes=torch.from_numpy(answers_of))
    groups = Groups(known, alpha=0.2, sampling_error=None)
    assert {name: sorted(of.tolist()) for name, of in groups.similarities.items()} == {
        "a": [0.2, 0.3, 0.4],
        "b": [0.5, 0.6],
        "c": [0.7],
    }
    assert groups.smallest[0] == "c"
    assert sorted(families(known)) == [[0, 1], [2], [3], [4], [5], [6]]
    by_labels = replace(known, probes=torch.from_numpy(answers_of.argmax(2)))
    assert families(by_labels) == families(replace(known, probes=None)) == [[place] for place in range(7)]


def test_no_more_kin_are_told_of_than_a_group_holds():
    models = tuple(NullModel(str(place), group="ab"[place % 2]) for place in range(6))
    assert in_group(Calibration(Null("", models, (0.1,) * 6, 5)), "a").null.siblings == 3
