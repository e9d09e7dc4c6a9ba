"""``whorl codes`` and ``whorl trace``: a copy of your model for each user, and who leaked one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from whorl.cli import completion
from whorl.cli.console import bar, guarded, line, model_options, out, print_json, say
from whorl.cli.options import (
    Architecture,
    Classes,
    Json,
    Quiet,
    Set,
    Shape,
    TrustCode,
    file_to_write,
)
from whorl.cli.table import Column, Table, show
from whorl.errors import UsageError
from whorl.printable import counted

__all__ = ["app", "trace"]

app = typer.Typer(help="A copy of your model for each user, told apart by codes in the weights.", no_args_is_help=True)

CODES = Annotated[Path, typer.Argument(help="The codes, a secret file made by whorl codes make.")]


@app.command("make")
@guarded
def make(
    model: Annotated[str, typer.Argument(help="Your model: a file, or a folder with model.toml.")],
    users: Annotated[Path, typer.Option(help="The users, one to a line.")],
    data: Annotated[str, typer.Option(help="Pictures that it learned from.", autocompletion=completion.sources)],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where to write the codes.", callback=file_to_write)],
    plan: Annotated[
        str, typer.Option(help="tardos, for any number of users, or block, for 31 at most, who are named only.")
    ] = "tardos",
    colluders: Annotated[int, typer.Option(min=1, help="How many may mix their copies and still be traced.")] = 3,
    error: Annotated[float, typer.Option(help="Chance of accusing an innocent that codes are long enough for.")] = 1e-3,
    layer: Annotated[list[str] | None, typer.Option(help="A layer to use. Repeatable. [all but the last]")] = None,
    prepare: Annotated[
        bool, typer.Option("--prepare", help="Draw no rows yet, but with others (whorl claim draw).")
    ] = False,
    seed: Annotated[int | None, typer.Option(help="Of the projection. [a secret one]")] = None,
    architecture: Architecture = None,
    classes: Classes = None,
    shape: Shape = None,
    settings: Set = None,
    trust_code: TrustCode = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Give each user a row of a code, drawn after the list was fixed, and keep all rows in one secret file.

    Example: whorl codes make mine.safetensors --users users.txt --data digits -o mine.codes
    """
    from whorl.marks import user_codes
    from whorl.marks.code_files import write_codes
    from whorl.storage import check_size

    if plan not in ("tardos", "block"):
        raise UsageError(f"a code is tardos or block; this is {plan!r}")
    if output.exists():
        raise UsageError(f"{output} is there already, and copies with its rows may be out: give another --output")
    check_size(users, 16 << 20)
    names = [each.strip() for each in users.read_text(encoding="utf-8", errors="replace").splitlines() if each.strip()]
    kind: Literal["tardos", "block"] = "tardos" if plan == "tardos" else "block"
    made = user_codes.prepare_codes(
        model,
        names,
        data,
        plan=kind,
        colluders=colluders,
        error=error,
        layers=layer or (),
        seed=seed,
        **model_options(architecture, classes, shape, settings),
        trust_code=trust_code,
    )
    if not prepare:
        made = user_codes.draw_codes(made)
    write_codes(made, output)
    document = {
        "codes": str(output),
        "users": len(names),
        "positions": len(made.projection),
        "commitment": user_codes.commitment(made),
        "drawn": not prepare,
    }
    if as_json:
        print_json(document)
        return
    sizes = f"{counted(len(names), 'user')}  {counted(len(made.projection), 'position')}"
    line(f"{output}  {sizes}  SHA-256 {document['commitment']}")
    if not quiet and prepare:
        say(f"Whoever draws with you begins: whorl claim draw rows.draw --as judge --nonce judge.nonce --mark {output}")
        say(f"When the draw has ended: whorl codes draw {output} --draw rows.draw")
    elif not quiet:
        say("Keep it private: whoever knows a user's row can write it into any copy.")
        say(f"A copy for a user: whorl codes copy {output} {model} --user NAME -o copy.safetensors")


@app.command("draw")
@guarded
def draw(
    codes: CODES,
    drawing: Annotated[Path, typer.Option("--draw", help="The finished draw.")],
    draws: Annotated[int, typer.Option(min=1, help="How often rows were drawn for these users.")] = 1,
) -> None:
    """Take the rows from a draw that others took part in.

    Example: whorl codes draw mine.codes --draw rows.draw
    """
    from whorl.claims.drawing import finished
    from whorl.marks.code_files import read_codes, write_codes
    from whorl.marks.user_codes import draw_codes

    made = draw_codes(read_codes(codes), finished(drawing)[1], draws=draws)
    write_codes(made, codes)
    line(f"{codes}  {counted(len(made.users), 'row is', 'rows are')} drawn")


@app.command("copy")
@guarded
def copy(
    codes: CODES,
    model: Annotated[str, typer.Argument(help="Your model, that the codes were made for.")],
    user: Annotated[str, typer.Option(help="Whose copy it is.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The copy, a .safetensors file.", callback=file_to_write)
    ],
    architecture: Architecture = None,
    classes: Classes = None,
    shape: Shape = None,
    settings: Set = None,
    trust_code: TrustCode = False,
    quiet: Quiet = False,
) -> None:
    """Make the copy of one user.

    Example: whorl codes copy mine.codes mine.safetensors --user alice -o alice.safetensors
    """
    from whorl.marks.code_files import read_codes
    from whorl.marks.user_codes import USUAL, copy_for, shows
    from whorl.nets.files import write_like

    if output.suffix.lower() != ".safetensors":
        raise UsageError(f"a copy is written as safetensors; {output} has another suffix")
    options: dict[str, Any] = model_options(architecture, classes, shape, settings) | {"trust_code": trust_code}
    with bar(quiet) as told:
        told("embedding", 0, 0)
        known = read_codes(codes)
        net = copy_for(known, model, user, **options)
    write_like(net, Path(model), output)
    line(f"{output}  for {user}")
    if not shows(known, net, user):
        say(
            f"warning: this copy would not be traced to {user} at {USUAL:g}: the layers do not hold the row, or it is "
            "too short. Make new codes: with other layers (--layer), or longer or shorter ones (--error, --colluders)"
        )


@guarded
def trace(
    suspect: Annotated[str, typer.Argument(help="The leaked model, with its weights.")],
    codes: Annotated[Path, typer.Option(help="The codes of your users.")],
    alpha: Annotated[float, typer.Option(help="Accepted chance that any innocent is accused.")] = 0.001,
    align_to: Annotated[
        str | None,
        typer.Option(
            help="Your model, that the codes were made for: puts units that were reordered back in its order."
        ),
    ] = None,
    architecture: Architecture = None,
    classes: Classes = None,
    shape: Shape = None,
    settings: Set = None,
    trust_code: TrustCode = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Whose copies went into a leaked model? Every user has a p-value, whatever was made of the copies.

    Example: whorl trace leaked.safetensors --codes mine.codes

    A leak whose units were reordered shows no row until they are put back: whorl trace leaked.safetensors --codes
    mine.codes --align-to mine.safetensors
    """
    from whorl.marks.code_files import read_codes
    from whorl.marks.user_codes import traced

    options: dict[str, Any] = model_options(architecture, classes, shape, settings) | {"trust_code": trust_code}
    known = read_codes(codes)
    found = traced(known, suspect, alpha, align_to=align_to, **options)
    rows = [
        {
            "user": known.users[each.user],
            "accused": each.accused,
            "named": each.named,
            "log10_p": each.log_p / 2.302585092994046,
            "adjusted": each.adjusted,
            "score": each.score,
        }
        for each in found.users
    ]
    rows.sort(key=lambda row: (row["log10_p"], not row["named"]))
    if as_json:
        print_json({"suspect": suspect, "alpha": alpha, "exact": found.exact, "why": found.why, "users": rows})
        return
    accused = [str(row["user"]) for row in rows if row["accused"]]
    out.print(f"[bold]{'ACCUSED' if accused else 'NOBODY IS ACCUSED'}[/]  {len(accused)} of {len(rows)} users")
    table = Table([Column("user"), Column("p, corrected"), Column("log10 p"), Column("")])
    for row in rows[: max(10, len(accused))]:
        said = "accused" if row["accused"] else "named, no evidence" if row["named"] else ""
        table.add(str(row["user"]), f"{row['adjusted']:.2g}", f"{row['log10_p']:.1f}", said)
    show(table)
    if not quiet:
        if found.why:
            say(f"not exact before others: {found.why}")
        if not accused:
            say("A copy whose units were reordered, or a net that learned from a copy's answers, shows no row.")
