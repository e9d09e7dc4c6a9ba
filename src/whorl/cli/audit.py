"""``whorl audit``: is a fingerprint what its file says, and what was tried before?"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from whorl.cli import completion
from whorl.cli.console import bar, guarded, line, model_options, print_json
from whorl.cli.options import Architecture, Cache, Classes, Json, Quiet, Set, Shape, TrustCode

__all__ = ["audit"]


@guarded
def audit(
    fingerprint: Annotated[Path, typer.Argument(help="A fingerprint.")],
    victim: Annotated[str, typer.Argument(help="The model that it was made from, with its weights.")],
    data: Annotated[
        str | None,
        typer.Option(help="Where its seeds came from, if the file does not say.", autocompletion=completion.sources),
    ] = None,
    architecture: Architecture = None,
    classes: Classes = None,
    shape: Shape = None,
    settings: Set = None,
    trust_code: TrustCode = False,
    cache: Cache = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make a fingerprint again from its scheme, seed and model, and say how often it was used.

    Example: whorl audit mine.fp mine.safetensors
    """
    from whorl.claims.audit import LEAST_EQUAL
    from whorl.claims.audit import audit as audited
    from whorl.errors import InvalidFile

    options: dict[str, Any] = model_options(architecture, classes, shape, settings)
    with bar(quiet) as show:
        show("extracting again", 0, 0)
        found = audited(fingerprint, victim, data=data, cache=cache, trust_code=trust_code, **options)
    if as_json:
        print_json({**asdict(found), "tries": found.tries})
    else:
        near = f"inputs within {found.largest:.2g}, {found.equal:.1%} of answers"
        origin = "from the digest of the model" if found.drawn else "chosen by whoever made the fingerprint"
        line(f"made again  {'the same to the byte' if found.same else near}")
        line(f"seed        {origin}")
        line(f"tried       {found.looks} verifications, {len(found.settings)} other settings: p times {found.tries}")
    if not found.near:
        raise InvalidFile(
            f"{fingerprint} is not what its scheme, seed and model give: inputs differ by up to {found.largest:.3g}, "
            f"answers agree on {found.equal:.1%} ({LEAST_EQUAL:.0%} are asked). A part, as openings hold, can't be "
            "made again by itself: whorl claim check --victim makes it from the whole"
        )
