"""A tensor fits its layout or is named with what is needed."""

import pytest
import torch

from whorl.layouts import Layout, check_layouts
from whorl.spaces import Pictures

SPACE = Pictures((1, 2, 3))
SIZES = {"n": 4, "k": 5, "numbers": 6, "width": 7}


def check(layout, value, **others):
    tensors = {"it": (layout, value)} | others
    check_layouts(tensors, space=SPACE, sizes=SIZES)


@pytest.mark.parametrize(
    ("layout", "shape"),
    [
        (Layout("n"), (4,)),
        (Layout("n *input", "input"), (4, 1, 2, 3)),
        (Layout("n 2 *input"), (4, 2, 1, 2, 3)),
        (Layout("n ..."), (4,)),
        (Layout("n ..."), (4, 9, 9)),
        (Layout("..."), ()),
        (Layout("width 2*k*n numbers"), (7, 40, 6)),
        (Layout("any any"), (3, 3)),
        (Layout("1"), (1,)),
    ],
)
def test_what_fits(layout, shape):
    check(layout, torch.zeros(shape))


@pytest.mark.parametrize(
    ("layout", "value"),
    [
        (Layout("n"), torch.zeros(5)),
        (Layout("n"), torch.zeros(4, 1)),
        (Layout("n"), torch.zeros(())),
        (Layout("n", "int64"), torch.zeros(4)),
        (Layout("n *input"), torch.zeros(4, 6)),
        (Layout("n ..."), torch.zeros(3, 4)),
        (Layout("width"), torch.zeros(8)),
        (Layout("2*k"), torch.zeros(5)),
        (Layout("2*unheard"), torch.zeros(2)),
        (Layout("any any"), torch.zeros(3, 4)),
    ],
)
def test_what_does_not(layout, value):
    with pytest.raises(ValueError, match=r"'it' is .*is needed"):
        check(layout, value)


def test_a_size_is_the_same_wherever_it_stands():
    check(Layout("rows"), torch.zeros(3), other=(Layout("n rows"), torch.zeros(4, 3)))
    with pytest.raises(ValueError, match="'other'"):
        check(Layout("rows"), torch.zeros(3), other=(Layout("n rows"), torch.zeros(4, 2)))


@pytest.mark.parametrize(
    ("layout", "good", "bad"),
    [
        (Layout("n", low=0, high=1), [0, 1, 0.5, 1], [0, 1, 0.5, 1.1]),
        (Layout("n", low=0), [0, 1, 2, 3], [0, 1, 2, -0.1]),
        (Layout("n"), [0, 1, 2, 3], [0, 1, 2, float("nan")]),
        (Layout("n"), [0, 1, 2, 3], [0, 1, 2, float("inf")]),
    ],
)
def test_bounds(layout, good, bad):
    check(layout, torch.tensor(good, dtype=torch.float32))
    with pytest.raises(ValueError, match="'it'"):
        check(layout, torch.tensor(bad, dtype=torch.float32))


def test_an_index_is_below_the_size_that_it_names():
    check(Layout("n", "int64", 0, "k"), torch.tensor([0, 1, 2, 4]))
    with pytest.raises(ValueError, match=r"0\.\.4 is needed"):
        check(Layout("n", "int64", 0, "k"), torch.tensor([0, 1, 2, 5]))
    with pytest.raises(ValueError, match="'it' spans"):
        check(Layout("n", "int64", 0, "units"), torch.tensor([0, 1, 2, 3]), other=(Layout("units"), torch.zeros(3)))


def test_a_product_is_checked_whatever_comes_first():
    """A file holds its tensors by name, so what a product is made of may come after it."""
    axes = Layout("looks clusters")
    check(Layout("2*clusters"), torch.zeros(6), other=(axes, torch.zeros(2, 3)))
    with pytest.raises(ValueError, match="'it'"):
        check(Layout("2*clusters"), torch.zeros(7), other=(axes, torch.zeros(2, 3)))
