"""Which settings of a victim's fingerprint the models of a null have calibrated before.

Whoever calibrates with several k, seeds or budgets and keeps the one that shows best has chosen it on the very models
that are to judge it, and the error rate is then that of the best of several. One file of lines for each victim, in a
folder that the owner keeps, remembers what was calibrated with whom.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from whorl.expressions import parse
from whorl.fingerprints.memory import note, recall
from whorl.fingerprints.parts import Document, Name, Text
from whorl.types import Fingerprint, Null

__all__ = ["earlier_settings", "remember"]


class _Line(Document):
    settings: Text
    models: Annotated[tuple[Name, ...], Field(max_length=100_000)]


def earlier_settings(folder: Path, fingerprint: Fingerprint, null: Null) -> tuple[str, ...]:
    """Other settings of the same scheme and victim that a model of ``null`` has calibrated before.

    Raises:
        InvalidFile: what the folder remembers of this victim can't be read.
    """
    models = {model.digest for model in null.models}
    mine, scheme = _settings(fingerprint), parse(fingerprint.scheme).name
    lines = recall(folder, fingerprint.victim, _Line)
    met = (line.settings for line in lines if not models.isdisjoint(line.models))
    return tuple(dict.fromkeys(each for each in met if each != mine and each.partition("(")[0] == scheme))


def remember(folder: Path, fingerprint: Fingerprint, null: Null) -> None:
    """Note that ``null`` has calibrated the fingerprint. Raises `InvalidFile` where nothing can be written."""
    line = {"settings": _settings(fingerprint), "models": [model.digest for model in null.models]}
    note(folder, fingerprint.victim, line)


def _settings(fingerprint: Fingerprint) -> str:
    """What was chosen when the fingerprint was made: scheme, seed and number of queries."""
    return f"{fingerprint.scheme[:4000]}, seed {fingerprint.seed}, {len(fingerprint.queries)} queries"
