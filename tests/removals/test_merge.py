"""Merging follows the papers' arithmetic, and norms follow the merged weights."""

from __future__ import annotations

import copy

import pytest
import torch

from whorl.errors import UsageError
from whorl.nets.training import Schedule, accuracy, fit
from whorl.removals import REMOVALS
from whorl.removals.merge import dare, ties, trim
from whorl.testing import tiny_victim


def apply(expression, victim, data):
    return REMOVALS.make(expression)(victim, data, generator=torch.Generator().manual_seed(0))


def flat(net):
    return torch.cat([parameter.detach().flatten() for parameter in net.parameters()])


def ties_by_hand(vectors, density):
    """TIES, algorithm 1, entry by entry."""
    trimmed = []
    for vector in vectors.tolist():
        largest = sorted(range(len(vector)), key=lambda k, v=vector: -abs(v[k]))[: max(1, round(density * len(vector)))]
        trimmed.append([value if k in largest else 0.0 for k, value in enumerate(vector)])
    merged = []
    for column in zip(*trimmed, strict=True):
        elected = sum(value for value in column if value > 0) >= sum(-value for value in column if value < 0)
        agreeing = [value for value in column if value != 0 and (value > 0) == elected]
        merged.append(sum(agreeing) / len(agreeing) if agreeing else 0.0)
    return torch.tensor(merged, dtype=vectors.dtype)


@pytest.mark.parametrize("density", [0.01, 0.2, 0.5, 1.0])
@pytest.mark.parametrize("tasks", [1, 2, 5])
def test_ties_is_trim_elect_and_mean(tasks, density):
    vectors = torch.randn(tasks, 40, generator=torch.Generator().manual_seed(tasks), dtype=torch.float64)
    torch.testing.assert_close(ties(vectors, density), ties_by_hand(vectors, density))


def test_ties_on_paper():
    """Columns: both agree; the larger sign wins alone; one is trimmed; both are trimmed."""
    vectors = torch.tensor([[4.0, -5.0, 3.0, 0.1], [2.0, 3.0, 0.2, 0.1]])
    assert torch.equal(trim(vectors, 0.75), torch.tensor([[4.0, -5, 3, 0], [2, 3, 0.2, 0]]))
    assert trim(vectors, 0.5).tolist() == [[4, -5, 0, 0], [2, 3, 0, 0]]
    assert ties(vectors, 0.5).tolist() == [3, -5, 0, 0]
    assert ties(torch.tensor([[1.0, 2.0], [-1.0, 2.0]]), 1.0).tolist() == [0, 2], "a tie elects no sign"


def test_dare_drops_at_random_and_rescales():
    vectors = torch.randn(3, 20_000, generator=torch.Generator().manual_seed(0))
    dropped = dare(vectors, 0.25, torch.Generator().manual_seed(1))
    kept = dropped != 0
    torch.testing.assert_close(dropped[kept], vectors[kept] / 0.25)
    assert kept.float().mean(1).tolist() == pytest.approx([0.25] * 3, abs=0.02)
    assert float((kept[0] & kept[1]).float().mean()) == pytest.approx(1 / 16, abs=0.01), "each task on its own"
    many = torch.stack([dare(vectors[:, :50], 0.25, torch.Generator().manual_seed(seed)) for seed in range(4000)])
    assert float((many.mean(0) - vectors[:, :50]).abs().max()) < 0.3, "right on average"
    assert torch.equal(dare(vectors, 1.0, torch.Generator()), vectors)


def test_methods_are_weighted_sums_of_the_same_task_vectors(victim, attacker_data):
    before = flat(victim.module)

    def moved(settings):
        return flat(apply(f"merge({settings}, epochs=1)", victim, attacker_data)) - before

    linear, total = moved("linear, tasks=3"), moved("task-arithmetic, tasks=3")
    assert float(linear.abs().max()) > 0
    torch.testing.assert_close(total, 3 * linear, rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(moved("linear, tasks=3, weight=0.5"), linear / 2, rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(moved("dare, tasks=3, density=1.0"), linear, rtol=1e-3, atol=1e-6)
    assert not torch.allclose(moved("dare, tasks=3, density=0.5"), linear, atol=1e-4)
    assert float((moved("ties, tasks=3, density=0.2") != 0).float().mean()) < 0.6


def test_the_copies_are_tuned_on_disjoint_shares(victim, attacker_data):
    """The uniform soup of two copies, one for each half of the pictures in random order, tuned one after the other."""
    soup = flat(apply("merge(linear, tasks=2, epochs=1, learning_rate=0.02)", victim, attacker_data))
    generator = torch.Generator().manual_seed(0)
    order, tuned = torch.randperm(len(attacker_data), generator=generator), []
    middle = (len(order) + 1) // 2
    for share in (order[:middle], order[middle:]):
        net = copy.deepcopy(victim.module)
        fit(net, attacker_data.subset(share), Schedule(epochs=1, learning_rate=0.02), generator=generator)
        tuned.append(flat(net))
    torch.testing.assert_close(soup, (tuned[0] + tuned[1]) / 2)


def test_norms_take_their_statistics_from_the_merged_weights(victim, attacker_data):
    net = apply("merge(task-arithmetic, epochs=2)", victim, attacker_data)
    images = attacker_data.inputs()
    batches = images[: len(images) // 100 * 100].split(100)
    with torch.no_grad():
        made = [net.stem[0]((batch - net.mean) / net.std) for batch in batches]
    means = torch.stack([batch.mean((0, 2, 3)) for batch in made]).mean(0)
    spreads = torch.stack([batch.transpose(0, 1).flatten(1).var(1) for batch in made]).mean(0)
    torch.testing.assert_close(net.stem[1].running_mean, means, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(net.stem[1].running_var, spreads, rtol=1e-4, atol=1e-5)
    assert net.stem[1].momentum == victim.module.stem[1].momentum


@pytest.mark.parametrize("method", ["linear", "task-arithmetic", "ties", "dare"])
def test_the_merged_copy_still_works(method, victim, attacker_data, held_out):
    net = apply(f"merge({method}, tasks=3)", victim, attacker_data)
    assert accuracy(net, held_out) > accuracy(victim.module, held_out) - 0.05


def test_nets_without_norms_are_merged(attacker_data, held_out):
    victim = tiny_victim(architecture="mlp(width=16)")
    net = apply("merge(ties)", victim, attacker_data)
    assert accuracy(net, held_out) > accuracy(victim.module, held_out) - 0.05


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("slerp", "linear, task-arithmetic, ties or dare, not slerp"),
        ("density=0", "above 0 and at most 1"),
        ("tasks=0", "at least 1"),
        ("tasks=450", "shares"),
    ],
)
def test_settings_out_of_range_are_refused(wrong, says, victim, attacker_data):
    with pytest.raises(UsageError, match=says):
        apply(f"merge({wrong})", victim, attacker_data)
