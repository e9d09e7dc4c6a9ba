"""Tiny language models by recipe, each kept once, in the layout of the Hugging Face hub.

Its folder is named by the digest of the recipe and the revision of the code that makes it (`whorl.revisions`).

``pretrain(llama(width=64), corpus, seed=0) -> tune(corpus(seed=1)) -> quantise(bits=4) -> rotate_residual(seed=3)``:
the first step draws a net and trains it on synthetic text; each further step is a derivative
(`whorl.zoo.derivatives`, `whorl.zoo.lessons`) or a disguise (`whorl.zoo.disguises`). `parse_language` binds every
default, so recipes of equal meaning have equal text and equal digest.

A step that needs a second model names it by a recipe in quotes. There ``base`` stands for the first step of the recipe
itself and ``stranger`` for the same with another seed, as in ``merge("base -> tune(corpus(seed=2))", weight=0.5)``.
"""

from __future__ import annotations

import os
import shlex
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from whorl.catalog import Catalog
from whorl.engine.tasks import Task
from whorl.engine.workers import Workers, run_tasks
from whorl.errors import InvalidFile, UsageError
from whorl.expressions import Call, Chain, Value, parse_chain
from whorl.revisions import digest_of, revisions_of
from whorl.settings import settings_of
from whorl.storage import one_line, read_json, write_json
from whorl.zoo.causal import Model
from whorl.zoo.chained import Chained
from whorl.zoo.code import code_of_chain
from whorl.zoo.corpus import Corpus
from whorl.zoo.lessons import ARCHITECTURES, CORPORA

__all__ = [
    "STEPS",
    "LanguageRecipe",
    "build",
    "build_all",
    "built",
    "card",
    "cards",
    "forget",
    "is_language",
    "kept_in",
    "parse_language",
]

STRANGER: Final = 1_000_003  # what a stranger's seed is more than its own
_LESSONS = ("pretrain", "tune", "lora", "distil", "reuse_embedding")
_DERIVATIVES = (
    *("quantise", "cast", "prune_weights", "prune_width", "noise", "drop_layer", "duplicate_layer", "swap_layers"),
    *("extend_vocabulary", "merge", "upcycle"),
)
_DISGUISES = (
    *("permute_neurons", "permute_heads", "permute_experts", "permute_residual", "rotate_residual"),
    *("scale_neurons", "scale_norms", "flip_signs", "mix_values", "mix_queries", "obfuscate"),
)
STEPS: Catalog[Model] = Catalog(
    "language steps",
    {name: f"whorl.zoo.lessons:{name}" for name in _LESSONS}
    | {name: f"whorl.zoo.derivatives:{name}" for name in _DERIVATIVES}
    | {name: f"whorl.zoo.disguises:{name}" for name in _DISGUISES},
    fixed=("model",),
)


class LanguageRecipe(Chained):
    """How a tiny language model came to be."""

    @property
    def others(self) -> dict[str, LanguageRecipe]:
        """The recipes that the last step takes, by parameter."""
        last = self.chain.steps[-1]
        return {key: LanguageRecipe(parse_chain(str(value))) for key, value in last.kwargs if key in _others(last)}

    @property
    def corpus(self) -> Corpus:
        """What the first step was trained on."""
        return CORPORA.make(str(dict(self.chain.steps[0].kwargs)["data"]))

    def then(self, steps: str) -> LanguageRecipe:
        """The recipe of what these steps make of the model."""
        return parse_language(f"{self} -> {steps}") if steps else self


def parse_language(text: str) -> LanguageRecipe:
    """Read a recipe and bind every default. Raises `UsageError` naming the mistake."""
    first, *rest = parse_chain(text).steps
    if first.name != "pretrain":
        raise UsageError(f"a language recipe begins with pretrain(architecture, corpus, ...), not {first.name}")
    steps = [_bind(first, None)]
    for step in rest:
        if step.name == "pretrain":
            raise UsageError(f"pretrain begins a recipe and is no further step: {text!r}")
        steps.append(_bind(step, steps[0]))
    return LanguageRecipe(Chain(tuple(steps)))


def is_language(text: str) -> bool:
    """Whether a recipe is one of a language model, by its first step."""
    return parse_chain(text).steps[0].name == "pretrain"


def kept_in(cache: Path) -> Path:
    """Where a cache keeps language models."""
    return cache / "language"


def built(recipe: LanguageRecipe, folder: Path) -> Path:
    """The folder of a model that is there. Raises `UsageError` with what builds it where it is not."""
    place = _place(recipe, folder)
    if not place.is_dir():
        raise UsageError(f"not in the zoo yet. Type: whorl zoo build {shlex.quote(str(recipe))}")
    return place


def card(place: Path) -> dict[str, Any]:
    """What is known of the model in a folder: recipe, digest, seconds, and whether older code made it.

    Raises `InvalidFile` where its ``recipe.json`` is none.
    """
    document = read_json(place / "recipe.json")
    try:
        recipe = parse_language(str(document["recipe"]))
        older = _place(recipe, place.parent) != place
        return {"recipe": str(recipe), "digest": recipe.digest, "seconds": document["seconds"], "older": older}
    except (KeyError, TypeError, UsageError) as error:
        raise InvalidFile(f"{place / 'recipe.json'} is no card of a language model: {one_line(error)}") from None


def cards(folder: Path) -> list[dict[str, Any]]:
    """The cards of all models, by recipe."""
    found = [card(place.parent) for place in folder.glob("*/recipe.json") if not place.parent.name.startswith(".")]
    return sorted(found, key=lambda each: str(each["recipe"]))


def forget(recipes: Iterable[LanguageRecipe], folder: Path) -> None:
    """Delete what is kept of these, of today's code; earlier steps stay."""
    for recipe in recipes:
        shutil.rmtree(_place(recipe, folder), ignore_errors=True)


def build(recipe: LanguageRecipe | str, folder: Path) -> Path:
    """The folder of a model: ``config.json`` and ``model.safetensors``, and ``recipe.json`` that says how it was made.

    What is missing under ``folder`` is built, earlier steps first; two processes may do so at once.
    Raises `MissingExtra` without transformers, `UsageError` for a step that the architecture does not admit.
    """
    return build_all([recipe], folder, workers=1)[0]


def build_all(
    recipes: Iterable[LanguageRecipe | str],
    folder: Path,
    *,
    workers: Workers = 0,
    progress: Callable[[int, int], None] = lambda _done, _of: None,
) -> list[Path]:
    """The folders of many models, in the order of the recipes. A killed build goes on where it stopped."""
    bound = [parse_language(recipe) if isinstance(recipe, str) else recipe for recipe in recipes]
    wanted: dict[str, LanguageRecipe] = {}
    for recipe in bound:
        _add_missing(recipe, folder, wanted)
    tasks = {
        digest: Task(
            _build_one, (str(recipe), str(folder)), tuple(each.digest for each in _needs(recipe)), name=str(recipe)
        )
        for digest, recipe in wanted.items()
    }
    for done, _ in enumerate(run_tasks(tasks, workers=workers, folder=folder), 1):
        progress(done, len(tasks))
    return [_place(recipe, folder) for recipe in bound]


def _code(recipe: LanguageRecipe) -> frozenset[str]:
    return code_of_chain(recipe, (STEPS, CORPORA, ARCHITECTURES)) | {__name__}


def _place(recipe: LanguageRecipe, folder: Path) -> Path:
    return folder / f"{recipe.digest}-{digest_of(_code(recipe))}"


def _needs(recipe: LanguageRecipe) -> Iterator[LanguageRecipe]:
    if recipe.parent is not None:
        yield recipe.parent
    yield from recipe.others.values()


def _add_missing(recipe: LanguageRecipe, folder: Path, wanted: dict[str, LanguageRecipe]) -> None:
    if recipe.digest in wanted or _place(recipe, folder).is_dir():
        return
    wanted[recipe.digest] = recipe
    for each in _needs(recipe):
        _add_missing(each, folder, wanted)


def _build_one(text: str, folder: str) -> None:
    """Build one recipe whose earlier models are there (runs in a worker)."""
    recipe, place = parse_language(text), Path(folder)
    started = time.perf_counter()
    supplied = {key: Model.read(_place(other, place)) for key, other in recipe.others.items()}
    last = recipe.chain.steps[-1]
    known = settings_of(STEPS[last.name])
    settings = {key: known[key].supplied(value) for key, value in last.kwargs} | supplied
    if recipe.parent is not None:
        settings["model"] = Model.read(_place(recipe.parent, place))
        _check_text(settings["model"], settings)
    model = STEPS[last.name](**settings)
    temporary = place / f".{os.getpid()}-{threading.get_ident()}-{recipe.digest}.tmp"
    try:
        model.write(temporary)
        seconds = round(time.perf_counter() - started, 3)
        document = {"recipe": text, "seconds": seconds, "revisions": revisions_of(_code(recipe))}
        write_json(temporary / "recipe.json", document)
        temporary.rename(_place(recipe, place))
    except OSError:
        if not _place(recipe, place).is_dir():  # else another process was quicker
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _check_text(model: Model, settings: Mapping[str, Any]) -> None:
    """Text of tokens or places that the model has no rows for would fail in the middle of training."""
    if "data" not in settings:
        return
    corpus = CORPORA.make(str(settings["data"]))
    limits = {"tokens": ("vocab_size", corpus.vocabulary), "places": ("n_positions", corpus.length)}
    for what, (word, needed) in limits.items():
        known = model.config.get(word)
        if isinstance(known, int) and needed > known:
            raise UsageError(f"a model of {known} {what} can't read text of {needed}: {settings['data']}")


def _bind(step: Call, first: Call | None) -> Call:
    bound = STEPS.bind(step)
    others = _others(step)
    settings = [
        (key, str(parse_language(_absolute(str(value), first or step))) if key in others else value)
        for key, value in bound.kwargs
    ]
    if first is not None and step.name in ("distil", "reuse_embedding"):
        _check_seed(step.name, dict(settings)["seed"], dict(first.kwargs)["seed"])
    return Call(step.name, (), tuple(settings))


def _check_seed(name: str, seed: Value, own: Value) -> None:
    """Equal seeds draw equal weights: what is to be independent would begin inside the model."""
    if seed == own:
        raise UsageError(f"{name} draws the model's own fresh weights again: both have seed {own}. Give it another")


def _others(step: Call) -> set[str]:
    """The parameters of a step that are recipes."""
    known = settings_of(STEPS[step.name])
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
