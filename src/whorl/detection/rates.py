"""A rate that may be watched for ever: an e-process against "it is at most so much"."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import betaln  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]

from whorl.errors import UsageError
from whorl.metrics import Scores

__all__ = ["log_rate_evidence"]


def log_rate_evidence(flags: ArrayLike, most: float) -> Scores:
    """The log of an e-process after each flag against the hypothesis that flags come with a rate of at most ``most``.

    Claim:
        If every flag is set with a chance of at most ``most``, whatever came before, then with a chance of at least
        1 - alpha the process is never above log(1 / alpha): one may look after every flag and stop at will.

    Proof sketch:
        For q > most the product of q / most for a set flag and (1 - q) / (1 - most) for another is a non-negative
        supermartingale that begins at 1, as its factor increases in the chance and has the mean 1 at ``most``. The
        process is the mean of these products over q uniform in (most, 1), so it is one too; Ville's inequality.

    Shape:
        flags: ``[n]`` of 0 and 1, in the order in which inputs were drawn. Returns ``[n]``.

    Source: Ville, 1939; such mixtures: Robbins, Annals of Mathematical Statistics 41 (1970).
    """
    given = np.asarray(flags, dtype=np.float64)
    if not 0 < most < 1:
        raise UsageError(f"a rate to refute lies between 0 and 1, as in 0.01; this is {most:g}")
    if given.ndim != 1 or not np.isin(given, (0, 1)).all():
        raise UsageError("flags are 0 or 1, one for each input")
    hits, seen = np.cumsum(given), np.arange(1, len(given) + 1)
    missed = seen - hits
    beta: Any = importlib.import_module("scipy.stats").beta  # late, as it takes half a second, and it has no types
    above: Scores = beta.logsf(most, hits + 1, missed + 1)
    joint = betaln(hits + 1, missed + 1) + above
    return np.asarray(joint - np.log1p(-most) - hits * np.log(most) - missed * np.log1p(-most), np.float64)
