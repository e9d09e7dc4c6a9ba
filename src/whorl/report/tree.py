"""Family trees drawn: one line for each net, indented below its parent, and merges joined to all their parents.

The picture stands alone, loads nothing, and follows the reader's light or dark setting. An arrow is a step whose
direction is told; a dashed line without a head could as well be the other way round.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from markupsafe import Markup, escape

from whorl.printable import counted
from whorl.report.svg import Caption, drawing, element, text
from whorl.report.words import plain
from whorl.weights.family.gathering import Member
from whorl.weights.family.planting import Edge, Family
from whorl.weights.family.tree import CAVEATS, Lineage, tool

__all__ = ["facts", "page", "section", "tree_page", "tree_picture"]

LINE: Final = 30.0  # pixels from one net to the next
STEP: Final = 34.0  # and from parent to child
LETTER: Final = 6.9
ONE_OF: Final = "one net, of which any file may be the first"
STYLE: Final = """
svg{--ink:#1d1f23;--soft:#5a5e66;--ground:#fbfaf7;--line:#0f5f82;--loose:#8a8e96;--merge:#6a4c93;background:var(--ground)}
@media (prefers-color-scheme:dark){svg{--ink:#e7e5df;--soft:#a7abb3;--ground:#15171a;--line:#74c3e6;--loose:#7d828b;
--merge:#c5aaf0}} text{font:13px system-ui,-apple-system,"Segoe UI",Roboto,Helvetica,Arial,sans-serif;fill:var(--ink)}
.soft{fill:var(--soft);font-size:11.5px}.root{font-weight:600}
path{fill:none;stroke-width:1.6;stroke:var(--line)}path.loose{stroke:var(--loose);stroke-dasharray:4 3}
path.merge{stroke:var(--merge)}path.head{fill:var(--line);stroke:none}path.head.merge{fill:var(--merge)}
circle{fill:var(--line)}circle.alone{fill:var(--loose)}
"""


@dataclass(frozen=True)
class _Row:
    """A net on its line. ``edge`` leads to it from the net it is drawn below."""

    name: str
    depth: int
    edge: Edge | None


def _rows(family: Family) -> Iterator[_Row]:
    """Depth first. A merge is drawn once, below the parent with the largest share."""
    main: dict[str, Edge] = {}
    for edge in family.edges:
        if edge.child not in main or (edge.share or 0) > (main[edge.child].share or 0):
            main[edge.child] = edge
    waiting = [_Row(name, 0, None) for name in sorted(set(family.members) - main.keys(), reverse=True)]
    while waiting:
        row = waiting.pop()
        yield row
        below = [edge for edge in main.values() if edge.parent == row.name]
        below.sort(key=lambda edge: (edge.distance, edge.child), reverse=True)
        waiting += [_Row(edge.child, row.depth + 1, edge) for edge in below]


def tree_picture(found: Lineage) -> Markup:
    """All families as one SVG."""
    copies = {member.name: member.copies for member in found.members}
    roots = {root.name for family in found.families for root in family.roots if root.name is not None}
    drawn: list[Markup] = []
    top, width = LINE, 320.0
    for family in found.families:
        rows = list(_rows(family))
        places = {row.name: (18 + STEP * row.depth, top + LINE * line) for line, row in enumerate(rows)}
        crossing = [edge for edge in family.edges if edge not in {row.edge for row in rows}]
        right = max(x + LETTER * len(_label(row, copies)) for row in rows for x in [places[row.name][0]]) + 24
        drawn += [_step(row.edge, places) for row in rows if row.edge]
        drawn += [_second(edge, places, right + 14 * place) for place, edge in enumerate(crossing)]
        for row in rows:
            drawn += _net(row, places[row.name], copies, roots, alone=len(rows) == 1)
        top += LINE * (len(rows) + 0.6)
        width = max(width, right + 14 * len(crossing) + 30)
    caption = Caption(f"Family trees of {plain(found.folder)}", _described(found.families), "tree")
    return drawing((width, top), caption, *drawn, style=STYLE)


def _label(row: _Row, copies: Mapping[str, Sequence[str]]) -> str:
    same = f"  = {', '.join(plain(name, 40) for name in copies[row.name])}" if copies[row.name] else ""
    return plain(row.name, 60) + same + (f"   {_said(row.edge)}" if row.edge else "")


def _said(edge: Edge) -> str:
    share = f"{edge.share:.0%} " if edge.share is not None else ""
    if edge.ancestor is not None:
        share += f"of its change, {edge.unexplained:.0%} unexplained, "
    happened = ", ".join(each.partition(":")[0] for each in edge.evidence if not each.startswith("branch"))
    return f"{share}{edge.distance:.3f}  {plain(happened, 60)}" + (
        ("  (direction estimated)" if edge.estimated else "") if edge.directed else "  (direction undetermined)"
    )


def _net(
    row: _Row, place: tuple[float, float], copies: Mapping[str, Sequence[str]], roots: set[str], *, alone: bool
) -> list[Markup]:
    x, y = place
    label = _label(row, copies)
    name = plain(row.name, 60)
    rest = label[len(name) :].strip()
    return [
        element("circle", cx=x, cy=y - 4, r=4.0, class_="alone" if alone else "net"),
        element(
            "text",
            element("tspan", name, class_="root" if row.name in roots else "name"),
            element("tspan", f"   {rest}" if rest else "", class_="soft", xml_space="preserve", dx=10),
            x=x + 10,
            y=y,
        ),
    ]


def _step(edge: Edge, places: Mapping[str, tuple[float, float]]) -> Markup:
    """Down from the parent, then right to the child."""
    (x, y), (to_x, to_y) = places[edge.parent], places[edge.child]
    kind = "merge" if edge.share is not None else "told" if edge.directed else "loose"
    line = element("path", d=f"M{x:.1f} {y + 1:.1f}V{to_y - 4:.1f}H{to_x - 6:.1f}", class_=kind)
    return line + (_head(to_x - 5, to_y - 4, 1, kind) if edge.directed else Markup())


def _second(edge: Edge, places: Mapping[str, tuple[float, float]], right: float) -> Markup:
    """A further parent of a merge, joined on the right."""
    (_, y), (_, to_y) = places[edge.parent], places[edge.child]
    start = right - 8
    line = element("path", d=f"M{start:.1f} {y - 6:.1f}H{right:.1f}V{to_y - 2:.1f}H{start:.1f}", class_="merge")
    share = text(right + 4, (y + to_y) / 2 - 4, f"{edge.share:.0%}" if edge.share is not None else "", "soft")
    return line + _head(start - 1, to_y - 2, -1, "merge") + share


def _head(x: float, y: float, way: int, kind: str) -> Markup:
    return element("path", d=f"M{x:.1f} {y:.1f}l{-7 * way} -4v8z", class_=f"head {kind}")


def _described(families: Sequence[Family]) -> str:
    """The picture in words, for those who cannot see it."""
    steps = [edge for family in families for edge in family.edges]
    if not steps:
        return "No two nets are related."
    told = (f"{plain(e.parent, 60)} {'to' if e.directed else 'with'} {plain(e.child, 60)}" for e in steps[:50])
    return f"{'; '.join(told)}{'; and more' if len(steps) > 50 else ''}."


def tree_page(found: Lineage) -> str:
    """One file of HTML: the picture, what the roots rest on, what could not be read, and how to read it."""
    sizes = (
        f"{counted(len(found.members), 'net')}, {counted(found.pairs, 'pair')}, {found.tested} of them compared in full"
    )
    return page(
        f"{plain(found.folder)}: family trees",
        element("h1", f"Family trees of {plain(found.folder)}"),
        element("p", f"{sizes}, alpha {found.alpha:g} for all pairs together."),
        element("figure", tree_picture(found)),
        *section("Roots", [_root_words(family) for family in found.families if family.edges]),
        *section("Shared parts", [f"{plain(one)} and {plain(two)}" for one, two in found.parts]),
        *section("Not read", [f"{plain(name)}: {plain(why, 400)}" for name, why in found.skipped.items()]),
        *section("Not compared", [f"{plain(name)}: {plain(why, 400)}" for name, why in found.failed.items()]),
        *section("How to read this", CAVEATS),
        *facts(found.made, found.members),
    )


def page(title: str, *parts: Markup) -> str:
    """One file of HTML that loads nothing."""
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{escape(title)}</title><style>{PAGE}</style>"
    )
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>{Markup().join(parts)}</body></html>\n'


PAGE: Final = """
:root{color-scheme:light dark}body{margin:2rem auto;max-width:76rem;padding:0 1rem;background:#fbfaf7;color:#1d1f23;
font:1rem/1.6 system-ui,-apple-system,"Segoe UI",Roboto,Helvetica,Arial,sans-serif}
figure{margin:1.5rem 0;overflow-x:auto}h1{font-size:1.8rem}
h2{font-size:1.2rem}li,td{max-width:50rem;overflow-wrap:anywhere}th,td{text-align:left;padding:.2rem .8rem .2rem 0}
@media (prefers-color-scheme:dark){body{background:#15171a;color:#e7e5df}}
"""


def facts(made: str, members: Sequence[Member]) -> list[Markup]:
    """What made a page and when, and which nets it is about: by the hash of their tensors."""
    maker = tool()
    hashes = [f"{plain(each.name, 120)}, {plain(each.architecture, 60)}: {each.digest}" for each in members]
    return [
        *section("Nets, by the SHA-256 of the names, types, shapes and numbers of their tensors", hashes),
        element("p", f"Made by {maker['name']} {maker['version']}, {made} (UTC)."),
    ]


def section(title: str, lines: Sequence[str]) -> list[Markup]:
    """A heading and a list; nothing where there are no lines."""
    return [element("h2", title), element("ul", *(element("li", line) for line in lines))] if lines else []


def _root_words(family: Family) -> str:
    return "; ".join(
        f"{plain(root.name) if root.name is not None else ONE_OF if root.copies else 'none is told'}: {root.why}"
        + (f" ({', '.join(plain(name, 60) for name in root.possible)})" if root.name is None else "")
        for root in family.roots
    )
