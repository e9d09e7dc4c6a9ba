"""Format 2 keeps every field, ties all that decides to its ids, and lets nothing be changed under them."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from a_fingerprint import SPACE, fingerprint, same
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from whorl.errors import InvalidFile, UsageError
from whorl.fingerprints.files import read_fingerprint, write_fingerprint
from whorl.fingerprints.second import calibration_identity, identity
from whorl.storage import canonical_json, digest_file, digest_tensors, read_metadata, read_tensors, write_tensors
from whorl.types import Calibration, Mark, Null, NullModel, Probes, Queries, Representation

GOLDEN = Path(__file__).parents[1] / "golden" / "v0.2" / "fingerprint.safetensors"
MODEL = NullModel("a")


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"calibration": None, "looks": ()},
        {"probes": None, "calibration": None},
        {"candidates": None, "mark": None, "looks": ()},
        {"queries": Queries(torch.rand(2, 3, 1, 2, 2, generator=torch.Generator().manual_seed(0)))},
        {"data": "images('a b/c')", "seed": -3, "class_names": ()},
    ],
)
def test_fingerprints_round_trip(tmp_path, change):
    if change:
        change = {"looks": ()} | change  # the chain of looks begins at the fingerprint's id
    given = replace(fingerprint(), **change)
    write_fingerprint(given, tmp_path / "f")
    read = read_fingerprint(tmp_path / "f")
    assert same(read, given)
    assert identity(read) == identity(given)
    assert calibration_identity(read) == calibration_identity(given)


def test_the_golden_file_is_readable():
    assert same(read_fingerprint(GOLDEN), fingerprint())


def test_equal_fingerprints_are_equal_files(tmp_path):
    given = fingerprint()
    for name in ("a", "b"):
        write_fingerprint(given, tmp_path / name)
    assert digest_file(tmp_path / "a") == digest_file(tmp_path / "b")


def test_the_document_is_canonical_and_names_its_ids(tmp_path):
    given = fingerprint()
    write_fingerprint(given, tmp_path / "f")
    text = read_metadata(tmp_path / "f")["whorl"]
    document = json.loads(text)
    assert canonical_json(document).decode() == text
    assert document["ids"] == {"fingerprint": identity(given), "calibration": calibration_identity(given)}
    assert len(identity(given)) == 64


CHANGES = {
    "scheme": "ipguard(margin=6)",
    "victim": "ffff",
    "queries": Queries(torch.zeros(4, 1, 2, 2)),
    "reference": Representation(torch.zeros(4, dtype=torch.int64)),
    "data": "textures",
    "seed": 8,
    "classes": 4,
    "versions": {},
    "task": "regression",
    "pool": ("aa",),
    "class_names": ("cat", "dog", "cow"),
    "provenance": {},
    "nonce": "01",
    "probes": Probes(torch.zeros(1, 1, 2, 2), torch.zeros(1, dtype=torch.int64), torch.zeros(1, 3)),
    "candidates": None,
    "mark": Mark("bits", torch.zeros(0, 1, 2, 2), torch.ones(4, dtype=torch.int64)),
}


@pytest.mark.parametrize("field", CHANGES)
def test_whatever_decides_is_in_the_id(field):
    given = fingerprint()
    assert identity(replace(given, **{field: CHANGES[field]})) != identity(given)


def test_time_and_looks_are_not():
    given = fingerprint()
    assert identity(replace(given, seconds=9.0, looks=(), calibration=None)) == identity(given)


@pytest.mark.parametrize(
    "change",
    [
        {"pool": "others"},
        {"similarities": (0.1, 0.25, 0.0)},
        {"siblings": 0},
        {"origin": "judge"},
        {"probes": None},
        {"models": (NullModel("a"), NullModel("b"), NullModel("c"))},
    ],
)
def test_the_null_is_in_the_id_of_the_calibration(change):
    given = fingerprint()
    other = replace(given, calibration=replace(given.calibration, null=replace(given.calibration.null, **change)))
    assert calibration_identity(other) != calibration_identity(given)
    assert identity(other) == identity(given)


def test_a_calibration_belongs_to_one_fingerprint():
    given = fingerprint()
    assert calibration_identity(replace(given, seed=1)) != calibration_identity(given)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scheme": "ipguard("}, "cannot read the expression"),
        ({"seconds": float("nan")}, "canonical JSON"),
        ({"classes": -1, "class_names": ()}, "classes"),
        ({"class_names": ("a",)}, "names 1 of 3 classes"),
        ({"queries": Queries(torch.full((2, 1, 2, 2), 1.5))}, r"0..1 is needed"),
        ({"queries": Queries(torch.full((2, 1, 2, 2), float("nan")))}, "holds NaN"),
        ({"queries": Queries(torch.zeros(2, 1, 2, 2, dtype=torch.float64))}, "float32"),
        ({"queries": Queries(torch.zeros(2, 4))}, r"\[n, 1, 2, 2\]"),
        ({"queries": Queries(torch.zeros(0, 1, 2, 2))}, "no query"),
        ({"queries": Queries(torch.zeros(2, 1, 2, 2), {"seed": torch.zeros(3)})}, "does not count the 2 queries"),
        ({"queries": Queries(torch.zeros(2, 1, 2, 2), {"a/b": torch.zeros(2)})}, "unknown tensor"),
        ({"queries": Queries(torch.zeros(2, 1, 2, 2), {}, {"f": torch.zeros})}, "canonical JSON"),
        ({"queries": Queries(torch.zeros(2, 1, 2, 2), {}, {"f": 2**60})}, "canonical JSON"),
        ({"reference": Representation(torch.tensor([float("inf")]))}, "holds NaN or an infinity"),
        ({"calibration": Calibration(Null("p", (MODEL,), (0.1, 0.2)))}, "one for each named model"),
        ({"calibration": Calibration(Null("p", (MODEL,), (0.1,), siblings=2))}, "2 siblings among 1"),
        ({"calibration": Calibration(Null("p", (MODEL,), (0.1,), probes=torch.zeros(2, 4, 3)))}, "null/probes"),
        ({"probes": None}, "answered probes that it does not hold"),
        ({"probes": Probes(torch.zeros(1, 1, 2, 2), torch.tensor([3]), torch.zeros(1, 3))}, "probes/labels"),
        ({"probes": Probes(torch.zeros(1, 1, 2, 2), torch.tensor([0]), torch.zeros(1, 1001))}, "probes/victim"),
        ({"mark": Mark("labels", torch.zeros(2, 1, 2, 2), torch.tensor([0]))}, "mark/drawn"),
        ({"nonce": "secret"}, "nonce"),
    ],
)
def test_unsound_fingerprints_are_not_written(tmp_path, change, message):
    with pytest.raises(UsageError, match=message) as error:
        write_fingerprint(replace(fingerprint(), looks=(), **change), tmp_path / "f")
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 700
    assert not list(tmp_path.iterdir())


def digest(section):
    return hashlib.sha256(canonical_json(section)).hexdigest()


def rewritten(path, change=lambda document: None, tensors=None, ids=False):
    """A sound file with its document changed in place and tensors overwritten; ``ids`` makes the ids anew."""
    write_fingerprint(fingerprint(), path)
    found, metadata = read_tensors(path)
    document = json.loads(metadata["whorl"])
    change(document)
    if ids:
        document["calibration"]["fingerprint"] = document["ids"]["fingerprint"] = digest(document["fingerprint"])
        document["ids"]["calibration"] = digest(document["calibration"])
        document["looks"] = []
    save_file(found | (tensors or {}), path, {"whorl": canonical_json(document).decode()})
    return path


def refused(path, message):
    with pytest.raises(InvalidFile, match=message) as error:
        read_fingerprint(path)
    assert str(path) in str(error.value)
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 700


def setting(*place, to):
    """A change of one field."""

    def change(document):
        for key in place[:-1]:
            document = document[key]
        document[place[-1]] = to

    return change


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("fingerprint", "scheme"), "akh", "fingerprint was changed"),
        (("fingerprint", "nonce"), "aa", "fingerprint was changed"),
        (("calibration", "pool"), "worthy strangers", "calibration was changed"),
        (("calibration", "siblings"), 0, "calibration was changed"),
        (("calibration", "models", 0, "accuracy"), 0.9, "calibration was changed"),
        (("ids", "fingerprint"), "0" * 64, "fingerprint was changed"),
        (("looks", 0, "decision"), "unknown", "entry 2 of its log"),
        (("looks", 0, "previous"), "0" * 64, "entry 1 of its log"),
    ],
)
def test_nothing_is_swapped_under_the_ids(tmp_path, place, value, message):
    refused(rewritten(tmp_path / "f", setting(*place, to=value)), message)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("null/similarities", torch.zeros(3, dtype=torch.float64)),
        ("queries/inputs", torch.zeros(4, 1, 2, 2)),
        ("reference/values", torch.ones(4, dtype=torch.int64)),
        ("probes/victim", torch.zeros(4, 3)),
    ],
)
def test_no_tensor_is_exchanged(tmp_path, name, value):
    refused(rewritten(tmp_path / "f", tensors={name: value}), f"{name}' was changed")


def test_no_tensor_is_added_or_lost(tmp_path):
    refused(rewritten(tmp_path / "f", tensors={"weights": torch.zeros(1)}), "unknown tensor 'weights'")
    write_fingerprint(fingerprint(), tmp_path / "f")
    found, metadata = read_tensors(tmp_path / "f")
    del found["mark/drawn"]
    save_file(found, tmp_path / "f", metadata)
    refused(tmp_path / "f", "lacks the tensor 'mark/drawn'")


def test_a_calibration_of_another_fingerprint_is_refused(tmp_path):
    other = replace(fingerprint(), seed=1, looks=())
    write_fingerprint(other, tmp_path / "other")
    foreign = json.loads(read_metadata(tmp_path / "other")["whorl"])

    def graft(document):
        document["calibration"], document["ids"]["calibration"] = foreign["calibration"], foreign["ids"]["calibration"]

    refused(rewritten(tmp_path / "f", graft), "belongs to another fingerprint")


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("fingerprint", "space"), "pictures(size=[1, 2, 3])", r"\[n, 1, 2, 3\]"),
        (("fingerprint", "space"), "pictures(size=[1, 2])", "three sizes"),
        (("fingerprint", "space"), "pictures(size=[1, 2, 1000000000000])", "at most"),
        (("fingerprint", "space"), "holograms", "no such name"),
        (("fingerprint", "seed"), "1e3", "seed"),
        (("fingerprint", "seed"), 7, "seed"),
        (("fingerprint", "task"), "theft", "task"),
        (("fingerprint", "candidates", "digests"), ["x"], "digests"),
        (("fingerprint", "candidates", "commitment"), "0", "commitment"),
        (("fingerprint", "extra"), 1, "extra"),
        (("calibration", "grade"), "A", "of grade D"),
        (("calibration", "origin"), "nobody", "origin"),
        (("calibration", "models", 0, "accuracy"), 2.0, "accuracy"),
        (("looks", 0, "date"), "yesterday", "date"),
        (("seconds",), -1.0, "seconds"),
        (("format",), 0, "format"),
        (("unheard",), 1, "unheard"),
    ],
)
def test_false_documents(tmp_path, place, value, message):
    # With ids made anew, so that what is false is found and not that it was changed.
    ids = place[0] in ("fingerprint", "calibration")
    refused(rewritten(tmp_path / "f", setting(*place, to=value), ids=ids), message)


def test_a_number_is_no_set_of_queries(tmp_path):
    write_fingerprint(fingerprint(), tmp_path / "f")
    found, metadata = read_tensors(tmp_path / "f")
    found["queries/inputs"] = torch.zeros(())
    document = json.loads(metadata["whorl"])
    document["fingerprint"]["tensors"]["queries/inputs"] = digest_tensors({"": torch.zeros(())})
    document["calibration"]["fingerprint"] = document["ids"]["fingerprint"] = digest(document["fingerprint"])
    document["ids"]["calibration"], document["looks"] = digest(document["calibration"]), []
    save_file(found, tmp_path / "f", {"whorl": canonical_json(document).decode()})
    refused(tmp_path / "f", r"these are float32 \[\]")


def test_only_the_canonical_text_is_read(tmp_path):
    write_fingerprint(fingerprint(), tmp_path / "f")
    found, metadata = read_tensors(tmp_path / "f")
    save_file(found, tmp_path / "f", {"whorl": json.dumps(json.loads(metadata["whorl"]), indent=1)})
    refused(tmp_path / "f", "canonical form")


def test_a_newer_format_names_the_whorl_that_reads_it(tmp_path):
    def newer(document):
        document |= {"format": 3, "versions": {"whorl": "3.1.0"}}

    path = rewritten(tmp_path / "f", newer)
    refused(path, r'format 3.*pip install --upgrade "whorl>=\d')


def test_other_safetensors_are_not_fingerprints(tmp_path):
    write_tensors(tmp_path / "f", {"x": torch.ones(1)}, {"format": "pt"})
    refused(tmp_path / "f", "no key 'whorl'")
    for text in ("", "3", "[]", "{", "[" * 100_000):
        write_tensors(tmp_path / "f", {"x": torch.ones(1)}, {"whorl": text})
        refused(tmp_path / "f", "not a sound fingerprint")


@settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(edits=st.lists(st.tuples(st.integers(0, 9000), st.binary(min_size=0, max_size=4)), min_size=1, max_size=3))
def test_a_damaged_file_is_refused(tmp_path, edits):
    content = bytearray(GOLDEN.read_bytes())
    sound = bytes(content)
    for place, value in edits:
        content[place % len(content) : place % len(content) + 3] = value
    path = tmp_path / "f"
    path.write_bytes(content)
    try:
        read = read_fingerprint(path)
    except InvalidFile:
        return
    # Only what no id covers may differ: the time it took, and the unused header of the file.
    assert identity(read) == identity(read_fingerprint(GOLDEN)) or bytes(content) == sound


def test_space():
    assert fingerprint().space == SPACE
