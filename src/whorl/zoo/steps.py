"""The steps of recipes: which there are, and what each says of itself.

A step says which kind of model it takes, none where it begins a recipe, and which it gives: a class by ``takes`` and
``gives``, a function by the types of its parameter ``model`` and of what it returns. Two steps may share a name where
they take different kinds: ``quantise`` rounds a net, or a language model. A step of language models also says which
families it takes (`only`), which it makes of them, and whether it draws fresh weights (`says`).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from inspect import isclass
from typing import Any, Final, ParamSpec, TypeVar

from whorl.catalog import Catalog
from whorl.errors import UsageError
from whorl.expressions import Call, Value
from whorl.removals import REMOVALS
from whorl.settings import settings_of

__all__ = [
    "CHANGES",
    "FIRST",
    "LANGUAGE",
    "NET",
    "OWNED",
    "NotAdmitted",
    "admitted",
    "catalog_of",
    "gives",
    "only",
    "says",
]

NET: Final = "net"
LANGUAGE: Final = "language model"
P = ParamSpec("P")
R = TypeVar("R")

_LESSONS = ("tune", "lora", "distil", "reuse_embedding")
_DERIVATIVES = (
    *("quantise", "cast", "prune_weights", "prune_width", "noise", "drop_layer", "duplicate_layer", "swap_layers"),
    *("extend_vocabulary", "merge", "upcycle"),
)
_DISGUISES = (
    *("permute_neurons", "permute_heads", "permute_experts", "permute_residual", "rotate_residual"),
    *("scale_neurons", "scale_norms", "flip_signs", "mix_values", "mix_queries", "obfuscate"),
)

FIRST: Final[Catalog[Any]] = Catalog(
    "first steps",
    {
        "train": "whorl.zoo.recipe:Train",
        "pretrained": "whorl.zoo.pretrained:Pretrained",
        "pretrain": "whorl.zoo.lessons:pretrain",
    },
)
OWNED: Final[Catalog[Any]] = Catalog("steps of an owner", {"mark": "whorl.zoo.marked:Marking"})
CHANGES: Final[Catalog[Any]] = Catalog(
    "steps of language models",
    {name: f"whorl.zoo.lessons:{name}" for name in _LESSONS}
    | {name: f"whorl.zoo.derivatives:{name}" for name in _DERIVATIVES}
    | {name: f"whorl.zoo.disguises:{name}" for name in _DISGUISES},
    fixed=("model",),
)


class NotAdmitted(UsageError):
    """A step does not take models of this family."""


def catalog_of(name: str, kind: str) -> Catalog[Any]:
    """The catalogue of the step of that name that takes this kind of model; "" is what begins a recipe.

    Raises `UsageError` where there is none, naming the near ones.
    """
    if not kind:
        if name not in FIRST:
            begun = "train(architecture, data, ...), pretrained(...) or pretrain(...)"
            raise UsageError(f"a recipe begins with {begun}, not {name}")
        return FIRST
    known = [catalog for catalog in (OWNED, REMOVALS, CHANGES) if name in catalog]
    for catalog in known:
        if _takes(catalog[name]) == kind:
            return catalog
    if name in FIRST:
        raise UsageError(f"{name} begins a recipe and is no further step")
    if known:
        raise UsageError(f"{name} takes a {_takes(known[0][name])}, and is given a {kind}")
    nearest = CHANGES if kind == LANGUAGE else REMOVALS
    nearest.targets(name)
    return nearest


def gives(target: Callable[..., Any]) -> str:
    """The kind of model that a step gives."""
    return target.gives if isclass(target) else settings_of(target)["return"].hint.kind  # pyright: ignore


def _takes(target: Callable[..., Any]) -> str:
    if isclass(target):
        return target.takes  # pyright: ignore[reportAttributeAccessIssue] what every class of a step says
    return settings_of(target)["model"].hint.kind


def says(**said: Any) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Says of a step which family its settings make (``becomes``), or that it draws the model's own fresh weights by
    its seed (``draws_anew``)."""

    def saying(function: Callable[P, R]) -> Callable[P, R]:
        vars(function).update(said)
        return function

    return saying


def only(*families: str, why: str, **where: Value) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Limits a step to these families where its settings are ``where``; ``why`` ends the refusal of all others."""

    def limit(name: str, family: str, settings: Mapping[str, Any]) -> None:
        if family not in families and all(settings[key] == value for key, value in where.items()):
            step = Call(name, (), tuple(where.items()))
            raise NotAdmitted(f"{step} takes {' or '.join(families)}, not {family}: {why}")

    def limited(function: Callable[P, R]) -> Callable[P, R]:
        @wraps(function)
        def step(*args: P.args, **kwargs: P.kwargs) -> R:
            given = inspect.signature(function).bind(*args, **kwargs)
            given.apply_defaults()
            limit(function.__name__, given.arguments["model"].family, given.arguments)
            return function(*args, **kwargs)

        return says(limits=(limit, *getattr(function, "limits", ())))(step)

    return limited


def admitted(target: Callable[..., Any], step: Call, family: str) -> str:
    """The family of what a bound step makes of this one. Raises `NotAdmitted`."""
    settings = dict(step.kwargs)
    for limit in getattr(target, "limits", ()):
        limit(step.name, family, settings)
    rule = getattr(target, "becomes", None)
    return family if rule is None else rule(settings)
