"""Settings are checked when they are named, by their annotations, whatever the field is called."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from fractions import Fraction
from importlib.metadata import EntryPoint
from typing import Annotated, Literal

import pytest
from annotated_types import Ge, Gt, Le

from whorl import catalog as catalog_module
from whorl.catalog import Catalog
from whorl.data import SOURCES
from whorl.errors import UsageError
from whorl.removals import REMOVALS
from whorl.removals.finetune import FineTune
from whorl.schemes import SCHEMES
from whorl.settings import Architecture, Checked, Count, Seed, Share, SourceName, checked, settings_of
from whorl.zoo.recipe import parse_recipe

COPYCAT = """
from __future__ import annotations
from dataclasses import dataclass
from typing import ClassVar
from whorl.removals.base import Removal
from whorl.settings import Architecture, SourceName, TaskSource

@dataclass(frozen=True)
class Copycat(Removal):
    family: ClassVar[str] = "extract"
    student: Architecture
    homework: TaskSource
    reading: SourceName | None = None

    def apply(self, victim, data, *, generator):
        return victim.module
"""


@pytest.fixture
def copycat(tmp_path, monkeypatch):
    """A plug-in that calls its net, its task and its pool as nobody else does."""
    (tmp_path / "plugged_copycat.py").write_text(COPYCAT)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "plugged_copycat", raising=False)
    installed = [EntryPoint("copycat", "plugged_copycat:Copycat", "whorl.removals")]
    monkeypatch.setattr(
        catalog_module, "entry_points", lambda *, group: [each for each in installed if each.group == group]
    )
    known = REMOVALS.__dict__.pop("_targets", None)
    yield "train(resnet8, digits, seed=3)"
    REMOVALS.__dict__.pop("_targets", None)
    if known is not None:
        REMOVALS.__dict__["_targets"] = known


def test_a_plug_in_names_nets_and_data_by_type(copycat):
    recipe = parse_recipe(f"{copycat} -> copycat(mlp, corrupt(digits), wine)")
    step = recipe.chain.steps[-1]
    inner = "corrupt(data=digits(size=16, seed=0), kind=mixed, severity=3, seed=0)"
    assert str(step) == (
        f"copycat(student=mlp(width=64, depth=1), homework={inner}, reading=wine(seed=0), part=attacker, seed=0)"
    )
    assert recipe.data == inner
    assert recipe.then("quantise").victim == recipe
    assert REMOVALS.make(recipe.then("copycat(mlp(8), digits)").chain.steps[-1].name + "(mlp, digits)").outcome(
        "resnet8"
    ) == ("mlp(width=64, depth=1)")


@pytest.mark.parametrize(
    ("step", "says"),
    [
        ("copycat(mpl, digits)", "no such name among the nets: 'mpl'. Did you mean mlp"),
        ("copycat(mlp(depth=0), digits)", r"mlp\(depth=0\): depth is a whole number from 1 to 1000"),
        ("copycat(mlp, digits, reading=digit)", "no such name among the data"),
        ("copycat(mlp, 3)", "homework is an expression of the data, not 3"),
        ("copycat(resnet8, digits, seed=3)", "the model's own initial weights"),
        ("copycat(vae, digits)", "it cannot learn from"),
    ],
)
def test_mistakes_of_a_plug_in_are_named_before_anything_is_trained(copycat, step, says):
    with pytest.raises(UsageError, match=says) as caught:
        parse_recipe(f"{copycat} -> {step}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("step", "says"),
    [
        ("fine_tune(all, epochs=-3)", r"fine_tune\(epochs=-3\): epochs is a whole number of at least 1, not -3"),
        ("fine_tune(epochs=abc)", "epochs is a whole number of at least 1, not abc"),
        ("fine_tune(epochs=true)", "epochs is a whole number of at least 1, not true"),
        ("fine_tune(learning_rate=1e999)", "finite numbers"),
        ("merge(method=tie)", r"method is linear, task-arithmetic, ties or dare, not tie\. Did you mean ties\?"),
        ("quantise(int3)", r"format is fp16, bf16, int8 or int4, not int3\. Did you mean int8\?"),
        ("knockoff(mlp, rewards='loss+luck')", r"certainty, diversity, loss, or several of them joined by a plus"),
        ("prune_filters(17/16)", "amount is a number of at least 0 and below 1, not 17/16"),
        ("extract(mlp, seed=-1)", "seed is a whole number from 0 to 9223372036854775807, not -1"),
        ("fine_tune(part=elsewhere)", "part is victim, attacker"),
    ],
)
def test_mistakes_in_recipes_are_named(step, says):
    with pytest.raises(UsageError, match=says) as caught:
        parse_recipe(f"train(resnet8, digits) -> {step}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("scheme", "says"),
    [
        ("ipguard(margin=oops)", "margin is a number of at least 0, not oops"),
        ("zest(masks=0)", "masks is a whole number of at least 1, not 0"),
        ("tafa(points=4)", "points is an odd number from 3 on, not 4"),
        ("negative+labels+hamming(tries=-1)", "tries is a whole number of at least 0, not -1"),
        ("modelgif(nodes=1000000000000)", "nodes is a whole number from 1 to 10000"),
    ],
)
def test_mistakes_in_schemes_are_named(scheme, says):
    with pytest.raises(UsageError, match=says):
        SCHEMES.make(scheme)


def test_whole_numbers_and_fractions_are_numbers():
    """What is given stays as it was in the text, and code gets floats where it wants floats."""
    assert str(SCHEMES.bind("fgsm(epsilon=1/8)")).startswith("fgsm(epsilon=1/8,")
    assert SCHEMES.make("fgsm(epsilon=1/8)").epsilon == 0.125
    assert type(SCHEMES.make("fgsm(epsilon=1)").epsilon) is int
    assert REMOVALS.make("prune_filters(4/16)").amount == Fraction(1, 4)


def test_what_is_made_in_python_is_checked_alike():
    with pytest.raises(UsageError, match=r"FineTune\(epochs=-3\): epochs is a whole number of at least 1, not -3"):
        FineTune(epochs=-3)


def test_nested_expressions_have_their_defaults():
    assert str(SOURCES.bind("only(digits, classes=[0, 1])")) == "only(data=digits(size=16, seed=0), classes=[0, 1])"


@dataclass(frozen=True)
class Everything(Checked):
    count: Count
    share: Share
    ratio: Annotated[float | Fraction, Gt(0)]
    word: Literal["some", "all"] | None
    switch: bool
    text: str
    three: tuple[Count, Count, Count]
    many: tuple[float, ...]
    net: Architecture | None = None
    pool: SourceName | Literal[""] = ""
    seed: Seed = 0
    side: Annotated[int, Ge(4), Le(512)] | Literal[0] = 0


GOOD = {
    "count": 1,
    "share": 1,
    "ratio": Fraction(3, 2),
    "word": None,
    "switch": True,
    "text": "",
    "three": (1, 2, 3),
    "many": (0.5, 1),
}


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"count": 0}, "a whole number of at least 1"),
        ({"count": 1.0}, "a whole number of at least 1"),
        ({"share": True}, "a number above 0 and at most 1"),
        ({"share": "1"}, "a number above 0 and at most 1"),
        ({"ratio": Fraction(-1, 2)}, "a number above 0"),
        ({"word": "each"}, "some or all or none"),
        ({"switch": 1}, "true or false"),
        ({"text": 1}, "a text"),
        ({"three": (1, 2)}, "a list of 3 values"),
        ({"three": (1, 2, 0)}, "a list of 3 values"),
        ({"many": 0.5}, "a list, each a number"),
        ({"net": 1}, "an expression of the nets or none"),
        ({"side": 3}, "a whole number from 4 to 512 or 0"),
    ],
)
def test_words_for_what_is_needed(wrong, words):
    assert checked("everything", Everything, GOOD) == GOOD
    (key,) = wrong
    with pytest.raises(UsageError) as caught:
        Everything(**GOOD | wrong)
    assert f": {key} is {words}, not " in str(caught.value)


def test_an_annotation_that_cannot_be_read_is_named():
    @dataclass
    class Broken:
        field: "Nowhere"  # noqa: F821, UP037

    with pytest.raises(UsageError, match="name 'Nowhere' is not defined"):
        settings_of(Broken)


def test_a_parameter_without_annotation_is_left_alone(tmp_path, monkeypatch):
    (tmp_path / "loose.py").write_text("def shape(size, *, colour: str = 'red'): return size, colour\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert Catalog("shapes", {"shape": "loose:shape"}).make("shape(round)") == ("round", "red")
