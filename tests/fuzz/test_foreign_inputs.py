"""A few hundred damaged inputs a reader; `benchmarks/fuzz.py` asks a million."""

from __future__ import annotations

import pytest
from foreign_inputs import READERS, Case, fault

from whorl.errors import WhorlError

INPUTS = 200


class Several(WhorlError):
    def __str__(self):
        return "one\ntwo"


@pytest.mark.parametrize("name", READERS)
def test_what_strangers_wrote_ends_in_a_result_or_in_one_line(name, tmp_path):
    case = READERS[name](tmp_path)
    for number in range(int(INPUTS * min(1, case.share))):
        data = case.input(number)
        assert fault(case, data) == "", f"input {number}: {data[:200]!r}"


@pytest.mark.parametrize("name", READERS)
def test_most_inputs_are_read_further_than_their_first_bytes(name, tmp_path):
    """A mutation that only ever breaks the frame would test the frame alone."""
    case = READERS[name](tmp_path)
    told = set()
    for number in range(60):
        try:
            case.read(case.input(number))
            told.add("")
        except Exception as error:
            told.add(str(error).replace(str(tmp_path), "")[:200])
    assert len(told) >= 4


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (KeyError("a"), "KeyError"),
        (MemoryError(), "MemoryError"),
        (Several(), "a message of several lines"),
    ],
)
def test_a_careless_reader_is_found(error, said):
    def read(_):
        raise error

    assert fault(Case([b""], lambda example, _: example, read), b"").startswith(said)
