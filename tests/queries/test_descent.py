"""Adam on a shrinking batch gives what one optimiser a picture gives."""

from __future__ import annotations

import pytest
import torch

from whorl.oracles.torch import frozen
from whorl.queries.boundary import boundary_loss
from whorl.queries.descent import Adam, descend
from whorl.testing import tiny_data, tiny_net

RATE = 0.01


def alone(start, loss, iterations):
    """torch.optim.Adam on one picture: best point, its loss, and the passes taken."""
    point = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([point], lr=RATE)
    best, best_loss = start.clone(), float("inf")
    for step in range(iterations):
        optimizer.zero_grad()
        value = loss(point)
        if value.item() < best_loss:
            best, best_loss = point.detach().clone(), value.item()
        if value.item() == 0:
            return best, best_loss, step + 1
        value.backward()
        optimizer.step()
        with torch.no_grad():
            point.clamp_(0, 1)
    return best, best_loss, iterations


def test_the_same_as_one_optimiser_a_picture():
    """On the boundary loss of a real net; rows leave the batch at different times."""
    model, seeds = frozen(tiny_net()), tiny_data("victim").inputs(slice(0, 12))
    with torch.no_grad():
        logits = model(seeds)
    source, target = logits.argmax(1), logits.topk(2).indices[:, 1]
    together = descend(
        seeds,
        lambda points, rows: boundary_loss(model(points), source[rows], target[rows], 0.5),
        learning_rate=RATE,
        iterations=15,
    )
    assert 0 < int((together.losses == 0).sum()) < len(seeds), "some leave early and some stay"
    for row in range(len(seeds)):
        best, loss, passes = alone(
            seeds[row : row + 1],
            lambda point, row=row: boundary_loss(model(point), source[row, None], target[row, None], 0.5).sum(),
            15,
        )
        torch.testing.assert_close(together.points[row : row + 1], best, rtol=0, atol=1e-5)
        assert float(together.losses[row]) == pytest.approx(loss, abs=1e-4)
        assert int(together.passes[row]) == passes


def test_adam_is_torchs():
    slopes = torch.randn(30, 4, 6, generator=torch.Generator().manual_seed(0))
    point = torch.zeros(4, 6, requires_grad=True)
    optimizer, own, ours = torch.optim.Adam([point], lr=RATE), torch.zeros(4, 6), Adam(torch.zeros(4, 6), RATE)
    for slope in slopes:
        point.grad = slope.clone()
        optimizer.step()
        own -= ours.step(slope)
        torch.testing.assert_close(own, point.detach(), rtol=0, atol=1e-6)


def square(goal):
    """Distance of each picture's mean to its goal, less 0.01: a loss with a floor of 0 or above."""
    return lambda points, rows: ((points.mean((1, 2, 3)) - goal[rows]).abs() - 0.01).relu()


def flat(*levels):
    return torch.tensor(levels).view(-1, 1, 1, 1).expand(-1, 1, 2, 2).clone()


def test_rows_stop_at_loss_zero_and_are_asked_no_more():
    asked = []

    def loss(points, rows):
        asked.append(rows.tolist())
        return square(torch.tensor([0.5, 0.55, 0.8]))(points, rows)

    end = descend(flat(0.5, 0.5, 0.5), loss, learning_rate=RATE, iterations=100)
    assert bool((end.losses == 0).all())
    assert end.passes.tolist() == [sum(row in rows for rows in asked) for row in range(3)]
    assert end.passes.tolist()[0] == 1
    assert len(asked) == int(end.passes.max())
    assert torch.equal(end.points[0], flat(0.5)[0]), "a row that is done at once does not move"


def test_the_best_iterate_is_kept():
    """With steps too large the last point is not the best one."""
    seen = []

    def loss(points, rows):
        values = (points.mean((1, 2, 3)) - 0.5).abs() + 0.1
        seen.append((values.item(), points.detach().clone()))
        return values

    end = descend(flat(0.56), loss, learning_rate=0.05, iterations=9)
    best = min(seen, key=lambda pair: pair[0])
    assert float(end.losses) == best[0] < seen[-1][0]
    assert torch.equal(end.points, best[1])


def test_points_stay_in_the_box():
    """The goal lies outside, so the loss never gets to 0 and the point rests on the edge."""
    end = descend(flat(0.9, 0.1), square(torch.tensor([2.0, -1.0])), learning_rate=0.05, iterations=20)
    assert torch.equal(end.points, flat(1.0, 0.0))
    assert end.losses.tolist() == pytest.approx([0.99, 0.99])


def test_patience_gives_up_rows_that_stand_still():
    """Row 0 improves until it arrives; row 1 has a loss that nothing changes."""

    def loss(points, rows):
        moving = (points.mean((1, 2, 3)) - 0.9).abs() - 0.01
        return torch.where(rows == 0, moving.relu(), 1 + 0 * moving)

    patient = descend(flat(0.5, 0.5), loss, learning_rate=RATE, iterations=60, patience=7)
    assert float(patient.losses[0]) == 0
    assert int(patient.passes[1]) == 1 + 7, "the first value, then seven that are no better"
    stubborn = descend(flat(0.5, 0.5), loss, learning_rate=RATE, iterations=60)
    assert int(stubborn.passes[1]) == 60
    assert torch.equal(stubborn.points[0], patient.points[0])


def test_enough_stops_all():
    goals = torch.tensor([0.52, 0.54, 0.7, 0.9])
    end = descend(flat(*[0.5] * 4), square(goals), learning_rate=RATE, iterations=100, enough=2)
    assert int((end.losses == 0).sum()) == 2
    assert end.passes[2] == end.passes[3] == end.passes[1]


def test_no_iteration_moves_nothing():
    start = flat(0.3, 0.6)
    end = descend(start, square(torch.tensor([0.9, 0.9])), learning_rate=RATE, iterations=0)
    assert torch.equal(end.points, start)
    assert bool(end.losses.isinf().all())
