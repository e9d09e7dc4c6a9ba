"""What every statistic that looks for pictures with a trigger shares. It judges pictures, and no net.

A sieve looks at a net together with pictures that may carry a trigger, as those that it was trained on, and gives each
picture a number that says how much it looks like one of them. Which numbers name a picture is the sieve's own rule:
where it states an error rate, `Sifted.rate` has it, and where not, the rule of its paper is all there is.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor

from whorl.data.base import Dataset
from whorl.errors import AccessRefused, UsageError
from whorl.oracles.base import Oracle, require
from whorl.oracles.torch import TorchOracle
from whorl.settings import Checked
from whorl.types import Access

__all__ = ["Found", "Sieve", "Sifted"]

SHOWS_NO_NET = (
    "this names pictures and judges no net: that none is named does not show that there are none, and a picture may be "
    "named for being rare"
)


@dataclass(frozen=True, eq=False)
class Found:
    """What a sieve finds.

    Shape:
        values: ``[n]`` float64, finite; larger looks more like a picture with a trigger.
        named: ``[n]`` bool.
        classes: ``[classes]`` float64, a number for the pictures of each class that says how much they fall apart;
            None where the sieve looks at pictures one by one.
    """

    values: Tensor
    named: Tensor
    classes: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Sifted:
    """Which pictures look as if they carried a trigger.

    ``named`` are positions in the data, sorted, and ``values`` the number of every picture. ``counts`` has for each
    class how many pictures of it were named and how many there are: by label, or by what the net answers where
    ``by`` is ``answers``. ``rate`` is the share of clean pictures that would be named, None where the rule states none.
    """

    statistic: str
    named: tuple[int, ...]
    values: tuple[float, ...]
    by: str
    counts: tuple[tuple[int, int], ...]
    classes: tuple[float, ...] | None
    rate: float | None
    digest: str
    queries_spent: int
    seconds: float
    caveats: tuple[str, ...]


class Sieve(Checked, ABC):
    """One sieve. Subclasses are frozen dataclasses whose fields are its settings.

    An author writes ``find``; calling the sieve checks access and pictures, counts, draws from the seed and times.
    """

    name: ClassVar[str]
    paper: ClassVar[str]
    idea: ClassVar[str]
    blind: ClassVar[str]
    """What it is known, or was measured, not to find."""
    needs: ClassVar[Access]
    clean: ClassVar[int]
    """How many clean pictures it needs beside those that are sifted; none where 0."""
    always: ClassVar[bool] = False
    """Whether its rule names pictures of every class, however clean they are."""

    @property
    def rate(self) -> float | None:
        """Share of clean pictures that the rule names; None where it states none."""
        return None

    @abstractmethod
    def find(self, net: TorchOracle, data: Dataset, clean: Dataset | None, *, generator: torch.Generator) -> Found:
        """A number for each picture. ``clean`` are clean ones where it needs some; the net stays untouched."""

    @final
    def __call__(self, net: Oracle, data: Dataset, clean: Dataset | None = None, *, seed: int = 0) -> Sifted:
        """Sift pictures; the same seed gives the same numbers for the same net on the same machine.

        Parameters:
            data: the pictures, with the labels that the net was trained on.
            clean: pictures that are known to be clean and that it was not trained on, where the sieve needs some.

        Raises:
            AccessRefused: the net grants too little, or is no PyTorch net.
            UsageError: no classifier, other pictures than it takes, too few clean ones, or some that no sieve looks at.
        """
        net = self.check(net, data, clean)
        generator = torch.Generator().manual_seed(seed)
        started, before = time.perf_counter(), net.queries_spent
        found = self.find(net, data, clean, generator=generator)
        caveats = [SHOWS_NO_NET]
        if self.rate is None:
            caveats.append(f"{self.name} has no error rate: what it names is the rule of its paper")
        if self.always:
            caveats.append(f"{self.name} names its share of every class, of clean ones too")
        labels = net.labels(data.inputs()).cpu() if self.clean else data.labels
        counts = [
            (int((found.named & (labels == each)).sum()), int((labels == each).sum())) for each in range(net.classes)
        ]
        return Sifted(
            statistic=self.name,
            named=tuple(found.named.nonzero().flatten().tolist()),
            values=tuple(found.values.double().tolist()),
            by="answers" if self.clean else "labels",
            counts=tuple(counts),
            classes=None if found.classes is None else tuple(found.classes.double().tolist()),
            rate=self.rate,
            digest=net.digest,
            queries_spent=net.queries_spent - before,
            seconds=time.perf_counter() - started,
            caveats=tuple(caveats),
        )

    @final
    def check(self, net: Oracle, data: Dataset, clean: Dataset | None) -> TorchOracle:
        """The net, if it can be looked at with these pictures; raises as the call does, and asks nothing."""
        require(net, self.needs, f"the sieve {self.name}")
        if not isinstance(net, TorchOracle):
            raise AccessRefused(f"{self.name} reads PyTorch nets; {net.name} is {type(net).__name__}: give its weights")
        if net.task != "classification" or net.classes < 2:
            raise UsageError(
                f"a trigger changes the class that is answered, and that takes a classifier; {net.name} does "
                f"{net.task} with {net.classes} outputs"
            )
        if clean is not None and not self.clean:
            raise UsageError(f"{self.name} looks at no clean pictures: leave them out")
        if self.clean and (clean is None or len(clean) < self.clean):
            raise UsageError(
                f"{self.name} needs {self.clean} clean pictures that the net was not trained on; these are "
                f"{0 if clean is None else len(clean)}: give them by --clean, or clean= in Python"
            )
        for pictures in (data, clean):
            if pictures is not None:
                pictures.check_task(net.name, net.space, net.classes)
        return net
