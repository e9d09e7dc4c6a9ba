"""``whorl extract``: make the fingerprint of a model you own."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from whorl.cli.console import chatter, guarded, model_options, print_json, say
from whorl.cli.options import Architecture, Classes, Json, Quiet, Set, Shape, TrustCode

__all__ = ["extract"]


@guarded
def extract(
    model: Annotated[str, typer.Argument(help="Your model: a file, a folder with model.toml, or an address.")],
    data: Annotated[str, typer.Option(help="Pictures, as in digits or 'folder(./pictures, size=32)'.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where to write the fingerprint.")],
    scheme: Annotated[str, typer.Option(help="A scheme, as in ipguard or 'ipguard(margin=10)'.")] = "ipguard",
    part: Annotated[str | None, typer.Option(help="Part of the data to take seeds from. [the scheme's own]")] = None,
    budget: Annotated[int, typer.Option(help="Number of queries.")] = 100,
    seed: Annotated[int, typer.Option(help="Same seed, same bytes.")] = 0,
    architecture: Architecture = None,
    classes: Classes = None,
    shape: Shape = None,
    settings: Set = None,
    trust_code: TrustCode = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make the fingerprint of a model you own.

    Example: whorl extract mine.safetensors --data digits -o mine.fp
    """
    from whorl import ownership
    from whorl.schemes.base import identity
    from whorl.storage import write_fingerprint

    options = model_options(architecture, classes, shape, settings)
    with nullcontext() if quiet else chatter.status(f"extracting {budget} queries"):
        fingerprint = ownership.extract(
            model, data=data, scheme=scheme, part=part, budget=budget, seed=seed, trust_code=trust_code, **options
        )
    write_fingerprint(fingerprint, output)
    document = {
        "fingerprint": str(output),
        "id": identity(fingerprint),
        "scheme": fingerprint.scheme,
        "victim": fingerprint.victim,
        "queries": len(fingerprint.queries),
        "seconds": round(fingerprint.seconds, 3),
        "bytes": output.stat().st_size,
        "notes": dict(fingerprint.queries.notes),
    }
    if as_json:
        print_json(document)
        return
    typer.echo(f"{output}  {document['bytes']:,} bytes  {document['queries']} queries  id {document['id']}")
    if not quiet:
        facts = [f"{key} {_shown(value)}" for key, value in document["notes"].items()]
        say("; ".join([f"{fingerprint.seconds:.1f} s", *facts]))
        say("The queries are secret: whoever has them can dodge them. Keep the file private.")
        say(f"A verdict needs independent models. Type: whorl calibrate {output} --help")


def _shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) else str(value)
