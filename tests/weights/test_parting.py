"""Who came first of two nets that training moved, by rows that it did not touch."""

from __future__ import annotations

import json
import statistics
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy import stats

from whorl.checkpoints.opening import open_checkpoint
from whorl.checkpoints.roles import Weights
from whorl.weights.changes import describe
from whorl.weights.comparison import compare, document
from whorl.weights.differences import tables
from whorl.weights.parting import LEAST, STUDIED, Table, _point, parting, table_of

CALM = Table(100, 100, 1.0, 0.8)
TURNED = {"A first": "B first", "B first": "A first", "undetermined": "undetermined"}


def drawn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def tuned(tensors, seed, rows, *, decay=0.0, share=0.3):
    """Every matrix moved, of the embedding these rows alone; all of them decayed."""
    made = {}
    for place, (name, value) in enumerate(tensors.items()):
        if value.ndim < 2:
            made[name] = value.clone()
            continue
        change = share * value.std() * drawn(*value.shape, seed=1000 * seed + place)
        if "embed_tokens" in name:
            change[[row for row in range(len(value)) if row not in rows]] = 0
        made[name] = (1 - decay) * value + change
    return made


def write(path, base, tensors):
    path.mkdir()
    (path / "config.json").write_text((base / "config.json").read_text())
    save_file(tensors, path / "model.safetensors")
    return path


def test_a_table_tells_decay_and_how_evenly_rows_moved():
    one = drawn(200, 32)
    two = 0.9 * one
    two[:50] += 0.1 * drawn(50, 32, seed=1)
    found = table_of(one, two)
    assert found is not None
    assert (found.untouched, found.touched) == (150, 50)
    assert found.factor == pytest.approx(0.9, rel=1e-6)
    assert found.evenness > 0.6
    two[50:75] += 0.005 * drawn(25, 32, seed=2)  # what another training touched, little
    uneven = table_of(one, two)
    assert uneven is not None
    assert uneven.touched == 75
    assert uneven.evenness < 0.1
    assert table_of(one, one) is None
    assert table_of(one, one + 0.1 * drawn(200, 32, seed=3)) is None
    assert table_of(one[: LEAST + 2], two[: LEAST + 2]) is None
    zeros = one.clone()
    zeros[60:] = 0  # dead in both: neither touched nor left alone
    assert table_of(zeros, torch.where(zeros == 0, 0, two)) is None


def test_a_base_and_its_tune_are_told(saved, tmp_path):
    base = saved("llama")
    tensors = load_file(base / "model.safetensors")
    for decay in (0.0, 0.05):
        tune = write(tmp_path / f"tune{decay}", base, tuned(tensors, 1, range(100), decay=decay))
        down, up = compare(base, tune, layers=0), compare(tune, base, layers=0)
        assert (down.direction, up.direction) == ("A first", "B first")
        assert down.parting is not None
        assert down.parting.low < 0 < down.parting.high
        assert down.parting.table.factor == pytest.approx(1 - decay, rel=1e-5)
        assert document(down)["parting"]["first"] == "A first"


def test_two_tunes_of_one_base_are_not(saved, tmp_path):
    """Alike ones, and ones of which the first was tuned little: it has rows of its own that moved little."""
    base = saved("llama")
    tensors = load_file(base / "model.safetensors")
    two = write(tmp_path / "two", base, tuned(tensors, 2, range(50, 150)))
    for name, share in (("alike", 0.3), ("little", 0.02)):
        one = write(tmp_path / name, base, tuned(tensors, 1, range(100), share=share))
        for pair in ((one, two), (two, one)):
            found = compare(*pair, layers=0)
            assert found.decision == "related"
            assert found.parting is not None
            assert found.direction == "undetermined"


def changes(*points, size=0.1):
    """Changes of tensors with these branch points: B = A - point * D + noise, of this size beside A."""
    made = []
    for place, point in enumerate(points):
        one = drawn(64, 64, seed=place).double()
        away = drawn(64, 64, seed=100 + place).double()
        away -= (away * one).sum() / one.square().sum() * one
        length = size * one.norm()
        along = -point * size**2  # <B - A, A> / |A|^2
        rest = (length**2 - (along * one.norm()) ** 2) ** 0.5
        made.append(describe(f"layer {place} up", [(one, one + along * one + rest * away / away.norm())], matrix=True))
    return made


@pytest.mark.parametrize(
    ("points", "table", "first"),
    [
        ((0.0, 0.1, -0.1, 0.05), CALM, "A first"),
        ((1.0, 0.9, 1.1, 0.95), CALM, "B first"),
        ((0.5, 0.4, 0.6, 0.45), CALM, "undetermined"),
        ((0.0, 0.9, -0.1, 0.05), CALM, "undetermined"),  # tensors disagree
        ((0.0, 0.1), CALM, "undetermined"),
        ((0.0, 0.1, -0.1, 0.05), replace(CALM, evenness=0.4), "undetermined"),
    ],
)
def test_an_interval_over_tensors_decides(points, table, first):
    found = parting(changes(*points), [table])
    assert (found.first if found else "undetermined") == first
    if found:
        for side, point in ((found.low, min(points)), (found.high, max(points))):
            assert side == pytest.approx(point, abs=1.5)
        assert found.low < sum(points) / len(points) < found.high


def test_the_interval_is_students_over_tensors():
    made = changes(0.0, 0.1, -0.1, 0.05)
    found = parting(made, [CALM])
    points = [each.branch for each in made]
    assert found is not None
    assert (found.low, found.high) == pytest.approx(
        stats.t.interval(0.95, len(points) - 1, statistics.mean(points), stats.sem(points))
    )


def test_one_table_of_tokens_speaks_and_no_other_matrix_does(saved, tmp_path):
    """Half of the rows of the embedding were touched, and half of a layer's units."""
    tensors = load_file(saved("llama") / "model.safetensors")
    made = dict(tensors)
    for name in ("model.embed_tokens.weight", "model.layers.0.mlp.gate_proj.weight"):
        change = 0.01 * drawn(*tensors[name].shape)
        change[::2] = 0
        made[name] = tensors[name] + change
        assert table_of(tensors[name], made[name]) is not None
    copy = write(tmp_path / "b", saved("llama"), made)
    one, two = (Weights(open_checkpoint(each)) for each in (saved("llama"), copy))
    assert tables(one, two) == [table_of(*(each["model.embed_tokens.weight"] for each in (tensors, made)))]


def test_decay_is_taken_out_and_must_not_disagree():
    """A net and its tune, decayed by a hundredth: without that the branch point would be near 1."""
    made = [
        describe(f"layer {place} up", [(one, 0.99 * one + 0.1 * drawn(64, 64, seed=50 + place))], matrix=True)
        for place in range(6)
        for one in [drawn(64, 64, seed=place)]
    ]
    assert sum(each.branch for each in made if each.branch) / 6 > 0.7
    found = parting(made, [replace(CALM, factor=0.99, evenness=0.4)])  # less even is enough where decay agrees
    assert found is not None
    assert found.first == "A first"
    still = [replace(each, branch=0.0) for each in made]
    disagree = parting(still, [replace(CALM, factor=1.0001)])
    assert disagree is not None
    assert disagree.first == "undetermined"
    assert parting(made, [CALM, replace(CALM, factor=0.99)]) is None
    assert parting(made, []) is None


def test_the_error_that_is_told_is_the_one_that_was_measured():
    results = Path(__file__).parents[2] / "benchmarks" / "results" / "lineage-direction.json"
    measured = json.loads(results.read_text())["measured"]["wrong among told"]
    assert (STUDIED.wrong, STUDIED.told) == (measured["count"], measured["of"])
    assert list(STUDIED.interval) == measured["interval"]


@pytest.mark.parametrize("factor", [1.0, 0.9])
def test_a_tensor_parts_where_its_way_is_nearest_to_nothing(factor):
    """From kA to B, as a share of the way: <kA - B, kA> / |kA - B|^2."""
    a = drawn(8, 8).double()
    b = 0.9 * a + 0.3 * drawn(8, 8, seed=1).double()
    way = factor * a - b
    expected = float((way * factor * a).sum() / way.square().sum())
    assert _point(describe("layer 0 up", [(a, b)], matrix=True), factor) == pytest.approx(expected, rel=1e-5)
