"""``whorl claim``: commit to fingerprints, open a drawn part of them, and judge a suspect by it."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from whorl.cli import completion
from whorl.cli.claim_check import check
from whorl.cli.claim_witness import witness
from whorl.cli.console import bar, guarded, line, model_options, print_json, say
from whorl.cli.options import (
    Architecture,
    Classes,
    Json,
    Quiet,
    Set,
    Shape,
    TrustCode,
    file_to_write,
    folder_to_write,
)
from whorl.cli.paths import private_key
from whorl.errors import UsageError

if TYPE_CHECKING:
    from whorl.attest.keys import Ed25519PrivateKey
    from whorl.attest.log import Log

__all__ = ["app"]

app = typer.Typer(
    help="Claims that a third party can check: commit, stamp, draw, open, judge.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)


class Mode(StrEnum):
    """Who may see what a claim commits to."""

    sealed = "sealed"
    public = "public"


SCHEMES_OF = {Mode.sealed: ("akh", "igsm", "multipoint"), Mode.public: ("random",)}
CLAIM = Annotated[Path, typer.Argument(help="A claim, as whorl claim make wrote it.")]
KEY = Annotated[Path, typer.Option(help="Your private key (PEM): openssl genpkey -algorithm ed25519 -out KEY")]
PUBLIC = Annotated[Path, typer.Option(help="The owner's public key (PEM): openssl pkey -in KEY -pubout -out KEY.pub")]


@app.command("make")
@guarded
def make(
    victim: Annotated[str, typer.Argument(help="Your model, with its weights.")],
    data: Annotated[
        str,
        typer.Option(
            help="Pictures, as in digits or 'folder(./pictures, size=32)'.", autocompletion=completion.sources
        ),
    ],
    key: KEY,
    output: Annotated[Path, typer.Option("--output", "-o", help="Where to write the claim.", callback=file_to_write)],
    secrets: Annotated[
        Path, typer.Option(help="A new folder for what opens the claim. Keep it private.", callback=folder_to_write)
    ],
    scheme: Annotated[
        list[str] | None,
        typer.Option(help="Three or more, of natural and made queries. Repeatable. [akh, igsm, multipoint]"),
    ] = None,
    budget: Annotated[int, typer.Option(min=1, help="Queries of each family.")] = 200,
    opened: Annotated[
        int, typer.Option(min=1, help="How many of them a dispute opens, in each of two families.")
    ] = 100,
    alpha: Annotated[float, typer.Option(help="Accepted chance of accusing an independent model.")] = 0.01,
    mode: Annotated[
        Mode,
        typer.Option(
            help="sealed: a judge sees a drawn part. public: publish claim and folder, so that anybody checks "
            "integrity; it is never evidence of origin, and one scheme is enough. [random]"
        ),
    ] = Mode.sealed,
    stratum: Annotated[
        list[str] | None,
        typer.Option(help="A recipe, or words, of independent models that a judge may train. Repeatable."),
    ] = None,
    recipe: Annotated[
        str | None, typer.Option(help="How your model was trained, for a lineup whose twins the judge trains; sealed.")
    ] = None,
    victim_seed: Annotated[int | None, typer.Option(min=0, help="The seed of that training; sealed too.")] = None,
    log: Annotated[Path | None, typer.Option(help="A log of your claims, begun if it is not there.")] = None,
    architecture: Architecture = None,
    classes: Classes = None,
    shape: Shape = None,
    settings: Set = None,
    trust_code: TrustCode = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Commit to fingerprints of your model, none of which is shown, and sign.

    Example: whorl claim make mine.safetensors --data digits --key owner.pem -o mine.claim --secrets mine.secrets

    For anybody to check that a served model is this one: whorl claim make mine.safetensors --mode public --data digits
    --key owner.pem -o mine.claim --secrets published
    """
    from whorl.claims.making import make_claim

    private = private_key(key)
    kept = _log(log, private)
    options = model_options(architecture, classes, shape, settings)
    with bar(quiet) as show:
        claim = make_claim(
            victim,
            data=data,
            schemes=scheme or SCHEMES_OF[mode],
            key=private,
            path=output,
            folder=secrets,
            size=budget,
            opened=opened,
            alpha=alpha,
            strata=stratum or (),
            recipe=recipe or "",
            seed=victim_seed,
            mode=mode.value,
            progress=lambda name: show(f"extracting {name}", 0, 0),
            trust_code=trust_code,
            **options,
        )
    _append(kept, claim.data, private)
    document = {"claim": str(output), "sha256": claim.digest, "victim": claim.victim, "signed_by": claim.signers[0]}
    if as_json:
        print_json(document | {"families": {name: each.size for name, each in claim.body.families.items()}})
        return
    line(f"{output}  {', '.join(claim.body.families)}  SHA-256 {claim.digest}")
    if not quiet and mode is Mode.public:
        say(f"Publish both. Anybody asks: whorl claim check {output} {secrets} SUSPECT --owner-key KEY.pub")
    elif not quiet:
        say(f"{secrets} opens it: keep it private, and keep it. Next: whorl claim stamp {output} --request stamp.tsq")


@app.command("stamp")
@guarded
def stamp(
    claim: CLAIM,
    request: Annotated[
        Path | None, typer.Option(help="Write a request for any time-stamping authority.", callback=file_to_write)
    ] = None,
    token: Annotated[Path | None, typer.Option(help="Verify an authority's answer.")] = None,
    tsa_root: Annotated[
        Path | None, typer.Option(help="The authority's root certificates (PEM) that you trust.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Ask for a time-stamp of RFC 3161 over any file, or verify one, offline.

    Send the request to an authority with any tool, as curl with the header Content-Type: application/timestamp-query.

    Example: whorl claim stamp mine.claim --request mine.tsq

    With the answer: whorl claim stamp mine.claim --token mine.tsr --tsa-root root.pem
    """
    from whorl.attest.stamp import new_nonce, query
    from whorl.claims.dates import stamped
    from whorl.storage import digest_file, write_whole

    if (request is None) == (token is None):
        raise UsageError("give --request FILE to ask for a stamp, or --token FILE with --tsa-root to verify one")
    if request is not None:
        write_whole(request, query(bytes.fromhex(digest_file(claim)), new_nonce()))
        line(f"{request}  for {claim}")
        return
    if token is None or tsa_root is None:
        raise UsageError("a stamp is verified against roots that you trust: give --tsa-root root.pem")
    found = stamped(claim, token, tsa_root)
    if as_json:
        print_json({"time": found.time.isoformat(), "authority": found.authority, "serial": str(found.serial)})
        return
    line(f"{claim} existed at {found.time:%Y-%m-%d %H:%M:%S} UTC, says {found.authority}")


@app.command("draw")
@guarded
def draw(
    drawing: Annotated[Path, typer.Argument(help="The draw, a file that passes from hand to hand.")],
    role: Annotated[str, typer.Option("--as", help="Who you are: judge, owner or suspect.")],
    nonce: Annotated[
        Path | None, typer.Option(help="Where your secret number is kept until you reveal it; made when you commit.")
    ] = None,
    claim: Annotated[Path | None, typer.Option(help="The judge begins: the claim that the draw is for.")] = None,
    suspect: Annotated[str | None, typer.Option(help="The judge begins: the suspect that the draw is for.")] = None,
    mark: Annotated[
        Path | None, typer.Option(help="The judge begins: the mark, or the codes, that are drawn (--prepare).")
    ] = None,
    withholds: Annotated[str | None, typer.Option(help="The judge notes who withholds: owner or suspect.")] = None,
    architecture: Architecture = None,
    classes: Classes = None,
    shape: Shape = None,
    settings: Set = None,
    trust_code: TrustCode = False,
    as_json: Json = False,
) -> None:
    """Draw which queries are opened, or a mark's labels, so that nobody chooses: judge and owner commit, both reveal.

    Owner and judge type the same again to reveal, the judge last.

    Example: whorl claim draw case.draw --as judge --nonce judge.nonce --claim mine.claim --suspect s.safetensors

    The owner: whorl claim draw case.draw --as owner --nonce owner.nonce
    """
    from whorl.claims.drawing import begin, next_step, step, withhold

    if role not in ("judge", "owner", "suspect") or withholds not in (None, "owner", "suspect"):
        raise UsageError("parties of a draw are judge, owner and suspect: --as owner")
    begins = mark is not None or (claim is not None and suspect is not None)
    if begins and role != "judge":
        raise UsageError("the judge begins a draw: --as judge")
    if withholds is not None:
        found = withhold(drawing, withholds)  # pyright: ignore[reportArgumentType] one of those named above
    elif nonce is None:
        raise UsageError("your secret number lies in a file of yours: give --nonce FILE")
    elif begins:
        options: dict[str, Any] = model_options(architecture, classes, shape, settings) | {"trust_code": trust_code}
        found = begin(*_purpose(mark, claim, suspect, options), nonce, drawing)
    elif not drawing.exists():
        raise UsageError("the judge begins a draw: give --claim and --suspect, or --mark")
    else:
        found = step(drawing, role, nonce)  # pyright: ignore[reportArgumentType] one of those named above
    if as_json:
        print_json(found.model_dump())
        return
    who, what, _ = found.events[-1]
    line(f"{drawing}  the {who} {what}; {next_step(found) or 'the draw has ended'}")


def _purpose(
    mark: Path | None, claim: Path | None, suspect: str | None, options: dict[str, Any]
) -> tuple[str, str | None]:
    """What is drawn for: a mark by its commitment, or a claim and a suspect by their digests."""
    from whorl.claims.documents import check_is_claim
    from whorl.marks.base import commitment_of
    from whorl.marks.code_files import KEY, read_codes
    from whorl.marks.user_codes import commitment
    from whorl.oracles.opening import open_oracle
    from whorl.oracles.wrappers import digests_of
    from whorl.schemes.opening import read_fingerprint
    from whorl.storage import digest_file, read_metadata

    if mark is not None and KEY in read_metadata(mark):
        return commitment(read_codes(mark)), None
    if mark is not None:
        return commitment_of(read_fingerprint(mark)), None
    assert claim is not None
    check_is_claim(claim)
    of = digests_of(open_oracle(suspect, **options))
    if not of:
        raise UsageError(f"{suspect} has no digest")
    return digest_file(claim), of[0]


@app.command("open")
@guarded
def open_(
    claim: CLAIM,
    secrets: Annotated[Path, typer.Option(help="The folder that whorl claim make kept for you.")],
    drawing: Annotated[Path, typer.Option("--draw", help="The finished draw.")],
    key: KEY,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="A new folder for the opening.", callback=folder_to_write)
    ],
    family: Annotated[
        list[str] | None, typer.Option(help="Families to open, of both kinds. Repeatable. [the first of each kind]")
    ] = None,
    revoked: Annotated[
        list[Path] | None, typer.Option(help="Revocations that you signed: their families stay shut. Repeatable.")
    ] = None,
    reserves: Annotated[
        bool,
        typer.Option(
            "--reserves",
            help="Also open all other families that are not revoked: an endpoint is asked them in the same session, so "
            "that they can be judged later by these answers. That many more questions, and all of them are spent.",
        ),
    ] = False,
    lineup: Annotated[bool, typer.Option(help="Disclose recipe and seed, so that the judge trains twins.")] = False,
    quiet: Quiet = False,
) -> None:
    """Open the queries that were drawn, for the judge. The others stay secret, and are nevertheless spent: revoke them.

    Example: whorl claim open mine.claim --secrets mine.secrets --draw case.draw --key owner.pem -o case.opening
    """
    from whorl.claims.documents import Claim, Revocation, read_signed
    from whorl.claims.drawing import finished
    from whorl.claims.making import read_secrets
    from whorl.claims.opening import open_claim

    private = private_key(key)
    keys = [private.public_key()]
    known = read_signed(claim, Claim, keys)
    told, drawn = finished(drawing)
    if told.suspect is None:
        raise UsageError(f"{drawing} is a draw for a mark, and a claim is opened by one for it and a suspect")
    spent = [name for path in revoked or () for name in read_signed(path, Revocation, keys).body.families]
    opening = open_claim(
        known,
        read_secrets(secrets),
        drawn,
        told.suspect,
        key=private,
        folder=output,
        families=family or (),
        spent=spent,
        reserves=reserves,
        lineup=lineup,
    )
    judged = [name for name in opening.body.families if name not in opening.body.reserves]
    names = ", ".join(judged) or "recipe and seed"
    names += f"; in reserve {', '.join(opening.body.reserves)}" if opening.body.reserves else ""
    line(f"{output}  {names}  SHA-256 {opening.digest}")
    if not quiet:
        say("Give it to the judge alone. What was opened teaches how to remove and to frame: whorl claim revoke")


@app.command("revoke")
@guarded
def revoke(
    claim: CLAIM,
    family: Annotated[list[str], typer.Option(help="A family that was opened. Repeatable.")],
    key: KEY,
    output: Annotated[Path, typer.Option("--output", "-o", help="Where to write it.", callback=file_to_write)],
    reason: Annotated[str, typer.Option(help="Why, in words.")] = "opened in a dispute",
    log: Annotated[Path | None, typer.Option(help="The log of your claims.")] = None,
) -> None:
    """Sign that families are spent, so that nobody takes them for fresh evidence.

    Example: whorl claim revoke mine.claim --family akh --family igsm --key owner.pem -o mine.revocation
    """
    from whorl.claims import making
    from whorl.claims.documents import Claim, read_signed

    private = private_key(key)
    known = read_signed(claim, Claim, [private.public_key()])
    kept = _log(log, private)
    making.revoke(known, family, reason, private, output)
    _append(kept, output.read_bytes(), private)
    line(f"{output}  revokes {', '.join(sorted(set(family)))}")


app.command("check")(check)
app.command("witness")(witness)


def _log(path: Path | None, key: Ed25519PrivateKey) -> Log | None:
    """The owner's log, verified or begun before anything is signed that it is to hold."""
    from whorl.attest.keys import key_id
    from whorl.attest.log import Log

    if path is None:
        return None
    public = key.public_key()
    return Log(path, public) if path.exists() else Log.create(path, f"whorl/claims/{key_id(public)[:16]}", key)


def _append(log: Log | None, entry: bytes, key: Ed25519PrivateKey) -> None:
    if log is not None:
        log.append(entry, key)
        log.close()
