"""Rates that are none; the process itself is tested in `tests/explanations/test_nearest_disagreement.py`."""

from __future__ import annotations

import pytest

from whorl.detection.rates import log_rate_evidence
from whorl.errors import UsageError


@pytest.mark.parametrize("most", [0.0, 1.0, 1.5, -0.1])
def test_a_rate_to_refute_lies_between_0_and_1(most):
    with pytest.raises(UsageError, match="between 0 and 1"):
        log_rate_evidence([0, 1], most)
