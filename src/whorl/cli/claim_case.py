"""What a judge is shown beside claim and opening, as options of ``whorl claim check``: dates, logs, the other side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from whorl.errors import UsageError

if TYPE_CHECKING:
    from whorl.attest.keys import PublicKey
    from whorl.attest.log import Log
    from whorl.attest.stamp import Stamp
    from whorl.claims.case import Case
    from whorl.claims.documents import Claim, Signed
    from whorl.claims.opening import OpenedClaim

__all__ = ["Shown", "Theirs", "case_of"]


@dataclass(frozen=True)
class Shown:
    """What the owner shows, and what the judge knows."""

    claim: Path
    stamp: Path | None
    tsa_root: Path | None
    log: Path | None
    witness_key: Path | None
    suspects: int
    nonce: Path | None
    since: str | None
    alpha: float | None


@dataclass(frozen=True)
class Theirs:
    """What the other side shows."""

    suspect_stamp: Path | None
    files: Sequence[Path]
    stamps: Sequence[Path]
    key: Path | None
    opening: Path | None


def case_of(
    known: Signed[Claim],
    keys: Sequence[PublicKey],
    opened: OpenedClaim,
    suspect: str,
    shown: Shown,
    theirs: Theirs,
    options: Mapping[str, Any],
) -> Case:
    """Everything verified.

    Raises:
        UsageError: something is missing. InvalidFile: something does not fit.
    """
    from whorl.claims.case import Case
    from whorl.claims.dates import stamped
    from whorl.claims.drawing import kept_nonce

    if shown.alpha is not None and not 0 < shown.alpha < 1:
        raise UsageError(f"alpha is a chance between 0 and 1; this is {shown.alpha:g}")
    if (shown.stamp or theirs.suspect_stamp or theirs.stamps) and shown.tsa_root is None:
        raise UsageError("a stamp is verified against roots that you trust: give --tsa-root root.pem")
    mine = None
    earlier: list[Stamp] = []
    if shown.tsa_root is not None:
        mine = None if shown.stamp is None else stamped(shown.claim, shown.stamp, shown.tsa_root)
        if theirs.suspect_stamp is not None:
            earlier.append(stamped(Path(suspect), theirs.suspect_stamp, shown.tsa_root))
    dated, undated, said = _counters(opened, suspect, shown, theirs, options)
    logged, spent, told = _log(shown, known, keys)
    if again := sorted(spent & {*opened.families, *opened.reserves}):
        told = (
            *told,
            f"revoked, for they were opened in a dispute: {', '.join(again)}; a suspect that was made since may have "
            "been trained by what was opened, and then it escapes or is framed in these families",
        )
    return Case(
        tries=logged * shown.suspects,
        nonce="" if shown.nonce is None else kept_nonce(shown.nonce).hex(),
        stamp=mine,
        since=None if shown.since is None else _date(shown.since),
        earlier=(*earlier, *dated),
        undated=undated,
        spent=frozenset(spent),
        alpha=1.0 if shown.alpha is None else shown.alpha,
        caveats=(*told, *said),
    )


def _counters(
    opened: OpenedClaim, suspect: str, shown: Shown, theirs: Theirs, options: Mapping[str, Any]
) -> tuple[list[Stamp], int, tuple[str, ...]]:
    """Dates of what the other side shows, how much of it nobody dates, and what is told of it."""
    from whorl.attest.keys import read_public_key
    from whorl.claims.counter import read_artefact
    from whorl.storage import digest_file

    if len(theirs.stamps) > len(theirs.files):
        raise UsageError("each --counter-stamp is of one --counter, in their order; there are more stamps than files")
    if theirs.opening is not None and (len(theirs.files) != 1 or theirs.key is None):
        raise UsageError("their opening is of one claim that they signed: give one --counter, and --counter-key")
    keys = [] if theirs.key is None else [read_public_key(theirs.key)]
    known = [opened.opening.body.suspect, digest_file(suspect)] if Path(suspect).is_file() else []
    told: list[str] = []
    dated: list[Stamp] = []
    undated = 0
    for place, path in enumerate(theirs.files):
        token = theirs.stamps[place] if place < len(theirs.stamps) else None
        found = read_artefact(path, known, token=token, roots=shown.tsa_root, keys=keys)
        if theirs.opening is not None and (fault := _fault(path, suspect, theirs.opening, keys, options)):
            told.append(f"the other side's claim is void, and its date counts for nothing: {fault}")
            continue
        when = "nobody dates it" if found.stamp is None else f"dated {found.stamp.time:%Y-%m-%d %H:%M:%S} UTC"
        word = "" if known else "; that it is of the suspect is their word, for nobody sees its weights"
        told.append(f"the other side shows {found.name}, SHA-256 {found.digest}: {when}{word}")
        dated += [] if found.stamp is None else [found.stamp]
        undated += found.stamp is None
    return dated, undated, tuple(told)


def _fault(path: Path, suspect: str, opening: Path, keys: Sequence[PublicKey], options: Mapping[str, Any]) -> str:
    """Why their claim is void; empty where it is not."""
    from whorl.claims.counter import own_leaves_fault
    from whorl.claims.documents import Claim, read_signed
    from whorl.claims.opening import read_opening
    from whorl.suspects import one_of

    opened = read_opening(opening, read_signed(path, Claim, keys), keys)
    if not opened.families:
        raise UsageError(
            "their opening holds no queries, and only these show whether their claim is void: ask for some"
        )
    return own_leaves_fault(opened, one_of(next(iter(opened.families.values())), suspect, **options))


def _log(shown: Shown, known: Signed[Claim], keys: Sequence[PublicKey]) -> tuple[int, set[str], tuple[str, ...]]:
    """Claims of the owner, families that are spent, and what is told of the log."""
    from whorl.attest.keys import Ed25519PublicKey
    from whorl.attest.log import Log
    from whorl.claims.case import claims_logged, revoked_in

    if shown.log is None:
        if shown.witness_key is not None:
            raise UsageError("a witness cosigns the owner's log: give --log too")
        return 1, set(), ("no log was shown, so that nobody knows how many claims there were to choose this one from",)
    mine = next((key for key in keys if isinstance(key, Ed25519PublicKey)), None)
    if mine is None:
        raise UsageError("a log is signed by a key of Ed25519, and the owner's is another; leave out --log")
    opened = Log(shown.log, mine)
    try:
        logged, spent = claims_logged(opened, known, keys), revoked_in(opened, known, keys)
        kept = "the owner keeps it, and may keep another"
        whose = kept if shown.witness_key is None else _seen(opened, known, shown.witness_key)
        return logged, spent, (f"p is multiplied by {logged}, the claims in the owner's log; {whose}",)
    finally:
        opened.close()


def _seen(log: Log, known: Signed[Claim], witness: Path) -> str:
    """What the witness saw of the log, the claim included."""
    from whorl.attest.checkpoint import check_cosignature
    from whorl.attest.keys import Ed25519PublicKey, raw_key, read_public_key
    from whorl.claims.case import place_in

    key = read_public_key(witness)
    if not isinstance(key, Ed25519PublicKey) or raw_key(key) == raw_key(log.key):
        raise UsageError(
            "a witness has a key of Ed25519 of its own, which is not the owner's: give another --witness-key"
        )
    lines = log.cosigned(key)
    place = place_in(log, known)
    if (size := max(lines, default=0)) <= place:
        raise UsageError(
            f"this witness has cosigned no checkpoint of {log.path} that includes the claim: whorl claim witness"
        )
    name, time = check_cosignature(lines[size][-1], log.checkpoint(size), key)
    later = f", and {len(log) - size} came since" if len(log) > size else ""
    return f"the witness {name} saw its first {size} entries at {time:%Y-%m-%d %H:%M:%S} UTC{later}"


def _date(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{text!r} is no date, as in 2026-05-31 or 2026-05-31T12:00:00Z") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
