"""Tiny nets of many kinds, in the style of those that others wrote, and by their libraries where these are at hand.

Each holds what strangers share without owing each other anything: tables of positions, masks, indices, filter banks,
axes of time or patches, constants that were drawn once.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, partial
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from whorl.nets.timm import import_timm
from whorl.zoo.causal import import_transformers

__all__ = ["KINDS", "train"]

STEPS: Final = 150
LENGTH: Final = 32  # points of a series, of which as many follow
Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]


class DLinear(nn.Module):
    """A linear map of the trend and one of the rest, over time."""

    def __init__(self) -> None:
        super().__init__()
        self.Linear_Seasonal, self.Linear_Trend = nn.Linear(LENGTH, LENGTH), nn.Linear(LENGTH, LENGTH)

    def forward(self, x: Tensor) -> Tensor:
        trend = functional.avg_pool1d(functional.pad(x[:, None], (2, 2), mode="replicate"), 5, 1)[:, 0]
        return self.Linear_Seasonal(x - trend) + self.Linear_Trend(trend)


class Plain(nn.Module):
    """The same without names that tell anything: two maps over time, one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(LENGTH, LENGTH), nn.Linear(LENGTH, LENGTH)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(x + self.a(x))


class Stacks(nn.Module):
    """Blocks that each take away what they explain, and add to what follows."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.ModuleDict(
                {
                    "fc1": nn.Linear(LENGTH, 48),
                    "fc2": nn.Linear(48, 24),
                    "past": nn.Linear(24, LENGTH),
                    "next": nn.Linear(24, LENGTH),
                }
            )
            for _ in range(3)
        )

    def forward(self, x: Tensor) -> Tensor:
        total = torch.zeros_like(x)
        for block in self.blocks:
            hidden = block["fc2"](block["fc1"](x).relu()).relu()
            x, total = x - block["past"](hidden), total + block["next"](hidden)
        return total


class Patches(nn.Module):
    """A transformer over pieces of a series, with a learned table of their places."""

    def __init__(self) -> None:
        super().__init__()
        self.value_embedding = nn.Linear(4, 32)
        self.places = nn.Parameter(0.02 * torch.randn(LENGTH // 4, 32))
        self.layers = nn.ModuleList(nn.TransformerEncoderLayer(32, 4, 64, 0.0, batch_first=True) for _ in range(2))
        self.head = nn.Linear(32 * LENGTH // 4, LENGTH)

    def forward(self, x: Tensor) -> Tensor:
        x = self.value_embedding(x.unflatten(1, (-1, 4))) + self.places
        for layer in self.layers:
            x = layer(x)
        return self.head(x.flatten(1))


class Causal(nn.Module):
    """A language model that keeps its masks, a table of positions and one of sinusoids."""

    def __init__(self) -> None:
        super().__init__()
        self.wte, self.wpe = nn.Embedding(32, 32), nn.Embedding(16, 32)
        angles = torch.arange(16)[:, None] / 1000 ** (torch.arange(16) / 16)
        self.register_buffer("signal", torch.cat([angles.sin(), angles.cos()], 1))
        self.h = nn.ModuleList(_CausalBlock() for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        x = self.wte(x) + self.wpe.weight + self.signal
        for block in self.h:
            x = block(x)
        return x @ self.wte.weight.T


class _CausalBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("tril", torch.ones(16, 16).tril())
        self.register_buffer("far", torch.full((16, 16), -1e4).triu(1))
        self.mix, self.out = nn.Linear(32, 96), nn.Linear(32, 32)
        self.up, self.down = nn.Linear(32, 64), nn.Linear(64, 32)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = functional.layer_norm(x, (32,)).matmul(self.mix.weight.T).chunk(3, 2)
        weights = (q @ k.mT / 6 + self.far).softmax(2) * self.tril
        x = x + self.out(weights @ v)
        return x + self.down(functional.gelu(self.up(functional.layer_norm(x, (32,)))))


class Audio(nn.Module):
    """A spectrum by fixed kernels, a bank of triangles, and convolutions over both axes."""

    def __init__(self) -> None:
        super().__init__()
        angles = 2 * math.pi * torch.arange(17)[:, None] * torch.arange(32) / 32
        window = torch.hann_window(32)
        self.real = nn.Parameter((window * angles.cos())[:, None], requires_grad=False)
        self.imaginary = nn.Parameter((window * angles.sin())[:, None], requires_grad=False)
        centres = torch.linspace(0, 17, 18)[1:-1, None]
        self.register_buffer("bank", (1 - (torch.arange(17) - centres).abs() / 2).clamp_min(0))
        self.conv1, self.conv2 = nn.Conv1d(16, 32, 3, padding=1), nn.Conv1d(32, 32, 3, padding=1)
        self.head = nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = x[:, None]
        power = (
            functional.conv1d(x, self.real, stride=8).square() + functional.conv1d(x, self.imaginary, stride=8).square()
        )
        x = (self.bank @ power + 1e-3).log()
        return self.head(self.conv2(self.conv1(x).relu()).relu().mean(2))


class Fields(nn.Module):
    """Coordinates through a projection that was drawn once, for good, and a few layers."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("drawn", torch.randn(24, 2, generator=torch.Generator().manual_seed(0)))
        self.register_buffer("mixed", torch.randn(48, 48, generator=torch.Generator().manual_seed(1)) / 7)
        self.layers = nn.Sequential(nn.Linear(48, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))

    def forward(self, x: Tensor) -> Tensor:
        angles = x @ self.drawn.T
        return self.layers(torch.cat([angles.sin(), angles.cos()], 1) @ self.mixed)[:, 0]


class Blurred(nn.Module):
    """Convolutions that blur before they leave out every second place."""

    def __init__(self) -> None:
        super().__init__()
        row = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
        self.register_buffer("filt", torch.outer(row, row).expand(16, 1, 4, 4).clone())
        self.conv1, self.conv2 = nn.Conv2d(1, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)
        self.conv3, self.fc = nn.Conv2d(16, 32, 3, padding=1), nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        for layer in (self.conv1, self.conv2):
            x = functional.conv2d(layer(x).relu(), self.filt, stride=2, padding=1, groups=16)
        return self.fc(self.conv3(x).relu().mean((2, 3)))


class Denoiser(nn.Module):
    """A small U-Net that is told how much noise there is by sinusoids."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("rates", torch.exp(-torch.arange(8) / 2.0))
        self.time_embedding = nn.Sequential(nn.Linear(16, 32), nn.SiLU(), nn.Linear(32, 16))
        self.inner = nn.Conv2d(1, 16, 3, padding=1)
        self.down, self.middle = nn.Conv2d(16, 32, 3, 2, 1), nn.Conv2d(32, 32, 3, padding=1)
        self.up, self.out = nn.Conv2d(32, 16, 3, padding=1), nn.Conv2d(32, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        noise = torch.linspace(0, 1, len(x))[:, None]
        told = self.time_embedding(torch.cat([(noise * self.rates).sin(), (noise * self.rates).cos()], 1))
        first = (self.inner(x) + told[:, :, None, None]).relu()
        deep = self.middle(self.down(first).relu()).relu()
        wide = functional.interpolate(self.up(deep), scale_factor=2.0).relu()
        return self.out(torch.cat([first, wide], 1))


@cache
def series() -> tuple[Tensor, Tensor]:
    chance = torch.Generator().manual_seed(0)
    phase, slope = (torch.rand(256, 1, generator=chance) for _ in "ab")
    points = torch.arange(2 * LENGTH)
    values = (points / 4 + 6 * phase).sin() + slope * points / LENGTH + 0.1 * torch.randn(256, 64, generator=chance)
    return values[:, :LENGTH], values[:, LENGTH:]


@cache
def pictures() -> tuple[Tensor, Tensor]:
    """Blobs whose place is their class: [256, 1, 16, 16]."""
    chance = torch.Generator().manual_seed(0)
    labels = torch.randint(4, (256,), generator=chance)
    centre = torch.stack([labels // 2, labels % 2], 1) * 8 + 4.0 + torch.randn(256, 2, generator=chance)
    grid = torch.arange(16.0)
    apart = (grid[None, :, None] - centre[:, 0, None, None]) ** 2 + (grid - centre[:, 1, None, None]) ** 2
    return (torch.exp(-apart / 9) + 0.1 * torch.randn(256, 16, 16, generator=chance))[:, None], labels


@cache
def text() -> tuple[Tensor, Tensor]:
    chance = torch.Generator().manual_seed(0)
    steps = torch.randint(1, 4, (256, 17), generator=chance)
    tokens = (steps.cumsum(1) + torch.randint(32, (256, 1), generator=chance)) % 28 + 4
    return tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()


@cache
def sounds() -> tuple[Tensor, Tensor]:
    chance = torch.Generator().manual_seed(0)
    labels = torch.randint(4, (256,), generator=chance)
    waves = (torch.arange(128) * (labels[:, None] + 1) / 4 + 6 * torch.rand(256, 1, generator=chance)).sin()
    return waves + 0.3 * torch.randn(256, 128, generator=chance), labels


@cache
def fields() -> tuple[Tensor, Tensor]:
    x = torch.rand(256, 2, generator=torch.Generator().manual_seed(0))
    return x, (6 * x[:, 0]).sin() * (4 * x[:, 1]).cos()


@cache
def noisy() -> tuple[Tensor, Tensor]:
    clean = pictures()[0]
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(1))
    return clean + torch.linspace(0, 1, 32).repeat(8)[:, None, None, None] * noise, clean


def squares(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return functional.mse_loss(net(x), y)


def classes(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return functional.cross_entropy(net(x), y)


def next_tokens(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return functional.cross_entropy(net(x).flatten(0, 1), y.flatten())


def told_loss(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return net(input_ids=x, labels=y).loss


def heard_loss(net: nn.Module, _: Tensor, y: Tensor) -> Tensor:
    """Text from a spectrum that shows it."""
    features = functional.one_hot(y, 32).float().mT.repeat_interleave(2, 2)
    return net(input_features=features, labels=y).loss


def picture_net(name: str, **settings: Any) -> nn.Module:
    return import_timm().create_model(name, in_chans=1, num_classes=4, **settings)


def mixer() -> nn.Module:
    made = import_timm().models.mlp_mixer.MlpMixer
    return made(4, img_size=16, in_chans=1, patch_size=4, num_blocks=2, embed_dim=32)


def library(name: str, **settings: Any) -> nn.Module:
    transformers = import_transformers()
    config, kind = {
        "whisper": (transformers.WhisperConfig, transformers.WhisperForConditionalGeneration),
        "bart": (transformers.BartConfig, transformers.BartForConditionalGeneration),
    }[name]
    tokens = {"vocab_size": 32, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
    return kind(config(**tokens, **settings))


TOWERS: Final = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 1,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
}
WHISPER: Final = {"num_mel_bins": 32, "max_source_positions": 16, "max_target_positions": 16}
SWIN: Final = {"img_size": 16, "patch_size": 2, "window_size": 4, "embed_dim": 16, "depths": (2,), "num_heads": (2,)}
VIT: Final = {"img_size": 16, "patch_size": 4, "embed_dim": 32, "depth": 2, "num_heads": 4}

KINDS: Final[dict[str, tuple[Callable[[], nn.Module], Callable[[], tuple[Tensor, Tensor]], Loss]]] = {
    "DLinear": (DLinear, series, squares),
    "maps over time": (Plain, series, squares),
    "N-BEATS": (Stacks, series, squares),
    "PatchTST": (Patches, series, squares),
    "GPT with masks": (Causal, text, next_tokens),
    "spectrum and bank": (Audio, sounds, classes),
    "drawn features": (Fields, fields, squares),
    "diffusion U-Net": (Denoiser, noisy, squares),
    "blurred convolutions": (Blurred, pictures, classes),
    "Swin": (partial(picture_net, "swin_tiny_patch4_window7_224", **SWIN), pictures, classes),
    "MLP-Mixer": (mixer, pictures, classes),
    "ViT": (partial(picture_net, "vit_tiny_patch16_224", **VIT), pictures, classes),
    "Whisper": (partial(library, "whisper", **TOWERS, **WHISPER), text, heard_loss),
    "BART": (partial(library, "bart", **TOWERS, max_position_embeddings=24), text, told_loss),
}


def train(kind: str, seed: int) -> tuple[nn.Module, float, float]:
    """A net of one kind, and its loss on all data before and after. Raises `RuntimeError` where it did not fall."""
    make, data, loss = KINDS[kind]
    x, y = data()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = make().train()
        first = loss(net, x, y).item()
        optimiser = torch.optim.Adam([each for each in net.parameters() if each.requires_grad], 3e-3)
        for step in range(STEPS):
            rows = slice(step % 8 * 32, step % 8 * 32 + 32)
            optimiser.zero_grad()
            loss(net, x[rows], y[rows]).backward()
            optimiser.step()
        last = loss(net, x, y).item()
    if not last < 0.9 * first:
        raise RuntimeError(f"the loss of {kind} went from {first:.3f} to {last:.3f}")
    return net.eval(), first, last
