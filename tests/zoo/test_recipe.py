"""Recipes: equal meaning is equal text, and every mistake is named before anything is built."""

from __future__ import annotations

import pytest

from whorl.errors import UsageError
from whorl.zoo.recipe import Train, parse_recipe, split_step

VICTIM = "train(mlp(width=16), digits(size=8), epochs=3, seed=1)"


@pytest.mark.parametrize(
    "text",
    [
        VICTIM,
        f"{VICTIM} -> quantise(int4)",
        f"{VICTIM} -> prune_filters(4/16, epochs=1) -> fine_tune(last, seed=3) -> reparametrise",
        f"{VICTIM} -> extract('resnet8(width=4)', probabilities, part=calibration)",
        "train('random_forest(trees=7)', textures(size=16), seed=2, share=1/2)",
        "train(wrn22-4, cifar10, flip=true)",
    ],
)
def test_text_reads_back(text):
    recipe = parse_recipe(text)
    again = parse_recipe(str(recipe))
    assert again == recipe
    assert str(again) == str(recipe)
    assert again.digest == recipe.digest
    assert len(recipe.digest) == 20


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("train(mlp, digits)", "train( mlp ,digits )"),
        ("train(mlp, digits)", "train(data=digits, architecture=mlp)"),
        ("train(mlp, digits)", "train('mlp(64)', digits(16, 0), seed=0, epochs=10)"),
        ("train(mlp, digits)", "train(mlp(depth=1, width=64), digits(seed=0), victim)"),
        ("train(mlp, digits) -> prune_filters", "train(mlp, digits) -> prune_filters(4/16)"),
        ("train(mlp, digits) -> prune_filters(2/8)", "train(mlp, digits)->prune_filters(amount=1/4, epochs=2, seed=0)"),
        (
            "train(mlp, digits) -> extract(mlp, seed=500)",
            "train(mlp, digits) -> extract(mlp(width=64), part=attacker, seed=500)",
        ),
    ],
)
def test_equal_meaning_has_equal_digest(one, other):
    assert parse_recipe(one) == parse_recipe(other)
    assert parse_recipe(one).digest == parse_recipe(other).digest


@pytest.mark.parametrize(
    "other",
    [
        "train(mlp, digits, seed=1)",
        "train(mlp, digits, part=calibration)",
        "train(mlp, digits, share=0.5)",
        "train(mlp(width=65), digits)",
        "train(mlp, digits(size=8))",
        "train(mlp, digits) -> quantise",
    ],
)
def test_other_meaning_has_another_digest(other):
    assert parse_recipe(other).digest != parse_recipe("train(mlp, digits)").digest


def test_order_of_removals_matters():
    one, other = (
        parse_recipe(f"{VICTIM} -> {a} -> {b}")
        for a, b in (("quantise", "reparametrise"), ("reparametrise", "quantise"))
    )
    assert one.digest != other.digest


def test_digest_is_the_same_in_every_release():
    """Caches of users hang on it: raise FORMAT where the meaning of a text changes, never by accident."""
    assert parse_recipe(f"{VICTIM} -> quantise(int4)").digest == "92f8ddc430a7c7cf1f0d"


def test_parts_of_a_recipe():
    recipe = parse_recipe(f"{VICTIM} -> fine_tune(last, seed=4) -> quantise(int4)")
    assert recipe.root == parse_recipe(VICTIM)
    assert recipe.parent == parse_recipe(f"{VICTIM} -> fine_tune(last, seed=4)")
    assert recipe.root.parent is None
    assert parse_recipe(VICTIM).then("fine_tune(last, seed=4)").then("quantise(int4)") == recipe
    train = Train("mlp(width=16, depth=1)", "digits(size=8, seed=0)", epochs=3, seed=1)
    assert recipe.first == train
    assert recipe.source.load("test").input_shape == (1, 8, 8)
    assert not recipe.is_estimator
    assert parse_recipe("train(random_forest, digits)").is_estimator


def test_with_seed_changes_the_last_step_only():
    recipe = parse_recipe(f"{VICTIM} -> quantise(int4)")
    assert recipe.with_seed(9) == parse_recipe(f"{VICTIM} -> quantise(int4, seed=9)")
    assert recipe.root.with_seed(9) == parse_recipe(VICTIM.replace("seed=1", "seed=9"))


def test_a_step_falls_into_removal_part_and_seed():
    step = parse_recipe(f"{VICTIM} -> fine_tune(last, part=calibration, seed=7)").chain.steps[-1]
    removal, part, seed = split_step(step)
    assert (part, seed) == ("calibration", 7)
    assert str(removal) == "fine_tune(layers=last, epochs=3, learning_rate=0.01)"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("quantise(int8)", "begins with train"),
        ("train(mlp)", "needs data"),
        ("train()", "needs architecture, data"),
        ("train(mlp, digits, colour=1)", "has no parameter 'colour'"),
        ("train(mlp, digits, victim, 1, 1, 1, 1, true, 1, 1, 1)", "train takes 10 parameters"),
        ("train(nlp, digits)", "Did you mean mlp"),
        ("train(mlp(widht=3), digits)", "Did you mean width"),
        ("train(mlp, digit)", "Did you mean digits"),
        ("train(mlp, digits, part=training)", "part is victim"),
        ("train(mlp, digits, epochs=0)", "epochs is a whole number of at least 1, not 0"),
        ("train(mlp, digits, epochs=2.5)", "epochs is a whole number"),
        ("train(mlp, digits, batch=none)", "batch is a whole number"),
        ("train(mlp, digits, shift=-1)", "shift is a whole number of at least 0"),
        ("train(mlp, digits, seed=abc)", "seed is a whole number"),
        ("train(mlp, digits, seed=true)", "seed is a whole number"),
        ("train(mlp, digits, learning_rate=0)", "learning_rate is a number above 0"),
        ("train(mlp, digits, learning_rate=fast)", "learning_rate is a number"),
        ("train(mlp, digits, share=1.5)", "share is a number above 0 and at most 1"),
        ("train(mlp, digits, flip=1)", "flip is true or false"),
        (f"{VICTIM} -> prune", "no such name among the removals"),
        (f"{VICTIM} -> quantise(bits=4)", "quantise has no parameter 'bits'"),
        (f"{VICTIM} -> quantise(part=training)", "part is victim"),
        (f"{VICTIM} -> quantise(seed=-1)", "seed is a whole number"),
        (f"{VICTIM} -> extract", "extract needs architecture"),
        (f"{VICTIM} -> extract(nlp)", "Did you mean mlp"),
        (f"{VICTIM} -> train(mlp, digits)", "begins a recipe and is no further step"),
        (f"{VICTIM} -> tune", "tune takes a language model, and is given a net"),
        ("pretrain(llama)", "give a recipe that begins with train or pretrained"),
        ("train(random_forest, digits) -> quantise", "fits an estimator"),
        ("train(mlp, digits) ->", "expected a name"),
    ],
)
def test_mistakes_are_named(text, says):
    with pytest.raises(UsageError, match=says) as caught:
        parse_recipe(text)
    assert "\n" not in str(caught.value)


def test_a_thief_may_not_start_from_the_victims_initial_weights():
    with pytest.raises(UsageError, match="initial weights"):
        parse_recipe("train(mlp, digits, seed=3) -> fine_tune(all) -> extract(mlp, seed=3)")
    parse_recipe("train(mlp, digits, seed=3) -> extract(mlp, seed=4)")
    parse_recipe("train(mlp, digits, seed=3) -> extract(mlp(width=32), seed=3)")


def test_what_a_removal_is_made_from_has_its_defaults_too():
    text = "train(mlp, digits) -> knockoff(mlp, pool={}, seed=5)"
    recipes = [parse_recipe(text.format(pool)) for pool in ("textures", "textures()", "'textures(size=16)'")]
    assert len({recipe.digest for recipe in recipes}) == 1
    assert parse_recipe("train(mlp, digits) -> knockoff(mlp, seed=5)").digest not in {recipes[0].digest}


def test_one_name_is_another_step_for_another_kind_of_model():
    net, language = "train(mlp, digits)", "pretrain(llama, steps=1)"
    for name in ("quantise", "prune_weights", "lora"):
        one, other = (parse_recipe(f"{text} -> {name}", kind=None) for text in (net, language))
        assert (one.kind, other.kind) == ("net", "language model")
        assert dict(one.chain.steps[-1].kwargs).keys() != dict(other.chain.steps[-1].kwargs).keys()
    merged = parse_recipe(f"{language} -> merge(stranger)", kind=None)
    assert merged.needs == [merged.parent, *merged.others.values()]
    assert merged.others["ancestor"] == merged.parent != merged.others["other"]
    assert parse_recipe(f"{net} -> merge").needs == [parse_recipe(net)]
