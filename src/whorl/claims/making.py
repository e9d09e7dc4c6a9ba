"""The owner's side: commit to fingerprints, keep what opens them, and say later which are spent."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import Field, ValidationError

from whorl.attest.keys import Ed25519PrivateKey
from whorl.claims.cost import check_cost
from whorl.claims.documents import (
    LEAST_FAMILIES,
    MOST_FAMILIES,
    MOST_OPENED,
    Claim,
    Family,
    Revocation,
    Signed,
    write_signed,
)
from whorl.claims.leaves import check_openable, facts, tree
from whorl.data import SOURCES
from whorl.errors import InvalidFile, UsageError
from whorl.expressions import parse
from whorl.fingerprints.files import write_fingerprint
from whorl.fingerprints.parts import Document, Text
from whorl.oracles.opening import open_oracle
from whorl.oracles.wrappers import digests_of
from whorl.schemes import SCHEMES
from whorl.schemes.opening import read_fingerprint
from whorl.storage import canonical_json, read_json, write_json
from whorl.types import Access, Fingerprint
from whorl.zoo.recipe import parse_recipe

__all__ = [
    "KINDS",
    "Secrets",
    "family_of",
    "kind_of",
    "make_claim",
    "read_secrets",
    "revoke",
    "sealed_recipe",
    "seed_of",
]

SECRETS: Final = "secrets.json"
KINDS: Final = ("natural", "made")
SEEDS: Final = b"whorl/seed/v1"
SEEDS_END: Final = 1 << 63


def kind_of(scheme: str) -> Literal["natural", "made"]:
    """Whether a scheme asks pictures as they are, or such as were made against the victim.

    Made ones, once they are opened, teach how to remove and how to frame; natural ones hardly do.
    """
    return "natural" if SCHEMES.make(scheme).natural else "made"


def seed_of(victim: str, scheme: str) -> int:
    """The seed of a claim's family: 63 bits of SHA-256 over the victim's digest and the scheme's text.

    It is nobody's choice, so that no owner tries seeds until one suits them.
    """
    digest = hashlib.sha256(SEEDS + bytes.fromhex(victim) + str(SCHEMES.make(scheme)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def sealed_recipe(salt: str, recipe: str, seed: int) -> str:
    """The commitment to a victim's recipe and seed, which only the judge is told."""
    return hashlib.sha256(canonical_json({"salt": salt, "recipe": recipe, "seed": str(seed)})).hexdigest()


@dataclass(frozen=True)
class Secrets:
    """What opens a claim: 32 secret bytes, the fingerprints by family, and the victim's recipe and seed, if any."""

    secret: bytes
    families: Mapping[str, Fingerprint]
    recipe: str
    seed: int | None

    @property
    def salt(self) -> str:
        """Of the sealed recipe."""
        return hashlib.sha256(b"whorl/recipe/v1" + self.secret).hexdigest()


class _Secrets(Document):
    format: Literal[1]
    secret: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    families: Annotated[list[Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9+_-]{0,99}$")]], Field(max_length=50)]
    recipe: Text
    seed: Annotated[str, Field(pattern=r"^(0|[1-9][0-9]{0,39})$")] | None


def make_claim(  # noqa: PLR0913 each is an option of `whorl claim make`
    victim: Any,
    *,
    data: str,
    schemes: Sequence[str],
    key: Ed25519PrivateKey,
    path: Path,
    folder: Path,
    size: int = 200,
    opened: int = 100,
    alpha: float = 0.01,
    strata: Sequence[str] = (),
    recipe: str = "",
    seed: int | None = None,
    mode: Literal["sealed", "public"] = "sealed",
    progress: Callable[[str], None] = lambda _: None,
    **options: Any,
) -> Signed[Claim]:
    """Extract a fingerprint by each scheme, commit to every query, and sign.

    Parameters:
        victim: your model, whose weights are at hand.
        data: an expression, as in ``digits``.
        schemes: three or more of both kinds (`kind_of`), that compare query by query.
        key: signs the claim. path: the claim. folder: everything that opens it; whoever has that can make the claim
            worthless.
        size: queries of each family.
        opened: how many of them a dispute opens, in each of two families.
        alpha: accepted chance that an independent model is called derived.
        strata: recipes of independent models that a judge may train, or words.
        recipe: how the victim was trained, for a lineup whose twins the judge trains; it stays sealed.
        seed: the victim's own run of ``recipe``; it stays sealed too.
        mode: "public" publishes all of ``folder``, for integrity (`whorl.claims.public`): one scheme is enough then,
            all queries count, and nothing of it is ever evidence of origin.
        progress: called with each scheme before it is extracted.

    Raises:
        UsageError: too few families, or all of one kind; ``folder`` is not empty; a victim without weights.
    """
    if mode == "public":
        opened = size
        if recipe:
            raise UsageError("a public claim is no evidence of origin, and has no use for a recipe: leave it out")
    _check_numbers(size, opened, alpha, recipe, seed)
    names = _names(schemes, mode, size)
    if recipe:
        recipe = str(parse_recipe(recipe, trust_code=options.get("trust_code", False)).with_seed(0))
    if folder.exists() and any(folder.iterdir()):
        raise UsageError(f"{folder} is not empty; what opens a claim has a folder of its own: give another --secrets")
    oracle = open_oracle(victim, **options)
    if oracle.access is not Access.WEIGHTS or len(digest := digests_of(oracle)[0]) != 64:
        raise UsageError(f"a claim is about weights, and {oracle.name} shows none: give the file of your model")
    source = SOURCES.make(data)
    made: dict[str, Fingerprint] = {}
    for name, scheme in names.items():
        progress(scheme)
        chosen = SCHEMES.make(scheme)
        pictures = source.load(chosen.part)
        extracted = chosen.extract(oracle, pictures, budget=size, seed=seed_of(digest, scheme))
        made[name] = replace(extracted, victim=digest)
    known = Secrets(secrets.token_bytes(32), made, recipe, seed)
    first = next(iter(made.values()))
    claim = Claim(
        mode=mode,
        task=first.task,
        space=str(first.space),
        classes=first.classes,
        data=first.data,
        families={name: family_of(known, name) for name in made},
        opened=opened,
        alpha=alpha,
        strata=list(strata),
        lineup=None if seed is None else sealed_recipe(known.salt, recipe, seed),
        versions={package: version(package) for package in ("whorl", "torch", "numpy")},
    )
    _write_secrets(known, folder, private=mode == "sealed")
    return write_signed(claim, digest, key, path)


def _check_numbers(size: int, opened: int, alpha: float, recipe: str, seed: int | None) -> None:
    if size > MOST_OPENED:
        raise UsageError(f"a family has {MOST_OPENED:,} queries at most; give a smaller --budget")
    if not 1 <= opened <= size:
        raise UsageError(f"{opened} of {size} queries can't be opened; give --opened below --budget")
    if (seed is None) != (not recipe):
        raise UsageError("a recipe is committed with the seed of your model: give --recipe and --victim-seed")
    if seed is not None and not 0 <= seed < SEEDS_END:
        raise UsageError("a seed is a whole number from 0 to 2^63 - 1; give that of your model's training")
    if not 0 < alpha < 1:
        raise UsageError(f"alpha is a chance between 0 and 1; this is {alpha:g}")


def _names(schemes: Sequence[str], mode: Literal["sealed", "public"], size: int) -> dict[str, str]:
    """A name for each scheme. Raises `UsageError` where they make no claim."""
    found: dict[str, str] = {}
    if len(schemes) > MOST_FAMILIES:
        raise UsageError(f"a claim has {MOST_FAMILIES} families at most; these are {len(schemes):,}")
    for scheme in schemes:
        check_openable(scheme, labels=mode == "sealed")
        if mode == "sealed":
            check_cost(scheme, scheme, size)
        if SCHEMES.make(scheme).needs_pool:
            raise UsageError(
                f"{scheme} learns from shadow models, which the judge would have to be given too; leave it out"
            )
        name, number = parse(str(SCHEMES.make(scheme))).name, 2
        if name in found:
            while f"{name}-{number}" in found:
                number += 1
            name = f"{name}-{number}"
        found[name] = scheme
    if mode == "public":
        if not found:
            raise UsageError("a public claim needs one scheme at least, as in --scheme random")
        return found
    kinds = {kind_of(scheme) for scheme in schemes}
    if len(found) < LEAST_FAMILIES or len(kinds) < len(KINDS):
        raise UsageError(
            f"a claim needs {LEAST_FAMILIES} schemes or more, of natural and of made queries, so that one kind can't "
            "frame a model alone; as in --scheme akh --scheme igsm --scheme multipoint"
        )
    return found


def family_of(known: Secrets, name: str) -> Family:
    """What a claim says of one of its families."""
    fingerprint = known.families[name]
    return Family(
        scheme=fingerprint.scheme,
        size=len(fingerprint.queries),
        root=tree(fingerprint, known.secret, name).root().hex(),
        facts=facts(fingerprint),
    )


def _write_secrets(known: Secrets, folder: Path, *, private: bool) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700 if private else 0o755)
    for name, fingerprint in known.families.items():
        write_fingerprint(fingerprint, folder / f"{name}.fp")
    document = {
        "format": 1,
        "secret": known.secret.hex(),
        "families": sorted(known.families),
        "recipe": known.recipe,
        "seed": None if known.seed is None else str(known.seed),
    }
    write_json(folder / SECRETS, document)
    (folder / SECRETS).chmod(0o600 if private else 0o644)


def read_secrets(folder: Path) -> Secrets:
    """What opens a claim. Raises `InvalidFile` where the folder is damaged, `UsageError` where there is none."""
    path = folder / SECRETS
    try:
        document = _Secrets.model_validate(read_json(path, max_bytes=1 << 20))
    except ValidationError:
        raise InvalidFile(f"{path} holds no secrets of a claim") from None
    families = {name: read_fingerprint(folder / f"{name}.fp") for name in document.families}
    seed = None if document.seed is None else int(document.seed)
    return Secrets(bytes.fromhex(document.secret), families, document.recipe, seed)


def revoke(claim: Signed[Claim], families: Sequence[str], reason: str, key: Ed25519PrivateKey, path: Path) -> None:
    """Sign that families of a claim are spent. Raises `UsageError` where the claim has no such family."""
    if unknown := sorted(set(families) - claim.body.families.keys()):
        raise UsageError(f"this claim has no family {unknown[0]!r}; it has {', '.join(claim.body.families)}")
    write_signed(Revocation(claim=claim.digest, families=sorted(set(families)), reason=reason), claim.victim, key, path)
