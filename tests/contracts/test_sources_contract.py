"""Every data source that needs no files keeps the contract, and a false one is found."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch

from whorl.data import SOURCES, Source
from whorl.data.digits import Digits
from whorl.testing import check_source

SMALL = {
    "corrupt": "corrupt(digits(size=8))",
    "digits": "digits(size=8)",
    "forget": "forget(digits(size=8))",
    "only": "only(digits(size=8), classes=[0, 1])",
    "poisoned": "poisoned(digits(size=8))",
    "textures": "textures(size=8)",
}
FILES = {"cifar10", "folder", "hf", "parquet", "rows"}  # which have tests of their own with files that those write


@pytest.mark.parametrize("name", sorted(set(SOURCES) - FILES))
def test_source_keeps_contract(name):
    check_source(SOURCES.make(SMALL.get(name, name)))


@dataclass(frozen=True)
class Faulty(Source):
    """Digits with one thing wrong."""

    fault: str = ""

    def _load(self, part):
        seen = "queries" if self.fault == "shared" and part == "test" else part
        data = replace(Digits(size=8).load(seen), expression="faulty")
        if self.fault == "chance":
            return replace(data, images=data.images[torch.randperm(len(data))])
        if self.fault == "forgetful":
            return replace(data, images=(data.images + _count()).clamp(0, 1))
        changes = {
            "shared": {},
            "dark": {"images": data.images - 1},
            "labels": {"labels": data.labels + 1},
            "nameless": {"expression": "digits("},
            "stranger": {"expression": "digits(size=9)"},
            "uneven": {"classes": (*data.classes, "more")} if part == "test" else {},
        }
        return replace(data, **changes[self.fault])


COUNTED = []


def _count():
    COUNTED.append(0)
    return 0.01 * len(COUNTED)


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("shared", "parts queries and test share an input"),
        ("chance", "global random state"),
        ("forgetful", "when part victim is loaded again"),
        ("dark", "0..1 is needed"),
        ("labels", "labels leave"),
        ("nameless", "can't be read"),
        ("stranger", "makes another source"),
        ("uneven", "part test has other inputs or classes"),
    ],
)
def test_a_false_source_is_found(fault, told):
    with pytest.raises(AssertionError, match=told):
        check_source(Faulty(fault))
