"""A net among clean ones, to a verdict."""

from __future__ import annotations

import copy
from dataclasses import replace
from itertools import product

import pytest
import torch
from torch import nn

import whorl
from whorl.data import SOURCES
from whorl.errors import OracleError, UsageError
from whorl.inspection import INSPECTIONS, SIEVES
from whorl.nets.training import build
from whorl.testing import tiny_net

PICTURES = SOURCES.make("digits(size=8)").load("queries+test")


def untrained(seed):
    return build("mlp(width=16)", PICTURES.input_shape, 10, torch.Generator().manual_seed(seed)).eval()


def with_strong_row(seed, label=3):
    net = untrained(seed)
    with torch.no_grad():
        net.head.weight[label] *= 9
    return net


CLEAN = {str(seed): untrained(seed) for seed in range(19)}


def test_a_row_of_another_size_is_seen_among_clean_nets_and_says_on_what_it_rests():
    found = whorl.inspect(with_strong_row(50), PICTURES, statistic="weights_only", clean=CLEAN)
    assert (found.verdict.decision, found.verdict.culprit) == ("trojaned", 3)
    assert found.verdict.p_value == 1 / 20
    assert "19 nets that whoever asks has given, and on their word" in found.verdict.rests_on
    assert found.clean.keys() == CLEAN.keys()
    assert any("keyed switches" in each for each in found.verdict.caveats)


def test_without_clean_nets_there_is_no_verdict():
    found = whorl.inspect(with_strong_row(50), PICTURES, statistic="weights_only")
    assert (found.verdict.decision, found.verdict.p_value) == (None, None)
    assert "no verdict" in found.verdict.caveats[0]


def test_a_net_of_another_accuracy_is_said_to_be_perhaps_of_another_recipe():
    found = whorl.inspect(tiny_net(architecture="mlp(width=16)"), PICTURES, statistic="weights_only", clean=CLEAN)
    assert any("of another recipe" in each for each in found.verdict.caveats)
    like = whorl.inspect(untrained(0), PICTURES, statistic="weights_only", clean=fresh(CLEAN))
    assert not any("of another recipe" in each for each in like.verdict.caveats)


def fresh(nets):
    """Nets that answer as these do and have other weights, so that one of them can be inspected among all."""
    made = copy.deepcopy(nets)
    with torch.no_grad():
        for net in made.values():
            net.head.weight *= 1.001
            net.head.bias *= 1.001
    return made


@pytest.mark.parametrize(
    ("clean", "says"),
    [
        ({name: CLEAN[name] for name in list(CLEAN)[:18]}, "at least 19 clean ones; these are 18"),
        (CLEAN | {"again": copy.deepcopy(CLEAN["4"])}, "again has the weights of the clean net 4"),
        (CLEAN | {"itself": with_strong_row(50)}, "itself has the weights of the net itself"),
    ],
)
def test_nets_that_make_no_null_are_refused(clean, says):
    with pytest.raises(UsageError, match=says):
        whorl.inspect(with_strong_row(50), PICTURES, statistic="weights_only", clean=clean)


def looked_at(name, net, pictures):
    if name in SIEVES:
        return whorl.sift(net, pictures, statistic=name, clean=PICTURES if SIEVES.make(name).clean else None)
    return whorl.inspect(net, pictures, statistic=name)


EVERY = [*INSPECTIONS.in_order(), *SIEVES.in_order()]
WRONG = {
    "labels beyond the classes": (lambda: replace(PICTURES, labels=PICTURES.labels + 5), r"labels go from 0 to 9"),
    "labels below 0": (lambda: replace(PICTURES, labels=PICTURES.labels - 5), r"labels go from 0 to 9"),
    "pictures of NaN": (
        lambda: replace(PICTURES, images=PICTURES.inputs() * torch.nan),
        r"no input of \w+: they span nan",
    ),
    "pictures in 0..255": (lambda: replace(PICTURES, images=PICTURES.inputs() * 255), "0..1 is needed"),
    "no picture": (lambda: PICTURES.subset(slice(0)), "hold no input"),
}


@pytest.mark.parametrize(("name", "wrong"), product(EVERY, WRONG))
def test_pictures_that_can_be_none_are_refused_in_one_line(name, wrong):
    make, says = WRONG[wrong]
    with pytest.raises(UsageError, match=says) as error:
        looked_at(name, untrained(0), make())
    assert str(error.value).isprintable()


@pytest.mark.parametrize("name", EVERY)
def test_a_net_that_answers_nan_is_told_and_not_the_statistic(name):
    net = untrained(0)
    with torch.no_grad():
        net.head.weight[0] = torch.nan
    with pytest.raises((OracleError, UsageError), match=r"MLP.*(NaN|nan)"):
        looked_at(name, net, PICTURES)


def test_the_weights_of_a_net_of_ones_own_are_read_as_those_of_whorl_s():
    net = untrained(0)
    own = nn.Sequential(nn.Flatten(), *[nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10)]).eval()
    own[1].load_state_dict(net.layers[0].state_dict())
    own[3].load_state_dict(net.head.state_dict())
    scores = [
        whorl.inspect(each, PICTURES, statistic="weights_only", input_shape=(1, 8, 8), classes=10).inspection.scores
        for each in (net, own)
    ]
    assert scores[0] == pytest.approx(scores[1], rel=1e-4)
