"""Decision distances are cosine distances within one model; label shifts are differences modulo the classes."""

from __future__ import annotations

import pytest
import torch
from scipy.spatial.distance import cosine

from whorl.errors import UsageError
from whorl.oracles.base import Oracle
from whorl.representations.decisions import DecisionDistances, LabelShifts
from whorl.testing import tiny_victim
from whorl.types import Access, Queries


class Pixels(Oracle):
    """Its first pixels, or the position of the largest of them, are its answer."""

    def __init__(self, classes=4, access=Access.LOGITS, task="classification"):
        super().__init__(access=access, input_shape=(1, 2, 2), classes=classes, name="pixels", digest="", task=task)

    def _stream(self, inputs):
        outputs = inputs.flatten(1)[:, : self.classes]
        answers = outputs.argmax(1) if self.access is Access.LABELS else outputs
        yield torch.arange(len(inputs)), answers


@pytest.fixture
def pairs():
    return Queries(torch.rand(9, 2, 1, 2, 2, generator=torch.Generator().manual_seed(0)))


@pytest.mark.parametrize("outputs", ["probabilities", "scores"])
def test_distances_against_scipy(pairs, outputs):
    found = DecisionDistances(outputs=outputs).represent(Pixels(), pairs).values
    logits = pairs.inputs.flatten(2).double()
    expected = logits.softmax(2) if outputs == "probabilities" else logits - logits.mean(2, keepdim=True)
    assert found.tolist() == pytest.approx([cosine(*pair) for pair in expected.numpy()], abs=1e-6)


def test_outputs_of_another_task_are_taken_as_they_are(pairs):
    found = DecisionDistances().represent(Pixels(classes=3, task="regression"), pairs).values
    outputs = pairs.inputs.flatten(2)[:, :, :3].double().numpy()
    assert found.tolist() == pytest.approx([cosine(*pair) for pair in outputs], abs=1e-6)


def test_equal_pictures_are_at_no_distance():
    inputs = torch.rand(200, 1, 1, 8, 8, generator=torch.Generator().manual_seed(0)).expand(-1, 2, -1, -1, -1)
    distances = DecisionDistances().represent(tiny_victim(), Queries(inputs)).values
    assert 0 <= distances.min() <= distances.max() < 1e-5
    assert not LabelShifts().represent(tiny_victim(), Queries(inputs)).values.any()


def test_label_shifts_count_modulo_the_classes():
    inputs = torch.zeros(3, 2, 1, 2, 2)
    for row, (seed, partner) in enumerate([(3, 1), (1, 3), (2, 2)]):
        inputs[row, 0].view(-1)[seed] = 1
        inputs[row, 1].view(-1)[partner] = 1
    found = LabelShifts().represent(Pixels(access=Access.LABELS), Queries(inputs))
    assert found.values.tolist() == [2, 2, 0]


@pytest.mark.parametrize("shape", [(4, 1, 2, 2), (4, 3, 1, 2, 2)])
@pytest.mark.parametrize("representer", [DecisionDistances(), LabelShifts()], ids=["distances", "shifts"])
def test_what_is_no_pair_is_refused(representer, shape):
    with pytest.raises(UsageError, match="pairs"):
        representer.represent(Pixels(), Queries(torch.zeros(shape)))


def test_unknown_outputs_are_refused(pairs):
    with pytest.raises(UsageError, match="logits"):
        DecisionDistances(outputs="logits").represent(Pixels(), pairs)
