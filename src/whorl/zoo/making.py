"""Nets and estimators of the zoo: how a recipe makes one, how it is kept and opened, and what its card says of it."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from whorl.nets import ESTIMATORS, NETS
from whorl.nets.base import Decoder
from whorl.nets.files import read_model, write_model
from whorl.nets.training import determination, dimensions, task_of
from whorl.oracles.base import Oracle
from whorl.oracles.torch import TorchOracle
from whorl.oracles.wrappers import digests_of
from whorl.removals import REMOVALS
from whorl.storage import digest_file, digest_tensors, replacing
from whorl.zoo.cache import DAMAGE, Zoo
from whorl.zoo.kinds import Kind
from whorl.zoo.pretrained import Pretrained, load_pretrained
from whorl.zoo.recipe import Recipe, Train, split_step
from whorl.zoo.steps import OWNED
from whorl.zoo.training import train_net, training_data
from whorl.zoo.trojaned import success_of

__all__ = ["Nets"]


class Nets(Kind):
    """Nets as safetensors, estimators as skops; what treats answers has a card alone."""

    folder: ClassVar[str] = "zoo"
    cards: ClassVar[str] = "*.json"

    def suffix(self, recipe: Recipe) -> str:
        """The format of a net or an estimator."""
        return ".skops" if recipe.is_estimator else ".safetensors"

    def make(self, zoo: Zoo, recipe: Recipe) -> tuple[Oracle | None, int]:
        """The model, if it is served, and the queries that the last step asked of its victim."""
        if recipe.is_estimator:
            _fit_estimator(zoo, recipe)
        elif recipe.parent is None:
            _write_net(zoo, recipe, _begun(recipe, zoo.device), recipe.first.architecture)
        else:
            outcome, queries = _attacked(zoo, recipe)
            if isinstance(outcome, Oracle):
                return outcome, queries
            _write_net(zoo, recipe, outcome, _architecture(zoo, recipe))
            return None, queries
        return None, 0

    def examined(self, zoo: Zoo, recipe: Recipe, made: tuple[Oracle | None, int]) -> dict[str, Any]:
        """What the model answers on the test part, and where it has a victim, how alike that answers."""
        served, queries = made
        inputs, wanted = _examination(zoo, recipe)
        model = served or _opened(zoo, recipe, str(recipe))
        answers = _answers(model, inputs)
        accuracy = _alike(answers, wanted)
        agreement: float | None = 1.0
        victim_accuracy: float | None = accuracy
        if recipe.parent is not None:
            victim = zoo.oracle(recipe.victim)
            same = _same_answers(recipe, victim)
            expected = _answers(victim, inputs) if same else answers
            agreement, victim_accuracy = (_alike(answers, expected), _alike(expected, wanted)) if same else (None, None)
        return {
            "accuracy": accuracy,
            "attack_success": success_of(zoo, recipe, model),
            "agreement": agreement,
            "victim_accuracy": victim_accuracy,
            "damaged": victim_accuracy is not None and accuracy < victim_accuracy - DAMAGE,
            "queries": queries,
            "served": served is not None,
            "weights": "" if served else _weights(zoo, recipe, model),
        }

    def oracle(self, zoo: Zoo, recipe: Recipe, name: str) -> Oracle:
        """The model, opened from its file; a served one by treating its parent again."""
        if zoo.card(recipe).served:
            outcome, _ = _attacked(zoo, recipe)
            assert isinstance(outcome, Oracle)
            return outcome
        return _opened(zoo, recipe, name or str(recipe))


def _opened(zoo: Zoo, recipe: Recipe, name: str) -> Oracle:
    if recipe.is_estimator:
        from whorl.oracles.sklearn import SklearnOracle
        from whorl.oracles.skops import read_skops

        data = recipe.source.load("test")
        estimator = read_skops(zoo.path(recipe))
        shape, classes = data.input_shape, len(data.classes)
        zoo.check(recipe, digest_file(zoo.path(recipe)))
        return SklearnOracle(estimator, input_shape=shape, classes=classes, name=name, digest=recipe.digest)
    net, header = read_model(zoo.path(recipe))
    zoo.check(recipe, digest_tensors(net.state_dict()))
    shape, classes = header.input_shape, header.classes
    net.to(zoo.device)
    task = task_of(header.architecture)
    return TorchOracle(net, input_shape=shape, classes=classes, name=name, digest=recipe.digest, task=task)


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
