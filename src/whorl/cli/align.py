"""``whorl align``: one net brought onto another, and what lies between the two."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from whorl.cli import completion
from whorl.cli.console import bar, guarded, model_options, out, print_json, say
from whorl.cli.options import Architecture, Classes, Json, Quiet, Set, Shape, TrustCode, file_to_write
from whorl.cli.table import Column, Table, show
from whorl.errors import UsageError

if TYPE_CHECKING:
    from whorl.symmetry.aligning import Alignment
    from whorl.symmetry.alignment.paths import Profile

__all__ = ["Match", "align"]


class Match(StrEnum):
    """What is matched."""

    weights = "weights"
    activations = "activations"
    loss = "loss"


@guarded
def align(
    first: Annotated[str, typer.Argument(help="A: a file of weights, or a folder with model.toml.")],
    second: Annotated[str, typer.Argument(help="B: the same; its units are put in the order of A's.")],
    data: Annotated[
        str | None,
        typer.Option(
            help="Labelled pictures that neither net learned from, as in 'folder(./pictures, size=32)'.",
            autocompletion=completion.sources,
        ),
    ] = None,
    part: Annotated[str, typer.Option(help="Part of the data, or several joined by +.")] = "queries+test",
    match: Annotated[
        Match, typer.Option(help="What is matched: weights, activations on pictures, or the loss halfway.")
    ] = Match.weights,
    restarts: Annotated[int, typer.Option(min=1, help="Of weight matching; the best counts.")] = 5,
    points: Annotated[int, typer.Option(min=2, help="Of each path, both ends included.")] = 11,
    curve: Annotated[int, typer.Option(min=0, help="Also train a curve of low loss, for so many epochs.")] = 0,
    curvature: Annotated[bool, typer.Option("--curvature", help="Also take the Hessian of the loss at both.")] = False,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write B in A's order, a .safetensors file.", callback=file_to_write),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the order of pictures, restarts and curves.")] = 0,
    architecture: Architecture = None,
    classes: Classes = None,
    shape: Shape = None,
    settings: Set = None,
    trust_code: TrustCode = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Put the units of one net in the order of another's, and measure what still lies between the two.

    Without pictures weights are matched and compared; with them the loss is measured on the way from A to B.

    Example: whorl align ours.safetensors theirs.safetensors --data digits
    """
    import torch

    from whorl.data import SOURCES
    from whorl.nets.files import write_like
    from whorl.oracles.opening import open_oracle
    from whorl.symmetry.aligning import Aligning
    from whorl.symmetry.aligning import align as aligned

    if output is not None and output.suffix.lower() != ".safetensors":
        raise UsageError(f"the aligned net is written as safetensors; {output} has another suffix")
    options = model_options(architecture, classes, shape, settings)
    one, other = (open_oracle(model, trust_code=trust_code, **options) for model in (first, second))
    pictures = None if data is None else SOURCES.make(data).load(part)
    how = Aligning(match=match.value, restarts=restarts, points=points, curve=curve, curvature=curvature)
    with bar(quiet) as told:
        told("aligning", 0, 0)
        found = aligned(one, other, pictures, generator=torch.Generator().manual_seed(seed), settings=how)
    if output is not None:
        if found.aligned is None:
            raise UsageError(f"{output} is not written: {'; '.join(found.notes)}")
        write_like(found.aligned, Path(second), output)
    document = _document(found)
    if as_json:
        print_json(document)
        return
    _show(document, quiet)
    if output is not None and not quiet:
        say(f"aligned: {output}")


def _document(found: Alignment) -> dict[str, Any]:
    ends = found.ends
    return {
        "units": found.units,
        "moved": found.moved,
        "distance": found.distance,
        "same_digest": found.same_digest,
        "same_function": found.same_function,
        "paths": {name: _path(each) for name, each in found.paths.items()},
        "ends": None if ends is None else vars(ends),
        "notes": list(found.notes),
    }


def _path(along: Profile) -> dict[str, Any]:
    from whorl.symmetry.alignment.landscape import mode_connectivity

    return {
        "loss_barrier": along.loss_barrier,
        "accuracy_barrier": along.accuracy_barrier,
        "mode_connectivity": mode_connectivity(along),
        "positions": along.positions.tolist(),
        "losses": along.losses.tolist(),
        "accuracies": along.accuracies.tolist(),
    }


def _show(document: dict[str, Any], quiet: bool) -> None:
    if document["units"]:
        out.print(f"{document['moved']} of {document['units']} hidden units stand in another order", highlight=False)
    if document["distance"] is not None:
        told = "the same net in disguise" if document["same_digest"] else "not the same net"
        out.print(
            f"distance of canonical weights {document['distance']:.3g} (0: a copy; independent nets: about 1 or more); "
            f"{told}",
            highlight=False,
        )
    if document["same_function"] is not None:
        told = "the same function of every input" if document["same_function"] else "not the same function"
        out.print(f"decided from the weights of one hidden layer: {told}", highlight=False)
    if document["ends"] is not None:
        _show_ends(document["ends"])
    if document["paths"]:
        table = Table(
            [
                Column("path"),
                Column("loss barrier", right=True),
                Column("accuracy barrier", right=True),
                Column("mode connectivity", right=True),
            ]
        )
        for name, each in document["paths"].items():
            table.add(
                name,
                f"{each['loss_barrier']:.3f}",
                f"{each['accuracy_barrier']:.3f}",
                f"{each['mode_connectivity']:.3f}",
            )
        show(table)
    if not quiet:
        for note in document["notes"]:
            say(f"· {note}")
        say("None of this is evidence of descent: whorl compare A B")


def _show_ends(ends: dict[str, Any]) -> None:
    out.print(
        f"same class for {ends['agreement']:.1%} of inputs; divergence {ends['divergence']:.3g} nats; CKA of logits "
        f"{ends['cka']:.2f}",
        highlight=False,
    )
    if ends["sharpness"] is not None:
        out.print(
            "top eigenvalue of the Hessian {:.3g} and {:.3g}, trace {:.3g} and {:.3g}".format(
                *ends["sharpness"], *ends["trace"]
            ),
            highlight=False,
        )
