"""Valid bytes and documents with one thing or a few things wrong, the same for the same random numbers."""

from __future__ import annotations

import copy
import io
import json
import random
import struct
import zipfile
from typing import Any

NUMBERS = (
    0,
    1,
    2,
    7,
    8,
    127,
    128,
    255,
    256,
    2**15,
    2**16 - 1,
    2**24,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**62,
    2**63,
    -1,
    -8,
)
TEXTS = (
    "",
    "\x1b[2J\x1b[31m",
    "a\nb\r\nc",
    "\u202eexe.\u2066",
    "\ud800",
    "\x00",
    "../../etc/passwd",
    "x" * 300,
    "x" * 5000,
    "9" * 5000,
)
RAW = (
    *("null", "-1", "0", "1e308", "-1e308", "1e400", str(10**30), "9" * 5000, "NaN", "Infinity", "true", "false", '""'),
    *("[]", "{}", "[[]]", "[null]", "[NaN]", "0.5", "2147483648", "9223372036854775808", '"\\ud800"', '"\\u0000"'),
    *(
        "[" * 10_000 + "]" * 10_000,
        '{"a":' * 10_000 + "1" + "}" * 10_000,
        "[" * 10_000,
        "[1" + ",1" * 3000 + "]",
        "[16384, 16384, 16384]",
    ),
    *(json.dumps(text) for text in TEXTS),
)
"""What a JSON value is replaced by, as it stands in the file."""
HOLE, TWICE = "\x02hole\x02", "\x02twice\x02"


def changed_bytes(data: bytes, chance: random.Random) -> bytes:
    """Bits turned, numbers of 1 to 8 bytes set, parts cut, doubled, moved or filled with noise."""
    found = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 3, 8))):
        place = chance.randrange(len(found) + 1) if chance.random() < 0.6 else chance.randrange(min(64, len(found)) + 1)
        kind, length = chance.randrange(7), chance.choice((1, 2, 4, 8, 16, 100))
        if kind == 0 and place < len(found):
            found[place] ^= 1 << chance.randrange(8)
        elif kind in (1, 2):
            number = chance.choice(NUMBERS) + chance.choice((0, 0, 1, -1))
            width = chance.choice((1, 2, 4, 8))
            found[place : place + width] = (number % (1 << 8 * width)).to_bytes(width, chance.choice(("little", "big")))
        elif kind == 3:
            del found[place : place + length]
        elif kind == 4:
            found[place:place] = found[place : place + length]
        elif kind == 5:
            found[place : place + length] = chance.randbytes(chance.choice((1, length)))
        else:
            del found[place:]
    return bytes(found)


def changed_json(document: Any, chance: random.Random) -> bytes:
    """The text of a document in which values are replaced, keys are dropped, doubled or renamed, or lists grow."""
    made, raw = {"": copy.deepcopy(document)}, []
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        holder, key = _place(made, chance)
        kind = chance.randrange(9)
        if kind == 0 and holder is not made:
            del holder[key]
        elif kind == 1 and isinstance(holder, dict) and holder is not made:
            holder[TWICE + key] = HOLE if chance.random() < 0.5 else holder[key]
            raw += [chance.choice(RAW)] if holder[TWICE + key] == HOLE else []
        elif kind == 2 and isinstance(holder, dict) and holder is not made:
            holder[chance.choice(TEXTS)] = holder.pop(key)
        elif kind == 3 and isinstance(holder, list):
            holder[:] = holder * chance.choice((2, 50))
        elif kind == 4 and type(holder[key]) in (int, float):
            holder[key] = chance.choice(NUMBERS)
        elif kind == 5:
            other, place = _place(made, chance)
            holder[key] = copy.deepcopy(other[place])
        else:
            holder[key] = HOLE
            raw.append(chance.choice(RAW))
    text = json.dumps(made[""]).replace(json.dumps(TWICE)[1:-1], "")
    for value in raw:
        text = text.replace(json.dumps(HOLE), value, 1)
    text = text.replace(json.dumps(HOLE), "null")
    data = text.encode()
    return changed_bytes(data, chance) if chance.random() < 0.1 else data


def changed_value(document: Any, chance: random.Random) -> Any:
    """The same as a value again, for documents that are sealed after the change; JSON that is none becomes null."""
    try:
        return json.loads(changed_json(document, chance), parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        return None


def changed_header(data: bytes, chance: random.Random) -> bytes:
    """A safetensors file with another JSON header, whose length is mostly told right."""
    if chance.random() < 0.4:
        return changed_bytes(data, chance)
    length = int.from_bytes(data[:8], "little")
    header = changed_json(json.loads(data[8 : 8 + length]), chance)
    header += b" " * (-len(header) % 8)
    told = len(header) if chance.random() < 0.9 else chance.choice(NUMBERS) % (1 << 64)
    return struct.pack("<Q", told) + header + data[8 + length :]


def changed_entry(data: bytes, chance: random.Random) -> bytes:
    """A ZIP archive with another content of one entry, or with another name or none."""
    if chance.random() < 0.3:
        return changed_bytes(data, chance)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    name = chance.choice([*entries, *(name for name in entries if name.endswith((".pkl", ".json")) for _ in range(8))])
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for each, content in entries.items():
            if each != name:
                archive.writestr(each, content)
            elif name.endswith(".json") and chance.random() < 0.8:
                archive.writestr(each, changed_json(json.loads(content), chance))
            elif chance.random() < 0.95:
                archive.writestr(each, changed_bytes(content, chance))
    return stream.getvalue()


def changed_message(message: Any, chance: random.Random) -> bytes:
    """A protobuf message in which fields somewhere below are set, cleared or repeated; or whose bytes are changed."""
    if chance.random() < 0.3:
        return changed_bytes(message.SerializeToString(), chance)
    made = type(message)()
    made.CopyFrom(message)
    for _ in range(chance.choice((1, 1, 2, 4))):
        held = [made]
        for each in held:
            for field, value in each.ListFields():
                if field.message_type is not None:
                    held += [value] if hasattr(value, "DESCRIPTOR") else list(value)
        _change_field(chance.choice(held), chance)
    return made.SerializeToString()


def _change_field(message: Any, chance: random.Random) -> None:
    present = [field for field, _ in message.ListFields()]
    field = chance.choice(present if present and chance.random() < 0.7 else list(message.DESCRIPTOR.fields))
    value = getattr(message, field.name)
    if field.message_type is not None:
        if hasattr(value, "DESCRIPTOR"):
            message.ClearField(field.name) if chance.random() < 0.5 else value.SetInParent()
        elif len(value) and chance.random() < 0.5:
            value.add().CopyFrom(chance.choice(list(value)))
        elif len(value):
            del value[chance.randrange(len(value))]
        else:
            value.add()
        return
    try:
        other = chance.choice(TEXTS + NUMBERS + (1e308, 0.5, b"\xff", b"Loop", "Loop", "Identity", "x", "y"))
        if not hasattr(value, "append"):
            setattr(message, field.name, other)
        elif len(value) and chance.random() < 0.6:
            value[chance.randrange(len(value))] = other
        else:
            value.extend([other] * chance.choice((1, 1, 1000)))
    except (TypeError, ValueError):
        message.ClearField(field.name)


def _place(document: Any, chance: random.Random) -> tuple[Any, Any]:
    """A container below the document and one of its keys or places."""
    places: list[tuple[Any, Any]] = []
    waiting = [document]
    for holder in waiting:
        keys = list(holder) if isinstance(holder, dict) else range(min(len(holder), 20))
        for key in keys:
            places.append((holder, key))
            if isinstance(holder[key], dict | list):
                waiting.append(holder[key])
    return chance.choice(places)
