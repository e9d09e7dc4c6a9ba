"""Bases and what was tuned from them, whose descent is known: the material of `lineage_direction`.

Seven kinds of small nets (four of transformers, three of whorl), three bases of each, in sizes and with optimisers of
their own. Each base is tuned by three optimisers, with and without decay, for few and many steps, at a low and a high
rate, on the base's data or on other data. A tune and its base are a descent; two tunes of one base are siblings.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from whorl.data import SOURCES
from whorl.nets.training import build
from whorl.zoo.causal import quiet
from whorl.zoo.corpus import Corpus

KINDS = ("bert", "llama", "gpt2", "vit", "mlp", "vgg", "resnet")
SEEDS = range(3)
OPTIMISERS = ("sgd", "adam", "adamw")
STEPS = {"short": 25, "long": 120}
RATES = {"sgd": (0.01, 0.05), "adam": (2e-4, 1e-3), "adamw": (2e-4, 1e-3)}
DECAYS = {"sgd": 2e-3, "adam": 2e-3, "adamw": 0.3}
OWN = {"mlp": "mlp(width={}, depth=3)", "vgg": "vgg(width={})", "resnet": "resnet8(width={})"}
OWN_LINES = 32  # of text that a causal net is tuned on
MASK = 255  # the token that stands for a hidden one


@dataclass(frozen=True)
class Tune:
    """How a net was trained further. ``data`` is 0 for the kind of data that its base saw, and 1 or 2 for others."""

    optimiser: str
    decay: bool
    length: str
    rate: float
    data: int

    @property
    def stratum(self) -> tuple[str, str, str]:
        """Optimiser, decay or none, short or long."""
        return self.optimiser, "decay" if self.decay else "no decay", self.length

    @property
    def name(self) -> str:
        """Of its folder."""
        return "-".join([*self.stratum, str(self.rate), str(self.data)]).replace(" ", "-")


@dataclass(frozen=True)
class Base:
    """A net trained from chance: kind and seed say all."""

    kind: str
    seed: int

    def tunes(self) -> Iterator[Tune]:
        """Two of each stratum that differ in their data alone; rates and data are spread over strata and bases."""
        for place, (optimiser, decay, length) in enumerate(product(OPTIMISERS, (False, True), STEPS)):
            turn = place // 2 + place // 4 + self.seed
            for again in range(2):
                yield Tune(optimiser, decay, length, RATES[optimiser][turn % 2], (place + self.seed + again) % 3)


def module(base: Base) -> nn.Module:
    """The net of a base before training."""
    chance = torch.Generator().manual_seed(1000 + base.seed)
    wide = base.seed % 2 == 1
    if base.kind in OWN:
        width = {"mlp": (64, 128), "vgg": (16, 24), "resnet": (16, 24)}[base.kind][wide]
        return build(OWN[base.kind].format(width), (1, 8, 8), 10, chance)
    width, layers = (80, 2) if wide else (64, 2)
    sizes = {"hidden_size": width, "intermediate_size": 2 * width, "num_hidden_layers": layers}
    sizes |= {"num_attention_heads": 4}
    with quiet() as transformers:
        torch.manual_seed(1000 + base.seed)
        if base.kind == "gpt2":
            config = transformers.GPT2Config(
                vocab_size=256,
                n_positions=32,
                n_embd=width,
                n_layer=layers,
                n_head=4,
                n_inner=2 * width,
                tie_word_embeddings=False,
            )
            return transformers.GPT2LMHeadModel(config)
        if base.kind == "llama":
            config = transformers.LlamaConfig(vocab_size=256, max_position_embeddings=32, **sizes)
            return transformers.LlamaForCausalLM(config)
        if base.kind == "bert":
            config = transformers.BertConfig(vocab_size=256, max_position_embeddings=32, **sizes)
            return transformers.BertForMaskedLM(config)
        config = transformers.ViTConfig(image_size=8, patch_size=2, num_channels=1, num_labels=10, **sizes)
        return transformers.ViTForImageClassification(config)


@lru_cache(maxsize=8)
def _text(seed: int) -> Tensor:
    return Corpus(seed=seed, vocabulary=MASK, lines=2048, length=32).text


@lru_cache(maxsize=2)
def _pictures(part: str) -> tuple[Tensor, Tensor]:
    held = SOURCES.make("digits(size=8)").load(part)
    return held.inputs(), held.labels


def batch(base: Base, tune: Tune | None, chance: torch.Generator) -> tuple[Tensor, Tensor]:
    """Inputs and right answers: -100 where none is asked for."""
    data = tune.data if tune is not None else 0
    if base.kind in ("vit", *OWN):
        inputs, labels = _pictures("attacker" if tune is not None else "victim")
        rows = torch.randint(len(inputs), (48,), generator=chance)
        inputs, labels = inputs[rows], labels[rows]
        turned = [inputs, inputs.transpose(2, 3).flip(3), inputs.flip(2)][data]
        return turned, (labels + 3 * data) % 10
    text = _text(base.seed + 50 * data)
    if tune is not None and base.kind != "bert":  # small sets that leave tokens out, as most are; BERT sees all again
        text = text[OWN_LINES * tune.data :][:OWN_LINES]
    lines = text[torch.randint(len(text), (16,), generator=chance)]
    if base.kind != "bert":
        return lines, torch.cat([lines[:, 1:], torch.full((len(lines), 1), -100)], 1)
    hidden = torch.rand(lines.shape, generator=chance) < 0.2
    return lines.where(~hidden, MASK), lines.where(hidden, -100)


def train(net: nn.Module, base: Base, tune: Tune | None, chance: torch.Generator) -> list[float]:
    """Train in place, as a tune says or as bases are; the loss of each step."""
    if tune is None:
        # Half of the bases with decay, and vision nets by SGD.
        vision, decay = base.kind in OWN, (base.seed + KINDS.index(base.kind)) % 2 == 1
        tune = Tune("sgd" if vision else "adamw", decay, "long", 0.05 if vision else 2e-3, 0)
        steps, inputs = 300, None
    else:
        steps, inputs = STEPS[tune.length], tune
    decay = DECAYS[tune.optimiser] if tune.decay else 0.0
    kinds: dict[str, Any] = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    more = {"momentum": 0.9} if tune.optimiser == "sgd" else {}
    optimiser = kinds[tune.optimiser](net.parameters(), lr=tune.rate, weight_decay=decay, **more)
    losses: list[float] = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(1 << 31, (1,), generator=chance)))  # dropout draws from here
        net.train()
        for step in range(steps):
            for group in optimiser.param_groups:
                group["lr"] = tune.rate * min(1.0, (step + 1) / 10)
            one, answers = batch(base, inputs, chance)
            told = net(one)
            told = told if isinstance(told, Tensor) else told.logits
            loss = cross_entropy(told.flatten(0, -2), answers.flatten(), ignore_index=-100)
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimiser.step()
            losses.append(float(loss.detach()))
    return losses


def made(base: Base, tunes: list[Tune], cache: Path) -> list[Path]:
    """Folders of a base and of its tunes; what is there already is not made again."""
    folder = cache / f"{base.kind}-{base.seed}"
    names = ["base", *(each.name for each in tunes)]
    paths = [folder / name for name in names]
    net = module(base)
    for place, (path, tune) in enumerate(zip(paths, [None, *tunes], strict=True)):
        if not (path / "model.safetensors").is_file():
            if tune is not None:
                net.load_state_dict(load_file(folder / "state.safetensors"))
            losses = train(net, base, tune, torch.Generator().manual_seed(100 * base.seed + place))
            fell = losses[0] / (sum(losses[-10:]) / 10)
            assert tune is not None or fell > 1.2, (base, "the loss has not fallen", fell)
            if tune is None:
                _write(net, folder / "state.safetensors")
            _save(net, path)
    return paths


def _write(net: nn.Module, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: value.detach().clone().contiguous() for name, value in net.state_dict().items()}, path)


def _save(net: nn.Module, path: Path) -> None:
    held: Any = net
    if hasattr(held, "save_pretrained"):
        with quiet():
            held.save_pretrained(path)
    else:
        _write(net, path / "model.safetensors")
