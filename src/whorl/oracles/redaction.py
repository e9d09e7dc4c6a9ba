"""Messages without the API key: an endpoint may echo it in whole or in part, as it was sent or written otherwise."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from typing import Final

__all__ = ["redacted"]

PIECE: Final = 6  # characters of a key in a row that give it away
MASK: Final = "***"
# One character of JSON, a URL, HTML or a Python string, written as its number.
_ESCAPE: Final = re.compile(
    r"\\u\{?00([0-9a-f]{2})\}?|\\x([0-9a-f]{2})|%(?:25)*([0-9a-f]{2})|&#x0*([0-9a-f]{2});|&#0*([0-9]{2,3});", re.I
)
_PACKED: Final = re.compile(r"[A-Za-z0-9+/_-]{8,}={0,2}")  # base64 and hexadecimal


def redacted(text: str, key: str) -> str:
    """``text`` with every part of ``key`` of 6 characters or more masked.

    Found are parts as they are, in other cases, split by marks or blanks, escaped as in JSON, HTML or a URL, and
    written in base64 or hexadecimal.
    """
    secret = "".join(character for character in key.lower() if character.isalnum())
    if not key:
        return text
    if len(secret) < PIECE:
        return text.replace(key, MASK)
    pieces = {secret[start : start + PIECE] for start in range(len(secret) - PIECE + 1)}
    plain = [(character, start, end) for character, start, end in _characters(text) if character.isalnum()]
    spelled = "".join(character for character, _, _ in plain)
    spans = [
        (plain[start][1], plain[start + PIECE - 1][2])
        for start in range(len(spelled) - PIECE + 1)
        if spelled[start : start + PIECE] in pieces
    ]
    spans += [match.span() for match in _PACKED.finditer(text) if _unpacked(match[0], pieces)]
    return _masked(text, sorted(spans))


def _characters(text: str) -> Iterator[tuple[str, int, int]]:
    """Each character in lower case as it is meant, and where it is written."""
    place = 0
    while place < len(text):
        escape = _ESCAPE.match(text, place)
        if escape is None:
            yield text[place].lower()[:1], place, place + 1
            place += 1
            continue
        digits = next(index for index in range(1, 6) if escape[index] is not None)
        yield chr(int(escape[digits], 10 if digits == 5 else 16)).lower()[:1], escape.start(), escape.end()
        place = escape.end()


def _unpacked(run: str, pieces: set[str]) -> bool:
    """Whether a run of characters holds a part of the key once it is decoded, wherever the decoding begins."""
    run = run.rstrip("=")
    standard = run.replace("-", "+").replace("_", "/")
    found: list[bytes] = []
    for skipped in range(4):
        part = standard[skipped:]
        part = part[:-1] if len(part) % 4 == 1 else part
        found.append(base64.b64decode(part + "=" * (-len(part) % 4)))
    for skipped in range(2):
        part = run[skipped:]
        try:
            found.append(binascii.unhexlify(part[: len(part) // 2 * 2]))
        except ValueError:
            continue
    for each in found:
        letters = "".join(character for character in each.decode("latin-1").lower() if character.isalnum())
        if any(piece in letters for piece in pieces):
            return True
    return False


def _masked(text: str, spans: list[tuple[int, int]]) -> str:
    parts: list[str] = []
    done = 0
    for start, end in spans:
        if start >= done:
            parts += [text[done:start], MASK]
        done = max(done, end)
    return "".join(parts) + text[done:]
