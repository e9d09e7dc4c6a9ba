"""One verdict from several fingerprints of one victim.

Each fingerprint is tested at alpha / m, so that by Bonferroni's inequality the chance that any of m tests calls an
independent model derived is at most alpha, however the tests depend on each other (they share their suspect, and
mostly their null). Holm's step-down correction then says which of them hold each on its own.

Source: Holm, *A Simple Sequentially Rejective Multiple Test Procedure*, Scandinavian Journal of Statistics 6, 1979.
"""

from __future__ import annotations

from collections.abc import Sequence

from whorl.errors import UsageError
from whorl.types import Combination, Decision, Verdict

__all__ = ["combine", "holm", "share_of_alpha"]


def share_of_alpha(alpha: float, fingerprints: int) -> float:
    """The error rate at which each of so many fingerprints is tested."""
    if fingerprints < 1:
        raise UsageError("at least one fingerprint is needed to test a suspect")
    return alpha / fingerprints


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


def combine(verdicts: Sequence[Verdict], *, alpha: float) -> Combination:
    """The common answer of verdicts that were each given at ``alpha / m`` (`share_of_alpha`).

    It is derived when one of them is; otherwise unrelated when one of them is, and inconclusive when none can tell.

    Raises:
        UsageError: no verdict, or one that was given at another error rate.
    """
    each = share_of_alpha(alpha, len(verdicts))
    for verdict in verdicts:
        if abs(verdict.alpha - each) > 1e-12 * alpha:
            raise UsageError(
                f"{len(verdicts)} fingerprints that share an alpha of {alpha:g} are tested at {each:g} each; "
                f"{verdict.fingerprint} was tested at {verdict.alpha:g}"
            )
    adjusted = holm([verdict.p_value for verdict in verdicts])
    return Combination(
        decision=_decide([verdict.decision for verdict in verdicts]),
        p_value=min(adjusted),
        alpha=alpha,
        error_bound=min(1.0, sum(verdict.error_bound for verdict in verdicts)),
        adjusted=adjusted,
        verdicts=tuple(verdicts),
        caveats=tuple(dict.fromkeys(caveat for verdict in verdicts for caveat in verdict.caveats)),
    )


def _decide(decisions: Sequence[Decision]) -> Decision:
    for decision in ("derived", "unrelated"):
        if decision in decisions:
            return decision
    return "inconclusive"
