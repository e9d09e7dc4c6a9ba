"""DeepJudge's neuron tests."""

from __future__ import annotations

import pytest
import torch

from whorl.errors import AccessRefused, UsageError
from whorl.oracles.wrappers import LabelsOnly
from whorl.queries.neurons import NeuronTests, layered
from whorl.testing import tiny_data, tiny_victim


@pytest.fixture(scope="module")
def victim():
    return tiny_victim()


def made(victim, budget=8, **settings):
    settings = {"layer": 4, "iterations": 200, "patience": 20} | settings
    return NeuronTests(**settings).tests(
        victim, tiny_data("queries"), budget=budget, generator=torch.Generator().manual_seed(0)
    )


def test_tests_excite_their_own_neuron_beyond_the_pictures(victim):
    queries = made(victim)
    layer, neuron = queries.notes["layer"], queries.companions["neuron"]
    assert layer == list(victim.layers)[3]
    assert sorted(neuron.tolist()) == list(range(victim.layers[layer])), "every neuron once"
    reached = victim.activations(queries.inputs, layer)
    assert torch.equal(reached, queries.companions["activations"])
    highest = victim.activations(tiny_data("queries").inputs(), layer).amax(0)[neuron]
    own = reached.gather(1, neuron[:, None]).squeeze(1)
    assert float((own > highest).float().mean()) >= 0.75
    wanted = highest + 2 * highest.abs()
    assert queries.notes["reached"] == pytest.approx(float((own >= wanted - 1e-5).float().mean()))


def test_a_lower_goal_takes_fewer_passes(victim):
    easy, hard = made(victim, multiple=1.1), made(victim, multiple=10.0)
    assert int(easy.companions["passes"].sum()) < int(hard.companions["passes"].sum())


def test_a_larger_budget_tests_neurons_again_from_other_pictures(victim):
    queries = made(victim, budget=20)
    counts = queries.companions["neuron"].bincount(minlength=8)
    assert sorted(counts.tolist()) == [2] * 4 + [3] * 4
    assert len(queries.inputs.unique(dim=0)) == 20


@pytest.mark.parametrize("layer", [0, 99, -1])
def test_a_layer_that_is_not_hidden_is_refused(victim, layer):
    with pytest.raises(UsageError, match="hidden layers"):
        made(victim, layer=layer)


def test_the_head_is_not_hidden(victim):
    with pytest.raises(UsageError, match="hidden layers"):
        made(victim, layer=len(victim.layers))


def test_only_modules_show_their_layers(victim):
    with pytest.raises(AccessRefused, match="PyTorch module"):
        layered(LabelsOnly(victim))
