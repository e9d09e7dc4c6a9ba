"""Family trees from the relations of pairs: who hangs below whom, and which edges could as well be the other way round.

In each family the minimum arborescence (Edmonds 1967) over distances, where an edge against evidence of direction costs
more than any distance, as in MoTHer (Horwitz et al. 2405.18432). So a net hangs below its nearest relative, and a
grandparent is no parent where the parent lies between. A merge lies between its parents and would pass for their
ancestor, so merges take part in no arborescence and hang below their parents, and what is nearer to a merge than
to anything else hangs below it. Distances by units, or of nets of other plans, are taken
only where no others lead to a net.

**What is told and what is drawn.** An arborescence needs a root and gives every edge a way. Neither is evidence: an
edge is directed only where that pair of nets itself tells who came first, and not where such evidence leads in a
circle. A root is named only where one net alone, in one file or in several, is told to come after none of the others;
else nobody is, and all those are listed. (MoTHer's kurtosis, which grows along training, is not used: it turns between
phases of training.) A net whose true parent is absent hangs below its nearest relative. A tune of a merge whose
parents' own parent is absent has the very distances of that parent, and takes its place.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final

import networkx as nx

from whorl.weights.family.merges import Merge
from whorl.weights.family.relations import Kinship

__all__ = ["Edge", "Family", "Root", "plant"]

AGAINST: Final = 100.0  # what an edge against evidence costs; distances are at most 2
ESTIMATED: Final = 2.0  # the same against an estimate
OTHER_SCALE: Final = 1.0  # what a distance by units, or over the parts that two plans share, costs beside others
SIBLINGS: Final = 1.25  # what an edge costs between nets whose branch point is midway: neither is the other's parent
LEAF: Final = 1.05  # what an edge from a net that has lost something costs: originals are what is built on
CENTRE: Final = 1e-3  # how much being in the middle counts for a root, beside differences of distance
SAME: Final = 1e-3  # the distance of two nets that are one but for rounding
SATELLITE: Final = 0.5  # of the distance to any other net: what is so near to a merge was made from it
ABOVE: Final = -1  # a root above all roots
Names = list[str]
Pairs = Mapping[tuple[int, int], Kinship]


@dataclass(frozen=True)
class Edge:
    """A step from one net to another.

    ``directed`` is false where it could as well be the other way round; then ``parent`` is where it is drawn from,
    and no more. ``estimated`` says that the direction is told by the branch point alone, which has no error rate.
    ``distance`` is from 0 to 2, by ``weights`` or ``units`` (`whorl.weights.family.relations`). For parents of a
    merge ``share`` is set, with its standard deviation by chance, ``null``, and what the merge leaves
    ``unexplained``, from 0 to 1 (`whorl.weights.family.merges`). It is the weight of the parent, or the coefficient
    of its change since the ``ancestor`` that is named.
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
    estimated: bool = False


@dataclass(frozen=True)
class Root:
    """The root of a tree, and why it is the one; None where several are ``possible``, or evidence contradicts itself.

    Where those that are possible hold one net, its numbers in another order or format or under other names, they are
    ``copies`` of each other: the net is told, and not which of its files came first. Nets that are not here may have
    come before it.
    """

    name: str | None
    possible: tuple[str, ...]
    why: str
    copies: bool = False


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
        self.told = self._evidence_of_direction()
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
        cost = relation.distance * (LEAF if parent in self.lossy else 1.0) * (SIBLINGS if relation.siblings else 1.0)
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

    def _evidence_of_direction(self) -> nx.DiGraph:
        """An edge for each pair that tells who came first, less those that lead in a circle: estimates go first."""
        told = nx.DiGraph()
        told.add_nodes_from(self.members)
        for one, two in self.pairs:
            if one in self.members and self._told(one, two) is not None:
                told.add_edge(*((one, two) if self._told(one, two) else (two, one)))
        for some in (True, False):
            for circle in list(nx.strongly_connected_components(told)):
                edges = [edge for edge in told.subgraph(circle).edges if not some or self._estimated(*edge)]
                told.remove_edges_from(edges)
        return told

    def _estimated(self, parent: int, child: int) -> bool:
        relation = self._relation(parent, child)
        return relation is not None and relation.estimated

    def _root(self, start: int) -> Root:
        """Which nets of the tree that was begun at ``start`` are told to come after none of the others.

        A merge and all below it come after the merge's parents, so only nets above merges are asked.
        """
        part = {start, *nx.descendants(self.line.subgraph(self.members - self.merges.keys()), start)}
        told = self.told.subgraph(part)
        possible = sorted(place for place in part if not told.in_degree(place))
        named = tuple(sorted(self.names[place] for place in possible))
        if len(part) == 1:
            return Root(named[0], named, "nothing here is known to come before it")
        copies = len(possible) > 1 and nx.is_connected(self._equal(possible))
        if len(possible) > 1 and not copies:
            return Root(None, named, "weights do not tell which of these came first")
        if self._circular(part):
            return Root(None, named, "evidence of direction contradicts itself")
        estimated = any(self._estimated(*edge) for edge in told.edges)
        by = "evidence of direction, some of it estimated," if estimated else "evidence of direction"
        by = "that all here are one net" if len(possible) == len(part) else by
        return Root(None if copies else named[0], named, f"{by} leaves no other", copies)

    def _equal(self, possible: Sequence[int]) -> nx.Graph:
        """Nets, and an edge for each pair that holds the same numbers: in place, or in another order of units."""
        found = nx.Graph()
        found.add_nodes_from(possible)
        for pair in combinations(possible, 2):
            relation = self._relation(*pair)
            told = relation.operations if relation is not None and relation.distance <= SAME else ()
            if any(each.kind.equal or each.kind.disguise or each.name == "folded norms" for each in told):
                found.add_edge(*pair)
        return found

    def _circular(self, part: set[int]) -> bool:
        """Whether evidence of direction, more than an estimate, was left out, as it leads in a circle."""
        sure = (pair for pair in self.pairs if set(pair) <= part and not self._estimated(*pair))
        ways = (pair for pair in sure if self._told(*pair) is not None)
        return any(not (self.told.has_edge(*pair) or self.told.has_edge(*pair[::-1])) for pair in ways)

    def _edge(self, parent: int, child: int) -> Edge:
        relation, merge = self._relation(parent, child), self.merges.get(child)
        share = merge.shares.get(parent) if merge else None
        return Edge(
            parent=self.names[parent],
            child=self.names[child],
            distance=relation.distance if relation else 2.0,
            directed=share is not None or self.told.has_edge(parent, child),
            how=relation.how if relation else "none",
            evidence=self._evidence(parent, child),
            share=share,
            null=merge.null.get(parent) if merge else None,
            unexplained=merge.unexplained if merge else None,
            ancestor=None if merge is None or merge.ancestor is None else self.names[merge.ancestor],
            estimated=share is None and self.told.has_edge(parent, child) and self._estimated(parent, child),
        )

    def _evidence(self, parent: int, child: int) -> tuple[str, ...]:
        relation = self._relation(parent, child)
        ours, theirs = (parent, child) if (parent, child) in self.pairs else (child, parent)
        return () if relation is None else relation.evidence(self.names[ours], self.names[theirs])
