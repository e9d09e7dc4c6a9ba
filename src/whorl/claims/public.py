"""A public claim: everything is published, and anybody asks a model whether it is still exactly the victim.

The folder that `whorl.claims.making.make_claim` kept is the opening. Its every query is held against the signed roots,
so that nobody exchanges one later. It is for integrity and never for origin: who knows the queries trains a stranger to
answer them so, or a copy to answer them otherwise. And who serves a model and has read the claim answers these queries
by the declared one: the bound is true of a service that treats them as all others.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from whorl.claims.documents import Claim, IntegrityAnswer, Signed
from whorl.claims.making import family_of, read_secrets
from whorl.detection.integrity import Counted, integrity
from whorl.errors import InvalidFile, UsageError
from whorl.oracles.base import Oracle
from whorl.oracles.recorded import Recorded
from whorl.oracles.wrappers import digests_of
from whorl.schemes import SCHEMES
from whorl.schemes.asking import admit, ordered
from whorl.schemes.changes import changed_queries
from whorl.suspects import one_of
from whorl.types import Fingerprint

__all__ = ["KNOWN", "check_public", "read_published"]

KNOWN: Final = (
    "all queries are published: a service that knows them can answer these by the declared model and others by "
    "another, and the bound is true of one that does not"
)
ORIGIN: Final = "nothing is said of origin: who knows the queries can train any model to answer them so, or otherwise"


def read_published(folder: Path, claim: Signed[Claim]) -> dict[str, Fingerprint]:
    """The families of a public claim, each query held against what was signed.

    Raises:
        UsageError: the claim is sealed, or there is no such folder.
        InvalidFile: what lies in the folder is not what was signed.
    """
    if claim.body.mode != "public":
        raise UsageError("this claim is sealed: its owner opens a drawn part of it to a judge (whorl claim open)")
    known = read_secrets(folder)
    if known.families.keys() != claim.body.families.keys():
        raise InvalidFile(f"{folder} holds other families than this claim")
    for name, fingerprint in known.families.items():
        if fingerprint.victim != claim.victim or family_of(known, name) != claim.body.families[name]:
            raise InvalidFile(f"{folder / name}.fp is not the family {name} that was signed")
    return dict(known.families)


def check_public(
    claim: Signed[Claim],
    folder: Path,
    suspect: Any,
    *,
    alpha: float = 0.05,
    record: Path | None = None,
    **options: Any,
) -> IntegrityAnswer:
    """Whether a suspect answers all published queries as the victim did.

    Parameters:
        alpha: the chance with which the bound on the rate fails.
        record: file that keeps a suspect's answers.
        options: as in `whorl.ownership.verify`.

    Raises:
        UsageError, AccessRefused: the suspect can't be asked.
        InvalidFile: what was published is not what was signed.
    """
    families = read_published(folder, claim)
    oracle = one_of(next(iter(families.values())), suspect, **options)
    for fingerprint in families.values():  # what can't be asked is refused before the first query
        admit(SCHEMES.make(fingerprint.scheme), fingerprint, oracle)
    if record is None:
        made, drawn = _asked(families, oracle)
    else:
        recorded = Recorded(oracle, record, purpose=claim.digest, rule="public claim")
        try:
            made, drawn = _asked(families, recorded)
            recorded.finish()
        finally:
            recorded.close()
    told = [KNOWN, ORIGIN]
    if claim.victim in digests_of(oracle):
        told.append("the suspect says that its weights are the declared ones, to the byte")
    found = integrity(
        made,
        drawn,
        alpha=alpha,
        distribution=f"pictures of {claim.body.data}, drawn by the digest of the victim",
        counted="an answer that is not the victim's, as each scheme compares them",
        scheme=", ".join(families),
        fingerprint=claim.digest,
        suspect=oracle.name[:4000],
        caveats=tuple(told),
    )
    return IntegrityAnswer(
        claim=claim.digest,
        suspect=found.suspect,
        suspect_digest=next(iter(digests_of(oracle)), "unknown"),
        date=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        decision=found.decision,
        changed=found.changed,
        asked=found.asked,
        drawn_changed=found.drawn_changed,
        drawn=found.drawn,
        upper=found.upper,
        alpha=found.alpha,
        distribution=found.distribution,
        counted=found.counted,
        caveats=list(found.caveats),
    )


def _asked(families: dict[str, Fingerprint], oracle: Oracle) -> tuple[Counted, Counted]:
    """Changed answers to queries that were made or chosen, and to those that were drawn."""
    made, drawn = Counted(), Counted()
    for fingerprint in families.values():
        scheme = SCHEMES.make(fingerprint.scheme)
        found = changed_queries(scheme, fingerprint, ordered(scheme, fingerprint, oracle), slice(None))
        made, drawn = (made, drawn + found) if scheme.drawn else (made + found, drawn)
    return made, drawn
