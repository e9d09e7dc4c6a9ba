"""What thieves make of models that predict numbers or make pictures."""

from __future__ import annotations

from functools import lru_cache

import pytest
import torch

from whorl.data import SOURCES
from whorl.errors import UsageError
from whorl.nets.training import Schedule, build, determination, dimensions, fit, predict
from whorl.oracles.torch import TorchOracle
from whorl.removals import REMOVALS
from whorl.types import Access

MADE = {
    "regression": ("mlp_regressor", "diabetes", Schedule(epochs=10, learning_rate=0.02, policy="one-cycle", batch=25)),
    "generation": ("vae", "digits(size=8)", Schedule(epochs=25, learning_rate=0.02, policy="one-cycle", batch=25)),
}
TUNED = (
    "fine_tune(last, epochs=2, learning_rate=0.002)",
    "fine_tune(all, epochs=2, learning_rate=0.002)",
    "retrain(last, epochs=30)",
    "prune_weights(1/10, learning_rate=0.002)",
    "prune_filters(1/16, epochs=10)",
    "quantise(int8)",
    "reparametrise",
)


@lru_cache
def victim(task, access=Access.WEIGHTS):
    architecture, data, schedule = MADE[task]
    pictures, chance = SOURCES.make(data).load("victim"), torch.Generator().manual_seed(0)
    shape, outputs = dimensions(architecture, pictures)
    net = build(architecture, shape, outputs, chance)
    net.standardise(pictures.inputs())
    fit(net, pictures, schedule, generator=chance)
    return TorchOracle(net, input_shape=shape, classes=outputs, task=task, access=access, name="ours")


def steal(expression, task, *, seed=1, data=None, access=Access.WEIGHTS):
    pictures = SOURCES.make(data or MADE[task][1]).load("attacker")
    return REMOVALS.make(expression)(victim(task, access), pictures, generator=torch.Generator().manual_seed(seed))


def examination(task):
    """Inputs that the model was made for."""
    test = SOURCES.make(MADE[task][1]).load("test").inputs()
    return victim(task).module.encode(test).detach() if task == "generation" else test


@pytest.mark.parametrize("expression", TUNED)
@pytest.mark.parametrize("task", MADE)
def test_a_copy_answers_nearly_as_the_victim_does(task, expression):
    inputs = examination(task)
    ours, theirs = predict(victim(task).module, inputs), predict(steal(expression, task), inputs)
    assert determination(theirs, ours) > (0.5 if "retrain" in expression or "filters" in expression else 0.8)
    if expression == "reparametrise":
        torch.testing.assert_close(theirs, ours, rtol=0, atol=1e-4)
    else:
        assert not torch.equal(ours, theirs)


@pytest.mark.parametrize("task", MADE)
def test_pruned_neurons_answer_nothing(task):
    net = steal("prune_filters(1/4)", task)
    for units in net.hidden_units():
        silent = units.producer.weight.flatten(1).abs().sum(1) == 0
        assert int(silent.sum()) == units.count // 4
        assert bool((units.producer.bias[silent] == 0).all())


@pytest.mark.parametrize(
    ("task", "expression"),
    [
        ("regression", "extract('mlp_regressor(width=32)', outputs, epochs=40, learning_rate=0.05)"),
        ("regression", "distil('mlp_regressor(width=32)', epochs=40, learning_rate=0.05)"),
        ("generation", "extract(vae, outputs, epochs=15)"),
        ("generation", "distil(vae, epochs=15)"),
    ],
)
def test_a_student_learns_the_outputs(task, expression):
    """From the outputs alone; a generative model is asked about codes, so the thief's pictures do not count."""
    inputs = examination(task)
    spent = victim(task, Access.LOGITS).queries_spent
    theirs = steal(expression, task, access=Access.LOGITS)
    asked = victim(task, Access.LOGITS).queries_spent - spent
    assert asked == (4096 if task == "generation" else 110)
    assert determination(predict(theirs, inputs), predict(victim(task).module, inputs)) > 0.4
    if task == "generation":
        same = steal(expression, task, data="digits(size=16)", access=Access.LOGITS)
        assert torch.equal(same.head.weight, theirs.head.weight)


def test_adversarial_fine_tuning_follows_the_error_of_numbers():
    one, other = (steal(f"adversarial_fine_tune(epsilon={size}, epochs=1)", "regression") for size in (0.0, 0.1))
    assert not torch.equal(one.head.weight, other.head.weight)
    inputs = examination("regression")
    assert determination(predict(one, inputs), predict(victim("regression").module, inputs)) > 0.8


@pytest.mark.parametrize(
    ("task", "expression", "says"),
    [
        ("regression", "extract(mlp_regressor)", "learns from its outputs, not 'labels'"),
        ("generation", "extract(vae, probabilities)", "learns from its outputs, not 'probabilities'"),
        ("regression", "extract(mlp, outputs)", "mlp.* does classification"),
        ("generation", "distil(mlp_regressor)", "mlp_regressor.* does regression"),
        ("generation", "extract('vae(latent=4)', outputs)", "4 latents"),
        ("generation", "adversarial_fine_tune", "ours makes them"),
    ],
)
def test_what_makes_no_sense_is_refused_before_the_first_query(task, expression, says):
    spent = victim(task).queries_spent
    with pytest.raises(UsageError, match=says) as caught:
        steal(expression, task)
    assert "\n" not in str(caught.value)
    assert victim(task).queries_spent == spent


@pytest.mark.parametrize(
    ("task", "data", "says"),
    [
        ("regression", "noise(shape=[1, 1, 10])", "numbers to predict"),
        ("generation", "digits(size=16)", "as many pixels"),
        ("regression", "digits(size=8)", "numbers to predict"),
    ],
)
def test_tuning_on_data_of_another_kind_is_refused(task, data, says):
    with pytest.raises(UsageError, match=says):
        steal("fine_tune(all, epochs=1)", task, data=data)
