"""What every check of integrity must fail: a model behind a keyed switch, of which answers alone show nothing."""

from __future__ import annotations

import copy
import math
from typing import Final

import torch

from whorl.oracles.keyed import KeyedSwitch
from whorl.oracles.torch import TorchOracle
from whorl.schemes.base import Scheme
from whorl.storage import digest_tensors
from whorl.testing.promises import promise
from whorl.types import Access, Evidence, Fingerprint, grants

__all__ = ["check_integrity"]

KEY: Final = bytes(range(32))
BITS: Final = 64


def check_integrity(scheme: Scheme, fingerprint: Fingerprint, declared: TorchOracle) -> None:
    """Raise `AssertionError` unless the check sees a model without weights, and nothing of one behind a `KeyedSwitch`.

    That no check of answers sees it is a theorem (`docs/integrity.md`). One that seems to has false alarms, or looks
    at something beside answers, which a provider controls. One that needs more than answers refuses the switch, which
    grants no more, and must see the model without weights only. `check_scheme` runs this for every scheme of purpose
    "integrity".

    Parameters:
        fingerprint: what the scheme extracted from the declared model.
        declared: that model, as it answers a check.
    """
    name, other = scheme.name, _emptied(declared)
    own, changed = scheme.observe(fingerprint, declared), scheme.observe(fingerprint, other)
    promise(changed.similarity < own.similarity, f"{name} does not see that all weights are gone")
    if not scheme.demands()[1] <= grants(Access.LOGITS):
        return
    # Small inputs have room for less; 28 bits, of the smallest, are still carried by one question in 268 million.
    switch = KeyedSwitch(declared, other, KEY, bits=min(BITS, 7 * math.prod(declared.space.shape)))
    seen = scheme.observe(fingerprint, switch)
    promise(
        _alike(seen, own),
        f"{name} tells a keyed switch ({seen.similarity:g}) from the declared model ({own.similarity:g}), which no "
        "check of answers can: compare answers alone, and the same ones each time",
    )


@torch.no_grad()
def _emptied(declared: TorchOracle) -> TorchOracle:
    """The model with weights of 0, whose answers depend on no input: who does not see this sees nothing at all."""
    emptied = copy.deepcopy(declared)
    for weight in emptied._module.parameters():  # of our own making, so its access does not bind us
        weight.zero_()
    emptied.digest = digest_tensors(emptied._module.state_dict())
    return emptied


def _alike(first: Evidence, second: Evidence) -> bool:
    values = [each.per_query if each.per_query is not None else torch.empty(0) for each in (first, second)]
    return first.similarity == second.similarity and torch.equal(*values)
