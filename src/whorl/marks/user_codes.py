"""A copy for each user: the row of a code in the weights, so that who leaked, or which of them together, is traced.

Paper: Chen et al., *DeepMarks*, ICMR 2019, arXiv 1804.03648: beside the task the net minimises gamma * ||f - X w||^2,
where w holds mean kernels as in `whorl.marks.uchida`, X is a secret normal matrix and f the user's row, here of -1 and
1. Averages of copies then show averages of rows. Codes and p-values: `whorl.detection.codes`,
`whorl.detection.tracing`.

What is fixed before the draw: the users in their order, the layers, X and the code's plan (`commitment`). What is
drawn: everybody's row. An innocent's row was drawn apart from whatever colluders made, so the p-value is exact, as long
as the rows are secret.
"""

from __future__ import annotations

import copy
import hashlib
import secrets
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import numpy as np
import torch
from torch import Tensor, nn

from whorl.attest.draw import Draw
from whorl.data import SOURCES, Dataset
from whorl.detection.codes import DESIGNS, BlockCode, Origin, TardosCode, TardosPlan, block_code
from whorl.detection.tracing import Trace, trace
from whorl.errors import UsageError
from whorl.marks.aligning import in_order_of
from whorl.marks.layers import asked_for_weights, inner_layers
from whorl.marks.learning import learn_beside
from whorl.marks.uchida import mean_weights
from whorl.oracles.opening import open_oracle
from whorl.storage import canonical_json, digest_tensors

__all__ = [
    "MOST_COLLUDERS",
    "MOST_USERS",
    "STREAM",
    "Codes",
    "commitment",
    "copy_for",
    "draw_codes",
    "length_of",
    "prepare_codes",
    "shows",
    "tardos_plan",
    "traced",
]

STREAM: Final = "codes"  # the name of the streams that rows come from
HELD: Final = 0.5  # how near X w comes to -1 or 1, at every position, before the training of a copy ends
USUAL: Final = 0.001  # the alpha at which users are accused unless another is named
MOST_DRAWS: Final = 1 << 31
MOST_USERS: Final = 100_000
MOST_COLLUDERS: Final = 1000
LONGEST_NAME: Final = 300
SIZES: Final = tuple(sorted(DESIGNS))


@dataclass(frozen=True)
class Codes:
    """The code of a list of users, for copies of one model.

    Parameters:
        model: digest of the model that the copies are made of.
        users: names, all different.
        layers: whose mean kernels hold the rows, joined in this order.
        projection: X, ``[m, inputs]``.
        code: rows of all users; None before the draw.
        plan: ``tardos`` for any number of users, or ``block`` for at most 31 (DeepMarks' own).
        colluders, error: what a Tardos code is long enough for (`whorl.detection.codes.TardosPlan`).
        strength: gamma. epochs: most passes over the data. learning_rate: constant.
    """

    model: str
    users: tuple[str, ...]
    layers: tuple[str, ...]
    projection: Tensor
    data: str
    plan: Literal["tardos", "block"] = "tardos"
    colluders: int = 3
    error: float = 1e-3
    strength: float = 0.1
    epochs: int = 60
    learning_rate: float = 0.02
    code: TardosCode | BlockCode | None = None


def prepare_codes(
    model: Any,
    users: Sequence[str],
    data: str,
    *,
    plan: Literal["tardos", "block"] = "tardos",
    colluders: int = 3,
    error: float = 1e-3,
    layers: Sequence[str] = (),
    seed: int | None = None,
    **options: Any,
) -> Codes:
    """Fix the users and the projection; rows are still to be drawn (`draw_codes`).

    Parameters:
        model: what copies are made of.
        data: an expression of the source that it learned from.
        layers: all but the last by default.
        seed: of the projection; a secret one of 63 bits by default.
        options: what the file does not say of the model (`whorl.oracles.opening.open_oracle`).

    Raises:
        UsageError: users twice, or a code that does not fit into the layers.
    """
    oracle = asked_for_weights(open_oracle(model, **options))
    SOURCES.make(data).load("victim").check_takes(oracle.name, oracle.space)
    if not users:
        raise UsageError("the list of users is empty: give at least one name, one to a line")
    _check_list(users, colluders)
    if twice := sorted(each for each, count in Counter(users).items() if count > 1):
        raise UsageError(f"each user has one copy, and these stand twice: {', '.join(twice)[:300]}")
    if plan == "block" and len(users) > max(SIZES):
        raise UsageError(
            f"a block code has {max(SIZES)} users at most, and a Tardos code any number; these are {len(users)}"
        )
    length = length_of(plan, len(users), colluders, error)
    chosen = tuple(layers) or inner_layers(oracle.net)
    room = len(_means(oracle.net, chosen))
    if length > room:
        raise UsageError(
            f"the code has {length} positions, and the chosen layers hold {room}: name more layers, plan for fewer "
            "colluders or users, or for up to 31 users take a block code"
        )
    if seed is not None and not 0 <= seed < 1 << 63:
        raise UsageError(f"a seed is a whole number from 0 to 2^63 - 1; this is {seed}")
    generator = torch.Generator().manual_seed(secrets.randbits(63) if seed is None else seed)
    projection = torch.randn(length, room, generator=generator)
    return Codes(oracle.digest, tuple(users), chosen, projection, data, plan, colluders, error)


def _check_list(users: Sequence[str], colluders: int) -> None:
    """Refuse what no file of codes holds."""
    if len(users) > MOST_USERS or colluders > MOST_COLLUDERS:
        raise UsageError(
            f"codes are for {MOST_USERS:,} users and {MOST_COLLUDERS:,} colluders at most; these are {len(users):,} "
            f"and {colluders:,}"
        )
    if wrong := next((each for each in users if len(each) > LONGEST_NAME or not each.isprintable()), None):
        raise UsageError(
            f"a user has a name of {LONGEST_NAME} printable characters at most, one to a line; this is none: "
            f"{wrong[:60]!r}"
        )


def commitment(codes: Codes) -> str:
    """SHA-256, in hexadecimal, of what is fixed before the draw; what a draw of rows has to be for.

    It is that of ``"whorl/codes/v1"`` and the canonical JSON (RFC 8785) of model, users, layers, plan and the digest of
    the projection.
    """
    document = {
        "model": codes.model,
        "users": list(codes.users),
        "layers": list(codes.layers),
        "plan": codes.plan,
        "colluders": codes.colluders,
        "error": codes.error,
        "projection": digest_tensors({"projection": codes.projection}),
    }
    return hashlib.sha256(b"whorl/codes/v1" + canonical_json(document)).hexdigest()


def draw_codes(codes: Codes, draw: Draw | None = None, *, draws: int = 1) -> Codes:
    """The codes with everybody's row.

    Parameters:
        draw: for `commitment`; without one the operating system draws, and before others that is the owner's word.
        draws: how often rows were drawn for these users, this time included; p-values are multiplied by it.
    """
    if codes.code is not None:
        raise UsageError("these rows are drawn already, and copies may be out; prepare new codes to draw again")
    if not 1 <= draws <= MOST_DRAWS:
        raise UsageError(f"rows were drawn at least once, and {MOST_DRAWS:,} times at most; these are {draws:,} draws")
    claim = commitment(codes)
    if draw is not None and draw.claim != claim:
        raise UsageError(f"this draw is for {draw.claim[:16]}..., and the codes for {claim[:16]}...: draw for these")
    chance = np.random.default_rng(secrets.randbits(256))
    if codes.plan == "block":
        size = len(codes.projection)
        made = block_code(size, len(codes.users), draw or chance, claim=claim, name=STREAM, draws=draws)
    elif draw is not None:
        made = tardos_plan(codes).drawn(draw, claim=claim, name=STREAM, draws=draws)
    else:
        made = replace(tardos_plan(codes).sampled(chance), origin=Origin(draws))
    return replace(codes, code=made)


def copy_for(codes: Codes, model: Any, user: str, data: Dataset | str | None = None, **options: Any) -> nn.Module:
    """The copy of one user: the model, tuned on its task with the user's row in the weights.

    Raises:
        UsageError: no such user, another model, or rows that were not drawn yet.
    """
    oracle = asked_for_weights(open_oracle(model, **options))
    if user not in codes.users:
        raise UsageError(f"{user!r} is none of the {len(codes.users)} users of these codes")
    if oracle.digest != codes.model:
        raise UsageError(f"{oracle.name} is not the model that these codes were prepared for; give that one")
    if codes.code is None:
        raise UsageError("the rows were not drawn yet: whorl codes draw")
    source = codes.data if data is None else data
    pictures = SOURCES.make(source).load("victim") if isinstance(source, str) else source
    pictures.check_takes(oracle.name, oracle.space)
    place = codes.users.index(user)
    wanted = torch.from_numpy(2 * codes.code.rows[place].astype(np.float32) - 1)  # pyright: ignore[reportUnknownMemberType]
    projection = codes.projection

    def apart(net: nn.Module, inputs: Tensor, index: Tensor) -> Tensor:
        del inputs, index
        means = _means(net, codes.layers)
        return codes.strength * (projection.to(means) @ means - wanted.to(means)).square().sum()

    def held(net: nn.Module) -> bool:
        return bool(((projection @ _means(net, codes.layers).detach().cpu() - wanted).abs() <= HELD).all())

    whole = copy.deepcopy(oracle.module)
    at = next((name for name, each in oracle.module.named_children() if each is oracle.net), None)
    # One seed for everybody, so that copies differ by their rows and not by the order of pictures.
    generator = torch.Generator().manual_seed(int(commitment(codes)[:15], 16))
    learn_beside(
        whole, pictures, apart, held, epochs=codes.epochs, learning_rate=codes.learning_rate, generator=generator
    )
    return whole if at is None else whole.get_submodule(at)


def traced(codes: Codes, suspect: Any, alpha: float = USUAL, *, align_to: Any = None, **options: Any) -> Trace:
    """Who is accused of having leaked a copy, or a mixture of copies.

    Parameters:
        suspect: a net of the same architecture: a module, a file or an oracle.
        alpha: accepted chance that any innocent user is accused.
        align_to: the model that the copies were made of; the suspect's units are put in its order first
            (`whorl.marks.aligning`). It was fixed before the draw, so p-values stay exact.

    Raises:
        UsageError: rows that were not drawn yet, another architecture, weights that are NaN or infinite, or
            ``align_to`` is another model.
    """
    if codes.code is None:
        raise UsageError("the rows were not drawn yet: whorl codes draw")
    oracle = asked_for_weights(open_oracle(suspect, **options))
    net = oracle.net
    if not all(each.isfinite().all() for each in net.parameters()):
        raise UsageError(f"{oracle.name} holds NaN or infinite weights, in which no row can be read")
    if align_to is not None:
        model = asked_for_weights(open_oracle(align_to, **options))
        if model.digest != codes.model:
            raise UsageError(f"{model.name} is not the model that these codes were prepared for; give that one")
        net = in_order_of(model, oracle)
    return _trace(codes, net, alpha, oracle.name)


def shows(codes: Codes, made: nn.Module, user: str) -> bool:
    """Whether the copy that was made for a user is traced to them: accused at `USUAL`, or named by a block code."""
    found = next(each for each in _trace(codes, made, USUAL, "the copy").users if codes.users[each.user] == user)
    return found.accused or found.named


def _trace(codes: Codes, net: nn.Module, alpha: float, name: str) -> Trace:
    assert codes.code is not None
    means = _means(net, codes.layers).detach().cpu()
    if len(means) != codes.projection.shape[1]:
        raise UsageError(
            f"the layers of {name} have {len(means)} weights to a unit, and the codes read "
            f"{codes.projection.shape[1]}: it is not of the copies' architecture"
        )
    read = codes.projection.double() @ means.double()
    return trace(((read + 1) / 2).clamp(0, 1).numpy(), codes.code, alpha)  # pyright: ignore[reportUnknownMemberType]


def length_of(plan: str, users: int, colluders: int, error: float) -> int:
    """Positions of a code."""
    if plan == "tardos":
        return TardosPlan(max(users, 2), min(colluders, max(users, 2)), error).length
    return next(each for each in SIZES if users <= each)


def tardos_plan(codes: Codes) -> TardosPlan:
    """The plan that codes of this kind follow."""
    return TardosPlan(len(codes.users), min(codes.colluders, len(codes.users)), codes.error)


def _means(net: nn.Module, layers: Sequence[str]) -> Tensor:
    return torch.cat([mean_weights(net, each) for each in layers])
