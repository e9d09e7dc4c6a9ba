"""The opening of a claim: a drawn part of its queries, each shown to be one of those that were committed to.

An opening is a folder: ``opening.dsse`` is signed, and ``FAMILY.fp`` are fingerprints of the opened queries alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from whorl.attest.draw import Draw, leaf_salt
from whorl.attest.keys import Ed25519PrivateKey, PublicKey
from whorl.attest.merkle import check_inclusion
from whorl.claims.documents import Claim, Disclosed, Opened, Opening, Signed, read_signed, write_signed
from whorl.claims.leaves import facts, leaf, part_of, row, tree
from whorl.claims.making import KINDS, Secrets, kind_of, sealed_recipe
from whorl.errors import InvalidFile, UsageError
from whorl.fingerprints.files import write_fingerprint
from whorl.schemes.opening import read_fingerprint
from whorl.storage import digest_file, read_json, write_json
from whorl.types import Fingerprint

__all__ = ["OpenedClaim", "dispute", "families_to_open", "open_claim", "read_opening", "refuse_public"]

SIGNED: Final = "opening.dsse"
DISCLOSED: Final = "lineup.json"


def dispute(claim: str, suspect: str) -> str:
    """What a draw is for: SHA-256 over a claim and a suspect, so that the suspect is fixed before anything is drawn.

    Parameters:
        claim: SHA-256 of the claim's envelope.
        suspect: digest of the suspect's weights, or of its address.
    """
    return hashlib.sha256(b"whorl/dispute/v1" + bytes.fromhex(claim) + suspect.encode()).hexdigest()


def families_to_open(claim: Claim, wanted: Sequence[str] = (), spent: Sequence[str] = ()) -> list[str]:
    """Two families of different kinds, natural ones first: those wanted, or the first of each kind that is not spent.

    Raises:
        UsageError: no such family, one that is spent, or all of one kind.
    """
    for name in wanted:
        if name not in claim.families:
            raise UsageError(f"this claim has no family {name!r}; it has {', '.join(claim.families)}")
        if name in spent:
            raise UsageError(f"the family {name} was opened before and is revoked; open others")
    left = [name for name in (wanted or claim.families) if name not in spent]
    kinds = {kind: [name for name in left if kind_of(claim.families[name].scheme) == kind] for kind in KINDS}
    if not all(kinds.values()):
        raise UsageError(
            "a dispute opens two families, one of natural and one of made queries, and there is none left of the "
            f"{next(kind for kind, names in kinds.items() if not names)} ones"
        )
    return [name for names in kinds.values() for name in (names if wanted else names[:1])]


def refuse_public(claim: Signed[Claim]) -> None:
    """Raise `UsageError` for a claim whose queries everybody knows: whoever likes trains a model to answer them so."""
    if claim.body.mode == "public":
        raise UsageError(
            "this claim is public: anybody can train a model that answers its queries so, or otherwise, and it shows "
            "nothing of origin. Check integrity by it: whorl claim check CLAIM FOLDER SUSPECT"
        )


def open_claim(  # noqa: PLR0913 each is an option of `whorl claim open`
    claim: Signed[Claim],
    known: Secrets,
    draw: Draw,
    suspect: str,
    *,
    key: Ed25519PrivateKey,
    folder: Path,
    families: Sequence[str] = (),
    spent: Sequence[str] = (),
    reserves: bool = False,
    lineup: bool = False,
) -> Signed[Opening]:
    """Open what was drawn, and sign it.

    Parameters:
        suspect: digest of the suspect that the draw was made for.
        families: which to open; by default the first of each kind that is not ``spent``, and none for a lineup.
        reserves: open all other families that are not spent too. A judge asks an endpoint all of them and keeps the
            answers, so that a family that is judged later is judged by answers from before anything was shown.
        lineup: disclose recipe and seed to the judge, who trains the victim anew and twins beside it.

    Raises:
        UsageError: the draw is for another claim or suspect, the secrets are another claim's, the folder holds an
            opening already.
    """
    refuse_public(claim)
    if draw.claim != dispute(claim.digest, suspect):
        raise UsageError("this draw was made for another claim or another suspect; draw for this one: whorl claim draw")
    if (folder / SIGNED).exists():
        raise UsageError(f"{folder} holds an opening already; give another folder")
    body: dict[str, Opened] = {}
    chosen = [] if lineup and not families else families_to_open(claim.body, families, spent)
    beside = [name for name in claim.body.families if reserves and name not in (*chosen, *spent)]
    told = _told(claim, known) if lineup else None
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)  # by the salts of natural queries whoever has the data knows which were opened
    for name in (*chosen, *beside):
        fingerprint, of = known.families.get(name), claim.body.families[name]
        made = None if fingerprint is None else tree(fingerprint, known.secret, name)
        if fingerprint is None or made is None or made.root().hex() != of.root:
            raise UsageError(f"these secrets do not open the family {name} of this claim; give those made with it")
        places = draw.indices(of.size, claim.body.opened, name)
        part = part_of(fingerprint, places)
        write_fingerprint(part, file := folder / f"{name}.fp")
        body[name] = Opened(
            indices=places,
            salts=[leaf_salt(known.secret, name, place).hex() for place in places],
            paths=[[step.hex() for step in made.inclusion(place)] for place in places],
            fingerprint=digest_file(file),
        )
    if told is not None:
        write_json(folder / DISCLOSED, told.model_dump())
        (folder / DISCLOSED).chmod(0o600)
    opening = Opening(
        claim=claim.digest, suspect=suspect, draw=draw.document(), families=body, reserves=beside, lineup=lineup
    )
    return write_signed(opening, claim.victim, key, folder / SIGNED)


def _told(claim: Signed[Claim], known: Secrets) -> Disclosed:
    """Recipe and seed, as they were committed to."""
    if known.seed is None or claim.body.lineup is None:
        raise UsageError("no recipe was committed with this claim: make one with --recipe and --victim-seed")
    if sealed_recipe(known.salt, known.recipe, known.seed) != claim.body.lineup:
        raise UsageError("these secrets hold another recipe or seed than this claim; give those made with it")
    return Disclosed(recipe=known.recipe, seed=str(known.seed), salt=known.salt)


@dataclass(frozen=True)
class OpenedClaim:
    """An opening that was verified against its claim: the opened part of each family, the draw, and the recipe.

    ``families`` are judged; ``reserves`` are asked with them.
    """

    claim: Signed[Claim]
    opening: Signed[Opening]
    draw: Draw
    families: Mapping[str, Fingerprint]
    disclosed: Disclosed | None = None
    reserves: Mapping[str, Fingerprint] = field(default_factory=dict[str, Fingerprint])


def read_opening(folder: Path, claim: Signed[Claim], keys: Sequence[PublicKey]) -> OpenedClaim:
    """Read an opening and hold every promise of it against the claim.

    Raises:
        UsageError: no such folder or file.
        InvalidFile: it is of another claim, by another hand, of other queries than were drawn, or a query is not one
            that was committed to.
    """
    refuse_public(claim)
    opening = read_signed(folder / SIGNED, Opening, keys)
    body = opening.body
    if body.claim != claim.digest or opening.victim != claim.victim:
        raise InvalidFile(f"{folder} opens another claim")
    if not set(opening.signers) & set(claim.signers):
        raise InvalidFile(f"{folder} was not signed by whoever signed the claim")
    draw = Draw.read(body.draw)
    if draw.claim != dispute(claim.digest, body.suspect):
        raise InvalidFile(f"the draw of {folder} was made for another claim or another suspect: a replay")
    if unknown := sorted(body.families.keys() - claim.body.families.keys()):
        raise InvalidFile(f"{folder} opens {unknown[0]!r}, which is no family of the claim")
    if stray := sorted(set(body.reserves) - body.families.keys()):
        raise InvalidFile(f"{folder} names {stray[0]!r} as a reserve and does not open it")
    judged = [name for name in body.families if name not in body.reserves]
    kinds = {kind_of(claim.body.families[name].scheme) for name in judged}
    if kinds != set(KINDS) and not (body.lineup and not kinds):
        raise InvalidFile(f"{folder} opens families of one kind only; a claim needs natural and made queries")
    families = {name: _verified(folder, name, claim, draw, body) for name in body.families}
    return OpenedClaim(
        claim,
        opening,
        draw,
        {name: families[name] for name in judged},
        _disclosed(folder, claim) if body.lineup else None,
        {name: families[name] for name in body.reserves},
    )


def _disclosed(folder: Path, claim: Signed[Claim]) -> Disclosed:
    try:
        told = Disclosed.model_validate(read_json(folder / DISCLOSED, max_bytes=1 << 16))
    except ValidationError:
        raise InvalidFile(f"{folder / DISCLOSED} discloses no recipe") from None
    if sealed_recipe(told.salt, told.recipe, int(told.seed)) != claim.body.lineup:
        raise InvalidFile(f"{folder / DISCLOSED} is not the recipe and seed that the claim committed to")
    return told


def _verified(folder: Path, name: str, claim: Signed[Claim], draw: Draw, body: Opening) -> Fingerprint:
    family, opened = claim.body.families[name], body.families[name]
    fingerprint = read_fingerprint(file := folder / f"{name}.fp")
    count = claim.body.opened
    if {len(opened.indices), len(opened.salts), len(opened.paths), len(fingerprint.queries)} != {count}:
        raise InvalidFile(f"{folder} opens another number of queries of {name} than the {count} of the claim")
    if opened.indices != draw.indices(family.size, count, name):
        raise InvalidFile(f"{folder} opens other queries of {name} than were drawn")
    if digest_file(file) != opened.fingerprint:
        raise InvalidFile(f"{file} is not the file that was signed")
    if fingerprint.victim != claim.victim or facts(fingerprint) != family.facts or fingerprint.scheme != family.scheme:
        raise InvalidFile(f"{file} was made in another way than the claim says")
    root = bytes.fromhex(family.root)
    for at, (place, salt, path) in enumerate(zip(opened.indices, opened.salts, opened.paths, strict=True)):
        hashed = leaf(bytes.fromhex(salt), place, row(fingerprint, at))
        try:
            check_inclusion(hashed, place, family.size, [bytes.fromhex(step) for step in path], root)
        except InvalidFile as error:
            raise InvalidFile(f"query {place} of {name} is none of those that were committed to: {error}") from None
    return fingerprint
