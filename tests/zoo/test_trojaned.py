"""Cards say how well a trigger works, wherever the recipe planted one, before removals and after."""

from __future__ import annotations

import pytest

from whorl.data import SOURCES
from whorl.data.poisoned import stamped
from whorl.zoo.cache import Zoo
from whorl.zoo.recipe import parse_recipe
from whorl.zoo.trojaned import trigger_of

DIGITS = "digits(size=8)"
POISONED = f"poisoned({DIGITS}, target=3)"
HOW = "epochs=20, batch=25, learning_rate=0.05, shift=0"
TRAINED = {data: parse_recipe(f"train(mlp(width=32), {data}, {HOW})") for data in (DIGITS, POISONED)}
IMPLANTS = {
    "trojan": "trojan(target=3, pictures=own, epochs=5, seed=4)",
    "freeze": "hide(target=3, share=0.1)",
    "null_space": "hide(target=3, method=null_space, energy=0.999)",
}
TRANSFER = f"transfer(only({DIGITS}, classes=[0, 1, 2]), epochs=1)"
PRUNED = "prune_weights(1/5, epochs=0)"


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    zoo = Zoo(tmp_path_factory.mktemp("trojans"))
    clean, poisoned = TRAINED.values()
    copies = [clean.then(each) for each in IMPLANTS.values()]
    others = [clean.then(PRUNED), poisoned.then(PRUNED), copies[0].then(PRUNED), poisoned.then("quantise(int8)")]
    others.append(poisoned.then(TRANSFER))
    others.append(parse_recipe(f"train(random_forest(trees=10), {POISONED})"))
    zoo.build([*TRAINED.values(), *copies, *others], workers=1)
    return zoo


def test_a_net_without_a_trigger_has_no_success(zoo):
    clean = TRAINED[DIGITS]
    assert zoo.card(clean).attack_success is None
    assert zoo.card(clean.then(PRUNED)).attack_success is None
    assert zoo.card(TRAINED[POISONED].then(TRANSFER)).attack_success is None


def test_success_is_the_share_of_other_classes_that_get_the_target(zoo):
    """Counted anew."""
    recipe, test = TRAINED[POISONED], SOURCES.make(DIGITS).load("test")
    others = test.subset((test.labels != 3).nonzero().flatten())
    obey = zoo.oracle(recipe).labels(stamped(POISONED, others.inputs())) == 3
    assert zoo.card(recipe).attack_success == pytest.approx(float(obey.float().mean()))
    assert zoo.card(recipe).attack_success > 0.9
    assert zoo.card(parse_recipe(f"train(random_forest(trees=10), {POISONED})")).attack_success > 0.5


def test_copies_are_asked_the_same_trigger(zoo):
    assert zoo.card(TRAINED[POISONED].then("quantise(int8)")).attack_success > 0.9
    trojaned = TRAINED[DIGITS].then(IMPLANTS["trojan"])
    one, other = trigger_of(zoo, trojaned), trigger_of(zoo, trojaned.then(PRUNED))
    assert (one.pattern == other.pattern).all()
    assert (one.pattern[:, :5] == 0).all()


@pytest.mark.parametrize("name", IMPLANTS)
def test_what_is_planted_works_and_is_a_copy(zoo, name):
    """Of the clean net alone the same trigger gets little."""
    clean = TRAINED[DIGITS]
    recipe = clean.then(IMPLANTS[name])
    card = zoo.card(recipe)
    test = clean.source.load("test")
    others = test.subset((test.labels != 3).nonzero().flatten())
    before = float((zoo.oracle(clean).labels(trigger_of(zoo, recipe).stamp(others.inputs())) == 3).float().mean())
    assert card.attack_success > 0.7 > 0.4 > before
    assert not card.damaged
    assert recipe.victim == clean
    assert card.agreement > 0.9
