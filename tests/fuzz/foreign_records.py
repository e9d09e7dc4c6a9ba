"""Fingerprints, records, verdicts, looks and secrets that strangers wrote, as `foreign_cases.Case`."""

from __future__ import annotations

import hashlib
import json
import random
import sqlite3
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from foreign_cases import Case, in_file
from mutated_inputs import (
    changed_bytes,
    changed_header,
    changed_json,
    changed_value,
)

from whorl.detection import Trial
from whorl.errors import WhorlError
from whorl.fingerprints.looks import add_look, looks_path, read_looks
from whorl.fingerprints.secret import commit, read_secret, write_secret
from whorl.oracles.record import Record
from whorl.report.saved import read_verdict, verdict_in
from whorl.schemes.opening import read_fingerprint
from whorl.storage import canonical_json, digest_tensors

GOLDEN = Path(__file__).parents[1] / "golden"


def fingerprint(number: int, folder: Path) -> Case:
    from safetensors.torch import load, save

    files = [GOLDEN / "v0.1" / "fingerprint.safetensors", GOLDEN / "v0.1" / "ipguard.safetensors"]
    examples = [path.read_bytes() for path in (files if number == 1 else [GOLDEN / "v0.2" / "fingerprint.safetensors"])]

    def change(data: bytes, chance: random.Random) -> bytes:
        if chance.random() < 0.3:
            return changed_header(data, chance)
        length = int.from_bytes(data[:8], "little")
        text = json.loads(data[8 : 8 + length])["__metadata__"]["whorl"]
        tensors = load(data)
        if chance.random() < 0.3:
            name = chance.choice(sorted(tensors))
            tensors[name] = _changed_tensor(tensors[name], chance)
        if number == 1:
            return save(tensors, {"whorl": changed_json(json.loads(text), chance).decode(errors="replace")})
        return _sealed(json.loads(text), tensors, chance)

    def read(path: Path) -> None:
        from whorl.fingerprints.files import read_fingerprint as without_its_scheme

        without_its_scheme(path)
        read_fingerprint(path)

    return Case(examples, change, in_file(folder, "a.safetensors", read), 3)


def _changed_tensor(value: torch.Tensor, chance: random.Random) -> torch.Tensor:
    made = [
        value.double(),
        value.long(),
        value.flatten(),
        value[None],
        value[:0],
        torch.full(value.shape, float("nan")),
        torch.full(value.shape, -1e30),
        value.bool(),
        torch.zeros(()),
        value.half(),
        torch.full(value.shape, 2**62),
        value.to(torch.complex64),
    ]
    return chance.choice(made).contiguous().clone()


def _sealed(document: Any, tensors: dict[str, torch.Tensor], chance: random.Random) -> bytes:
    """A document of format 2 that is changed and sealed again, so that what lies behind the seals is reached."""
    from safetensors.torch import save

    part = chance.choice(("fingerprint", "fingerprint", "calibration", "looks", None))
    if part is None:
        document = changed_value(document, chance)
    else:
        document[part] = changed_value(document[part], chance)
    try:
        for name in ("fingerprint", "calibration"):
            if isinstance(section := document[name], dict) and isinstance(section.get("tensors"), dict):
                digests = section["tensors"]
                digests |= {each: digest_tensors({"": tensors[each]}) for each in digests if each in tensors}
        document["ids"]["fingerprint"] = _digest(document["fingerprint"])
        if document["calibration"]:
            document["calibration"]["fingerprint"] = document["ids"]["fingerprint"]
            document["ids"]["calibration"] = _digest(document["calibration"])
        text = canonical_json(document).decode()
    except (WhorlError, TypeError, KeyError, UnicodeError, AttributeError):
        text = json.dumps(document)
    try:
        return save(tensors, {"whorl": text})
    except UnicodeError:
        return save(tensors, {"whorl": "{}"})


def _digest(section: Any) -> str:
    return hashlib.sha256(canonical_json(section)).hexdigest()


OWNER = {"access": "LABELS", "model": "m"}


def record(folder: Path) -> Case:
    path = folder / "made.sqlite"
    keys = [bytes([number]) * 32 for number in range(3)]
    with closing(Record(path, OWNER, longest=24)) as record:
        record.resume("a", "strict")
        record.write(dict.fromkeys(keys, b"a" * 8))
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
        connection.execute("VACUUM")
    example = path.read_bytes()
    scratch = folder / "scratch.sqlite"

    def change(data: bytes, chance: random.Random) -> bytes:
        if chance.random() < 0.6:
            return changed_bytes(data, chance)
        scratch.write_bytes(data)
        values = (
            "NULL",
            "-1",
            "1e308",
            "x'00'",
            "'\x1b[2J'",
            "'\u202e'",
            "zeroblob(1000)",
            "''",
            "9223372036854775807",
        )
        tables = {"meta": ("name", "value"), "sessions": ("id", "purpose", "rule", "started", "finished"),
                  "answers": ("session", "key", "answer", "time", "seal")}  # fmt: skip
        table = chance.choice(list(tables))
        with closing(sqlite3.connect(scratch)) as connection, connection:
            try:
                connection.execute(
                    f"UPDATE OR REPLACE {table} SET {chance.choice(tables[table])} = {chance.choice(values)}"
                )
            except sqlite3.Error:
                connection.execute(f"DROP TABLE {table}")
        return scratch.read_bytes()

    def read(path: Path) -> None:
        for beside in ("-wal", "-shm", "-journal"):
            Path(f"{path}{beside}").unlink(missing_ok=True)
        with closing(Record(path, OWNER, longest=24)) as record:
            record.resume("a", "strict")
            record.read(keys)
            record.reopen("a")
            record.finish()

    return Case([example], change, in_file(folder, "answers.sqlite", read), 0.5)


def verdict(folder: Path) -> Case:
    fingerprint = read_golden()
    trial = Trial(fingerprint.calibration, size=len(fingerprint.queries), alpha=0.3)
    trial.update([1.0] * len(fingerprint.queries))
    verdict = trial.verdict(scheme=fingerprint.scheme, fingerprint="9f86d081884c7d65", suspect="a.onnx")
    document = json.loads(json.dumps(asdict(verdict)))
    combined = {"verdicts": [document], "decision": "derived", "p_value": 0.1, "alpha": 0.3}

    def read(path: Path) -> None:
        verdict_in(path)
        read_verdict(path)

    return Case([document, combined], changed_json, in_file(folder, "verdict.json", read), 0.5)


def read_golden() -> Any:
    """The golden fingerprint of format 2, whose scheme may be of any name."""
    from whorl.fingerprints.files import read_fingerprint as without_its_scheme

    return without_its_scheme(GOLDEN / "v0.2" / "fingerprint.safetensors")


def looks(folder: Path) -> Case:
    fingerprint, path = read_golden(), folder / "a.fp"
    for suspect in ("a", "b"):
        said = {"date": "2026-11-28T12:00:00Z", "rule": '{"alpha":0.05}', "decision": "unrelated"}
        add_look(path, fingerprint, suspect=suspect, **said)
    lines = looks_path(path).read_text().splitlines()

    def change(lines: list[str], chance: random.Random) -> bytes:
        made = [line.encode() for line in lines]
        place = chance.randrange(len(made))
        made[place] = changed_json(json.loads(lines[place]), chance)
        return b"\n".join(made) + b"\n"

    def read(_: Path) -> None:
        read_looks(path, fingerprint)

    return Case([lines], change, in_file(folder, "a.fp.looks", read), 3)


def secret(folder: Path) -> Case:
    write_secret(commit(1), folder / "made.json")
    document = json.loads((folder / "made.json").read_bytes())
    return Case([document], changed_json, in_file(folder, "secret.json", read_secret), 5)
