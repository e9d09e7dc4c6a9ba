"""A pool of shadow models shares nothing with the models under test, or is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tiny_suite import SETTINGS, models, tiny_suite

from whorl.errors import UsageError
from whorl.oracles.pool import Pool
from whorl.suites.shadows import Shadows, family_of
from whorl.testing.nets import tiny_victim
from whorl.zoo.cache import Zoo
from whorl.zoo.recipe import parse_recipe

VICTIM = parse_recipe(f"train(mlp(width=16), {SETTINGS}, seed=0)")
OTHER = parse_recipe(f"train(mlp(width=16), {SETTINGS}, seed=1)")
TESTED = [VICTIM.then("quantise(int8)"), VICTIM.then("fine_tune(last, epochs=1)"), OTHER]
SOUND = Shadows(
    ("fine_tune(all, epochs=1, part=calibration, seed=70)", "prune_weights(1/2, epochs=1, seed=71)"),
    models("mlp(width=16)", SETTINGS, (60, 61)),
)


def test_a_pool_of_its_own_is_accepted():
    SOUND.refuse_overlap(VICTIM, TESTED)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        (replace(SOUND, independent=(OTHER,)), "holds a model under test"),
        (replace(SOUND, independent=models("lenet5", SETTINGS, (1,))), "shares the seed 1"),
        (replace(SOUND, independent=models("lenet5", SETTINGS, (0,))), "shares the seed 0"),
        (replace(SOUND, derived=("fine_tune(last, epochs=1)",)), "holds a model under test"),
        (replace(SOUND, derived=("fine_tune(all, epochs=2)",)), "shares the seed 0"),
        (replace(SOUND, disjoint_families=True), "both go through fine-tune"),
    ],
)
def test_what_it_may_not_share_is_named(changed, says):
    with pytest.raises(UsageError, match=says):
        changed.refuse_overlap(VICTIM, TESTED)


def test_families_that_are_not_tested_may_be_learned_from():
    replace(SOUND, derived=SOUND.derived[1:], disjoint_families=True).refuse_overlap(VICTIM, TESTED)


def test_families_are_those_of_the_last_step():
    assert SOUND.families(VICTIM) == ["fine-tune", "prune weights"]
    assert family_of(VICTIM) == ""


def test_models_are_grouped_by_family(tmp_path):
    zoo = Zoo(tmp_path)
    zoo.build(SOUND.recipes(VICTIM), workers=1)
    pool = SOUND.pool(VICTIM, zoo)
    assert {family: len(models) for family, models in pool.derived.items()} == {"fine-tune": 1, "prune weights": 1}
    assert [model.digest for model in pool.independent] == [recipe.digest for recipe in SOUND.independent]
    assert {recipe.digest for recipe in SOUND.recipes(VICTIM)} <= set(pool.digests)
    assert list(pool.strangers.items()) == [("mlp", pool.independent)]


def test_a_suite_knows_every_shadow_and_refuses_an_overlap():
    suite = tiny_suite(shadows=SOUND)
    assert {recipe.digest for recipe in SOUND.recipes(VICTIM)} <= {recipe.digest for recipe in suite.recipes()}
    suite.refuse_overlap()
    with pytest.raises(UsageError, match="holds a model under test"):
        tiny_suite(shadows=replace(SOUND, independent=suite.null[:1])).refuse_overlap()


def test_siblings_are_a_group_of_their_own():
    step = "transfer(digits(size=8), epochs=1, seed=3)"
    recipes = [VICTIM, OTHER, OTHER.then(step), parse_recipe(f"train(lenet5, {SETTINGS}, seed=0)")]
    assert [recipe.group for recipe in recipes] == ["mlp", "mlp", "mlp -> transfer", "lenet5"]


def test_groups_are_named_for_all_strangers_or_none():
    one, two, three = (tiny_victim(seed=seed) for seed in (1, 2, 3))
    assert Pool({}, [one, two, three], ["a", "b", "a"]).strangers == {"a": [one, three], "b": [two]}
    assert Pool({}, [one, two]).strangers == {"": [one, two]}
    with pytest.raises(UsageError, match="2 groups are named for 3 independent models"):
        Pool({}, [one, two, three], ["a", "b"])
