"""Do the tests notice when the code is wrong? Small changes of the code, one at a time, and the tests that run it.

The changes are those of `mutants_made.py`: all of some rooms, and of others as many as are drawn.

A change is put into a copy of the tree. In a process that has collected the tests before, and that is forked for each
change, the changed function gets its new code; where a change takes effect on import (constants, fields, defaults),
whorl is imported anew. The tests that call the function are asked, the quickest first, up to `SECONDS` together, those
of the change's own room and then those in `OTHERS`. The first failure ends it: the change is noticed, as it is where
the tests take ten times as long as without it. What is left survived. The result keeps a word why for each survivor,
which is written into it by hand (``why``) and stays over later runs.

Run: pip install --group mutants; OMP_NUM_THREADS=1 python benchmarks/mutants.py [-n 300] [--seed 0]
With ``--only PATH...`` the changes of these files and folders are made again, which is how one room after another is
looked at, for a result is written at the end of a run; with ``--survivors`` those that survived, after tests were
added. Others keep what they gave.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib
import importlib.metadata
import json
import multiprocessing
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import traceback
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import CodeType, FrameType, FunctionType
from typing import Any

import hypothesis
import pytest
from mutants_made import ROOT, Changes, Mutant

WHOLE, DRAWN = ("detection", "metrics"), ("bench", "weights")
OTHERS = {
    "detection": (
        *("lineups", "marks/test_marks.py", "inspection/test_inspecting.py", "test_ownership.py"),
        *("schemes/test_verify.py", "schemes/test_integrity_answers.py", "report/test_integrity_page.py"),
        *("explanations/test_data_distance.py", "explanations/test_nearest_disagreement.py"),
    ),
    "metrics": ("bench/test_summary.py", "bench/test_difference.py", "bench/test_standings.py"),
    "bench": ("report", "cli/test_bench_verb.py", "cli/test_board_verbs.py"),
    "weights": ("cli/test_compare.py", "cli/test_lineage.py", "contracts/test_weight_catalogs.py"),
}
"""Whose tests a change of each room is shown to, where those of the room itself do not notice it."""
LEFT_OUT = ("tests/bench/test_killed.py", "tests/bench/test_committed.py")  # minutes
SECONDS = 5.0  # processor seconds of the tests that are asked about a change, those of other rooms apart
HEADROOM = 4 << 30  # bytes of address space that a change may take
Reach = dict[str, tuple[float, set[tuple[str, int]]]]  # test -> processor seconds, (file, first line) of what it calls


class Asked:
    """A plugin of pytest that does something of its own with the tests that were collected."""

    def __init__(self, then: Callable[[list[pytest.Item], Asked], None]) -> None:
        self.then, self.failed = then, False

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Instead of pytest's own."""
        self.then(session.items, self)
        return True

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note a failure, wherever in a test."""
        self.failed = self.failed or report.failed

    def passes(self, items: list[pytest.Item]) -> bool:
        """Whether all these tests pass; the first failure ends it."""
        for item, after in zip(items, [*items[1:], None], strict=True):
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=after)
            if self.failed:
                return False
        return True

    def reach(self, items: list[pytest.Item]) -> Reach:
        """What each test calls, and how long it takes."""
        calls: set[tuple[str, int]] = set()

        def called(frame: FrameType, *_: Any) -> None:
            if "/src/whorl/" in frame.f_code.co_filename:
                calls.add((frame.f_code.co_filename.partition("/src/whorl/")[2], frame.f_code.co_firstlineno))

        reach: Reach = {}
        for item, after in zip(items, [*items[1:], None], strict=True):
            calls.clear()
            begun = sum(os.times()[:4])  # of what it starts, too
            sys.settrace(called)
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=after)
            sys.settrace(None)
            if self.failed:
                raise RuntimeError(f"{item.nodeid} fails without a change")
            reach[item.nodeid] = sum(os.times()[:4]) - begun, set(calls)
        return reach


def with_tests(tests: Iterable[str], then: Callable[[list[pytest.Item], Asked], None]) -> None:
    """Import whorl and its tests, which nobody has done yet in this process, and go on."""
    phases = [hypothesis.Phase.explicit, hypothesis.Phase.generate]  # a smaller example would tell nothing more
    hypothesis.settings.register_profile("mutants", derandomize=True, database=None, deadline=None, phases=phases)
    hypothesis.settings.load_profile("mutants")
    options = ["-o", "timeout=0", "-p", "no:xdist", "--assert=plain", "--tb=no", "-s"]
    options += ["--basetemp", str(Path.cwd().parent / "tests")]
    pytest.main([*options, *(f"--ignore={each}" for each in LEFT_OUT), *tests], plugins=[Asked(then)])


def forked(work: Callable[[], Any], seconds: float | None = None) -> Any:
    """What ``work`` returns in a process of its own; "late" where it takes longer, "dead" where the process dies."""
    ours, theirs = multiprocessing.Pipe(duplex=False)
    sys.stdout.flush()
    child = os.fork()
    if not child:
        if seconds is not None:
            os.setsid()
            for stream in (1, 2):
                os.dup2(os.open(os.devnull, os.O_RDWR), stream)
            signal.alarm(int(2 * seconds) + 20)
            resource.setrlimit(resource.RLIMIT_CPU, (int(seconds) + 1,) * 2)
            resource.setrlimit(resource.RLIMIT_AS, (address_space() + HEADROOM,) * 2)
        try:
            theirs.send((True, work()))
        except BaseException:
            theirs.send((False, traceback.format_exc()))
        sys.stdout.flush()
        os._exit(0)
    theirs.close()
    well, told = True, "dead"
    with contextlib.suppress(EOFError), ours:
        well, told = ours.recv()
    status = os.waitpid(child, 0)[1]
    if seconds is not None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)  # what it may have left behind
    if not well:
        raise RuntimeError(told)
    return "late" if os.WTERMSIG(status) in (signal.SIGXCPU, signal.SIGALRM, signal.SIGKILL) else told


def address_space() -> int:
    """Bytes that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


class Tests:
    """Tests of the tree at ``copy``, collected once, and asked about one mutant after another."""

    def __init__(self, copy: Path, names: Iterable[str]) -> None:
        self.copy, self.names = copy, [f"tests/{name}" for name in names]
        self.reach: Reach = {}
        self.items: dict[str, pytest.Item] = {}
        self.functions = defaultdict[tuple[str, int], list[FunctionType]](list)

    def outcomes(self, mutants: list[Mutant]) -> list[str]:
        """``killed``, ``timed out`` or ``survived`` for each."""
        outcomes = [""] * len(mutants)

        def collected(items: list[pytest.Item], asked: Asked) -> None:
            self.reach = forked(lambda: asked.reach(items))
            self.items = {item.nodeid: item for item in items}
            for each in gc.get_objects():
                if type(each) is FunctionType:
                    self.functions[each.__code__.co_filename, each.__code__.co_firstlineno].append(each)
            gc.freeze()  # a collection in a forked process would copy all that it looks at
            for number, mutant in enumerate(mutants):
                outcomes[number] = self._outcome(mutant, asked) if mutant.first else ""
                if number % 100 == 99:
                    print(number + 1, dict(Counter(outcomes)), file=sys.stderr, flush=True)

        def in_one_process() -> tuple[Reach, list[str]]:
            with_tests(self.names, collected)
            return self.reach, outcomes

        self.reach, outcomes = forked(in_one_process)
        if not self.reach:
            raise SystemExit("the tests could not be collected")
        return [told or self._outcome(mutant, None) for told, mutant in zip(outcomes, mutants, strict=True)]

    def _outcome(self, mutant: Mutant, asked: Asked | None) -> str:
        """``asked`` where whorl is imported already; then "" says that it has to be imported anew."""
        tests = self._chosen(mutant)
        seconds = 10 * sum(self.reach[test][0] for test in tests) + (5 if asked else 20)
        file = self.copy / mutant.file
        file.write_bytes(mutant.source)
        try:
            told = forked(lambda: self._ask(mutant, tests, asked), seconds) if tests else "survived"
        finally:
            shutil.copy2(ROOT / mutant.file, file)  # with its time, so that what was compiled of it holds again
        if told == "survived":
            print(json.dumps({"tests": len(tests)} | mutant.row), flush=True)
        return {"late": "timed out", "dead": "killed"}.get(told, told)

    def _ask(self, mutant: Mutant, tests: list[str], asked: Asked | None) -> str:
        if asked is None:
            told = ["killed"]  # where not even the import ends well

            def run(items: list[pytest.Item], asked: Asked) -> None:
                told[0] = "survived" if asked.passes(items) else "killed"

            with_tests(tests, run)
            return told[0]
        if not self._swapped(mutant):
            return ""
        return "survived" if asked.passes([self.items[test] for test in tests]) else "killed"

    def _swapped(self, mutant: Mutant) -> bool:
        """Whether the mutant's function has its new code, or will have it when its file is imported."""
        file = str(self.copy / mutant.file)
        codes: list[CodeType] = [compile(mutant.source, file, "exec")]
        for code in codes:
            codes += [each for each in code.co_consts if isinstance(each, CodeType)]
        functions = [each for each in self.functions[file, mutant.first] if each.__name__ != "<lambda>"]
        for function in functions:
            same = [
                each
                for each in codes
                if each.co_firstlineno == mutant.first and each.co_name == function.__code__.co_name
            ]
            try:
                (function.__code__,) = same
            except ValueError:  # it closes over other variables than before
                return False
        return bool(functions) or all(getattr(each, "__file__", "") != file for each in list(sys.modules.values()))

    def _chosen(self, mutant: Mutant) -> list[str]:
        """The quickest that call the mutant's function, or anything in its file; those of a file stay together."""
        name = mutant.file.partition("src/whorl/")[2]
        lines = range(mutant.first, mutant.last + 1) if mutant.first else range(1, 1000)
        known = {
            test: seconds
            for test, (seconds, calls) in self.reach.items()
            if any(file == name and line in lines for file, line in calls)
        }
        if not mutant.first:  # perhaps there is nothing in the file to call
            known = known or {test: seconds for test, (seconds, _) in self.reach.items()}
        spent, cost = 0.0, Counter[str]()
        chosen = []
        for test in sorted(known, key=lambda test: known[test]):
            spent += known[test]
            cost[test.partition("::")[0]] += known[test]
            if spent <= SECONDS:
                chosen.append(test)
        return sorted(chosen, key=lambda test: (cost[test.partition("::")[0]], test.partition("::")[0]))


def drawn(count: int, seed: int) -> list[Mutant]:
    """All mutants of some rooms, and ``count`` of others."""
    whole, rest = (
        [
            mutant
            for room in rooms
            for path in sorted((ROOT / "src/whorl" / room).rglob("*.py"))
            for mutant in Changes(str(path.relative_to(ROOT))).found
        ]
        for rooms in (WHOLE, DRAWN)
    )
    return whole + random.Random(seed).sample(rest, min(count, len(rest)))


def asked(mutants: list[Mutant], copy: Path) -> Iterator[tuple[Mutant, str]]:
    """What becomes of each: the tests of its own room first, and what survives these before those of others."""
    for room, names in OTHERS.items():
        here = [each for each in mutants if each.file.startswith(f"src/whorl/{room}/")]
        if here:
            outcomes = Tests(copy, [room]).outcomes(here)
            left = [each for each, outcome in zip(here, outcomes, strict=True) if outcome == "survived"]
            yield from ((each, told) for each, told in zip(here, outcomes, strict=True) if told != "survived")
            print(f"{len(left)} of {len(here)} changes of {room} before other rooms", file=sys.stderr, flush=True)
            yield from zip(left, Tests(copy, names).outcomes(left) if left else [], strict=True)


def summed(files: dict[str, Counter[str]]) -> dict[str, Any]:
    """Of each room that was looked at: how many, what became of them, and the share that was noticed."""
    from whorl.metrics import wilson

    rooms = {}
    for room in dict.fromkeys(file.split("/")[2] for file in files):
        total = sum((counts for file, counts in files.items() if file.split("/")[2] == room), Counter[str]())
        mutants, noticed = total.total(), total["killed"] + total["timed out"]
        interval = wilson(noticed, mutants)
        rooms[room] = {
            "mutants": mutants,
            **{outcome: total[outcome] for outcome in ("killed", "timed out", "survived")},
            "score": round(noticed / mutants, 4),
            "interval": [round(interval.low, 4), round(interval.high, 4)],
        }
    return rooms


def identity(row: dict[str, Any]) -> tuple[str, ...]:
    """By what a change is known again, wherever its line is now."""
    return row["file"], row["function"], row["was"], row["now"]


def with_reasons(survivors: list[dict[str, Any]], before: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The survivors with what was written about each."""
    told = defaultdict[tuple[str, ...], list[str]](list)
    for each in before:
        told[identity(each)].append(each["why"])
    return [each | {"why": told[identity(each)].pop(0) if told[identity(each)] else "open"} for each in survivors]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "benchmarks/results/mutants.json")
    parser.add_argument("-n", "--drawn", type=int, default=300, help=f"changes drawn of {' and '.join(DRAWN)}")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", default=[], help="files and folders whose changes are made again")
    parser.add_argument("--survivors", action="store_true", help="make those again that survived")
    options = parser.parse_args()
    output = options.output.absolute()
    before = json.loads(output.read_text()) if output.exists() else {"survivors": [], "files": {}}
    known = Counter(identity(each) for each in before["survivors"])
    only = tuple(options.only)
    mutants = [
        each
        for each in drawn(options.drawn, options.seed)
        if (not only or each.file.startswith(only)) and (not options.survivors or identity(each.row) in known)
    ]
    told = outcomes(mutants)
    again = {mutant.file for mutant, _ in told}
    stay = [file for file in before["files"] if options.survivors or (only and not file.startswith(only))]
    files = {file: Counter(before["files"][file]) for file in stay}
    if options.survivors:
        files |= {file: files[file] - Counter(survived=files[file]["survived"]) for file in again & files.keys()}
    survivors = [each for each in before["survivors"] if each["file"] in files and each["file"] not in again]
    left, made = known.copy(), list[dict[str, Any]]()
    for mutant, outcome in sorted(told, key=lambda each: each[1] != "survived"):
        if options.survivors:  # of changes that look the same some may have been noticed before
            left[identity(mutant.row)] -= 1
            if left[identity(mutant.row)] < 0:
                continue
        files.setdefault(mutant.file, Counter())[outcome] += 1
        made += [mutant.row] if outcome == "survived" else []
    survivors += with_reasons(made, before["survivors"])
    write(output, options, files, survivors)


def outcomes(mutants: list[Mutant]) -> list[tuple[Mutant, str]]:
    """What becomes of each, in a copy of the tree."""
    for name in ("whorl.testing", "whorl.ownership", "whorl.bench.runner"):
        importlib.import_module(name)
    importlib.import_module("whorl.zoo.causal").import_transformers()
    for name in [name for name in sys.modules if name.partition(".")[0] == "whorl"]:
        del sys.modules[name]  # what it imported stays, which takes seconds
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        copy = Path(folder) / "tree"
        for name in ("src", "tests", "benchmarks", "docs", "examples"):
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy2(ROOT / "pyproject.toml", copy)
        os.chdir(copy)
        sys.path.insert(0, str(copy / "src"))
        os.environ["PYTHONPATH"] = str(copy / "src")
        sys.dont_write_bytecode = True
        told = list(asked(mutants, copy))
        os.chdir(ROOT)
        sys.path[0] = str(ROOT / "src")
    return told


def write(output: Path, options: argparse.Namespace, files: dict[str, Counter[str]], survivors: list[Any]) -> None:
    from whorl.bench.result import describe_machine
    from whorl.storage import write_json

    rooms = summed(files)
    print(json.dumps(rooms, indent=1))
    document = {
        "tool": {"name": "mutmut", "version": importlib.metadata.version("mutmut"), "part": "its operators"},
        "all_of": list(WHOLE),
        "drawn": {"of": list(DRAWN), "mutants": options.drawn, "seed": options.seed},
        "other_rooms": OTHERS,
        "left_out": list(LEFT_OUT),
        "seconds_of_tests": SECONDS,
        "rooms": rooms,
        "why": dict(sorted(Counter(each["why"].partition(":")[0] for each in survivors).items())),
        "files": {file: dict(files[file]) for file in sorted(files)},
        "survivors": sorted(survivors, key=lambda each: (each["file"], each["line"], each["now"])),
        "machine": describe_machine("cpu").model_dump(),
    }
    write_json(output, document)


if __name__ == "__main__":
    main()
