"""One suspect before one fingerprint under one rule: who is admitted, what is asked in which order, when to stop.

The command line, Python and the benchmarks all verify through a `Session`, so equal answers give equal verdicts,
however many queries an oracle takes in a round.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor

from whorl.detection.verdict import Trial
from whorl.errors import AccessRefused, UsageError
from whorl.fingerprints.second import identity
from whorl.oracles.base import Oracle
from whorl.types import Evidence, Fingerprint, Queries, Representation, Rule, Verdict, grants, told

if TYPE_CHECKING:
    from whorl.schemes.base import Scheme

__all__ = ["Session", "admit", "asking_order", "compare", "represent", "typed"]

FIRST, LARGEST = (
    8,
    64,
)  # queries of the first round, and of the last where an oracle does not say what is worth its while
OLD_FORMAT: Final = (
    "this fingerprint has format 1: nothing in its file ties the null to the queries or says who its models are; "
    "calibrate it again (whorl calibrate) to have that recorded"
)


class Session:
    """A verification.

    Parameters:
        scheme: the fingerprint's.
        fingerprint: with its null, without which nothing can be called derived.
        suspect: refused before the first query where it grants too little, or takes other inputs.
        rule: alpha and budget, fixed from here on.

    Raises:
        AccessRefused, UsageError: the suspect cannot be asked, or the rule cannot be kept.
    """

    def __init__(self, scheme: Scheme, fingerprint: Fingerprint, suspect: Oracle, rule: Rule) -> None:
        admit(scheme, fingerprint, suspect)
        self.scheme, self.fingerprint, self.suspect, self.rule = scheme, fingerprint, suspect, rule
        size = len(fingerprint.queries)
        self.limit = size if rule.budget is None else min(rule.budget, size)
        self.trial = Trial(
            fingerprint.calibration, size=size, alpha=rule.alpha, per_query=scheme.per_query, budget=rule.budget
        )
        self.sent = 0

    def verify(self, progress: Callable[[int], None] = lambda _: None) -> Verdict:
        """Ask in rounds, no longer than needed, and decide.

        ``progress`` is called with the number of queries of each round. What a round answers beyond the moment at
        which the test was settled is not used, so the size of rounds changes what is spent and nothing else.
        """
        if not self.scheme.per_query:
            return self._whole(progress)[1]
        order = asking_order(self.fingerprint)[: self.limit]
        done, size, largest = 0, FIRST, self.suspect.block or LARGEST
        while done < len(order) and not self.trial.settled:
            # Rounds that grow: a copy or a stranger that shows at once costs little, and few rounds ask everything.
            chosen = order[done : done + min(size, largest)]
            self._take(self._asked(chosen, progress))
            done, size = done + len(chosen), 2 * size
        return self._verdict()

    def measure(self) -> tuple[Evidence, Verdict]:
        """Ask everything: the evidence of the whole fingerprint, and the verdict that `verify` would have given."""
        if not self.scheme.per_query:
            return self._whole(lambda _: None)
        evidence = self._asked(slice(None), lambda _: None)
        if evidence.per_query is None:
            raise UsageError(f"{self.scheme.name} declares per_query and gives no similarity per query")
        self._take(Evidence(evidence.similarity, evidence.per_query[asking_order(self.fingerprint)[: self.limit]]))
        return evidence, self._verdict()

    def _whole(self, progress: Callable[[int], None]) -> tuple[Evidence, Verdict]:
        evidence = self._asked(slice(None), progress)
        self.trial.observe(evidence.similarity)
        return evidence, self._verdict()

    def _asked(self, chosen: Tensor | slice, progress: Callable[[int], None]) -> Evidence:
        queries = self.fingerprint.queries[chosen]
        observed = represent(self.scheme, self.suspect, queries)
        self.sent += len(queries)
        progress(len(queries))
        return compare(self.scheme, self.fingerprint.reference[chosen], observed)

    def _take(self, evidence: Evidence) -> None:
        if evidence.per_query is None:
            raise UsageError(f"{self.scheme.name} declares per_query and gives no similarity per query")
        for value in evidence.per_query.split(1):
            if self.trial.settled:
                return
            self.trial.update(value)

    def _verdict(self) -> Verdict:
        fingerprint = self.fingerprint
        verdict = self.trial.verdict(
            scheme=fingerprint.scheme, fingerprint=identity(fingerprint), suspect=self.suspect.name
        )
        null = fingerprint.calibration and fingerprint.calibration.null
        queries = {
            **verdict.queries,
            "spent": self.sent,
            "needed": verdict.queries["spent"],
            "stopped_early": self.sent < self.limit,
            "inputs_each": fingerprint.inputs_each,
        }
        caveats = (OLD_FORMAT, *verdict.caveats) if fingerprint.format == 1 else verdict.caveats
        return dataclasses.replace(verdict, queries=queries, caveats=caveats, grade=null.grade if null else "D")


def admit(scheme: Scheme, fingerprint: Fingerprint, oracle: Oracle) -> None:
    """Raise `AccessRefused` or `UsageError`, before the first query, where the oracle cannot be asked."""
    needed = grants(scheme.needs_suspect)
    if not needed <= oracle.grants:
        raise AccessRefused(
            f"{scheme.name} needs {told(needed)} of the suspect; {oracle.name} grants {told(oracle.grants)}. "
            f"Schemes that work here: whorl schemes --suspect-access {typed(oracle)}"
        )
    known = not scheme.any_classes and fingerprint.classes
    wanted = (fingerprint.space, fingerprint.classes, fingerprint.task) if known else (fingerprint.space,)
    if (oracle.space, oracle.classes, oracle.task)[: len(wanted)] != wanted:
        raise UsageError(
            f"the fingerprint asks {fingerprint.space} of {fingerprint.classes} classes ({fingerprint.task}); "
            f"{oracle.name} takes {oracle.space} of {oracle.classes} ({oracle.task})"
        )
    if oracle.digest in fingerprint.pool:
        raise UsageError(
            f"{oracle.name} is one of the shadow models that this fingerprint learned from; whatever the "
            "similarity, it would show nothing"
        )


def represent(scheme: Scheme, oracle: Oracle, queries: Queries) -> Representation:
    """What a scheme makes of an oracle's answers. Raises `UsageError` where an old file lacks what it reads."""
    try:
        return scheme.represent(oracle, queries)
    except KeyError as error:
        raise UsageError(f"the fingerprint lacks {error}, which {scheme.name} reads; extract it anew") from None


def compare(scheme: Scheme, reference: Representation, observed: Representation) -> Evidence:
    """How alike two representations are. Raises `UsageError` where they differ in shape."""
    if not scheme.any_classes and reference.values.shape != observed.values.shape:
        raise UsageError(
            f"{scheme.name} represents this suspect as {list(observed.values.shape)}, and the fingerprint's victim as "
            f"{list(reference.values.shape)}: the two cannot be compared"
        )
    return scheme.similarity(reference, observed)


def asking_order(fingerprint: Fingerprint) -> Tensor:
    """The order ``[n]`` in which any suspect is asked, fixed by the fingerprint's id, which holds its nonce.

    It was drawn before there was a suspect, so neither the suspect's name nor its address can choose it; and it is
    the same when an interrupted verification resumes.
    """
    seed = hashlib.sha256(f"order {identity(fingerprint)}".encode()).digest()[:8]
    generator = torch.Generator().manual_seed(int.from_bytes(seed, "little") >> 1)
    return torch.randperm(len(fingerprint.queries), generator=generator)


def typed(oracle: Oracle) -> str:
    """An oracle's grants as an option of the command line."""
    name = told(oracle.grants)
    return name.lower() if " and " not in name else ",".join(sorted(oracle.grants))
