"""The universal perturbation against an analytic step, points and views against their definition."""

from __future__ import annotations

import math

import pytest
import torch

from whorl.errors import UsageError
from whorl.oracles.pool import Pool
from whorl.queries.descent import Adam
from whorl.queries.universal import UniversalPerturbation, contrastive_loss, neighbourhoods, perturb, view_index
from whorl.testing import tiny_data, tiny_pool, tiny_victim


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def pool():
    return tiny_pool(count=1)


def sample(pool, *, budget=10, seed=0, data=None, **settings):
    sampler = UniversalPerturbation(**{"epochs": 5, "steps": 20} | settings)
    return sampler.sample_with(
        tiny_victim(), data or tiny_data("victim"), pool, budget=budget, generator=generator(seed)
    )


def test_a_step_goes_against_the_mean_margin_of_a_linear_model():
    weights = torch.randn(3, 4, generator=generator())
    images, labels = torch.full((5, 1, 2, 2), 0.5), torch.tensor([0, 0, 0, 0, 0])
    labels[:] = (weights @ images[0].flatten()).argmax()
    other = (weights @ images[0].flatten()).topk(2).indices[1]
    change = torch.zeros(1, 2, 2)
    after = perturb(lambda x: x.flatten(1) @ weights.T, images, labels, change, Adam(change, 0.01), 0.1)
    expected = -0.01 * (weights[labels[0]] - weights[other]).sign()
    torch.testing.assert_close(after.flatten(), expected, rtol=0, atol=1e-6)
    bounded = perturb(lambda x: x.flatten(1) @ weights.T, images, labels, change, Adam(change, 0.5), 0.1)
    assert float(bounded.abs().max()) == pytest.approx(0.1)


def test_pictures_that_are_fooled_pull_no_longer():
    images, change = torch.full((2, 1, 1, 2), 0.5), torch.zeros(1, 1, 2)
    answers = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    wrong = torch.tensor([1, 1])
    after = perturb(
        lambda x: x.flatten(1) @ answers + torch.tensor([1.0, 0.0]), images, wrong, change, Adam(change, 1), 1
    )
    assert not after.any()


def test_contrastive_loss_is_equation_2():
    embedded = torch.nn.functional.normalize(torch.randn(7, 3, generator=generator(), dtype=torch.float64), dim=1)
    kind = [0, 0, 0, 1, 1, 2, 2]
    losses = []
    for i in range(7):
        total = sum(math.exp(float(embedded[i] @ embedded[a]) / 0.2) for a in range(7) if a != i)
        partners = [p for p in range(7) if p != i and kind[p] == kind[i]]
        terms = [math.log(math.exp(float(embedded[i] @ embedded[p]) / 0.2) / total) for p in partners]
        losses.append(-sum(terms) / len(partners))
    found = contrastive_loss(embedded, torch.tensor(kind), 0.2)
    assert float(found) == pytest.approx(sum(losses) / 7, abs=1e-12)
    embedded.requires_grad_()
    (slope,) = torch.autograd.grad(contrastive_loss(embedded, torch.tensor(kind), 0.2), embedded)
    assert bool(slope.isfinite().all())


def test_neighbourhoods_are_the_clusters_in_random_order():
    centres = torch.tensor([[0.0, 0.0], [50.0, 0.0], [0.0, 50.0]])
    member = torch.arange(30) % 3
    scores = centres[member] + torch.rand(30, 2, generator=generator())
    near = neighbourhoods(scores, 3, 10, generator(1))
    assert near.shape == (3, 10)
    assert sorted(int(member[row[0]]) for row in near) == [0, 1, 2]
    for row in near:
        assert len(row.unique()) == 10
        assert len(member[row].unique()) == 1
    again, other = neighbourhoods(scores, 3, 10, generator(1)), neighbourhoods(scores, 3, 10, generator(2))
    assert torch.equal(near, again)
    assert not torch.equal(near, other)


def test_a_small_cluster_borrows_the_nearest_pictures():
    near = neighbourhoods(torch.tensor([[0.0], [10.0], [10.1], [10.2]]), 2, 3, generator())
    assert sorted(sorted(row) for row in near.tolist()) == [[0, 1, 2], [1, 2, 3]]


@pytest.mark.parametrize(
    ("budget", "views", "index"),
    [(6, 2, [[0, 1, 2], [3, 4, 5]]), (7, 3, [[0, 1, 2], [3, 4, 5], [6, 1, 2]]), (1, 1, [[0]])],
)
def test_views_take_one_query_of_each_cluster(budget, views, index):
    assert view_index(budget, views).tolist() == index


def test_pairs_differ_by_one_change_within_epsilon(pool):
    queries = sample(pool, epsilon=0.07)
    change = queries.shared["perturbation"]
    assert 0 < float(change.abs().max()) <= 0.07 + 1e-6
    assert queries.inputs.shape == (10, 2, 1, 8, 8)
    torch.testing.assert_close(queries.inputs[:, 1], (queries.inputs[:, 0] + change).clamp(0, 1))
    pictures = tiny_data("victim").inputs().flatten(1)
    assert float(torch.cdist(queries.inputs[:, 0].flatten(1), pictures).amin(1).max()) < 1e-6


def test_the_noted_rate_is_the_share_of_changed_labels_and_the_search_stops_at_its_goal(pool):
    images, victim = tiny_data("victim").inputs(), tiny_victim()
    rates, sizes = [], []
    for fooling in (0.2, 0.9):
        queries = sample(pool, epsilon=0.5, epochs=20, fooling=fooling, encode=False)
        change = queries.shared["perturbation"]
        changed = victim.labels((images + change).clamp(0, 1)) != victim.labels(images)
        assert float(changed.float().mean()) == pytest.approx(queries.notes["fooled"], abs=1e-6)
        rates.append(queries.notes["fooled"])
        sizes.append(float(change.abs().mean()))
    assert 0.2 <= rates[0] < rates[1]
    assert sizes[0] < sizes[1]


def test_without_an_encoder_the_pool_is_not_asked():
    pool = tiny_pool(count=1)
    queries = sample(pool, encode=False)
    assert set(queries.shared) == {"perturbation", "views"}
    assert not any(model.queries_spent for model in (*pool.copies, *pool.independent))


def test_every_shadow_model_is_asked_each_point_once():
    pool = tiny_pool(count=1)
    sample(pool, neighbours=7)
    spent = {model.queries_spent for model in (*pool.copies, *pool.independent)}
    assert len(spent) == 1
    assert spent.pop() <= 2 * 2 * 7, "two clusters of seven pairs"


def test_odd_budgets_and_single_views_are_served(pool):
    for budget, views in ((1, 5), (7, 3), (5, 1)):
        queries = sample(pool, budget=budget, views=views)
        assert len(queries) == budget
        assert set(queries.shared["views"].flatten().tolist()) == set(range(budget))


def test_too_few_pictures_and_too_small_pools_are_refused(pool):
    with pytest.raises(UsageError, match="20 pictures are needed and the data hold 15"):
        sample(pool, data=tiny_data("victim").subset(slice(0, 15)))
    with pytest.raises(UsageError, match="at least 1 copies"):
        sample(Pool({}, pool.independent))
    with pytest.raises(UsageError, match="shadow models"):
        UniversalPerturbation().sample(tiny_victim(), tiny_data("victim"), budget=5, generator=generator())
