"""Numbers and foreign names as people read them."""

from __future__ import annotations

import re
from collections.abc import Iterable

from whorl.metrics import ClusterEstimate, Interval
from whorl.types import Grants, told

__all__ = [
    "around",
    "granted",
    "interval",
    "listed",
    "ordinal",
    "p_value",
    "percent",
    "plain",
    "rate",
    "seconds",
    "share",
    "slug",
]


def rate(value: float) -> str:
    """A matching rate as the field writes it: ``.97``, ``1.00``, ``0``-led only where there is nothing else."""
    written = f"{value:.2f}"
    return written.replace("0.", ".", 1) if written.lstrip("-").startswith("0.") else written


def interval(of: Interval) -> str:
    """``[.91, .98]``."""
    return f"[{rate(of.low)}, {rate(of.high)}]"


def around(of: ClusterEstimate) -> str:
    """``[.91, .98]``, an interval; ``.91 to .98``, the range of victims that are too few for one."""
    return interval(of.interval) if of.told != "range" else f"{rate(of.around.low)} to {rate(of.around.high)}"


def percent(share: float) -> str:
    """``5 %``, with a decimal below ten and two below one, and a space that does not break."""
    value = 100 * share
    digits = 0 if value >= 10 or value == round(value) else 1 if value >= 1 else 2
    return f"{value:.{digits}f}\N{NO-BREAK SPACE}%"


def granted(access: Grants) -> str:
    """``logits``, or ``features and labels`` where no level of the ladder holds just these."""
    return told(access).lower()


def p_value(value: float) -> str:
    """Two significant digits, never rounded to 0."""
    return f"{value:.2g}" if value >= 1e-4 or not value else f"{value:.1e}"


def seconds(value: float) -> str:
    """Three significant digits from a tenth of a second on."""
    if value < 0.1:
        return "< 0.1"
    return f"{value:,.1f}" if value < 100 else f"{value:,.0f}"


def listed(words: Iterable[str]) -> str:
    """``a, b and c``."""
    *most, last = list(words)
    return f"{', '.join(most)} and {last}" if most else last


def ordinal(number: int) -> str:
    """``1st``, ``2nd``, ``11th``."""
    ending = {1: "st", 2: "nd", 3: "rd"}.get(number % 10 if number % 100 not in (11, 12, 13) else 0, "th")
    return f"{number}{ending}"


def share(value: float) -> str:
    """A number as CSS reads it, within [0, 1]."""
    return f"{min(max(value, 0.0), 1.0):.4f}"


def slug(name: str) -> str:
    """A name as part of an address: small letters, digits and single hyphens, at most 60."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:60] or "unnamed"


def plain(name: object, limit: int = 200) -> str:
    """A name that others chose, without line breaks, control and direction marks, and shortened in the middle.

    Escaping keeps markup out; this keeps out what turns text around or is forbidden in XML.
    """
    written = "".join(mark if mark.isprintable() else "\N{REPLACEMENT CHARACTER}" for mark in str(name))
    return written if len(written) <= limit else f"{written[: limit - limit // 3]}…{written[-(limit // 3) :]}"
