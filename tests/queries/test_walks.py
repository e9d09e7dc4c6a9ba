"""Noise walks, the pictures they start from, and the regressor that reads them."""

from __future__ import annotations

import pytest
import torch

from whorl.data.base import join
from whorl.errors import UsageError
from whorl.queries.walks import LAWS, fit_regressor, regress, walks
from whorl.schemes.dataset_inference import BlindWalk
from whorl.testing import tiny_data, tiny_victim


def chance(seed=0):
    return torch.Generator().manual_seed(seed)


def steps_of(pictures, directions=2, steps=4, reach=8.0):
    """The picture and its walks ``[n, laws * directions, steps, c, h, w]``."""
    walked = walks(pictures, directions, steps, reach, chance())
    return walked[:, 0], walked[:, 1:].unflatten(1, (-1, steps))


def test_walks_are_straight_and_grow_geometrically():
    pictures = torch.full((3, 1, 6, 6), 0.5)
    start, walked = steps_of(pictures, reach=1.5**3)
    assert torch.equal(start, pictures)
    moved = walked - 0.5
    assert walked.shape == (3, 6, 4, 1, 6, 6)
    for step, growth in enumerate((1, 1.5, 2.25, 3.375)):
        torch.testing.assert_close(moved[:, :, step], growth * moved[:, :, 0], rtol=1e-4, atol=1e-6)


def test_each_law_has_its_spread():
    _, walked = steps_of(torch.full((40, 1, 16, 16), 0.5), directions=2)
    first = (walked[:, :, 0] - 0.5).unflatten(1, (3, 2)).transpose(0, 1).flatten(1)
    uniform, normal, laplace = first
    assert float(uniform.abs().max()) == pytest.approx(LAWS["uniform"], rel=0.01)
    assert float(normal.std()) == pytest.approx(LAWS["normal"], rel=0.05)
    assert float(laplace.abs().mean()) == pytest.approx(LAWS["laplace"], rel=0.05)
    assert float(laplace.std()) == pytest.approx(LAWS["laplace"] * 2**0.5, rel=0.05)
    for law in first:
        assert abs(float(law.mean())) < 0.001


def test_walks_stay_in_the_box():
    _, walked = steps_of(torch.rand(5, 1, 6, 6, generator=chance()), reach=500.0)
    assert float(walked.min()) == 0
    assert float(walked.max()) == 1


def test_the_regressor_tells_what_is_told_apart_and_not_chance():
    features = torch.randn(400, 5, generator=chance()) * 7 + 30
    public = torch.arange(400) % 2 == 1
    features[public, 2] -= 14  # two deviations nearer to the boundary
    shared = fit_regressor(features[:200], public[:200], 20, rounds=300, learning_rate=0.1, generator=chance())
    score = regress(shared, features[200:])
    assert score.abs().max() <= 1
    right = ((score > 0) == public[200:]).float().mean()
    assert float(right) > 0.75
    blurred = regress(shared, features[200:][:, [0, 1, 0, 3, 4]])
    assert float(((blurred > 0) == public[200:]).float().mean()) == pytest.approx(0.5, abs=0.1)


def test_a_constant_feature_says_nothing():
    features = torch.tensor([[1.0, 4.0], [2.0, 4.0], [3.0, 4.0], [4.0, 4.0]])
    shared = fit_regressor(
        features, torch.tensor([True, True, False, False]), 4, rounds=10, learning_rate=0.1, generator=chance()
    )
    assert regress(shared, features).isfinite().all()


def test_queries_are_half_private_half_public_and_none_trained_the_regressor():
    scheme = BlindWalk(directions=1, steps=2)
    asked = []

    class Watched(BlindWalk):
        def distances(self, oracle, inputs, truth):
            asked.append(inputs[:, 0])
            return super().distances(oracle, inputs, truth)

    data = tiny_data("victim+queries")
    queries = Watched(directions=1, steps=2, rounds=5).sample(tiny_victim(), data, budget=21, generator=chance())
    assert scheme.sample(tiny_victim(), data, budget=21, generator=chance()).inputs.equal(queries.inputs)
    pictures, public = queries.inputs[:, 0], queries.companions["public"]
    assert int(public.sum()) == 10
    parts = {kind: {each.numpy().tobytes() for each in tiny_data(kind).images} for kind in ("victim", "queries")}
    for picture, is_public in zip(pictures, public.tolist(), strict=True):
        assert picture.numpy().tobytes() in parts["queries" if is_public else "victim"]
    learned = {each.numpy().tobytes() for each in torch.cat(asked)}
    assert not learned & {each.numpy().tobytes() for each in pictures}
    assert queries.notes["fitted_on"] == len(learned)


def test_the_true_classes_go_with_the_pictures():
    data = tiny_data("victim+queries")
    queries = BlindWalk(directions=1, steps=2, rounds=5).sample(tiny_victim(), data, budget=8, generator=chance())
    known = {image.numpy().tobytes(): int(label) for image, label in zip(data.images, data.labels, strict=True)}
    found = [known[picture.numpy().tobytes()] for picture in queries.inputs[:, 0]]
    assert queries.companions["truth"].tolist() == found


@pytest.mark.parametrize(
    ("data", "budget", "says"),
    [
        (tiny_data("victim"), 10, "victim\\+queries"),
        (tiny_data("victim+queries"), 3, "at least 4"),
        (tiny_data("victim+queries"), 370, "to learn from"),
        (join(tiny_data("victim"), tiny_data("queries").subset(slice(0, 6))), 10, "to learn from"),
    ],
)
def test_too_little_to_compare_is_refused(data, budget, says):
    with pytest.raises(UsageError, match=says):
        BlindWalk(directions=1, steps=2).sample(tiny_victim(), data, budget=budget, generator=chance())
