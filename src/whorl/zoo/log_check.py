"""Is a training log consistent with its recipe?

What is checked: that its lines are whole and follow every anchor that was kept elsewhere; that it ends in the model at
hand; that the initial weights were drawn as its architecture's are, and that for a recipe of whorl's they, the settings
and every batch are the recipe's own, to the bit; and that segments drawn after the root was fixed replay, with a
relative error (`whorl.zoo.replay`) of at most that of the verifier's own honest replays.

If the n own segments and the r drawn ones are exchangeable, an honest log fails with a chance of at most r / (n + r):
one of the drawn has to be the worst of all. A log of which a share s of segments is bad passes with (1 - s)^r. Neither
bounds what an imitation costs: that it costs more than the training in all attacks tried is a measurement
(docs/logs.md), and Fang et al. (arXiv 2208.03567) show why no proof is in sight.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Final, Literal

import torch
from annotated_types import Ge, Gt, Le
from scipy.stats import kstest
from torch import nn

from whorl.attest.training import Anchor, SegmentDraw, TrainingLog
from whorl.detection.combination import holm
from whorl.errors import InvalidFile, UsageError
from whorl.nets.training import batches, fitting, optimisation
from whorl.settings import Checked
from whorl.storage import digest_tensors
from whorl.zoo.logged import Batch, State, claims_of, header_of
from whorl.zoo.recipe import Recipe
from whorl.zoo.replay import Deviation, Segment, deviation, net_of, replay, segment_of
from whorl.zoo.training import begin, schedule_of

__all__ = ["LogCheck", "Replayed", "Tolerance", "check_log", "initial_weights", "recipe_faults", "tolerance_of"]

LEAST: Final = 19  # own segments: with fewer a single honest segment fails more often than once in twenty
INITIAL: Final = 0.01  # the level at which initial weights are refused, that of the paper
TIMES: Final = 10  # a movement of fewer honest errors than this can't be told from one
WIDEST: Final = 0.1  # of a relative error; what crafted batches leave is .8, and they are the cheapest imitation


@dataclass(frozen=True)
class Tolerance(Checked):
    """What honest replays err by, of ``segments``: ``relative`` is rho, ``absolute`` a distance of weights."""

    relative: Annotated[float, Ge(0), Le(WIDEST)]
    absolute: Annotated[float, Ge(0)] = 0.0
    segments: Annotated[int, Ge(0)] = 0

    def verdict(self, found: Deviation) -> Literal["replayed", "differs", "too short"]:
        """Whether a segment is accepted; one that moved too little to be checked is not."""
        if not found.movement > TIMES * self.absolute:
            return "too short"
        return "replayed" if found.relative <= self.relative else "differs"


@dataclass(frozen=True)
class Replayed:
    """A drawn segment: its number, its last step, how far the replay went astray, and what follows."""

    segment: int
    step: int
    found: Deviation
    verdict: Literal["replayed", "differs", "too short"]


@dataclass(frozen=True)
class LogCheck:
    """The answer. ``faults`` says in a line each why the log is not consistent; none means that nothing was found.

    ``initial`` is the smallest p-value, after Holm, of the layers' initial weights, None where there is no law to
    compare with; ``bound`` what the chance that an honest log fails does not exceed, None where no own segment was
    replayed. ``nonce`` with the root gives the draw again.
    """

    consistent: bool
    root: str
    steps: int
    segments: int
    replayed: tuple[Replayed, ...]
    tolerance: Tolerance
    bound: float | None
    initial: float | None
    recipe: str
    nonce: str
    faults: tuple[str, ...]
    caveats: tuple[str, ...]


def check_log(
    log: TrainingLog,
    tolerance: Tolerance,
    *,
    draws: Annotated[int, Gt(0)] = 10,
    recipe: Recipe | None = None,
    net: nn.Module | None = None,
    model: str = "",
    anchors: Sequence[Anchor] = (),
    nonce: bytes = b"",
) -> LogCheck:
    """Check a log.

    Parameters:
        draws: r, how many segments are drawn and replayed; all where there are fewer.
        recipe: what the log is to be of, given by who checks: a log's own words are not run; None checks none.
        net: of the architecture, for logs of nets outside of whorl's catalog; its weights are replaced.
        model: SHA-256 of the tensors of the model at hand, which the log has to end in.
        anchors: roots that were stamped or kept while the net trained.
        nonce: 32 bytes made after the log's root was given away; drawn here by default.

    Raises:
        InvalidFile: torn, rewritten, or not of this net.
        UsageError: no draws.
    """
    if draws < 1:
        raise UsageError(f"at least one segment is replayed; draws is {draws}")
    for anchor in anchors:
        log.follows(anchor)
    nonce = nonce or secrets.token_bytes(32)
    built = net_of(log) if net is None else net
    faults = list(recipe_faults(log, recipe)) if recipe is not None else []
    if model and log.entries[-1].weights != model:
        faults.append("it ends in other weights than the model's")
    initial, begun = _begun(log, built)
    faults += begun
    chosen = SegmentDraw(log.root, nonce).indices(log.segments, min(draws, log.segments), "segments")
    replayed = tuple(_replayed(log, built, number, tolerance) for number in chosen)
    for each in replayed:
        if each.verdict == "differs":
            faults.append(f"the steps up to {each.step} replay with a relative error of {each.found.relative:.2g}")
        elif each.verdict == "too short":
            faults.append(f"the steps up to {each.step} moved too little to be checked ({each.found.movement:.2g})")
    own = tolerance.segments
    return LogCheck(
        consistent=not faults,
        root=log.root,
        steps=log.steps,
        segments=log.segments,
        replayed=replayed,
        tolerance=tolerance,
        bound=len(replayed) / (own + len(replayed)) if own else None,
        initial=initial,
        recipe="" if recipe is None else str(recipe),
        nonce=nonce.hex(),
        faults=tuple(faults),
        caveats=tuple(_caveats(recipe, model, anchors)),
    )


def tolerance_of(logs: Sequence[TrainingLog], *, generator: torch.Generator, net: nn.Module | None = None) -> Tolerance:
    """The tolerance by the verifier's own logs of the same recipe: each of their segments is replayed once.

    The inputs of every batch are put into another order, so that sums are rounded as on other hardware.

    Raises:
        UsageError: fewer than 19 segments, or replays that err by more than a tenth, by which nothing could be told.
    """
    found = [
        deviation(replay(net or net_of(log), segment, log.header, generator), segment.after, segment.before)
        for log in logs
        for segment in (segment_of(log, number) for number in range(log.segments))
    ]
    if len(found) < LEAST:
        raise UsageError(f"{len(found)} own segments are too few for a tolerance; give logs of {LEAST} or more")
    relative, absolute = max(each.relative for each in found), max(each.absolute for each in found)
    if relative > WIDEST:
        raise UsageError(
            f"own replays err by {relative:.2g} of the movement, and above {WIDEST:g} imitations pass; log checkpoints "
            "more often (--every)"
        )
    return Tolerance(relative, absolute, len(found))


def initial_weights(net: nn.Module, state: State) -> float:
    """The smallest p-value after Holm that each layer's weights are He normal, and 0 where a bias or norm is not idle.

    Source: Jia et al. (IEEE S&P 2021) compare by Kolmogorov and Smirnov and take the least p of all layers below .01,
    which rejects an honest net of 22 layers once in five times; hence Holm.
    """
    values: list[float] = []
    for name, module in net.named_modules():
        if not isinstance(module, nn.Conv2d | nn.Linear):
            continue
        weight, bias = (state.weights.get(f"{name}.{part}".lstrip(".")) for part in ("weight", "bias"))
        if bias is not None and bias.any():
            return 0.0
        if weight is None or weight.shape != module.weight.shape or not weight.isfinite().all():
            return 0.0
        if weight.numel():
            scale = (2 / weight[0].numel()) ** 0.5
            values.append(float(kstest((weight.double() / scale).flatten().numpy(), "norm").pvalue))
    return min(holm(values), default=1.0)


def recipe_faults(log: TrainingLog, recipe: Recipe) -> Iterator[str]:
    """Where the log is not of this recipe: its claims, its initial weights, its rates, and every batch, to the bit.

    Batches are drawn again as the recipe's seed draws them; no gradient is taken.
    """
    net, data, generator = begin(recipe)
    schedule = fitting(schedule_of(recipe), net, data)
    optimiser, scheduler = optimisation(net.parameters(), schedule, len(data))
    claimed = header_of(net, optimiser, **claims_of(recipe, schedule, data))
    if claimed.model_copy(update={"versions": log.header.versions}) != log.header:
        yield "it claims another recipe, or other settings than this one's"
    if log.entries[0].weights != digest_tensors(net.state_dict()):
        yield "its initial weights are not those that the recipe's seed draws"
    steps = schedule.epochs * max(1, len(data) // schedule.batch)
    if log.steps != steps:
        yield f"it has {log.steps} steps, and its recipe {steps}"
    logged = ((rate, digest) for entry in log.entries for rate, digest in zip(entry.rates, entry.batches, strict=True))
    drawn = batches(data, schedule, generator)
    for step, ((rate, digest), (inputs, index)) in enumerate(zip(logged, drawn, strict=False), 1):
        if rate != optimiser.param_groups[0]["lr"]:
            yield f"step {step} has another learning rate than its recipe"
            return
        if digest != Batch(inputs, data.labels[index]).digest:
            yield f"step {step} was fed another batch than its recipe draws"
            return
        if scheduler is not None:
            optimiser.step()  # no gradient, no movement: the scheduler asks for it
            scheduler.step()


def _begun(log: TrainingLog, net: nn.Module) -> tuple[float | None, list[str]]:
    """What is known of the first checkpoint, and of the learning rates: the initial weights' p-value, and faults."""
    first, faults = State.read(log.state(0)), list[str]()
    if first.digests()["weights"] != log.entries[0].weights or first.digests()["optimiser"] != log.entries[0].optimiser:
        raise InvalidFile(f"{log.state(0)} is not the checkpoint that the log states")
    if first.optimiser:
        faults.append("the optimiser has moments before the first step, by which a net can coast")
    if max(rate for entry in log.entries for rate in entry.rates or [0.0]) > log.header.learning_rate * (1 + 1e-9):
        faults.append("a step has a higher learning rate than the log claims")
    initial = initial_weights(net, first) if log.header.architecture else None
    if initial is not None and initial < INITIAL:
        faults.append(f"the initial weights were not drawn as those of {log.header.architecture} are (p {initial:.2g})")
    return initial, faults


def _replayed(log: TrainingLog, net: nn.Module, number: int, tolerance: Tolerance) -> Replayed:
    segment: Segment = segment_of(log, number)
    if (most := max(len(each.labels) for each in segment.batches)) > log.header.batch:
        raise InvalidFile(
            f"{log.folder}: a step up to {segment.entry.step} was fed {most:,} inputs, and the log claims at most "
            f"{log.header.batch:,}"
        )
    found = deviation(replay(net, segment, log.header), segment.after, segment.before)
    return Replayed(number, segment.entry.step, found, tolerance.verdict(found))


def _caveats(recipe: Recipe | None, model: str, anchors: Sequence[Anchor]) -> Iterator[str]:
    yield "a log that is consistent shows how a net can have come to be; it proves neither ownership nor who was first"
    if not anchors:
        yield "no earlier root was given (--anchor), so all of the log may have been written at once, and later"
    if recipe is None:
        yield "no recipe was given (--recipe), so whether its batches are the data that it claims was not checked"
    if not model:
        yield "no model was given (--model), so the log may be that of another one"
