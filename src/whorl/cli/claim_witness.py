"""``whorl claim witness``: see that somebody else's log only grows, and sign that."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from whorl.cli.console import guarded, line, print_json
from whorl.cli.options import Json, file_to_write
from whorl.cli.paths import private_key
from whorl.printable import counted

__all__ = ["witness"]


@guarded
def witness(
    log: Annotated[Path, typer.Argument(help="Somebody else's log of claims.")],
    log_key: Annotated[Path, typer.Option(help="Its owner's public key (PEM).")],
    key: Annotated[Path, typer.Option(help="Your private key (PEM): openssl genpkey -algorithm ed25519 -out KEY")],
    seen: Annotated[
        Path,
        typer.Option(help="Where you keep what you saw last; begun if it is not there.", callback=file_to_write),
    ],
    name: Annotated[str, typer.Option(help="Your name below checkpoints. [whorl/witness/ and your key's id]")] = "",
    as_json: Json = False,
) -> None:
    """Verify that a log continues the checkpoint that you saw last, and add your signature below its latest.

    Each size of a log is signed once, so that nobody has it draw again. Keep SEEN: it is what finds a log that was
    written anew.

    Example: whorl claim witness claims.log --log-key owner.pub --key witness.pem --seen owner.seen
    """
    import time

    from whorl.attest.keys import Ed25519PublicKey, read_public_key
    from whorl.attest.witness import witness as cosigned
    from whorl.attest.witness import witness_name
    from whorl.errors import UsageError

    private = private_key(key)
    owner = read_public_key(log_key)
    if not isinstance(owner, Ed25519PublicKey):
        raise UsageError("a log is signed by a key of Ed25519, and this is another: give the log's own --log-key")
    began = not seen.exists()
    found = cosigned(log, owner, private, seen, time=int(time.time()), name=name)
    called = name or witness_name(private.public_key())
    if as_json:
        print_json({"log": found.origin, "entries": found.size, "root": found.root.hex(), "witness": called})
        return
    before = "seen for the first time" if began else "it continues what was seen before"
    line(f"{log}  {counted(found.size, 'entry', 'entries')}, {before}; signed as {called}")
