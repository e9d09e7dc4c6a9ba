"""Size under the null, power against copies, and what each test does not see."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import kstest

from whorl.errors import UsageError
from whorl.weights.independence import (
    Fixed,
    Matches,
    Signs,
    _correlation,
    constrained,
    fixed_points,
    match_units,
    matches,
    sign_flips,
)

UNITS, AXES, TRIALS = 24, 16, 400


def draw(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def orbit(seed, gate, up):
    """Another member of the orbit: units permuted, signs of the ungated branch flipped."""
    chance = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(up), generator=chance)
    signs = torch.randint(2, (len(up), 1), generator=chance) * 2.0 - 1
    return gate[order], (up * signs)[order]


def related(seed):
    """Two nets that look alike (the worst case), of which one is then drawn from its orbit."""
    gate, up = draw(seed, UNITS, AXES), draw(seed + 1, UNITS, AXES)
    other = gate + 0.5 * draw(seed + 2, UNITS, AXES), up + 0.5 * draw(seed + 3, UNITS, AXES)
    return (gate, up), orbit(seed, *other)


def matched(ours, theirs):
    """The test of two matchings, by both parts."""
    second = match_units(ours[1], theirs[1], signed=False)
    return matches(match_units(ours[0], theirs[0]), second, ours[0].norm(dim=1) * ours[1].norm(dim=1))


def each_of(ours, theirs, chance):
    yield "signs by gate", sign_flips(ours[1], theirs[1], match_units(ours[0], theirs[0]))
    yield "signs alone", sign_flips(ours[1], theirs[1])
    yield "fixed points", fixed_points(ours[0], theirs[0])
    yield "some rows", fixed_points(ours[0][3:9], theirs[0], places=torch.arange(3, 9))
    yield "constrained", constrained(ours[0], theirs[0], generator=chance, draws=99)


def test_exact_tests_keep_their_size_on_the_orbit_of_a_near_copy():
    """B is A with noise before its orbit is drawn: everything but the symmetry says copy, and the null holds."""
    chance = torch.Generator().manual_seed(0)
    found: dict[str, list[float]] = {}
    for trial in range(TRIALS):
        ours, theirs = related(10 * trial)
        for name, test in each_of(ours, theirs, chance):
            found.setdefault(name, []).append(math.exp(test.log_p))
    for name, values in found.items():
        for level in (0.01, 0.05, 0.2):
            allowed = level + 3 * math.sqrt(level * (1 - level) / TRIALS)  # three standard errors of the simulation
            assert np.mean(np.array(values) <= level + 1e-12) <= allowed, (name, level)
    assert kstest(found["constrained"], "uniform").pvalue > 0.001, "continuous enough to be uniform, not only valid"


DEGENERATE = {
    "half of one net's rows zero": lambda ours, theirs: (ours * (torch.arange(UNITS) < UNITS // 2)[:, None], theirs),
    "half of both nets' rows zero": lambda ours, theirs: tuple(
        each * (torch.arange(UNITS) < UNITS // 2)[:, None] for each in (ours, theirs)
    ),
    "equal rows": lambda ours, theirs: (ours[torch.arange(UNITS) // 4 * 4], theirs[torch.arange(UNITS) // 3 * 3]),
    "rows of one number": lambda ours, theirs: (ours[:, :1], theirs[:, :1]),
    "zero layers": lambda ours, theirs: (0 * ours, 0 * theirs),
}


@pytest.mark.parametrize("kind", DEGENERATE)
def test_units_that_are_equally_near_are_no_evidence(kind):
    """What no unit is told from another by may not be found in its place, as an assignment without draws would."""
    chance = torch.Generator().manual_seed(0)
    found: dict[str, list[float]] = {}
    trials = 150
    for trial in range(trials):
        gates = DEGENERATE[kind](draw(10 * trial, UNITS, AXES), draw(10 * trial + 1, UNITS, AXES))
        ups = DEGENERATE[kind](draw(10 * trial + 2, UNITS, AXES), draw(10 * trial + 3, UNITS, AXES))
        order = [torch.randperm(UNITS, generator=chance) for _ in "ab"]
        ours, theirs = ((gates[net][order[net]], ups[net][order[net]]) for net in (0, 1))
        for name, test in each_of(ours, theirs, chance):
            found.setdefault(name, []).append(math.exp(test.log_p))
        one = match_units(ours[0], theirs[0], generator=chance)
        other = match_units(ours[1], theirs[1], signed=False, generator=chance)
        found.setdefault("two matchings", []).append(math.exp(matches(one, other, ours[0].norm(dim=1)).log_p))
    for name, values in found.items():
        assert np.mean(np.array(values) <= 0.05) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / trials), name


def test_a_noisy_copy_is_found_by_each():
    gate, up = draw(1, 200, 64), draw(2, 200, 64)
    copy = gate + 0.5 * draw(3, 200, 64), up + 0.5 * draw(4, 200, 64)
    chance = torch.Generator().manual_seed(0)
    for name, test in each_of((gate, up), copy, chance):
        assert test.log_p <= (math.log(0.0101) if name in ("constrained", "some rows") else math.log(1e-6)), name
    assert matched((gate, up), copy).log_p < math.log(1e-6)


def test_what_evades_what():
    """Permuted units leave the signs, flipped signs leave the places; both leave the matches."""
    gate, up = draw(1, 200, 64), draw(2, 200, 64)
    order = torch.randperm(200, generator=torch.Generator().manual_seed(3))
    signs = torch.randint(2, (200, 1), generator=torch.Generator().manual_seed(4)) * 2.0 - 1
    permuted, flipped = (gate[order], up[order]), (gate, up * signs)
    both = (gate[order], (up * signs)[order])
    assert sign_flips(up, permuted[1], match_units(gate, permuted[0])) == Signs(200, 200)
    assert fixed_points(gate, permuted[0]).log_p > math.log(0.01)
    assert sign_flips(up, flipped[1], match_units(gate, flipped[0])).log_p > math.log(0.01)
    assert fixed_points(up.abs(), flipped[1].abs()) == Fixed(200, 200, 200)
    assert matched((gate, up), both).agreements == 200
    assert matched((gate, up), both).log_p < -300


def test_units_of_nets_of_other_widths_are_matched():
    gate, up = draw(1, 200, 64), draw(2, 200, 64)
    kept = torch.randperm(200, generator=torch.Generator().manual_seed(3))[:120]
    assert sign_flips(up, up[kept], match_units(gate, gate[kept])) == Signs(120, 120)
    assert matched((gate, up), (gate[kept], up[kept])).agreements == 120
    with pytest.raises(UsageError, match="swap"):
        fixed_points(gate, gate[:50])
    with pytest.raises(UsageError, match="identity"):
        constrained(gate, gate[:50], generator=torch.Generator())


def test_hubs_raise_what_is_expected_and_no_alarm():
    """Half of A's units point one way, and one unit of B does: the nearest of them all, in both parts."""
    alarms, plain = 0, 0
    for trial in range(100):
        common = draw(5, 1, AXES)
        share = (torch.arange(100) < 50).float()[:, None] * 2
        hub = (torch.arange(100) == 7).float()[:, None] * 20
        ours = tuple(draw(10 * trial + k, 100, AXES) + share * common for k in (0, 1))
        theirs = tuple(draw(10 * trial + k, 100, AXES) + hub * common for k in (2, 3))
        found = matched(ours, theirs)
        alarms += found.log_p < math.log(0.05)
        plain += Matches(found.agreements, found.rows, 1.0).log_p < math.log(0.05)
    assert alarms <= 5 + 3 * math.sqrt(5 * 0.95)
    assert plain == 100, "without the correction every one would"


def test_matching_goes_by_blocks_and_its_mutual_part_is_injective(monkeypatch):
    ours, theirs = draw(1, 50, 8), draw(2, 30, 8)
    whole = match_units(ours, theirs)
    monkeypatch.setattr("whorl.weights.independence.CHUNK", 7)
    blocks = match_units(ours, theirs)
    assert torch.equal(blocks.nearest, whole.nearest)
    assert torch.equal(blocks.mutual, whole.mutual)
    cosine = torch.nn.functional.cosine_similarity(ours[:, None], theirs[None], dim=2)
    assert torch.equal(whole.nearest, cosine.argmax(1))
    assert whole.mutual.tolist() == [int(cosine[:, j].argmax()) == i for i, j in enumerate(cosine.argmax(1))]
    assert len(set(whole.nearest[whole.mutual].tolist())) == int(whole.mutual.sum())


def test_dead_units_have_no_sign():
    up = torch.cat([draw(1, 5, 4), torch.zeros(3, 4)])
    assert sign_flips(up, up, match_units(draw(2, 8, 4), draw(2, 8, 4))) == Signs(5, 5)


def test_two_ranks_agree_or_do_not():
    assert [_correlation(squares, 2) for squares in (0.0, 2.0)] == [1.0, -1.0]
    assert _correlation(0.0, 1) == 1.0
