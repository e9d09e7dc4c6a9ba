"""What a thief without pictures gets (Truong et al., CVPR 2021), beside thieves with the victim's or others' pictures.

Found here, on digits at 8 px, as mean fidelity on test pictures over two victims and three seeds:

- At 449 queries each: in-distribution pictures 0.89, surrogate ones 0.36, none 0.15, the order of the field.
  With more queries no pictures are better than surrogate ones: 0.74 at 10,000 and 0.84 at 20,000.
- Without the recovery of logits it is 0.21 and 0.28 instead of 0.74 and 0.84, as the paper says.
- Against the paper: uniform noise alone gives 0.66 (0.72 if trained as long) at 10,000 and 0.71 at 20,000, so that on
  victims this small the generator adds little.
"""

from __future__ import annotations

from functools import lru_cache
from statistics import mean

import pytest
import torch

from whorl.data import SOURCES
from whorl.nets.training import Schedule, build, fit, predict
from whorl.oracles.torch import TorchOracle
from whorl.removals import REMOVALS
from whorl.types import Access

pytestmark = pytest.mark.published

DATA = "digits(size=8)"
STUDENT = "'mlp(width=64)'"
PAIRS = [(victim, seed) for victim in ("mlp(width=32)", "mlp(width=64, depth=2)") for seed in range(3)]
MANY = 10_000
FEW = 449  # as many as the thief of the first kind has pictures


@lru_cache
def trained(architecture):
    part = SOURCES.make(DATA).load("victim")
    generator = torch.Generator().manual_seed(0)
    net = build(architecture, part.input_shape, part.outputs, generator)
    net.standardise(part.inputs())
    fit(net, part, Schedule(epochs=15, learning_rate=0.1, policy="one-cycle", batch=25, shift=0), generator=generator)
    return net


@lru_cache
def fidelity(pair, expression):
    architecture, seed = pair
    net, source = trained(architecture), SOURCES.make(DATA)
    victim = TorchOracle(net, input_shape=(1, 8, 8), classes=10, access=Access.PROBABILITIES, digest="victim")
    generator = torch.Generator().manual_seed(10 + seed)
    thief = REMOVALS.make(expression)(victim, source.load("attacker"), generator=generator)
    inputs = source.load("test").inputs()
    return float((predict(thief, inputs).argmax(1) == predict(net, inputs).argmax(1)).float().mean())


def found(expression):
    return [fidelity(pair, expression) for pair in PAIRS]


def data_free(budget, **settings):
    return f"data_free({', '.join([STUDENT, f'budget={budget}', *(f'{k}={v}' for k, v in settings.items())])})"


IN_DISTRIBUTION = f"extract({STUDENT}, probabilities, epochs=20, learning_rate=0.1)"
SURROGATE = f"knockoff({STUDENT}, probabilities, pool='textures(size=8)', budget={FEW}, epochs=20)"
UNIFORM = f"knockoff({STUDENT}, probabilities, pool='noise(shape=[1,8,8],count={MANY})', budget={MANY}, epochs=5)"


def test_the_thiefs_pictures_decide_at_equal_numbers_of_queries():
    own, others, none = found(IN_DISTRIBUTION), found(SURROGATE), found(data_free(FEW))
    assert min(own) > max(others)
    assert mean(others) > mean(none) + 0.05


def test_without_pictures_it_takes_many_more_queries_and_stays_below_those_with_the_victims():
    free, own = found(data_free(MANY)), found(IN_DISTRIBUTION)
    assert min(free) > 0.3, "three times chance"
    assert mean(free) > mean(found(SURROGATE))
    assert mean(free) < mean(own) - 0.05


def test_logits_have_to_be_recovered():
    for with_logits, without in zip(found(data_free(MANY)), found(data_free(MANY, recovery="none")), strict=True):
        assert with_logits > without + 0.1


def test_uniform_noise_alone_goes_most_of_the_way_on_victims_this_small():
    """So fidelity here shows that the attack works, not that the generator is why."""
    assert mean(found(UNIFORM)) > 0.75 * mean(found(data_free(MANY)))
