from __future__ import annotations

import pytest
import torch

from whorl.data import SOURCES, Dataset
from whorl.data.base import join
from whorl.errors import UsageError
from whorl.spaces import Pictures


def pictures(count, value, *, size=4, dtype=torch.float32):
    images = torch.full((count, 1, size, size), value, dtype=dtype)
    return Dataset(images, torch.zeros(count, dtype=torch.int64), ("a", "b"))


def test_joined_pictures_remember_where_they_come_from():
    whole = join(pictures(2, 0.25), pictures(3, 0.75))
    assert whole.origin.tolist() == [0, 0, 1, 1, 1]
    assert whole.inputs()[:, 0, 0, 0].tolist() == [0.25, 0.25, 0.75, 0.75, 0.75]
    assert whole.subset(torch.tensor([4, 0])).origin.tolist() == [1, 0]


def test_bytes_stay_bytes_and_mix_with_floats():
    dark = pictures(2, 255, dtype=torch.uint8)
    assert join(dark, dark).images.dtype == torch.uint8
    mixed = join(dark, pictures(1, 0.5))
    assert mixed.images.dtype == torch.float32
    assert mixed.images[:, 0, 0, 0].tolist() == [1.0, 1.0, 0.5]


@pytest.mark.parametrize(
    ("wanted", "advice"), [((1, 6, 4), r", as in size=\[6, 4\]$"), ((1, 5, 5), ", as in size=5$"), ((3, 4, 4), "from$")]
)
def test_pictures_that_a_model_does_not_take_are_refused_with_the_size_to_give(wanted, advice):
    data = pictures(1, 0.0)
    data.check_takes("a net", data.space)
    with pytest.raises(UsageError, match=f"a net takes .* hold pictures .*: give data like those .*{advice}"):
        data.check_takes("a net", Pictures(wanted))


def test_pictures_of_another_size_are_refused():
    with pytest.raises(UsageError, match="one shape"):
        join(pictures(1, 0.0), pictures(1, 0.0, size=5))


def test_a_source_joins_parts_by_a_plus():
    source = SOURCES.make("digits(size=8)")
    whole = source.load("victim+queries")
    for number, part in enumerate(("victim", "queries")):
        assert torch.equal(whole.subset(whole.origin == number).images, source.load(part).images)
    assert source.load("victim").origin is None
    with pytest.raises(UsageError, match="'training'"):
        source.load("victim+training")


def test_a_number_of_classes_is_refused_at_once():
    with pytest.raises(UsageError, match="a tuple of names"):
        Dataset(torch.zeros(2, 1, 4, 4), torch.zeros(2, dtype=torch.int64), 10)
