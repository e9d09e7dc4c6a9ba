"""Plain data that the rooms pass to each other. Nothing here asks a model or decides anything."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "Access",
    "Calibration",
    "Combination",
    "Decision",
    "Evidence",
    "Fingerprint",
    "Null",
    "Queries",
    "Representation",
    "Task",
    "Verdict",
]

Task = Literal["classification", "regression", "generation"]


class Access(IntEnum):
    """What may be asked of a model. Each level includes the ones below it."""

    LABELS = 1
    PROBABILITIES = 2
    LOGITS = 3
    FEATURES = 4
    GRADIENTS = 5
    WEIGHTS = 6


@dataclass(frozen=True)
class Queries:
    """The inputs that a fingerprint asks about.

    Shape:
        inputs: ``[n, c, h, w]`` float32 in [0, 1], or ``[n, m, c, h, w]`` where each of the n queries asks
        m inputs together (pairs, lines, masks).
        companions: each ``[n, ...]``, whatever else the sampler knows of a query (its seed, its target).
        shared: of any shape, what belongs to the set as a whole (a universal perturbation, the weights of a verifier
        that was trained with the queries).

    ``notes`` holds facts about the sampling as a whole (steps, convergence rate), as JSON values.
    """

    inputs: Tensor
    companions: Mapping[str, Tensor] = field(default_factory=dict[str, "Tensor"])
    notes: Mapping[str, Any] = field(default_factory=dict[str, Any])
    shared: Mapping[str, Tensor] = field(default_factory=dict[str, "Tensor"])

    def __len__(self) -> int:
        return int(self.inputs.shape[0])

    def __getitem__(self, index: Tensor | slice) -> Queries:
        """The chosen queries with their companions, and all that is shared."""
        companions = {name: values[index] for name, values in self.companions.items()}
        return Queries(self.inputs[index], companions, self.notes, self.shared)


@dataclass(frozen=True)
class Representation:
    """What an oracle's answers to the queries are turned into. Axis 0 counts queries where that has a sense."""

    values: Tensor

    def __len__(self) -> int:
        return int(self.values.shape[0])

    def __getitem__(self, index: Tensor | slice) -> Representation:
        """The representation of the chosen queries."""
        return Representation(self.values[index])


@dataclass(frozen=True)
class Evidence:
    """How alike a suspect is to a fingerprint. Larger is more alike, always.

    Shape:
        similarity: one float.
        per_query: ``[n]`` in [0, 1] with mean ``similarity``, or None where only the whole set has a meaning.
    """

    similarity: float
    per_query: Tensor | None = None


@dataclass(frozen=True)
class Null:
    """The similarities of independent models to one fingerprint.

    ``pool`` says in words who they are; ``siblings`` counts those that share a public ancestor with the victim.
    """

    pool: str
    names: tuple[str, ...]
    similarities: tuple[float, ...]
    siblings: int = 0

    def __len__(self) -> int:
        return len(self.similarities)


@dataclass(frozen=True)
class Calibration:
    """What is known about a fingerprint's error: its null, and the similarities of derived models by removal."""

    null: Null
    derived: Mapping[str, tuple[float, ...]] = field(default_factory=dict[str, tuple[float, ...]])


@dataclass(frozen=True)
class Fingerprint:
    """What a scheme extracted from a victim.

    ``scheme`` and ``data`` are expressions; ``victim`` is the digest of the victim's weights or of its address;
    ``classes`` counts the victim's outputs, which are classes where the task is classification.
    """

    scheme: str
    victim: str
    queries: Queries
    reference: Representation
    data: str = ""
    seed: int = 0
    classes: int = 0
    seconds: float = 0.0
    calibration: Calibration | None = None
    versions: Mapping[str, str] = field(default_factory=dict[str, str])
    task: Task = "classification"
    pool: tuple[str, ...] = ()
    """Digests of the shadow models it learned from, which may not be asked later."""

    @property
    def inputs_each(self) -> int:
        """Inputs that each query asks."""
        return int(self.queries.inputs.shape[1]) if self.queries.inputs.ndim == 5 else 1


Decision = Literal["derived", "unrelated", "inconclusive"]


@dataclass(frozen=True)
class Verdict:
    """The answer, its evidence, its error, and what the test could not have seen.

    ``p_value`` is valid at any stopping time; it can't be below ``p_value_floor``, which the size of the null sets.
    ``error_bound`` bounds the chance that an independent model, exchangeable with the null, is called derived.
    ``power`` gives per removal the share of calibration copies that the same test flags, with a 95 % interval.
    """

    decision: Decision
    similarity: float
    p_value: float
    p_value_floor: float
    alpha: float
    error_bound: float
    null: Mapping[str, Any]
    queries: Mapping[str, Any]
    power: Mapping[str, Mapping[str, float]]
    scheme: str
    fingerprint: str
    suspect: str
    caveats: tuple[str, ...] = ()


@dataclass(frozen=True)
class Combination:
    """The answer of several fingerprints of one victim, with one error rate for all of them together.

    ``p_value`` is that of the hypothesis that the suspect is independent, and ``adjusted`` holds one p-value for each
    verdict; all are corrected for the number of fingerprints. ``error_bound`` bounds the chance that any of them calls
    an independent model derived.
    """

    decision: Decision
    p_value: float
    alpha: float
    error_bound: float
    adjusted: tuple[float, ...]
    verdicts: tuple[Verdict, ...]
    caveats: tuple[str, ...] = ()
