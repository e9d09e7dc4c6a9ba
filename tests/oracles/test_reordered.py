"""A model that names its classes in another order answers in the fingerprint's order."""

from pathlib import Path

import pytest
import torch
from linear_oracle import CLASSES, SHAPE, linear_weights, pictures
from torch import nn

from whorl.data import Dataset
from whorl.errors import InvalidFile, UsageError
from whorl.oracles.opening import open_oracle
from whorl.oracles.recorded import Recorded
from whorl.oracles.reordered import Reordered, in_order_of
from whorl.oracles.wrappers import LabelsOnly
from whorl.ownership import extract
from whorl.testing import check_oracle
from whorl.types import Access

INPUTS = pictures(12)
NAMES = ("ant", "bee", "cat", "dog")
OTHER = ("cat", "ant", "dog", "bee")


def net(order: list[int] | None = None) -> nn.Module:
    """The linear model with its columns in ``order``."""
    weights = linear_weights(int(torch.tensor(SHAPE).prod()), CLASSES)
    layer = nn.Linear(len(weights), CLASSES, bias=False)
    layer.weight.data = weights.T[order or list(range(CLASSES))].clone()
    return nn.Sequential(nn.Flatten(), layer).eval()


def suspect(**options: object):
    order = [NAMES.index(name) for name in OTHER]
    return open_oracle(net(order), input_shape=SHAPE, class_names=OTHER, **options)  # pyright: ignore


@pytest.mark.parametrize("access", [Access.LABELS, Access.PROBABILITIES, Access.LOGITS])
def test_another_order_of_the_same_names(access: Access) -> None:
    expected = open_oracle(net(), input_shape=SHAPE, classes=CLASSES, access=access).answers(INPUTS)
    given = suspect(access=access)
    assert given.class_names == OTHER
    assert not torch.equal(given.answers(INPUTS), expected)
    oracle = in_order_of(given, NAMES)
    assert oracle.class_names == NAMES
    torch.testing.assert_close(oracle.answers(INPUTS), expected)


def test_the_contract_of_oracles() -> None:
    check_oracle(lambda access: in_order_of(suspect(access=access), NAMES))


def test_nothing_to_reorder() -> None:
    for given, names in ((suspect(), OTHER), (suspect(), ())):
        assert in_order_of(given, names) is given
    bare = open_oracle(net(), input_shape=SHAPE, classes=CLASSES)
    assert in_order_of(bare, NAMES) is bare


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("ant", "bee", "elk", "fox"), "has no class 'elk'"),
        (("ant", "bee", "cat"), "the fingerprint has no class 'dog'"),
        ((*NAMES, "elk"), "has no class 'elk'"),
    ],
)
def test_other_names_are_refused(names: tuple[str, ...], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        in_order_of(suspect(), names)


def test_an_order_that_is_none() -> None:
    for order in ([0, 1, 2], [0, 1, 2, 2], [1, 2, 3, 4]):
        with pytest.raises(UsageError, match="must name each of 4 once"):
            Reordered(suspect(), order)


def test_names_stay_under_wrappers_and_orders_are_not_replayed_for_one_another(tmp_path: Path) -> None:
    assert LabelsOnly(suspect()).class_names == OTHER
    first = in_order_of(suspect(access="labels"), NAMES)
    Recorded(first, tmp_path / "a.sqlite").labels(INPUTS)
    with pytest.raises(InvalidFile, match="another treatment"):
        Recorded(suspect(access="labels"), tmp_path / "a.sqlite")


def test_names_must_fit(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="class_names names a class twice"):
        open_oracle(net(), input_shape=SHAPE, class_names=("a", "a", "b", "c"))


def test_a_victim_whose_gradient_a_scheme_follows_is_not_put_into_another_order() -> None:
    data = Dataset(INPUTS, torch.zeros(len(INPUTS), dtype=torch.int64), NAMES)
    with pytest.raises(UsageError, match=r"ipguard needs .* in the model's order, which begins with cat, ant, dog"):
        extract(suspect(), data=data, scheme="ipguard", budget=2)
    made = extract(suspect(), data=data, scheme="random", budget=2)
    assert made.class_names == NAMES
