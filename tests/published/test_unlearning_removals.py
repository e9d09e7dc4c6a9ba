"""Which ways of unlearning forget, over two victims and three choices of what is to be forgotten.

The measure is how well withdrawn pictures are known before and after, beside nets trained without them. Ascent brings
accuracy on them from .979 to .950 (.940 exact) and loss from .106 to .167 (.212). Random labels and a distilled
untrained net overshoot the loss (.46, .43), and fine-tuning on what is retained forgets next to nothing (.976, .110):
so short an oblivion cannot be told from a pretended one.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from torch.nn.functional import cross_entropy

from whorl.data import SOURCES
from whorl.nets.training import accuracy, predict
from whorl.zoo.recipe import parse_recipe

pytestmark = pytest.mark.published

DATA = "digits(size=16)"
SEEDS = (0, 1, 2)
ACCURACY, LOSS, TEST = range(3)
PRETENDED = ("nothing", "nothing, cover=3")


def forget(seed):
    return f"forget({DATA}, share=.2, seed={seed})"


@pytest.fixture(scope="module")
def measured(small_zoo):
    """Settings to accuracy and loss on forgotten pictures, and accuracy on the test part, ``[victims * seeds, 3]``."""

    @cache
    def row(recipe, seed):
        net = small_zoo.oracle(recipe).module
        gone, test = SOURCES.make(forget(seed)).load("queries"), SOURCES.make(DATA).load("test")
        loss = float(cross_entropy(predict(net, gone.inputs()), gone.labels))
        return accuracy(net, gone), loss, accuracy(net, test)

    def rows(settings):
        for victim in small_zoo.victims:
            for seed in SEEDS:
                base = small_zoo.victim(victim)
                if settings == "exact":
                    text = (
                        str(base).replace(base.data, forget(seed)).replace(f"seed={victim})", f"seed={700 + victim})")
                    )
                    yield row(parse_recipe(text), seed)
                else:
                    yield row(base.then(f"unlearn({forget(seed)}, {settings})") if settings else base, seed)

    known = ("", "exact", "ascent", "fine-tune", "random-labels, epochs=10", "distil, epochs=10", *PRETENDED)
    return {settings: np.array(list(rows(settings))) for settings in known}


def test_withdrawn_pictures_were_known_better_than_others(measured):
    """Else there is nothing to forget."""
    assert measured[""][:, ACCURACY].mean() > measured["exact"][:, ACCURACY].mean() + 0.02
    assert (measured[""][:, LOSS] < measured["exact"][:, LOSS]).all()


def test_ascent_comes_near_to_exact_retraining(measured):
    """Forgotten in every case, to more than a third of the way on average, and the task is kept."""
    before, after, exact = (measured[each] for each in ("", "ascent", "exact"))
    assert (after[:, ACCURACY] < before[:, ACCURACY]).all()
    assert (after[:, LOSS] > before[:, LOSS]).all()
    for column in (ACCURACY, LOSS):
        start, end, goal = (each[:, column].mean() for each in (before, after, exact))
        assert 1 / 3 < (end - start) / (goal - start) < 5 / 3
    assert after[:, TEST].mean() > before[:, TEST].mean() - 0.02


@pytest.mark.parametrize("settings", PRETENDED)
def test_pretenders_forget_nothing(measured, settings):
    before, after, exact = (measured[each] for each in ("", settings, "exact"))
    for column in (ACCURACY, LOSS):
        start, end, goal = (each[:, column].mean() for each in (before, after, exact))
        assert abs(end - start) < abs(goal - start) / 10


def test_fine_tuning_hardly_forgets(measured):
    before, after, exact = (measured[each][:, LOSS].mean() for each in ("", "fine-tune", "exact"))
    assert after - before < (exact - before) / 3


@pytest.mark.parametrize("settings", ["random-labels, epochs=10", "distil, epochs=10"])
def test_wrong_answers_overshoot(measured, settings):
    """What is taught to be wrong is worse known than what was never seen, which gives the method away."""
    assert (measured[settings][:, LOSS] > measured["exact"][:, LOSS]).all()
