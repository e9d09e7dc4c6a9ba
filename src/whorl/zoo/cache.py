"""Models built from recipes, each kept once, with a card that says what it is.

Files are named by the digest of the recipe and the revision of the code that makes the model (`whorl.revisions`): what
older code made is not taken for what this code would make.
"""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ValidationError
from torch import Tensor, nn

from whorl.engine.tasks import Task, gpus_of
from whorl.engine.workers import Workers, run_tasks
from whorl.errors import InvalidFile, UsageError
from whorl.expressions import CODE, parse
from whorl.nets import ESTIMATORS, NETS
from whorl.nets.base import Decoder
from whorl.nets.files import read_model, write_model
from whorl.nets.training import determination, dimensions, task_of
from whorl.oracles.base import Oracle
from whorl.oracles.torch import TorchOracle
from whorl.oracles.wrappers import digests_of
from whorl.removals import REMOVALS
from whorl.revisions import changed_since, digest_of, revisions_of
from whorl.storage import digest_file, digest_tensors, read_json, replacing, write_json
from whorl.types import NullModel
from whorl.zoo.code import code_of_model, content_of_model
from whorl.zoo.pretrained import Pretrained, load_pretrained
from whorl.zoo.recipe import OWNED, Recipe, Train, parse_recipe, split_step
from whorl.zoo.training import train_net, training_data
from whorl.zoo.trojaned import success_of

__all__ = ["UNKNOWN", "Card", "Zoo", "default_cache"]

UNKNOWN = "revision unknown"
DAMAGE = 0.05  # a thief who loses more accuracy than this has not kept the model; such copies are counted apart


class Card(BaseModel):
    """What is known of a model of the zoo.

    ``accuracy`` and ``agreement`` (the fidelity to `Recipe.victim`) are shares of the test part of the model's task.
    For models with real outputs they are coefficients of determination (`determination`), of the numbers to predict or
    of the victim's outputs; a decoder is asked to rebuild the test pictures from the codes of the victim's encoder.
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
    seed: int
    part: str
    data: str
    accuracy: float
    attack_success: float | None = None
    agreement: float | None
    victim_accuracy: float | None
    damaged: bool
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
            recipe = parse_recipe(self.recipe)
            files = "" if self.files == content_of_model(recipe) else "the files of its data"
            return changed_since(self.revisions, code_of_model(recipe)) or files
        except UsageError:  # a removal of a package that is not installed here, or code that nobody consented to
            return UNKNOWN


def default_cache() -> Path:
    """``$WHORL_CACHE``, else ``~/.cache/whorl``."""
    return Path(os.environ.get("WHORL_CACHE", Path.home() / ".cache" / "whorl"))


class Zoo:
    """A folder of models by recipe. Two processes may use it at once: files appear whole or not at all."""

    def __init__(self, folder: Path | None = None, *, device: str = "cpu") -> None:
        self.folder = (folder or default_cache()).absolute() / "zoo"
        self.device = device

    def path(self, recipe: Recipe) -> Path:
        """Where the model of a recipe lies once built."""
        return self.folder / f"{_stem(recipe)}{'.skops' if recipe.is_estimator else '.safetensors'}"

    def card_path(self, recipe: Recipe) -> Path:
        """Where its card lies; written last, so a card means that the model is whole."""
        return self.folder / f"{_stem(recipe)}.json"

    def __contains__(self, recipe: Recipe) -> bool:
        return self.card_path(recipe).is_file()

    def card(self, recipe: Recipe) -> Card:
        """The card of a built model."""
        if recipe not in self:
            raise UsageError(f"not in the zoo yet. Type: {_command(recipe)}")
        return _read_card(self.card_path(recipe))

    def stranger(self, recipe: Recipe) -> NullModel:
        """What a null says of a built model: recipe, accuracy and group."""
        return NullModel(name=str(recipe), made=str(recipe), accuracy=self.card(recipe).accuracy, group=recipe.group)

    def cards(self) -> Iterator[Card]:
        """All cards, by recipe."""
        found = [_read_card(path) for path in self.folder.glob("*.json")]
        yield from sorted(found, key=lambda card: card.recipe)

    def oracle(self, recipe: Recipe, *, name: str = "") -> Oracle:
        """A built model with all its access."""
        if self.card(recipe).served:
            outcome, _ = _attacked(self, recipe)
            assert isinstance(outcome, Oracle)
            return outcome
        return self._open(recipe, name or str(recipe))

    def _open(self, recipe: Recipe, name: str) -> Oracle:
        if recipe.is_estimator:
            from whorl.oracles.sklearn import SklearnOracle, read_skops

            data = recipe.source.load("test")
            estimator = read_skops(self.path(recipe))
            shape, classes = data.input_shape, len(data.classes)
            self._check(recipe, digest_file(self.path(recipe)))
            return SklearnOracle(estimator, input_shape=shape, classes=classes, name=name, digest=recipe.digest)
        net, header = read_model(self.path(recipe))
        self._check(recipe, digest_tensors(net.state_dict()))
        shape, classes = header.input_shape, header.classes
        net.to(self.device)
        task = task_of(header.architecture)
        return TorchOracle(net, input_shape=shape, classes=classes, name=name, digest=recipe.digest, task=task)

    def _check(self, recipe: Recipe, digest: str) -> None:
        # A cache may be shared: what lies under a recipe's name has to be what was made under it.
        if recipe in self and (stated := self.card(recipe).weights) and stated != digest:
            raise InvalidFile(
                f"{self.path(recipe)} holds other weights than its card states; build it anew: "
                f"{_command(recipe)} --fresh"
            )

    def missing(self, recipes: Iterable[Recipe]) -> dict[str, Recipe]:
        """Digest to recipe of what has to be built for these, ancestors included."""
        wanted: dict[str, Recipe] = {}
        for recipe in recipes:
            step: Recipe | None = recipe
            while step is not None and step not in self:
                wanted[step.digest] = step
                step = step.parent
        return wanted

    def forget(self, recipes: Iterable[Recipe]) -> None:
        """Drop these models and their ancestors, so that the next build makes them afresh."""
        for recipe in recipes:
            step: Recipe | None = recipe
            while step is not None:
                self.card_path(step).unlink(missing_ok=True)  # first, since a card means that the model is whole
                self.path(step).unlink(missing_ok=True)
                step = step.parent

    def build(
        self, recipes: Iterable[Recipe], *, workers: Workers = 0, progress: Callable[[Recipe], None] = lambda _: None
    ) -> None:
        """Build what is missing, ancestors first, over cores or a cluster. A killed build goes on where it stopped."""
        wanted = self.missing(recipes)
        tasks = {
            digest: Task(
                _build_one,
                (str(recipe), str(self.folder.parent), self.device, NETS.admitted),
                (recipe.parent.digest,) if recipe.parent else (),
                name=str(recipe),
                gpus=gpus_of(self.device),
            )
            for digest, recipe in wanted.items()
        }
        for digest, _ in run_tasks(tasks, workers=workers, folder=self.folder.parent):
            progress(wanted[str(digest)])


def _command(recipe: Recipe) -> str:
    """What builds a recipe, as it is typed in a shell."""
    consent = " --trust-code" if CODE.fullmatch(parse(recipe.first.architecture).name) else ""
    return f"whorl zoo build {shlex.quote(str(recipe))}{consent}"


def _stem(recipe: Recipe) -> str:
    # Files of data count too: "./pictures" of another folder, or of another day, makes another model.
    return "-".join(filter(None, (recipe.digest, digest_of(code_of_model(recipe)), content_of_model(recipe))))


def _read_card(path: Path) -> Card:
    try:
        return Card.model_validate(read_json(path))
    except ValidationError as error:
        place = ".".join(map(str, error.errors()[0]["loc"])) or "the whole"
        raise InvalidFile(f"{path} is not a sound card ({place}); delete it to build its model anew") from None


def _build_one(text: str, folder: str, device: str, admitted: tuple[str, ...] = ()) -> None:
    """Build one recipe whose parent is there (runs in a worker, which may run the code that its parent may)."""
    for name in admitted:
        NETS.admit(name)
    zoo, recipe = Zoo(Path(folder), device=device), parse_recipe(text)
    started = time.perf_counter()
    outcome: nn.Module | Oracle | None = None
    queries = 0
    if recipe.is_estimator:
        _fit_estimator(zoo, recipe)
    elif recipe.parent:
        outcome, queries = _attacked(zoo, recipe)
        if isinstance(outcome, nn.Module):
            _write_net(zoo, recipe, outcome, _architecture(zoo, recipe))
    else:
        _write_net(zoo, recipe, _begun(recipe, device), recipe.first.architecture)
    served = outcome if isinstance(outcome, Oracle) else None
    _write_card(zoo, recipe, served, queries=queries, seconds=time.perf_counter() - started)


def _write_net(zoo: Zoo, recipe: Recipe, net: nn.Module, architecture: str) -> None:
    shape, _ = dimensions(recipe.first.architecture, recipe.source.load("test"))
    write_model(net.to("cpu"), zoo.path(recipe), architecture=architecture, input_shape=shape)


def _begun(recipe: Recipe, device: str) -> nn.Module:
    """The model of a recipe of one step."""
    if isinstance(recipe.first, Pretrained):
        return load_pretrained(recipe.first, recipe.source.load("test"))
    return train_net(recipe, device)


def _attacked(zoo: Zoo, recipe: Recipe) -> tuple[nn.Module | Oracle, int]:
    """What the last step makes of its victim, and the queries that it asked."""
    assert recipe.parent is not None
    step, part, seed = split_step(recipe.chain.steps[-1])
    victim, generator = zoo.oracle(recipe.parent), torch.Generator().manual_seed(seed)
    if step.name in OWNED:
        return OWNED.make(step).apply(victim, recipe.source.load(part), seed=seed), 0
    outcome = REMOVALS.make(step)(victim, recipe.source.load(part), generator=generator)
    return outcome, victim.queries_spent


def _architecture(zoo: Zoo, recipe: Recipe) -> str:
    """The architecture of what the last step makes."""
    assert recipe.parent is not None
    step, _, _ = split_step(recipe.chain.steps[-1])
    if step.name in OWNED:
        return _architecture_of(zoo, recipe.parent)
    return str(NETS.bind(REMOVALS.make(step).outcome(_architecture_of(zoo, recipe.parent))))


def _architecture_of(zoo: Zoo, recipe: Recipe) -> str:
    while recipe.parent is not None and zoo.card(recipe).served:
        recipe = recipe.parent
    return read_model(zoo.path(recipe))[1].architecture


def _fit_estimator(zoo: Zoo, recipe: Recipe) -> None:
    from skops.io import dump

    train = recipe.first
    assert isinstance(train, Train)
    data = training_data(recipe)
    estimator = ESTIMATORS.make(train.architecture, seed=train.seed % 2**32)
    estimator.fit(data.inputs().flatten(1).numpy(), data.labels.numpy())
    with replacing(zoo.path(recipe)) as path:
        dump(estimator, path)


def _write_card(zoo: Zoo, recipe: Recipe, served: Oracle | None, *, queries: int, seconds: float) -> None:
    inputs, wanted = _examination(zoo, recipe)
    model = served or zoo._open(recipe, str(recipe))
    answers = _answers(model, inputs)
    accuracy = _alike(answers, wanted)
    agreement: float | None = 1.0
    victim_accuracy: float | None = accuracy
    if recipe.parent is not None:
        victim = zoo.oracle(recipe.victim)
        same = _same_answers(recipe, victim)
        expected = _answers(victim, inputs) if same else answers
        agreement, victim_accuracy = (_alike(answers, expected), _alike(expected, wanted)) if same else (None, None)
    last = dict(recipe.chain.steps[-1].kwargs)
    card = Card(
        recipe=str(recipe),
        digest=recipe.digest,
        parents=[each.digest for each in recipe.ancestors],
        seed=int(_whole(last.get("seed", 0))),
        part=str(last.get("part", "")),
        data=recipe.data,
        accuracy=accuracy,
        attack_success=success_of(zoo, recipe, model),
        agreement=agreement,
        victim_accuracy=victim_accuracy,
        damaged=victim_accuracy is not None and accuracy < victim_accuracy - DAMAGE,
        seconds=round(seconds, 3),
        device=zoo.device,
        queries=queries,
        served=served is not None,
        revisions=revisions_of(code_of_model(recipe)),
        weights="" if served else _weights(zoo, recipe, model),
        files=content_of_model(recipe),
    )
    write_json(zoo.card_path(recipe), card.model_dump())


def _weights(zoo: Zoo, recipe: Recipe, model: Oracle) -> str:
    return digests_of(model)[0] if isinstance(model, TorchOracle) else digest_file(zoo.path(recipe))


def _same_answers(recipe: Recipe, victim: Oracle) -> bool:
    """Whether the victim's answers can be held against the model's: it has the same classes, or real outputs."""
    if victim.task != "classification" or recipe.data == recipe.victim.data:
        return True
    return recipe.source.load("test").classes == recipe.victim.source.load("test").classes


def _examination(zoo: Zoo, recipe: Recipe) -> tuple[Tensor, Tensor]:
    """What models are asked of the test part, and the right answers."""
    test = recipe.source.load("test")
    if recipe.is_estimator or task_of(recipe.first.architecture) != "generation":
        return test.inputs(), test.labels
    victim, _ = read_model(zoo.path(recipe.victim))
    assert isinstance(victim, Decoder)
    with torch.inference_mode():
        return victim.encode(test.inputs()), test.inputs().flatten(1)


def _answers(oracle: Oracle, inputs: Tensor) -> Tensor:
    return oracle.labels(inputs) if oracle.task == "classification" else oracle.scores(inputs)


def _alike(answers: Tensor, wanted: Tensor) -> float:
    """Share of equal labels ``[n]``, or the determination of real outputs ``[n, k]``."""
    if answers.is_floating_point():
        return determination(answers, wanted)
    return float((answers == wanted).float().mean())


def _whole(value: Any) -> int:
    if not isinstance(value, int):
        raise UsageError(f"a seed is a whole number, not {value!r}")
    return value
