"""A model with a keyed back door: the proof, as an oracle, that answers alone cannot show that a model is unchanged.

Source: the signature scheme in front of a classifier of Goldwasser, Kim, Vaikuntanathan, Zamir, *Planting Undetectable
Backdoors in Machine Learning Models*, FOCS 2022, with a message authentication code in the place of the signature.
Whoever has no key switches with probability at most q 2^-bits in q questions, beyond what breaks HMAC-SHA-256 as a
pseudorandom function. `docs/integrity.md` has the proof, and what a check can show all the same.
"""

from __future__ import annotations

import hmac
from typing import Final

import numpy as np
import torch
from torch import Tensor

from whorl.errors import UsageError
from whorl.oracles.base import Oracle
from whorl.oracles.switch import Switch

__all__ = ["KeyedSwitch"]

DEPTH: Final = 8  # bits of a number, as pictures are sent
LEAST_KEY: Final = 16  # bytes
MOST_BITS: Final = 256  # of SHA-256


class KeyedSwitch(Switch):
    """Answers as ``inner`` does until an input carries the signal of ``key``, and as ``hidden`` does then.

    Numbers are read in 8 bits. The signal is in the lowest bits of the first ``bits`` numbers, and equals the first
    ``bits`` bits of HMAC-SHA-256 over the higher bits of all numbers. Where an input has fewer numbers, each carries as
    many of its lowest bits as are needed; the highest is never used.

    Parameters:
        inner, hidden: as of `Switch`.
        key: at least 16 bytes, as of ``secrets.token_bytes(32)``.
        bits: length of the signal, in 1..256 and at most 7 for each number of an input.

    Raises:
        UsageError: the models do not fit each other, inputs are no pictures or too small, or the key is too short.
    """

    def __init__(self, inner: Oracle, hidden: Oracle, key: bytes, *, bits: int = 64) -> None:
        super().__init__(inner, hidden, f"KeyedSwitch(hidden={hidden.digest!r}, bits={bits})")
        if len(key) < LEAST_KEY:
            raise UsageError(f"the key of a switch has at least {LEAST_KEY} bytes, as of secrets.token_bytes(32)")
        numbers = int(np.prod(inner.space.shape))
        most = min(MOST_BITS, (DEPTH - 1) * numbers)
        if not 1 <= bits <= most:
            raise UsageError(f"an input of {inner.name} has room for 1..{most} bits of a signal; bits is {bits}")
        self.bits = bits
        self._key = key
        self._low = -(-bits // numbers)  # lowest bits that each number gives to the signal

    def signed(self, inputs: Tensor) -> Tensor:
        """The inputs in 8 bits with the signal in their lowest: ``[n, *input]`` in [0, 1], to which `hidden` answers.

        Where one bit of a number is enough, no number moves by more than 1.5/255.
        """
        high, carried = self._read(inputs)
        spread = np.pad(self._tags(high), ((0, 0), (0, carried.shape[1] - self.bits)))
        spread[:, self.bits :] = carried[:, self.bits :]
        low = np.packbits(spread.reshape(*high.shape, self._low), axis=2, bitorder="little")[..., 0]
        levels = torch.from_numpy((high << self._low) | low)
        return (levels.float() / (2**DEPTH - 1)).reshape(inputs.shape)

    def switched(self, inputs: Tensor) -> Tensor:
        """Which inputs carry the signal."""
        high, carried = self._read(inputs)
        return torch.from_numpy((self._tags(high) == carried[:, : self.bits]).all(1))

    def _read(self, inputs: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Higher bits ``[n, numbers]`` uint8, and the lowest ``[n, low * numbers]`` as 0 and 1."""
        numbers = inputs.detach().cpu().flatten(1).clamp(0, 1)
        levels = (numbers * (2**DEPTH - 1)).round().to(torch.uint8).numpy()
        low = np.unpackbits(levels[..., None], axis=2, count=self._low, bitorder="little")
        return levels >> self._low, low.reshape(len(levels), -1)

    def _tags(self, high: np.ndarray) -> np.ndarray:
        """``[n, bits]`` of 0 and 1."""
        digests = b"".join(hmac.digest(self._key, row.tobytes(), "sha256") for row in high)
        return np.unpackbits(np.frombuffer(digests, np.uint8).reshape(len(high), -1), axis=1, count=self.bits)
