"""The lines and the root of a training log: what is torn, rewritten or no log ends in one line."""

from __future__ import annotations

import json

import pytest

from whorl.attest.training import Header, LogEntry, SegmentDraw, begin_log, read_anchor, read_log
from whorl.errors import InvalidFile, UsageError
from whorl.storage import canonical_json

HEADER = Header(
    input_shape=(1, 8, 8),
    classes=10,
    optimiser="SGD",
    settings={"momentum": 0.5, "nesterov": False},
    learning_rate=0.1,
    batch=4,
)


def entry(step, count=2):
    digest = f"{step:064x}"
    fed = {"batches": [digest] * count, "rates": [0.1] * count, "losses": [1.5] * count} if step else {}
    return LogEntry(step=step, weights=digest, optimiser=digest, random=digest, **fed)


@pytest.fixture
def folder(tmp_path):
    writer = begin_log(tmp_path / "log", HEADER)
    for step in (0, 2, 4, 6):
        writer.append(entry(step))
    return writer.folder


def test_a_log_is_read_as_it_was_written(folder):
    log = read_log(folder)
    assert (log.header, log.steps, log.segments) == (HEADER, 6, 3)
    assert log.entries[1] == entry(2)
    log.follows(read_anchor(folder / "root.json"))


def test_an_earlier_root_is_followed_until_a_line_before_it_changes(tmp_path):
    logs = {}
    for name, first in (("one", 1.5), ("other", 1.6)):
        writer = begin_log(tmp_path / name, HEADER)
        writer.append(entry(0))
        writer.append(entry(2).model_copy(update={"losses": [first] * 2}))
        (tmp_path / f"{name}.json").write_bytes((writer.folder / "root.json").read_bytes())
        writer.append(entry(4))
        logs[name] = read_log(writer.folder)
    early = read_anchor(tmp_path / "one.json")
    logs["one"].follows(early)
    with pytest.raises(InvalidFile, match="rewritten"):
        logs["other"].follows(early)
    with pytest.raises(InvalidFile, match="rewritten"):
        logs["one"].follows(early.model_copy(update={"size": 99}))


def torn(lines):
    return lines[:-20]


def shortened(lines):
    return b"".join(lines.splitlines(keepends=True)[:-1])


def altered(lines):
    return lines.replace(b"1.5", b"1.4", 1)


def longer(lines):
    return lines + lines.splitlines(keepends=True)[-1]


@pytest.mark.parametrize("damage", [torn, shortened, altered, longer, lambda _: b"", lambda _: b"\xff\n" * 4])
def test_damage_ends_in_one_line(folder, damage):
    lines = folder / "log.jsonl"
    lines.write_bytes(damage(lines.read_bytes()))
    with pytest.raises(InvalidFile) as caught:
        read_log(folder)
    assert "\n" not in str(caught.value)


def rooted(folder, documents):
    """The same folder with these lines, and a root that fits them."""
    from whorl.attest.merkle import Tree, leaf_hash

    lines = [canonical_json(each) for each in documents]
    (folder / "log.jsonl").write_bytes(b"".join(line + b"\n" for line in lines))
    root = Tree(map(leaf_hash, lines)).root().hex()
    (folder / "root.json").write_text(json.dumps({"format": 1, "size": len(lines), "root": root}))


@pytest.mark.parametrize(
    ("number", "change", "told"),
    [
        (0, {"format": 2}, "line 0"),
        (0, {"input_shape": [1, 8, 10**9]}, "line 0"),
        (0, {"more": 1}, "line 0"),
        (1, {"step": 1}, "begins with step 0"),
        (2, {"step": 3}, "does not follow"),
        (2, {"rates": [0.1]}, "does not follow"),
        (2, {"weights": "../../etc"}, "line 2"),
        (3, {"step": 1}, "does not follow"),
        (2, {"losses": ["much", 1]}, "line 2"),
    ],
)
def test_a_well_rooted_log_is_refused_for_what_it_claims(folder, number, change, told):
    documents = [json.loads(line) for line in (folder / "log.jsonl").read_bytes().splitlines()]
    rooted(folder, documents)
    read_log(folder)
    documents[number] |= change
    rooted(folder, documents)
    with pytest.raises(InvalidFile, match=told):
        read_log(folder)


def test_no_log_and_a_second_one_in_the_same_folder_are_refused(folder, tmp_path):
    with pytest.raises(UsageError, match="whorl log make"):
        read_log(tmp_path)
    with pytest.raises(UsageError, match="holds a log already"):
        begin_log(folder, HEADER)


def test_a_draw_is_given_again_by_root_and_nonce_and_by_nothing_else():
    root, nonce = "ab" * 32, bytes(range(32))
    drawn = SegmentDraw(root, nonce).indices(1000, 20, "segments")
    assert drawn == SegmentDraw(root, nonce).indices(1000, 20, "segments")
    assert drawn != SegmentDraw("cd" * 32, nonce).indices(1000, 20, "segments")
    assert drawn != SegmentDraw(root, bytes(32)).indices(1000, 20, "segments")
    assert len(set(drawn)) == 20
