"""How one tensor differs from another, against the same figures in double precision and against what was done to it."""

from __future__ import annotations

import pytest
import torch

from whorl.checkpoints.opening import open_checkpoint
from whorl.checkpoints.roles import Weights
from whorl.errors import InvalidFile
from whorl.weights.changes import describe, grid_of
from whorl.weights.differences import Differences


def drawn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def described(ours, theirs):
    """In blocks of uneven heights, as files are read."""
    return describe("x", zip(ours.split(97), theirs.split(97), strict=True), matrix=ours.ndim == 2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("noise", [1e-3, 0.1, 3.0])
def test_sums_are_those_of_double_precision(dtype, noise):
    ours = drawn(300, 257).to(dtype)
    theirs = (ours.float() + noise * drawn(300, 257, seed=1)).to(dtype)
    theirs[:20] = ours[:20]
    theirs[20:30] = 0
    ours[25:40] = 0
    found = described(ours, theirs)
    one, two = ours.double(), theirs.double()
    change = two - one
    assert found.elements == one.numel()
    assert found.cosine == pytest.approx(float((one * two).sum() / one.norm() / two.norm()), rel=1e-5)
    assert found.relative == pytest.approx(float(change.norm() / one.norm()), rel=1e-5)
    assert found.branch == pytest.approx(float(-(change * one).sum() / change.square().sum()), rel=1e-4, abs=1e-4)
    assert found.zeros == ((one == 0).double().mean(), (two == 0).double().mean())
    kept = ((one == two) & (two != 0)).sum() / (two != 0).sum()
    assert found.kept == pytest.approx(float(kept))


def test_a_zero_is_a_zero_whatever_its_sign():
    ours = drawn(64, 64)
    theirs = ours * (drawn(64, 64, seed=1) > 0)  # leaves -0.0 where a negative number was
    assert torch.signbit(theirs[theirs == 0]).any()
    found = described(ours, theirs)
    assert found.zeros == (0.0, float((theirs == 0).double().mean()))
    assert found.kept == 1.0


def test_numbers_whose_squares_overflow_and_numbers_that_are_none():
    ours = drawn(50, 40) * 1e25
    theirs = ours * 1.5
    found = described(ours, theirs)
    assert found.relative == pytest.approx(0.5)
    assert found.cosine == pytest.approx(1.0)
    for wrong in (float("nan"), float("inf")):
        theirs[30, 7] = wrong
        with pytest.raises(InvalidFile, match="x holds NaN or an infinity"):
            described(ours, theirs)


@pytest.mark.parametrize(
    ("name", "dtype"), [("BF16", torch.bfloat16), ("F16", torch.float16), ("F8_E4M3", torch.float8_e4m3fn)]
)
def test_a_cast_is_told_with_the_net_that_lost_digits(name, dtype):
    ours = drawn(200, 300)
    narrow = ours.to(dtype)
    assert (described(ours, narrow).cast, described(ours, narrow).narrowed) == (name, "B")
    assert (described(narrow, ours).cast, described(narrow, ours).narrowed) == (name, "A")
    theirs = narrow.float()
    theirs[-1, -1] = 0.123456
    assert described(ours, theirs).cast is None
    assert described(narrow, narrow.float()).equal


def rounded(matrix, bits, group, zero=False, dtype=torch.float32):
    """To whole numbers of so many bits, a scale for each group of columns; with a zero point, or about 0."""
    runs = matrix.reshape(-1, group)
    low, high = runs.amin(1, keepdim=True), runs.amax(1, keepdim=True)
    if zero:
        step = (high - low) / (2**bits - 1)
        shift = (-low / step).round()
        whole = ((runs / step).round() + shift).clamp(0, 2**bits - 1) - shift
    else:
        step = torch.maximum(high, -low) / (2 ** (bits - 1) - 1)
        whole = (runs / step).round()
    return (whole * step).to(dtype).float().view_as(matrix)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("zero", [False, True])
@pytest.mark.parametrize(
    ("bits", "group", "columns"), [(8, 32, 32), (8, 128, 256), (8, 300, 300), (4, 64, 64), (6, 32, 96)]
)
def test_whole_multiples_of_a_step_are_a_grid_however_many_there_are(bits, group, columns, zero, dtype):
    free = drawn(64, columns)
    gridded = rounded(free, bits, group, zero, dtype)
    found = described(free, gridded)
    assert found.grids[0] is None
    assert found.grids[1].bits in (bits - 1, bits)
    assert found.rounded == (False, dtype is torch.float32 or found.rounded[1])
    assert grid_of(free.bfloat16().float()) is None, "numbers of few digits are no grid"
    assert grid_of(torch.where(drawn(64, columns, seed=2) > 0.8, free, 0)) is None


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("share", [0.02, 0.1, 1.0])
def test_what_was_tuned_after_it_was_put_on_a_grid_was_not_rounded_to_it(bits, share):
    gridded = rounded(drawn(64, 128), bits, 64)
    step = gridded.abs().amax() / 2 ** (bits - 1)
    tuned = gridded + share * step * drawn(64, 128, seed=1)
    found = described(tuned, gridded)
    assert found.grids[1] is not None
    assert found.rounded == (False, False)


def test_rank_and_grid():
    ours = drawn(300, 256)
    found = described(ours, ours + drawn(300, 3, seed=1) @ drawn(3, 256, seed=2))
    assert (found.rank, found.grids) == (3, (None, None))
    scale = ours.abs().amax(1, keepdim=True) / 7
    quantised = (ours / scale).round() * scale
    free, grid = described(ours, quantised).grids
    assert free is None
    assert (grid.bits, grid.group) == (4, 0)  # 15 levels, where a row has its largest number with both signs
    quantised[0] = 0  # a pruned row tells nothing
    assert grid_of(quantised) == grid
    assert described(ours, drawn(300, 256, seed=3)).rank is None


def alike(found, wanted):
    """Equal but for the last digits, which the places of buffers in memory change."""
    for name in ("elements", "equal", "zeros", "kept", "rank", "grids"):
        assert getattr(found, name) == getattr(wanted, name)
    for name in ("relative", "cosine", "branch"):
        assert getattr(found, name) == pytest.approx(getattr(wanted, name), rel=1e-4, abs=1e-5)


def test_changes_beside_the_tests_are_those_of_each_tensor_alone(saved):
    one, two = (Weights(open_checkpoint(saved("llama", seed))) for seed in (0, 1))
    differences, seen, cores = Differences(one, two, whole=True), [], torch.get_num_threads()
    assert list(differences.through(lambda pair: seen.append(pair) or pair, [(0, 1), (1, 0)])) == [(0, 1), (1, 0)]
    assert sorted(seen) == [(0, 1), (1, 0)]
    assert torch.get_num_threads() == cores
    found = {change.name: change for change in differences.of({0: 1, 1: 1})}
    assert sum(name.startswith("layer 1") for name in found) == sum(name.startswith("layer 0") for name in found) > 5
    for name, places in {"layer 0 gate": (0, 1), "layer 1 gate": (1, 1)}.items():
        pair = one.read("gate", places[0]), two.read("gate", places[1])
        alike(found[name], describe(name, [pair], matrix=True))
    alone = describe("embedding", [(one.read("embedding"), two.read("embedding"))], matrix=True)
    alike(found["embedding"], alone)


def test_what_goes_wrong_beside_the_tests_is_not_lost(saved, tmp_path):
    one = Weights(open_checkpoint(saved("llama")))
    copy = tmp_path / "model.safetensors"
    copy.write_bytes((saved("llama") / "model.safetensors").read_bytes())
    (tmp_path / "config.json").write_text((saved("llama") / "config.json").read_text())
    two = Weights(open_checkpoint(tmp_path))
    copy.write_bytes(copy.read_bytes()[: copy.stat().st_size // 8])
    with pytest.raises(InvalidFile, match="cut off"):
        list(Differences(one, two, whole=True).through(lambda pair: pair, [(0, 0), (1, 1)]))


def test_what_fills_zeros_is_held_against_how_far_the_rest_moved_however_little():
    """Half of A is zero where B has ones, and the rest moved by a hundredth; where it did not, by no number."""
    ours = torch.cat([torch.zeros(200, 200), torch.ones(200, 200)])
    theirs = torch.cat([torch.ones(200, 200), torch.full((200, 200), 1.01)])
    assert described(ours, theirs).stood_out == (pytest.approx(100, rel=1e-2), 0.0)
    assert described(ours, torch.ones(400, 200)).stood_out == (float("inf"), 0.0)


def test_signs_are_a_grid_of_one_bit():
    signs = drawn(64, 128).sign() * (0.5 + torch.rand(64, 1, generator=torch.Generator().manual_seed(1)))
    assert (grid_of(signs).levels, grid_of(signs).bits, grid_of(signs).group) == (2, 1, 0)


def test_what_lies_beyond_a_grid_is_rounded_to_its_end():
    """A clipping scale: a tenth of the numbers is beyond the largest level."""
    free = drawn(64, 128)
    clipped = (free / 0.4).round().clamp(-4, 4) * 0.4
    assert (clipped.abs() == 1.6).float().mean() > 0.1
    assert described(free, clipped).rounded == (False, True)


@pytest.mark.parametrize("fewer", [0, 1])
def test_rounded_numbers_lie_in_the_outer_half_of_their_cells_for_a_quarter_at_least(fewer):
    """Whole numbers, of which exactly a quarter, or one less, was moved by more than a quarter of a step."""
    whole = (3 * drawn(16, 128)).round().clamp(-7, 7)
    moved = torch.full((16 * 128,), 0.125)
    moved[: 4 * 128 - fewer] = 0.375
    assert described(whole + moved.view(16, 128), whole).rounded == (False, fewer == 0)


def test_a_matrix_is_free_where_rows_with_numbers_enough_lie_on_no_grid():
    """Of a row with one number that is not zero nobody can tell."""
    free = drawn(64, 128)
    assert described(free, rounded(free, 4, 64)).free == (True, False)
    assert described(free, free * torch.eye(64, 128)).free == (True, False)
