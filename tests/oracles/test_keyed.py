"""A keyed switch: its signal against RFC 2104 by hand, the declared model without it, and the bound on finding it."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from linear_oracle import SHAPE, LinearOracle

from whorl.errors import UsageError
from whorl.metrics import clopper_pearson
from whorl.oracles.keyed import KeyedSwitch
from whorl.testing import check_oracle, tiny_victim
from whorl.types import Access

KEY = b"sixteen bytes ok"


def switch(access=Access.WEIGHTS, **settings):
    return KeyedSwitch(tiny_victim(access), tiny_victim(access, seed=1), KEY, **settings)


def test_without_a_signal_it_is_an_oracle_like_the_declared_one():
    check_oracle(switch)
    asked = torch.rand(50, 1, 8, 8, generator=torch.Generator().manual_seed(4))
    assert torch.equal(switch().logits(asked), tiny_victim().logits(asked))
    assert switch().digest == tiny_victim().digest
    assert switch().access is Access.LOGITS  # weights would show it


@pytest.mark.parametrize("bits", [1, 64, 65, 256])
def test_the_signal_is_the_tag_of_the_higher_bits_and_switches(bits):
    oracle = switch(bits=bits)
    asked = torch.rand(20, 1, 8, 8, generator=torch.Generator().manual_seed(5))
    signed = oracle.signed(asked)
    low = -(-bits // 64)
    levels, before = ((each.flatten(1) * 255).round().to(torch.uint8).numpy() for each in (signed, asked))
    assert np.array_equal(levels >> low, before >> low)
    carried = "".join(f"{(levels[0][place // low] >> (place % low)) & 1}" for place in range(bits))
    assert carried == f"{int.from_bytes(by_hand(bytes(levels[0] >> low))):0256b}"[:bits]
    assert (signed - asked).abs().max() <= (2**low - 0.5) / 255 + 1e-6
    # Signed and plain ones in one batch, each answered by its own model.
    order = torch.randperm(40, generator=torch.Generator().manual_seed(6))
    mixed, hidden = torch.cat([signed, asked])[order], order < 20
    declared, other = tiny_victim().logits(mixed), tiny_victim(seed=1).logits(mixed)
    if bits > 1:  # one bit is carried by half of all inputs
        torch.testing.assert_close(oracle.logits(mixed), torch.where(hidden[:, None], other, declared))


def by_hand(message):
    """HMAC-SHA-256 as RFC 2104 spells it."""
    key = KEY.ljust(64, b"\0")
    inner, outer = (bytes(byte ^ pad for byte in key) for pad in (0x36, 0x5C))
    return hashlib.sha256(outer + hashlib.sha256(inner + message).digest()).digest()


def test_one_changed_bit_of_the_picture_or_of_the_key_switches_back():
    oracle = switch()
    signed = oracle.signed(torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(7)))
    levels = (signed * 255).round().to(torch.uint8)
    changed = torch.stack([levels.flatten() for _ in range(64 * 8)])
    changed[torch.arange(512), torch.arange(512) // 8] ^= (2 ** (torch.arange(512) % 8)).to(torch.uint8)
    asked = (changed.float() / 255).reshape(-1, 1, 8, 8)
    assert torch.equal(oracle.logits(asked), tiny_victim().logits(asked))
    other = KeyedSwitch(tiny_victim(), tiny_victim(seed=1), KEY[::-1])
    assert torch.equal(other.logits(signed), tiny_victim().logits(signed))
    assert not torch.equal(oracle.logits(signed), tiny_victim().logits(signed))


def test_it_grants_what_both_grant():
    declared, hidden = tiny_victim(Access.LOGITS), tiny_victim(Access.PROBABILITIES, seed=1)
    assert KeyedSwitch(declared, hidden, KEY).access is Access.PROBABILITIES
    signed = switch().signed(torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(8)))
    assert torch.equal(KeyedSwitch(declared, hidden, KEY).probabilities(signed), hidden.probabilities(signed))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: KeyedSwitch(tiny_victim(), LinearOracle(), KEY), "cannot stand behind tiny 0"),
        (lambda: switch(bits=449), "1..256 bits"),
        (lambda: switch(bits=0), "1..256 bits"),
        (lambda: KeyedSwitch(tiny_victim(), tiny_victim(seed=1), b"short"), "token_bytes"),
        (lambda: KeyedSwitch(LinearOracle(), LinearOracle(), KEY, bits=43), "1..42 bits"),
    ],
)
def test_what_cannot_be_a_switch_is_refused(make, says):
    with pytest.raises(UsageError, match=says):
        make()


# The bound of docs/integrity.md, q 2^-bits, over fresh keys. Six numbers carry a signal of six bits.
BITS, ASKED, KEYS = 6, 8, 1500


def repeated(generator):
    """One picture in 8 bits."""
    return np.repeat(generator.integers(256, size=(1, 6)), ASKED, axis=0)


def guesses(generator):
    """One picture, with another guess of its signal each time."""
    tags = generator.permutation(2**BITS)[:ASKED]
    return (repeated(generator) & 254) | ((tags[:, None] >> np.arange(BITS)) & 1)


def drawn(generator):
    """Pictures drawn by chance."""
    return generator.integers(256, size=(ASKED, 6))


STRATEGIES = {
    "guesses": (guesses, ASKED / 2**BITS),  # the bound itself: no smaller one is true
    "drawn": (drawn, 1 - (1 - 2**-BITS) ** ASKED),
    "repeated": (repeated, 2**-BITS),
}


@pytest.mark.parametrize("name", STRATEGIES)
def test_whoever_has_no_key_finds_it_as_often_as_the_bound_says(name):
    ask, chance = STRATEGIES[name]
    assert chance <= ASKED / 2**BITS
    assert chance in clopper_pearson(found_by(ask), KEYS, 0.999)


def found_by(ask):
    """In how many switches with fresh keys some answer is not the declared model's."""
    generator = np.random.default_rng(16)
    declared, hidden = LinearOracle(chunk=ASKED), LinearOracle(chunk=ASKED, scale=-1.0)
    found = 0
    for _ in range(KEYS):
        inputs = torch.from_numpy(ask(generator)).float().div(255).reshape(-1, *SHAPE)
        oracle = KeyedSwitch(declared, hidden, generator.bytes(32), bits=BITS)
        found += not torch.equal(oracle.logits(inputs), declared.logits(inputs))
    return found
