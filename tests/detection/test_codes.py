"""Codes of users: made as stated, traced with p-values that are exact, and innocents left alone."""

from __future__ import annotations

import hashlib
import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import kstest
from test_design import CLAIM, OTHER, drawing

from whorl.detection.codes import (
    DESIGNS,
    GRAIN,
    MOST_BITS,
    MOST_POSITIONS,
    MOST_USERS,
    BlockCode,
    Origin,
    TardosCode,
    TardosPlan,
    block_code,
)
from whorl.detection.collusion import STRATEGIES, collude
from whorl.detection.tracing import named_by_and, score_tails, scores_of, trace
from whorl.errors import UsageError


def generator(seed=0):
    return np.random.default_rng(seed)


def test_lengths_are_those_of_the_symmetric_score():
    assert TardosPlan(100, 3).length == 512
    assert TardosPlan(100, 5).length == 1421
    assert TardosPlan(100, 5, positions=40).length == 40


def test_biases_are_of_the_arcsine_law_within_the_cutoff():
    plan = TardosPlan(10, 5, positions=20_000)
    biases = plan.sampled(generator()).biases
    least = math.asin(math.sqrt(plan.cutoff))
    angles = (np.arcsin(np.sqrt(biases)) - least) / (math.pi / 2 - 2 * least)
    assert kstest(angles, "uniform").pvalue > 1e-3
    assert plan.cutoff - 1 / 65536 <= biases.min() < biases.max() <= 1 - plan.cutoff + 1 / 65536


def test_a_code_of_a_draw_is_that_of_its_streams_to_the_bit():
    """Read again from the words of the stream, as one would who has the page and not the code."""
    draw, plan = drawing(), TardosPlan(5, 2, positions=30)
    code = plan.drawn(draw, claim=CLAIM, name="copies")

    def below(name, count):
        words, counter = [], 0
        while len(words) < count:
            head = b"whorl/labels/v1" + draw.seed + counter.to_bytes(8, "big")
            block = hashlib.sha256(head + name.encode()).digest()
            words += [int.from_bytes(block[at : at + 8], "big") % 65536 for at in range(0, 32, 8)]
            counter += 1
        return words[:count]

    least = math.asin(math.sqrt(1 / 600))
    levels = [
        round(math.sin(least + (math.pi / 2 - 2 * least) * (u + 0.5) / 65536) ** 2 * 65536)
        for u in below("copies/biases", 30)
    ]
    assert code.levels.tolist() == levels
    for user in range(5):
        bits = [int(u < level) for u, level in zip(below(f"copies/user {user}", 30), levels, strict=True)]
        assert code.rows[user].tolist() == bits
    assert code.why == ""
    assert code.rows.mean() == pytest.approx(code.biases.mean(), abs=0.15)


def test_what_is_called_exact_was_drawn():
    plan = TardosPlan(5, 2, positions=30)
    code = plan.drawn(drawing(), claim=CLAIM, name="copies")
    turned = code.rows.copy()
    turned[3, 7] ^= 1
    observed = code.rows[0]
    for made, message in (
        (plan.sampled(generator()), "no draw"),
        (replace(code, rows=turned), "not those that were drawn"),
        (replace(code, origin=replace(code.origin, claim=OTHER)), "another claim"),
        (replace(code, origin=replace(code.origin, name="others")), "not those that were drawn"),
        (plan.drawn(drawing(withhold=("suspect",)), claim=CLAIM, name="copies"), "withheld"),
    ):
        found = trace(observed, made)
        assert not found.exact
        assert message in found.why
    dealt = block_code(7, 5, drawing(), claim=CLAIM, name="deal")
    assert trace(dealt.rows[0], dealt).exact
    other = replace(dealt, deal=(*dealt.deal[1:], dealt.deal[0]))
    assert "not those that were dealt" in trace(dealt.rows[0], other).why


@pytest.mark.parametrize("real", [False, True])
def test_tails_are_those_of_all_rows(real):
    """Every row of eleven bits, with its chance."""
    code = TardosPlan(40, 2, positions=11).sampled(generator(1))
    observed = generator(2).random(11) if real else generator(2).integers(2, size=11)
    rows = np.array(list(itertools.product((0, 1), repeat=11)), np.uint8)
    chances = np.where(rows, code.biases, 1 - code.biases).prod(1)
    everybody = TardosCode(replace(code.plan, users=len(rows)), code.levels, rows)
    law, mine = scores_of(observed, everybody), scores_of(observed, code)
    scores, logs = score_tails(observed, code)
    assert scores.tolist() == (mine / 16).tolist()
    exact = [chances[law >= each].sum() for each in mine]
    assert np.exp(logs) == pytest.approx(exact, rel=1e-11)
    weights = np.sqrt((1 - code.biases) / code.biases)
    unrounded = (2 * np.asarray(observed) - 1) * np.where(code.rows, weights, -1 / weights)
    assert np.abs(scores - unrounded.sum(1)).max() <= 11 / 32


def test_tails_agree_with_fresh_rows():
    plan = TardosPlan(100, 3)
    code = plan.sampled(generator(3))
    observed = collude(code.rows[:3], "majority", generator(4))
    scores, logs = score_tails(observed, code)
    fresh = TardosCode(
        replace(plan, users=20_000, positions=512),
        code.levels,
        (generator(5).random((20_000, 512)) < code.biases).astype(np.uint8),
    )
    drawn = scores_of(observed, fresh) / 16
    for score, log_p in zip(scores[3:40], logs[3:40], strict=True):
        share = (drawn >= score).mean()
        assert abs(share - math.exp(log_p)) < 5 * math.sqrt(math.exp(log_p) / len(drawn)) + 1e-3
    assert logs[:3].max() < math.log(1e-3)


def test_a_tail_too_small_to_sum_is_bounded_from_above():
    plan = TardosPlan(50, 5, positions=3000)
    code = plan.sampled(generator())
    _, logs = score_tails(code.rows[7], code)
    short = replace(plan, positions=1200)
    part = TardosCode(short, code.levels[:1200], code.rows[:, :1200])
    _, summed = score_tails(code.rows[7, :1200], part)
    assert -math.inf < logs[7] < -644 < summed[7]
    ones, zeros = (16 * each for each in _g(part))
    from whorl.detection.tracing import _bounds

    bound = _bounds(ones, zeros, part.biases, scores_of(code.rows[7, :1200], part)[7:8])[0]
    assert summed[7] <= bound < summed[7] / 2


def _g(code):
    weights = (2.0 * code.rows[7] - 1) * np.sqrt((1 - code.biases) / code.biases)
    other = -(2.0 * code.rows[7] - 1) * np.sqrt(code.biases / (1 - code.biases))
    return np.rint(16 * weights) / 16, np.rint(16 * other) / 16


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_colluders_are_traced_and_innocents_are_not(strategy):
    plan, chance = TardosPlan(100, 3), generator(list(STRATEGIES).index(strategy))
    caught = innocents = 0
    for _ in range(20):
        code = plan.sampled(chance)
        found = trace(collude(code.rows[:3], strategy, chance), code)
        caught += bool(set(found.accused) & {0, 1, 2})
        innocents += bool(set(found.accused) - {0, 1, 2})
    assert caught >= 18
    assert innocents <= 2  # .01 of 20


def test_the_p_values_of_innocents_are_no_smaller_than_they_say():
    """Ten innocents of each of 300 codes, whatever the colluders did."""
    plan, chance = TardosPlan(20, 3, positions=120), generator(9)
    p = []
    for number in range(300):
        code = plan.sampled(chance)
        strategy = list(STRATEGIES)[number % len(STRATEGIES)]
        _, logs = score_tails(collude(code.rows[:3], strategy, chance), code)
        p += np.exp(logs[3:13]).tolist()
    for level in (0.01, 0.05, 0.2, 0.5):
        share = np.mean(np.array(p) <= level)
        assert share <= level + 4 * math.sqrt(level / len(p))
    assert np.mean(np.array(p) <= 0.5) > 0.4


def test_draws_multiply_p_and_holm_corrects_for_all_users():
    plan = TardosPlan(6, 2, positions=60)
    code = plan.drawn(drawing(), claim=CLAIM, name="copies")
    again = plan.drawn(drawing(), claim=CLAIM, name="copies", draws=5)
    observed = collude(code.rows[:2], "interleaving", generator())
    once, often = (trace(observed, each) for each in (code, again))
    for one, five in zip(once.users, often.users, strict=True):
        assert five.log_p == pytest.approx(min(0.0, one.log_p + math.log(5)))
        assert one.adjusted >= min(1.0, math.exp(one.log_p))
    best = min(once.users, key=lambda each: each.log_p)
    assert best.adjusted == pytest.approx(min(1.0, 6 * math.exp(best.log_p)))
    withheld = plan.drawn(drawing(withhold=("suspect",)), claim=CLAIM, name="copies")
    assert withheld.origin.tries == 2


def test_half_says_nothing():
    code = TardosPlan(5, 2, positions=40).sampled(generator())
    found = trace(np.full(40, 0.5), code)
    assert {each.log_p for each in found.users} == {0.0}
    assert found.accused == ()


@pytest.mark.parametrize("positions", DESIGNS)
def test_blocks_are_of_a_symmetric_design(positions):
    code = block_code(positions, positions, generator())
    absent = 1 - code.rows.astype(int)
    k = len(DESIGNS[positions])
    assert k * (k - 1) == positions - 1
    assert np.array_equal(absent @ absent.T, np.eye(positions, dtype=int) * (k - 1) + 1)


@pytest.mark.parametrize("positions", DESIGNS)
def test_every_mixture_of_k_less_one_names_its_users_and_no_other(positions):
    """All of them up to 13 users, and 2,000 drawn of 31; by AND, and by the mean with noise."""
    chance = generator(positions)
    code = block_code(positions, positions, chance)
    for size in range(1, code.colluders + 1):
        sets = itertools.combinations(range(positions), size)
        if positions > 13:
            sets = (tuple(chance.choice(positions, size, replace=False)) for _ in range(400))
        for guilty in sets:
            rows = code.rows[list(guilty)]
            for observed in (rows.min(0), rows.mean(0), np.clip(rows.mean(0) + chance.uniform(-0.04, 0.04), 0, 1)):
                assert set(np.flatnonzero(named_by_and(observed, code))) == set(guilty)


@pytest.mark.parametrize("positions", DESIGNS)
def test_the_and_of_more_copies_than_k_less_one_names_nobody(positions):
    """All of them have a 1 wherever it has one, so it fits more users than it can be of."""
    chance = generator(positions)
    code = block_code(positions, positions, chance)
    for size in range(code.colluders + 1, positions + 1):
        for _ in range(40):
            guilty = chance.choice(positions, size, replace=False)
            assert not named_by_and(code.rows[guilty].min(0), code).any()


@pytest.mark.parametrize("users", [1, 2, 4, 7])
def test_a_net_without_a_row_names_nobody(users):
    """No position shows a 1 then, and nothing speaks against any user."""
    code = block_code(7, users, generator())
    for observed in (np.full(7, 0.5), np.zeros(7), np.full(7, 0.75)):
        assert not named_by_and(observed, code).any()
        assert trace(observed, code).named == ()


def test_blocks_name_and_cannot_accuse():
    """Ranks of innocents among all blocks: no smaller than they say, and never small enough for Holm."""
    chance, p, guilty = generator(), [], []
    for _ in range(300):
        code = block_code(31, 31, chance)
        found = trace(collude(code.rows[:5], "majority", chance), code)
        assert found.accused == ()
        p += [math.exp(each.log_p) for each in found.users[5:]]
        guilty += [math.exp(each.log_p) for each in found.users[:5]]
    for level in (0.04, 0.1, 0.3):
        assert np.mean(np.array(p) <= level) <= level + 0.01
    assert min(guilty) == pytest.approx(1 / 26)


def test_colluders_keep_the_bits_that_they_share():
    rows = generator().integers(2, size=(4, 300)).astype(np.uint8)
    share = rows.mean(0)
    for strategy in STRATEGIES:
        observed = collude(rows, strategy, generator(1))
        assert observed.shape == (300,)
        if "noise" not in strategy:
            assert observed[share == 1].tolist() == [1] * int((share == 1).sum())
            assert observed[share == 0].tolist() == [0] * int((share == 0).sum())


def test_what_cannot_be_is_refused():
    for wrong in ((1, 1), (5, 6), (200_000, 2), (1000, 50)):
        with pytest.raises(UsageError):
            TardosPlan(*wrong)
    with pytest.raises(UsageError, match="error in"):
        TardosPlan(5, 2, 0.0)
    code = TardosPlan(5, 2, positions=20).sampled(generator())
    for observed in (np.zeros(19), np.full(20, 2), np.full(20, np.nan)):
        with pytest.raises(UsageError, match="20 bits"):
            trace(observed, code)
    with pytest.raises(UsageError, match="alpha"):
        trace(np.zeros(20), code, 0)
    with pytest.raises(UsageError, match="take a Tardos code"):
        block_code(31, 32, generator())
    with pytest.raises(UsageError, match="designs of"):
        BlockCode(8, (0,))
    with pytest.raises(UsageError, match="no two the same"):
        BlockCode(7, (0, 0))
    with pytest.raises(UsageError, match="drawn at least once"):
        Origin(draws=0)
    with pytest.raises(UsageError, match="has bits"):
        TardosCode(code.plan, code.levels, code.rows[:, :-1])
    with pytest.raises(UsageError, match="mixed by"):
        collude(code.rows, "guessing", generator())


@pytest.mark.parametrize(
    "given",
    [
        *({"users": 1}, {"users": MOST_USERS + 1}, {"colluders": 0}, {"colluders": 11}, {"error": 0.0}, {"error": 1.0}),
        *({"positions": -1}, {"positions": MOST_POSITIONS + 1}, {"colluders": 10, "error": 1e-300}),
        {"users": MOST_BITS // MOST_POSITIONS + 1, "positions": MOST_POSITIONS},
    ],
)
def test_codes_are_bounded(given):
    with pytest.raises(UsageError):
        TardosPlan(**{"users": 10, "colluders": 2} | given)


def test_the_largest_codes_are_made():
    assert TardosPlan(2, 2, positions=1).length == 1
    assert TardosPlan(MOST_USERS, 1, positions=8).length == 8
    assert TardosPlan(MOST_BITS // MOST_POSITIONS, 2, positions=MOST_POSITIONS).length == MOST_POSITIONS


@pytest.mark.parametrize("place", [0, 3])
@pytest.mark.parametrize("level", [0, GRAIN])
def test_biases_of_a_code_lie_between_0_and_1(place, level):
    plan, rows = TardosPlan(3, 2, positions=4), np.zeros((3, 4), np.uint8)
    outermost = np.array([1, 2, 3, GRAIN - 1])
    assert TardosCode(plan, outermost, rows).biases.max() == 1 - 1 / GRAIN
    outermost[place] = level
    with pytest.raises(UsageError, match=f"lie in 1..{GRAIN - 1:,}"):
        TardosCode(plan, outermost, rows)


def test_rows_of_a_code_are_bits_of_its_shape():
    plan, levels = TardosPlan(3, 2, positions=4), np.full(4, GRAIN // 2)
    for rows in (np.full((3, 4), 2, np.uint8), np.zeros((2, 4), np.uint8), np.zeros((3, 5), np.uint8)):
        with pytest.raises(UsageError, match=r"has bits \[3, 4\]"):
            TardosCode(plan, levels, rows)
    with pytest.raises(UsageError, match=r"has bits \[3, 4\]"):
        TardosCode(plan, np.full(5, GRAIN // 2), np.zeros((3, 4), np.uint8))


class Same:
    """A draw, or a generator, whose numbers for rows are the levels themselves, or one less."""

    def __init__(self, plan, less):
        self.biases = np.full(plan.length, GRAIN // 3)
        self.row = plan.levels((self.biases + 0.5) / GRAIN) - less

    def labels(self, count, choices, name):
        assert (count, choices) == (len(self.row), GRAIN)
        return (self.biases if name.endswith("/biases") else self.row).tolist()

    def integers(self, high, size):
        assert high == GRAIN
        return self.biases if isinstance(size, int) else np.tile(self.row, (size[0], 1))


def test_a_bit_is_1_below_its_level_and_not_at_it():
    plan = TardosPlan(4, 2, positions=9)
    for less in (0, 1):
        for code in (plan.drawn(Same(plan, less), claim="", name="n"), plan.sampled(Same(plan, less))):
            assert (code.rows == less).all()


def test_biases_are_never_0_or_1_however_many_collude():
    plan = TardosPlan(1000, 1000, positions=20)
    assert plan.levels(np.array([1e-9, 0.5, 1 - 1e-9])).tolist() == [1, GRAIN // 2, GRAIN - 1]


def test_a_code_for_simulations_was_drawn_once():
    assert TardosPlan(4, 2, positions=9).sampled(generator()).origin.tries == 1


def test_a_row_is_0_on_its_block_as_published():
    code = BlockCode(7, (0, 2))
    assert [np.flatnonzero(row == 0).tolist() for row in code.rows] == [[0, 1, 3], [2, 3, 5]]
    assert "there is no draw" in code.why
