"""NOD, NAD, LOD and LAD by hand."""

from __future__ import annotations

import pytest
import torch

from whorl.representations.activations import WHITE_BOX, activation_distances

OWNER = torch.tensor([[0.0, 1.0, 4.0], [2.0, 0.0, 1.5]])
SUSPECT = torch.tensor([[3.0, 1.0, 0.0], [2.0, 0.0, 0.5]])
NEURON = torch.tensor([2, 0])


def test_by_hand():
    found = dict(zip(WHITE_BOX, activation_distances(OWNER, SUSPECT, NEURON).tolist(), strict=True))
    assert found["NOD"] == pytest.approx((4 + 0) / 2)
    # Active above half the range: owner 001 and 101, suspect 100 and 100.
    assert found["NAD"] == pytest.approx((1 + 0) / 2)
    assert found["LOD"] == pytest.approx((5 + 1) / 2)
    assert found["LAD"] == pytest.approx((2 + 1) / 6)


def test_equal_activations_have_no_distance():
    assert activation_distances(OWNER, OWNER, NEURON).tolist() == [0, 0, 0, 0]


def test_threshold_moves_activation_distances_only():
    low = activation_distances(OWNER, SUSPECT, NEURON, threshold=0.2)
    assert low[3] == pytest.approx((2 + 0) / 6)  # owner 011 and 101, suspect 110 and 101
    assert torch.equal(low[[0, 2]], activation_distances(OWNER, SUSPECT, NEURON)[[0, 2]])


def test_a_layer_without_range_is_not_active():
    flat = torch.ones(2, 3)
    assert activation_distances(flat, 2 * flat, NEURON)[[1, 3]].tolist() == [0, 0]
