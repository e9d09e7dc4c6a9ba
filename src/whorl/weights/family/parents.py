"""One net against a folder: which of the nets there may be its parents, ranked.

The cost grows with the folder only in reading it and in one product of sketches: `NEAREST` nets are compared in full.
Independence is refuted with one error rate for all nets of the folder, since any of them could have been chosen
(`whorl.weights.family.pairs` says why).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path
from typing import Any, Final, Literal

from whorl.errors import UsageError
from whorl.storage import no_file
from whorl.weights.comparison import NULL, check_asked
from whorl.weights.family.cells import Cells, Memory
from whorl.weights.family.gathering import Member, member_of, words
from whorl.weights.family.merges import merges_of
from whorl.weights.family.pairs import NEAREST, Pair, Progress, chosen_for, related, sketched
from whorl.weights.family.relations import Kinship
from whorl.weights.family.tree import earlier_of, net_document, opened, tool

__all__ = ["CAVEATS", "Candidate", "Parentage", "document", "parents"]

Decision = Literal["related", "part reused", "inconclusive"]
First = Literal["candidate", "suspect", "undetermined"]
RANK: Final = {"related": 0, "part reused": 1, "inconclusive": 2}
CAVEATS: Final = (
    "Related means that one net was made from the other or both from a common ancestor, which may not be here.",
    "Ranks are by distance, who came later last: a sibling, or a child, of the suspect may stand before its parent.",
    "Who came first is told by what a net lost, or estimated without an error rate; else it is not known.",
    "Distillation and training anew leave no trace in weights, so that such a descent is not found.",
)


@dataclass(frozen=True)
class Candidate:
    """A net of the folder beside the suspect.

    ``log_p`` is the natural logarithm of the p-value, multiplied by the number of nets in the folder; it stands for
    none where nothing was ``tested``. ``first`` is who came first, ``estimated`` where that rests on the branch point
    alone. ``share`` is set where the suspect is a merge and this a parent: its weight, or the coefficient of its
    change since the ``ancestor`` that is named.
    """

    name: str
    sha256: str
    decision: Decision
    tested: bool
    exact: bool
    log_p: float
    distance: float
    how: str
    first: First
    estimated: bool
    evidence: tuple[str, ...]
    share: float | None = None
    ancestor: str | None = None
    note: str = ""


@dataclass(frozen=True)
class Parentage:
    """What was found for a suspect: ``candidates`` that were compared in full, the likeliest parents first.

    Of these ``compared`` were compared now, pairs of them that may be a merge's ancestor and parents included;
    ``decision`` is that of the first candidate. ``inside`` is the suspect's own name in the folder, empty where it lies
    elsewhere; it is none of the ``members``. ``skipped`` and ``failed`` say what could not be read or compared.
    ``made`` is when, in UTC.
    """

    folder: str
    suspect: Member
    inside: str
    decision: Decision
    tested: bool
    candidates: tuple[Candidate, ...]
    members: tuple[Member, ...]
    compared: int
    alpha: float
    skipped: Mapping[str, str]
    failed: Mapping[str, str]
    made: str


def parents(
    suspect: str | Path,
    folder: str | Path,
    *,
    alpha: float = 0.01,
    layers: int = 4,
    tokens: int = 256,
    cells: Cells | None = None,
    progress: Progress = lambda *_: None,
) -> Parentage:
    """Which nets of a folder a suspect may have been made from.

    Parameters:
        suspect: a file or folder of weights; it may lie in the folder, and is not compared with itself.
        alpha: the accepted chance that any of the folder is called related to a suspect that owes it nothing.
        layers: how many layers of each net to read, evenly spread; 0 for all.
        tokens: how many shared tokens span the space in which rows are compared.
        cells: where sketches and relations are kept once they are known; what is there is not made again.

    Raises:
        UsageError: no suspect, no folder, or nothing in it that can be read beside the suspect.
        InvalidFile: the suspect is damaged.
    """
    check_asked(alpha, layers, tokens)
    suspect, folder = Path(suspect), Path(folder)
    if not suspect.exists():
        raise UsageError(no_file(suspect))
    ours = member_of(suspect, suspect.name)
    everything, skipped = opened(folder, progress)
    members, inside = _others(everything, folder, suspect)
    if not members:
        raise UsageError(f"{folder} holds nothing but the suspect; give a folder of nets that it may be made from")
    cells = Memory() if cells is None else cells
    nets = [*members, ours]
    sketches, failed = sketched(nets, cells, progress)
    pairs = [(near, len(members)) for near in chosen_for(sketches[-1], sketches[:-1])]
    found, compared = related(nets, pairs, cells, progress, layers=layers, tokens=tokens)
    failed |= {nets[min(pair)].name: each.note for pair, each in found.items() if each.note}
    level = alpha / len(members)
    candidates = [_candidate(members, pair, each, level) for pair, each in found.items()]
    # A merge that drops changes is seen only beside an ancestor of its parents.
    ahead = sorted(one for one, two in earlier_of(found) if two == len(members))
    ahead = ahead if len(ahead) > 2 else []
    among, more = related(nets, combinations(ahead, 2), cells, progress, layers=layers, tokens=tokens)
    candidates = _merged(nets, candidates, failed, found | among)
    candidates.sort(key=_rank)
    return Parentage(
        folder=folder.resolve().name,
        suspect=ours,
        inside=inside,
        decision=candidates[0].decision if candidates else "inconclusive",
        tested=any(each.tested for each in candidates),
        candidates=tuple(candidates),
        members=tuple(members),
        compared=compared + more,
        alpha=alpha,
        skipped=skipped,
        failed=failed,
        made=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _rank(each: Candidate) -> tuple[int, bool, bool, bool, float, float, str]:
    """The likeliest parents first. Who came later is none; a distance by matched units may leave out what moved."""
    later, other = each.first == "suspect", each.how != "weights"
    return RANK[each.decision], each.share is None, later, other, each.distance, each.log_p, each.name


def _others(members: Sequence[Member], folder: Path, suspect: Path) -> tuple[list[Member], str]:
    """All but the suspect itself, and its name in the folder. A copy of it is a candidate, under its own name."""
    found: list[Member] = []
    inside = ""
    for each in members:
        names = [each.name, *each.copies]
        own = [name for name in names if (folder / name).resolve() == suspect.resolve()]
        inside = own[0] if own else inside
        if rest := [name for name in names if name not in own]:
            found.append(replace(each, name=rest[0], copies=tuple(rest[1:])))
    return found, inside


def _candidate(members: Sequence[Member], pair: tuple[int, int], found: Kinship, level: float) -> Candidate:
    near = members[min(pair)]
    decision: Decision = (
        "related" if found.related(level) else "part reused" if found.refuted(level) else "inconclusive"
    )
    ahead = (found.direction == "A first") == (pair[0] == min(pair))
    first: First = "undetermined" if found.direction == "undetermined" else "candidate" if ahead else "suspect"
    return Candidate(
        name=near.name,
        sha256=near.digest,
        decision=decision,
        tested=found.tested,
        exact=found.exact,
        log_p=min(0.0, found.log_p + math.log(len(members))),
        distance=found.distance,
        how=found.how,
        first=first if decision != "inconclusive" else "undetermined",
        estimated=found.estimated,
        evidence=found.evidence("the suspect", near.name)
        if pair[0] > pair[1]
        else found.evidence(near.name, "the suspect"),
        note=found.note,
    )


def _merged(
    nets: Sequence[Member], candidates: Sequence[Candidate], failed: dict[str, str], told: Mapping[Pair, Kinship]
) -> list[Candidate]:
    """The candidates, with shares where the suspect, the last of the nets, is a merge of some of them."""
    names = [member.name for member in nets[:-1]]
    near = [names.index(each.name) for each in candidates if each.decision != "inconclusive"]
    group = [*near, len(nets) - 1]
    earlier = {(group.index(one), group.index(two)) for one, two in earlier_of(told) if one in group and two in group}
    try:
        merges = merges_of([nets[place].checkpoint for place in group], earlier)
    except Exception as error:  # what was compared is told all the same
        failed["merges"] = words(error)
        return [*candidates]
    if len(group) - 1 not in merges:
        return [*candidates]
    merge = merges[len(group) - 1].among(group)
    ancestor = None if merge.ancestor is None else nets[merge.ancestor].name
    shares = {nets[place].name: share for place, share in merge.shares.items()}
    return [
        replace(each, share=shares[each.name], ancestor=ancestor, first="candidate") if each.name in shares else each
        for each in candidates
    ]


def document(found: Parentage) -> dict[str, Any]:
    """The same as JSON. ``p_value`` is corrected for all nets of the folder, and null where nothing was tested."""
    return {
        "tool": tool(),
        "made": found.made,
        "null_hypothesis": NULL,
        "folder": found.folder,
        "suspect": {"name": found.suspect.name, "inside": found.inside or None, **net_document(found.suspect)},
        "decision": found.decision,
        "tested": found.tested,
        "alpha": found.alpha,
        "nets": len(found.members),
        "nearest": NEAREST,
        "compared": found.compared,
        "candidates": [_listed(each) for each in found.candidates],
        "architectures": dict(Counter(member.architecture for member in found.members).most_common()),
        "failed": dict(found.failed),
        "skipped": dict(found.skipped),
        "caveats": list(CAVEATS),
    }


def _listed(each: Candidate) -> dict[str, Any]:
    told = asdict(each)
    log_p = told.pop("log_p")
    p_value, log10_p = (math.exp(log_p), max(-1e9, log_p / math.log(10))) if each.tested else (None, None)
    return {**told, "p_value": p_value, "log10_p": log10_p}
