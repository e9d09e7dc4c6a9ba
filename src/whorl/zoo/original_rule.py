"""The rule of Proof-of-Learning as it was published: absolute distances of the largest updates. A reproduction.

Paper: Jia, Yaghini, Choquette-Choo, Dullerud, Thudi, Chandrasekaran, Papernot, *Proof-of-Learning: Definitions and
Practice*, IEEE S&P 2021, algorithm 2. It decides nothing in whorl: a straight line of small steps and a log that trains
only where the rule looks both pass (`whorl.zoo.spoofs`), as in Zhang et al. (IEEE S&P 2022) and Fang et al. (2022).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from whorl.attest.training import TrainingLog
from whorl.errors import UsageError
from whorl.zoo.replay import deviation, net_of, replay, segment_of

__all__ = ["Original", "original_rule"]


@dataclass(frozen=True)
class Original:
    """Whether no replayed segment exceeds ``delta``; ``replayed`` are their numbers, ``worst`` the largest distance."""

    valid: bool
    worst: float
    delta: float
    replayed: tuple[int, ...]


def original_rule(
    log: TrainingLog, *, delta: float = 10.0, top: int = 2, epoch: int = 0, net: nn.Module | None = None
) -> Original:
    """Replay, of each epoch, the ``top`` segments whose weights moved most, and bound the Euclidean distance.

    Parameters:
        delta: in units of weights; 10 is the default of the authors' code for l2 and ResNets. It has to lie below the
            distance of two nets of different seeds and above that of two honest replays.
        epoch: segments in an epoch; 0 takes the whole log for one.

    Raises:
        UsageError: no segment to look at.
        InvalidFile: as `whorl.zoo.replay.segment_of`.
    """
    if top < 1 or epoch < 0 or not delta > 0:
        raise UsageError(f"the original rule replays 1 or more segments of an epoch below a distance; top is {top}")
    built = net_of(log) if net is None else net
    segments = [segment_of(log, number) for number in range(log.segments)]
    moved = [deviation(each.after, each.after, each.before).movement for each in segments]
    length = epoch or log.segments
    chosen = [
        number
        for start in range(0, log.segments, length)
        for number in sorted(range(start, min(start + length, log.segments)), key=lambda each: -moved[each])[:top]
    ]
    ends = [(replay(built, segments[number], log.header), segments[number]) for number in chosen]
    worst = max(deviation(made, each.after, each.before).absolute for made, each in ends)
    return Original(worst <= delta, worst, delta, tuple(chosen))
