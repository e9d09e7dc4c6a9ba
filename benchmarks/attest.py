"""Trees, proofs and logs: all that tests only sample, and what it costs.

    python benchmarks/attest.py -o benchmarks/results/attest.json

``--trees`` random trees of up to 300 leaves: every inclusion and every consistency proof of each verifies, and with one
bit of it changed, drawn anew for each hash of each proof, is refused. A log file of five entries with every single bit
changed: it is refused, or reads the same to the byte. Then the cost of appending, opening and proving by size of log.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from pathlib import Path

from whorl.attest.checkpoint import cosign
from whorl.attest.keys import Ed25519PrivateKey
from whorl.attest.log import Log
from whorl.attest.merkle import Tree, check_consistency, check_inclusion
from whorl.bench.result import describe_machine
from whorl.errors import InvalidFile
from whorl.storage import write_json

KEY, WITNESS = (Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32) for n in (1, 2))
SIZES = (10, 100, 1_000)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trees", type=int, default=10_000)
    parser.add_argument("-o", "--output", type=Path, required=True)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        document = {
            "trees": trees(asked.trees),
            "bits": bits(Path(folder)),
            "cost": [cost(Path(folder), size) for size in SIZES],
            "machine": describe_machine("cpu").model_dump(),
        }
    write_json(asked.output, document)


def trees(count: int) -> dict[str, int]:
    """Counts of proofs that verified, and of changed ones that did, which has to be 0."""
    chance = random.Random(0)
    proofs = changed = accepted = 0
    for number in range(count):
        size = chance.randint(1, 300) if number % 100 == 0 else chance.randint(1, 24)
        tree = Tree(chance.randbytes(32) for _ in range(size))
        root = tree.root()
        for place in range(size):
            for check, arguments, proof in (
                (check_inclusion, (tree.leaves[place], place, size), tree.inclusion(place)),
                (check_consistency, (place, tree.root(place), size), tree.consistency(place)),
            ):
                held(check, arguments, proof, root)
                proofs += 1
                for at in range(len(proof)):
                    turned = bytearray(proof[at])
                    turned[chance.randrange(32)] ^= 1 << chance.randrange(8)
                    accepted += passes(check, arguments, [*proof[:at], bytes(turned), *proof[at + 1 :]], root)
                    changed += 1
    return {"trees": count, "proofs": proofs, "changed": changed, "changed_and_accepted": accepted}


def held(check, arguments, proof, root) -> None:
    if check is check_inclusion:
        check(*arguments, proof, root)
    else:
        check(*arguments, root, proof)


def passes(check, arguments, proof, root) -> bool:
    try:
        held(check, arguments, proof, root)
    except InvalidFile:
        return False
    return True


def made(path: Path, entries: int) -> Log:
    log = Log.create(path, "example.org/log", KEY)
    for number in range(entries):
        log.append(b"entry %d" % number * 20, KEY)
    return log


def contents(path: Path) -> tuple[list[bytes], list[bytes]]:
    log = Log(path, KEY.public_key())
    try:
        return [log.entry(n) for n in range(len(log))], [log.note(n) for n in range(len(log) + 1)]
    finally:
        log.close()


def bits(folder: Path) -> dict[str, int]:
    """What becomes of a log file with each of its bits changed alone."""
    log = made(folder / "whole.sqlite", 5)
    log.keep(cosign(log.checkpoint(), "witness", WITNESS, 1_790_000_000), 5, WITNESS.public_key())
    log.close()
    whole, data, path = contents(log.path), log.path.read_bytes(), folder / "changed.sqlite"
    refused = same = other = free = 0
    for bit in range(8 * len(data)):
        # Bytes of 0 in the midst of others of 0 are free space: one bit of each is enough.
        if bit % 8 and not any(data[max(0, bit // 8 - 8) : bit // 8 + 9]):
            free += 1
            continue
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        try:
            found = contents(path)
        except InvalidFile:
            refused += 1
            continue
        same, other = same + (found == whole), other + (found != whole)
    return {"bytes": len(data), "refused": refused, "read_the_same": same, "read_otherwise": other, "left_out": free}


def cost(folder: Path, size: int) -> dict[str, float]:
    """Seconds for one append, for opening, and for a proof with its verification, in a log of this size."""
    started = time.perf_counter()
    log = made(folder / f"{size}.sqlite", size)
    appending = (time.perf_counter() - started) / size
    log.close()
    started = time.perf_counter()
    opened = Log(log.path, KEY.public_key())
    opening = time.perf_counter() - started
    checkpoint, started = opened.checkpoint(), time.perf_counter()
    for place in range(0, size, max(1, size // 100)):
        check_inclusion(opened._tree.leaves[place], place, size, opened.inclusion(place), checkpoint.root)
    proving = (time.perf_counter() - started) / len(range(0, size, max(1, size // 100)))
    opened.close()
    return {"entries": size, "append": appending, "open": opening, "prove": proving, "bytes": log.path.stat().st_size}


if __name__ == "__main__":
    main()
