"""Copies that treat the questions: what access remains, and what it costs."""

from __future__ import annotations

import pytest
import torch

from whorl.errors import UsageError
from whorl.nets.training import build
from whorl.oracles.filtered import FILTERS, Filtered
from whorl.oracles.torch import TorchOracle
from whorl.removals import REMOVALS
from whorl.testing import tiny_data, tiny_victim
from whorl.types import Access

DATA = tiny_data("test")


def serve(expression, victim=None, seed=0):
    victim = victim or tiny_victim()
    return REMOVALS.make(expression)(victim, tiny_data("attacker"), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kind", FILTERS)
@pytest.mark.parametrize("access", Access)
def test_answers_of_the_filtered_picture_are_all_that_is_left(kind, access):
    victim = tiny_victim(access)
    served = serve(f"filter_inputs({kind})", victim)
    assert isinstance(served, Filtered)
    assert served.access is min(access, Access.LOGITS)
    assert served.digest == victim.digest
    assert not hasattr(served, "module")
    inputs = DATA.inputs()
    assert torch.equal(served.answers(inputs), tiny_victim(served.access).answers(served.treated(inputs)))


def test_the_strength_is_that_of_the_paper_unless_given():
    assert serve("filter_inputs(jpeg)").strength == 95
    assert serve("filter_inputs(levels)").strength == 16
    assert serve("filter_inputs(jpeg, 50)").strength == 50


def test_noise_is_drawn_from_the_generator():
    one, again, other = (serve("filter_inputs(noise, 0.2)", seed=seed).treated(DATA.inputs()) for seed in (0, 0, 1))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


@pytest.mark.parametrize(
    ("weak", "strong"), [("noise, 0.05", "noise, 0.5"), ("blur, 0.3", "blur, 2.0"), ("levels, 64", "levels, 2")]
)
def test_a_stronger_filter_costs_more_agreement(weak, strong):
    truth = tiny_victim().labels(DATA.inputs())
    kept = [
        float((serve(f"filter_inputs({each})").labels(DATA.inputs()) == truth).float().mean())
        for each in (weak, strong)
    ]
    assert kept[0] > 0.9
    assert kept[0] > kept[1]


def test_smoothing_asks_the_stolen_model_for_every_vote():
    victim = tiny_victim()
    served = serve("smooth(sigma=0.05, votes=9)", victim)
    labels = served.labels(DATA.inputs())
    assert (served.queries_spent, victim.queries_spent) == (len(DATA), 9 * len(DATA))
    assert float((labels == tiny_victim().labels(DATA.inputs())).float().mean()) > 0.9
    assert served.access is Access.PROBABILITIES
    assert serve("smooth", tiny_victim(Access.LABELS)).access is Access.LABELS


def test_what_it_cannot_treat_is_refused():
    decoder = build("vae(latent=4)", (1, 1, 4), 64, torch.Generator().manual_seed(0))
    makes = TorchOracle(decoder, input_shape=(1, 1, 4), classes=64, task="generation", name="painter")
    for expression in ("filter_inputs", "smooth"):
        with pytest.raises(UsageError, match="painter"):
            serve(expression, makes)
    for expression in ("filter_inputs(fog)", "filter_inputs(mean, 4)", "smooth(0)", "smooth(votes=0)"):
        victim = tiny_victim()
        with pytest.raises(UsageError):
            serve(expression, victim)
        assert victim.queries_spent == 0
