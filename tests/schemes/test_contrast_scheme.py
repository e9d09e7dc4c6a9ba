"""Contrast asks what copies answer like the victim and no group of strangers does, and weighs what a match tells."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch

from whorl.data import Dataset
from whorl.errors import UsageError
from whorl.oracles.base import Oracle
from whorl.oracles.pool import Pool
from whorl.schemes import SCHEMES
from whorl.schemes.contrast import Contrast, gains, neutral
from whorl.spaces import InputSpace
from whorl.types import Access

COUNT = 60


class Sees(Oracle):
    """Answers 1 where the rule says so of the number in the first pixel, else 0."""

    def __init__(self, rule):
        super().__init__(access=Access.LABELS, input_shape=(1, 4, 4), classes=2, name="sees", digest="")
        self.rule = rule

    def _stream(self, inputs):
        numbers = (inputs[:, 0, 0, 0] * 100).round().long()
        yield torch.arange(len(inputs)), self.rule(numbers).long()


@dataclass(frozen=True)
class Bytes(InputSpace):
    """Two bytes."""

    name: ClassVar[str] = "bytes"
    dtype: ClassVar[torch.dtype] = torch.uint8
    shape: ClassVar[tuple[int, ...]] = (2,)

    def fault(self, inputs):
        del inputs


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def numbered():
    """Picture k is grey, k / 100."""
    images = (torch.arange(COUNT) / 100).view(-1, 1, 1, 1).expand(-1, 1, 4, 4).clone()
    return Dataset(images, torch.zeros(COUNT, dtype=torch.int64), ("a", "b"))


VICTIM = Sees(torch.ones_like)
COPIES = {"prune": [Sees(torch.ones_like)] * 4}
# Ten strangers that answer otherwise throughout, and two of another kind that match on the upper half.
STRANGERS = [Sees(torch.zeros_like)] * 10 + [Sees(lambda k: k >= COUNT // 2)] * 2
GROUPS = ["same net"] * 10 + ["other net"] * 2


def chosen(pool, budget=20):
    queries = Contrast(most=3 * COUNT).sample_with(VICTIM, numbered(), pool, budget=budget, generator=generator())
    return (queries.inputs[:, 0, 0, 0] * 100).round(), queries


def test_the_group_that_matches_most_decides_however_few_it_has():
    """Eight of ten match on the lower half, two of two on the upper: fewer by count and by mean, and all of a kind."""
    lower = [Sees(lambda k: k < COUNT // 2)] * 8 + [Sees(torch.zeros_like)] * 2
    numbers, _ = chosen(Pool(COPIES, [*lower, *STRANGERS[10:]], GROUPS))
    assert bool((numbers < COUNT // 2).all())
    numbers, _ = chosen(Pool(COPIES, [*lower, *STRANGERS[10:]]))
    assert bool((numbers >= COUNT // 2).all()), "in one group their number counts"


def test_probabilities_have_half_a_pseudo_count_and_weights_are_log_likelihood_ratios():
    """Of four copies three match on even numbers and one on odd ones; of one stranger none does."""
    copies = [Sees(lambda k: k % 2 == 0)] * 3 + [Sees(lambda k: k % 2)]
    numbers, queries = chosen(Pool({"prune": copies}, [Sees(torch.zeros_like)]), budget=3 * COUNT)
    even, odd = 3.5 / 5, 1.5 / 5
    stranger = 0.5 / 2
    ratios = torch.tensor([math.log(p / (1 - p)) - math.log(stranger / (1 - stranger)) for p in (odd, even)])
    expected = torch.where(numbers % 2 == 0, 1.0, ratios[0] / ratios[1])
    torch.testing.assert_close(queries.companions["weights"], expected)
    assert (numbers % 2).tolist() == sorted((numbers % 2).tolist()), "the likeliest ratios come first"


def test_gains_are_divergences_of_bernoulli_variables():
    copies, strangers = torch.tensor([0.9, 0.5, 0.2], dtype=torch.float64), torch.tensor([0.1, 0.5, 0.6]).double()
    expected = torch.distributions.kl_divergence(
        torch.distributions.Bernoulli(copies), torch.distributions.Bernoulli(strangers)
    )
    torch.testing.assert_close(gains(copies, strangers), expected * torch.tensor([1, 1, -1]))


def test_similarity_rises_with_the_log_likelihood_ratio():
    """P and Q as in the choice: whatever a suspect answers, one line of equal slope joins the two."""
    copies = [Sees(lambda k, step=step: k % step == 0) for step in (1, 1, 2, 3)]
    strangers = [Sees(lambda k, step=step: k % step == 0) for step in (5, 7, 60)]
    pool = Pool({"prune": copies}, strangers)
    scheme = Contrast(most=COUNT)
    fingerprint = scheme.extract(VICTIM, numbered(), budget=30, pool=pool)
    inputs = fingerprint.queries.inputs
    p, q = (
        (torch.stack([model.labels(inputs) for model in models]).double().sum(0) + 0.5) / (len(models) + 1)
        for models in (copies, strangers)
    )
    points = []
    for suspect in (VICTIM, Sees(torch.zeros_like), *(Sees(lambda k, s=s: k % s == 0) for s in (2, 3, 4, 7))):
        match = suspect.labels(inputs) == 1
        ratio = torch.where(match, (p / q).log(), ((1 - p) / (1 - q)).log()).sum()
        points.append((float(ratio), scheme.observe(fingerprint, suspect).similarity))
    (top, one), (bottom, least), *others = points
    assert one == 1.0
    assert least < 0.5
    for ratio, similarity in others:
        assert similarity == pytest.approx(least + (one - least) * (ratio - bottom) / (top - bottom), abs=1e-6)


def test_what_tells_no_copy_from_strangers_is_refused():
    everything = Pool(COPIES, [*STRANGERS, *COPIES["prune"]], [*GROUPS, *["a third"] * 4])
    assert len(chosen(Pool(COPIES, STRANGERS, GROUPS), budget=3 * COUNT)[1]) == 3 * COUNT
    with pytest.raises(UsageError, match=r"0 of 180 inputs tell .* and 20 are asked for; give more shadow models"):
        chosen(everything)
    with pytest.raises(UsageError, match="at least 1 copies"):
        chosen(Pool({}, STRANGERS))


def test_neutral_inputs_are_near_the_data():
    data = numbered()
    inputs = neutral(data, 90, generator())
    assert inputs.shape == (90, 1, 4, 4)
    flat = inputs.flatten(1)
    grey = flat.std(1) < 1e-6
    natural = torch.isclose(flat[:, :1] * 100, (flat[:, :1] * 100).round(), atol=1e-4).squeeze(1)
    assert grey.tolist() == [True] * 60 + [False] * 30
    assert bool(natural[:30].all())
    assert not bool(natural[30:60].all())
    assert len({float(each) for each in flat[:30, 0]}) == 30, "each picture once"
    assert 0 <= float(inputs.min()) <= float(inputs.max()) <= 1
    assert len(neutral(data, 1000, generator())) == 1000


def test_what_is_no_picture_is_asked_as_it_is():
    words = torch.arange(40, dtype=torch.uint8).view(20, 2)
    data = Dataset(words, torch.zeros(20, dtype=torch.int64), ("a",), domain=Bytes())
    inputs = neutral(data, 50, generator())
    assert sorted(inputs.tolist()) == words.tolist()


def test_it_is_in_the_catalogue():
    assert SCHEMES.make("contrast(most=500)") == Contrast(most=500)
