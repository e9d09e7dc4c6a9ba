"""Files of format 1 are read for ever, hostile ones end in one line, and none is written."""

import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from whorl.errors import InvalidFile, UsageError
from whorl.fingerprints.files import read_fingerprint, write_fingerprint
from whorl.fingerprints.second import calibration_identity, identity
from whorl.spaces import Pictures
from whorl.storage import read_tensors

GOLDEN = Path(__file__).parents[1] / "golden" / "v0.1" / "fingerprint.safetensors"


def test_the_fingerprint_of_version_0_1_is_readable():
    found = read_fingerprint(GOLDEN)
    inputs = torch.arange(16, dtype=torch.float32).reshape(4, 1, 2, 2) / 16
    assert found.queries.inputs.equal(inputs)
    assert found.queries.companions["seed"].equal(inputs / 2)
    assert found.queries.companions["target"].tolist() == [0, 1, 2, 3]
    assert found.queries.notes == {"converged": 0.75, "steps": [1, 2]}
    assert found.reference.values.tolist() == [0, 1, 2, 0]
    assert (found.scheme, found.victim, found.data) == ("ipguard(margin=5)", "0123abcd", "digits")
    assert (found.seed, found.classes, found.seconds, found.format) == (7, 3, 1.5, 1)
    assert found.space == Pictures((1, 2, 2))
    null = found.calibration.null
    assert (null.pool, null.names, null.siblings) == ("trained anew on other pictures", ("a", "b", "c"), 1)
    assert null.similarities == (0.1, 0.25, 1 / 3)
    assert (null.origin, null.grade) == ("owner", "D")
    assert found.calibration.derived == {"prune_weights(p=0.5)": (1.0, 0.75)}


def test_what_identified_it_then_still_does():
    found = read_fingerprint(GOLDEN)
    assert identity(found) == identity(replace(found, calibration=None, seed=9))
    assert len(identity(found)) == 16
    assert calibration_identity(found) is None


def test_it_is_not_written_again_as_it_is(tmp_path):
    with pytest.raises(UsageError, match="whorl calibrate"):
        write_fingerprint(read_fingerprint(GOLDEN), tmp_path / "f")
    assert not list(tmp_path.iterdir())


def rewritten(path: Path, change: dict[str, object], tensors: dict[str, torch.Tensor] | None = None) -> Path:
    """The golden file with some of its document and tensors overwritten."""
    found, metadata = read_tensors(GOLDEN)
    save_file(found | (tensors or {}), path, {"whorl": json.dumps(json.loads(metadata["whorl"]) | change)})
    return path


def refused(path: Path, message: str) -> None:
    with pytest.raises(InvalidFile, match=message) as error:
        read_fingerprint(path)
    text = str(error.value)
    assert str(path) in text
    assert text.isprintable()
    assert len(text) < 700


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 0}, "format"),
        ({"format": "1"}, "format"),
        ({"format": True}, "format"),
        ({"scheme": 3}, "scheme"),
        ({"scheme": "x" * 5000}, "scheme"),
        ({"scheme": "\x1b[2Jevil("}, "cannot read the expression"),
        ({"scheme": "a -> b"}, "not a chain"),
        ({"extra": 1}, "extra"),
        ({"seconds": float("nan")}, "NaN is not a JSON number"),
        ({"notes": {"rate": float("nan")}}, "NaN is not a JSON number"),
        ({"notes": []}, "notes"),
        ({"seed": 2**70}, "seed"),
        ({"classes": -1}, "classes"),
        ({"calibration": {"pool": "p", "names": ["a"], "siblings": 0, "derived": {}}}, "one for each named model"),
        ({"calibration": {"pool": "p", "names": ["a", "b", "c"], "siblings": 4}}, "4 siblings among 3"),
        ({"calibration": {"pool": "p", "names": "abc"}}, "calibration.names"),
        ({"calibration": None}, "unknown tensor 'null/similarities'"),
    ],
)
def test_false_documents(tmp_path, change, message):
    refused(rewritten(tmp_path / "f", change), message)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"queries/inputs": torch.zeros(4, 1, 2, 2) - 1}, "0..1 is needed"),
        ({"queries/inputs": torch.zeros(4, 1, 2, 2, dtype=torch.float64)}, "float32"),
        ({"queries/inputs": torch.zeros(4, 4)}, r"float32 \[n, 1, 1, 1\]"),
        ({"queries/inputs": torch.zeros(0, 1, 2, 2)}, "no query"),
        ({"queries/inputs": torch.zeros(5, 1, 2, 2)}, "does not count the 5 queries"),
        ({"queries/inputs": torch.zeros(1_000_001, 1, 1, 1)}, "1,000,001 queries"),
        ({"weights": torch.zeros(1)}, "unknown tensor 'weights'"),
        ({"null/similarities": torch.full((3,), float("nan"), dtype=torch.float64)}, "holds NaN"),
        ({"null/similarities": torch.zeros(4, dtype=torch.float64)}, "one for each named model"),
    ],
)
def test_false_tensors(tmp_path, tensors, message):
    refused(rewritten(tmp_path / "f", {}, tensors), message)


@settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(edits=st.lists(st.tuples(st.integers(0, 3000), st.binary(min_size=0, max_size=4)), min_size=1, max_size=3))
def test_a_damaged_fingerprint_is_read_or_refused(tmp_path, edits):
    content = bytearray(GOLDEN.read_bytes())
    for place, value in edits:
        content[place % len(content) : place % len(content) + 3] = value
    path = tmp_path / "f"
    path.write_bytes(content)
    with suppress(InvalidFile):
        assert len(read_fingerprint(path).queries) > 0
