"""From a model to a marked one: fix the inputs, draw, embed, and keep what checks it.

The same three steps for every mark. `prepare` gives a fingerprint that fixes what the draw must not see and says by
which SHA-256 (`whorl.marks.base.commitment_of`); a draw gives labels or bits; `embed` trains them in.
"""

from __future__ import annotations

import copy
import secrets
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib.metadata import version
from typing import Any, Final

import torch
from torch import Tensor, nn

from whorl.attest.draw import Draw, numbers_below
from whorl.data import SOURCES, Dataset
from whorl.data.neutral import neutral
from whorl.errors import AccessRefused, UsageError
from whorl.marks.base import DRAWN_AS, Watermark, commitment_of
from whorl.oracles.base import Oracle
from whorl.oracles.opening import open_oracle
from whorl.oracles.torch import TorchOracle
from whorl.schemes import MARKS
from whorl.schemes.asking import admit_victim
from whorl.schemes.calibration import probes_of
from whorl.storage import digest_tensors
from whorl.types import Fingerprint, Mark, Representation, Verdict

__all__ = ["MOST_DRAWS", "SEEDS", "USUAL", "checking", "drawn_by", "embed", "prepare"]

MOST: Final = 100_000  # queries of a mark
MOST_DRAWS: Final = 1 << 32
SEEDS: Final = 1 << 63
USUAL: Final = 1e-6  # the alpha at which marks are looked for unless another is named


def prepare(
    model: Any, kind: Watermark | str, data: Dataset | str, *, count: int = 100, seed: int | None = None, **options: Any
) -> Fingerprint:
    """What is fixed before the draw: a fingerprint whose labels or bits are still to come.

    Parameters:
        model: the one to mark, with its weights: a module, a file or an oracle.
        kind: a mark, or an expression such as ``backdoor(images=noise)``.
        data: the data that the model learned from, or an expression of their source.
        count: how many labels or bits.
        seed: of the inputs; a secret one of 63 bits by default, for who guesses it knows the triggers.
        options: what the file does not say of the model (`whorl.oracles.opening.open_oracle`).

    Raises:
        AccessRefused, UsageError: the model can't be marked so, or the data don't fit or are too few.
    """
    mark, oracle = _mark_of(kind), open_oracle(model, **options)
    admit_victim(mark, oracle)
    if not 1 <= count <= MOST:
        raise UsageError(f"a mark has one label or bit at least, and {MOST:,} at most; these are {count:,}")
    if seed is not None and not 0 <= seed < SEEDS:
        raise UsageError(f"a seed is a whole number from 0 to 2^63 - 1; this is {seed}")
    pictures = _of(data, mark.part)
    pictures.check_takes(oracle.name, oracle.space)
    chosen = secrets.randbits(63) if seed is None else seed
    queries = mark.sample(oracle, pictures, budget=count, generator=torch.Generator().manual_seed(chosen))
    if len(queries) != count:
        raise UsageError(f"{mark.name} made {len(queries)} queries; {count} are due")
    return Fingerprint(
        scheme=str(mark),
        victim=oracle.digest,
        queries=queries,
        reference=Representation(torch.zeros(count, dtype=torch.int64)),
        space=oracle.space,
        data=pictures.expression if isinstance(data, Dataset) else data,
        seed=chosen,
        classes=oracle.classes,
        versions={package: version(package) for package in ("whorl", "torch", "numpy")},
        task=oracle.task,
        class_names=pictures.classes if len(pictures.classes) == oracle.classes else (),
        nonce=secrets.token_bytes(16).hex(),
        mark=Mark(mark.kind, queries.inputs[:0], torch.zeros(0, dtype=torch.int64)),
    )


def embed(
    prepared: Fingerprint,
    model: Any,
    data: Dataset | str | None = None,
    *,
    draw: Draw | None = None,
    draws: int = 1,
    seed: int | None = None,
    chance: bytes | None = None,
    told: Callable[[Verdict], None] | None = None,
    **options: Any,
) -> tuple[nn.Module, Fingerprint]:
    """The marked copy of a model, and the fingerprint that checks it.

    Parameters:
        prepared: what `prepare` made of this model.
        draw: the transcript of a draw for `whorl.marks.base.commitment_of` of ``prepared``. Without one the labels are
            drawn here, by the operating system, and before others the mark is worth the owner's word.
        draws: how often labels were drawn for a mark of this model, this time included; p is multiplied by it.
        seed: of the training; by default that of ``prepared`` plus one.
        told: called with the verdict on the marked model itself at `USUAL`, where the mark's labels or bits are drawn:
            one that did not learn them is found by nobody.
        chance: 32 bytes that labels come from where there is no draw, so that a benchmark can be run again.
        options: as in `prepare`.

    Raises:
        UsageError: it is another model, the draw is for something else, or there are no data.
    """
    mark, oracle = _mark_of(prepared.scheme), open_oracle(model, **options)
    if prepared.mark is None or len(prepared.mark.drawn):
        raise UsageError("this file holds no mark that waits for its draw; make one: whorl mark MODEL --prepare FILE")
    if prepared.victim != oracle.digest:
        raise UsageError(f"{oracle.name} is not the model that this mark was prepared for; give that one")
    if not isinstance(oracle, TorchOracle):
        raise AccessRefused(f"a mark is trained into PyTorch weights; {oracle.name} is {type(oracle).__name__}")
    if not 1 <= draws <= MOST_DRAWS:
        raise UsageError(
            f"labels were drawn at least once, and {MOST_DRAWS:,} times at most; these are {draws:,} draws"
        )
    if (source := data if data is not None else prepared.data) in (None, ""):
        raise UsageError("a mark is learned beside the task: give the data that the model learned from (--data)")
    pictures = _of(source, "victim")
    pictures.check_takes(oracle.name, oracle.space)
    drawn, how = _drawn(mark, prepared, draw, draws, chance)
    # What a description put around the net takes part in the training, and is no part of what is kept.
    whole, place = copy.deepcopy(oracle.module), _place(oracle)
    generator = torch.Generator().manual_seed((prepared.seed + 1) % (1 << 63) if seed is None else seed)
    whole = mark.embed(whole, pictures, prepared.queries, drawn, generator=generator).eval()
    net = whole if place is None else whole.get_submodule(place)
    digest = digest_tensors(net.state_dict())
    marked = TorchOracle(
        whole, input_shape=oracle.space, classes=oracle.classes, name="marked", digest=digest, task=oracle.task
    )
    made = checking(prepared, marked, source, drawn, how)
    if told is not None and mark.null == "design":
        told(mark.verify(made, marked, alpha=USUAL))
    return net, made


def checking(
    prepared: Fingerprint, marked: Oracle, data: Dataset | str, drawn: Tensor, how: Mapping[str, Any]
) -> Fingerprint:
    """The fingerprint that checks a model in which ``drawn`` was embedded; ``how`` says how that was drawn."""
    mark = _mark_of(prepared.scheme)
    controls = neutral(data, prepared.seed)
    probes = probes_of(marked, controls) if controls is not None and controls.outputs == marked.classes else None
    design = mark.null == "design"
    return replace(
        prepared,
        victim=marked.digest,
        reference=mark.reference(prepared.queries, drawn),
        probes=probes,
        mark=Mark(mark.kind, prepared.queries.inputs[:0], drawn, how) if design else None,
        provenance={**prepared.provenance, "marked": prepared.victim},
    )


def _place(oracle: TorchOracle) -> str | None:
    """Where the net stands in what a description made of it; None where it is the whole."""
    own = oracle.net
    return next((name for name, each in oracle.module.named_children() if each is own), None)


def drawn_by(mark: Watermark, prepared: Fingerprint, chance: bytes) -> Tensor:
    """What 32 bytes give to embed, ``[n]``; of a mark that draws nothing what it embeds whatever they are."""
    if mark.null == "population":
        return mark.chosen(prepared.queries)
    count, choices = len(prepared.queries), mark.choices(prepared.queries, prepared.classes)
    return torch.tensor(numbers_below(chance, mark.kind, DRAWN_AS, count=count, choices=choices))


def _drawn(
    mark: Watermark, prepared: Fingerprint, draw: Draw | None, draws: int, chance: bytes | None
) -> tuple[Tensor, dict[str, Any]]:
    """What is embedded, and how it came about."""
    if mark.null == "population":
        if draw is not None:
            raise UsageError(f"{mark.name} draws nothing: what it embeds follows from its inputs; leave out the draw")
        return mark.chosen(prepared.queries), {}
    count, choices = len(prepared.queries), mark.choices(prepared.queries, prepared.classes)
    if draw is None:
        return drawn_by(mark, prepared, chance or secrets.token_bytes(32)), {"draws": draws}
    if draw.claim != (wanted := commitment_of(prepared)):
        raise UsageError(f"this draw is for {draw.claim[:16]}..., and the mark for {wanted[:16]}...: draw for this one")
    found = draw.bits(count, DRAWN_AS) if mark.kind == "bits" else draw.labels(count, choices, DRAWN_AS)
    return torch.tensor(found), {"draws": draws, "transcript": draw.document()}


def _mark_of(kind: Watermark | str) -> Watermark:
    mark = MARKS.make(kind) if isinstance(kind, str) else kind
    assert isinstance(mark, Watermark)
    return mark


def _of(data: Dataset | str, part: str) -> Dataset:
    return SOURCES.make(data).load(part) if isinstance(data, str) else data
