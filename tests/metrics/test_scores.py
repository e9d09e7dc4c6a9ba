"""What is taken as scores."""

from __future__ import annotations

import numpy as np
import pytest

from whorl.errors import UsageError
from whorl.metrics import as_scores


def test_scores_are_doubles_whatever_they_were():
    for given in ([1, 2], (True, False), np.ones(2, np.float32), np.arange(2)):
        assert as_scores(given, "scores").dtype == np.float64


def test_too_few_are_refused_by_name():
    assert len(as_scores([], "scores", least=0)) == 0
    for given, least in (([], 1), ([0.1], 2)):
        with pytest.raises(UsageError, match=f"similarities: {len(given)} given, at least {least} needed"):
            as_scores(given, "similarities", least=least)
