"""What is signed in a dispute: the predicates of its statements, and the envelopes that hold them.

A claim, an opening, a judgment and a revocation are in-toto statements in a DSSE envelope (`whorl.attest.envelope`).
The subject of each is the victim, by the SHA-256 of its weights (`whorl.storage.digest_tensors`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Generic, Literal, TypeVar

from pydantic import Field, JsonValue, ValidationError, model_validator

from whorl.attest.envelope import Statement, open_envelope, seal, unverified
from whorl.attest.keys import Ed25519PrivateKey, PublicKey
from whorl.errors import InvalidFile
from whorl.fingerprints.parts import Count, Document, Finite, Name, Text
from whorl.storage import MAX_JSON_BYTES, check_size, write_whole

__all__ = [
    "Claim",
    "Disclosed",
    "Family",
    "IntegrityAnswer",
    "JudgedModel",
    "Judgment",
    "Opened",
    "Opening",
    "Revocation",
    "Signed",
    "Stratum",
]
__all__ += ["FAMILY_NAME", "LEAST_FAMILIES", "MOST_FAMILIES", "MOST_OPENED"]
__all__ += ["check_is_claim", "read_signed", "write_signed"]

SUBJECT: Final = "victim"
LEAST_FAMILIES: Final = 3
MOST_FAMILIES: Final = 50
MOST_OPENED: Final = 100_000
FAMILY_NAME: Final = r"^[a-z0-9][a-z0-9+_-]{0,99}$"

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Families = Annotated[str, Field(pattern=FAMILY_NAME)]
Share = Annotated[float, Field(ge=0, le=1)]


class Family(Document):
    """What is fixed of one fingerprint: how it was made, and the root over its queries (`whorl.claims.leaves`)."""

    scheme: Annotated[str, Field(min_length=1, max_length=4096)]
    size: Annotated[int, Field(ge=1, le=MOST_OPENED)]
    root: Digest
    facts: Digest


class Claim(Document):
    """An owner's commitment: families of queries, how many will be opened, and who will be ranked with whom.

    ``lineup`` commits to the victim's recipe and seed (`whorl.claims.making.sealed_recipe`); ``strata`` says, in the
    owner's words or as recipes, which independent models a judge is expected to train: they choose others as they like.
    A claim of ``mode`` "public" opens everything to everybody, for integrity, and is never evidence of origin.
    """

    format: Literal[1] = 1
    mode: Literal["sealed", "public"] = "sealed"
    task: Literal["classification", "regression", "generation"]
    space: Text
    classes: Count
    data: Text
    families: Annotated[dict[Families, Family], Field(min_length=1, max_length=MOST_FAMILIES)]
    opened: Annotated[int, Field(ge=1, le=MOST_OPENED)]
    alpha: Annotated[float, Field(gt=0, lt=1)]
    strata: Annotated[list[Text], Field(max_length=20)]
    lineup: Digest | None
    versions: Annotated[dict[Name, Name], Field(max_length=100)]

    @model_validator(mode="after")
    def _enough(self) -> Claim:
        if self.mode == "sealed" and len(self.families) < LEAST_FAMILIES:
            raise ValueError(f"a sealed claim has {LEAST_FAMILIES} families or more")
        if self.mode == "public" and self.lineup is not None:
            raise ValueError("a public claim seals no recipe")
        return self


class Opened(Document):
    """The opened queries of one family: their places, the salts of their leaves, and the way of each to the root."""

    indices: Annotated[list[Annotated[int, Field(ge=0, lt=MOST_OPENED)]], Field(min_length=1, max_length=MOST_OPENED)]
    salts: Annotated[list[Digest], Field(min_length=1, max_length=MOST_OPENED)]
    paths: Annotated[list[Annotated[list[Digest], Field(max_length=63)]], Field(min_length=1, max_length=MOST_OPENED)]
    fingerprint: Digest


class Opening(Document):
    """What an owner opens of a claim, for one suspect and by one draw; ``lineup`` if recipe and seed are disclosed.

    ``reserves`` names those of the families that are asked with the others, so that their answers are kept, and judged
    later if at all.
    """

    format: Literal[1] = 1
    claim: Digest
    suspect: Digest
    draw: dict[str, Any]
    families: Annotated[dict[Families, Opened], Field(max_length=MOST_FAMILIES)]
    reserves: Annotated[list[Families], Field(default_factory=list, max_length=MOST_FAMILIES)]
    lineup: bool


class JudgedModel(Document):
    """One model of a judge's null: what it is and how it answered."""

    digest: Name
    accuracy: Share
    matches: Annotated[dict[Families, Finite], Field(max_length=MOST_FAMILIES)]


class Stratum(Document):
    """Independent models of one kind; ``void`` says why they decide nothing, empty where they do."""

    recipe: Text
    models: Annotated[list[JudgedModel], Field(max_length=100_000)]
    void: Text


class Judgment(Document):
    """What a judge found: relation, priority, and what the other side showed, each for itself.

    The relation rests on ``strata``, or on a ``lineup`` of the victim and twins that the judge trained.
    """

    format: Literal[1] = 1
    opening: Digest
    suspect: Text
    suspect_digest: Name
    date: Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z$")]
    accuracy: Share | None
    matches: Annotated[dict[Families, Finite], Field(max_length=MOST_FAMILIES)]
    strata: Annotated[list[Stratum], Field(max_length=20)]
    lineup: Annotated[dict[Name, JsonValue], Field(max_length=100)]
    relation: Literal["derived", "inconclusive"]
    priority: Literal["shown", "not shown"]
    counterpart: Literal["none shown", "earlier", "undecided"]
    p_value: Annotated[float, Field(gt=0)]
    p_value_floor: Annotated[float, Field(gt=0)]
    alpha: Annotated[float, Field(gt=0, lt=1)]
    tries: Annotated[int, Field(ge=1)]
    grade: Literal["C", "D"]
    caveats: Annotated[list[Text], Field(max_length=100)]


class IntegrityAnswer(Document):
    """Whether a suspect answers a public claim as its victim did: no word on origin, and none on priority."""

    format: Literal[1] = 1
    claim: Digest
    suspect: Text
    suspect_digest: Name
    date: Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z$")]
    decision: Literal["changed", "no change shown"]
    changed: Annotated[int, Field(ge=0)]
    asked: Annotated[int, Field(ge=1)]
    drawn_changed: Annotated[int, Field(ge=0)]
    drawn: Annotated[int, Field(ge=0)]
    upper: Share
    alpha: Annotated[float, Field(gt=0, lt=0.5)]
    distribution: Text
    counted: Text
    caveats: Annotated[list[Text], Field(max_length=100)]


class Disclosed(Document):
    """How a victim was trained, as only the judge is told (`whorl.claims.making.sealed_recipe`)."""

    format: Literal[1] = 1
    recipe: Annotated[str, Field(min_length=1, max_length=4096)]
    seed: Annotated[str, Field(pattern=r"^(0|[1-9][0-9]{0,39})$")]
    salt: Digest


class Revocation(Document):
    """Families that are spent, for they were opened, and why."""

    format: Literal[1] = 1
    claim: Digest
    families: Annotated[list[Families], Field(min_length=1, max_length=MOST_FAMILIES)]
    reason: Text


TYPES: Final[dict[type[Document], str]] = {
    Claim: "urn:whorl:claim:v1",
    Opening: "urn:whorl:opening:v1",
    Judgment: "urn:whorl:judgment:v1",
    IntegrityAnswer: "urn:whorl:integrity:v1",
    Revocation: "urn:whorl:revocation:v1",
}
MOST_BYTES: Final[dict[type[Document], int]] = {Claim: 1 << 20, Revocation: 1 << 20}
"""Of those that anybody may hand in and that hold no queries; parsing takes time long before a count is refused."""
Kind = TypeVar("Kind", bound=Document)


@dataclass(frozen=True)
class Signed(Generic[Kind]):
    """A statement that was verified: its predicate, the victim, the SHA-256 of the envelope, and who signed."""

    body: Kind
    victim: str
    digest: str
    signers: tuple[str, ...]
    data: bytes


def write_signed(body: Document, victim: str, key: Ed25519PrivateKey, path: Path) -> Signed[Any]:
    """Sign a statement about a victim and write its envelope. Returns it as `read_signed` would."""
    predicate = json.loads(body.model_dump_json())
    data = seal(Statement({SUBJECT: victim}, TYPES[type(body)], predicate), [key])
    write_whole(path, data)
    return parse_signed(data, type(body), [key.public_key()], str(path))


def read_signed(path: Path, kind: type[Kind], keys: Sequence[PublicKey]) -> Signed[Kind]:
    """Read an envelope and verify it.

    Raises:
        UsageError: no such file.
        InvalidFile: no envelope, none of these keys signed it, or it holds another kind of statement.
    """
    check_size(path, MOST_BYTES.get(kind, MAX_JSON_BYTES))
    return parse_signed(path.read_bytes(), kind, keys, str(path))


def check_is_claim(path: Path) -> None:
    """Raise where a file is no claim, whoever signed it: a draw can begin before the owner's key is at hand.

    Raises:
        UsageError: no such file.
        InvalidFile: no envelope, or one of another kind of statement.
    """
    check_size(path, MOST_BYTES[Claim])
    try:
        statement = unverified(path.read_bytes())
    except InvalidFile as error:
        raise InvalidFile(f"{path} is no claim: {error}") from None
    if statement.predicate_type != TYPES[Claim]:
        raise InvalidFile(f"{path} is a statement of {statement.predicate_type[:80]}, and no claim")


def parse_signed(data: bytes, kind: type[Kind], keys: Sequence[PublicKey], name: str) -> Signed[Kind]:
    """The same of bytes; ``name`` is what messages call them."""
    if len(data) > (most := MOST_BYTES.get(kind, MAX_JSON_BYTES)):
        raise InvalidFile(f"{name} holds {len(data):,} bytes; at most {most:,} are read")
    try:
        statement, signers = open_envelope(data, keys)
    except InvalidFile as error:
        raise InvalidFile(f"{name}: {error}") from None
    if statement.predicate_type != TYPES[kind]:
        raise InvalidFile(f"{name} is a statement of {statement.predicate_type[:80]}, and none of {TYPES[kind]}")
    if list(statement.subjects) != [SUBJECT]:
        raise InvalidFile(f"{name} has other subjects than the one victim")
    try:
        body = kind.model_validate_json(json.dumps(statement.predicate))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise InvalidFile(f"{name}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    return Signed(body, statement.subjects[SUBJECT], hashlib.sha256(data).hexdigest(), signers, data)
