"""``whorl lock`` and ``whorl unlock``: files encrypted for those who hold a licence."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from whorl.cli.console import bar, guarded, line, print_json, say
from whorl.cli.options import Json, Quiet, file_to_write

__all__ = ["lock", "unlock"]


@guarded
def lock(
    file: Annotated[Path, typer.Argument(help="Any file, as the weights of a model.")],
    recipient: Annotated[
        list[Path], typer.Option(help="Public X25519 key (PEM) of one who may unlock the file. Repeatable.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Where to write the locked file.", callback=file_to_write)
    ],
    licence: Annotated[str, typer.Option(help="An id that the file is bound to; anybody can read it.")] = "",
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Encrypt a file for those who hold a licence: AES-256-GCM in frames, for keys of X25519.

    Whoever unlocks it has all of it: a lock keeps a file from those without a key, and from nobody else.

    Example: whorl lock mine.safetensors --recipient user.pub --licence 2026-17 -o mine.locked

    A recipient makes a key: openssl genpkey -algorithm x25519 -out user.pem

    Its public half: openssl pkey -in user.pem -pubout -out user.pub
    """
    from whorl.attest import locks

    keys = [locks.read_recipient(each) for each in recipient]
    with bar(quiet) as show:
        header = locks.lock(file, output, keys, licence=licence, progress=lambda *done: show("locking", *done))
    _report(output, header, as_json)


@guarded
def unlock(
    file: Annotated[Path, typer.Argument(help="A locked file, as whorl lock wrote it.")],
    key: Annotated[Path, typer.Option(help="Your private X25519 key (PEM).")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where to write the file.", callback=file_to_write)],
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Decrypt a locked file. Nothing is written unless every frame is authentic and in its place.

    The password of an encrypted key is read from the variable WHORL_KEY_PASSWORD.

    Example: whorl unlock mine.locked --key user.pem -o mine.safetensors
    """
    import os

    from whorl.attest import locks

    password = os.environ.get("WHORL_KEY_PASSWORD")
    private = locks.read_unlocking_key(key, password.encode() if password else None)
    with bar(quiet) as show:
        header = locks.unlock(file, output, private, progress=lambda *done: show("unlocking", *done))
    _report(output, header, as_json)
    if not quiet and not as_json:
        say("It is the whole file in the clear: keep it as you would your own.")


def _report(output: Path, header: object, as_json: bool) -> None:
    from whorl.attest.locks import Locked

    assert isinstance(header, Locked)
    if as_json:
        told = {"output": str(output), "sha256": header.digest, "licence": header.licence, "frames": header.frames}
        print_json(told | {"recipients": [each.key for each in header.recipients]})
        return
    licence = f"  licence {header.licence}" if header.licence else ""
    line(f"{output}  SHA-256 of the file in the clear {header.digest}{licence}")
