"""A space that no part of whorl knows goes through extraction, files and verification like pictures."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from whorl import ownership
from whorl.data import Dataset
from whorl.errors import AccessRefused, InvalidFile, UsageError
from whorl.fingerprints.files import write_fingerprint
from whorl.layouts import Layout
from whorl.oracles.base import Chunk, Oracle
from whorl.oracles.recorded import Recorded
from whorl.oracles.wrappers import LabelsOnly
from whorl.representations.labels import Labels
from whorl.representations.similarity import Hamming
from whorl.schemes import SCHEMES, Scheme
from whorl.schemes.opening import read_fingerprint
from whorl.spaces import SPACES, InputSpace, Pictures, named_space
from whorl.types import Access, Queries, grants, told

LENGTH, CLASSES = 8, 4


@dataclass(frozen=True)
class Words(InputSpace):
    """Lower-case letters as bytes."""

    name: ClassVar[str] = "words"
    dtype: ClassVar[torch.dtype] = torch.uint8
    length: int = LENGTH

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.length,)

    def fault(self, inputs: Tensor) -> str | None:
        return None if bool(((inputs >= 97) & (inputs <= 122)).all()) else "they hold bytes that are no letters"


class Reader(Oracle):
    """A model of words: which of a few random sums of letters is largest."""

    def __init__(self, seed: int, *, access: Access = Access.LOGITS, changed: float = 0.0) -> None:
        super().__init__(
            access=access,
            input_shape=Words(),
            classes=CLASSES,
            name=f"reader {seed}",
            digest=f"{seed} {changed}",
            beyond=grants("tokens"),
        )
        generator = torch.Generator().manual_seed(seed)
        self.table = torch.randn(LENGTH, 26, CLASSES, generator=generator)
        self.table += changed * torch.randn(self.table.shape, generator=generator)

    def _stream(self, inputs: Tensor) -> Iterator[Chunk]:
        letters = inputs.long() - 97
        scores = sum(self.table[place, letters[:, place]] for place in range(LENGTH))
        assert isinstance(scores, Tensor)
        yield torch.arange(len(inputs)), scores.argmax(1) if self.access is Access.LABELS else scores


@dataclass(frozen=True, kw_only=True)
class Spelling(Labels, Hamming, Scheme):
    """Random words."""

    name: ClassVar[str] = "spelling"
    paper: ClassVar[str] = "none"
    idea: ClassVar[str] = "Labels of random words."
    blind: ClassVar[str] = "everything else"
    needs_victim: ClassVar[Access] = Access.LABELS
    needs_data: ClassVar[bool] = False
    tensors: ClassVar[dict[str, Layout]] = {"inputs": Layout("n *input", "input")}

    def sample(self, victim: Oracle, data: Dataset, *, budget: int, generator: torch.Generator) -> Queries:
        size = (budget, *victim.space.shape)
        return Queries(torch.randint(97, 123, size, generator=generator).to(torch.uint8))


@pytest.fixture(autouse=True)
def _plugged_in(monkeypatch):
    monkeypatch.setitem(SPACES._targets, "words", f"{__name__}:Words")
    monkeypatch.setitem(SCHEMES._targets, "spelling", f"{__name__}:Spelling")


@pytest.fixture
def calibrated():
    made = ownership.extract(Reader(0), data=None, scheme="spelling", budget=60)
    strangers = {str(seed): Reader(seed) for seed in range(1, 21)}
    copies = {"noise": [Reader(0, changed=0.01 * number) for number in range(1, 15)]}
    return ownership.calibrate(made, strangers, pool="20 readers", derived=copies)


def test_from_extraction_through_a_file_to_a_verdict(calibrated, tmp_path):
    write_fingerprint(calibrated, tmp_path / "f")
    read = read_fingerprint(tmp_path / "f")
    assert read.space == Words()
    assert read.queries.inputs.dtype == torch.uint8
    assert ownership.verify(read, Reader(0, changed=0.05), alpha=0.05).decision == "derived"
    assert ownership.verify(read, LabelsOnly(Reader(30)), alpha=0.05).decision == "unrelated"


def test_answers_are_recorded_by_the_input_s_own_bytes(calibrated, tmp_path):
    words = calibrated.queries.inputs
    first, again = Reader(0), Reader(0)
    with closing(Recorded(first, tmp_path / "answers")) as recorded:
        answers = recorded.answers(words)
        recorded.finish()
    replay = Recorded(again, tmp_path / "answers", replay=True)
    assert replay.answers(words).equal(answers)
    assert (first.queries_spent, again.queries_spent, replay.replayed.given.total()) == (60, 0, 60)


def test_what_is_no_word_is_refused(calibrated, tmp_path):
    with pytest.raises(UsageError, match=r"takes uint8 inputs \[n, 8\]; these are float32"):
        Reader(0).labels(torch.rand(2, 1, 8, 8))
    with pytest.raises(UsageError, match=r"asks words \[8\] of 4 classes.*takes pictures"):
        ownership.verify(calibrated, _Pictured())
    write_fingerprint(calibrated, tmp_path / "f")
    SPACES._targets.pop("words")
    with pytest.raises(InvalidFile, match="no such name among the spaces: 'words'"):
        read_fingerprint(tmp_path / "f")


class _Pictured(Oracle):
    def __init__(self) -> None:
        super().__init__(access=Access.LABELS, input_shape=(1, 8, 8), classes=CLASSES, name="a net", digest="")

    def _stream(self, inputs: Tensor) -> Iterator[Chunk]:
        yield torch.arange(len(inputs)), torch.zeros(len(inputs), dtype=torch.int64)


def test_a_space_is_named_by_its_expression():
    for space in (Pictures((3, 4, 5)), Words(5)):
        assert named_space(space.expression) == space
    with pytest.raises(UsageError, match="three sizes"):
        Pictures((3, 4))
    with pytest.raises(UsageError, match="at most"):
        named_space("words(length=1000000000000)")


@pytest.mark.parametrize("shape", [(2, 1, 8, 8), (2, 3, 1, 8, 8)])
def test_pictures_are_checked(shape):
    space = Pictures((1, 8, 8))
    space.check(torch.rand(shape))
    assert space.each(torch.rand(shape)) == (3 if len(shape) == 5 else None)
    assert space.flat(torch.rand(shape)).shape[1:] == (1, 8, 8)
    for wrong in (
        torch.rand(shape) + 1,
        torch.rand(shape) - 1,
        torch.full(shape, float("nan")),
        torch.rand(shape).double(),
    ):
        with pytest.raises(UsageError):
            space.check(wrong)
    with pytest.raises(UsageError, match=r"\[n, 1, 8, 8\]"):
        space.check(torch.rand(1, 8, 8))


class Dictated(Spelling):
    """Needs what no ladder holds."""

    needs_suspect = grants("tokens", "labels")


def test_grants_beyond_the_ladder_are_asked_for_by_name(calibrated):
    """Labels and tokens without probabilities: no level of the ladder says that."""
    scheme = Dictated()
    assert told(Dictated.demands()[1]) == "labels and tokens"
    assert scheme.verify(calibrated, Reader(30, access=Access.LABELS)).decision != "derived"
    with pytest.raises(AccessRefused, match="needs labels and tokens of the suspect; reader 30 grants LABELS"):
        scheme.verify(calibrated, LabelsOnly(Reader(30)))


def test_the_ladder_names_the_common_cases():
    assert told(grants(Access.LOGITS)) == "LOGITS"
    assert grants(Access.LOGITS) == {"labels", "probabilities", "logits"}
    assert grants(Access.LABELS, "features") == {"labels", "features"}
    assert not grants(Access.FEATURES) <= grants("labels", "features")
