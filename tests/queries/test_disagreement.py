"""The questions of a lineup: the same whatever the order of its rows, and near the data."""

from __future__ import annotations

import pytest
import torch

from whorl.queries.disagreement import disputed, noisy
from whorl.spaces import Pictures


@pytest.mark.parametrize("kind", ["probabilities", "labels", "numbers"])
def test_the_choice_does_not_depend_on_the_order_of_the_candidates(kind):
    generator = torch.Generator().manual_seed(0)
    answers = {
        "probabilities": torch.randn(7, 50, 4, generator=generator).softmax(2),
        "labels": torch.randint(4, (7, 50), generator=generator),
        "numbers": torch.randn(7, 50, 1, generator=generator),
    }[kind]
    chosen = disputed(answers, 20)
    for _ in range(5):
        order = torch.randperm(7, generator=generator)
        assert disputed(answers[order], 20).tolist() == chosen.tolist()


def test_the_most_disputed_come_first():
    labels = torch.tensor([[0, 0, 0, 0], [0, 1, 0, 1], [0, 1, 1, 2], [0, 0, 0, 3]])
    assert disputed(labels, 4).tolist()[0] == 3
    assert disputed(labels, 4).tolist()[-1] == 0
    spread = torch.tensor([[[0.9, 0.1], [0.9, 0.1]], [[0.9, 0.1], [0.6, 0.4]]])
    assert disputed(spread, 1).tolist() == [1], "where all vote alike the spread of their answers decides"


def test_noise_is_mild_and_only_for_pictures():
    pictures, generator = torch.full((200, 1, 8, 8), 0.5), torch.Generator().manual_seed(0)
    changed = noisy(pictures, Pictures((1, 8, 8)), generator)
    assert changed.min() >= 0
    assert changed.max() <= 1
    deviations = (changed - pictures).flatten(1).std(1)
    assert 0.08 < deviations.min() < deviations.max() < 0.3
