"""A statistic by its name, for the verb that it fits: some judge nets, others pictures."""

from __future__ import annotations

from whorl.errors import UsageError
from whorl.expressions import parse
from whorl.inspection import INSPECTIONS, SIEVES
from whorl.inspection.base import Statistic
from whorl.inspection.sieve import Sieve

__all__ = ["sieve", "statistic"]


def statistic(asked: Statistic | str) -> Statistic:
    """One that judges nets. Raises `UsageError` for any other name, with the verb for those that judge pictures."""
    if not isinstance(asked, str):
        return asked
    if parse(asked).name in SIEVES:
        raise UsageError(f"{parse(asked).name} judges pictures and no net: type whorl sift, or whorl.sift in Python")
    return INSPECTIONS.make(asked)


def sieve(asked: Sieve | str) -> Sieve:
    """One that judges pictures. Raises `UsageError` for any other name, with the verb for those that judge nets."""
    if not isinstance(asked, str):
        return asked
    if parse(asked).name in INSPECTIONS:
        raise UsageError(f"{parse(asked).name} judges nets and no pictures: type whorl inspect, or whorl.inspect")
    return SIEVES.make(asked)
