"""What every scheme shares: access checks, metering, seeding, timing, calibration and verification.

An author writes three steps, ``sample``, ``represent`` and ``similarity``, or takes them from `whorl.queries` and
`whorl.representations`. The rest is final, so it cannot drift between authors.
"""

from __future__ import annotations

import dataclasses
import hashlib
import time
from abc import ABC
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from typing import ClassVar, Literal, final

import torch
from torch import Tensor

from whorl.data.base import Dataset
from whorl.detection.verdict import Trial
from whorl.errors import AccessRefused, UsageError
from whorl.expressions import Call
from whorl.oracles.base import Oracle
from whorl.oracles.pool import Pool
from whorl.queries.base import PooledSampler, Sampler
from whorl.representations.base import Comparer, Representer
from whorl.storage import digest_tensors
from whorl.types import (
    Calibration,
    Evidence,
    Fingerprint,
    Null,
    Queries,
    Task,
    Verdict,
)

__all__ = ["Scheme", "asking_order", "identity"]


class Scheme(Sampler, Representer, Comparer, ABC):
    """Queries, a representation and a similarity, with the access that each side needs.

    Subclasses are frozen dataclasses whose fields are the paper's symbols, spelled out; a constructor only stores.
    """

    name: ClassVar[str]
    paper: ClassVar[str]
    idea: ClassVar[str]
    """What it looks at, in a line."""
    blind: ClassVar[str]
    """What it cannot see, in a line."""
    tasks: ClassVar[frozenset[Task]] = frozenset({"classification"})
    purpose: ClassVar[Literal["ownership", "integrity", "data"]] = "ownership"
    """Whether it recognises copies that were changed, tells every change, or tells whose data were used."""

    def __str__(self) -> str:
        fields = dataclasses.fields(self)  # pyright: ignore[reportArgumentType] every scheme is a dataclass
        return str(Call(self.name, (), tuple((field.name, getattr(self, field.name)) for field in fields)))

    @final
    def extract(
        self, victim: Oracle, data: Dataset | None, *, budget: int = 100, seed: int = 0, pool: Pool | None = None
    ) -> Fingerprint:
        """Make the fingerprint of a victim.

        Parameters:
            victim: must grant ``needs_victim``.
            data: the owner's labelled pictures; the part named by ``part`` is what the paper uses. None where
                ``needs_data`` is false.
            budget: number of queries.
            seed: the same seed gives the same bytes on the same machine.
            pool: shadow models, where ``needs_pool`` is true.

        Raises:
            AccessRefused: before anything is asked.
            UsageError: the data do not fit the victim, or are too few; a pool is missing.
        """
        needed = max(self.needs_victim, self.needs_suspect)
        if victim.access < needed:
            raise AccessRefused(
                f"{self.name} needs {needed.name} of the victim; {victim.name} grants {victim.access.name}. "
                f"Schemes that work here: whorl schemes --victim-access {victim.access.name.lower()}"
            )
        if victim.task not in self.tasks:
            raise UsageError(f"{self.name} is for {' or '.join(sorted(self.tasks))}; {victim.name} does {victim.task}")
        if budget < 1:
            raise UsageError(f"a fingerprint needs at least one query, not {budget}")
        if data is None:
            data = _nothing(self, victim)
        if data.input_shape != victim.input_shape:
            raise UsageError(f"{victim.name} takes pictures {victim.input_shape}; the data hold {data.input_shape}")
        started = time.perf_counter()
        generator = torch.Generator().manual_seed(seed)
        if isinstance(self, PooledSampler) and pool is not None:
            queries = self.sample_with(victim, data, pool, budget=budget, generator=generator)
        else:
            queries = self.sample(victim, data, budget=budget, generator=generator)
        seconds = time.perf_counter() - started
        _check(queries, budget, victim)
        return Fingerprint(
            scheme=str(self),
            victim=victim.digest,
            queries=queries,
            reference=self.represent(victim, queries),
            data=data.expression,
            seed=seed,
            classes=victim.classes,
            seconds=seconds,
            versions={package: version(package) for package in ("whorl", "torch", "numpy")},
            task=victim.task,
            pool=pool.digests if pool is not None else (),
        )

    @final
    def observe(self, fingerprint: Fingerprint, oracle: Oracle) -> Evidence:
        """Ask one model about the whole fingerprint."""
        self._admit(fingerprint, oracle)
        observed = self.represent(oracle, fingerprint.queries)
        return self.similarity(fingerprint.reference, observed)

    @final
    def calibrate(
        self,
        fingerprint: Fingerprint,
        independents: Mapping[str, Oracle],
        *,
        pool: str,
        siblings: int = 0,
        derived: Mapping[str, Sequence[Oracle]] | None = None,
        progress: Callable[[], None] = lambda: None,
    ) -> Fingerprint:
        """The fingerprint with its null, and with the similarities of known copies by removal.

        Parameters:
            independents: models trained without the victim, by name; none may be under test later.
            pool: who they are, in words; the verdict quotes it.
            siblings: how many of them share a public ancestor with the victim.
            derived: removal to copies of the victim that went through it.
            progress: called after each model.
        """
        if not independents:
            raise UsageError("calibration needs independent models; give some, or a recipe to train them from")

        def measure(oracle: Oracle) -> float:
            value = self.observe(fingerprint, oracle).similarity
            progress()
            return value

        null = Null(
            pool=pool,
            names=tuple(independents),
            similarities=tuple(measure(oracle) for oracle in independents.values()),
            siblings=siblings,
        )
        power = {removal: tuple(measure(oracle) for oracle in copies) for removal, copies in (derived or {}).items()}
        return dataclasses.replace(fingerprint, calibration=Calibration(null, power))

    @final
    def verify(
        self,
        fingerprint: Fingerprint,
        suspect: Oracle,
        *,
        alpha: float = 0.01,
        budget: int | None = None,
        progress: Callable[[int], None] = lambda _: None,
    ) -> Verdict:
        """Ask the suspect, in random order and no longer than needed, and decide.

        Parameters:
            alpha: accepted chance of calling an independent model derived.
            budget: most queries to ask; all of the fingerprint by default. A scheme that compares the set as a
                whole (``per_query`` is false) asks all or nothing.
            progress: called with the number of queries asked in each round.
        """
        self._admit(fingerprint, suspect)
        size = len(fingerprint.queries)
        limit = size if budget is None else min(budget, size)
        trial = Trial(fingerprint.calibration, size=size, alpha=alpha, per_query=self.per_query, budget=limit)
        if not self.per_query and limit < size:
            raise UsageError(f"{self.name} compares its {size} queries as a whole; a budget of {limit} is too small")
        order = asking_order(fingerprint, suspect.digest or suspect.name)[:limit] if self.per_query else slice(None)
        block = suspect.block or limit
        for chosen in order.split(block) if isinstance(order, Tensor) else [order]:
            observed = self.represent(suspect, fingerprint.queries[chosen])
            evidence = self.similarity(fingerprint.reference[chosen], observed)
            if self.per_query and evidence.per_query is not None:
                trial.update(evidence.per_query)
            else:
                trial.observe(evidence.similarity)
            progress(len(observed) if self.per_query else size)
            if trial.settled:
                break
        verdict = trial.verdict(scheme=fingerprint.scheme, fingerprint=identity(fingerprint), suspect=suspect.name)
        return dataclasses.replace(verdict, queries={**verdict.queries, "inputs_each": fingerprint.inputs_each})

    def _admit(self, fingerprint: Fingerprint, oracle: Oracle) -> None:
        if oracle.access < self.needs_suspect:
            raise AccessRefused(
                f"{self.name} needs {self.needs_suspect.name} of the suspect; {oracle.name} grants "
                f"{oracle.access.name}. Schemes that work here: "
                f"whorl schemes --suspect-access {oracle.access.name.lower()}"
            )
        expected = tuple(fingerprint.queries.inputs.shape[-3:])
        known = not self.any_classes and fingerprint.classes
        wanted = (expected, fingerprint.classes, fingerprint.task) if known else (expected,)
        if (oracle.input_shape, oracle.classes, oracle.task)[: len(wanted)] != wanted:
            raise UsageError(
                f"the fingerprint asks pictures {expected} of {fingerprint.classes} classes ({fingerprint.task}); "
                f"{oracle.name} takes {oracle.input_shape} of {oracle.classes} ({oracle.task})"
            )
        if oracle.digest in fingerprint.pool:
            raise UsageError(
                f"{oracle.name} is one of the shadow models that this fingerprint learned from; whatever the "
                "similarity, it would show nothing"
            )


def identity(fingerprint: Fingerprint) -> str:
    """Content hash of the queries and the reference."""
    tensors = {"inputs": fingerprint.queries.inputs, "reference": fingerprint.reference.values}
    return digest_tensors(tensors)[:16]


def asking_order(fingerprint: Fingerprint, suspect: str) -> Tensor:
    """The order ``[n]`` in which a suspect is asked, fixed by the contents of both.

    It is as good as drawn at random after the suspect was fixed, the same when an interrupted verification resumes,
    and nobody can shop for a seed that convicts.
    """
    seed = hashlib.sha256(f"{identity(fingerprint)} {suspect}".encode()).digest()[:8]
    generator = torch.Generator().manual_seed(int.from_bytes(seed, "little") >> 1)
    return torch.randperm(len(fingerprint.queries), generator=generator)


def _nothing(scheme: Scheme, victim: Oracle) -> Dataset:
    if scheme.needs_data:
        raise UsageError(f"{scheme.name} starts from pictures: give data, as in 'folder(./pictures, size=32)'")
    return Dataset(torch.empty(0, *victim.input_shape), torch.empty(0, dtype=torch.int64), ())


def _check(queries: Queries, budget: int, victim: Oracle) -> None:
    """A sampler that breaks its promise is a bug of the scheme, found here and not in a verdict."""
    inputs = queries.inputs
    if len(queries) != budget or tuple(inputs.shape[-3:]) != victim.input_shape or inputs.dtype != torch.float32:
        raise UsageError(f"the sampler made {list(inputs.shape)} {inputs.dtype}; {budget} float32 queries are due")
    if not bool(inputs.isfinite().all()) or float(inputs.min()) < 0 or float(inputs.max()) > 1:
        raise UsageError("the sampler left the box [0, 1]; no interface would accept such a query")
