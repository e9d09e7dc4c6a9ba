"""Does one class of a net stick out too far for a clean one? Pure statistics on a number for each class.

The decision ranks log(median / extreme) of a net among N clean nets of the same recipe: if the net were clean, and
exchangeable with them, each of the N + 1 ranks would be as likely, so p = (1 + #) / (N + 1) is at most alpha with a
chance of at most alpha (`whorl.detection.population`). Without clean nets there is no decision: how far the extreme of
ten numbers lies from their median differs between recipes.

The papers' own rules need no clean net. They are here to be compared, and decide nothing: `mad_index` (Wang et al.,
*Neural Cleanse*, S&P 2019, section IV-B) and `gamma_p_value` (Wang et al., *MM-BD*, S&P 2024, arXiv 2205.06900).
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import ArrayLike

from whorl.detection.population import rank_p_value
from whorl.errors import UsageError
from whorl.metrics import Scores, as_scores

__all__ = [
    "BLIND",
    "FEWEST_CLEAN",
    "MAD_BOUND",
    "Direction",
    "TrojanVerdict",
    "culprit_of",
    "gamma_p_value",
    "log_ratio",
    "mad_index",
    "trojan_verdict",
]

Direction = Literal["small", "large"]
"""Which scores speak of a trojan."""
Chooser = Literal["whorl", "user"]
"""Who made the clean nets: whorl trained them from a recipe, or they were given."""

FEWEST_CLEAN: Final = 19  # the fewest that allow p = .05
FEWEST_CLASSES: Final = 3  # to fit a distribution to all but one
MAD_BOUND: Final = 2.0  # of the paper; 1.4826 makes the MAD of normal numbers their standard deviation
LEAST: Final = 1e-3  # below it scores count as equal: logarithms of nothing would decide
BLIND: Final = (
    "triggers that hold for one source class only, several targets, triggers that are large, blended or warped, "
    "trojans that were hidden by tuning, and keyed switches may pass unseen; a clean net with one class that is easy "
    "to reach looks like a trojaned one"
)


@dataclass(frozen=True)
class TrojanVerdict:
    """Whether a net looks trojaned beside clean ones. ``decision`` is None, and ``p_value`` too, without clean nets.

    ``rests_on`` says what the error rate rests on and who chose the clean nets; ``index`` is that of the statistic's
    paper, which decides nothing.
    """

    decision: Literal["trojaned", "inconclusive"] | None
    statistic: str
    culprit: int
    log_ratio: float
    p_value: float | None
    p_value_floor: float | None
    alpha: float
    clean: int
    rests_on: str
    index: Mapping[str, float]
    caveats: tuple[str, ...]


def culprit_of(scores: ArrayLike, worse: Direction) -> int:
    """The class whose score is the most extreme in that direction; the first of several.

    Shape:
        scores: ``[classes]``, at least 0.
    """
    values = _signed(scores, worse)
    return int(values.argmax())


def log_ratio(scores: ArrayLike, worse: Direction) -> float:
    """log(median / smallest) of the scores, or log(largest / median) where large ones speak of a trojan; at least 0.

    Shape:
        scores: ``[classes]``, at least 0; those below .001 count as .001.
    """
    return max(0.0, float(_signed(scores, worse).max() - np.median(_signed(scores, worse))))


def mad_index(scores: ArrayLike, worse: Direction) -> float:
    """Neural Cleanse's anomaly index of the culprit: its distance from the median in units of 1.4826 MAD.

    0 where no score lies apart from the median in that direction. The paper calls a net trojaned above 2.

    Shape:
        scores: ``[classes]``, at least 0.
    """
    values = as_scores(scores, "scores", least=2)
    apart = values - np.median(values)
    spread = 1.4826 * float(np.median(np.abs(apart)))
    furthest = float((-apart if worse == "small" else apart).max())
    if furthest <= 0:
        return 0.0
    return furthest / spread if spread > 0 else math.inf


def gamma_p_value(scores: ArrayLike) -> float:
    """MM-BD's p-value: 1 - F(largest)^classes, with F a gamma distribution fitted to all scores but the largest.

    Three parameters on nine values are unstable: what came of it is in `docs/inspection.md`.

    Shape:
        scores: ``[classes]``, at least 0.
    """
    values = np.sort(as_scores(scores, "scores", least=FEWEST_CLASSES))
    if values[-2] - values[0] <= 0:
        return 1.0 if values[-1] <= values[0] else 0.0
    gamma: Any = importlib.import_module("scipy.stats").gamma  # late, as it takes a second, and it has no types
    fitted = gamma(*gamma.fit(values[:-1]))
    return float(-np.expm1(len(values) * float(fitted.logcdf(values[-1]))))


def trojan_verdict(
    scores: Sequence[float],
    worse: Direction,
    clean: ArrayLike,
    *,
    alpha: float,
    statistic: str,
    chooser: Chooser,
    made: str = "",
    caveats: Sequence[str] = (),
) -> TrojanVerdict:
    """The verdict on one net.

    Parameters:
        clean: log ratios ``[N]`` of the clean nets under the same statistic with the same settings; may be empty.
        chooser: who made the clean nets. made: what they are, in words.

    Raises:
        UsageError: an alpha that is no chance, or fewer clean nets than 19 where there are any.
    """
    ratios = np.asarray(clean, dtype=np.float64)
    if not 0 < alpha < 1:
        raise UsageError(f"alpha is a chance between 0 and 1; this is {alpha:g}")
    if 0 < len(ratios) < FEWEST_CLEAN:
        raise UsageError(
            f"a rank among {len(ratios)} clean nets says nothing: give at least {FEWEST_CLEAN}, or none to see scores"
        )
    ratio = log_ratio(scores, worse)
    p_value = rank_p_value(ratio, ratios) if len(ratios) else None
    floor = 1 / (len(ratios) + 1) if len(ratios) else None
    told = list(caveats)
    if p_value is None:
        told.insert(0, "no clean nets were at hand, so there are scores and no verdict")
    if floor is not None and floor > alpha:
        told.append(f"with {len(ratios)} clean nets p can't be below {floor:.3g}; give a larger alpha or more of them")
    if p_value is not None and p_value > alpha:
        told.append("that nothing sticks out does not show that a net is clean")
    index = {"mad": mad_index(scores, worse)} | ({"gamma_p": gamma_p_value(scores)} if worse == "large" else {})
    return TrojanVerdict(
        decision=None if p_value is None else "trojaned" if p_value <= alpha else "inconclusive",
        statistic=statistic,
        culprit=culprit_of(scores, worse),
        log_ratio=ratio,
        p_value=p_value,
        p_value_floor=floor,
        alpha=alpha,
        clean=len(ratios),
        rests_on=_rests_on(len(ratios), chooser, made),
        index=index,
        caveats=(*told, BLIND),
    )


def _rests_on(count: int, chooser: Chooser, made: str) -> str:
    if not count:
        return "nothing: no clean nets"
    who = {
        "whorl": f"{count} nets that whorl trained from {made}, a recipe that whoever asks has chosen",
        "user": f"{count} nets that whoever asks has given, and on their word that these are clean",
    }[chooser]
    return f"{who}; p is right if this net, were it clean, could be one of them, which no test can show"


def _signed(scores: ArrayLike, worse: Direction) -> Scores:
    """Logarithms of the scores, turned so that the largest speaks of a trojan."""
    logs = np.log(np.maximum(as_scores(scores, "scores", least=2), LEAST))
    return -logs if worse == "small" else logs
