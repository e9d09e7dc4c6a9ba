"""Which settings of a victim's fingerprint the models of a null have calibrated before.

Whoever calibrates with several k, seeds or budgets and keeps the one that shows best has chosen it on the very models
that are to judge it, and the error rate is then that of the best of several. One file of lines for each victim, in a
folder that the owner keeps, remembers what was calibrated with whom.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Final

from pydantic import Field, ValidationError

from whorl.errors import InvalidFile
from whorl.expressions import parse
from whorl.fingerprints.parts import Document, Name, Text
from whorl.storage import canonical_json
from whorl.types import Fingerprint, Null

__all__ = ["earlier_settings", "remember"]

MOST_BYTES: Final = 64 << 20


class _Line(Document):
    settings: Text
    models: Annotated[tuple[Name, ...], Field(max_length=100_000)]


def earlier_settings(folder: Path, fingerprint: Fingerprint, null: Null) -> tuple[str, ...]:
    """Other settings of the same scheme and victim that a model of ``null`` has calibrated before.

    Raises:
        InvalidFile: what the folder remembers of this victim can't be read.
    """
    path, models = _path(folder, fingerprint), {model.digest for model in null.models}
    mine, scheme = _settings(fingerprint), parse(fingerprint.scheme).name
    try:
        if path.stat().st_size > MOST_BYTES:
            raise InvalidFile(f"{path} is larger than {MOST_BYTES:,} bytes; move it away to begin another")
        lines = [_Line.model_validate_json(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except FileNotFoundError:
        return ()
    except (OSError, UnicodeDecodeError, ValidationError):
        raise InvalidFile(f"{path} can't be read; move it away to begin another") from None
    met = (line.settings for line in lines if not models.isdisjoint(line.models))
    return tuple(dict.fromkeys(each for each in met if each != mine and each.partition("(")[0] == scheme))


def remember(folder: Path, fingerprint: Fingerprint, null: Null) -> None:
    """Note that ``null`` has calibrated the fingerprint. Raises `InvalidFile` where nothing can be written."""
    path = _path(folder, fingerprint)
    line = {"settings": _settings(fingerprint), "models": [model.digest for model in null.models]}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(canonical_json(line).decode() + "\n")
    except OSError as error:
        raise InvalidFile(f"{path} can't be written: {error.strerror}") from None


def _path(folder: Path, fingerprint: Fingerprint) -> Path:
    return folder / f"{hashlib.sha256(fingerprint.victim.encode()).hexdigest()[:32]}.jsonl"


def _settings(fingerprint: Fingerprint) -> str:
    """What was chosen when the fingerprint was made: scheme, seed and number of queries."""
    return f"{fingerprint.scheme[:4000]}, seed {fingerprint.seed}, {len(fingerprint.queries)} queries"
