"""Two nets of one architecture brought onto one another, and what lies between them.

Units are put in the best order (`whorl.symmetry.alignment`), all known symmetries are taken away (`canonical`,
`copies`), and the straight line between the two is walked as they are, aligned, repaired, and, if asked, along a curve
of low loss. Distances and digests tell copies that were disguised. A low barrier *before* alignment says that one net
was tuned from the other, or both from one; after alignment, or along a curve, independent nets may have one too, so
that is no evidence of descent: `whorl.compare` is for that.

Sources: Ainsworth et al., *Git Re-Basin*, ICLR 2023, arXiv 2209.04836; Jordan et al., *REPAIR*, ICLR 2023; Garipov et
al., NeurIPS 2018 (curves); Yang et al., *Taxonomizing local versus global structure in neural network loss landscapes*,
NeurIPS 2021, arXiv 2107.11228 (connectivity, similarity, curvature).
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Annotated, Final, Literal

import torch
from annotated_types import Ge
from torch import Tensor, nn

from whorl.data.base import Dataset
from whorl.errors import AccessRefused, UsageError
from whorl.nets.training import Schedule, predict
from whorl.oracles.base import Oracle, require
from whorl.oracles.torch import TorchOracle
from whorl.settings import Checked, Count, Whole
from whorl.symmetry.alignment.activation_matching import match_activations
from whorl.symmetry.alignment.curvature import hessian_trace, loss_of, top_eigenvalue
from whorl.symmetry.alignment.curves import connect
from whorl.symmetry.alignment.landscape import agreement, jensen_shannon, linear_cka
from whorl.symmetry.alignment.matching import UnitMatching, match_weights
from whorl.symmetry.alignment.paths import Profile, barrier, profile
from whorl.symmetry.alignment.permutations import PermutationSpec, permute
from whorl.symmetry.alignment.repair import Repair
from whorl.symmetry.alignment.straight_through import match_straight_through
from whorl.symmetry.alignment.tracing import permutation_spec
from whorl.symmetry.canonical import canonical
from whorl.symmetry.copies import distance, exact_hash
from whorl.symmetry.two_layer import same_function
from whorl.types import Access

__all__ = ["Aligning", "Alignment", "Ends", "align"]

DRAWS: Final = 20  # of the trace of a Hessian
CURVED: Final = 256  # pictures that curvature is taken on


@dataclass(frozen=True, kw_only=True)
class Aligning(Checked):
    """How to align.

    Parameters:
        match: what is matched: weights, activations on pictures, or the loss halfway (a straight-through descent).
        restarts: of weight matching.
        points: of a path, both ends included.
        curve: epochs that a curve of low loss is trained for; none where 0.
        curvature: whether the Hessian of the loss is looked at, which takes minutes for nets of millions of weights.
    """

    match: Literal["weights", "activations", "loss"] = "weights"
    restarts: Count = 5
    points: Annotated[int, Ge(2)] = 11
    curve: Whole = 0
    curvature: bool = False


@dataclass(frozen=True)
class Ends:
    """How alike two nets answer, and how curved the loss is where each stands.

    ``agreement`` is a share of inputs, ``divergence`` Jensen and Shannon's in nats (0 to log 2), ``cka`` that of the
    logits, debiased (near 0 for unrelated ones, at most 1). ``sharpness`` is the top eigenvalue of the Hessian of each
    net, ``trace`` its trace; None where nobody asked.
    """

    agreement: float
    divergence: float
    cka: float
    sharpness: tuple[float, float] | None
    trace: tuple[float, float] | None


@dataclass(frozen=True, eq=False)
class Alignment:
    """What was found; what does not apply is None, and ``notes`` say why.

    Parameters:
        aligned: the second net, as its file has it, with its units in the order of the first's; answers are as before.
        units: how many hidden units can change places, ``moved`` how many did.
        distance: ‖A - π(B)‖ / ‖A‖ of canonical weights: 0 for copies, about 1 or more for independent nets. Widths may
            differ.
        same_digest: whether both canonical forms answer alike, to rounding: copies in disguise.
        same_function: for perceptrons of one hidden layer, of whatever widths, whether they give the same output to
            every real input: decided, not sampled.
        paths: profile of the loss from the first net to the second, by name: ``as they are``, ``aligned``,
            ``repaired`` and ``curve``.
        ends: None without pictures.
    """

    aligned: nn.Module | None
    units: int
    moved: int
    distance: float | None
    same_digest: bool | None
    same_function: bool | None
    paths: Mapping[str, Profile]
    ends: Ends | None
    notes: tuple[str, ...]


def align(
    first: Oracle,
    second: Oracle,
    data: Dataset | None = None,
    *,
    generator: torch.Generator,
    settings: Aligning | None = None,
) -> Alignment:
    """Bring ``second`` onto ``first``.

    Parameters:
        data: labelled pictures that neither net learned from. One half is matched, repaired and curved by, the paths
            are measured on the other. Without them weights are matched and nothing is measured.

    Raises:
        AccessRefused: a net that does not grant its weights.
        UsageError: no PyTorch nets, nets of other inputs or outputs, or pictures that they don't take.
    """
    settings = settings or Aligning()
    ones, others = _opened(first), _opened(second)
    _refuse_unlike(first, second)
    if data is None and (settings.match != "weights" or settings.curve or settings.curvature):
        raise UsageError("activations, losses, curves and curvature are of pictures: give data that the nets take")
    seen = held = None
    if data is not None:
        data.check_takes(first.name, first.space)
        if not data.classes or first.task != "classification":
            raise UsageError(f"paths are measured by labels; {data.expression or 'these data'} or the nets have none")
        order = torch.randperm(len(data), generator=generator)
        seen, held = data.subset(order[: len(data) // 2]), data.subset(order[len(data) // 2 :])
    notes: list[str] = []
    example = torch.zeros(2, *first.space.shape)
    far, same_digest, same = _compared(ones, others, example, generator, notes)
    alike = _shapes(ones) == _shapes(others)
    if not alike:
        notes.append("the nets have other layers or widths, so no line leads from one to the other")
    aligned, spec, moved = None, None, 0
    paths: dict[str, Profile] = {}
    if alike:
        spec = permutation_spec(ones, (example,))
        found = _matched(ones, others, spec, seen, generator, settings)
        moved = sum(int((each != torch.arange(len(each))).sum()) for each in found.permutations.values())
        aligned = _with(others, dict(permute(others.state_dict(), spec, found.permutations)))
        if seen is not None and held is not None:
            paths = _walked(ones, others, aligned, seen, held, generator, settings)
    units = sum(spec.sizes.values()) if spec is not None else 0
    ends = _ends(ones, others, held, generator, settings) if held is not None else None
    inner = None if aligned is None else _inner(aligned, second)
    return Alignment(inner, units, moved, far, same_digest, same, paths, ends, tuple(notes))


def _opened(each: Oracle) -> nn.Module:
    require(each, Access.WEIGHTS, "alignment")
    if not isinstance(each, TorchOracle):
        raise AccessRefused(f"alignment moves the units of PyTorch nets; {each.name} is {type(each).__name__}")
    return each.module


def _refuse_unlike(first: Oracle, second: Oracle) -> None:
    if (first.space, first.classes, first.task) != (second.space, second.classes, second.task):
        raise UsageError(
            f"aligned nets take the same inputs and give the same outputs; {first.name} takes {first.space} to "
            f"{first.classes} outputs, {second.name} {second.space} to {second.classes}"
        )


def _inner(whole: nn.Module, second: Oracle) -> nn.Module:
    """The part of a moved net that its file holds, without what a description put around it."""
    assert isinstance(second, TorchOracle)
    if isinstance(whole, nn.Sequential) and second.net is not second.module:
        return whole[[each is second.net for each in second.module.children()].index(True)]
    return whole


def _shapes(net: nn.Module) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in net.state_dict().items()}


def _compared(
    ones: nn.Module, others: nn.Module, example: Tensor, generator: torch.Generator, notes: list[str]
) -> tuple[float | None, bool | None, bool | None]:
    """Distance of canonical forms, whether their digests agree, and whether both are one function."""
    far = digests = same = None
    noise = torch.rand(32, *example.shape[1:], generator=torch.Generator().manual_seed(0))
    try:
        forms = canonical(ones, noise), canonical(others, noise)
        digests = exact_hash(forms[0]).matches(exact_hash(forms[1]))
        far = distance(*forms, generator=generator).total
    except UsageError as error:
        notes.append(str(error))
    try:
        same = same_function(ones, others)
    except UsageError as error:
        notes.append(str(error))
    return far, digests, same


def _matched(
    ones: nn.Module,
    others: nn.Module,
    spec: PermutationSpec,
    seen: Dataset | None,
    generator: torch.Generator,
    settings: Aligning,
) -> UnitMatching:
    if settings.match == "weights" or seen is None:
        return match_weights(
            ones.state_dict(), others.state_dict(), spec, generator=generator, restarts=settings.restarts
        )
    if settings.match == "activations":
        return match_activations(ones, others, spec, seen.inputs())
    return match_straight_through(ones, others.state_dict(), spec, seen, generator=generator)


def _with(net: nn.Module, state: dict[str, Tensor]) -> nn.Module:
    made = deepcopy(net)
    made.load_state_dict(state)
    return made.eval()


def _walked(
    ones: nn.Module,
    others: nn.Module,
    aligned: nn.Module,
    seen: Dataset,
    held: Dataset,
    generator: torch.Generator,
    settings: Aligning,
) -> dict[str, Profile]:
    one, other, moved = (net.state_dict() for net in (ones, others, aligned))
    pictures = seen.inputs()
    lines = {
        "as they are": (other, None),
        "aligned": (moved, None),
        "repaired": (moved, Repair(ones, one, moved, pictures)),
    }
    found = {
        name: barrier(ones, one, state, held, points=settings.points, statistics=pictures, at=at)
        for name, (state, at) in lines.items()
    }
    if settings.curve:
        schedule = Schedule(epochs=settings.curve, learning_rate=0.03, batch=128)
        bent = connect(ones, one, other, seen, generator=generator, schedule=schedule)
        positions = torch.linspace(0, 1, settings.points).tolist()
        found["curve"] = profile(ones, bent, held, positions=positions, statistics=pictures)
    return found


def _ends(ones: nn.Module, others: nn.Module, held: Dataset, generator: torch.Generator, settings: Aligning) -> Ends:
    said = [predict(net, held.inputs()) for net in (ones, others)]
    sharpness = trace = None
    if settings.curvature:
        pictures = held.subset(slice(0, CURVED))
        losses = [loss_of(net, pictures.inputs(), pictures.labels) for net in (ones, others)]
        sharp = [top_eigenvalue(*each, generator=generator) for each in losses]
        traces = [hessian_trace(*each, generator=generator, draws=DRAWS)[0] for each in losses]
        sharpness, trace = (sharp[0], sharp[1]), (traces[0], traces[1])
    return Ends(agreement(*said), jensen_shannon(*said), linear_cka(*said), sharpness, trace)
