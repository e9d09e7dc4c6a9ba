"""One fingerprint that holds something in every field, and what makes two fingerprints equal."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch

from whorl.fingerprints.second import look_after
from whorl.fingerprints.secret import Secret
from whorl.spaces import Pictures
from whorl.types import (
    Calibration,
    Candidates,
    Fingerprint,
    Mark,
    Null,
    NullModel,
    Probes,
    Queries,
    Representation,
)

SPACE = Pictures((1, 2, 2))
SECRET = Secret("ab" * 32, 1)


def fingerprint(n: int = 4) -> Fingerprint:
    inputs = torch.arange(n * 4, dtype=torch.float32).reshape(n, 1, 2, 2) / (n * 4)
    answers = torch.linspace(-1, 1, n * 3).reshape(n, 3)
    models = tuple(NullModel(name, name * 20, f"train({name})", 0.5, "LABELS", "resnet8") for name in "abc")
    null = Null("trained anew", models, (0.1, 0.25, 1 / 3), siblings=1, probes=torch.stack([answers] * 3))
    made = Fingerprint(
        scheme="ipguard(margin=5)",
        victim="0123abcd",
        queries=Queries(inputs, {"seed": inputs / 2, "target": torch.arange(n)}, {"converged": 0.75, "steps": [1, 2]}),
        reference=Representation(torch.arange(n) % 3),
        space=SPACE,
        data="digits",
        seed=2**63,
        classes=3,
        seconds=1.5,
        calibration=Calibration(null, {"prune_weights(p=0.5)": (1.0, 0.75)}),
        versions={"whorl": "0.1.0", "torch": "2.13.0"},
        pool=("aa", "bb"),
        class_names=("cat", "dog", "owl"),
        provenance={"margin": "the default"},
        nonce="00ff",
        probes=Probes(inputs, torch.tensor([0, 2, -1, -1])[:n], answers),
        candidates=Candidates(
            Queries(inputs),
            torch.arange(2 * n).reshape(2, n) % 3,
            ("x", "y"),
            SECRET.commitment,
            "train(mlp, digits)",
            {"m": 8},
        ),
        mark=Mark("labels", inputs, torch.arange(n) % 3, {"round": 7}),
    )
    look = look_after(made, date="2026-11-28T12:00:00Z", suspect="s.onnx", rule="alpha=0.01", decision="unrelated")
    made = replace(made, looks=(look,))
    again = look_after(made, date="2026-11-29T12:00:00Z", suspect="t.onnx", rule="alpha=0.01", decision="derived")
    return replace(made, looks=(look, again))


def same(left: Any, right: Any) -> bool:
    """Equal in every field, tensors to the bit."""
    if isinstance(left, torch.Tensor):
        return isinstance(right, torch.Tensor) and left.dtype == right.dtype and torch.equal(left, right)
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if is_dataclass(left):
        return type(left) is type(right) and all(
            same(getattr(left, field.name), getattr(right, field.name)) for field in fields(left)
        )
    return bool(left == right)
