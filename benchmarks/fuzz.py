"""A million damaged inputs for everything that whorl reads from strangers: a result, or one clear line.

The readers and the mutations are those of ``tests/fuzz``: valid files, documents and answers in which bytes, lengths,
values and keys are changed, sealed again where a format has seals. Each reader runs in a process of its own whose
address space may grow by 1 GiB. A finding is anything but a result or a `WhorlError` of one printable line: another
exception, more than 2 s of processor time, more memory, or the end of the process.

With ``--only`` some readers are run again, and what others gave is kept. With ``--guided N`` N inputs a reader come
from atheris instead, which keeps those that reach new lines of whorl and changes them further (``pip install --group
fuzz``).

Run: python benchmarks/fuzz.py [-n 1000000] [-o benchmarks/results/fuzz.json]
     python benchmarks/fuzz.py --guided 20000 --only looks "answers v2"
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "fuzz"))
SLOW = 2.0  # seconds of processor time for one input
STUCK = 60.0  # seconds without a step until a process is ended
HEADROOM = 1 << 30  # bytes of address space that an input may take
SHOWN = 20  # kinds of findings of one reader that are kept


class Findings:
    """What was found so far, kept in a file, as the process may end with any input."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.done, self.slowest, self.kinds = 0, 0.0, dict[str, dict[str, Any]]()

    def ask(self, number: int, case: Any, data: bytes, fault: Callable[[Any, bytes], str]) -> None:
        """Read one input and note how that went."""
        begun = time.process_time()
        what = fault(case, data)
        seconds = time.process_time() - begun
        self.done, self.slowest = self.done + 1, max(self.slowest, seconds)
        if seconds > SLOW:
            what = what or f"{seconds:.1f} s"
        if what and (len(self.kinds) < SHOWN or what[:50] in self.kinds):
            kind = self.kinds.setdefault(
                what[:50], {"count": 0, "first": number, "told": what, "input": data[:200].hex()}
            )
            kind["count"] += 1

    def keep(self, number: int) -> None:
        """Say that everything before ``number`` is done."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        document = {"next": number, "done": self.done, "slowest": self.slowest, "kinds": self.kinds, "peak_mib": peak}
        self.path.write_text(json.dumps(document))


def work(name: str, first: int, count: int, kept: Path, guided: bool) -> None:
    """What a process does: some inputs of one reader, each announced before it is read."""
    if guided:
        import atheris

        with atheris.instrument_imports(include=["whorl"]):
            import foreign_inputs  # noqa: F401
    import torch
    from foreign_inputs import READERS, fault

    torch.set_num_threads(1)
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    step = os.open(kept.with_suffix(".step"), os.O_RDWR | os.O_CREAT)
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        case = READERS[name](Path(folder))
        findings = Findings(kept)
        fault(case, case.input(first))  # imports what is imported late
        held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (held + HEADROOM,) * 2)
        findings.keep(first)
        if guided:
            corpus = Path(folder) / "corpus"
            corpus.mkdir()
            for number in range(200):
                (corpus / str(number)).write_bytes(case.input(number))

            def one(data: bytes) -> None:
                os.pwrite(step, b"%20d" % findings.done, 0)
                findings.ask(findings.done, case, data, fault)
                if findings.done % 1000 == 0 or findings.done >= count:
                    findings.keep(findings.done)

            options = [
                f"-runs={count}",
                "-seed=1",
                "-rss_limit_mb=0",
                "-max_len=20000",
                "-verbosity=0",
                "-print_final_stats=0",
            ]
            atheris.Setup(["fuzz", *options, str(corpus)], one)
            atheris.Fuzz()
        for number in range(first, first + count):
            os.pwrite(step, b"%20d" % number, 0)
            findings.ask(number, case, case.input(number), fault)
            if number % 1000 == 999:
                findings.keep(number + 1)
        findings.keep(first + count)


def run(name: str, count: int, folder: Path, guided: bool) -> dict[str, Any]:
    """All inputs of one reader, in as many processes as it takes."""
    total: dict[str, Any] = {
        "reader": name,
        "inputs": 0,
        "seconds": 0.0,
        "peak_mib": 0.0,
        "slowest": 0.0,
        "findings": {},
    }
    first, begun = 0, time.perf_counter()
    while first < count and len(total["findings"]) < SHOWN:
        kept = folder / f"{name.replace(' ', '-')}-{first}.json"
        command = [sys.executable, __file__, "--worker", name, str(first), str(count - first), str(kept)]
        with open(os.devnull, "w") as nowhere, kept.with_suffix(".log").open("w") as log:
            process = subprocess.Popen([*command, *(["--guided", "1"] if guided else [])], stdout=nowhere, stderr=log)
            stuck = _wait(process, kept.with_suffix(".step"))
        found = (
            json.loads(kept.read_text())
            if kept.exists()
            else {"done": 0, "slowest": 0, "kinds": {}, "peak_mib": 0, "next": 0}
        )
        for kind, about in found["kinds"].items():
            known = total["findings"].setdefault(kind, about | {"count": 0})
            known["count"] += about["count"]
        total["peak_mib"] = round(max(total["peak_mib"], found["peak_mib"]), 1)
        total["slowest"] = round(max(total["slowest"], found["slowest"]), 3)
        if process.returncode == 0 or guided:
            total["inputs"] += found["done"]
            if process.returncode:
                total["findings"]["end"] = {"count": 1, "told": f"ends with {process.returncode}"}
            break
        if not kept.exists():
            raise RuntimeError(f"{name} cannot begin: {kept.with_suffix('.log').read_text()[-2000:]}")
        at = int(kept.with_suffix(".step").read_text())
        told = (
            f"more than {STUCK:g} s"
            if stuck
            else f"the process ended ({signal.Signals(-process.returncode).name})"
            if process.returncode < 0
            else "the process ended"
        )
        known = total["findings"].setdefault(told, {"count": 0, "first": at, "told": told, "input": ""})
        known["count"] += 1
        total["inputs"] += at + 1 - first
        first = at + 1
    total["seconds"] = round(time.perf_counter() - begun, 1)
    return total


def _wait(process: subprocess.Popen[bytes], step: Path) -> bool:
    """Wait until a process ends. True where it had to be ended, because an input took too long."""
    last, since = b"", time.monotonic()
    while process.poll() is None:
        time.sleep(0.2)
        now = step.read_bytes() if step.exists() else b""
        if now != last:
            last, since = now, time.monotonic()
        elif time.monotonic() - since > STUCK:
            process.kill()
            process.wait()
            return True
    return False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", "--inputs", type=int, default=1_000_000)
    parser.add_argument("-o", "--output", type=Path, default=Path("benchmarks/results/fuzz.json"))
    parser.add_argument("--guided", type=int, default=0, help="inputs a reader, chosen by what they reach")
    parser.add_argument("--only", nargs="*", default=[], help="readers")
    parser.add_argument("--worker", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        name, first, count, kept = options.worker
        work(name, int(first), int(count), Path(kept), bool(options.guided))
        return
    from foreign_inputs import READERS

    from whorl.storage import write_json

    chosen = options.only or list(READERS)
    rows = json.loads(options.output.read_text())["readers"] if options.only and options.output.exists() else []
    with tempfile.TemporaryDirectory() as folder:
        shares = {}
        for name in READERS:
            (Path(folder) / name).mkdir()
            shares[name] = READERS[name](Path(folder) / name).share
        for name in chosen:
            guided = bool(options.guided)
            count = options.guided or -int(-options.inputs * shares[name] // sum(shares.values()))
            rows = [row for row in rows if (row["reader"], row["guided"]) != (name, guided)]
            rows.append({"guided": guided} | run(name, count, Path(folder), guided))
            print(json.dumps(rows[-1]), flush=True)
            write_json(options.output, _document(rows))


def _document(rows: list[dict[str, Any]]) -> dict[str, Any]:
    from whorl.bench.result import describe_machine

    return {
        "inputs": sum(row["inputs"] for row in rows),
        "findings": sum(about["count"] for row in rows for about in row["findings"].values()),
        "slow_beyond_seconds": SLOW,
        "address_space_bytes": HEADROOM,
        "seconds": round(sum(row["seconds"] for row in rows), 1),
        "peak_mib": max(row["peak_mib"] for row in rows),
        "readers": rows,
        "machine": describe_machine("cpu").model_dump(),
    }


if __name__ == "__main__":
    main()
