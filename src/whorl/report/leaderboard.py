"""The leaderboard: a folder of pages from result files, one for each suite, scheme and family of removal.

Every page is one file that loads nothing. Suites are ranked in the page itself; a few lines of script filter and rank
them anew, and without script the tables stand as they are.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from markupsafe import Markup

from whorl.bench.lineups import is_lineup
from whorl.bench.result import Result
from whorl.bench.standings import Standing
from whorl.errors import UsageError
from whorl.metrics import ClusterEstimate
from whorl.report.boards import ADAPTIVE, FLAGS, Attack, Board, BoardEntry, boards_of, leaders
from whorl.report.pages import render
from whorl.report.words import around, plain, rate, slug
from whorl.schemes import SCHEMES
from whorl.schemes.cards import SchemeCard, card
from whorl.storage import write_whole
from whorl.types import Access

__all__ = ["site", "write_site"]

Figure = tuple[float, float | None, float | None, str, str] | None
"""Value, ends of its interval, and both as written; None where there is no such figure."""


@dataclass(frozen=True)
class _Line:
    """One scheme in the ranking of a suite; ``figures`` are its power, AUC, TPR and ARUC."""

    entry: BoardEntry
    page: str
    paper: str
    tied: bool
    figures: list[Figure]


@dataclass(frozen=True)
class _Place:
    """Where a scheme stands on a board."""

    board: Board
    page: str
    entry: BoardEntry
    rank: int
    tied: bool


@dataclass(frozen=True)
class _SchemeLine:
    """One scheme in the overview: its best entry on each whole board, and whether it is tied there."""

    name: str
    page: str
    access: str
    best: list[tuple[BoardEntry, bool] | None]


@dataclass(frozen=True)
class _AttackLine:
    """One family in the overview; ``best`` holds by whole board the first there, how many are tied, and its name."""

    name: str
    page: str
    rows: int
    best: list[tuple[Standing, int, str] | None]


@dataclass(frozen=True)
class _AttackPart:
    """One board on the page of a family."""

    board: Board
    page: str
    attacks: list[Attack]
    lines: list[_AttackEntry]


@dataclass(frozen=True)
class _AttackEntry:
    entry: BoardEntry
    page: str
    of: Standing


def write_site(results: Mapping[str, Result], folder: Path) -> list[Path]:
    """Write the pages of `site` and return their paths, the index first."""
    paths: list[Path] = []
    for name, page in site(results).items():
        write_whole(folder / name, page)
        paths.append(folder / name)
    return paths


def site(results: Mapping[str, Result]) -> dict[str, str]:
    """File name -> page.

    Parameters:
        results: file name -> result, as they are to be named on the pages.

    Raises:
        UsageError: nothing to rank: no result has a copy that kept its accuracy beside an independent model.
    """
    boards = boards_of(results)
    if not boards:
        raise UsageError("no result holds both a copy that kept its accuracy and an independent model to rank it by")
    return _Site(boards, len(results)).pages()


class _Site:
    """The pages, which know each other's addresses."""

    def __init__(self, boards: Sequence[Board], results: int) -> None:
        self.boards, self.results = boards, results
        entries = [entry for board in boards for entry in board.entries]
        self.families = list(dict.fromkeys(family for board in boards for family in board.families))
        self.schemes = sorted({entry.scheme for entry in entries})
        self.cards = {name: _card(name) for name in self.schemes}
        self.suite_pages = _addresses("suite", [f"{board.suite} {board.part}" for board in boards])
        # A lineup is no scheme: it has a line on every board and no page of its own.
        paged = [name for name in self.schemes if not is_lineup(name)]
        self.scheme_page = dict(zip(paged, _addresses("scheme", paged), strict=True))
        self.attack_page = dict(zip(self.families, _addresses("attack", self.families), strict=True))

    def pages(self) -> dict[str, str]:
        made = {"index.html": self._index()}
        made |= {page: self._suite(board) for board, page in self._addressed()}
        made |= {page: self._scheme(name) for name, page in self.scheme_page.items()}
        return made | {page: self._attack(family) for family, page in self.attack_page.items()}

    def _addressed(self) -> list[tuple[Board, str]]:
        return list(zip(self.boards, self.suite_pages, strict=True))

    def _index(self) -> str:
        wholes = [(board, page, len(leaders(board.entries))) for board, page in self._addressed() if not board.part]
        return render(
            "board_index.html.j2",
            boards=[(board, page, len(leaders(board.entries))) for board, page in self._addressed()],
            results=self.results,
            wholes=wholes,
            schemes=[self._overview(name, [board for board, *_ in wholes]) for name in self.schemes],
            attacks=[self._attack_line(family, [board for board, *_ in wholes]) for family in self.families],
            meanings=FLAGS,
        )

    def _overview(self, name: str, boards: Iterable[Board]) -> _SchemeLine:
        best: list[tuple[BoardEntry, bool] | None] = []
        for board in boards:
            first = next((entry for entry in board.entries if entry.scheme == name), None)
            best.append((first, first in leaders(board.entries)) if first else None)
        entries = [entry for board in self.boards for entry in board.entries if entry.scheme == name]
        return _SchemeLine(name, self.scheme_page.get(name, ""), entries[0].whole.suspect_access, best)

    def _attack_line(self, family: str, boards: Sequence[Board]) -> _AttackLine:
        best: list[tuple[Standing, int, str] | None] = []
        for board in boards:
            ranked = [(of, entry.name) for entry in _by_family(board, family) if (of := entry.families.get(family))]
            tied = sum(of.tied(ranked[0][0]) for of, _ in ranked)
            best.append((ranked[0][0], tied, ranked[0][1]) if ranked else None)
        rows = sum(attack.family == family for board in boards for attack in board.attacks)
        return _AttackLine(family, self.attack_page[family], rows, best)

    def _suite(self, board: Board) -> str:
        tied = leaders(board.entries)
        keys = dict(zip(board.families, _unique(map(slug, board.families)), strict=True))
        lines = [
            _Line(
                entry=entry,
                page=self.scheme_page.get(entry.scheme, ""),
                paper=known.paper if (known := self.cards[entry.scheme]) else "",
                tied=entry in tied,
                figures=_figures(entry.whole),
            )
            for entry in board.entries
        ]
        script = files("whorl.report").joinpath("templates/board.js").read_text(encoding="utf-8")
        given = sorted({_level(entry) for entry in board.entries} - {-1})
        return render(
            "board_suite.html.j2",
            board=board,
            lines=lines,
            tied=len(tied),
            groups=list(dict.fromkeys(group for entry in board.entries for group in entry.whole.accused_by_group)),
            powers=any(entry.whole.power for entry in board.entries),
            siblings=any(entry.whole.siblings for entry in board.entries),
            families=[(key, family) for family, key in keys.items() if _by_family(board, family)],
            attacks=[(family, self.attack_page[family]) for family in board.families],
            levels=[(level, Access(level).name.lower()) for level in given],
            budgets=sorted({entry.whole.inputs for entry in board.entries}),
            data=[_data(number, entry, keys) for number, entry in enumerate(board.entries)],
            script=Markup(script),
            script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        )

    def _scheme(self, name: str) -> str:
        places = [
            _Place(board, page, entry, rank, entry in leaders(board.entries))
            for board, page in self._addressed()
            for rank, entry in enumerate(board.entries, start=1)
            if entry.scheme == name
        ]
        families = [family for family in self.families if any(family in place.board.families for place in places)]
        return render(
            "board_scheme.html.j2",
            name=name,
            card=self.cards[name],
            places=places,
            families=[(family, self.attack_page[family]) for family in families],
        )

    def _attack(self, family: str) -> str:
        parts = [
            _AttackPart(
                board=board,
                page=page,
                attacks=[attack for attack in board.attacks if attack.family == family],
                lines=[
                    _AttackEntry(entry, self.scheme_page.get(entry.scheme, ""), of)
                    for entry in _by_family(board, family)
                    if (of := entry.families[family])
                ],
            )
            for board, page in self._addressed()
            if family in board.families
        ]
        return render("board_attack.html.j2", family=family, adaptive=ADAPTIVE, parts=parts)


def _by_family(board: Board, family: str) -> list[BoardEntry]:
    """Entries in their order on one family; none where no copy of it kept its accuracy."""
    orders = {entry.name: of.order for entry in board.entries if (of := entry.families.get(family))}
    able = [entry for entry in board.entries if entry.name in orders]
    return sorted(able, key=lambda entry: orders[entry.name])


def _data(number: int, entry: BoardEntry, keys: Mapping[str, str]) -> dict[str, Any]:
    """What the script of a ranking knows of one line; the key of the whole is empty."""
    of = {keys[family]: part for family, part in entry.families.items() if part and family in keys}
    return {
        "row": number,
        "name": plain(entry.name, 60),
        "access": _level(entry),
        "inputs": entry.whole.inputs,
        "exceeds": entry.whole.exceeds,
        "figures": {key: _figures(part) for key, part in ({"": entry.whole} | of).items()},
        "answered": {key: part.answered for key, part in ({"": entry.whole} | of).items()},
    }


def _figures(of: Standing) -> list[Figure]:
    return [
        _figure(of.power.estimate, alone=True) if of.power else None,
        _figure(of.auc, alone=True),
        _figure(of.tpr),
        _figure(of.aruc) if of.aruc else None,
    ]


def _figure(of: ClusterEstimate, *, alone: bool = False) -> Figure:
    """``alone``: one victim gives an interval as well."""
    if of.clusters < 2 and not alone:
        return of.value, None, None, rate(of.value), ""
    return of.value, of.interval.low, of.interval.high, rate(of.value), around(of)


def _level(entry: BoardEntry) -> int:
    """The access to the suspect as a number; -1 where it is not known."""
    name = entry.whole.suspect_access.upper()
    return int(Access[name]) if name in Access.__members__ else -1


def _card(name: str) -> SchemeCard | None:
    try:
        return card(name) if name in SCHEMES else None
    except UsageError:
        return None


def _addresses(kind: str, names: Iterable[str]) -> list[str]:
    return [f"{kind}-{key}.html" for key in _unique(map(slug, names))]


def _unique(keys: Iterable[str]) -> list[str]:
    """The keys, with a number behind each that came before."""
    taken: list[str] = []
    for key in keys:
        number = 2
        fresh = key
        while fresh in taken:
            fresh, number = f"{key}-{number}", number + 1
        taken.append(fresh)
    return taken
