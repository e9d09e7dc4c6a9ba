"""How a model came to be, as an expression that can be read, hashed and run again.

``train(resnet8(width=8), digits, seed=0) -> prune_filters(4/16)``: the first step trains a net on one part of a data
set; each further step is a removal, applied by a thief who holds another part. A model that is downloaded begins with
``pretrained(timm(name=resnet50.tv_in1k), data=imagenet)`` instead, and a tiny language model with ``pretrain``, as in
``pretrain(llama(width=64), corpus) -> tune(corpus(seed=1)) -> quantise(bits=4)``. `parse_recipe` binds every default,
so recipes of equal meaning have equal text and equal digest. `whorl.zoo.steps` says which steps there are.

A step that needs a second model names it by a recipe in quotes. There ``base`` stands for the first step of the recipe
itself and ``stranger`` for the same with another seed, as in ``merge("base -> tune(corpus(seed=2))", weight=0.5)``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Annotated, Any, ClassVar, Final

from annotated_types import Gt, Le

from whorl.catalog import Catalog
from whorl.data import SOURCES, Source
from whorl.data.base import Part
from whorl.errors import UsageError
from whorl.expressions import CODE, Call, Chain, Value, parse, parse_chain
from whorl.nets import ESTIMATORS, NETS
from whorl.nets.training import task_of
from whorl.settings import Count, LongSeed, Named, Positive, Whole, checked, named, settings_of
from whorl.zoo.pretrained import Pretrained, check_checkpoint
from whorl.zoo.steps import FIRST, NET, OWNED, admitted, catalog_of, gives

__all__ = ["Recipe", "Train", "parse_recipe", "split_step"]

FORMAT: Final = 1  # part of every digest; raised when the meaning of an old text changes
STRANGER: Final = 1_000_003  # what a stranger's seed is more than its own


@dataclass(frozen=True)
class Train:
    """The first step: settings of `whorl.nets.training.Schedule` and what to train on.

    ``architecture`` is an expression of `NETS` or `ESTIMATORS`; ``part`` is the part of ``data`` to learn from;
    ``share`` is the share of that part, drawn by the seed, for independent models with data of their own.
    """

    gives: ClassVar[str] = NET

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


@dataclass(frozen=True)
class Recipe:
    """A bound chain of steps. The first draws and trains a model, or fetches one; each further one makes another of it.

    `first`, `source` and `group` are of recipes of nets alone.
    """

    chain: Chain

    def __str__(self) -> str:
        return str(self.chain)

    @cached_property
    def digest(self) -> str:
        """Content hash, 20 hexadecimal digits."""
        return hashlib.sha256(f"{FORMAT}\n{self}".encode()).hexdigest()[:20]

    @cached_property
    def steps(self) -> tuple[tuple[Call, Catalog[Any]], ...]:
        """Each step and the catalogue of what carries it out."""
        found: list[tuple[Call, Catalog[Any]]] = []
        kind = ""
        for step in self.chain.steps:
            catalog = catalog_of(step.name, kind)
            kind = gives(catalog[step.name])
            found.append((step, catalog))
        return tuple(found)

    @property
    def kind(self) -> str:
        """The kind of model that the last step gives."""
        step, catalog = self.steps[-1]
        return gives(catalog[step.name])

    @property
    def root(self) -> Recipe:
        """The first step alone."""
        return Recipe(Chain(self.chain.steps[:1]))

    @property
    def parent(self) -> Recipe | None:
        """The recipe without its last step."""
        return Recipe(Chain(self.chain.steps[:-1])) if len(self.chain.steps) > 1 else None

    @property
    def ancestors(self) -> list[Recipe]:
        """Its parent, the parent of that, and so on to the first step alone."""
        steps = self.chain.steps
        return [Recipe(Chain(steps[:count])) for count in range(len(steps) - 1, 0, -1)]

    @property
    def others(self) -> dict[str, Recipe]:
        """The further models that the last step takes, by parameter."""
        step, catalog = self.steps[-1]
        wanted = _others(catalog[step.name])
        return {key: Recipe(parse_chain(str(value))) for key, value in step.kwargs if key in wanted}

    @property
    def needs(self) -> list[Recipe]:
        """All models that the last step takes."""
        return [*([self.parent] if self.parent else []), *self.others.values()]

    @property
    def victim(self) -> Recipe:
        """Whose copy a derived model is: what the last step of an owner before its own made.

        That is the first step, unless the model was transferred to another task, or marked, and then attacked.
        """
        tasks = [number for number, each in enumerate(self.steps[:-1]) if each[1] is OWNED or _tasks(*each)]
        return Recipe(Chain(self.chain.steps[: tasks[-1] + 1])) if tasks else self

    @property
    def first(self) -> Train | Pretrained:
        """The first step."""
        step = self.chain.steps[0]
        known = settings_of(FIRST[step.name])
        return FIRST[step.name](**{key: _text(known[key].supplied(value)) for key, value in step.kwargs})

    @property
    def data(self) -> str:
        """The data set of the last step that names one: the task of the model."""
        return [str(value) for each in self.steps for value in _tasks(*each)][-1]

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
        return _architecture(self.chain.steps[0]) in ESTIMATORS

    def with_seed(self, seed: int) -> Recipe:
        """The same recipe with another seed in its last step. Raises `UsageError` where that draws nothing."""
        *before, last = self.chain.steps
        if "seed" not in dict(last.kwargs):
            raise UsageError(f"{self} is one model, the same for every seed; give a recipe that begins with train")
        settings = tuple((key, seed if key == "seed" else value) for key, value in last.kwargs)
        return Recipe(Chain((*before, Call(last.name, (), settings))))

    def then(self, steps: str) -> Recipe:
        """The recipe of what these steps make of the model; its own where there are none."""
        return parse_recipe(f"{self} -> {steps}", kind=self.kind) if steps else self


def parse_recipe(text: str, *, kind: str | None = NET, trust_code: bool = False) -> Recipe:
    """Read a recipe and bind every default. Raises `UsageError` naming the mistake.

    Parameters:
        kind: what it has to make, as in `whorl.zoo.steps`; only nets can be asked. None takes both.
        trust_code: admits an architecture ``module:callable``, which runs that module; a recipe that was read so once
            is read by this process without asking.
    """
    first, *rest = parse_chain(text).steps
    catalog = catalog_of(first.name, "")
    made = gives(catalog[first.name])
    if kind not in (None, made):
        begun = " or ".join(name for name in ("train", "pretrained", "pretrain") if gives(FIRST[name]) == kind)
        raise UsageError(f"{first.name} makes a {made}, and a {kind} is needed: give a recipe that begins with {begun}")
    if made == NET:
        _check_code(first, bool(rest), trust_code, text)
    bound = catalog.bind(first)
    if made == NET:
        _check_first(bound, bool(rest), text)
    steps, family = [bound], admitted(catalog[first.name], bound, "")
    for step in rest:
        catalog = catalog_of(step.name, made)
        target = catalog[step.name]
        steps.append(_bind(step, catalog, steps[0], made))
        family, made = admitted(target, steps[-1], family), gives(target)
        _check_drawn(steps[0], steps[-1], target)
    return Recipe(Chain(tuple(steps)))


def split_step(step: Call) -> tuple[Call, str, int]:
    """A bound step of a thief or an owner, as (expression, part, seed)."""
    settings = dict(step.kwargs)
    part, seed = settings.pop("part"), settings.pop("seed")
    if not isinstance(part, str) or not isinstance(seed, int):
        raise UsageError(f"{step}: part is a word and seed a whole number")
    return Call(step.name, (), tuple(settings.items())), part, seed


def _check_code(first: Call, followed: bool, trust_code: bool, text: str) -> None:
    architecture = (*first.args, dict(first.kwargs).get("architecture"))[0]
    code = architecture.name if isinstance(architecture, Call) else str(architecture)
    if CODE.fullmatch(code):
        if trust_code:
            NETS.admit(code)
        if followed:
            raise UsageError(f"removals change nets of whorl's own catalog; {code} is none: {text!r}")


def _check_first(step: Call, followed: bool, text: str) -> None:
    settings: dict[str, Any] = dict(step.kwargs)
    architecture, estimator = str(settings["architecture"]), _architecture(step) in ESTIMATORS
    if step.name == "pretrained":
        if estimator:
            raise UsageError(f"{step.name}: {architecture} is no net, and no checkpoint of it is loaded")
        check_checkpoint(settings["checkpoint"], architecture)
    _check_labels(architecture, str(settings["data"]))
    if followed and estimator:
        raise UsageError(f"removals change nets; {step.name} here fits an estimator: {text!r}")


def _check_labels(architecture: str, data: str) -> None:
    """A net learns from labels of its own task; a generative one from any pictures."""
    task = "classification" if parse(architecture).name in ESTIMATORS else task_of(architecture)
    given = getattr(SOURCES[parse(data).name], "task", "classification")
    if task not in ("generation", given):
        held = {"classification": "classes", "regression": "numbers"}.get(given, "nothing")
        raise UsageError(f"train: {architecture} does {task}; the labels of {data} are {held}")


def _bind(step: Call, catalog: Catalog[Any], first: Call, kind: str) -> Call:
    """A further step with all its settings, and where it is an act with data of one's own, with part and seed."""
    target = catalog[step.name]
    part = getattr(target, "part", "")
    usual = {"part": part, "seed": 0} if part else {}
    extra = {key: value for key, value in step.kwargs if key in usual}
    bound = catalog.bind(Call(step.name, step.args, tuple(item for item in step.kwargs if item[0] not in extra)))
    others = _others(target)
    settings = {
        key: str(parse_recipe(_absolute(str(value), first), kind=kind)) if key in others else value
        for key, value in bound.kwargs
    }
    act = checked(step.name, _Act, usual | extra) if usual else {}
    return Call(step.name, (), (*settings.items(), *act.items()))


@dataclass(frozen=True)
class _Act:
    """What a recipe says of a thief's or an owner's step, beside the settings of its own."""

    part: Part
    seed: LongSeed


def _check_drawn(first: Call, step: Call, target: Callable[..., Any]) -> None:
    """Equal seed and equal architecture draw equal initial weights: what is made anew would begin inside the model."""
    settings = dict(step.kwargs)
    ours, own = str(dict(first.kwargs)["architecture"]), dict(first.kwargs).get("seed")
    drawn = [str(value) for value in named(target, settings, "architecture")]
    for theirs in [*drawn, *([ours] if getattr(target, "draws_anew", False) else [])]:
        if (ours, own) == (theirs, settings["seed"]):
            raise UsageError(
                f"{step.name} would start from the model's own initial weights: both draw {ours} with seed {own}. "
                "Give the step a seed of its own, as in seed=500"
            )
    for theirs in drawn:
        if task_of(ours) != task_of(theirs):
            raise UsageError(
                f"{theirs} does {task_of(theirs)}; it cannot learn from {ours}, which does {task_of(ours)}"
            )


def _others(target: Callable[..., Any]) -> set[str]:
    """The parameters of a step that are recipes."""
    known = settings_of(target)
    return {key for key, setting in known.items() if any(mark.role == "recipe" for mark in setting.marks)}


def _absolute(text: str, first: Call) -> str:
    """A recipe in which ``base`` and ``stranger`` are spelled out."""
    head, *rest = parse_chain(text).steps
    if head == Call("base"):
        head = first
    elif head == Call("stranger"):
        seed = dict(first.kwargs)["seed"]
        assert isinstance(seed, int)
        head = Call(first.name, (), tuple((k, seed + STRANGER if k == "seed" else v) for k, v in first.kwargs))
    return str(Chain((head, *rest)))


def _tasks(step: Call, catalog: Catalog[Any]) -> list[Value]:
    """The data sets that a bound step's outcome is measured on, if it names any."""
    return named(catalog[step.name], dict(step.kwargs), "task")


def _architecture(first: Call) -> str:
    return parse(str(dict(first.kwargs)["architecture"])).name


def _text(value: Value) -> Any:
    return str(value) if isinstance(value, Call) else value
