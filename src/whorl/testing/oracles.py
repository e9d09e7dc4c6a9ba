"""The contract of an oracle: right answers in order, every query counted, nothing granted that was not declared."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import ExitStack

import torch
from torch import Tensor, nn

from whorl.errors import AccessRefused, UsageError
from whorl.oracles.base import Oracle
from whorl.spaces import Pictures
from whorl.testing.promises import promise
from whorl.testing.unchanged import chance_unchanged, lent, module_unchanged, same_bytes
from whorl.types import Access

__all__ = ["check_oracle"]

COUNT = 13  # prime, so that no batch size divides it
TOLERANCE = 1e-4  # relative: batches of other sizes add up in another order


def check_oracle(
    make: Callable[[Access], Oracle],
    *,
    levels: Sequence[Access] | None = None,
    inputs: Tensor | None = None,
) -> None:
    """Raise `AssertionError` unless oracles of one model keep the contract.

    Parameters:
        make: a fresh oracle of always the same deterministic model, granting the given level.
        levels: the levels at which the model can answer: labels, probabilities and logits of a classifier by
            default, and the outputs, which count as logits, of a model of another task.
        inputs: at least 13 inputs to ask, where its space is not pictures.
    """
    answers: dict[Access, Tensor] = {}
    for level in levels or _levels_of(make(Access.LOGITS)):
        first = make(level)
        _check_identity(first, make(level), level)
        asked = _pictures(first) if inputs is None else inputs[:COUNT]
        answers[level] = _check_answers(first, asked, level)
        _check_batches(make(level), asked, answers[level])
        _check_shapes(make(level), asked)
        _check_refusals(make(level), asked, level)
        _check_borrowed(make(level), asked)
    _check_levels(answers)


def _levels_of(oracle: Oracle) -> tuple[Access, ...]:
    classifies = oracle.task == "classification"
    return (Access.LABELS, Access.PROBABILITIES, Access.LOGITS) if classifies else (Access.LOGITS,)


def _pictures(oracle: Oracle) -> Tensor:
    promise(isinstance(oracle.space, Pictures), f"{oracle.name} takes {oracle.space}: give check_oracle some inputs")
    return torch.rand(COUNT, *oracle.input_shape, generator=torch.Generator().manual_seed(0))


def _check_identity(first: Oracle, second: Oracle, level: Access) -> None:
    promise(first.access is level, f"{first.name} was asked to grant {level.name} and grants {first.access.name}")
    promise(
        first.queries_spent == 0, f"{first.name} has spent {first.queries_spent} queries before the first was asked"
    )
    promise(all(size > 0 for size in first.space.shape), f"the sizes of an input are above 0, not {first.space.shape}")
    least = 2 if first.task == "classification" else 1
    promise(first.classes >= least, f"{first.name} has {first.classes} outputs; {first.task} has {least} or more")
    for field in ("space", "classes", "digest", "task"):
        promise(getattr(first, field) == getattr(second, field), f"two oracles of one model differ in {field}")


def _check_answers(oracle: Oracle, inputs: Tensor, level: Access) -> Tensor:
    asked = inputs.clone()
    with chance_unchanged(oracle.name):
        answers = oracle.answers(asked)
    promise(same_bytes(asked, inputs), f"{oracle.name} writes to the inputs that it is asked about")
    promise(oracle.queries_spent == COUNT, f"{oracle.name} counts {oracle.queries_spent} of {COUNT} queries asked")
    if level is Access.LABELS:
        promise(answers.dtype == torch.int64 and answers.shape == (COUNT,), "labels are int64 [n]")
        promise(0 <= int(answers.min()) and int(answers.max()) < oracle.classes, "a label lies in 0..classes-1")
        return answers
    promise(
        answers.dtype == torch.float32 and answers.shape == (COUNT, oracle.classes), "scores are float32 [n, classes]"
    )
    promise(bool(answers.isfinite().all()), f"{oracle.name} answers with NaN or infinity")
    if level is Access.PROBABILITIES:
        promise(float(answers.min()) >= 0, "a probability is at least 0")
        # Providers round and cut their lists, so a row may sum to less than 1.
        promise(float(answers.sum(1).max()) <= 1 + 0.01 * oracle.classes, "the probabilities of a row sum to 1 at most")
    return answers


def _check_borrowed(oracle: Oracle, inputs: Tensor) -> None:
    """A module that an oracle holds is borrowed: whoever lent it finds it as it was, in all its parts."""
    modules = [value for value in vars(oracle).values() if isinstance(value, nn.Module)]
    inner = getattr(oracle, "inner", None)
    if isinstance(inner, Oracle):
        modules += [value for value in vars(inner).values() if isinstance(value, nn.Module)]
    with ExitStack() as stack:
        for module in modules:
            lent(module)
            stack.enter_context(module_unchanged(module, oracle.name))
        oracle.answers(inputs)


def _check_batches(oracle: Oracle, inputs: Tensor, answers: Tensor) -> None:
    backwards, edge = torch.arange(COUNT - 1, -1, -1), _rounding_step(oracle)
    promise(
        _alike(oracle.answers(inputs[backwards]), answers[backwards], edge),
        f"{oracle.name} does not answer in the order of the inputs",
    )
    single = torch.cat([oracle.answers(each) for each in inputs.split(1)])
    promise(_alike(single, answers, edge), f"{oracle.name} answers otherwise when it is asked one by one")
    promise(
        oracle.queries_spent == 2 * COUNT,
        f"{oracle.name} counts {oracle.queries_spent} of {2 * COUNT} queries asked in several calls",
    )


def _check_shapes(oracle: Oracle, inputs: Tensor) -> None:
    for wrong in (torch.cat([inputs, inputs], -1), torch.cat([inputs, inputs], 1), inputs[0], inputs[None]):
        try:
            oracle.answers(wrong)
        except UsageError:
            continue
        sizes = ", ".join(map(str, oracle.space.shape))
        raise AssertionError(f"{oracle.name} takes inputs {list(wrong.shape)}; only [n, {sizes}] fit")
    promise(oracle.queries_spent == 0, f"{oracle.name} counts queries that it refused")


def _check_refusals(oracle: Oracle, inputs: Tensor, level: Access) -> None:
    above: dict[Access, Callable[[], object]] = {
        Access.PROBABILITIES: lambda: oracle.probabilities(inputs),
        Access.LOGITS: lambda: oracle.logits(inputs),
        Access.GRADIENTS: lambda: getattr(oracle, "differentiable", _absent)(),
        Access.WEIGHTS: lambda: getattr(oracle, "module", None) or _absent(),
    }
    if oracle.task != "classification":
        above = {Access.LABELS: lambda: oracle.labels(inputs), **above}
    for needed, ask in above.items():
        if needed > level or (oracle.task != "classification" and needed < Access.LOGITS):
            try:
                ask()
            except AccessRefused:
                continue
            raise AssertionError(f"{oracle.name} ({oracle.task}) grants {level.name} and still gives {needed.name}")
    promise(oracle.queries_spent == 0, f"{oracle.name} asks the model before it refuses")


def _absent() -> None:
    raise AccessRefused("not offered")


def _check_levels(answers: dict[Access, Tensor]) -> None:
    labels, probabilities, logits = (
        answers.get(level) for level in (Access.LABELS, Access.PROBABILITIES, Access.LOGITS)
    )
    if probabilities is not None and logits is not None:
        promise(_alike(probabilities, logits.softmax(1)), "probabilities are not the softmax of the logits")
    for name, scores in (("probability", probabilities), ("logit", logits)):
        if labels is not None and scores is not None:
            # Equal scores may go either way.
            chosen = scores.gather(1, labels[:, None]).squeeze(1)
            promise(_alike(chosen, scores.amax(1)), f"a label is not the class of the largest {name}")


def _rounding_step(oracle: Oracle) -> float:
    """One in the last place of an oracle that rounds, which another batch may turn at an edge; 0 of others."""
    decimals = re.findall(r"Rounded\(decimals=(\d+)\)", oracle.treatment)
    return 10.0 ** -int(decimals[-1]) if decimals else 0.0


def _alike(first: Tensor, second: Tensor, edge: float = 0.0) -> bool:
    if first.shape != second.shape or first.dtype != second.dtype:
        return False
    if not first.is_floating_point():
        return torch.equal(first, second)
    return bool((first - second).abs().max() <= edge + TOLERANCE * second.abs().max().clamp_min(1e-12))
