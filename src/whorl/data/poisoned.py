"""A data set some of whose training pictures carry a trigger, so that a net trained on it is trojaned.

Attacks, by the name of BackdoorBench's or the paper's own:

- ``badnets``: a chequered patch in the lower right corner (Gu, Dolan-Gavitt, Garg, *BadNets*, arXiv 1708.06733, 2017).
- ``blended``: a pattern of noise over the whole picture (Chen et al., arXiv 1712.05526, 2017).
- ``warped``: a smooth displacement (Nguyen and Tran, *WaNet*, ICLR 2021, arXiv 2102.10369). Its paper also shows
  the net pictures that are bent otherwise and keep their labels; ``cover`` says how many of them for each poisoned one.
- ``clean_label``: pictures of the target class alone carry the patch and no label is changed (Turner, Tsipras, Madry,
  *Label-Consistent Backdoor Attacks*, arXiv 1912.02771, 2019). So that the patch is easier to learn than what they
  show, the paper moves them towards another class in the latent space of a generative net; there is none here, so they
  are mixed with pictures of other classes, ``opacity`` of these.

A rate of .1 with the target 0 is BackdoorBench's default. The other strengths are ours, for small pictures.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Ge
from torch import Tensor

from whorl.data.base import Dataset, Source, nested
from whorl.data.triggers import Overlay, Trigger, Warp, bent, blend, chequered, corner, moved
from whorl.errors import UsageError
from whorl.expressions import Call, Value, parse
from whorl.settings import NonNegative, Positive, Seed, Share, SourceName, Whole
from whorl.spaces import Pictures
from whorl.types import Task

__all__ = ["Poisoned", "Poisoning", "poisoned_in", "stamped"]

Attack = Literal["badnets", "blended", "warped", "clean_label"]


@dataclass(frozen=True, eq=False)
class Poisoning:
    """What was done to the part ``victim``.

    Shape:
        places: ``[m]`` int64 positions of the pictures that carry the trigger, sorted.
        labels: ``[m]`` int64, those that they had before.
        cover: ``[k]`` int64 positions of the pictures that are bent otherwise and keep their labels.
    """

    places: Tensor
    labels: Tensor
    cover: Tensor
    trigger: Trigger


@dataclass(frozen=True)
class Poisoned(Source):
    """``data`` whose part ``victim`` was poisoned; the other parts are as they were.

    Parameters:
        attack: as above.
        rate: share of the part that gets the trigger; of its pictures of the target class for ``clean_label``.
        target: the class that the net is to answer. A picture that has it already counts as poisoned all the same.
        patch: side of the patch, in pixels (``badnets``, ``clean_label``).
        opacity: weight of the pattern (``blended``) or of the other picture (``clean_label``), in (0, 1].
        bend: mean displacement along each axis, in pixels (``warped``).
        cover: pictures bent otherwise, for each poisoned one (``warped``).
        seed: draws pattern, field and pictures.

    Raises:
        UsageError: data that are no labelled pictures, too small for the patch, without the class ``target``, or of
            which the rate leaves none to poison.
    """

    task: ClassVar[Task | None] = "classification"

    data: SourceName
    attack: Attack = "badnets"
    rate: Share = 0.1
    target: Whole = 0
    patch: Annotated[int, Ge(2)] = 3
    opacity: Share = 0.2
    bend: Positive = 1.0
    cover: NonNegative = 0.0
    seed: Seed = 0

    @property
    def trigger(self) -> Trigger:
        """What pictures carry."""
        return self._trigger(nested(self.data).load("queries"))

    @property
    def poisoning(self) -> Poisoning:
        """Which pictures of the part ``victim`` carry it, and what their labels were."""
        data = nested(self.data).load("victim")
        trigger, generator = self._trigger(data), self._generator(1)
        order = torch.randperm(len(data), generator=generator)
        mine = order[data.labels[order] == self.target] if self.attack == "clean_label" else order
        count = round(self.rate * len(mine))
        bent = min(round(self.cover * count), len(order) - count) if self.attack == "warped" else 0
        if not count:
            raise UsageError(f"a rate of {self.rate} of {len(mine)} pictures poisons none; give a larger rate")
        places = mine[:count].sort().values
        return Poisoning(places, data.labels[places], order[count : count + bent].sort().values, trigger)

    def _load(self, part: str) -> Dataset:
        data, name = nested(self.data).load(part), str(self._call("poisoned"))
        if part != "victim":
            self._trigger(data)  # or its faults would show in one part alone
            return replace(data, expression=name)
        done = self.poisoning
        images, labels = data.images.clone(), data.labels.clone()
        images[done.places] = _like(images, done.trigger.stamp(self._ready(data, done)))
        if len(done.cover):
            images[done.cover] = _like(images, self._bent_otherwise(data.inputs(done.cover)))
        labels[done.places] = self.target
        return replace(data, images=images, labels=labels, expression=name)

    def _trigger(self, data: Dataset) -> Trigger:
        if not isinstance(data.space, Pictures) or data.labels.ndim != 1:
            raise UsageError(f"triggers go onto pictures with classes; {self.data} holds others")
        if self.target >= len(data.classes):
            raise UsageError(f"{self.data} has the classes 0..{len(data.classes) - 1}; the target is {self.target}")
        shape = data.input_shape
        if self.attack == "blended":
            return blend(self.target, shape, self.opacity, self._generator(0))
        if self.attack == "warped":
            return bent(self.target, shape[1:], self.bend, self._generator(0))
        return patch_of(self.target, shape, self.patch)

    def _ready(self, data: Dataset, done: Poisoning) -> Tensor:
        """The pictures that get the trigger; for ``clean_label`` mixed with others, which hides what they show."""
        inputs = data.inputs(done.places)
        if self.attack != "clean_label":
            return inputs
        others = (data.labels != self.target).nonzero().flatten()
        if not len(others):
            raise UsageError(f"{self.data} has no class beside the target {self.target} to mix its pictures with")
        drawn = others[torch.randint(len(others), (len(inputs),), generator=self._generator(2))]
        return torch.lerp(inputs, data.inputs(drawn), self.opacity)

    def _bent_otherwise(self, inputs: Tensor) -> Tensor:
        """Each picture bent by the field of the trigger plus noise of the same size, as in WaNet's noise mode."""
        field, generator = self.trigger, self._generator(3)
        assert isinstance(field, Warp)
        noise = torch.rand(len(inputs), *field.moves.shape, generator=generator) * 2 - 1
        return moved(inputs, field.moves + 2 * self.bend * noise)

    def _generator(self, stream: int) -> torch.Generator:
        return torch.Generator().manual_seed(7_000_003 + 4 * self.seed + stream)


def patch_of(target: int, shape: tuple[int, int, int], size: int) -> Overlay:
    """A chequered patch of ``size`` pixels in the lower right corner of pictures ``(c, h, w)``, as a trigger."""
    mask = torch.zeros(shape[1:])
    mask[corner(shape[1:], size)] = 1
    return Overlay(target, mask, chequered(torch.zeros(1, *shape), size)[0])


def stamped(source: str | Call | Poisoned, inputs: Tensor) -> Tensor:
    """Pictures ``[n, c, h, w]`` in [0, 1] with the trigger of ``source``, as in ``poisoned(digits(size=8))``.

    Raises:
        UsageError: a source that holds no poisoned one, or pictures of another size.
    """
    found = source if isinstance(source, Poisoned) else poisoned_in(source)
    if found is None:
        raise UsageError(f"{source} carries no trigger; give a source such as 'poisoned({source})'")
    return found.trigger.stamp(inputs)


def poisoned_in(expression: str | Call) -> Poisoned | None:
    """The poisoned source that an expression is, or is made from with its classes as they are; None where none is."""
    from whorl.data import SOURCES

    whole = SOURCES.make(expression)
    for call in _calls(parse(expression) if isinstance(expression, str) else expression):
        if call.name == "poisoned":
            found = SOURCES.make(call)
            assert isinstance(found, Poisoned)
            # Where classes were chosen, the target has another number, or none.
            same = found == whole or found.load("queries").classes == whole.load("queries").classes
            return found if same else None
    return None


def _calls(value: Value) -> Iterator[Call]:
    """The sources that an expression names, from the outside in; some are given as text."""
    from whorl.data import SOURCES

    if isinstance(value, str):
        try:
            value = parse(value)
        except UsageError:  # a word of another kind
            return
    if isinstance(value, Call) and value.name in SOURCES:
        yield value
        for inner in (*value.args, *(inner for _, inner in value.kwargs)):
            yield from _calls(inner)


def _like(images: Tensor, inputs: Tensor) -> Tensor:
    """Inputs in [0, 1] as the data set keeps them."""
    return inputs if images.is_floating_point() else (inputs * 255).round().to(images.dtype)
