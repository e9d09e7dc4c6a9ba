"""Settings under which a removal does nothing are no removal: they would pass for a copy that survived it."""

import pytest
import torch

from whorl.errors import UsageError
from whorl.removals import REMOVALS
from whorl.testing import tiny_victim


@pytest.mark.parametrize(
    "removal",
    [
        "regularise(decay_epochs=0, epochs=0)",
        "shift_weights(strength=0, noise=0, epochs=0)",
    ],
)
def test_nothing_done_is_refused(attacker_data, removal):
    with pytest.raises(UsageError, match="its outcome is the victim"):
        REMOVALS.make(removal)(tiny_victim(), attacker_data, generator=torch.Generator().manual_seed(0))


def test_whatever_does_something_is_not(attacker_data):
    made = REMOVALS.make("shift_weights(strength=0.1, noise=0, epochs=0)")
    net = made(tiny_victim(), attacker_data, generator=torch.Generator().manual_seed(0))
    assert not net.training
