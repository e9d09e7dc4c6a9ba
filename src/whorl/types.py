"""Plain data that the rooms pass to each other. Nothing here asks a model or decides anything."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Literal

from whorl.grades import Grade, Origin

if TYPE_CHECKING:
    from torch import Tensor

    from whorl.spaces import InputSpace

__all__ = [
    "Access",
    "Asked",
    "Calibration",
    "Candidates",
    "Combination",
    "Decision",
    "Evidence",
    "Fingerprint",
    "Grade",
    "Grants",
    "Look",
    "Mark",
    "Measured",
    "Null",
    "NullModel",
    "Origin",
    "Probes",
    "Queries",
    "Representation",
    "Rule",
    "Task",
    "Verdict",
    "grants",
    "told",
]

Task = Literal["classification", "regression", "generation"]
Asked = Literal["single pictures", "pairs", "masks"]
"""What one query asks."""


class Access(IntEnum):
    """What may be asked: LABELS < PROBABILITIES < LOGITS < FEATURES < GRADIENTS < WEIGHTS, each with those below."""

    LABELS = 1
    PROBABILITIES = 2
    LOGITS = 3
    FEATURES = 4
    GRADIENTS = 5
    WEIGHTS = 6


Grants = frozenset[str]
"""What may be asked of a model, by name: levels of the ladder in lower case, and what no ladder holds (``tokens``)."""


def grants(*given: Access | str | Grants) -> Grants:
    """The union of levels, each with those below it, and of single grants, each for itself alone.

    ``grants(Access.LOGITS)`` holds labels, probabilities and logits; ``grants("labels", "features")`` those two.
    """
    found: set[str] = set()
    for each in given:
        if isinstance(each, Access):
            found |= {level.name.lower() for level in Access if level <= each}
        else:
            found |= {each} if isinstance(each, str) else each
    return frozenset(found)


def told(access: Access | Grants) -> str:
    """Grants as messages name them: the level of the ladder where they are one, else each by its name."""
    names = grants(access)
    level = next((level.name for level in Access if grants(level) == names), None)
    return level or " and ".join(sorted(names)) or "nothing"


@dataclass(frozen=True)
class Queries:
    """The inputs that a fingerprint asks about.

    Shape:
        inputs: ``[n, *input]`` as the input space has them (`whorl.spaces`), for pictures ``[n, c, h, w]`` float32 in
        [0, 1]; ``[n, m, *input]`` where each of the n queries asks m inputs together (pairs, lines, masks).
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
class NullModel:
    """One independent model of a null.

    ``made`` is its recipe or origin, ``digest`` that of its weights (or empty), ``accuracy`` a share of the control
    pictures or None, ``interface`` how it answered, ``group`` the kind of stranger that it stands for (architecture,
    ancestor, data), ``family`` those made from one another, as their weights show.
    """

    name: str
    digest: str = ""
    made: str = ""
    accuracy: float | None = None
    interface: str = ""
    group: str = ""
    family: str = ""


@dataclass(frozen=True)
class Null:
    """The similarities of independent models to one fingerprint.

    ``pool`` says in words who they are; ``siblings`` counts those that share a public ancestor with the victim;
    ``origin`` says who chose them, and so what they are worth before others (`grade`).

    Shape:
        probes: raw answers to the probes, ``[N, p, k]`` float32 or labels ``[N, p]`` int64; None: not asked.
    """

    pool: str
    models: tuple[NullModel, ...]
    similarities: tuple[float, ...]
    siblings: int = 0
    origin: Origin = "owner"
    probes: Tensor | None = field(default=None, compare=False)

    def __len__(self) -> int:
        return len(self.similarities)

    @property
    def names(self) -> tuple[str, ...]:
        """The models' names."""
        return tuple(model.name for model in self.models)

    @property
    def grade(self) -> Grade:
        """What a verdict by this null is worth before others."""
        return Grade.of(self.origin)


@dataclass(frozen=True)
class Measured:
    """Similarities of the null's models, in their order, and of the known copies, as one interface shows them."""

    similarities: tuple[float, ...]
    derived: Mapping[str, tuple[float, ...]]


@dataclass(frozen=True)
class Calibration:
    """What is known about a fingerprint's error: its null, and the similarities of derived models by removal.

    ``interfaces`` holds the same as an interface that treats its answers shows it, by treatment, as in
    ``Rounded(decimals=3)``. ``earlier`` names other settings of the fingerprint that models of this null calibrated.
    """

    null: Null
    derived: Mapping[str, tuple[float, ...]] = field(default_factory=dict[str, tuple[float, ...]])
    interfaces: Mapping[str, Measured] = field(default_factory=dict[str, Measured])
    earlier: tuple[str, ...] = ()

    def through(self, treatment: str) -> Calibration | None:
        """The calibration as an interface of this treatment shows it; None where that was not measured."""
        if not treatment:
            return self
        if (measured := self.interfaces.get(treatment)) is None:
            return None
        null = replace(self.null, similarities=measured.similarities)
        return Calibration(null, measured.derived, earlier=self.earlier)


@dataclass(frozen=True)
class Probes:
    """Neutral inputs beside the queries: they show whether suspect, victim and null are models of one kind.

    Shape:
        inputs: ``[p, *input]``.
        labels: ``[p]`` int64, the known class of a control picture, -1 elsewhere.
        victim: raw answers of the victim, ``[p, k]`` float32 with k of at most 1,000, or labels ``[p]`` int64.
    """

    inputs: Tensor
    labels: Tensor
    victim: Tensor


@dataclass(frozen=True)
class Candidates:
    """A lineup: victim and twins side by side, without a word on which of them is the victim.

    ``commitment`` is the SHA-256 of a secret salt and the victim's place (`whorl.fingerprints.secret`), ``digests``
    those of the candidates' weights, sealed with the salt, ``recipe`` how all of them were made, ``settings`` what was
    fixed before the first answer (`whorl.fingerprints.terms`), as a scheme by which each candidate has a fingerprint.

    Shape:
        queries: inputs ``[q, *input]``; of fingerprints with n queries (`whorl.fingerprints.joined`) ``[K * n, ...]``.
        answers: ``[K, q, k]`` float32, or labels ``[K, q]`` int64; of fingerprints the references ``[K, ...]``.
    """

    queries: Queries
    answers: Tensor
    digests: tuple[str, ...]
    commitment: str
    recipe: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def inputs(self) -> Tensor:
        """Those of the queries."""
        return self.queries.inputs


@dataclass(frozen=True)
class Mark:
    """What was drawn for a mark after its inputs were committed; ``draw`` says how, with the transcript of the drawing.

    Shape:
        inputs: ``[n, *input]``; n is 0 where the fingerprint's own queries are what was committed.
        drawn: ``[n]`` int64 labels, or ``[bits]`` of 0 and 1; empty where the draw is still to come.
    """

    kind: Literal["labels", "bits"]
    inputs: Tensor
    drawn: Tensor
    draw: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True)
class Look:
    """One entry of the log of looks: somebody held the fingerprint against a suspect.

    ``date`` is in UTC, as 2026-11-28T12:00:00Z; ``previous`` the entry before, or the fingerprint, by digest, or empty.
    """

    date: str
    suspect: str
    rule: str
    decision: str
    previous: str


@dataclass(frozen=True)
class Fingerprint:
    """What a scheme extracted from a victim.

    ``scheme``, ``data`` and ``space`` name their things by expressions; ``victim`` is the digest of its weights or
    address; ``classes`` counts its outputs, which of a classification are called ``class_names``; ``pool`` holds the
    digests of the shadow models it learned from, which may not be asked later; ``provenance`` says by setting who or
    what chose it; ``nonce`` fixes the order in which suspects are asked. A file of ``format`` 1 knows less.
    """

    scheme: str
    victim: str
    queries: Queries
    reference: Representation
    space: InputSpace
    data: str = ""
    seed: int = 0
    classes: int = 0
    seconds: float = 0.0
    calibration: Calibration | None = None
    versions: Mapping[str, str] = field(default_factory=dict[str, str])
    task: Task = "classification"
    pool: tuple[str, ...] = ()
    class_names: tuple[str, ...] = ()
    provenance: Mapping[str, str] = field(default_factory=dict[str, str])
    nonce: str = ""
    probes: Probes | None = None
    candidates: Candidates | None = None
    mark: Mark | None = None
    looks: tuple[Look, ...] = ()
    format: int = 2

    @property
    def inputs_each(self) -> int:
        """Inputs that each query asks."""
        return self.space.each(self.queries.inputs) or 1


@dataclass(frozen=True)
class Rule:
    """How a suspect is judged, fixed before the first query.

    ``alpha`` is the accepted chance of calling an independent model derived, in each of ``tests`` fixed together;
    ``budget`` the most queries, None for all; ``group`` the suspect's kind among the null's, empty if unknown;
    ``lineup`` that victim and twins are lined up; ``match_labels`` that each reads the classes as they agree best;
    ``nonce``, in hexadecimal, the judge's own number of a mark's draw; ``align_to`` in whose order units are read."""

    alpha: float = 0.01
    budget: int | None = None
    group: str = ""
    lineup: bool = False
    tests: int = 1
    match_labels: bool = False
    nonce: str = ""
    align_to: str = ""


Decision = Literal["derived", "unrelated", "inconclusive"]


@dataclass(frozen=True)
class Verdict:
    """The answer, its evidence, its error, and what the test could not have seen.

    ``p_value`` is valid at any stopping time; it can't be below ``p_value_floor``, which the size of the null sets.
    ``error_bound`` bounds the chance that an independent model, exchangeable with the null, is called derived.
    ``power`` gives per removal the share of calibration copies that the same test flags, with a 95 % interval, and
    ``missed_at_most``. ``grade`` says on what it rests (`Grade`), ``likeness`` how the suspect stands among the null on
    neutral inputs, ``lineup`` how victim and twins stood, ``interface`` how the suspect answers, ``record`` what others
    check it by: date, versions, digests of suspect, victim, fingerprint and calibration.
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
    grade: Grade = Grade.D
    likeness: Mapping[str, Any] = field(default_factory=dict[str, Any])
    lineup: Mapping[str, Any] = field(default_factory=dict[str, Any])
    interface: str = ""
    record: Mapping[str, Any] = field(default_factory=dict[str, Any], compare=False)


@dataclass(frozen=True)
class Combination:
    """The answer of several tests about one victim, with one error rate for all of them together.

    ``p_value`` is that of no suspect being made from the victim, ``adjusted`` holds one for each verdict, corrected for
    the number of tests. ``error_bound`` bounds the chance that any calls an independent model derived. ``refused`` says
    by name why a suspect was not judged.
    """

    decision: Decision
    p_value: float
    alpha: float
    error_bound: float
    adjusted: tuple[float, ...]
    verdicts: tuple[Verdict, ...]
    caveats: tuple[str, ...] = ()
    over: Literal["fingerprints", "rules", "suspects"] = "fingerprints"
    refused: Mapping[str, str] = field(default_factory=dict[str, str])
