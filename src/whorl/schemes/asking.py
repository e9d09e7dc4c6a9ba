"""How a suspect is asked: whether it may be, in which order, and what is made of its answers."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from whorl.errors import AccessRefused, UsageError
from whorl.fingerprints.second import identity
from whorl.oracles.base import Oracle
from whorl.oracles.interface import ONE_HOT, OneHot
from whorl.oracles.reordered import Reordered, in_order_of
from whorl.oracles.wrappers import digests_of
from whorl.printable import printable
from whorl.types import Access, Evidence, Fingerprint, Queries, Representation, grants, told

if TYPE_CHECKING:
    from whorl.schemes.base import Scheme

__all__ = [
    "admit",
    "admit_victim",
    "asking_order",
    "check_kind",
    "compare",
    "ordered",
    "readable",
    "represent",
    "typed",
]


def admit(scheme: Scheme, fingerprint: Fingerprint, oracle: Oracle) -> None:
    """Raise `AccessRefused` or `UsageError`, before the first query, where the oracle cannot be asked."""
    needed = grants(scheme.needs_suspect)
    if not needed <= oracle.grants:
        raise AccessRefused(
            f"{scheme.name} needs {told(needed)} of the suspect; {oracle.name} grants {told(oracle.grants)}. "
            f"{_instead(scheme, 'suspect', oracle)}"
        )
    check_kind(scheme, fingerprint, oracle)
    if set(digests_of(oracle)) & set(fingerprint.pool):
        raise UsageError(
            f"{oracle.name} is one of the shadow models that this fingerprint learned from; whatever the "
            "similarity, it would show nothing"
        )


def admit_victim(scheme: Scheme, victim: Oracle) -> None:
    """Raise `AccessRefused` or `UsageError`, before anything is asked, where the scheme can't fingerprint the model."""
    needed, _ = scheme.demands()
    if not needed <= victim.grants:
        if isinstance(victim, Reordered) and needed <= victim.inner.grants:
            raise UsageError(
                f"the classes of the data stand in another order than those of {victim.name}, and {scheme.name} needs "
                f"{told(needed)} of it, which no order can be put on: give the data's classes in the model's order, "
                f"which begins with {printable(', '.join(victim.inner.class_names[:3]))}, or a scheme that needs logits"
            )
        raise AccessRefused(
            f"{scheme.name} needs {told(needed)} of the victim; {victim.name} grants {told(victim.grants)}. "
            f"{_instead(scheme, 'victim', victim)}"
        )
    if victim.task not in scheme.tasks:
        raise UsageError(
            f"{scheme.name} is for {' or '.join(sorted(scheme.tasks))}; {victim.name} does {victim.task}. Where there "
            "are no classes, random+scores+l2 asks for no more than answers, and is enough for a lineup"
        )


def _instead(scheme: Scheme, side: str, oracle: Oracle) -> str:
    """What to type where one side grants too little for a scheme."""
    if scheme.purpose != "mark":
        return f"Schemes that work here: whorl schemes --{side}-access {typed(oracle)}"
    if side == "victim":
        return "A mark is put into weights: give the file that holds them, and --architecture where it names none"
    return "This mark is read from the suspect's own weights file; which marks need labels alone: whorl marks"


def check_kind(scheme: Scheme, fingerprint: Fingerprint, oracle: Oracle) -> None:
    """Raise `UsageError` where the oracle takes other inputs, or has other classes, than the fingerprint asks."""
    known = not scheme.any_classes and fingerprint.classes
    wanted = (fingerprint.space, fingerprint.classes, fingerprint.task) if known else (fingerprint.space,)
    if (oracle.space, oracle.classes, oracle.task)[: len(wanted)] != wanted:
        raise UsageError(
            f"the fingerprint asks {fingerprint.space} of {fingerprint.classes} classes ({fingerprint.task}); "
            f"{oracle.name} takes {oracle.space} of {oracle.classes} ({oracle.task})"
            f"{_of_any_classes(oracle) if oracle.classes != fingerprint.classes else ''}"
        )


def readable(scheme: Scheme, fingerprint: Fingerprint, oracle: Oracle) -> Oracle:
    """The oracle as the null was measured: labels as one-hot rows, where the scheme sees probabilities.

    Only where the null was measured through such rows, so that the suspect is ranked among models of which as little is
    seen; every other oracle comes back as it is.

    Raises:
        AccessRefused: the labels could be read so, had the null been measured through one-hot rows.
    """
    needed, calibration = grants(scheme.needs_suspect), fingerprint.calibration
    less = needed <= grants(Access.PROBABILITIES) and not needed <= oracle.grants
    if not less or calibration is None or oracle.task != "classification":
        return oracle
    if calibration.through(ONE_HOT) is None:
        raise AccessRefused(
            f"{scheme.name} needs {told(needed)} of the suspect; {oracle.name} grants {told(oracle.grants)}. Its "
            f"labels can be read as one-hot rows where the null was measured so: whorl calibrate --interface {ONE_HOT}"
        )
    return OneHot(oracle)


def ordered(scheme: Scheme, fingerprint: Fingerprint, oracle: Oracle) -> Oracle:
    """The oracle with its classes in the fingerprint's order, where both name them.

    Raises:
        UsageError: the names are not the same, or the scheme looks inside the model, where no order can be changed.
    """
    put = in_order_of(oracle, fingerprint.class_names)
    if put is not oracle and not grants(scheme.needs_suspect) <= put.grants:
        raise UsageError(
            f"{oracle.name} has its classes in another order than the fingerprint, and {scheme.name} needs "
            f"{told(scheme.needs_suspect)}, which can't be put into another order from outside"
        )
    return put


def represent(scheme: Scheme, oracle: Oracle, queries: Queries) -> Representation:
    """What a scheme makes of an oracle's answers. Raises `UsageError` where an old file lacks what it reads."""
    try:
        return scheme.represent(oracle, queries)
    except KeyError as error:
        raise UsageError(f"the fingerprint lacks {error}, which {scheme.name} reads; extract it anew") from None


def _of_any_classes(oracle: Oracle) -> str:
    """Which schemes could ask a suspect whose classes are not the victim's."""
    from whorl.schemes import SCHEMES

    kinds: dict[str, Any] = {name: SCHEMES[name] for name in SCHEMES}
    able = [name for name, kind in kinds.items() if kind.any_classes and kind.demands()[1] <= oracle.grants]
    return f". Schemes for suspects of other classes: {', '.join(able)}"


def compare(scheme: Scheme, reference: Representation, observed: Representation) -> Evidence:
    """How alike two representations are. Raises `UsageError` where they differ in shape."""
    if not scheme.any_classes and reference.values.shape != observed.values.shape:
        raise UsageError(
            f"{scheme.name} represents this suspect as {list(observed.values.shape)}, and the fingerprint's victim as "
            f"{list(reference.values.shape)}: the two cannot be compared"
        )
    return scheme.similarity(reference, observed)


def asking_order(fingerprint: Fingerprint) -> Tensor:
    """The order ``[n]`` in which any suspect is asked, fixed by the fingerprint's id, which holds its nonce.

    It was drawn before there was a suspect, so neither the suspect's name nor its address can choose it; and it is
    the same when an interrupted verification resumes.
    """
    seed = hashlib.sha256(f"order {identity(fingerprint)}".encode()).digest()[:8]
    generator = torch.Generator().manual_seed(int.from_bytes(seed, "little") >> 1)
    return torch.randperm(len(fingerprint.queries), generator=generator)


def typed(oracle: Oracle) -> str:
    """An oracle's grants as an option of the command line."""
    name = told(oracle.grants)
    return name.lower() if " and " not in name else ",".join(sorted(oracle.grants))
