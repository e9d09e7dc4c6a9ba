"""Write what follows from the committed run of the field: measured figures, a page for each scheme, README's table.

python benchmarks/cards.py            # write
python benchmarks/cards.py --check    # exit with 1 if anything committed is not what would be written
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import inspect
import json
import sys
import tomllib
from pathlib import Path
from typing import Any

from whorl.bench.result import read_result
from whorl.bench.standings import Standing, standings
from whorl.cli.table import estimate
from whorl.metrics import ClusterEstimate, Interval
from whorl.schemes import SCHEMES, cards
from whorl.schemes.cards import SchemeCard, card
from whorl.types import told

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "field-textures.json"
MEASURED = ROOT / "src" / "whorl" / "schemes" / "measured.json"
PAGES = ROOT / "docs" / "schemes"
FINDINGS = PAGES / "findings.toml"
README = ROOT / "README.md"
BEGIN, END = "<!-- the table of the field -->", "<!-- its end -->"
COMMAND = "whorl bench run field/textures --lineup"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    stale = [path for path, text in documents().items() if not path.is_file() or path.read_text() != text]
    if check:
        for path in stale:
            print(f"{path.relative_to(ROOT)} is not what {Path(__file__).name} writes", file=sys.stderr)
        return int(bool(stale))
    for path in stale:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(documents()[path])
        print(path.relative_to(ROOT))
    return 0


def documents() -> dict[Path, str]:
    """Path to text of everything that follows from the result."""
    result = read_result(RESULT)
    rows, about = standings(result), {"suite": result.suite, "alpha": result.alpha}
    figures = {row.name: json.loads(json.dumps(dataclasses.asdict(row))) for row in rows if row.name in SCHEMES}
    measured = json.dumps({**about, "schemes": figures}, indent=1) + "\n"
    cards._measured.cache_clear()
    known = {name: dataclasses.replace(card(name), measured=figures.get(name, {}), **about) for name in SCHEMES}
    findings = tomllib.loads(FINDINGS.read_text())
    pages = {PAGES / f"{name}.md": page(known[name], findings.get(name, "")) for name in SCHEMES}
    before, _, rest = README.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    readme = f"{before}{BEGIN}\n{table(rows)}\n{END}{after}"
    return {MEASURED: measured, PAGES / "README.md": index(known, rows), README: readme} | pages


def table(rows: list[Standing]) -> str:
    """README's table: one scheme a line."""
    families = list(dict.fromkeys(family for row in rows for family in row.families))
    heads = ["scheme", "suspect gives", "power", "accused", "AUC", "AUC, own net", "TPR at FPR 0", *families]
    heads += ["not asked", "inputs"]
    lines = [f"| {' | '.join(heads)} |", f"|{' --- |' * len(heads)}"]
    for row in rows:
        cells = [
            (f"[`{row.name}`](docs/schemes/{row.name}.md)" if row.name in SCHEMES else f"`{row.name}`")
            + (" ~" if row.seen else ""),
            row.suspect_access,
            _power(row),
            f"{row.accused.hits}/{row.accused.count}{' !' if row.exceeds else ''}",
            estimate(row.auc),
            f"{row.own_auc.value:.2f}" if row.own_auc else "-",
            f"{row.tpr.value:.2f}",
            *(_of_family(row, family) for family in families),
            str(row.refused or ""),
            f"{row.inputs:,}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def index(known: dict[str, SchemeCard], rows: list[Standing]) -> str:
    """The list of all schemes, best measured first."""
    measured = {row.name: row for row in rows if row.name in known}
    order = [*measured, *(name for name in known if name not in measured)]
    lines = ["| scheme | looks at | victim | suspect | power | AUC |", "| --- | --- | --- | --- | --- | --- |"]
    for name in order:
        shown = known[name]
        power, auc = (_power(measured[name]), estimate(measured[name].auc)) if name in measured else ("-", "-")
        victim = told(shown.victim).lower() + (" + shadow models" if shown.shadows else "")
        suspect = told(shown.suspect).lower()
        lines.append(f"| [`{name}`]({name}.md) | {shown.idea} | {victim} | {suspect} | {power} | {auc} |")
    return (
        "# Schemes\n\nWritten by `benchmarks/cards.py` from the cards of the schemes and the committed result of "
        f"`{COMMAND}`, by power: the share of copies called derived.\n\n" + "\n".join(lines) + "\n"
    )


def page(shown: SchemeCard, finding: str) -> str:
    """The page of one scheme."""
    parts = [
        f"# `{shown.name}`",
        shown.idea,
        _facts(shown),
        "## How it works here",
        _docstring(shown.name),
        *(["## Settings", _settings(shown)] if shown.parameters else []),
        "## Measured",
        _results(shown) if shown.measured else "It is in no committed benchmark: see below.",
        *(["## Against the paper", finding.strip()] if finding else []),
        "## To try it",
        f"```text\nwhorl schemes {shown.name}\n{_example(shown)}\n```",
    ]
    return "\n\n".join(parts) + "\n"


def _facts(shown: SchemeCard) -> str:
    facts = {
        "paper": shown.paper,
        "tasks": ", ".join(shown.tasks),
        "access to the victim": told(shown.victim).lower() + (", and shadow models" if shown.shadows else ""),
        "access to the suspect": told(shown.suspect).lower() + (", any number of classes" if shown.any_classes else ""),
        "pictures": "labelled or not, of the owner" if shown.pictures else "none",
        "verification": "asks all queries at once" if shown.together else "stops as soon as the verdict is sure",
        "blind to": shown.blind,
    }
    return "| | |\n| --- | --- |\n" + "\n".join(f"| {key} | {value} |" for key, value in facts.items())


def _docstring(name: str) -> str:
    module = importlib.import_module(SCHEMES[name].__module__)
    return inspect.cleandoc(module.__doc__ or "").partition("\n\n")[2].replace("``", "`")


def _settings(shown: SchemeCard) -> str:
    return ", ".join(f"`{key}={'required' if value is ... else value}`" for key, value in shown.parameters.items())


def _results(shown: SchemeCard) -> str:
    of = shown.measured
    heads = ["power", "AUC", "TPR at FPR 0", "AUC, own net", "TPR, own net", "ARUC", *of["families"]]
    names = ("power", "auc", "tpr", "own_auc", "own_tpr", "aruc")
    cells = [_of(of[name]) if of[name] else "-" for name in names]
    for family, value in of["families"].items():
        signs = (" ?" if family in of["families_refused"] else "") + (" ~" if family in of["seen"] else "")
        cells.append(_of(value) + signs)
    accused = [
        f"{share['hits']} of {share['count']} ({group})"
        for group, share in of["accused_by_group"].items()
        if share["hits"]
    ]
    text = [
        f"`{COMMAND}`, as `{of['expression']}`: means over victims, 95 % intervals over whole victims; power: the "
        f"share of copies called derived at alpha {shown.alpha:g}; families of removal: AUC; own net: "
        "against independent models of the victim's own architecture alone.",
        "| " + " | ".join(heads) + " |\n|" + " --- |" * len(heads) + "\n| " + " | ".join(cells) + " |",
        f"Called derived: {of['power']['hits']} of {of['power']['count']} copies and {of['accused']['hits']} of "
        f"{of['accused']['count']} independent models"
        + (f": {', '.join(accused)}" if accused else "")
        + f"; {of['undecided']} verdicts on these are inconclusive. {of['inputs']:,} inputs a suspect; extraction "
        f"{of['extraction_seconds']:.1f} s"
        + (f", {of['peak_mib']:.0f} MiB at its peak" if of["peak_mib"] is not None else "")
        + f"; verification {of['verification_seconds']:.2f} s."
        + (
            f" {of['refused_copies']} copies and {of['refused_strangers']} independent models could not be asked about "
            f"and are in no other figure but power; where AUC ranks, as if every pair with one of them were lost."
            if of["refused"]
            else ""
        ),
    ]
    if of["families_refused"]:
        text.append("? some copies of this family could not be asked about.")
    if of["seen"]:
        text.append("~ its shadow models went through this family too, with other pictures and seeds.")
    return "\n\n".join(text)


def _example(shown: SchemeCard) -> str:
    data = "" if not shown.pictures else " --data 'folder(./pictures, size=32)'"
    shadows = "" if not shown.shadows else " --shadow 'train(resnet8, folder(\"./pictures\", size=32))'"
    return f"whorl extract mine.safetensors --scheme {shown.name}{data}{shadows} -o mine.fp"


def _power(row: Standing) -> str:
    return estimate(row.power.estimate) if row.power else "-"


def _of_family(row: Standing, family: str) -> str:
    if family not in row.families:
        return "-"
    return f"{row.families[family].value:.2f}{' ?' if family in row.families_refused else ''}"


def _of(measured: dict[str, Any]) -> str:
    value = measured["value"] if "value" in measured else measured["hits"] / measured["count"]
    extent = Interval(**measured["extent"]) if measured["extent"] else None
    return estimate(ClusterEstimate(value, Interval(**measured["interval"]), measured["clusters"], extent))


if __name__ == "__main__":
    sys.exit(main())
