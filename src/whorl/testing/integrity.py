"""What every check of integrity must fail, and must pass.

It must see nothing of a model behind a keyed switch, of which answers alone show nothing, and must find one behind a
net that looks for a visible pattern, as often as inputs with that pattern are drawn.
"""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import Final

import torch

from whorl.data.base import Dataset
from whorl.oracles.keyed import KeyedSwitch
from whorl.oracles.learned_switch import LearnedSwitch, stamped
from whorl.oracles.torch import TorchOracle
from whorl.schemes.base import Scheme
from whorl.schemes.calibration import probes_of
from whorl.schemes.changes import check_unchanged
from whorl.storage import digest_tensors
from whorl.testing.nets import tiny_data
from whorl.testing.promises import promise
from whorl.types import Access, Evidence, Fingerprint, Rule, grants

__all__ = ["check_integrity"]

KEY: Final = bytes(range(32))
BITS: Final = 64
SHARE: Final = 4  # one picture in so many shows the pattern, of those that are drawn


def check_integrity(scheme: Scheme, fingerprint: Fingerprint, declared: TorchOracle) -> None:
    """Raise `AssertionError` unless the check sees a model without weights, and nothing of one behind a `KeyedSwitch`.

    That no check of answers sees it is a theorem (`docs/integrity.md`). One that seems to has false alarms, or looks
    at something beside answers, which a provider controls. One that needs more than answers refuses the switch, which
    grants no more, and must see the model without weights only.

    A model behind a `LearnedSwitch` has to be found, for of control pictures some of which show its pattern the share
    that it answers otherwise is what was measured of it: the answer is "changed", and its bound is no smaller.
    `check_scheme` runs this for every scheme of purpose "integrity".

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
    if declared.task == "classification":
        _check_learned(scheme, fingerprint, declared, other)


def _check_learned(scheme: Scheme, fingerprint: Fingerprint, declared: TorchOracle, other: TorchOracle) -> None:
    shown = tiny_data("test")
    pictures = shown.inputs()
    switch = LearnedSwitch(declared, other, pictures, generator=torch.Generator().manual_seed(0))
    marked = torch.arange(len(pictures)) % SHARE == 0
    controls = Dataset(
        torch.where(marked[:, None, None, None], stamped(pictures), pictures), shown.labels, shown.classes
    )
    rate = float((switch.labels(controls.inputs()) != declared.labels(controls.inputs())).double().mean())
    promise(rate > 1 / (3 * SHARE), "the learned switch of this contract turns too few answers to be found")
    found = check_unchanged(scheme, replace(fingerprint, probes=probes_of(declared, controls)), switch, Rule(0.05))
    promise(
        found.decision == "changed" and found.drawn_changed > 0 and found.upper >= rate,
        f"{scheme.name} does not see a model behind a learned switch, which answers {rate:.0%} of the control pictures "
        f"otherwise: {found.drawn_changed} of {found.drawn} changed, at most {found.upper:.0%}",
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
