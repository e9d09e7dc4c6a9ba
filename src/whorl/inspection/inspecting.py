"""One net, and clean nets to rank it among, to a verdict."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from whorl.data import SOURCES, Dataset
from whorl.detection.trojans import FEWEST_CLEAN, Chooser, TrojanVerdict, trojan_verdict
from whorl.errors import UsageError
from whorl.inspection import naming
from whorl.inspection.apart import opened_apart
from whorl.inspection.base import Inspection, Statistic
from whorl.oracles.opening import open_oracle

__all__ = ["Inspected", "inspect"]


@dataclass(frozen=True)
class Inspected:
    """What was seen in the net, what the verdict is, and what was seen in each clean net by its name."""

    inspection: Inspection
    verdict: TrojanVerdict
    clean: Mapping[str, Inspection]


def inspect(  # noqa: PLR0913 each is part of what the verdict rests on
    model: Any,
    data: Dataset | str,
    *,
    statistic: Statistic | str = "neural_cleanse",
    clean: Mapping[str, Any] | None = None,
    part: str = "queries+test",
    alpha: float = 0.05,
    seed: int = 0,
    chooser: Chooser = "user",
    made: str = "",
    progress: Callable[[], None] = lambda: None,
    **options: Any,
) -> Inspected:
    """Look for a trojan in a net, and rank what is found among clean nets.

    Parameters:
        model: whatever `whorl.open_oracle` takes, with ``options``.
        data: clean pictures that the net was not trained on, or a source whose ``part`` is taken.
        clean: at least 19 clean nets of the same recipe by name; without them there are scores and no verdict.
        chooser: who made them; ``whorl`` where they were trained from a recipe for this. made: what they are, in words.
        progress: called after each net.

    Raises:
        AccessRefused: a net grants too little.
        UsageError: too few clean nets, one of them twice, the net itself among them, or nets and data that do not fit.
    """
    net = open_oracle(model, **options)
    if 0 < len(clean or {}) < FEWEST_CLEAN:
        raise UsageError(
            f"a verdict ranks a net among at least {FEWEST_CLEAN} clean ones; these are {len(clean or {})}: give more, "
            "or none to see scores alone"
        )
    named = opened_apart(net, {f"the clean net {name}": each for name, each in (clean or {}).items()})
    known = dict(zip(clean or {}, named.values(), strict=True))
    pictures = SOURCES.make(data).load(part) if isinstance(data, str) else data
    asked = naming.statistic(statistic)
    found = asked(net, pictures, seed=seed)
    progress()
    others: dict[str, Inspection] = {}
    for name, each in known.items():
        others[name] = asked(each, pictures, seed=seed)
        progress()
    verdict = trojan_verdict(
        found.scores,
        found.worse,
        [each.log_ratio for each in others.values()],
        alpha=alpha,
        statistic=found.statistic,
        chooser=chooser,
        made=made,
        caveats=_unlike(found, others),
    )
    return Inspected(found, verdict, others)


def _unlike(found: Inspection, clean: Mapping[str, Inspection]) -> list[str]:
    """What speaks against the net being one of them, were it clean."""
    if not clean:
        return []
    accuracies = [each.accuracy for each in clean.values()]
    low, high = min(accuracies), max(accuracies)
    if low <= found.accuracy <= high:
        return []
    return [
        f"this net is right on {found.accuracy:.0%} of pictures and the clean ones on {low:.0%} to {high:.0%}: it may "
        "be of another recipe, and then p says little"
    ]
