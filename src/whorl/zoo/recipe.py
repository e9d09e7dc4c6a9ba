"""How a model came to be, as an expression that can be read, hashed and run again.

``train(resnet8(width=8), digits, seed=0) -> prune_filters(4/16)``: the first step trains a net on one part of a data
set; each further step is a removal, applied by a thief who holds another part. `parse_recipe` binds every default, so
recipes of equal meaning have equal text and equal digest. A model that is downloaded begins with
``pretrained(timm(name=resnet50.tv_in1k), data=imagenet)`` instead.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from fractions import Fraction
from typing import Any, Final

from whorl.data import PARTS, SOURCES, Source
from whorl.errors import UsageError
from whorl.expressions import Call, Chain, Value, parse, parse_chain
from whorl.nets import ESTIMATORS, NETS
from whorl.nets.training import task_of
from whorl.removals import REMOVALS, Removal
from whorl.zoo.chained import Chained
from whorl.zoo.pretrained import Pretrained, check_checkpoint

__all__ = ["Recipe", "Train", "parse_recipe"]


@dataclass(frozen=True)
class Train:
    """The first step: settings of `whorl.nets.training.Schedule` and what to train on.

    ``architecture`` is an expression of `NETS` or `ESTIMATORS`; ``part`` is the part of ``data`` to learn from;
    ``share`` is the share of that part, drawn by the seed, for independent models with data of their own.
    """

    architecture: str
    data: str
    part: str = "victim"
    epochs: int = 10
    learning_rate: float = 0.1
    batch: int = 100
    shift: int = 1
    flip: bool = False
    share: float = 1.0
    seed: int = 0


FIRST: Final[Mapping[str, type[Train] | type[Pretrained]]] = {"train": Train, "pretrained": Pretrained}


class Recipe(Chained):
    """How a net of the vision zoo, or an estimator, came to be."""

    @property
    def root(self) -> Recipe:
        """The first step alone."""
        return Recipe(Chain(self.chain.steps[:1]))

    @property
    def victim(self) -> Recipe:
        """Whose copy a derived model is: what the last step before its own with a data set of its own made.

        That is the first step, unless the model was transferred to another task and then attacked.
        """
        steps = self.chain.steps
        tasks = [number for number, step in enumerate(steps[:-1]) if "data" in dict(step.kwargs)]
        return Recipe(Chain(steps[: tasks[-1] + 1])) if tasks else self

    @property
    def first(self) -> Train | Pretrained:
        """The first step."""
        step = self.chain.steps[0]
        return FIRST[step.name](**{key: _text(value) for key, value in step.kwargs})

    @property
    def data(self) -> str:
        """The data set of the last step that names one: the task of the model."""
        return [str(value) for step in self.chain.steps for key, value in step.kwargs if key == "data"][-1]

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
        """The recipe of what this removal makes of the model."""
        return parse_recipe(f"{self} -> {removal}")


def parse_recipe(text: str) -> Recipe:
    """Read a recipe and bind every default. Raises `UsageError` naming the mistake."""
    first, *rest = parse_chain(text).steps
    steps = [_bind_first(first)]
    if rest and parse(str(dict(steps[0].kwargs)["architecture"])).name in ESTIMATORS:
        raise UsageError(f"removals change nets; {steps[0].name} here fits an estimator: {text!r}")
    steps += [_bind_removal(step) for step in rest]
    for step in steps[1:]:
        _check_thief(dict(steps[0].kwargs), dict(step.kwargs))
    return Recipe(Chain(tuple(steps)))


def split_step(step: Call) -> tuple[Call, str, int]:
    """A bound removal step as (removal expression, part, seed)."""
    settings = dict(step.kwargs)
    part, seed = settings.pop("part"), settings.pop("seed")
    if not isinstance(part, str) or not isinstance(seed, int):
        raise UsageError(f"{step}: part is a word and seed a whole number")
    return Call(step.name, (), tuple(settings.items())), part, seed


def _bind_first(step: Call) -> Call:
    if step.name not in FIRST:
        raise UsageError(f"a recipe begins with train(architecture, data, ...) or pretrained(...), not {step.name}")
    known = {field.name: ... if field.default is MISSING else field.default for field in fields(FIRST[step.name])}
    given: dict[str, Value] = dict(zip(known, step.args, strict=False)) | dict(step.kwargs)
    if len(step.args) > len(known) or given.keys() - known.keys():
        raise UsageError(f"{step.name} takes {', '.join(known)}; this gives {step}")
    if missing := [name for name, default in known.items() if default is ... and name not in given]:
        raise UsageError(f"{step.name} needs {' and '.join(missing)}: {step}")
    bound: dict[str, Any] = known | given
    architecture = str(bound["architecture"])
    if parse(architecture).name not in ESTIMATORS:
        bound["architecture"] = _bind_named("architecture", architecture)
    elif step.name == "train":
        bound["architecture"] = _bare(ESTIMATORS.bind(architecture))
    else:
        raise UsageError(f"{step.name}: {architecture} is no net, and no checkpoint of it is loaded")
    bound["data"] = _bind_named("data", bound["data"])
    _check_labels(architecture, str(bound["data"]))
    if step.name == "train":
        _check_part(bound["part"])
        _check_numbers(bound)
    else:
        check_checkpoint(str(bound["checkpoint"]), str(bound["architecture"]))
    return Call(step.name, (), tuple(bound.items()))


def _check_labels(architecture: str, data: str) -> None:
    """A net learns from labels of its own task; a generative one from any pictures."""
    task = "classification" if parse(architecture).name in ESTIMATORS else task_of(architecture)
    given = getattr(SOURCES[parse(data).name], "task", "classification")
    if task not in ("generation", given):
        held = {"classification": "classes", "regression": "numbers"}.get(given, "nothing")
        raise UsageError(f"train: {architecture} does {task}; the labels of {data} are {held}")


def _check_numbers(bound: Mapping[str, Any]) -> None:
    """A mistake shows here and not in a worker, hours later."""
    for key, least in {"epochs": 1, "batch": 1, "shift": 0, "seed": 0}.items():
        if type(bound[key]) is not int or bound[key] < least:
            raise UsageError(f"train: {key} is a whole number of at least {least}, not {bound[key]}")
    for key, most in {"learning_rate": math.inf, "share": 1}.items():
        if type(bound[key]) not in (int, float, Fraction) or not 0 < bound[key] <= most:
            raise UsageError(
                f"train: {key} is a number above 0{' and at most 1' if most == 1 else ''}, not {bound[key]}"
            )
    if not isinstance(bound["flip"], bool):
        raise UsageError(f"train: flip is true or false, not {bound['flip']}")


def _bind_removal(step: Call) -> Call:
    extra = {key: value for key, value in step.kwargs if key in ("part", "seed")}
    own = Call(step.name, step.args, tuple(item for item in step.kwargs if item[0] not in extra))
    bound = REMOVALS.bind(own)
    part, seed = extra.get("part", getattr(REMOVALS[step.name], "part", Removal.part)), extra.get("seed", 0)
    _check_part(part)
    if type(seed) is not int or seed < 0:
        raise UsageError(f"{step.name}: seed is a whole number of at least 0, not {seed}")
    settings = [(key, _bind_named(key, value)) for key, value in bound.kwargs]
    return Call(step.name, (), (*settings, ("part", part), ("seed", seed)))


def _check_thief(victim: dict[str, Value], thief: dict[str, Value]) -> None:
    """Equal seed and equal architecture draw equal initial weights: a thief would begin inside the victim."""
    if (victim["architecture"], victim.get("seed")) == (thief.get("architecture"), thief["seed"]):
        raise UsageError(
            f"this thief would start from the victim's own initial weights: both draw {victim['architecture']} with "
            f"seed {victim['seed']}. Give the step a seed of its own, as in seed=500"
        )
    if "architecture" in thief:
        ours, theirs = (str(each["architecture"]) for each in (victim, thief))
        if task_of(ours) != task_of(theirs):
            raise UsageError(
                f"{theirs} does {task_of(theirs)}; it cannot learn from {ours}, which does {task_of(ours)}"
            )


def _bind_named(key: str, value: Value) -> Value:
    """A net or a data set with all its defaults, whatever it is itself made from included."""
    catalog = {"architecture": NETS, "member": NETS, "surrogate": NETS, "data": SOURCES, "pool": SOURCES}.get(key)
    if catalog is None or value in (None, ""):
        return value
    call = catalog.bind(str(value))
    return _bare(Call(call.name, (), tuple((name, _bind_named(name, inner)) for name, inner in call.kwargs)))


def _check_part(part: object) -> None:
    for name in str(part).split("+"):
        if name not in PARTS:
            raise UsageError(f"no such part of a data set: {name!r}. The parts are {', '.join(PARTS)}.")


def _bare(call: Call) -> Value:
    """A call without parameters reads back as a word, so it is stored as one."""
    return call if call.kwargs else call.name


def _text(value: Value) -> Any:
    return str(value) if isinstance(value, Call) else value
