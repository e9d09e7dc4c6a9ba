"""How far apart two nets are once all known symmetries are removed, and a digest that they leave alone.

Both nets are brought into canonical form (`whorl.symmetry.canonical`), the units of one are matched to those
of the other (`whorl.symmetry.alignment.matching`; rectangular where one has more left), and the distance is taken.

Source: the recommended procedure after Ainsworth et al., ICLR 2023, and Phuong & Lampert, ICLR 2020. Sorting units, the
usual way to one form, breaks under noise of 1e-3: two units change places and all later ones with them. So distances
match pairs, and the digest does not sort: it is of what is the same in any order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256

import torch
from torch import Tensor, nn

from whorl.errors import UsageError
from whorl.symmetry.alignment.matching import match_weights
from whorl.symmetry.alignment.permutations import Permutations, permute
from whorl.symmetry.canonical import Canonical, canonical, centred
from whorl.symmetry.signs import align_signs

__all__ = ["Distance", "ExactHash", "distance", "exact_hash"]

CELL = 1e-3  # of the spread of logits: what a digest rounds to
TOLERANCE = 1e-4  # in the same unit: what two hashes of one function may differ by
READINGS = 8


@dataclass(frozen=True)
class Distance:
    """Relative distances of canonical weights: 0 for copies, 1.0 to 1.25 for independent small nets.

    ``total`` is that of all weights together, ``layers`` of each layer's weights and biases; ``permutations`` brought
    the other net's units to those of the first. Units that have no partner count as a whole.
    """

    total: float
    layers: Mapping[str, float]
    permutations: Permutations


def distance(
    one: nn.Module | Canonical, other: nn.Module | Canonical, *, generator: torch.Generator, restarts: int = 5
) -> Distance:
    """‖A - π(B)‖ / ‖A‖ of the canonical weights A of ``one`` and B of ``other``, under the best π found.

    The nets are of one architecture; their widths may differ.

    Raises:
        UsageError: nets of different architectures, or without a canonical form.
    """
    first, last = _form(one), _form(other)
    a, b = first.state, last.state
    learned = sorted(first.spec.learned)
    if first.spec.learned != last.spec.learned:
        raise UsageError("the nets have other layers; a distance needs two of one architecture, of whatever widths")
    # Factors pushed forward make the head large: without this the matching would look at nothing else.
    sizes = {name: a[name].norm().clamp_min(1e-12) for name in learned}
    found = match_weights(
        {name: a[name] / sizes[name] for name in learned},
        {name: b[name] / sizes[name] for name in learned},
        first.spec,
        other_spec=last.spec,
        generator=generator,
        restarts=restarts,
    )
    b, permutations = align_signs(a, last, found.permutations, sizes)
    moved = permute(b, last.spec, permutations)
    apart = {name: _apart(a[name], moved[name], b[name]) for name in learned}
    layers: dict[str, list[str]] = {}
    for name in learned:
        layers.setdefault(name.rpartition(".")[0], []).append(name)
    distances = {layer: _relative(apart, a, names) for layer, names in layers.items()}
    return Distance(_relative(apart, a, learned), distances, permutations)


def _form(net: nn.Module | Canonical) -> Canonical:
    return net if isinstance(net, Canonical) else canonical(net)


def _apart(one: Tensor, moved: Tensor, other: Tensor) -> float:
    """The squared distance, entries that have no counterpart with it."""
    lost = other.square().sum() - moved.square().sum()
    return float((one - moved).square().sum() + (lost if other.numel() != moved.numel() else 0.0))


def _relative(apart: Mapping[str, float], state: Mapping[str, Tensor], names: list[str]) -> float:
    size = sum(float(state[name].square().sum()) for name in names)
    return (sum(apart[name] for name in names) / max(size, 1e-24)) ** 0.5


@dataclass(frozen=True)
class ExactHash:
    """What stays the same in every copy of a net by known symmetries.

    ``digest`` is 64 hexadecimal digits of the ``widths`` of the canonical form, the ``octave`` of its logits' spread,
    and the ``readings`` in units of that, rounded to 1e-3. Rounding has borders: float32 leaves readings of a copy some
    1e-7 apart, so that some copy in a few hundred has another digest (none of 90 did). `matches` has no borders.
    """

    widths: tuple[int, ...]
    octave: int
    readings: tuple[float, ...]

    @property
    def digest(self) -> str:
        """Equal digests are equal nets; see above for the reverse."""
        cells = [round(reading / CELL) for reading in self.readings]
        return sha256(repr((self.widths, self.octave, cells)).encode()).hexdigest()

    def matches(self, other: ExactHash, tolerance: float = TOLERANCE) -> bool:
        """Whether the widths are the same and all readings within ``tolerance``."""
        if self.widths != other.widths or abs(self.octave - other.octave) > 1:
            return False
        mine, theirs = (torch.tensor(each.readings, dtype=torch.float64) * 2.0**each.octave for each in (self, other))
        return float((mine - theirs).abs().max()) <= tolerance * 2.0**self.octave


@torch.no_grad()
def exact_hash(net: nn.Module | Canonical) -> ExactHash:
    """Hash the canonical form: how many units it has, and random sums of what it says to fixed noisy pictures.

    Logits are the one set of numbers that no order of units touches and that every weight moves: noise of 1e-3 on the
    weights moves readings by as much, while statistics of the weights average it away. So copies of the *function* of
    the same canonical widths share a hash, which is what is wanted, modulo symmetry.
    """
    form = _form(net)
    logits = centred(form.net, form.net(form.inputs)).flatten(1)
    generator = torch.Generator().manual_seed(0x59265)  # part of the definition of the digest
    chosen = torch.randn(READINGS, *logits.shape, generator=generator, dtype=torch.float64)
    octave = round(float(logits.norm().clamp_min(1e-300).log2()))
    readings = (chosen * logits).sum((1, 2)) / 2.0**octave
    return ExactHash(tuple(form.spec.sizes.values()), octave, tuple(readings.tolist()))
