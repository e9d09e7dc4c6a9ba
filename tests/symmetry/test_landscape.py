"""The metrics of loss landscapes against exact Hessians, other formulas and analytic cases."""

from __future__ import annotations

import math
from itertools import permutations

import pytest
import torch
from scipy.spatial.distance import jensenshannon

from whorl.errors import UsageError
from whorl.nets.training import build
from whorl.symmetry.alignment.curvature import hessian_trace, loss_of, top_eigenvalue
from whorl.symmetry.alignment.landscape import agreement, jensen_shannon, linear_cka, mode_connectivity
from whorl.symmetry.alignment.paths import Profile


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_mode_connectivity_is_signed():
    at = torch.linspace(0, 1, 3)
    assert mode_connectivity(Profile(at, torch.tensor([1.0, 4.0, 2.0]), at)) == pytest.approx(-2.5)
    assert mode_connectivity(Profile(at, torch.tensor([1.0, 0.2, 2.0]), at)) == pytest.approx(1.3)


@pytest.fixture(scope="module")
def tiny():
    """A loss of 62 parameters, where it is, and its exact Hessian."""
    net = build("mlp(width=4)", (1, 3, 3), 4, generator()).double()
    inputs = torch.rand(30, 1, 3, 3, generator=generator()).double()
    labels = torch.randint(0, 4, (30,), generator=generator())
    loss, point = loss_of(net, inputs, labels)
    return loss, point, torch.autograd.functional.hessian(loss, point)


def test_the_trace_is_that_of_the_exact_hessian(tiny):
    loss, point, hessian = tiny
    trace, error = hessian_trace(loss, point, generator=generator(), draws=400)
    assert abs(trace - float(hessian.trace())) < 4 * error
    spread = 2 * float(hessian.square().sum() - hessian.diag().square().sum())  # of one draw with random signs
    assert error == pytest.approx(math.sqrt(spread / 400), rel=0.2)


def test_the_top_eigenvalue_is_that_of_the_exact_hessian(tiny):
    loss, point, hessian = tiny
    found = top_eigenvalue(loss, point, generator=generator(), tolerance=1e-8)
    assert found == pytest.approx(float(torch.linalg.eigvalsh(hessian)[-1]), rel=1e-6)


def test_the_largest_is_not_the_most_negative():
    curvatures = torch.tensor([1.0, -9.0, 3.0])
    found = top_eigenvalue(lambda x: (curvatures * x.square()).sum() / 2, torch.ones(3), generator=generator())
    assert found == pytest.approx(3, rel=1e-4)


def test_the_loss_is_that_of_the_net():
    net = build("resnet8(width=4)", (3, 8, 8), 10, generator())
    inputs, labels = torch.rand(20, 3, 8, 8, generator=generator()), torch.arange(20) % 10
    loss, point = loss_of(net, inputs, labels)
    expected = torch.nn.functional.cross_entropy(net.eval()(inputs), labels)
    assert float(loss(point)) == pytest.approx(float(expected.detach()), rel=1e-6)
    assert math.isfinite(top_eigenvalue(loss, point, generator=generator(), tolerance=1e-2))


def test_cka_is_unchanged_by_turns_and_scale():
    one = torch.randn(50, 8, generator=generator())
    turn = torch.linalg.qr(torch.randn(8, 8, generator=generator(1)))[0]
    for debiased in (True, False):
        assert linear_cka(one, 3 * one @ turn + 5, debiased=debiased) == pytest.approx(1, abs=1e-6)


def test_plain_cka_is_the_formula_of_features():
    one, other = torch.randn(30, 5, generator=generator()), torch.randn(30, 7, generator=generator(1))
    x, y = one - one.mean(0), other - other.mean(0)
    expected = (y.T @ x).norm() ** 2 / ((x.T @ x).norm() * (y.T @ y).norm())
    assert linear_cka(one, other, debiased=False) == pytest.approx(float(expected), rel=1e-5)


def test_unbiased_hsic_is_the_mean_over_distinct_inputs():
    """Song et al.: an average over four distinct indices, here all of them, of six inputs."""
    one, other = torch.randn(6, 3, generator=generator()).double(), torch.randn(6, 2, generator=generator(1)).double()

    def brute(a, b):
        k, m = a @ a.T, b @ b.T
        terms = [
            k[i, j] * m[i, j] + k[i, j] * m[p, q] - 2 * k[i, j] * m[i, q] for i, j, p, q in permutations(range(6), 4)
        ]
        return float(sum(terms)) / len(terms)

    expected = brute(one, other) / math.sqrt(brute(one, one) * brute(other, other))
    assert linear_cka(one, other) == pytest.approx(expected, rel=1e-9)


def test_debiased_cka_of_unrelated_features_is_near_zero():
    drawn = [
        (torch.randn(40, 400, generator=generator(2 * i)), torch.randn(40, 400, generator=generator(2 * i + 1)))
        for i in range(20)
    ]
    debiased = [linear_cka(*pair) for pair in drawn]
    assert abs(sum(debiased) / 20) < 0.02
    assert min(linear_cka(*pair, debiased=False) for pair in drawn) > 0.8  # what the debiased form is for


def test_agreement_and_divergence():
    one, other = torch.randn(40, 6, generator=generator()), torch.randn(40, 6, generator=generator(1))
    assert agreement(one, one + 7) == 1
    assert agreement(one, other) == pytest.approx(
        sum(a.argmax() == b.argmax() for a, b in zip(one, other, strict=True)) / 40
    )
    expected = jensenshannon(one.softmax(1).numpy(), other.softmax(1).numpy(), axis=1) ** 2
    assert jensen_shannon(one, other) == pytest.approx(float(expected.mean()), rel=1e-5)
    apart = torch.tensor([[1e4, 0.0]]), torch.tensor([[0.0, 1e4]])
    assert jensen_shannon(*apart) == pytest.approx(math.log(2))
    assert jensen_shannon(one, one) == pytest.approx(0, abs=1e-12)


def test_refusals():
    with pytest.raises(UsageError, match="CKA compares"):
        linear_cka(torch.rand(3, 2), torch.rand(3, 2))
    with pytest.raises(UsageError, match="the same for all inputs"):
        linear_cka(torch.ones(9, 2), torch.rand(9, 2))
    with pytest.raises(UsageError, match="2 draws or more"):
        hessian_trace(lambda x: x.square().sum(), torch.ones(3), generator=generator(), draws=1)
    with pytest.raises(UsageError, match="two parameters"):
        top_eigenvalue(lambda x: x.square().sum(), torch.ones(1), generator=generator())
