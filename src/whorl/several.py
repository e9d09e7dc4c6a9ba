"""Several tests about one victim with one error rate: fingerprints or rules of one suspect, or several suspects."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from whorl.detection.combination import combine, share_of_alpha
from whorl.errors import UsageError, WhorlError
from whorl.fingerprints.second import identity
from whorl.fingerprints.secret import Secret
from whorl.suspects import (
    asked,
    earlier_looks,
    in_order,
    judged,
    known_fingerprint,
    one_of,
    order_for,
    refuse_changes,
    refuse_unfinished,
    rule_for,
)
from whorl.types import Combination, Fingerprint, Rule, Verdict

__all__ = ["verify_all", "verify_both", "verify_suspects"]


def verify_all(
    fingerprints: Sequence[Fingerprint | str | Path],
    suspect: Any,
    *,
    alpha: float = 0.01,
    record: Path | str | None = None,
    replay: bool = False,
    cache: Path | None = None,
    progress: Callable[[int], None] = lambda _: None,
    **options: Any,
) -> Combination:
    """Was the suspect made from the victim of several fingerprints? With one error rate for all of them together.

    Each is tested at ``alpha / m``, so m fingerprints need nulls m times as large (`whorl.detection.combination`).

    Raises:
        UsageError: the fingerprints are of several victims, one is given twice, or one holds a lineup and no null.
    """
    known = [known_fingerprint(each) for each in fingerprints]
    for each in known:
        refuse_changes(each)
    if any(each.candidates is not None and each.calibration is None for each in known):
        raise UsageError("a lineup is held alone: give one fingerprint, or calibrate those that have no null")
    if len({each.victim for each in known}) > 1:
        raise UsageError("these fingerprints are of different victims; verify the suspect against each victim alone")
    if len({identity(each) for each in known}) < len(known):
        raise UsageError("one fingerprint is given twice; each counts once")
    by = Rule(share_of_alpha(alpha, len(known)), tests=len(known))
    verdicts: list[Verdict] = []
    with asked(known, suspect, by, options, record=record, replay=replay, cache=cache) as oracle:
        for given, one in zip(fingerprints, known, strict=True):
            verdicts += judged(given, one, oracle, [by], None, cache, progress)
    return combine(verdicts, alpha=alpha)


def verify_both(
    fingerprint: Fingerprint | str | Path,
    suspect: Any,
    *,
    alpha: float | None = None,
    secret: Secret | Path | str | None = None,
    record: Path | str | None = None,
    replay: bool = False,
    cache: Path | None = None,
    progress: Callable[[int], None] = lambda _: None,
    **options: Any,
) -> Combination:
    """Was the suspect made from the victim, where both rules shall count, each at half of the lineup's alpha?

    The first verdict is the lineup's. It is derived when one of them is. Parameters are those of `whorl.verify`. Labels
    can't be matched, as the population rule reads them in their stated order.

    Raises:
        UsageError: there is no lineup, or it or the null is too small for half of alpha; said before the first query.
    """
    known = known_fingerprint(fingerprint)
    rules = [rule_for(known, "lineup", alpha, None, tests=2)]
    rules.append(rule_for(known, "population", 2 * rules[0].alpha, None, tests=2))
    with asked([known], suspect, rules[0], options, record=record, replay=replay, cache=cache) as oracle:
        verdicts = judged(fingerprint, known, oracle, rules, secret, cache, progress)
    return combine(verdicts, alpha=2 * rules[0].alpha, over="rules")


def verify_suspects(  # noqa: PLR0913 each is an option of `whorl verify`
    fingerprint: Fingerprint | str | Path,
    suspects: Mapping[str, Any],
    *,
    rule: Literal["lineup", "population"] | None = None,
    alpha: float | None = None,
    budget: int | None = None,
    match_labels: bool = False,
    align_to: Any = None,
    secret: Secret | Path | str | None = None,
    replay: bool = False,
    cache: Path | None = None,
    progress: Callable[[int], None] = lambda _: None,
    **options: Any,
) -> Combination:
    """Which of several suspects were made from the victim? k of them share alpha, each is tested at alpha / k.

    Verdicts by one fingerprint are not independent, so p-values are multiplied by k and nothing finer. A suspect that
    can't be judged is told and still counts.

    Parameters:
        suspects: by name, fixed before any of them is asked.
        options: as in `whorl.extract`, for all suspects that take them.

    The others are those of `whorl.verify`.

    Raises:
        UsageError: the lineup or the null is too small for so many suspects; said before the first query.
    """
    known = known_fingerprint(fingerprint)
    refuse_unfinished(fingerprint, known, rule)
    earlier = earlier_looks(fingerprint, known, cache)
    order = order_for(known, align_to, **options)
    by = in_order(rule_for(known, rule, alpha, budget, tests=len(suspects), match_labels=match_labels), order)
    verdicts: list[Verdict] = []
    refused: dict[str, str] = {}
    for name, model in suspects.items():
        try:
            oracle = one_of(known, model, **options)
            with asked([known], oracle, by, {}, record=None, replay=replay, cache=cache, align_to=order) as recorded:
                found = judged(fingerprint, known, recorded, [by], secret, cache, progress, earlier)
            verdicts += [replace(verdict, suspect=name) for verdict in found]
        except WhorlError as error:  # of one suspect, which must not cost the others
            refused[name] = str(error)
            if len(refused) == len(suspects):
                raise
    return combine(verdicts, alpha=by.tests * by.alpha, over="suspects", refused=refused)
