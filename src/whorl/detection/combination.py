"""One verdict from several tests: fingerprints of one victim, rules, or suspects.

Each is tested at alpha / m, so that by Bonferroni's inequality the chance that any of m tests calls an independent
model derived is at most alpha, however the tests depend on each other: they share their suspect and mostly their null,
or their lineup. Holm's step-down correction then says which of them hold each on its own.

Source: Holm, *A Simple Sequentially Rejective Multiple Test Procedure*, Scandinavian Journal of Statistics 6, 1979.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

from whorl.errors import UsageError
from whorl.printable import counted
from whorl.types import Combination, Decision, Verdict

__all__ = ["Several", "check_reach", "combine", "holm", "share_of_alpha"]

Several = Literal["fingerprints", "rules", "suspects"]


def share_of_alpha(alpha: float, tests: int) -> float:
    """The error rate at which each of so many tests decides."""
    if tests < 1:
        raise UsageError("at least one fingerprint and one suspect are needed for a test")
    return alpha / tests


def check_reach(null: int, *, alpha: float, tests: int, models: str, more: str) -> None:
    """Refuse tests none of which could call anything derived: p can't be below 1/(N + 1), whoever is asked.

    Parameters:
        null: N, the number of models that a suspect, or the victim, is ranked among.
        alpha: of all tests together.
        models: what the N are called. more: how to get more of them.
    """
    share = share_of_alpha(alpha, tests)
    if share * (null + 1) < 1 - 1e-9:
        raise UsageError(
            f"{tests} tests share alpha {alpha:g}, and with {null} {models} nothing can be called derived at "
            f"{share:.4g}: at least {math.ceil(1 / share - 1e-9) - 1} are needed ({more}), or fewer tests"
        )


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Adjusted p-values, in the order given: reject those of at most alpha, and the chance of any false one is alpha.

    Shape:
        p_values: ``[m]`` in [0, 1]. Returns m floats in [0, 1].
    """
    adjusted = [1.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return tuple(adjusted)


def combine(
    verdicts: Sequence[Verdict],
    *,
    alpha: float,
    over: Several = "fingerprints",
    refused: Mapping[str, str] | None = None,
) -> Combination:
    """The common answer of verdicts that were each given at ``alpha / m`` (`share_of_alpha`).

    It is derived when one of them is. Otherwise fingerprints or rules of one suspect are unrelated when one of them is,
    and inconclusive when none can tell; several suspects are unrelated only when all of them are.

    Parameters:
        over: of what there are several.
        refused: by name, why a suspect could not be judged. It was one of those that share alpha.

    Raises:
        UsageError: no verdict, or one that was given at another error rate.
    """
    unjudged = dict(refused or {})
    tests = len(verdicts) + len(unjudged)
    each = share_of_alpha(alpha, tests)
    for verdict in verdicts:
        if abs(verdict.alpha - each) > 1e-12 * alpha:
            raise UsageError(
                f"{tests} {over} that share an alpha of {alpha:g} are tested at {each:g} each; "
                f"{verdict.fingerprint} was tested at {verdict.alpha:g}"
            )
    p_values = [verdict.p_value for verdict in verdicts]
    # Suspects are told by one and the same factor, whatever the others of them show.
    adjusted = tuple(min(1.0, tests * p) for p in p_values) if over == "suspects" else holm(p_values)
    return Combination(
        decision=_decide([verdict.decision for verdict in verdicts], over, len(unjudged)),
        p_value=min(adjusted, default=1.0),
        alpha=alpha,
        error_bound=min(1.0, sum(verdict.error_bound for verdict in verdicts)),
        adjusted=adjusted,
        verdicts=tuple(verdicts),
        caveats=_caveats(verdicts, over, tests, each),
        over=over,
        refused=unjudged,
    )


def _decide(decisions: Sequence[Decision], over: Several, unjudged: int) -> Decision:
    if "derived" in decisions:
        return "derived"
    unrelated = decisions.count("unrelated")
    if over == "suspects":
        return "unrelated" if unrelated == len(decisions) and not unjudged else "inconclusive"
    return "unrelated" if unrelated else "inconclusive"


def _caveats(verdicts: Sequence[Verdict], over: Several, tests: int, each: float) -> tuple[str, ...]:
    """What all verdicts say once, and of suspects what only some do with their names."""
    said = list(dict.fromkeys(caveat for verdict in verdicts for caveat in verdict.caveats))
    if over == "fingerprints":
        return tuple(said)
    if over == "rules":
        spent = " and ".join(
            f"{verdict.queries['spent']} by {verdict.scheme.partition('(')[0]}" for verdict in verdicts
        )
        return (f"both rules count, each at half of alpha, {each:g}; the suspect was asked {spent}", *said)
    first = (
        f"{counted(tests, 'suspect shares', 'suspects share')} alpha: each was tested at {each:g}, and p-values are "
        f"multiplied by {tests} (Bonferroni); verdicts by one fingerprint are not independent, so nothing finer is "
        "claimed"
    )
    common = [caveat for caveat in said if all(caveat in verdict.caveats for verdict in verdicts)]
    own = [f"{verdict.suspect}: {caveat}" for verdict in verdicts for caveat in verdict.caveats if caveat not in common]
    return (first, *common, *own)
