"""One suspect before one fingerprint under one rule: who is admitted, what is asked in which order, when to stop.

The command line, Python and the benchmarks all verify through a `Session`, so equal answers give equal verdicts,
however many queries an oracle takes in a round.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

from torch import Tensor

from whorl.detection.drawn import DrawnTrial
from whorl.detection.exchangeability import Likeness, clusters, likeness
from whorl.detection.groups import families, in_group
from whorl.detection.verdict import Trial
from whorl.errors import UsageError
from whorl.fingerprints.second import calibration_identity, identity
from whorl.oracles.base import Oracle, interface_of
from whorl.oracles.interface import ONE_HOT
from whorl.oracles.wrappers import digests_of
from whorl.schemes.asking import admit, asking_order, compare, ordered, readable, represent
from whorl.schemes.calibration import same_answers, sees_probabilities
from whorl.schemes.controls import examine
from whorl.types import Calibration, Evidence, Fingerprint, Grade, Null, Rule, Verdict, grants

if TYPE_CHECKING:
    from whorl.schemes.base import Scheme

__all__ = ["Session", "record_of", "replays_of", "told_of_replays"]

FIRST, LARGEST = (
    8,
    64,
)  # queries of the first round, and of the last where an oracle does not say what is worth its while
OLD_FORMAT: Final = (
    "this fingerprint has format 1: nothing in its file ties the null to the queries or says who its models are; "
    "calibrate it again (whorl calibrate) to have that recorded"
)
ALIGNED: Final = (
    "the suspect's units were put in the order of the unmarked model {}..., which the mark fixed before its draw; "
    "unaligned it would be another look"
)


class Session:
    """A verification.

    Parameters:
        scheme: the fingerprint's.
        fingerprint: with its null, without which nothing can be called derived.
        suspect: refused before the first query where it grants too little, or takes other inputs.
        rule: alpha, budget and the suspect's group, fixed from here on.

    Raises:
        AccessRefused, UsageError: the suspect cannot be asked, or the rule cannot be kept.
    """

    def __init__(self, scheme: Scheme, fingerprint: Fingerprint, suspect: Oracle, rule: Rule) -> None:
        read = readable(scheme, fingerprint, suspect)
        treatment, suspect = ONE_HOT if read is not suspect else "", read
        admit(scheme, fingerprint, suspect)
        _refuse_known(fingerprint, suspect)
        suspect = ordered(scheme, fingerprint, suspect)
        self.scheme, self.fingerprint, self.suspect, self.rule = scheme, fingerprint, suspect, rule
        size = len(fingerprint.queries)
        self.limit = size if rule.budget is None else min(rule.budget, size)
        self.calibration = fingerprint.calibration
        if self.calibration and rule.group:
            self.calibration = in_group(self.calibration, rule.group)
        self.sent = self.probed = 0
        self.interface = interface_of(suspect)
        self._before = (suspect.queries_spent, Counter(suspect.replayed.given))
        self.design = scheme.design(fingerprint)
        shown = self.calibration and self.calibration.through(treatment)
        self.trial = self._tried(shown, None)  # a rule that can't be kept is refused before any query

    def _tried(self, calibration: Calibration | None, beside: Likeness | None) -> Trial | DrawnTrial:
        if self.design is not None:
            return DrawnTrial(self.design, alpha=self.rule.alpha, budget=self.rule.budget)
        return Trial(
            calibration,
            size=len(self.fingerprint.queries),
            alpha=self.rule.alpha,
            per_query=self.scheme.per_query,
            budget=self.rule.budget,
            likeness=beside,
        )

    def _examine(self) -> None:
        """Ask the neutral probes: how the suspect answers, and whether it is a model like those of the null."""
        if (examined := examine(self.fingerprint, self.suspect, grants(self.scheme.needs_suspect))) is None:
            return
        self.probed = len(examined.labels)
        _refuse_known(self.fingerprint, self.suspect, examined.answers)
        self.suspect = examined.oracle
        self.interface = interface_of(self.suspect)
        if examined.treatment and examined.treatment not in self.interface:
            self.interface += f" -> {examined.treatment}"
        calibration, null = self.calibration, self.calibration and self.calibration.null
        if calibration and examined.treatment and sees_probabilities(self.scheme):
            if (shown := calibration.through(examined.treatment)) is None:
                raise UsageError(
                    f"{self.suspect.name} treats its answers ({examined.treatment}), and the null was not measured "
                    "through such an interface, so a rank among its models would say nothing. Type: whorl calibrate "
                    f"... --interface '{examined.treatment}'"
                )
            calibration = shown
        beside = None
        if null is not None and null.probes is not None and len(null) > 1 and (probes := self.fingerprint.probes):
            # Rows of 0 and 1 are as sure as can be, whoever gives them: they are compared as labels.
            own = examined.labels if ONE_HOT in examined.treatment else examined.answers
            beside = likeness(*(each.numpy() for each in (own, null.probes, probes.victim, probes.labels)))
        self.trial = self._tried(calibration, beside)

    def verify(self, progress: Callable[[int], None] = lambda _: None) -> Verdict:
        """Ask in rounds, no longer than needed, and decide.

        ``progress`` is called with the number of queries of each round. What a round answers beyond the moment at
        which the test was settled is not used, so the size of rounds changes what is spent and nothing else.
        """
        self._examine()
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
        self._examine()
        if not self.scheme.per_query:
            return self._whole(lambda _: None)
        evidence = self._asked(slice(None), lambda _: None)
        if evidence.per_query is None:
            raise UsageError(f"{self.scheme.name} declares per_query and gives no similarity per query")
        self._take(Evidence(evidence.similarity, evidence.per_query[asking_order(self.fingerprint)[: self.limit]]))
        return evidence, self._verdict()

    def _whole(self, progress: Callable[[int], None]) -> tuple[Evidence, Verdict]:
        evidence = self._asked(slice(None), progress)
        assert isinstance(self.trial, Trial)  # what is drawn is compared one by one
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
        queries = {
            **verdict.queries,
            "spent": self.sent,
            "needed": verdict.queries["spent"],
            "stopped_early": self.sent < self.limit,
            "inputs_each": fingerprint.inputs_each,
            "probes": self.probed,
            **replays_of(self.suspect, self._before[1]),
        }
        caveats = (*self._origin(), *verdict.caveats)
        if queries["replayed"]:
            caveats = (*caveats, told_of_replays(queries, self.suspect.queries_spent - self._before[0]))
        return dataclasses.replace(
            verdict,
            queries=queries,
            caveats=caveats,
            grade=self._grade,
            interface=self.interface,
            record=record_of(fingerprint, self.suspect, self.rule),
        )

    @property
    def _grade(self) -> Grade:
        """B where labels or bits were drawn, and the judge's own number is in the draw; else the owner's word."""
        return Grade.B if self.design is not None and not self.design.doubt(self.rule.nonce) else Grade.D

    def _origin(self) -> tuple[str, ...]:
        """Who chose the null, first of all caveats, and what is known against it."""
        if (design := self.design) is not None:
            word = f"the {design.kind} were drawn by chance, after what they belong to was fixed and no more often"
            doubt = design.doubt(self.rule.nonce)
            told = (self._grade.caveat(word), *((f"not exact before others: {doubt}",) if doubt else ()))
            return (*told, *((ALIGNED.format(self.rule.align_to[:16]),) if self.rule.align_to else ()))
        if (calibration := self.calibration) is None:
            return (OLD_FORMAT,) if self.fingerprint.format == 1 else ()
        null = calibration.null
        told = [Grade.D.caveat("its models were made without the victim")]
        if null.origin != "owner":
            told.append(
                f"the file says that the null is by {'a judge' if null.origin == 'judge' else 'design'}, and nothing "
                "in it shows that: only a judgment that a judge signed is worth more (whorl claim check)"
            )
        if self.fingerprint.format == 1:
            told.append(OLD_FORMAT)
        if self.rule.group:
            told.append(f"the suspect was ranked in the group {self.rule.group!r}, on the word of whoever asked")
        if (earlier := calibration.earlier) and (more := len(earlier) - 1) >= 0:
            told.append(
                f"models of this null calibrated {len(earlier)} other settings of this scheme before ({earlier[0]}"
                f"{f' and {more} more' if more else ''}): if these were chosen by that, the error rate is that of the "
                "best of several; choose settings on other models (whorl calibrate --first-seed)"
            )
        told += _alike(null)
        return tuple(told)


def _alike(null: Null) -> list[str]:
    """Models of a null that answer as others of it do, where there are such."""
    size, counted = len(null), families(null)
    if len(counted) < size:
        return [
            f"of the {size} models of the null some were made from one another, as their weights or answers show: they "
            f"count as {len(counted)} (the largest {max(map(len, counted))} are one), and the error rate is that of a "
            f"null of {len(counted)}"
        ]
    if null.probes is not None and len(apart := clusters(null.probes.numpy())) < size:
        return [
            f"of the {size} models of the null {size - len(apart)} answer every probe as another does: if they were "
            f"made from one another the error rate is that of a null of {len(apart)}"
        ]
    return []


def record_of(fingerprint: Fingerprint, suspect: Oracle, rule: Rule) -> dict[str, Any]:
    """What makes a verdict one that others can check."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "victim": fingerprint.victim,
        "suspect": next(iter(digests_of(suspect)), ""),
        "fingerprint": identity(fingerprint),
        "calibration": calibration_identity(fingerprint) or "",
        "versions": dict(_versions()),
        "made_with": dict(fingerprint.versions),
        "seed": fingerprint.seed,
        "data": fingerprint.data,
        "rule": {"alpha": rule.alpha, "budget": rule.budget, "group": rule.group}
        | ({"lineup": True} if rule.lineup else {})
        | ({"tests": rule.tests} if rule.tests > 1 else {})
        | ({"match_labels": True} if rule.match_labels else {})
        | ({"nonce": rule.nonce} if rule.nonce else {})
        | ({"align_to": rule.align_to} if rule.align_to else {}),
    }


def replays_of(suspect: Oracle, before: Counter[str]) -> dict[str, Any]:
    """Answers that a record gave since ``before``, the time of the oldest, and recorded answers that were asked again.

    The last are those of the whole record, as several fingerprints share them.
    """
    given = suspect.replayed.given - before
    return {"replayed": given.total(), "oldest": min(given, default=None), "sentinels": suspect.replayed.sentinels}


@cache
def _versions() -> dict[str, str]:
    return {package: version(package) for package in ("whorl", "torch", "numpy")}


def told_of_replays(queries: Mapping[str, Any], answers: int) -> str:
    """How many of the answers were replayed, and how old they are."""
    again = f"{queries['sentinels']} were asked again and agreed" if queries["sentinels"] else "none was asked again"
    return (
        f"{queries['replayed']} of {answers} answers were replayed from a record; the oldest is of "
        f"{queries['oldest']}, and {again}"
    )


def _refuse_known(fingerprint: Fingerprint, suspect: Oracle, answers: Tensor | None = None) -> None:
    """Raise `UsageError` where the suspect is a model of the null, by its weights or by its very answers."""
    if (calibration := fingerprint.calibration) is None:
        return
    digests, null = set(digests_of(suspect)), calibration.null
    for place, model in enumerate(null.models):
        same = null.probes is not None and answers is not None and same_answers(answers, null.probes[place])
        if same or model.digest in digests:
            raise UsageError(
                f"{suspect.name} is {model.name} of the null, {'by its answers' if same else 'by its weights'}: what "
                "calibrated the test can't be under test. Calibrate without it"
            )
