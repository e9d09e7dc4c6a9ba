"""Is it exactly that model? The third question, whose null is the opposite one: nothing changed.

One answer that differs beyond what batch sizes, threads and exports do by themselves says that the model was changed.
Where none differs nothing says that it was not (`docs/integrity.md` has the proof): what can be stated is a bound on
how often it answers otherwise on inputs like those that were drawn. Of n inputs drawn from D, k changed; k is binomial
with the rate p of changed answers under D, and the upper bound of Clopper and Pearson lies below p with a chance of at
most alpha. Inputs that were made to see changes are drawn from no D: each changed answer counts, and their number not.

Source: Clopper & Pearson, *Biometrika* 26 (1934). Where some inputs are from one part and some from another the bound
holds for their mixture, since k spreads less then: Hoeffding, *Ann. Math. Statist.* 27 (1956), theorem 4.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from whorl.errors import UsageError
from whorl.metrics import clopper_pearson

__all__ = ["NO_PROOF", "Counted", "Integrity", "integrity", "upper_bound"]

NO_PROOF: Final = (
    "answers alone never show that a model is unchanged: one behind a keyed switch gives all of these answers, and "
    "others to who has the key (docs/integrity.md)"
)


@dataclass(frozen=True)
class Counted:
    """How many answers were compared, and how many of them changed."""

    changed: int = 0
    asked: int = 0

    def __add__(self, other: Counted) -> Counted:
        return Counted(self.changed + other.changed, self.asked + other.asked)


@dataclass(frozen=True)
class Integrity:
    """Whether a model answers as the declared one did: ``changed``, or ``no change shown`` with what that bounds.

    ``changed`` of ``asked`` answers differ, all in all. Of these, ``drawn`` are answers to inputs that were drawn from
    ``distribution``, and ``drawn_changed`` of them differ: the rate of changed answers on such inputs is at most
    ``upper``, but for a chance of ``alpha`` (1 where none was drawn). ``counted`` says what counts as a changed answer.
    ``record`` is what others check it by: date, versions, digests of suspect, victim and fingerprint.
    """

    decision: Literal["changed", "no change shown"]
    changed: int
    asked: int
    drawn_changed: int
    drawn: int
    upper: float
    alpha: float
    distribution: str
    counted: str
    scheme: str
    fingerprint: str
    suspect: str
    caveats: tuple[str, ...] = ()
    queries: Mapping[str, Any] = field(default_factory=dict[str, Any])
    interface: str = ""
    record: Mapping[str, Any] = field(default_factory=dict[str, Any], compare=False)


def upper_bound(drawn: Counted, alpha: float) -> float:
    """What the rate of changed answers does not exceed, but for a chance of alpha: 1 - alpha^(1/n) where none changed.

    Raises:
        UsageError: alpha is no chance between 0 and 1/2.
    """
    if not 0 < alpha < 0.5:
        raise UsageError(f"the bound of an integrity check fails with a chance between 0 and .5; alpha is {alpha:g}")
    return clopper_pearson(drawn.changed, drawn.asked, confidence=1 - 2 * alpha).high


def integrity(  # noqa: PLR0913 each is a field of the answer
    made: Counted,
    drawn: Counted,
    *,
    alpha: float,
    distribution: str,
    counted: str,
    scheme: str,
    fingerprint: str,
    suspect: str,
    caveats: tuple[str, ...] = (),
    queries: Mapping[str, Any] | None = None,
    interface: str = "",
    record: Mapping[str, Any] | None = None,
) -> Integrity:
    """The answer of a check.

    Parameters:
        made: answers to inputs that are drawn from no distribution. drawn: to those that are.
    """
    both = made + drawn
    told = list(caveats)
    if not both.changed:
        told.insert(0, NO_PROOF)
    if not drawn.asked:
        told.append("no input was drawn from a distribution, so nothing bounds how often other inputs are answered")
    return Integrity(
        decision="changed" if both.changed else "no change shown",
        changed=both.changed,
        asked=both.asked,
        drawn_changed=drawn.changed,
        drawn=drawn.asked,
        upper=upper_bound(drawn, alpha),
        alpha=alpha,
        distribution=distribution if drawn.asked else "",
        counted=counted,
        scheme=scheme,
        fingerprint=fingerprint,
        suspect=suspect,
        caveats=tuple(told),
        queries=queries or {},
        interface=interface,
        record=record or {},
    )
