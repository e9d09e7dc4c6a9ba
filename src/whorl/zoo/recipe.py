"""How a model came to be, as an expression that can be read, hashed and run again.

``train(resnet8(width=8), digits, seed=0) -> prune_filters(4/16)``: the first step trains a net on one part of a data
set; each further step is a removal, applied by a thief who holds another part. `parse_recipe` binds every default, so
recipes of equal meaning have equal text and equal digest. A model that is downloaded begins with
``pretrained(timm(name=resnet50.tv_in1k), data=imagenet)`` instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Annotated, Any, Final

from annotated_types import Gt, Le

from whorl.catalog import Catalog
from whorl.data import SOURCES, Source
from whorl.data.base import Part
from whorl.errors import UsageError
from whorl.expressions import CODE, Call, Chain, Value, parse, parse_chain
from whorl.nets import ESTIMATORS, NETS
from whorl.nets.training import task_of
from whorl.removals import REMOVALS, Removal
from whorl.settings import Count, LongSeed, Named, Positive, Whole, checked, named, settings_of
from whorl.zoo.chained import Chained
from whorl.zoo.pretrained import Pretrained, check_checkpoint

if TYPE_CHECKING:
    from whorl.zoo.marked import Marking

__all__ = ["OWNED", "Recipe", "Train", "parse_recipe", "split_step"]


@dataclass(frozen=True)
class Train:
    """The first step: settings of `whorl.nets.training.Schedule` and what to train on.

    ``architecture`` is an expression of `NETS` or `ESTIMATORS`; ``part`` is the part of ``data`` to learn from;
    ``share`` is the share of that part, drawn by the seed, for independent models with data of their own.
    """

    architecture: Annotated[str, Named(("whorl.nets:NETS", "whorl.nets:ESTIMATORS"), "architecture")]
    data: Annotated[str, Named(("whorl.data:SOURCES",), "task")]
    part: Part = "victim"
    epochs: Count = 10
    learning_rate: Positive = 0.1
    batch: Count = 100
    shift: Whole = 1
    flip: bool = False
    share: Annotated[float | Fraction, Gt(0), Le(1)] = 1.0
    seed: LongSeed = 0


FIRST: Final[Catalog[Train | Pretrained]] = Catalog(
    "first steps", {"train": "whorl.zoo.recipe:Train", "pretrained": "whorl.zoo.pretrained:Pretrained"}
)

OWNED: Final[Catalog[Marking]] = Catalog("steps of an owner", {"mark": "whorl.zoo.marked:Marking"})


class Recipe(Chained):
    """How a net of the vision zoo, or an estimator, came to be."""

    @property
    def root(self) -> Recipe:
        """The first step alone."""
        return Recipe(Chain(self.chain.steps[:1]))

    @property
    def victim(self) -> Recipe:
        """Whose copy a derived model is: what the last step of an owner before its own made.

        That is the first step, unless the model was transferred to another task, or marked, and then attacked.
        """
        steps = self.chain.steps
        tasks = [number for number, step in enumerate(steps[:-1]) if step.name in OWNED or _named(step, "task")]
        return Recipe(Chain(steps[: tasks[-1] + 1])) if tasks else self

    @property
    def first(self) -> Train | Pretrained:
        """The first step."""
        step = self.chain.steps[0]
        known = settings_of(FIRST[step.name])
        return FIRST[step.name](**{key: _text(known[key].supplied(value)) for key, value in step.kwargs})

    @property
    def data(self) -> str:
        """The data set of the last step that names one: the task of the model."""
        return [str(value) for step in self.chain.steps for value in _named(step, "task")][-1]

    @property
    def group(self) -> str:
        """The kind of stranger that the model is: the architecture it began with, and the steps since."""
        return " -> ".join([parse(self.first.architecture).name, *(step.name for step in self.chain.steps[1:])])

    @property
    def source(self) -> Source:
        """The same, to load."""
        return SOURCES.make(self.data)

    @property
    def is_estimator(self) -> bool:
        """Whether the model is a scikit-learn estimator rather than a net."""
        return parse(self.first.architecture).name in ESTIMATORS

    def with_seed(self, seed: int) -> Recipe:
        """The same recipe with another seed in its last step. Raises `UsageError` where that draws nothing."""
        *before, last = self.chain.steps
        if "seed" not in dict(last.kwargs):
            raise UsageError(f"{self} is one model, the same for every seed; give a recipe that begins with train")
        settings = tuple((key, seed if key == "seed" else value) for key, value in last.kwargs)
        return Recipe(Chain((*before, Call(last.name, (), settings))))

    def then(self, removal: str) -> Recipe:
        """The recipe of what this removal makes of the model; its own where that is empty."""
        return parse_recipe(f"{self} -> {removal}") if removal else self


def parse_recipe(text: str, *, trust_code: bool = False) -> Recipe:
    """Read a recipe and bind every default. Raises `UsageError` naming the mistake.

    ``trust_code`` admits an architecture ``module:callable``, which runs that module; a recipe that was read so once
    is read by this process without asking.
    """
    first, *rest = parse_chain(text).steps
    architecture = (*first.args, dict(first.kwargs).get("architecture"))[0]
    code = architecture.name if isinstance(architecture, Call) else str(architecture)
    if CODE.fullmatch(code):
        if trust_code:
            NETS.admit(code)
        if rest:
            raise UsageError(f"removals change nets of whorl's own catalog; {code} is none: {text!r}")
    steps = [_bind_first(first)]
    if rest and parse(str(dict(steps[0].kwargs)["architecture"])).name in ESTIMATORS:
        raise UsageError(f"removals change nets; {steps[0].name} here fits an estimator: {text!r}")
    steps += [_bind_removal(step) for step in rest]
    for step in steps[1:]:
        _check_thief(steps[0], step)
    return Recipe(Chain(tuple(steps)))


def split_step(step: Call) -> tuple[Call, str, int]:
    """A bound step that is not the first, as (expression, part, seed)."""
    settings = dict(step.kwargs)
    part, seed = settings.pop("part"), settings.pop("seed")
    if not isinstance(part, str) or not isinstance(seed, int):
        raise UsageError(f"{step}: part is a word and seed a whole number")
    return Call(step.name, (), tuple(settings.items())), part, seed


def _bind_first(step: Call) -> Call:
    if step.name not in FIRST:
        raise UsageError(f"a recipe begins with train(architecture, data, ...) or pretrained(...), not {step.name}")
    bound = FIRST.bind(step)
    settings: dict[str, Any] = dict(bound.kwargs)
    architecture = str(settings["architecture"])
    if step.name == "pretrained":
        if parse(architecture).name in ESTIMATORS:
            raise UsageError(f"{step.name}: {architecture} is no net, and no checkpoint of it is loaded")
        check_checkpoint(settings["checkpoint"], architecture)
    _check_labels(architecture, str(settings["data"]))
    return bound


def _check_labels(architecture: str, data: str) -> None:
    """A net learns from labels of its own task; a generative one from any pictures."""
    task = "classification" if parse(architecture).name in ESTIMATORS else task_of(architecture)
    given = getattr(SOURCES[parse(data).name], "task", "classification")
    if task not in ("generation", given):
        held = {"classification": "classes", "regression": "numbers"}.get(given, "nothing")
        raise UsageError(f"train: {architecture} does {task}; the labels of {data} are {held}")


def _bind_removal(step: Call) -> Call:
    extra = {key: value for key, value in step.kwargs if key in ("part", "seed")}
    catalog = OWNED if step.name in OWNED else REMOVALS
    bound = catalog.bind(Call(step.name, step.args, tuple(item for item in step.kwargs if item[0] not in extra)))
    usual = {"part": getattr(catalog[step.name], "part", Removal.part), "seed": 0}
    return Call(step.name, (), (*bound.kwargs, *checked(step.name, _Theft, usual | extra).items()))


@dataclass(frozen=True)
class _Theft:
    """What a recipe says of every step but the first, beside the settings of its own."""

    part: Part
    seed: LongSeed


def _check_thief(first: Call, step: Call) -> None:
    """Equal seed and equal architecture draw equal initial weights: a thief would begin inside the victim."""
    ours, own, seed = _named(first, "architecture")[0], dict(first.kwargs).get("seed"), dict(step.kwargs)["seed"]
    for theirs in _named(step, "architecture"):
        if (ours, own) == (theirs, seed):
            raise UsageError(
                f"this thief would start from the victim's own initial weights: both draw {ours} with seed {seed}. "
                "Give the step a seed of its own, as in seed=500"
            )
        if task_of(str(ours)) != task_of(str(theirs)):
            raise UsageError(
                f"{theirs} does {task_of(str(theirs))}; it cannot learn from {ours}, which does {task_of(str(ours))}"
            )


def _named(step: Call, role: str) -> list[Value]:
    """What a bound step names in this role."""
    catalog = next((each for each in (FIRST, OWNED) if step.name in each), REMOVALS)
    return named(catalog[step.name], dict(step.kwargs), role)


def _text(value: Value) -> Any:
    return str(value) if isinstance(value, Call) else value
