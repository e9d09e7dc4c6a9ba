"""One suspect before one lineup: who is admitted, what is asked, and the verdict."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor

from whorl.detection.combination import share_of_alpha
from whorl.detection.lineup_verdict import lineup_verdict
from whorl.errors import UsageError
from whorl.fingerprints.second import identity
from whorl.fingerprints.secret import Secret
from whorl.fingerprints.terms import Terms, terms_of
from whorl.lineups.asking import order_of, show
from whorl.lineups.by import admit_by
from whorl.oracles.base import Oracle, interface_of
from whorl.oracles.interface import ONE_HOT
from whorl.oracles.recorded import SENTINELS
from whorl.oracles.reordered import in_order_of
from whorl.oracles.wrappers import LabelsOnly, digests_of
from whorl.schemes import SCHEMES
from whorl.schemes.asking import ordered
from whorl.schemes.controls import examine
from whorl.schemes.session import record_of, replays_of, told_of_replays
from whorl.types import Access, Candidates, Fingerprint, Origin, Rule, Verdict, grants

__all__ = ["hold"]

UNSTEADY: Final = (
    "asked the same questions again, the suspect does not answer alike twice: its first answers count, and what is "
    "random in them hides likeness to every candidate alike"
)


def hold(
    fingerprint: Fingerprint,
    suspect: Oracle,
    rule: Rule,
    *,
    secret: Secret | None = None,
    turned: int = 0,
    origin: Origin = "owner",
    progress: Callable[[int], None] = lambda _: None,
) -> Verdict:
    """Ask the suspect and rank the victim among its twins.

    No question and no answer depends on ``secret``, of which only that it fits is seen before the first; without it the
    lineup stays sealed, and the verdict is inconclusive and says whom the suspect resembles most by number.

    Parameters:
        turned: in how many other lineups a candidate is known to stand in another role.
        origin: who trained the twins, which no file can show: whoever holds the lineup says so of itself.
        rule: its alpha has to be the one that was fixed when the lineup was made, or a test's share of it.

    Raises:
        UsageError: the fingerprint holds no lineup, the secret is another's, the rule is another, or the suspect takes
            other inputs, knows nothing of the control pictures, or is itself a twin.
    """
    lineup = fingerprint.candidates
    if lineup is None:
        raise UsageError("this fingerprint holds no lineup; make one: whorl twins")
    terms = terms_of(lineup, fingerprint.task)
    _admit(fingerprint, lineup, suspect, rule, terms)
    place = None if secret is None else secret.open(lineup)  # a wrong one must not cost paid answers
    suspect = _ordered(suspect, fingerprint, rule, terms)
    before = (suspect.queries_spent, suspect.replayed.given.copy())
    probed = 0
    any_order = rule.match_labels
    needed = grants(SCHEMES.make(terms.by).needs_suspect if terms.by else Access.LABELS)
    if (examined := examine(fingerprint, suspect, needed, any_order=any_order)) is not None:
        # Rows of 0 and 1 hold labels alone, and are scored as such; a scheme reads what it needs.
        shut = examined.treatment == ONE_HOT and not terms.by
        suspect = LabelsOnly(examined.oracle) if shut else examined.oracle
        probed = len(examined.labels)
    order = order_of(lineup)
    showing = show(lineup, terms, order, suspect, budget=rule.budget, match_labels=any_order, progress=progress)
    again = lineup.inputs[_sentinels(order[: showing.sent])]
    suspect.confirm(again if fingerprint.space.each(again) is None else again[:, 0])
    if secret is not None:
        _refuse_twin(lineup, secret, suspect)
    verdict = lineup_verdict(
        showing,
        place,
        terms,
        tests=rule.tests,
        turned=turned,
        origin=origin,
        recipe=lineup.recipe,
        fingerprint=identity(fingerprint),
        suspect=suspect.name,
    )
    queries = {
        **verdict.queries,
        "inputs_each": fingerprint.space.each(lineup.inputs) or 1,
        "probes": probed,
        **replays_of(suspect, before[1]),
    }
    caveats = verdict.caveats
    if queries["replayed"]:
        caveats = (*caveats, told_of_replays(queries, suspect.queries_spent - before[0]))
    if suspect.replayed.unsteady:
        caveats = (*caveats, UNSTEADY)
    return dataclasses.replace(
        verdict,
        queries=queries,
        caveats=caveats,
        interface=interface_of(suspect),
        record=record_of(fingerprint, suspect, rule),
    )


def _ordered(suspect: Oracle, fingerprint: Fingerprint, rule: Rule, terms: Terms) -> Oracle:
    """The suspect with its classes in the fingerprint's order, where both sides name them in the same words."""
    if rule.match_labels:  # the words are foreign, and say no order
        return suspect
    if terms.by:
        return ordered(SCHEMES.make(terms.by), fingerprint, suspect)
    try:
        return in_order_of(suspect, fingerprint.class_names)
    except UsageError as error:
        raise UsageError(f"{error}. Where the words are another language's or tell nothing: --match-labels") from None


def _sentinels(asked: Tensor) -> Tensor:
    """Positions of the questions that are asked again at the end: half of the first, half spread over the others.

    A model that was exchanged meanwhile, however late, gave most of the first answers itself.
    """
    first, others = asked[: SENTINELS // 2], asked[SENTINELS // 2 :]
    spread = torch.linspace(0, len(others) - 1, min(SENTINELS // 2, len(others))).round().long()
    return torch.cat([first, others[spread]])


def _admit(fingerprint: Fingerprint, lineup: Candidates, suspect: Oracle, rule: Rule, terms: Terms) -> None:
    if (suspect.space, suspect.classes, suspect.task) != (fingerprint.space, fingerprint.classes, fingerprint.task):
        raise UsageError(
            f"the lineup asks {fingerprint.space} of {fingerprint.classes} classes ({fingerprint.task}); "
            f"{suspect.name} takes {suspect.space} of {suspect.classes} ({suspect.task})"
        )
    if rule.alpha != share_of_alpha(terms.alpha, rule.tests):
        raise UsageError(
            f"alpha {terms.alpha:g} was fixed when this lineup of {len(lineup.digests) - 1} twins was made; "
            f"this is {rule.tests * rule.alpha:g}. Leave alpha out"
        )
    if rule.match_labels and fingerprint.class_names and set(fingerprint.class_names) == set(suspect.class_names):
        raise UsageError(f"the class_names of {suspect.name} say in which order its labels stand: do not match them")
    if terms.by and rule.match_labels:
        raise UsageError(
            f"a lineup by {terms.by.partition('(')[0]} reads classes in the order that the suspect states: say it "
            "(class_names), or make a lineup without --by"
        )
    if terms.by:
        admit_by(fingerprint, terms.by, suspect, rule.budget)
    if rule.group:
        raise UsageError("a lineup asks for no group of the suspect: leave it out")


def _refuse_twin(lineup: Candidates, secret: Secret, suspect: Oracle) -> None:
    sealed = {secret.seal(digest) for digest in digests_of(suspect)}
    twins = [each for place, each in enumerate(lineup.digests) if place != secret.place]
    if sealed & set(twins):
        raise UsageError(
            f"{suspect.name} is a twin of this lineup, by its weights; what a test is made of is not tested"
        )
