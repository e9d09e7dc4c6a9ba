"""What every scheme shares: access checks, metering, seeding, timing, calibration and verification.

An author writes three steps, ``sample``, ``represent`` and ``similarity``, or takes them from `whorl.queries` and
`whorl.representations`. The rest is final, so it cannot drift between authors.
"""

from __future__ import annotations

import dataclasses
import math
import time
from abc import ABC
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from typing import ClassVar, Literal, final

import torch

from whorl.data.base import Dataset
from whorl.detection.design import Design
from whorl.errors import UsageError
from whorl.expressions import Call
from whorl.layouts import check_layouts
from whorl.oracles.base import Oracle
from whorl.oracles.pool import Pool
from whorl.queries.base import PooledSampler, Sampler
from whorl.representations.base import Comparer, Representer
from whorl.schemes.asking import admit, admit_victim, compare, represent
from whorl.schemes.calibration import calibrated
from whorl.schemes.session import Session
from whorl.spaces import Pictures
from whorl.types import (
    Evidence,
    Fingerprint,
    Grants,
    Null,
    NullModel,
    Queries,
    Rule,
    Task,
    Verdict,
    grants,
)

__all__ = ["Purpose", "Scheme"]

Purpose = Literal["ownership", "integrity", "data", "mark"]
"""Whether a scheme recognises changed copies, tells every change, whose data were used, or checks what was embedded."""


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
    purpose: ClassVar[Purpose] = "ownership"

    @final
    @classmethod
    def demands(cls) -> tuple[Grants, Grants]:
        """What the victim and the suspect must grant; the victim answers the queries too."""
        return grants(cls.needs_victim, cls.needs_suspect), grants(cls.needs_suspect)

    def __str__(self) -> str:
        fields = dataclasses.fields(self)  # pyright: ignore[reportArgumentType] every scheme is a dataclass
        return str(Call(self.name, (), tuple((field.name, getattr(self, field.name)) for field in fields)))

    @property
    def sizes(self) -> dict[str, int]:
        """Sizes that the settings give to axes of ``tensors`` and ``values``: every whole setting by its name."""
        fields = dataclasses.fields(self)  # pyright: ignore[reportArgumentType] every scheme is a dataclass
        settings = {field.name: getattr(self, field.name) for field in fields}
        return {name: value for name, value in settings.items() if type(value) is int}

    @final
    def check_fingerprint(self, fingerprint: Fingerprint) -> None:
        """Raise ValueError with the first thing of a fingerprint that is not as this scheme declares it."""
        queries = fingerprint.queries
        if not queries.inputs.numel() and "0" not in self.tensors["inputs"].axes.split():
            raise ValueError(f"its queries ask no input, and {self.name} asks some")
        held = {"inputs": queries.inputs}
        held |= {f"companions/{name}": value for name, value in queries.companions.items()}
        held |= {f"shared/{name}": value for name, value in queries.shared.items()}
        if fingerprint.format == 1:  # made before anything was declared: what is there has to fit, no more
            held = {name: value for name, value in held.items() if name in self.tensors}
        if unknown := sorted(held.keys() - self.tensors.keys()):
            raise ValueError(f"{self.name} declares no {unknown[0]!r} among its tensors")
        # What is optional and named alike, as the layers of a network, is there as a whole or not at all.
        begun = {name.partition(".")[0] for name in held if "." in name}
        needed = [name for name, of in self.tensors.items() if not of.optional or name.partition(".")[0] in begun]
        if fingerprint.format > 1 and (missing := [name for name in needed if name not in held]):
            raise ValueError(f"it lacks {missing[0]!r}, which {self.name} declares")
        declared = {name: (self.tensors[name], value) for name, value in held.items()}
        declared["reference"] = (self.values, fingerprint.reference.values)
        sizes = {"n": len(queries), "k": fingerprint.classes, "numbers": math.prod(fingerprint.space.shape)}
        check_layouts(declared, space=fingerprint.space, sizes=self.sizes | sizes)
        for name, kind in self.facts.items():
            if not isinstance(queries.notes.get(name), kind):
                raise ValueError(f"its note {name!r} is no {kind.__name__}")

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
        if self.purpose == "mark":
            raise UsageError(f"a mark is embedded, not extracted; type: whorl mark MODEL --kind {self.name}")
        admit_victim(self, victim)
        if budget < 1:
            raise UsageError(f"a fingerprint needs at least one query, not {budget}")
        if data is None:
            data = _nothing(self, victim)
        data.check_takes(victim.name, victim.space)
        started = time.perf_counter()
        generator = torch.Generator().manual_seed(seed)
        if isinstance(self, PooledSampler) and pool is not None:
            queries = self.sample_with(victim, data, pool, budget=budget, generator=generator)
        else:
            queries = self.sample(victim, data, budget=budget, generator=generator)
        seconds = time.perf_counter() - started
        _check(queries, budget, victim)
        fingerprint = Fingerprint(
            scheme=str(self),
            victim=victim.digest,
            queries=queries,
            reference=self.represent(victim, queries),
            space=victim.space,
            data=data.expression,
            seed=seed,
            classes=victim.classes,
            seconds=seconds,
            versions={package: version(package) for package in ("whorl", "torch", "numpy")},
            task=victim.task,
            pool=pool.digests if pool is not None else (),
            class_names=data.classes if len(data.classes) == victim.classes else (),
            nonce=bytes(torch.randint(256, (16,), generator=generator).tolist()).hex(),
        )
        try:
            self.check_fingerprint(fingerprint)
        except ValueError as error:
            raise UsageError(f"{type(self).__name__} breaks its own declaration: {error}") from None
        return fingerprint

    def design(self, fingerprint: Fingerprint) -> Design | None:
        """What the reference was drawn by (`whorl.marks.Watermark`); None where the victim answered it."""
        del fingerprint
        return None

    @final
    def observe(self, fingerprint: Fingerprint, oracle: Oracle) -> Evidence:
        """Ask one model about the whole fingerprint."""
        admit(self, fingerprint, oracle)
        return compare(self, fingerprint.reference, represent(self, oracle, fingerprint.queries))

    @final
    def calibrate(
        self,
        fingerprint: Fingerprint,
        independents: Mapping[str, Oracle],
        *,
        pool: str,
        siblings: int = 0,
        derived: Mapping[str, Sequence[Oracle | float]] | None = None,
        about: Mapping[str, NullModel] | None = None,
        interfaces: Sequence[str] = (),
        progress: Callable[[], None] = lambda: None,
    ) -> Fingerprint:
        """The fingerprint with its null, and with the similarities of known copies by removal.

        One that was read from a file of format 1 becomes one of format 2.

        Parameters:
            independents: models trained without the victim, by name; none may be under test later.
            pool: who they are, in words; the verdict quotes it.
            siblings: how many of them share a public ancestor with the victim.
            derived: removal to copies of the victim that went through it, of which those of equal weights count once,
                and to similarities of copies of other victims, each to a fingerprint of its own victim.
            about: what is known of the independent models by name (recipe, accuracy, group); digest and interface are
                taken from the models themselves, and accuracies from the fingerprint's control pictures.
            interfaces: treatments of answers to measure through, as in ``Rounded(decimals=3)``, beside the usual ones
                (`whorl.oracles.interface.USUAL`).
            progress: called after each model.

        Raises:
            UsageError: a model is given twice, is the victim, or is a shadow model of the fingerprint.
        """
        return calibrated(
            self,
            fingerprint,
            independents,
            words=Null(pool=pool, models=(), similarities=(), siblings=siblings),
            derived=derived or {},
            about=about or {},
            interfaces=interfaces,
            progress=progress,
        )

    @final
    def verify(
        self,
        fingerprint: Fingerprint,
        suspect: Oracle,
        *,
        alpha: float = 0.01,
        budget: int | None = None,
        group: str = "",
        nonce: str = "",
        progress: Callable[[int], None] = lambda _: None,
    ) -> Verdict:
        """Ask the suspect, in random order and no longer than needed, and decide.

        Parameters:
            alpha: accepted chance of calling an independent model derived.
            budget: most queries to ask; all of the fingerprint by default. A scheme that compares the set as a
                whole (``per_query`` is false) asks all or nothing. Neutral probes come beside it.
            group: the suspect's kind among the groups of the null, where it is known.
            nonce: your own number of the draw of a mark, in hexadecimal.
            progress: called with the number of queries asked in each round.
        """
        return Session(self, fingerprint, suspect, Rule(alpha=alpha, budget=budget, group=group, nonce=nonce)).verify(
            progress
        )


def _nothing(scheme: Scheme, victim: Oracle) -> Dataset:
    if scheme.needs_data:
        raise UsageError(f"{scheme.name} starts from pictures: give data, as in 'folder(./pictures, size=32)'")
    return Dataset(
        torch.empty(0, *victim.space.shape, dtype=victim.space.dtype),
        torch.empty(0, dtype=torch.int64),
        (),
        domain=None if isinstance(victim.space, Pictures) else victim.space,
    )


def _check(queries: Queries, budget: int, victim: Oracle) -> None:
    """A sampler that breaks its promise is a bug of the scheme, found here and not in a verdict."""
    if len(queries) != budget:
        raise UsageError(f"the sampler made {len(queries)} queries; {budget} are due")
    try:
        victim.space.check(queries.inputs)
    except UsageError as error:
        raise UsageError(f"the sampler made queries that no interface would accept: {error}") from None
