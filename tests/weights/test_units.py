"""Units and axes of one net among those of another, on plain matrices."""

from __future__ import annotations

import pytest
import torch

from whorl.weights.units import Found, Units, find_units, idle_units, shared_axes


def drawn(rows, columns, seed):
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


def units(count=40, seed=0, *, gated=False):
    read, second, written = (drawn(count, 64, 10 * seed + part) for part in range(3))
    return Units(read, second if gated else written, written, gated)


@pytest.mark.parametrize("gated", [True, False])
def test_units_are_found_wherever_they_stand(gated):
    many = units(gated=gated)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(5))[:30]
    few = Units(many.read[order] + 0.3 * drawn(30, 64, 7), many.second[order], many.written[order], gated)
    if gated:  # where the second part is linear its sign says nothing
        few.second[::2] *= -1
    found = find_units(few, many)
    assert found.share == 1
    assert found.idle == 0
    assert find_units(units(30, 1, gated=gated), many).share < 0.2
    assert find_units(many, many) == Found(1.0, 0.0), "where none is left, none is idle"


def test_what_writes_nothing_or_reads_the_same_is_idle():
    read, written = drawn(6, 64, 1), drawn(6, 64, 2)
    written[1] *= 0.01
    read[4] = 2 * read[3]
    assert idle_units(read, written).tolist() == [False, True, False, True, True, False]
    many = Units(
        torch.cat([read[:1], read]), torch.cat([written[:1], written]), torch.cat([written[:1], written]), False
    )
    found = find_units(Units(read[[2, 5]], written[[2, 5]], written[[2, 5]], False), many)
    assert found.share == 1
    assert found.idle == 1


def test_axes_are_found_both_ways_and_near():
    many = drawn(24, 256, 0)
    order = torch.randperm(24, generator=torch.Generator().manual_seed(1))[:16]
    assert shared_axes(many[order] + 0.2 * drawn(16, 256, 2), many) == 1
    assert shared_axes(many, many[order]) == 1
    assert shared_axes(drawn(16, 256, 3), many) == 0
    turned = torch.linalg.qr(drawn(24, 24, 4)).Q @ many
    assert shared_axes(turned[:16], many) < 0.2


@pytest.mark.parametrize("gated", [True, False])
def test_units_that_are_equally_near_are_not_found_by_drawing_alike(gated):
    """Of strangers: units of one number each, to which all of the other net's are equally near."""
    few, equal = units(60, 1, gated=gated), torch.ones(80, 64)
    many = Units(equal, equal, equal, gated)
    assert find_units(few, many).share < 0.15
