"""What shows whether a victim is one among equals, measured of every candidate, and the reasons where it is none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

import torch
from torch import Tensor

from whorl.data import Dataset
from whorl.detection.lineup import outermost
from whorl.errors import UsageError
from whorl.fingerprints.secret import Secret
from whorl.fingerprints.terms import terms_of
from whorl.oracles.base import Oracle
from whorl.oracles.torch import TorchOracle
from whorl.types import Access, Fingerprint

__all__ = ["answers_of", "figures_of", "with_reasons"]

MOST_CONTROLS: Final = 1000
MOST_CLASSES: Final = 1000  # of more, labels are kept
MOST_LETTERS: Final = 4096


def with_reasons(fingerprint: Fingerprint, secret: Secret, reasons: Mapping[str, str]) -> Fingerprint:
    """The fingerprint whose lineup also holds why its victim may stand among its twins, for each figure that is named.

    Raises:
        UsageError: a figure does not set the victim apart, or a reason is empty or too long.
    """
    lineup = fingerprint.candidates
    assert lineup is not None
    terms = terms_of(lineup, fingerprint.task)
    outside = outermost(terms.figures, secret.open(lineup))
    for name, reason in reasons.items():
        if name not in outside:
            what = f"what sets it apart is {', '.join(outside)}" if outside else "nothing does, so leave reasons out"
            raise UsageError(f"your model does not stand outside of its twins by {name!r}; {what}")
        if not 0 < len(reason.strip()) <= MOST_LETTERS:
            raise UsageError(f"the reason for {name} has 1 to {MOST_LETTERS:,} letters; this one has {len(reason):,}")
    settings = terms.model_copy(update={"reasons": {**terms.reasons, **reasons}}).document()
    return replace(fingerprint, candidates=replace(lineup, settings=settings))


def answers_of(oracle: Oracle, inputs: Tensor) -> Tensor:
    """Probabilities, or numbers, or labels where there is no more, or too many classes."""
    if oracle.task != "classification":
        return oracle.scores(inputs).detach().cpu().float()
    if oracle.access is Access.LABELS or oracle.classes > MOST_CLASSES:
        return oracle.labels(inputs).cpu()
    return oracle.probabilities(inputs).detach().cpu().float()


def figures_of(
    candidates: Sequence[Oracle], held_out: Dataset | None, learned: Dataset | None
) -> dict[str, tuple[float, ...]]:
    """What shows whether the victim is one among equals, for every candidate.

    ``accuracy``, mean ``agreement`` with the others and ``confidence`` on inputs that nobody learned from (of numbers
    the mean squared ``error``), ``loss`` on those that all learned from, ``parameters`` where weights may be seen.
    """
    found: dict[str, tuple[float, ...]] = {}
    sizes = [_parameters(each) for each in candidates]
    if None not in sizes:
        found["parameters"] = tuple(float(size or 0) for size in sizes)
    if candidates[0].task == "generation":
        return found
    if candidates[0].task == "regression":
        for name, data in (("error", held_out), ("loss", learned)):
            if (data := _some(data, candidates[0].classes)) is not None:
                found[name] = tuple(_error(each, data) for each in candidates)
        return {name: tuple(round(value, 9) for value in values) for name, values in found.items()}
    classes = candidates[0].classes
    if (held_out := _some(held_out, classes)) is not None:
        answers = [answers_of(each, held_out.inputs()) for each in candidates]
        labels = torch.stack([each if each.ndim == 1 else each.argmax(1) for each in answers])
        found["accuracy"] = tuple(float((row == held_out.labels).double().mean()) for row in labels)
        found["agreement"] = tuple(
            float(((labels == row).double().mean(1).sum() - 1) / (len(labels) - 1)) for row in labels
        )
        if answers[0].ndim == 2:
            found["confidence"] = tuple(float(each.max(1).values.double().mean()) for each in answers)
    if (learned := _some(learned, classes)) is not None:
        found["loss"] = tuple(_loss(each, learned) for each in candidates)
    return {name: tuple(round(value, 9) for value in values) for name, values in found.items()}


def _some(data: Dataset | None, classes: int) -> Dataset | None:
    """Some inputs of known outcome; None where there are none, or others than the candidates' are known."""
    known = data is not None and len(data) > 0 and data.outputs == classes
    return data.subset(slice(0, MOST_CONTROLS)) if data is not None and known else None


def _parameters(oracle: Oracle) -> int | None:
    """How many numbers a network learned; None where its weights may not be seen."""
    if not isinstance(oracle, TorchOracle) or oracle.access < Access.WEIGHTS:
        return None
    return sum(each.numel() for each in oracle.module.parameters())


def _error(oracle: Oracle, data: Dataset) -> float:
    """Mean squared error."""
    return float((answers_of(oracle, data.inputs()).double() - data.labels).square().mean())


def _loss(oracle: Oracle, data: Dataset) -> float:
    """Mean loss on pictures that the candidates learned from: cross-entropy, of labels the share of errors."""
    answers = answers_of(oracle, data.inputs())
    if answers.ndim == 1:
        return float((answers != data.labels).double().mean())
    return float(-answers.double().gather(1, data.labels.unsqueeze(1)).clamp_min(1e-12).log().mean())
