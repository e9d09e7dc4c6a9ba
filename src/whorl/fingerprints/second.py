"""Format 2: one canonical document, in which everything that decides is hashed.

The document (RFC 8785) has these sections. ``fingerprint`` is fixed when the fingerprint is made: scheme, victim,
space, seed, settings' provenance, nonce of the asking order, and the SHA-256 of every tensor that belongs to it
(queries, reference, probes, a lineup's candidates, a mark). ``calibration`` names the fingerprint that it belongs to,
who chose the null, every model of it, and its tensors by SHA-256. ``looks`` is a chain, each entry with the digest of
the one before. ``ids`` holds the SHA-256 of the first two sections; ``seconds`` alone is outside of any hash.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, JsonValue
from torch import Tensor

from whorl.expressions import parse
from whorl.fingerprints.parts import Count, Document, Finite, Name, Text, numbers_of, queries_of, take
from whorl.spaces import InputSpace, named_space
from whorl.storage import canonical_json, digest_tensors
from whorl.types import (
    Calibration,
    Candidates,
    Fingerprint,
    Grade,
    Look,
    Mark,
    Measured,
    Null,
    NullModel,
    Origin,
    Probes,
    Queries,
    Representation,
    Task,
)

__all__ = ["assemble", "calibration_identity", "document_of", "identity", "look_after"]

MOST_ANSWERS = 1000  # numbers kept of each raw answer; an answer of more classes is kept as its label

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Tensors = Annotated[dict[Name, Digest], Field(max_length=1000)]
Notes = Annotated[dict[Name, JsonValue], Field(max_length=1000)]


class _Candidates(Document):
    digests: Annotated[tuple[Name, ...], Field(min_length=2, max_length=10_000)]
    commitment: Digest
    recipe: Text
    settings: Notes
    notes: Notes = Field(default_factory=dict)


class _Mark(Document):
    kind: Literal["labels", "bits"]
    draw: Notes


class _Fingerprint(Document):
    scheme: Annotated[str, Field(min_length=1, max_length=4096)]
    victim: Text
    space: Text
    data: Text
    seed: Annotated[str, Field(pattern=r"^(0|-?[1-9][0-9]{0,38})$")]
    task: Task
    classes: Count
    class_names: Annotated[tuple[Name, ...], Field(max_length=100_000)]
    pool: Annotated[tuple[Name, ...], Field(max_length=10_000)]
    provenance: Annotated[dict[Name, Text], Field(max_length=1000)]
    nonce: Annotated[str, Field(pattern=r"^[0-9a-f]{0,64}$")]
    notes: Notes
    versions: Annotated[dict[Name, Name], Field(max_length=100)]
    candidates: _Candidates | None
    mark: _Mark | None
    tensors: Tensors


class _NullModel(Document):
    name: Text
    digest: Name
    made: Text
    accuracy: Annotated[float, Field(ge=-1e6, le=1)] | None
    interface: Text
    group: Text
    family: Text = ""


class _Measured(Document):
    similarities: Annotated[tuple[Finite, ...], Field(max_length=100_000)]
    derived: Annotated[dict[Name, tuple[Finite, ...]], Field(max_length=10_000)]


class _Calibration(Document):
    fingerprint: Digest
    pool: Text
    origin: Origin
    grade: Grade
    models: Annotated[tuple[_NullModel, ...], Field(max_length=100_000)]
    siblings: Count
    derived: Annotated[dict[Name, tuple[Finite, ...]], Field(max_length=10_000)]
    interfaces: Annotated[dict[Name, _Measured], Field(max_length=100)] = Field(default_factory=dict)
    earlier: Annotated[tuple[Text, ...], Field(max_length=1000)] = ()
    tensors: Tensors


class _Look(Document):
    date: Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z$")]
    suspect: Text
    rule: Text
    decision: Name
    previous: Digest


class _Ids(Document):
    fingerprint: Digest
    calibration: Digest | None


class _Whole(Document):
    format: Literal[2]
    fingerprint: _Fingerprint
    calibration: _Calibration | None
    looks: Annotated[tuple[_Look, ...], Field(max_length=100_000)]
    seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    ids: _Ids


def document_of(fingerprint: Fingerprint) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The document and the tensors of a file."""
    section, tensors = _fingerprint_section(fingerprint)
    calibration, more = _calibration_section(fingerprint, _digest(section))
    document = {
        "format": 2,
        "fingerprint": section,
        "calibration": calibration,
        "looks": [asdict(look) for look in fingerprint.looks],
        "seconds": fingerprint.seconds,
        "ids": {"fingerprint": _digest(section), "calibration": _digest(calibration) if calibration else None},
    }
    return document, tensors | more


def identity(fingerprint: Fingerprint) -> str:
    """SHA-256 of all that was fixed when the fingerprint was made; of format 1, of its queries and reference alone."""
    if fingerprint.format == 1:
        tensors = {"inputs": fingerprint.queries.inputs, "reference": fingerprint.reference.values}
        return digest_tensors(tensors)[:16]
    return _digest(_fingerprint_section(fingerprint)[0])


def calibration_identity(fingerprint: Fingerprint) -> str | None:
    """SHA-256 of the calibration with the fingerprint that it belongs to; None where there is none, or in format 1."""
    if fingerprint.calibration is None or fingerprint.format == 1:
        return None
    section, _ = _calibration_section(fingerprint, identity(fingerprint))
    return _digest(section) if section else None


def look_after(fingerprint: Fingerprint, *, date: str, suspect: str, rule: str, decision: str) -> Look:
    """The entry that comes next in the log of looks."""
    previous = _digest(asdict(fingerprint.looks[-1])) if fingerprint.looks else identity(fingerprint)
    return Look(date=date, suspect=suspect, rule=rule, decision=decision, previous=previous)


def assemble(tensors: dict[str, Tensor], text: str) -> Fingerprint:
    """Check every promise of the format and build the fingerprint. Raises ValueError with the first broken one."""
    whole = _Whole.model_validate_json(text)
    found: Any = json.loads(text)
    if canonical_json(found) != text.encode():
        raise ValueError("its document is not in canonical form (RFC 8785)")
    document = whole.fingerprint
    parse(document.scheme)
    _check_digests(whole, found, tensors)
    _check_looks(whole, found)
    if document.class_names and len(document.class_names) != document.classes:
        raise ValueError(f"it names {len(document.class_names)} of {document.classes} classes")
    space = named_space(document.space)
    queries = queries_of(tensors, space, document.notes)
    return Fingerprint(
        scheme=document.scheme,
        victim=document.victim,
        queries=queries,
        reference=Representation(take(tensors, "reference/values")),
        data=document.data,
        seed=int(document.seed),
        classes=document.classes,
        seconds=whole.seconds,
        versions=document.versions,
        task=document.task,
        pool=document.pool,
        space=space,
        class_names=document.class_names,
        provenance=document.provenance,
        nonce=document.nonce,
        probes=(probes := _probes(tensors, space, document.classes)),
        candidates=_candidates(tensors, space, document),
        mark=_mark(tensors, space, document.mark),
        calibration=_calibration(tensors, whole.calibration, probes),
        looks=tuple(Look(**look.model_dump()) for look in whole.looks),
    )


def _fingerprint_section(fingerprint: Fingerprint) -> tuple[dict[str, Any], dict[str, Tensor]]:
    queries = fingerprint.queries
    tensors = {**_held("queries", queries), "reference/values": fingerprint.reference.values}
    if (probes := fingerprint.probes) is not None:
        tensors |= {"probes/inputs": probes.inputs, "probes/labels": probes.labels, "probes/victim": probes.victim}
    candidates, mark = fingerprint.candidates, fingerprint.mark
    if candidates is not None:
        tensors |= {**_held("candidates", candidates.queries), "candidates/answers": candidates.answers}
    if mark is not None:
        tensors |= {"mark/inputs": mark.inputs, "mark/drawn": mark.drawn}
    return {
        "scheme": fingerprint.scheme,
        "victim": fingerprint.victim,
        "space": fingerprint.space.expression,
        "data": fingerprint.data,
        "seed": str(fingerprint.seed),
        "task": fingerprint.task,
        "classes": fingerprint.classes,
        "class_names": list(fingerprint.class_names),
        "pool": list(fingerprint.pool),
        "provenance": dict(fingerprint.provenance),
        "nonce": fingerprint.nonce,
        "notes": dict(queries.notes),
        "versions": dict(fingerprint.versions),
        "candidates": candidates
        and {
            "digests": list(candidates.digests),
            "commitment": candidates.commitment,
            "recipe": candidates.recipe,
            "settings": dict(candidates.settings),
            # What is absent leaves older documents as they are.
            **({"notes": dict(candidates.queries.notes)} if candidates.queries.notes else {}),
        },
        "mark": mark and {"kind": mark.kind, "draw": dict(mark.draw)},
        "tensors": _digests(tensors),
    }, tensors


def _calibration_section(fingerprint: Fingerprint, identity: str) -> tuple[dict[str, Any] | None, dict[str, Tensor]]:
    if (calibration := fingerprint.calibration) is None:
        return None, {}
    null = calibration.null
    tensors = {"null/similarities": torch.tensor(null.similarities, dtype=torch.float64)}
    if null.probes is not None:
        tensors["null/probes"] = null.probes
    section = {
        "fingerprint": identity,
        "pool": null.pool,
        "origin": null.origin,
        "grade": null.grade,
        # Absent where it says nothing, which leaves older documents as they are.
        "models": [
            {name: said for name, said in asdict(each).items() if said or name != "family"} for each in null.models
        ],
        "siblings": null.siblings,
        "derived": _listed(calibration.derived),
        "tensors": _digests(tensors),
    }
    if calibration.interfaces:  # what is absent where nothing was measured leaves older documents as they are
        section["interfaces"] = {
            treatment: {"similarities": list(measured.similarities), "derived": _listed(measured.derived)}
            for treatment, measured in calibration.interfaces.items()
        }
    if calibration.earlier:
        section["earlier"] = list(calibration.earlier)
    return section, tensors


def _null_model(model: NullModel) -> dict[str, Any]:
    document = asdict(model)
    return document if model.family else {name: said for name, said in document.items() if name != "family"}


def _held(prefix: str, queries: Queries) -> dict[str, Tensor]:
    held = {f"{prefix}/inputs": queries.inputs}
    held |= {f"{prefix}/companions/{name}": values for name, values in queries.companions.items()}
    return held | {f"{prefix}/shared/{name}": values for name, values in queries.shared.items()}


def _listed(derived: Mapping[str, tuple[float, ...]]) -> dict[str, list[float]]:
    return {removal: list(values) for removal, values in derived.items()}


def _digests(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    return {name: digest_tensors({"": value}) for name, value in tensors.items()}


def _digest(section: Mapping[str, Any]) -> str:
    return hashlib.sha256(canonical_json(section)).hexdigest()


def _check_digests(whole: _Whole, found: dict[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Whether the file holds what its ids say: a swapped null or an exchanged query would change them."""
    ids, calibration = whole.ids, whole.calibration
    if _digest(found["fingerprint"]) != ids.fingerprint:
        raise ValueError("its fingerprint was changed after its id was made")
    if (_digest(found["calibration"]) if calibration else None) != ids.calibration:
        raise ValueError("its calibration was changed after its id was made")
    if calibration is not None and calibration.fingerprint != ids.fingerprint:
        raise ValueError("its calibration belongs to another fingerprint")
    named = dict(whole.fingerprint.tensors) | dict(calibration.tensors if calibration else {})
    if missing := sorted(named.keys() - tensors.keys()):
        raise ValueError(f"it lacks the tensor {missing[0]!r}")
    if unknown := sorted(tensors.keys() - named.keys()):
        raise ValueError(f"it holds an unknown tensor {unknown[0]!r}")
    if changed := [name for name, digest in _digests(tensors).items() if digest != named[name]]:
        raise ValueError(f"its tensor {changed[0]!r} was changed after its id was made")


def _check_looks(whole: _Whole, found: dict[str, Any]) -> None:
    previous = whole.ids.fingerprint
    for number, look in enumerate(whole.looks, 1):
        if look.previous != previous:
            raise ValueError(f"entry {number} of its log of looks does not follow the one before")
        previous = _digest(found["looks"][number - 1])


def _answers(tensors: dict[str, Tensor], name: str, counts: tuple[int, ...]) -> Tensor:
    """Raw answers ``[*counts, k]`` float32 or labels ``[*counts]`` int64."""
    values = take(tensors, name)
    labels = values.dtype == torch.int64 and values.shape == counts
    scores = values.dtype == torch.float32 and values.shape[:-1] == counts and values.shape[-1] <= MOST_ANSWERS
    if not (labels or scores):
        raise ValueError(f"{name!r} is neither float32 {[*counts, 'k']} nor int64 {list(counts)}")
    return values


def _probes(tensors: dict[str, Tensor], space: InputSpace, classes: int) -> Probes | None:
    if "probes/inputs" not in tensors:
        return None
    inputs, labels = take(tensors, "probes/inputs"), take(tensors, "probes/labels")
    space.check(inputs)
    if labels.dtype != torch.int64 or labels.shape != inputs.shape[:1]:
        raise ValueError("'probes/labels' is not int64, one for each probe")
    if len(labels) and not -1 <= int(labels.min()) <= int(labels.max()) < max(classes, 1):
        raise ValueError(f"'probes/labels' leaves -1..{classes - 1}")
    return Probes(inputs, labels, _answers(tensors, "probes/victim", (len(inputs),)))


def _candidates(tensors: dict[str, Tensor], space: InputSpace, document: _Fingerprint) -> Candidates | None:
    if (candidates := document.candidates) is None:
        return None
    queries = queries_of(tensors, space, candidates.notes, "candidates")
    count = len(candidates.digests)
    if candidates.settings.get("by"):  # whether they are fingerprints of that scheme is seen by who knows schemes
        answers = take(tensors, "candidates/answers")
        if answers.shape[:1] != (count,):
            raise ValueError(f"'candidates/answers' does not count the {count} candidates on its axis 0")
    else:
        answers = _answers(tensors, "candidates/answers", (count, len(queries)))
    return Candidates(
        queries, answers, candidates.digests, candidates.commitment, candidates.recipe, candidates.settings
    )


def _mark(tensors: dict[str, Tensor], space: InputSpace, document: _Mark | None) -> Mark | None:
    if document is None:
        return None
    inputs, drawn = take(tensors, "mark/inputs"), take(tensors, "mark/drawn")
    space.check(inputs)
    if (
        drawn.dtype != torch.int64
        or drawn.ndim != 1
        or (len(inputs) and document.kind == "labels" and len(drawn) != len(inputs))
    ):
        raise ValueError("'mark/drawn' is not int64, one label for each input or one number for each bit")
    return Mark(document.kind, inputs, drawn, document.draw)


def _calibration(
    tensors: dict[str, Tensor], document: _Calibration | None, probes: Probes | None
) -> Calibration | None:
    if document is None:
        return None
    count = len(document.models)
    similarities = numbers_of(tensors, "null/similarities", count)
    if document.siblings > count:
        raise ValueError(f"its null has {document.siblings} siblings among {count} models")
    if document.grade != (grade := Grade.of(document.origin)):
        raise ValueError(f"a null that was chosen by the {document.origin} is of grade {grade}")
    asked = None
    if "null/probes" in tensors:
        if probes is None:
            raise ValueError("its null answered probes that it does not hold")
        asked = _answers(tensors, "null/probes", (count, len(probes.inputs)))
    models = tuple(NullModel(**model.model_dump()) for model in document.models)
    null = Null(document.pool, models, similarities, document.siblings, document.origin, asked)
    if unequal := [name for name, of in document.interfaces.items() if len(of.similarities) != count]:
        raise ValueError(f"its null has {count} models, and through {unequal[0]!r} another number")
    interfaces = {name: Measured(of.similarities, of.derived) for name, of in document.interfaces.items()}
    return Calibration(null, document.derived, interfaces, document.earlier)
