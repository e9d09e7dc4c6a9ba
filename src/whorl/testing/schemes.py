"""The contract of a scheme: declared access, chance from the seed, metered queries, evidence that adds up."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from whorl.data import PARTS
from whorl.errors import AccessRefused
from whorl.expressions import parse
from whorl.fingerprints.files import read_fingerprint, write_fingerprint
from whorl.fingerprints.second import identity
from whorl.layouts import Layout
from whorl.oracles.torch import TorchOracle
from whorl.schemes import SCHEMES
from whorl.schemes.base import Scheme
from whorl.schemes.matching import Matching
from whorl.testing.damage import check_damage
from whorl.testing.integrity import check_integrity
from whorl.testing.nets import tiny_data, tiny_pool, tiny_victim
from whorl.testing.plugins import check_parameters
from whorl.testing.promises import promise
from whorl.testing.unchanged import chance_unchanged, lent, module_unchanged, same_bytes
from whorl.types import Access, Evidence, Fingerprint, Grants, Task, grants, told

__all__ = ["check_scheme"]

TOLERANCE = 1e-6


def check_scheme(scheme: Scheme, *, budget: int = 10) -> None:
    """Raise `AssertionError` unless the scheme keeps the contract.

    It extracts three fingerprints of ``budget`` queries from `tiny_victim`; give settings that make this quick.
    """
    check_parameters(scheme)
    _check_declarations(scheme)
    _check_expression(scheme)
    needed, _ = _demands(scheme)
    _check_victim_refusal(scheme, needed)
    fingerprint = _extract(scheme, needed, budget, seed=0)
    _check_queries(fingerprint, budget)
    _check_seeds(fingerprint, _extract(scheme, needed, budget, seed=0), _extract(scheme, needed, budget, seed=1))
    _check_suspect_refusal(scheme, fingerprint)
    own = _check_evidence(scheme, fingerprint)
    _check_parts(scheme, fingerprint)
    _check_verdict(scheme, fingerprint)
    check_damage(scheme, fingerprint, _suspect(scheme, seed=1))
    if scheme.purpose == "integrity":
        check_integrity(scheme, fingerprint, _suspect(scheme))
    _check_file(scheme, fingerprint, own)


def _demands(scheme: Scheme) -> tuple[Access | Grants, Access | Grants]:
    """What victim and suspect must grant: a level of the ladder, or a set where none holds just that."""
    victim, suspect = scheme.needs_victim, scheme.needs_suspect
    if isinstance(victim, Access) and isinstance(suspect, Access):
        return max(victim, suspect), suspect
    return grants(victim, suspect), suspect


def _task(scheme: Scheme) -> Task:
    """The task that the scheme is checked on: classification where it can do that."""
    return "classification" if "classification" in scheme.tasks else min(scheme.tasks)


def _model(scheme: Scheme, granted: Access | Grants, *, seed: int = 0) -> TorchOracle:
    """A tiny model that grants this and no more; what is no classifier gives its outputs at least."""
    least = Access.LABELS if _task(scheme) == "classification" else Access.LOGITS
    access = max(granted, least) if isinstance(granted, Access) else Access.WEIGHTS
    model = tiny_victim(access, seed=seed, task=_task(scheme))
    if not isinstance(granted, Access):
        model.access = max(level for level in Access if level is least or grants(level) <= granted)
        model.beyond = granted
    return model


def _suspect(scheme: Scheme, *, seed: int = 0) -> TorchOracle:
    return _model(scheme, _demands(scheme)[1], seed=seed)


def _less(scheme: Scheme, needed: Access | Grants) -> TorchOracle | None:
    """A model that grants just less; None where there is no less."""
    if not isinstance(needed, Access):
        return _model(scheme, needed - {min(needed)})
    least = Access.LABELS if _task(scheme) == "classification" else Access.LOGITS
    return _model(scheme, Access(needed - 1)) if needed > least else None


def _check_declarations(scheme: Scheme) -> None:
    kind = type(scheme)
    for field in ("name", "paper", "idea", "blind"):
        value = getattr(kind, field, None)
        promise(isinstance(value, str) and value, f"{kind.__name__}.{field} is a text that is not empty, not {value!r}")
    for field in ("needs_victim", "needs_suspect"):
        value = getattr(kind, field, None)
        promise(
            isinstance(value, Access | frozenset),
            f"{kind.__name__}.{field} is an Access or a set of grants, not {value!r}",
        )
    promise(
        isinstance(getattr(kind, "values", None), Layout),
        f"{kind.__name__}.values is the Layout of its representation, as in Layout('n', 'int64', 0, 'k')",
    )
    promise(isinstance(kind.tasks, frozenset) and kind.tasks, f"{kind.__name__}.tasks names the tasks in a frozenset")
    known = all(name in PARTS for name in kind.part.split("+"))
    promise(known, f"{kind.__name__}.part is one of {', '.join(PARTS)} or several joined by +, not {kind.part!r}")


def _check_expression(scheme: Scheme) -> None:
    text = str(scheme)
    call = parse(text)
    promise(
        call.name == scheme.name and str(call) == text, f"str of {scheme!r} is {text!r}, which reads back otherwise"
    )
    if scheme.name in SCHEMES:
        promise(SCHEMES.make(text) == scheme, f"{text} makes {SCHEMES.make(text)!r}, not {scheme!r}")


def _check_victim_refusal(scheme: Scheme, needed: Access | Grants) -> None:
    if (victim := _less(scheme, needed)) is not None:
        data = tiny_data(scheme.part, _task(scheme))
        _expect_refusal(lambda: scheme.extract(victim, data, budget=2), victim, scheme)


def _check_suspect_refusal(scheme: Scheme, fingerprint: Fingerprint) -> None:
    for ask in (scheme.observe, scheme.verify):
        if (suspect := _less(scheme, _demands(scheme)[1])) is not None:
            _expect_refusal(lambda ask=ask, suspect=suspect: ask(fingerprint, suspect), suspect, scheme)


def _expect_refusal(ask: Callable[[], object], oracle: TorchOracle, scheme: Scheme) -> None:
    try:
        ask()
    except AccessRefused as error:
        promise("whorl schemes" in str(error), f"the refusal of {scheme.name} does not say what to type: {error}")
    else:
        raise AssertionError(f"{scheme.name} declares more access than {told(oracle.grants)} and is content with that")
    promise(oracle.queries_spent == 0, f"{scheme.name} asks {oracle.queries_spent} queries before it refuses")


def _extract(scheme: Scheme, access: Access | Grants, budget: int, *, seed: int) -> Fingerprint:
    """A fingerprint from a victim that grants what was declared and no more, and that must stay as it was."""
    victim = _model(scheme, access)
    module = victim._module  # of our own making, so its access does not bind us
    lent(module)
    data = tiny_data(scheme.part, _task(scheme))
    pool = tiny_pool(task=_task(scheme)) if scheme.needs_pool else None
    images = data.images.clone()
    with chance_unchanged(scheme.name), module_unchanged(module, scheme.name):
        fingerprint = scheme.extract(victim, data, budget=budget, seed=seed, pool=pool)
    promise(same_bytes(images, data.images), f"{scheme.name} writes to the owner's pictures")
    promise(victim.queries_spent, f"{scheme.name} makes a fingerprint without asking the victim")
    return fingerprint


def _check_queries(fingerprint: Fingerprint, budget: int) -> None:
    name, queries = fingerprint.scheme, fingerprint.queries
    promise(len(queries) == budget, f"{name} makes {len(queries)} queries on a budget of {budget}")
    promise(queries.inputs.dtype == torch.float32, f"the queries of {name} are {queries.inputs.dtype}, not float32")
    promise(not queries.inputs.requires_grad, f"the queries of {name} hang on a graph of gradients; detach them")
    low, high = float(queries.inputs.min()), float(queries.inputs.max())
    promise(0 <= low and high <= 1, f"the queries of {name} span {low:g}..{high:g}; 0..1 is needed")
    for key, companion in queries.companions.items():
        promise(len(companion) == budget, f"the companion {key} of {name} does not count the {budget} queries")


def _check_seeds(first: Fingerprint, again: Fingerprint, other: Fingerprint) -> None:
    name = first.scheme
    for key, one in _tensors(first).items():
        promise(same_bytes(one, _tensors(again)[key]), f"{name} gives another {key} for the same seed")
    promise(first.queries.notes == again.queries.notes, f"{name} gives other notes for the same seed")
    promise(
        not torch.equal(first.queries.inputs, other.queries.inputs), f"{name} gives the same queries for another seed"
    )


def _tensors(fingerprint: Fingerprint) -> dict[str, Tensor]:
    queries = fingerprint.queries
    return {"inputs": queries.inputs, "reference": fingerprint.reference.values, **queries.companions}


def _check_evidence(scheme: Scheme, fingerprint: Fingerprint) -> Evidence:
    victim, stranger = _suspect(scheme), _suspect(scheme, seed=1)
    with chance_unchanged(scheme.name), module_unchanged(victim._module, scheme.name):
        own, other = scheme.observe(fingerprint, victim), scheme.observe(fingerprint, stranger)
    promise(
        # A stranger that learned from the same pictures is no stranger to a test of data use.
        own.similarity >= other.similarity or scheme.purpose == "data",
        f"{scheme.name} finds a stranger more alike ({other.similarity:g}) than the victim itself ({own.similarity:g})",
    )
    if isinstance(scheme, Matching):
        promise(own.similarity == 1, f"the victim matches its own fingerprint at {own.similarity:g}, not 1")
    for evidence in (own, other):
        _check_per_query(scheme, evidence, len(fingerprint.queries))
    return own


def _check_per_query(scheme: Scheme, evidence: Evidence, count: int) -> None:
    values = evidence.per_query
    if values is None:
        promise(not scheme.per_query, f"{scheme.name} declares per_query and gives no similarity per query")
        return
    promise(
        values.shape == (count,), f"per-query similarities of {scheme.name} are {list(values.shape)}, not [{count}]"
    )
    promise(
        0 <= float(values.min()) and float(values.max()) <= 1, f"per-query similarities of {scheme.name} leave [0, 1]"
    )
    mean = float(values.double().mean())
    promise(
        abs(mean - evidence.similarity) <= TOLERANCE,
        f"{scheme.name} gives the similarity {evidence.similarity:g}; the mean per query is {mean:g}",
    )


def _check_parts(scheme: Scheme, fingerprint: Fingerprint) -> None:
    """A test that stops early asks in rounds, so rounds must tell what the whole tells."""
    if not scheme.per_query:
        return
    queries, half = fingerprint.queries, len(fingerprint.queries) // 2
    suspect = _suspect(scheme, seed=1)
    rounds = [scheme.represent(suspect, queries[part]) for part in (slice(0, half), slice(half, None))]
    joined = torch.cat([each.values for each in rounds])
    whole = scheme.represent(suspect, queries).values
    close = torch.allclose(joined.double(), whole.double(), rtol=1e-4, atol=1e-5)
    promise(close, f"{scheme.name} represents queries otherwise when they are asked in rounds")


def _check_verdict(scheme: Scheme, fingerprint: Fingerprint) -> None:
    suspect = _suspect(scheme)
    verdict = scheme.verify(fingerprint, suspect)
    promise(verdict.decision == "inconclusive", f"{scheme.name} says {verdict.decision} without one independent model")
    spent = int(verdict.queries["spent"])
    promise(spent == len(fingerprint.queries), f"{scheme.name} says that {spent} queries were spent, not all")


def _check_file(scheme: Scheme, fingerprint: Fingerprint, own: Evidence) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "fingerprint.safetensors"
        write_fingerprint(fingerprint, path)
        read = read_fingerprint(path)
    promise(
        identity(read) == identity(fingerprint), f"a fingerprint of {scheme.name} changes when it is saved and read"
    )
    again = scheme.observe(read, _suspect(scheme)).similarity
    promise(
        again == own.similarity, f"{scheme.name} finds {again:g} after saving and reading, {own.similarity:g} before"
    )
