"""Models built from recipes, each kept once, with a card that says what it is.

Files are named by the digest of the recipe and the revision of the code that makes the model (`whorl.revisions`): what
older code made is not taken for what this code would make.
"""

from __future__ import annotations

import os
import shlex
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from pydantic import BaseModel, ValidationError

from whorl.engine.stages import Progress, Stages
from whorl.engine.workers import Workers
from whorl.errors import InvalidFile, UsageError
from whorl.expressions import CODE, parse, parse_chain
from whorl.nets import NETS
from whorl.oracles.base import Oracle
from whorl.revisions import changed_since, digest_of, revisions_of
from whorl.storage import one_line, read_json, write_json
from whorl.types import NullModel
from whorl.zoo.code import code_of_model, content_of_model
from whorl.zoo.kinds import KINDS, kind_of
from whorl.zoo.recipe import Recipe, parse_recipe

__all__ = ["DAMAGE", "UNKNOWN", "Card", "Zoo", "default_cache"]

UNKNOWN = "revision unknown"
DAMAGE = 0.05  # a thief who loses more accuracy than this has not kept the model; such copies are counted apart


class Card(BaseModel):
    """What is known of a model of the zoo.

    ``accuracy`` and ``agreement`` (the fidelity to `Recipe.victim`) are shares of the test part of the model's task;
    a language model has neither. For models with real outputs they are coefficients of determination
    (`determination`), of the numbers to predict or of the victim's outputs; a decoder is asked to rebuild the test
    pictures from the codes of the victim's encoder.
    ``agreement`` and ``victim_accuracy`` are None where the victim has other classes. ``damaged`` marks a removed model
    whose accuracy is more than 0.05 below its victim's. ``queries`` were asked of the victim by the last step, which
    took ``seconds``. A ``served`` model has no weights of its own: its last step treats questions or answers.
    ``revisions`` are those of the code that made it, as in `revisions_of`; None on cards that do not say. ``weights``
    is the SHA-256 of the model's tensors, or of its file where it has none; a model that has others is not opened.
    ``files`` is the digest of the files of its data, as in `content_of_model`. ``attack_success`` is what
    `whorl.zoo.trojaned.success_of` says of the test part; None where the recipe planted no trigger.
    """

    recipe: str
    digest: str
    parents: list[str]
    seed: int = 0
    part: str = ""
    data: str = ""
    accuracy: float | None = None
    attack_success: float | None = None
    agreement: float | None = None
    victim_accuracy: float | None = None
    damaged: bool = False
    seconds: float
    device: str = "cpu"
    queries: int = 0
    served: bool = False
    revisions: dict[str, str] | None = None
    weights: str = ""
    files: str = ""

    @property
    def older(self) -> str:
        """What changed since, in words; empty where this code and these files would make the same model."""
        try:
            recipe = parse_recipe(self.recipe, kind=None)
            files = "" if self.files == content_of_model(recipe) else "the files of its data"
            return changed_since(self.revisions, code_of_model(recipe)) or files
        except UsageError:  # a removal of a package that is not installed here, or code that nobody consented to
            return UNKNOWN


def default_cache() -> Path:
    """``$WHORL_CACHE``, else ``~/.cache/whorl``. Raises `UsageError` where neither is known."""
    if said := os.environ.get("WHORL_CACHE"):  # an empty one would be the folder that one stands in
        return Path(said)
    try:
        return Path.home() / ".cache" / "whorl"
    except RuntimeError:  # a user of a container who is in no list of users
        raise UsageError("no home folder is known for a cache; give --cache, or set WHORL_CACHE to a folder") from None


class Zoo:
    """A folder of models by recipe. Two processes may use it at once: files appear whole or not at all."""

    def __init__(self, folder: str | Path | None = None, *, device: str = "cpu") -> None:
        self.cache = Path(folder or default_cache()).absolute()
        self.device = device

    def path(self, recipe: Recipe) -> Path:
        """Where the model of a recipe lies once built: a file, or a folder in the layout of the hub."""
        kind = kind_of(recipe)
        return self.cache / kind.folder / f"{_stem(recipe)}{kind.suffix(recipe)}"

    def card_path(self, recipe: Recipe) -> Path:
        """Where its card lies; written last, so a card means that the model is whole."""
        kind = kind_of(recipe)
        return self.cache / kind.folder / kind.cards.replace("*", _stem(recipe))

    def __contains__(self, recipe: Recipe) -> bool:
        return self.card_path(recipe).is_file()

    def card(self, recipe: Recipe) -> Card:
        """The card of a built model."""
        if recipe not in self:
            raise UsageError(f"not in the zoo yet. Type: {_command(recipe)}")
        return _read_card(self.card_path(recipe))

    def accuracy(self, recipe: Recipe) -> float:
        """That of a built net or estimator, as its card has it."""
        accuracy = self.card(recipe).accuracy
        if accuracy is None:
            raise UsageError(f"{recipe} has no accuracy; give a recipe that begins with train")
        return accuracy

    def stranger(self, recipe: Recipe) -> NullModel:
        """What a null says of a built model: recipe, accuracy and group."""
        return NullModel(name=str(recipe), made=str(recipe), accuracy=self.accuracy(recipe), group=recipe.group)

    def cards(self) -> Iterator[Card]:
        """All cards, by recipe."""
        kinds = [KINDS[name]() for name in KINDS]
        found = [_read_card(path) for kind in kinds for path in (self.cache / kind.folder).glob(kind.cards)]
        yield from sorted(found, key=lambda card: card.recipe)

    def oracle(self, recipe: Recipe, *, name: str = "") -> Oracle:
        """A built model with all its access. Raises `UsageError` for a language model, which is read from its path."""
        return kind_of(recipe).oracle(self, recipe, name)

    def check(self, recipe: Recipe, digest: str) -> None:
        """Raise `InvalidFile` unless what was read has the digest that the card of a built model states."""
        # A cache may be shared: what lies under a recipe's name has to be what was made under it.
        if recipe in self and (stated := self.card(recipe).weights) and stated != digest:
            raise InvalidFile(
                f"{self.path(recipe)} holds other weights than its card states; build it anew: "
                f"{_command(recipe)} --fresh"
            )

    def missing(self, recipes: Iterable[Recipe]) -> dict[str, Recipe]:
        """Digest to recipe of what has to be built for these, ancestors included."""
        return _with_needs(recipes, lambda recipe: recipe not in self)

    def forget(self, recipes: Iterable[Recipe]) -> None:
        """Drop these models and their ancestors, so that the next build makes them afresh."""
        for recipe in recipes:
            self.card_path(recipe).unlink(missing_ok=True)  # first, since a card means that the model is whole
            path = self.path(recipe)
            if path.is_dir():
                shutil.rmtree(path)
            path.unlink(missing_ok=True)
            self.forget(recipe.needs)

    def build(
        self,
        recipes: Iterable[Recipe],
        *,
        workers: Workers = 0,
        fresh: bool = False,
        progress: Progress = lambda *_: None,
    ) -> list[Path]:
        """The paths of these models, in order. What is missing is built over cores or a cluster, ancestors first.

        A killed build goes on where it stopped; a ``fresh`` one forgets these models and their ancestors before.
        """
        listed = list(recipes)
        if fresh:
            self.forget(listed)
        everything, wanted = _with_needs(listed), self.missing(listed)
        there = Stages(self.cache, workers=workers, device=self.device, progress=progress)
        alone = Stages(self.cache)
        tasks = {
            digest: (there if kind_of(recipe).on_gpu else alone).task(
                _build_one,
                str(recipe),
                NETS.admitted,
                name=str(recipe),
                after=tuple(each.digest for each in recipe.needs),
            )
            for digest, recipe in wanted.items()
        }
        for _ in there.run("models", tasks, len(everything)):
            pass
        return [self.path(recipe) for recipe in listed]


def _with_needs(recipes: Iterable[Recipe], chosen: Callable[[Recipe], bool] = lambda _: True) -> dict[str, Recipe]:
    """Digest to recipe of those that are chosen, and of what these need and is chosen too."""
    found: dict[str, Recipe] = {}
    left = list(recipes)[::-1]
    while left:
        recipe = left.pop()
        if recipe.digest not in found and chosen(recipe):
            found[recipe.digest] = recipe
            left += recipe.needs
    return found


def _command(recipe: Recipe) -> str:
    """What builds a recipe, as it is typed in a shell."""
    code = CODE.fullmatch(parse(str(dict(recipe.chain.steps[0].kwargs)["architecture"])).name)
    return f"whorl zoo build {shlex.quote(str(recipe))}{' --trust-code' if code else ''}"


def _stem(recipe: Recipe) -> str:
    # Files of data count too: "./pictures" of another folder, or of another day, makes another model.
    return "-".join(filter(None, (recipe.digest, digest_of(code_of_model(recipe)), content_of_model(recipe))))


def _read_card(path: Path) -> Card:
    document = read_json(path)
    try:
        if isinstance(document, dict) and "digest" not in document:  # the first cards of language models
            recipe = Recipe(parse_chain(str(document.get("recipe", ""))))
            document |= {"digest": recipe.digest, "parents": [each.digest for each in recipe.ancestors]}
        return Card.model_validate(document)
    except ValidationError as error:
        place = ".".join(map(str, error.errors()[0]["loc"])) or "the whole"
    except UsageError as error:
        place = one_line(error)
    raise InvalidFile(f"{path} is not a sound card ({place}); delete it to build its model anew") from None


def _build_one(text: str, admitted: tuple[str, ...], folder: str, device: str) -> None:
    """Build one recipe whose needs are there (runs in a worker, which may run the code that its parent may)."""
    for name in admitted:
        NETS.admit(name)
    recipe = parse_recipe(text, kind=None)
    zoo, kind = Zoo(Path(folder), device=device), kind_of(recipe)
    started = time.perf_counter()
    made = kind.make(zoo, recipe)
    seconds = round(time.perf_counter() - started, 3)
    last = dict(recipe.chain.steps[-1].kwargs)
    card = Card.model_validate(
        {
            "recipe": str(recipe),
            "digest": recipe.digest,
            "parents": [each.digest for each in [*recipe.ancestors, *recipe.others.values()]],
            "seed": last.get("seed", 0),
            "part": last.get("part", ""),
            "data": recipe.data,
            "seconds": seconds,
            "device": zoo.device,
            "revisions": revisions_of(code_of_model(recipe)),
            "files": content_of_model(recipe),
            **kind.examined(zoo, recipe, made),
        }
    )
    write_json(zoo.card_path(recipe), card.model_dump())
