"""How long an endpoint asks to be left alone, as it says so itself."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

__all__ = ["estimated", "seconds"]

_LONG: Final = 1e9  # seconds, beyond which a wait is no number to reckon with


def seconds(retry_after: str | None) -> float | None:
    """What ``Retry-After`` says, a number of seconds or a date (RFC 9110, section 10.2.3); None where unreadable."""
    if retry_after is None:
        return None
    if retry_after.isascii() and retry_after.isdigit():
        return float(retry_after[:12])
    try:
        date = parsedate_to_datetime(retry_after)
    except (ValueError, TypeError, OverflowError):
        return None
    date = date if date.tzinfo else date.replace(tzinfo=UTC)
    return max(0.0, (date - datetime.now(UTC)).total_seconds())


def estimated(complaint: bytes) -> float | None:
    """``estimated_time``, the seconds until a model of Hugging Face is loaded; a guess, so it is waited for in part."""
    try:
        seconds = json.loads(complaint)["estimated_time"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return float(seconds) if type(seconds) in (int, float) and 0 <= seconds < _LONG else None
