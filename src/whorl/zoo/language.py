"""Tiny language models of the zoo: folders in the layout of the Hugging Face hub.

``pretrain(llama(width=64), corpus, seed=0) -> tune(corpus(seed=1)) -> quantise(bits=4) -> rotate_residual(seed=3)``:
the first step draws a net and trains it on synthetic text; each further step is a derivative
(`whorl.zoo.derivatives`, `whorl.zoo.lessons`) or a disguise (`whorl.zoo.disguises`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from whorl.errors import UsageError
from whorl.oracles.base import Oracle
from whorl.settings import settings_of
from whorl.storage import digest_tensors
from whorl.zoo.causal import LanguageModel
from whorl.zoo.kinds import Kind
from whorl.zoo.lessons import CORPORA
from whorl.zoo.recipe import Recipe

if TYPE_CHECKING:
    from whorl.zoo.cache import Zoo

__all__ = ["Languages"]


class Languages(Kind):
    """A folder each: ``config.json`` and ``model.safetensors``, and ``recipe.json``, which is the card."""

    folder: ClassVar[str] = "language"
    cards: ClassVar[str] = "*/recipe.json"
    on_gpu: ClassVar[bool] = False  # they are too small to gain from one

    def suffix(self, recipe: Recipe) -> str:
        """None."""
        del recipe
        return ""

    def make(self, zoo: Zoo, recipe: Recipe) -> LanguageModel:
        """The model, as it was written."""
        step, catalog = recipe.steps[-1]
        target = catalog[step.name]
        known = settings_of(target)
        settings = {key: known[key].supplied(value) for key, value in step.kwargs}
        settings |= {key: _read(zoo, other) for key, other in recipe.others.items()}
        if recipe.parent is not None:
            settings["model"] = _read(zoo, recipe.parent)
            _check_text(settings["model"], settings)
        model = target(**settings)
        model.write(zoo.path(recipe))
        return model

    def examined(self, zoo: Zoo, recipe: Recipe, made: LanguageModel) -> dict[str, Any]:
        """The digest of its tensors."""
        del zoo, recipe
        return {"weights": digest_tensors(made.tensors)}

    def oracle(self, zoo: Zoo, recipe: Recipe, name: str) -> Oracle:
        """Refused: nothing here asks text."""
        del name
        raise UsageError(f"a language model is compared by its weights, not asked; they lie in {zoo.path(recipe)}")


def _read(zoo: Zoo, recipe: Recipe) -> LanguageModel:
    model = LanguageModel.read(zoo.path(recipe))
    zoo.check(recipe, digest_tensors(model.tensors))
    return model


def _check_text(model: LanguageModel, settings: Mapping[str, Any]) -> None:
    """Text of tokens or places that the model has no rows for would fail in the middle of training."""
    if "data" not in settings:
        return
    corpus = CORPORA.make(str(settings["data"]))
    limits = {"tokens": ("vocab_size", corpus.vocabulary), "places": ("n_positions", corpus.length)}
    for what, (word, needed) in limits.items():
        known = model.config.get(word)
        if isinstance(known, int) and needed > known:
            raise UsageError(f"a model of {known} {what} can't read text of {needed}: {settings['data']}")
