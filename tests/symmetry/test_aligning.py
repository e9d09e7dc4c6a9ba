"""Two nets on one another: disguises are seen through, no line parts a tuned copy, and strangers are strangers."""

from __future__ import annotations

import copy

import pytest
import torch

from whorl.data.base import join
from whorl.errors import AccessRefused, UsageError
from whorl.nets.training import predict
from whorl.oracles.wrappers import LabelsOnly
from whorl.removals import REMOVALS
from whorl.removals.base import opened
from whorl.symmetry.aligning import Aligning, align
from whorl.symmetry.alignment.permutations import permute, random_permutations
from whorl.symmetry.alignment.tracing import permutation_spec
from whorl.testing import tiny_data, tiny_victim

NET = "mlp(width=32, depth=2)"


def drawn(seed=0):
    return torch.Generator().manual_seed(seed)


def pictures():
    return join(tiny_data("queries"), tiny_data("test"))


def aligned(other, data=None, **settings):
    return align(tiny_victim(architecture=NET), other, data, generator=drawn(), settings=Aligning(**settings))


def shuffled(victim, seed=1):
    """The victim with its units in random order."""
    net = copy.deepcopy(victim.module)
    spec = permutation_spec(net)
    net.load_state_dict(permute(net.state_dict(), spec, random_permutations(spec, drawn(seed))))
    return opened(net, victim, name="shuffled")


@pytest.mark.parametrize("match", ["weights", "activations"])
def test_a_shuffled_copy_comes_back(match):
    victim = tiny_victim(architecture=NET)
    found = aligned(shuffled(victim), pictures(), match=match)
    if match == "weights":  # units that pictures never excite have no activations to be told by
        for name, value in victim.module.state_dict().items():
            torch.testing.assert_close(found.aligned.state_dict()[name], value)
    assert found.same_digest
    assert found.distance < 1e-6
    assert found.moved > found.units / 2
    assert found.paths["as they are"].loss_barrier > 0.1
    assert found.paths["aligned"].loss_barrier < 1e-5
    assert found.ends.agreement == 1


def test_no_line_separates_a_tuned_copy_and_one_separates_strangers():
    """Over three seeds: the barrier of the unaligned line, and the order of what is done against it."""
    victim = tiny_victim(architecture=NET)
    tune = REMOVALS.make("fine_tune(all, epochs=3)")
    for seed in range(1, 4):
        tuned = opened(tune(victim, tiny_data("attacker"), generator=drawn(seed)), victim, name="tuned")
        near = aligned(tuned, pictures())
        far = aligned(tiny_victim(seed=seed, architecture=NET), pictures())
        assert near.paths["as they are"].loss_barrier < 0.05
        assert far.paths["as they are"].loss_barrier > max(1, 3 * far.paths["aligned"].loss_barrier)
        assert near.distance < 0.3 < 0.8 < far.distance
        assert not near.same_digest
        assert not far.same_digest


def test_the_aligned_net_answers_as_before():
    other, inputs = tiny_victim(seed=1, architecture=NET), tiny_data("test").inputs()
    found = aligned(other)
    torch.testing.assert_close(predict(found.aligned, inputs), predict(other.module, inputs), rtol=1e-4, atol=1e-4)
    assert (found.paths, found.ends) == ({}, None)


def test_nets_of_other_widths_are_compared_and_not_walked():
    """One hidden layer is decided, others have a distance, other depths only answers."""
    one, wide = (tiny_victim(architecture=f"mlp(width={width})") for width in (16, 32))
    found = align(one, wide, pictures(), generator=drawn())
    assert (found.aligned, found.paths, found.same_function, found.same_digest) == (None, {}, False, False)
    assert found.distance > 0.5
    split = REMOVALS.make("reparametrise")(one, tiny_data("attacker"), generator=drawn())
    assert align(one, opened(split, one, name="scaled"), generator=drawn()).same_function
    deep = align(one, tiny_victim(architecture=NET), pictures(), generator=drawn())
    assert deep.distance is None
    assert any("other layers" in note for note in deep.notes)
    assert 0 < deep.ends.agreement < 1


def test_curves_and_curvature_are_measured_where_asked():
    found = aligned(tiny_victim(seed=1, architecture=NET), pictures(), curve=3, curvature=True, points=5)
    assert len(found.paths["curve"].losses) == 5
    assert found.paths["curve"].loss_barrier < found.paths["as they are"].loss_barrier
    assert min(found.ends.sharpness) > 0
    plain = aligned(tiny_victim(seed=1, architecture=NET), pictures())
    assert "curve" not in plain.paths
    assert plain.ends.sharpness is None


def test_what_cannot_be_aligned_is_refused():
    victim = tiny_victim(architecture=NET)
    with pytest.raises(UsageError, match="pictures"):
        aligned(victim, match="activations")
    with pytest.raises(AccessRefused):
        aligned(LabelsOnly(victim))
    with pytest.raises(UsageError, match="same inputs"):
        aligned(tiny_victim(architecture="mlp_regressor"))
    with pytest.raises(UsageError, match="points"):
        Aligning(points=1)
