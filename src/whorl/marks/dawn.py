"""DAWN: the answers that a service altered by a secret key are the mark of whoever learned from them.

Paper: Szyller et al., *DAWN: Dynamic Adversarial Watermarking of Neural Networks*, ACM Multimedia 2021, arXiv
1906.00830. The service itself, its key and what is drawn when: `whorl.oracles.dawn`. Nothing is embedded here: a thief
does it, by training on the answers. What the service's log holds is checked like any other mark: each label is one of
C - 1 other than the model's own.
Access: labels of the suspect.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, ClassVar, NoReturn

import torch
from torch import Tensor, nn

from whorl.data.base import Dataset
from whorl.errors import UsageError
from whorl.marks.base import TriggerMark
from whorl.marks.making import MOST_DRAWS
from whorl.oracles.base import Oracle
from whorl.oracles.dawn import Alterations
from whorl.oracles.opening import open_oracle
from whorl.types import Fingerprint, Mark, Queries

__all__ = ["DAWN", "service_mark"]

SERVES = "a service marks by its answers, and nothing is embedded: give the log of what it altered (--service-log LOG)"


@dataclass(frozen=True, kw_only=True)
class DAWN(TriggerMark):
    """Inputs that a service answered with another label than its model's own."""

    name: ClassVar[str] = "dawn"
    paper: ClassVar[str] = "Szyller et al., ACM Multimedia 2021, arXiv 1906.00830"
    idea: ClassVar[str] = "A service answers a few inputs otherwise, by a secret key: who copies it learns that."
    blind: ClassVar[str] = "thieves who asked little, or whose copies smooth single answers away; stolen weights"

    def sample(self, victim: Oracle, data: Dataset, *, budget: int, generator: torch.Generator) -> NoReturn:
        """Refuse: `UsageError`."""
        del victim, data, budget, generator
        raise UsageError(SERVES)

    def embed(
        self, net: nn.Module, data: Dataset, queries: Queries, drawn: Tensor, *, generator: torch.Generator
    ) -> NoReturn:
        """Refuse: `UsageError`."""
        del net, data, queries, drawn, generator
        raise UsageError(SERVES)


def service_mark(log: Alterations, model: Any, *, draws: int = 1, **options: Any) -> Fingerprint:
    """The fingerprint by which suspects are asked for what a service altered.

    Parameters:
        log: what the service altered (`whorl.oracles.dawn.read_alterations`).
        model: the one that it served.
        draws: how many keys the owner served with; p is multiplied by it.
        options: what the file does not say of the model (`whorl.oracles.opening.open_oracle`).

    Raises:
        UsageError: the log is of a model with other inputs or classes.
    """
    if not 1 <= draws <= MOST_DRAWS:
        raise UsageError(f"a service had one key to {MOST_DRAWS:,}; the number of draws given is {draws:,}")
    oracle = open_oracle(model, **options)
    if log.classes != oracle.classes or tuple(log.inputs.shape[1:]) != oracle.space.shape:
        raise UsageError(
            f"this log is of a service with {log.classes} classes and inputs {list(log.inputs.shape[1:])}; "
            f"{oracle.name} has {oracle.classes} and takes {oracle.space}"
        )
    # Offsets are uniform over the other classes, and so is the place of what was told among these.
    drawn = log.told - (log.told > log.labels).long()
    queries = Queries(log.inputs, {"avoid": log.labels})
    mark = DAWN()
    return Fingerprint(
        scheme=str(mark),
        victim=oracle.digest,
        queries=queries,
        reference=mark.reference(queries, drawn),
        space=oracle.space,
        classes=oracle.classes,
        versions={package: version(package) for package in ("whorl", "torch", "numpy")},
        task=oracle.task,
        nonce=secrets.token_bytes(16).hex(),
        mark=Mark("labels", log.inputs[:0], drawn, {"draws": draws}),
    )
