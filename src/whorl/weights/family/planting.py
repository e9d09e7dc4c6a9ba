"""Family trees from the relations of pairs: who hangs below whom, and which edges could as well be the other way round.

In each family the minimum arborescence (Edmonds 1967) over distances, where an edge against evidence of direction costs
more than any distance, as in MoTHer (Horwitz et al. 2405.18432). A merge lies between its parents and would pass for
their ancestor, so merges take part in no arborescence and hang below their parents, and what is nearer to a merge than
to anything else hangs below it. Distances by units, or of nets of other plans, are taken
only where no others lead to a net.

What cannot be told: direction rests on what operations lose, and for tunes on movement (`whorl.weights.parting`).
(MoTHer's kurtosis, which grows along training, is not used: it turns between phases of training.) Without either, an
arborescence needs a root all the same. Where several nets could be the root, the one nearest to all others is drawn as
such, all are listed, and edges that turn with the root are undirected. A net whose true parent is absent hangs below
its nearest relative. A tune of a merge whose parents' own parent is absent has the very distances of that parent, and
takes its place.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import networkx as nx

from whorl.weights.family.merges import Merge
from whorl.weights.family.relations import Kinship
from whorl.weights.history import AT_MIDDLE

__all__ = ["Edge", "Family", "Root", "plant"]

AGAINST: Final = 100.0  # what an edge against evidence costs; distances are at most 2
ESTIMATED: Final = 2.0  # the same against an estimate
OTHER_SCALE: Final = 1.0  # what a distance by units, or over the parts that two plans share, costs beside others
SIBLINGS: Final = 1.25  # what an edge costs between nets whose branch point is midway: neither is the other's parent
LEAF: Final = 1.05  # what an edge from a net that has lost something costs: originals are what is built on
CENTRE: Final = 1e-3  # how much being in the middle counts for a root, beside differences of distance
SATELLITE: Final = 0.5  # of the distance to any other net: what is so near to a merge was made from it
ABOVE: Final = -1  # a root above all roots
LETTER: Final = re.compile(r"\b[AB]\b")
Names = Sequence[str]
Pairs = Mapping[tuple[int, int], Kinship]


@dataclass(frozen=True)
class Edge:
    """A step from one net to another.

    ``directed`` is false where it could as well be the other way round. ``distance`` is from 0 to 2, by ``weights`` or
    ``units`` (`whorl.weights.family.relations`). For parents of a merge ``share`` is set, with its standard deviation
    by chance, ``null``, and what the merge leaves ``unexplained``, from 0 to 1 (`whorl.weights.family.merges`). It is
    the weight of the parent, or the coefficient of its change since the ``ancestor`` that is named.
    """

    parent: str
    child: str
    distance: float
    directed: bool
    how: str
    evidence: tuple[str, ...] = ()
    share: float | None = None
    null: float | None = None
    unexplained: float | None = None
    ancestor: str | None = None


@dataclass(frozen=True)
class Root:
    """Where a tree was begun, which nets could be its root as well (itself among them), and why it was chosen."""

    name: str
    possible: tuple[str, ...]
    why: str


@dataclass(frozen=True)
class Family:
    """Nets that are related, directly or through others. A merge of strangers joins trees, so roots may be several."""

    members: tuple[str, ...]
    roots: tuple[Root, ...]
    edges: tuple[Edge, ...]


def plant(names: Names, pairs: Pairs, merges: Mapping[int, Merge]) -> list[Family]:
    """Families, the largest first, from the relations of related pairs (A, B) of places in ``names``, and merges."""
    graph = nx.Graph()
    graph.add_nodes_from(range(len(names)))
    graph.add_edges_from(pairs)
    graph.add_edges_from((parent, child) for child, merge in merges.items() for parent in merge.shares)
    families = [_Growing(names, pairs, merges, set(part)).family() for part in nx.connected_components(graph)]
    return sorted(families, key=lambda family: (-len(family.members), family.members))


class _Growing:
    """One family while it grows: edges of ``line`` lead from parent to child and make no cycle."""

    def __init__(self, names: Names, pairs: Pairs, merges: Mapping[int, Merge], members: set[int]) -> None:
        self.names, self.pairs, self.members = names, pairs, members
        self.merges = {child: merges[child] for child in sorted(members & merges.keys())}
        self.line = nx.DiGraph()
        self.line.add_nodes_from(members)
        self.loose: set[tuple[int, int]] = set()
        self.lossy = {
            second if relation.direction == "A first" else first
            for (first, second), relation in pairs.items()
            if relation.direction != "undetermined" and any(each.kind.lossy for each in relation.operations)
        }

    def family(self) -> Family:
        near = self._near_merges()
        stems = nx.Graph()
        stems.add_nodes_from(self.members - self.merges.keys() - near.keys())
        stems.add_edges_from(pair for pair in self.pairs if set(pair) <= set(stems))
        starts = [self._grow(tree) for tree in sorted(sorted(part) for part in nx.connected_components(stems))]
        self._add_merges()
        self._add_near(near)
        self._move_below_merges()
        roots = tuple(self._root(start) for start in starts)
        edges = tuple(self._edge(parent, child) for parent, child in sorted(self.line.edges))
        return Family(tuple(sorted(self.names[place] for place in self.members)), roots, edges)

    def _relation(self, one: int, two: int) -> Kinship | None:
        return self.pairs.get((one, two)) or self.pairs.get((two, one))

    def _apart(self, one: int, two: int) -> float:
        relation = self._relation(one, two)
        return relation.distance if relation else AGAINST

    def _told(self, parent: int, child: int) -> bool | None:
        """Whether evidence says that ``parent`` came first; None where nothing does."""
        relation = self._relation(parent, child)
        if relation is None or relation.direction == "undetermined":
            return None
        return (relation.direction == "A first") == ((parent, child) in self.pairs)

    def _cost(self, parent: int, child: int) -> float:
        relation = self._relation(parent, child)
        if relation is None:
            return AGAINST
        against = ESTIMATED if relation.estimated else AGAINST
        cost = relation.distance * (LEAF if parent in self.lossy else 1.0) * (SIBLINGS if _siblings(relation) else 1.0)
        cost += OTHER_SCALE if self._other_scale(relation) else 0.0
        return cost + (against if self._told(parent, child) is False else 0.0)

    def _other_scale(self, relation: Kinship) -> bool:
        return relation.how != "weights" or any(each.kind.plan for each in relation.operations)

    def _nearest(self, parents: Iterable[int], child: int) -> int | None:
        return min(parents, key=lambda parent: (self._cost(parent, child), parent), default=None)

    def _near_merges(self) -> dict[int, float]:
        """Nets so near to a merge that they were made from it, with the distance."""
        plain = self.members - self.merges.keys()
        parents = {parent for merge in self.merges.values() for parent in merge.shares}
        found: dict[int, float] = {}
        for child in sorted(plain - parents):
            merge = self._nearest(self.merges, child)
            others = [self._apart(other, child) for other in plain - {child}]
            if merge is not None and self._cost(merge, child) < SATELLITE * min(others, default=AGAINST):
                found[child] = self._apart(merge, child)
        return found

    def _grow(self, tree: Sequence[int]) -> int:
        """Edmonds' arborescence, under a root above all from which one edge leads to the middle; its root."""
        steps = nx.DiGraph()
        steps.add_nodes_from(tree)
        for one, two in self.pairs:
            if one in steps and two in steps:
                steps.add_edge(one, two, weight=self._cost(one, two))
                steps.add_edge(two, one, weight=self._cost(two, one))
        above = AGAINST * AGAINST * len(tree)
        for place in tree:
            mean = sum(min(2.0, self._apart(place, other)) for other in tree if other != place) / len(tree)
            steps.add_edge(ABOVE, place, weight=above + CENTRE * mean)
        grown = nx.minimum_spanning_arborescence(steps, preserve_attrs=False)
        self.line.add_edges_from((parent, child) for parent, child in grown.edges if parent != ABOVE)
        return next(child for parent, child in grown.edges if parent == ABOVE)

    def _add_merges(self) -> None:
        for child, merge in self.merges.items():
            self.line.add_edges_from((parent, child) for parent in merge.shares)
        while not nx.is_directed_acyclic_graph(self.line):  # merges of each other: an edge of the circle is wrong
            circle = nx.find_cycle(self.line)
            self.line.remove_edge(*next(edge for edge in circle if edge[1] in self.merges))

    def _add_near(self, near: Mapping[int, float]) -> None:
        held = set(self.merges)
        for child in sorted(near, key=lambda place: (near[place], place)):
            self.line.add_edge(self._nearest(held, child), child)
            held.add(child)

    def _move_below_merges(self) -> None:
        """A net that is nearer to a merge than to its parent, and no ancestor of it, was made from the merge."""
        for child in sorted(self.members - self.merges.keys()):
            parent = next(iter(self.line.predecessors(child)), None)
            merge = self._nearest(self.merges.keys() - nx.descendants(self.line, child), child)
            if parent is None or merge is None:
                continue
            if self._cost(merge, child) < self._cost(parent, child):
                self.line.remove_edge(parent, child)
                self.line.add_edge(merge, child)

    def _root(self, start: int) -> Root:
        """Which nets could be the root: those from which no edge leads against evidence.

        A merge and all below it come after the merge's parents, so only nets above merges are asked.
        """
        part = nx.Graph()
        part.add_node(start)
        part.add_edges_from(nx.bfs_edges(self.line.subgraph(self.members - self.merges.keys()), start))
        leads = {place: set(nx.bfs_edges(part, place)) for place in part}
        possible: list[int] = [place for place in part if all(self._told(*edge) is not False for edge in leads[place])]
        if not possible:  # evidence contradicts itself
            self.loose |= {edge for edge in leads[start] if self._told(*edge) is not True}
            return Root(self.names[start], (self.names[start],), "evidence on its edges contradicts itself")
        self.loose |= {edge for edge in leads[start] if any(edge not in leads[place] for place in possible)}
        why = "evidence of direction leaves no other"
        if len(possible) > 1:
            why = f"nearest to all others on average; weights do not tell it from {len(possible) - 1} more"
        elif len(part) == 1:
            why = "nothing here is known to come before it"
        named = [self.names[place] for place in possible]
        return Root(self.names[start], tuple(sorted(named)), why)

    def _sure(self, parent: int, child: int) -> bool:
        """Whether the edge's own evidence says so, or is silent where the rest of the tree has the say."""
        relation, told = self._relation(parent, child), self._told(parent, child)
        silent = relation is not None and relation.branch is None and not self._other_scale(relation)
        return told is True or (told is None and silent)

    def _edge(self, parent: int, child: int) -> Edge:
        relation, merge = self._relation(parent, child), self.merges.get(child)
        share = merge.shares.get(parent) if merge else None
        return Edge(
            parent=self.names[parent],
            child=self.names[child],
            distance=relation.distance if relation else 2.0,
            directed=share is not None or ((parent, child) not in self.loose and self._sure(parent, child)),
            how=relation.how if relation else "none",
            evidence=self._evidence(parent, child),
            share=share,
            null=merge.null.get(parent) if merge else None,
            unexplained=merge.unexplained if merge else None,
            ancestor=None if merge is None or merge.ancestor is None else self.names[merge.ancestor],
        )

    def _evidence(self, parent: int, child: int) -> tuple[str, ...]:
        """What happened, with the names of the two nets for A and B."""
        relation = self._relation(parent, child)
        ours, theirs = (parent, child) if (parent, child) in self.pairs else (child, parent)
        named = {"A": self.names[ours], "B": self.names[theirs]}
        if relation is None:
            return ()
        told = [(each.name, each.told) for each in relation.operations]
        if relation.branch is not None:
            way = min(1.0, max(0.0, relation.branch))
            name = "common ancestor" if _siblings(relation) else "branch point"
            told.append((name, f"an estimated {way:.0%} of the way from A to B"))
        return tuple(f"{name}: {LETTER.sub(lambda found: named[found[0]], text)}" for name, text in told)


def _siblings(relation: Kinship) -> bool:
    """Whether neither seems to be the other's parent, by the branch point alone."""
    midway = relation.branch is not None and abs(relation.branch - 0.5) <= AT_MIDDLE
    return midway and relation.direction == "undetermined"
