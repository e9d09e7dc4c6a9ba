"""The table of the field in a terminal: one scheme a line, best first."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from whorl.bench.result import Result
from whorl.bench.standings import Standing
from whorl.metrics import ClusterEstimate

__all__ = ["field_tables"]


def field_tables(result: Result, rows: list[Standing]) -> Iterator[RenderableType]:
    """How well, by family of removal; then at what cost; then the legend."""
    victims = len(result.victims)
    title = f"{result.suite}: {result.about}; {victims} victim{'s' if victims > 1 else ''}"
    yield _quality(title, rows)
    yield _costs(rows)
    yield Text(
        "AUC, TPR and ARUC of copies that kept their accuracy against all independent models, averaged over victims, "
        "with 95 % intervals over whole victims; TPR at the smallest realisable false-positive rate: the share of "
        "copies above every independent model; ARUC only of similarities in [0, 1]; AUC by family of removal, ~ where "
        f"the scheme learned from copies of that family. accused: independent models called derived at alpha "
        f"{result.alpha:g} with a null of {result.null_size} models. inputs: asked of one suspect.",
        style="dim",
    )
    if result.refusals:
        yield Text("A suspect that a scheme cannot be asked about counts as the least alike of all.", style="dim")


def _quality(title: str, rows: list[Standing]) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    families = list(dict.fromkeys(family for row in rows for family in row.families))
    for name in ("scheme", "suspect", "AUC", "TPR", "ARUC", *families, "accused"):
        table.add_column(name, justify="left" if name in ("scheme", "suspect") else "right")
    for row in rows:
        cells = [_family(row, family) for family in families]
        accused = f"{row.accused.hits}/{row.accused.count}"
        aruc = "-" if row.aruc is None else f"{row.aruc.value:.2f}"
        table.add_row(row.name, row.suspect_access, _estimate(row.auc), _estimate(row.tpr), aruc, *cells, accused)
    return table


def _costs(rows: list[Standing]) -> Table:
    table = Table(box=None, pad_edge=False)
    names = (
        "scheme",
        "victim",
        "inputs",
        "queries to derived",
        "extraction s",
        "verification s",
        "peak MiB",
        "refused",
    )
    for name in names:
        table.add_column(name, justify="left" if name in ("scheme", "victim") else "right")
    for row in rows:
        table.add_row(
            row.name,
            row.victim_access + (" + shadows" if row.seen else ""),
            f"{row.inputs:,}",
            "-" if row.needed is None else f"{row.needed:g}",
            f"{row.extraction_seconds:.1f}",
            f"{row.verification_seconds:.3f}",
            "-" if row.peak_mib is None else f"{row.peak_mib:.0f}",
            str(row.refused or ""),
        )
    return table


def _family(row: Standing, family: str) -> str:
    if family not in row.families:
        return "-"
    return f"{row.families[family].value:.2f}{'~' if family in row.seen else ''}"


def _estimate(of: ClusterEstimate) -> str:
    if of.clusters < 2:
        return f"{of.value:.2f}"
    return f"{of.value:.2f} [{of.interval.low:.2f}, {of.interval.high:.2f}]"
