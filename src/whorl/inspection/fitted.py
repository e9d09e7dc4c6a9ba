"""A logistic model over the weights of many nets, clean and trojaned, and what it says of another one.

After the idea that TrojAI's entrants share (Karra, Ashcraft, Fendley, *The TrojAI Software Framework*, arXiv
2003.07233, 2020): features of nets whose state is known are fitted, and those of another net are judged. Nothing is
asked and no picture needed. Features are read from the canonical form (`whorl.symmetry.canonical`): of each class the
length, the largest weight, the sum of the positive weights and the largest cosine of its row of the head; of each layer
the singular values; of each unit the sum of what comes in and the length of what goes out. Of each such group the model
sees the logarithms of largest by median and of median by smallest, so that the size of a net's weights says nothing.

The clean nets are divided by chance: some are fitted, the others rank the net. So p is right whatever the model has
learned, if the net, were it clean, could be one of them. What the model has learned is how these trojaned nets differ
from these clean ones, which may be something else than the trojan. In `docs/inspection.md` nets without a trigger, of
whose training labels a tenth was wrong, look as bad to it as trojaned ones do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import torch
from torch import Tensor, nn

from whorl.detection.population import rank_p_value
from whorl.errors import UsageError
from whorl.inspection.apart import opened_apart
from whorl.inspection.features import head_of
from whorl.oracles.base import require
from whorl.oracles.opening import open_oracle
from whorl.oracles.torch import TorchOracle
from whorl.symmetry.canonical import canonical
from whorl.types import Access

__all__ = ["FEWEST_FITTED", "FittedVerdict", "fit", "inspect_weights", "weight_features"]

FEWEST_FITTED: Final = 100  # nets that the model is fitted to, of which a quarter at least is of either kind
FEWEST_RANKED: Final = 19  # the fewest that allow p = .05
BLIND: Final[tuple[str, ...]] = (
    "a net without a trigger whose training pictures had wrong labels looks as bad as trojaned ones, of which the same "
    "is true: look for the trigger before you call it one",
    "trojans unlike those that were fitted may pass unseen",
    "that nothing is seen does not show that a net is clean",
)


@dataclass(frozen=True)
class FittedVerdict:
    """Whether a net looks trojaned to a model that was fitted to others.

    ``score`` is the model's log odds, larger is worse; ``fitted`` says how many clean and trojaned nets made the model
    and ``ranked`` the number of clean nets that p is a rank among.
    """

    decision: Literal["trojaned", "inconclusive"]
    score: float
    p_value: float
    p_value_floor: float
    alpha: float
    fitted: tuple[int, int]
    ranked: int
    rests_on: str
    caveats: tuple[str, ...]


def inspect_weights(
    model: Any,
    *,
    clean: Mapping[str, Any],
    trojaned: Mapping[str, Any],
    alpha: float = 0.05,
    seed: int = 0,
    **options: Any,
) -> FittedVerdict:
    """Fit a model to clean and trojaned nets of one architecture, and rank another net among clean ones left out.

    Parameters:
        model: whatever `whorl.open_oracle` takes, with ``options``.
        clean: nets of its recipe that are known to be clean, by name. A third of them, and at least 19, rank the net;
            the others are fitted.
        trojaned: nets of its recipe on poisoned data, by name.
        seed: divides the clean nets.

    Raises:
        AccessRefused: a net grants no weights.
        UsageError: an alpha that is no chance, fewer nets than are needed, one of them twice or of another
            architecture.
    """
    if not 0 < alpha < 1:
        raise UsageError(f"alpha is a chance between 0 and 1; this is {alpha:g}")
    ranked = max(FEWEST_RANKED, len(clean) // 3)
    fitted = (len(clean) - ranked, len(trojaned))
    if sum(fitted) < FEWEST_FITTED or min(fitted) < FEWEST_FITTED // 4:
        raise UsageError(
            f"a model is fitted to {FEWEST_FITTED} nets at least, {FEWEST_FITTED // 4} or more of either kind, and "
            f"{FEWEST_RANKED} clean ones or a third of them rank; these leave {max(0, fitted[0])} clean and "
            f"{fitted[1]} trojaned: give more, as by whorl zoo build, or take statistic=weights_only"
        )
    net = open_oracle(model, **options)
    known = opened_apart(net, {f"the clean net {name}": each for name, each in clean.items()})
    bad = opened_apart(net, {f"the trojaned net {name}": each for name, each in trojaned.items()}, known)
    mine = weight_features(net)
    rows = [_alike(weight_features(each), mine, name) for name, each in (known | bad).items()]
    whole = torch.stack(rows)
    order = torch.randperm(len(known), generator=torch.Generator().manual_seed(seed))
    held_out, chosen = whole[order[:ranked]], whole[order[ranked:]]
    odds = fit(chosen, whole[len(known) :])
    score, others = float(odds(mine[None])[0]), odds(held_out)
    p_value, floor = rank_p_value(score, others), 1 / (ranked + 1)
    caveats: list[str] = [*BLIND]
    if floor > alpha:
        caveats.insert(0, f"with {ranked} ranked nets p can't be below {floor:.3g}; give a larger alpha or more nets")
    return FittedVerdict(
        decision="trojaned" if p_value <= alpha else "inconclusive",
        score=score,
        p_value=p_value,
        p_value_floor=floor,
        alpha=alpha,
        fitted=fitted,
        ranked=ranked,
        rests_on=(
            f"{ranked} nets that whoever asks has given, and on their word that these are clean; p is right if this "
            "net, were it clean, could be one of them, which no test can show"
        ),
        caveats=tuple(caveats),
    )


def fit(clean: Tensor, trojaned: Tensor) -> Any:
    """A function from features ``[n, d]`` to log odds ``[n]``, fitted to those of clean and of trojaned nets."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    states = np.concatenate([np.zeros(len(clean)), np.ones(len(trojaned))])
    model = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=2000))
    model.fit(torch.cat([clean, trojaned]).numpy(), states)
    return lambda features: np.asarray(model.decision_function(features.numpy()))


def weight_features(net: Any) -> Tensor:
    """What the model sees of a net, ``[d]`` float64.

    Raises:
        AccessRefused: no weights are granted.
        UsageError: no net of whorl with a linear head.
    """
    require(net, Access.WEIGHTS, "a model over weights")
    if not isinstance(net, TorchOracle):
        raise UsageError(f"weights are read of PyTorch nets; {net.name} is {type(net).__name__}: give its weights")
    form = canonical(net.net).net
    head = head_of(form, net.classes, name=net.name, asker="a model over weights")
    layers = [each.weight.detach() for each in form.modules() if isinstance(each, nn.Conv2d | nn.Linear)]
    rows = nn.functional.normalize(head.weight.detach(), dim=1)
    itself = torch.eye(len(rows), dtype=torch.bool)
    groups = [
        head.weight.detach().norm(dim=1),
        head.weight.detach().amax(1),
        head.weight.detach().clamp_min(0).sum(1),
        2 + (rows @ rows.mT).masked_fill(itself, -1).amax(1),
        *(_singular(each.flatten(1)) for each in layers),
        *(each.abs().flatten(1).sum(1) for each in layers[:-1]),
        *(each.flatten(2).norm(dim=(0, 2)) if each.ndim > 2 else each.norm(dim=0) for each in layers[1:]),
    ]
    return torch.cat([_ends(each) for each in groups]).double().cpu()


def _singular(matrix: Tensor) -> Tensor:
    square = matrix @ matrix.mT if matrix.shape[0] <= matrix.shape[1] else matrix.mT @ matrix
    return torch.linalg.eigvalsh(square).clamp_min(0).sqrt()


def _ends(values: Tensor) -> Tensor:
    """log(largest / median) and log(median / smallest), bounded where a value is nothing."""
    least = values.max().clamp_min(1e-12) * 1e-6
    low, middle, high = (each.clamp_min(least).log() for each in (values.min(), values.median(), values.max()))
    return torch.stack([high - middle, middle - low])


def _alike(features: Tensor, mine: Tensor, name: str) -> Tensor:
    if features.shape != mine.shape:
        raise UsageError(f"{name} has other layers than the net: give nets of its own architecture")
    return features
