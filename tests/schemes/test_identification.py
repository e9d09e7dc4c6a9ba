"""FBI's choice of pictures and its identification, on answers made by hand."""

from __future__ import annotations

import pytest
import torch

from whorl.errors import UsageError
from whorl.schemes.fbi import choose, discriminate, identify


def test_a_picture_that_tells_more_pairs_apart_comes_first_and_its_like_later():
    apart = torch.tensor([[1, 1, 0, 0], [1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0]]).bool()
    assert choose(apart, 4).tolist() == [0, 1, 2, 3], "1.5 against 1, then 1 against 0"
    assert choose(apart[2:], 3).tolist() == [0, 2, 1], "1 new pair against half an old one"


def test_graded_pictures_are_weighed():
    assert choose(torch.tensor([[0.4, 0.9], [0.4, 0.0]]), 1).tolist() == [1]


def test_more_pictures_than_there_are():
    with pytest.raises(UsageError, match="3 pictures are to be chosen from 2"):
        choose(torch.ones(1, 2), 3)


def test_families_are_told_apart_by_what_their_members_share():
    known = {
        "a": {"a0": torch.tensor([0, 0, 0, 1]), "a1": torch.tensor([0, 1, 0, 1])},
        "b": {"b0": torch.tensor([0, 0, 1, 1])},
    }
    assert discriminate(known, 1).tolist() == [2]
    assert discriminate(known, 2, members=True).tolist() == [1, 2]
    with pytest.raises(UsageError, match="at least two families"):
        discriminate({"a": known["a"]}, 1)


def test_the_likest_member_and_its_family():
    known = {
        "a": {"a0": torch.tensor([0, 1, 2, 3, 4, 5]), "a1": torch.tensor([0, 1, 2, 3, 5, 5])},
        "b": {"b0": torch.tensor([5, 5, 4, 4, 3, 3])},
    }
    found = identify(known, torch.tensor([0, 1, 2, 3, 4, 5]))
    assert (found.family, found.member, found.similarity, found.tied) == ("a", "a0", 1.0, ())
    assert found.margin == pytest.approx(0), "b0 is a function of a0, and information cannot tell that"
    assert identify(known, known["b"]["b0"]).family == "b", "the matching rate can"


def test_members_that_answer_alike_are_tied():
    known = {"a": {"one": torch.tensor([0, 1]), "two": torch.tensor([0, 1]), "three": torch.tensor([1, 1])}}
    found = identify(known, torch.tensor([0, 1]))
    assert (found.member, found.tied, found.margin) == ("one", ("two",), None)


def test_nothing_known():
    with pytest.raises(UsageError, match="at least one known model"):
        identify({"a": {}}, torch.tensor([0]))
