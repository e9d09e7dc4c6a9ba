"""A folder of a thousand nets: what its tree takes, which relations are found, which edges and roots are right.

    python benchmarks/lineage_folder.py FOLDER CACHE [--families 10 100] [-o benchmarks/results/lineage-folder.json]

FOLDER is filled with families of ten (`benchmarks/families.py`) and left there. CACHE keeps the recipes they are built
from, what was compared, and the seconds of the first run of each size, which had nothing kept from before; what a tree
says is that of a second run. Each run is a process of its own. Seconds are
those of the processor, which other work on the machine does not lengthen; wall-clock seconds stand beside them.

``first ten``: for each removal, how often what it was made of is among the ten nets that the sketch would compare.
``removals`` does so for every derivative of `benchmarks/lineage_vision.py` and `whorl.zoo.lineages` that `compare`
relates to its base at .01 over all nets of the folder, of two bases of each kind; none of these is in the folder.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from families import FIRST_SEED, KINDS, PART, SOURCES_OF, make
from lineage_vision import DATA, NETS, PLAIN, STACKS, made_of, trained
from safetensors.torch import save_file

from whorl.bench.result import describe_machine
from whorl.checkpoints.opening import open_checkpoint
from whorl.data import SOURCES
from whorl.engine.store import Store
from whorl.storage import write_json
from whorl.weights.comparison import compare
from whorl.weights.family.cells import Memory
from whorl.weights.family.gathering import gather
from whorl.weights.family.pairs import NEAREST, chosen, sketched
from whorl.weights.family.parents import parents
from whorl.weights.family.sketches import Index, sketch
from whorl.weights.family.tree import Lineage, lineage
from whorl.zoo.cache import Zoo
from whorl.zoo.lineages import DERIVATIVES, derived
from whorl.zoo.recipe import parse_recipe
from whorl.zoo.steps import LANGUAGE

BASES = 2  # of each kind, whose every derivative is looked up
ALPHA = 0.01


class Phases:
    """Seconds of processor and clock between the first word of each phase and the first of the next."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = {}
        self.what, self.began = "", (time.process_time(), time.perf_counter())

    def __call__(self, what: str, done: int, total: int) -> None:
        """Progress of a run."""
        del done, total
        if what != self.what:
            now = (time.process_time(), time.perf_counter())
            if self.what:
                self.seconds[self.what] = [round(b - a, 2) for a, b in zip(self.began, now, strict=True)]
            self.what, self.began = what, now


def timed(folder: Path, store: Path) -> dict[str, Any]:
    """One run: seconds by phase (processor, clock), memory, and the tree itself."""
    phases, began = Phases(), (time.process_time(), time.perf_counter())
    cells = Store(store)
    found = lineage(folder, alpha=ALPHA, cells=cells, progress=phases)
    cells.close()
    phases("", 0, 0)
    whole = [round(now - then, 2) for now, then in zip((time.process_time(), time.perf_counter()), began, strict=True)]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return {"seconds": whole, "phases": phases.seconds, "peak_MB": peak, **judged(found)}


def judged(found: Lineage) -> dict[str, Any]:
    """How the tree compares with the truth, which the names of the files tell."""
    pairs = {frozenset(pair) for pair in found.parts}
    for family in found.families:
        pairs |= {frozenset((one, two)) for one in family.members for two in family.members if one < two}
    edges = [edge for family in found.families for edge in family.edges]
    true = {(f"{number}-{source}", f"{number}-{each}") for number, each, source in truths(found)}
    drawn = [(stem(edge.parent), stem(edge.child), edge.directed) for edge in edges]
    equal = {frozenset(pair[:2]) for pair in drawn if {p.partition("-")[2] for p in pair[:2]} == {"tune", "onnx"}}
    merges = {stem(edge.child) for edge in edges if edge.share is not None}
    parents_of = {child: {stem(e.parent) for e in edges if stem(e.child) == child} for child in merges}
    roots = [root for family in found.families for root in family.roots if len(family.members) > 1]
    families = len({stem(member.name)[:3] for member in found.members})
    return {
        "nets": len(found.members),
        "pairs": found.pairs,
        "tested": found.tested,
        "compared": found.compared,
        "untested": len(found.untested),
        "failed": dict(found.failed),
        "families found": Counter(len(family.members) for family in found.families if len(family.members) > 1),
        "false relations": sum(len({stem(name)[:3] for name in pair}) > 1 for pair in pairs),
        "parts reported with a relative": sum(
            any(stem(name) == f"{number:03d}-{PART}" for pair in found.parts for name in pair)
            for number in range(families)
        ),
        "edges": {
            "drawn": len(drawn),
            "directed, right": sum(told and (one, two) in true for one, two, told in drawn),
            "directed, to a descendant that is no child": sum(
                told and (one, two) not in true and descends(one, two) for one, two, told in drawn
            ),
            "directed, from an equal copy of an ancestor": sum(
                told and not descends(one, two) and descends(copied(one), two) for one, two, told in drawn
            ),
            "directed, wrong": [each[:2] for each in drawn if each[2] and not descends(copied(each[0]), each[1])],
            "undirected, of parent and child": sum(
                not told and bool({(one, two), (two, one)} & true) for one, two, told in drawn
            ),
            "undirected, of equal numbers": sum(frozenset(each[:2]) in equal and not each[2] for each in drawn),
            "undirected, of others": Counter(
                " and ".join(sorted(name.partition("-")[2] for name in each[:2]))
                for each in drawn
                if not each[2] and not {each[:2], each[1::-1]} & true
            ),
        },
        "roots": {
            "told, right": sum(root.name is not None and stem(root.name).endswith("-base") for root in roots),
            "told, wrong": [root.name for root in roots if root.name and not stem(root.name).endswith("-base")],
            "told up to copies, right": sum(
                root.copies and any(stem(name).endswith("-base") for name in root.possible) for root in roots
            ),
            "told up to copies, wrong": [
                root.possible
                for root in roots
                if root.copies and not any(stem(name).endswith("-base") for name in root.possible)
            ],
            "not told, base among the possible": sum(
                root.name is None and not root.copies and any(stem(name).endswith("-base") for name in root.possible)
                for root in roots
            ),
            "not told, base not among them": sum(
                root.name is None
                and not root.copies
                and not any(stem(name).endswith("-base") for name in root.possible)
                for root in roots
            ),
        },
        "merges": {
            "right parents": sum(
                child.endswith("-merged") and held == {f"{child[:3]}-tune", f"{child[:3]}-lora"}
                for child, held in parents_of.items()
            ),
            "of": families,
            "told of others": sorted(child for child in merges if not child.endswith("-merged")),
            "with other parents": {
                child: sorted(held)
                for child, held in parents_of.items()
                if child.endswith("-merged") and held != {f"{child[:3]}-tune", f"{child[:3]}-lora"}
            },
        },
    }


def copied(name: str) -> str:
    """The net that this one is, number for number: the tune of which it is an export, or itself."""
    return name.replace("-onnx", "-tune")


def stem(name: str) -> str:
    return name.rpartition(".")[0]


def truths(found: Lineage) -> set[tuple[str, str, str]]:
    """(family, net, what it was made of)."""
    names = {stem(member.name) for member in found.members}
    return {(name[:3], name[4:], source) for name in names if name[4:] in SOURCES_OF for source in SOURCES_OF[name[4:]]}


def descends(one: str, two: str) -> bool:
    """Whether the second was made from the first, directly or through others."""
    above = SOURCES_OF.get(two[4:], ())
    return one[:3] == two[:3] and (one[4:] in above or any(descends(one, f"{two[:4]}{each}") for each in above))


def candidates(folder: Path) -> dict[str, Any]:
    """How often what a net was made of, and any relative, is among the pairs that sketches choose."""
    members, _ = gather(folder)
    sketches, _ = sketched(members, Memory(), lambda *_: None)
    names = [stem(member.name) for member in members]
    place = {name: number for number, name in enumerate(names)}
    index = Index(sketches)
    began = time.process_time()
    nearest = {name: index.nearest(sketches[place[name]], NEAREST, apart=place[name]) for name in names}
    seconds = time.process_time() - began
    tally: dict[str, list[bool]] = {}
    for name in names:
        for source in SOURCES_OF.get(name[4:], ()):
            tally.setdefault(f"{KINDS[int(name[:3]) % len(KINDS)]}: {name[4:]}", []).append(
                place[f"{name[:4]}{source}"] in nearest[name]
            )
    pairs = set(chosen(sketches, lambda *_: None))
    family = [(one, two) for one in range(len(names)) for two in range(one) if names[one][:3] == names[two][:3]]
    return {
        "seconds of scanning": round(seconds, 2),
        "pairs chosen": len(pairs),
        "pairs of relatives chosen": [sum((two, one) in pairs for one, two in family), len(family)],
        "first ten": {name: [sum(held), len(held)] for name, held in sorted(tally.items())},
    }


def removals(folder: Path, cache: Path) -> dict[str, Any]:
    """Every derivative that `compare` relates to its base: is the base among the first ten of all nets here?"""
    members, _ = gather(folder)
    sketches, _ = sketched(members, Memory(), lambda *_: None)
    index, names = Index(sketches), [stem(member.name) for member in members]
    level = math.log(ALPHA / len(members))
    told: dict[str, dict[str, Any]] = {}
    for number in range(BASES * len(KINDS)):
        kind, base = KINDS[number % len(KINDS)], f"{number:03d}-base"
        with TemporaryDirectory() as held:
            for name, path in derivatives(kind, number, cache, Path(held)):
                found = compare(folder / f"{base}.safetensors", path)
                rank = [names[near] for near in index.nearest(sketch(open_checkpoint(path)), len(names))]
                place = rank.index(base) + 1 if base in rank else None
                row = told.setdefault(f"{kind}: {name}", {"log10_p": [], "rank of the base": [], "relatives": []})
                row["log10_p"].append(round(found.log_p / math.log(10), 1))
                row["rank of the base"].append(place)
                row["relatives"].append(sum(each[:3] == base[:3] for each in rank[:NEAREST]))
    related = [
        (place, relatives)
        for row in told.values()
        for log_p, place, relatives in zip(row["log10_p"], row["rank of the base"], row["relatives"], strict=True)
        if log_p * math.log(10) <= level
    ]
    return {
        "of each": told,
        "related": len(related),
        "base among the first ten": sum(place is not None and place <= NEAREST for place, _ in related),
        "some relative among the first ten": sum(relatives > 0 for _, relatives in related),
    }


def derivatives(kind: str, number: int, cache: Path, held: Path) -> Any:
    """Names and files of all that is made of the base of a family."""
    if kind == "llama":
        base = parse_recipe(f"pretrain(llama, steps=150, seed={FIRST_SEED + number})", kind=LANGUAGE)
        for name, recipe in derived(base, DERIVATIVES).items():
            yield name, Zoo(cache).build([recipe], workers=1)[0] / "model.safetensors"
        return
    source = SOURCES.make(DATA)
    data = {part: source.load(part) for part in ("victim", "attacker", "calibration", "test")}
    net = trained(kind, data["victim"], FIRST_SEED + number)
    stranger = trained(kind, data["victim"], FIRST_SEED + 500 + number)
    for name, text in (PLAIN | STACKS).items():
        made = made_of(net, text.format(net=kind, rate=NETS[kind]), stranger, data, seed=900 + number)
        save_file({key: value.contiguous() for key, value in made.state_dict().items()}, held / "net.safetensors")
        yield name, held / "net.safetensors"


def suspected(folder: Path) -> dict[str, Any]:
    """One suspect against the folder, with the folder's sketches kept from before."""
    cells = Memory()
    suspect = folder / "000-lora.safetensors"
    parents(suspect, folder, cells=cells)
    cells.held = {key: held for key, held in cells.held.items() if key.startswith("sketch")}
    phases = Phases()
    began = time.process_time()
    found = parents(suspect, folder, cells=cells, progress=phases)
    seconds = round(time.process_time() - began, 2)
    return {"seconds of processor": seconds, "compared": found.compared, "nets": len(found.members)}


def ranked(folder: Path, store: Path) -> dict[str, Any]:
    """Each net of a family of each kind against all others: the rank of what it was made of, of two the later."""
    cells, told = Store(store), dict[str, Any]()
    for number, kind in enumerate(KINDS):
        for name, sources in SOURCES_OF.items():
            (path,) = folder.glob(f"{number:03d}-{name}.*")
            found = parents(path, folder, alpha=ALPHA, cells=cells)
            order = [stem(each.name) for each in found.candidates]
            ranks = [1 + order.index(f"{number:03d}-{each}") for each in sources if f"{number:03d}-{each}" in order]
            told[f"{kind}: {name}"] = {
                "decision": found.decision,
                "rank": max(ranks, default=None) if len(ranks) == len(sources) else None,
                "first": order[0],
                "strangers related": sum(
                    each.decision != "inconclusive" and stem(each.name)[:3] != f"{number:03d}"
                    for each in found.candidates
                ),
            }
    cells.close()
    return told


def part_of(folder: Path, place: Path, families: int) -> Path:
    place.mkdir()
    for path in sorted(folder.iterdir()):
        if int(path.name[:3]) < families:
            (place / path.name).symlink_to(path.resolve())
    return place


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("cache", type=Path)
    parser.add_argument("--families", type=int, nargs="*", default=[10, 100])
    parser.add_argument(
        "--only", choices=["tree", "candidates", "removals", "suspect", "ranked"], help=argparse.SUPPRESS
    )
    parser.add_argument("--store", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("-o", "--output", type=Path, default=Path("benchmarks/results/lineage-folder.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.only:
        runs = {
            "tree": lambda: timed(options.folder, options.store),
            "candidates": lambda: candidates(options.folder),
            "removals": lambda: removals(options.folder, options.cache),
            "suspect": lambda: suspected(options.folder),
            "ranked": lambda: ranked(options.folder, options.store),
        }
        print(json.dumps(runs[options.only]()))
        return
    make(options.folder, options.cache, max(options.families))
    document: dict[str, Any] = {"machine": describe_machine("cpu").model_dump(), "alpha": ALPHA, "sizes": {}}
    with TemporaryDirectory() as scratch:
        for families in options.families:
            some = part_of(options.folder, Path(scratch) / str(families), families)
            store, kept = (options.cache / f"families-{families}.{end}" for end in ("sqlite", "json"))
            if not kept.is_file():
                store.unlink(missing_ok=True)
                write_json(kept, apart("tree", some, options, store))
            first = json.loads(kept.read_text())
            row = {"first": {key: first[key] for key in ("nets", "seconds", "phases", "peak_MB", "compared")}}
            row |= {"again": apart("tree", some, options, store)}
            row |= {"suspect": apart("suspect", some, options, store)}
            document["sizes"][str(10 * families)] = row | {"sketches": apart("candidates", some, options, store)}
            write_json(options.output, document | {"summary": summary(document)})
        largest = Path(scratch) / str(options.families[-1])
        kept = options.cache / f"families-{options.families[-1]}.sqlite"
        document["ranked"] = apart("ranked", largest, options, kept)
        document["removals"] = apart("removals", largest, options, Path())
    write_json(options.output, document | {"summary": summary(document)})
    print(json.dumps(summary(document), indent=1))


def apart(what: str, folder: Path, options: argparse.Namespace, store: Path) -> dict[str, Any]:
    """What one run prints, in a process of its own."""
    command = [sys.executable, __file__, str(folder), str(options.cache), "--only", what, "--store", str(store)]
    run = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(run.stdout)


def summary(document: dict[str, Any]) -> dict[str, Any]:
    """How the seconds grow with the number of nets, less the first reading, between the least and the largest size."""
    sizes = sorted(document["sizes"], key=int)
    least, most = (document["sizes"][size]["first"] for size in (sizes[0], sizes[-1]))
    told: dict[str, Any] = {"nets": most["nets"], "seconds": most["seconds"], "peak_MB": most["peak_MB"]}
    if len(sizes) > 1:
        few, many = (
            each["seconds"][0] - each["phases"]["checkpoints"][0] - each["phases"]["sketches"][0]
            for each in (least, most)
        )
        told["exponent"] = round(math.log(many / few) / math.log(most["nets"] / least["nets"]), 2)
    most = document["sizes"][sizes[-1]]["again"]
    told |= {key: most[key] for key in ("false relations", "edges", "roots", "merges")}
    if "removals" in document:
        told |= {key: value for key, value in document["removals"].items() if key != "of each"}
    return told


if __name__ == "__main__":
    main()
