"""The table of the field in a terminal: one scheme a line, best first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from statistics import mean
from typing import Final

from rich.text import Text

from whorl.bench.estimates import Share
from whorl.bench.grid_result import ALL, GridResult
from whorl.bench.lineups import is_lineup
from whorl.bench.quality import MEASURES, Quality
from whorl.bench.result import Model, Result
from whorl.bench.standings import Standing
from whorl.cli.table import Column, Table, estimate
from whorl.printable import counted

__all__ = ["field_tables", "grid_table", "quality_table"]

EXCEEDS: Final = "!"
"""Beside the accusations of a scheme that clearly exceed alpha."""


def field_tables(result: Result, rows: list[Standing]) -> Iterator[Table | Text]:
    """How well, by family of removal; at what cost; what extraction took; then the legend."""
    victims = len(result.victims)
    null = counted(result.null_size, "model")
    title = f"{result.suite}: {result.about}; {counted(victims, 'victim')}"
    yield _quality(title, rows)
    yield _accused(rows)
    yield _costs(rows)
    if any(model.queries for model in result.models):
        yield _thieves(result)
    ends = "ranges of 2 victims, which are no intervals" if victims == 2 else "95 % intervals over whole victims"
    yield _ranked(result, rows)
    yield Text(
        "AUC, TPR and ARUC of copies that kept their accuracy against all independent models, averaged over victims, "
        f"with {ends}; own net: against those of the victim's own architecture alone; TPR at the smallest realisable "
        "false-positive rate: the share of copies above every independent model; ARUC only of similarities in [0, 1]; "
        "AUC by family of removal, ~ where the scheme learned from copies of that family. accused: independent models "
        f"called derived at alpha {result.alpha:g} with a null of {null}, of all verdicts given on "
        "them; undecided: of these, inconclusive. inputs: asked of one suspect.",
        style="dim",
    )
    if result.refusals:
        yield Text(
            "refused: could not be asked about, and in no figure but these and power, where such copies are not "
            "recognised; ? where that holds for some copies of a family. answered: pairs of a copy and an independent "
            "model of which neither was refused; where AUC decides, the order counts the others as lost.",
            style="dim",
        )
    for name in result.columns:
        if name not in {row.name for row in rows}:
            yield Text(f"{name} could be asked about no copy, or about no independent model, and has no figures.")


def _ranked(result: Result, rows: list[Standing]) -> Text:
    """What the order goes by."""
    alpha, decided = f"alpha {result.alpha:g}", [row for row in rows if row.power]
    if not decided:
        return Text(f"Ranked by AUC: a null of {result.null_size} is too small for verdicts at {alpha}.", style="dim")
    alone = "" if len(decided) == len(rows) else ", and alone where the null is too small for verdicts"
    words = (
        f"Ranked by power: the share of copies that kept their accuracy which a verdict at {alpha} calls derived; AUC "
        f"decides between equal powers{alone}."
    )
    if any(row.exceeds for row in rows):
        words += f" {EXCEEDS} accuses independent models clearly more often than alpha, and so stands below the others."
    if any(is_lineup(row.expression) for row in rows):
        words += " training: a lineup needs twins of the victim, trained by its recipe."
    return Text(words, style="dim")


def grid_table(result: GridResult, best: int = 30) -> Iterator[Table | Text]:
    """The best combinations at the largest budget, by mean TPR over all copies; then the legend."""
    largest = max(result.budgets)
    rows = [figure for figure in result.figures if figure.budget == largest and figure.group == ALL]
    rows.sort(key=lambda of: (-of.at_worst(of.tpr), -of.at_worst(of.auc), of.combination))
    by_point = {(each.combination, each.budget, each.group): each for each in result.figures}
    title = f"{result.suite}: {result.about}; {len(result.victims)} victims, {result.seeds} seeds"
    ranks = [(f"TPR @{budget}", int(budget != largest)) for budget in result.budgets]
    ranks += [(f"AUC @{largest}", 0), *((group, 2) for group in result.groups)]
    figures = [Column(name, right=True, rank=rank) for name, rank in ranks]
    unasked = any(row.answered not in (None, 1) for row in rows)
    figures += [Column("answered", right=True)] if unasked else []
    table = Table([Column("queries+representation+similarity"), *figures], title)
    for row in rows[:best]:
        points = [(row.combination, budget, ALL) for budget in result.budgets]
        groups = [(row.combination, largest, group) for group in result.groups]
        rates, each = (
            [f"{by_point[point].tpr:.2f}" if point in by_point else "-" for point in some] for some in (points, groups)
        )
        rates[-1] += _ends(row.tpr_interval, 2)
        answered = ["-" if row.answered is None else f"{row.answered:.0%}"] if unasked else []
        table.add(row.combination, *rates, f"{row.auc:.3f}{_ends(row.auc_interval, 3)}", *each, *answered)
    yield table
    yield Text(
        f"{len(rows)} combinations, {result.costs.cells:,} cells; TPR at a false-positive rate of at most .05 against "
        f"{result.independents} independent models, mean over victims and seeds, by row at {largest} inputs.",
        style="dim",
    )
    if any(row.answered is None for row in rows):
        yield Text("Here a suspect that could not be asked counts as the least alike of all.", style="dim")
    elif unasked:
        yield Text(
            "answered: pairs of a copy and an independent model in which both could be asked, of which the figures "
            "are; the order counts the others as lost.",
            style="dim",
        )


def quality_table(quality: Quality) -> Table:
    """The four measures by group, and their overlap between copies and independent models."""
    ranks = {"pairs": 2, "accuracy gap": 0, "Hamming": 0, "on errors": 1, "output l2": 1}
    figures = [Column(name, right=True, rank=rank) for name, rank in ranks.items()]
    table = Table([Column("group"), Column("to the victim"), *figures], f"{quality.suite}: quality")
    for row in quality.groups:
        values = ["-" if value is None else f"{value:.3f}" for value in (getattr(row, name) for name in MEASURES)]
        table.add(row.group, row.kind, str(row.pairs), *values)
    overlaps = (quality.around[name] for name in MEASURES)
    table.add("overlap", "1 is hardest", "", *("-" if each is None else estimate(each) for each in overlaps))
    return table


def _quality(title: str, rows: list[Standing]) -> Table:
    families = list(dict.fromkeys(family for row in rows for family in row.families))
    near = [("AUC, own net", 1), ("TPR, own net", 2)] if any(row.own_auc for row in rows) else []
    unasked = [("answered", 0)] if any(row.answered < 1 for row in rows) else []
    verdicts = [("power", 0), ("accused", 0)] if any(row.power for row in rows) else []
    ranks = [*verdicts, ("AUC", 0), *unasked, ("TPR", 1), *near, ("ARUC", 4)]
    ranks += [(family, 3) for family in families]
    figures = [Column(name, right=True, rank=rank) for name, rank in ranks]
    table = Table([Column("scheme"), Column("suspect", rank=2), *figures], title)
    for row in rows:
        own = [estimate(of) if of else "-" for of in (row.own_auc, row.own_tpr)] if near else []
        cells = [_family(row, family) for family in families]
        aruc = "-" if row.aruc is None else f"{row.aruc.value:.2f}"
        table.add(
            row.name,
            row.suspect_access,
            *([estimate(row.power.estimate), _accusations(row)] if row.power else ["-"] * len(verdicts)),
            estimate(row.auc),
            *([f"{row.answered:.0%}"] if unasked else []),
            estimate(row.tpr),
            *own,
            aruc,
            *cells,
        )
    return table


def _accused(rows: list[Standing]) -> Table:
    """Of the verdicts given on independent models: how many say derived, by group, and how many were not given."""
    groups = list(dict.fromkeys(group for row in rows for group in row.accused_by_group))
    ranks = [("accused", 0), ("undecided", 1), ("refused", 1), *((group, 2) for group in groups)]
    table = Table([Column("scheme"), *(Column(name, right=True, rank=rank) for name, rank in ranks)])
    for row in rows:
        shares = [row.accused_by_group.get(group) for group in groups]
        table.add(
            row.name,
            _accusations(row),
            str(row.undecided or ""),
            str(row.refused_strangers or ""),
            *(_share(share) if share and share.count else "-" for share in shares),
        )
    if len(rows) > 1:
        together = [_sum(row.accused for row in rows)]
        together += [
            str(sum(row.undecided for row in rows) or ""),
            str(sum(row.refused_strangers for row in rows) or ""),
        ]
        by_group = ([row.accused_by_group[group] for row in rows if group in row.accused_by_group] for group in groups)
        table.add("together", *together, *map(_sum, by_group))
    return table


def _costs(rows: list[Standing]) -> Table:
    ranks = {
        "inputs": 0,
        "queries to derived": 2,
        "extraction s": 1,
        "verification s": 1,
        "peak MiB": 3,
        "copies refused": 0,
        "refused": 1,
    }
    figures = [Column(name, right=True, rank=rank) for name, rank in ranks.items()]
    table = Table([Column("scheme"), Column("victim", rank=1), *figures])
    for row in rows:
        table.add(
            row.name,
            row.victim_access + (" + shadows" if row.seen else ""),
            f"{row.inputs:,}",
            "-" if row.needed is None else f"{row.needed:g}",
            f"{row.extraction_seconds:.1f}",
            f"{row.verification_seconds:.3f}",
            "-" if row.peak_mib is None else f"{row.peak_mib:.0f}",
            str(row.refused_copies or ""),
            str(row.refused or ""),
        )
    return table


def _thieves(result: Result) -> Table:
    """What asking the victim bought: the means over victims of each kind of extraction."""
    ranks = {"accuracy": 0, "fidelity": 0, "queries": 0, "kept its accuracy": 1}
    table = Table([Column("extraction"), *(Column(name, right=True, rank=rank) for name, rank in ranks.items())])
    thieves: dict[str, list[Model]] = {}
    for model in result.models:
        if model.queries and model.role != "victim":
            thieves.setdefault(model.label, []).append(model)
    for label, models in thieves.items():
        known = [model.agreement for model in models if model.agreement is not None]
        table.add(
            label,
            f"{mean(model.accuracy for model in models):.3f}",
            f"{mean(known):.3f}" if known else "-",
            f"{mean(model.queries for model in models):,.0f}",
            f"{sum(not model.damaged for model in models)}/{len(models)}",
        )
    return table


def _family(row: Standing, family: str) -> str:
    if family not in row.families:
        return "-"
    signs = ("?" if family in row.families_refused else "") + ("~" if family in row.seen else "")
    return f"{row.families[family].value:.2f}{signs}"


def _ends(interval: tuple[float, float] | None, digits: int) -> str:
    return f" [{interval[0]:.{digits}f}, {interval[1]:.{digits}f}]" if interval else ""


def _sum(shares: Iterable[Share]) -> str:
    each = [(share.hits, share.count) for share in shares]
    return f"{sum(hits for hits, _ in each):,}/{sum(count for _, count in each):,}"


def _accusations(row: Standing) -> str:
    return _share(row.accused) + (f" {EXCEEDS}" if row.exceeds else "")


def _share(of: Share) -> str:
    return f"{of.hits}/{of.count}"
