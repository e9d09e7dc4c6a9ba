"""Steps of a language recipe that train: from fresh weights, on other text, by low rank, or from another's answers.

Fresh weights are drawn by a generator, normal with one spread for every matrix: their law prefers no sign, no order
of neurons and no order of axes, which is what tests of independence assume. The order of the lines has a seed of its
own, so that nets of different seeds can see the same text in the same order, and nets of one seed another order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Final

import torch
from annotated_types import Ge, Le
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, kl_div, log_softmax, softmax
from torch.nn.utils import parametrize

from whorl.catalog import Catalog
from whorl.checkpoints.roles import Key
from whorl.errors import UsageError
from whorl.expressions import Call
from whorl.settings import Count, Named, Positive, Seed, Whole
from whorl.zoo.causal import LanguageModel, Roles, closed, logits, opened, quiet
from whorl.zoo.corpus import Corpus
from whorl.zoo.steps import says

__all__ = ["ARCHITECTURES", "CORPORA", "distil", "lora", "pretrain", "reuse_embedding", "tune"]

SPREAD: Final = 0.05  # of fresh weights; at 0.02, usual for widths above 1,000, nets of width 48 learn a third slower
WARM: Final = 20  # steps until the learning rate is at its height

ARCHITECTURES: Catalog[Any] = Catalog(
    "language architectures",
    {name: f"whorl.zoo.lessons:{name}" for name in ("llama", "gpt2", "neox", "mixtral")},
    fixed=("corpus",),
)
CorpusName = Annotated[str | Call, Named(("whorl.zoo.lessons:CORPORA",), "task")]
LanguageArchitecture = Annotated[str | Call, Named(("whorl.zoo.lessons:ARCHITECTURES",), "architecture")]
Size = Annotated[int, Ge(1), Le(4096)]

CORPORA: Catalog[Corpus] = Catalog("corpora", {"corpus": "whorl.zoo.corpus:Corpus"})


@dataclass(frozen=True)
class CosineSchedule:
    """AdamW under a cosine; ``order`` seeds the order of the lines."""

    steps: int
    learning_rate: float
    order: int
    batch: int = 8

    def rates(self) -> Iterator[float]:
        """The learning rate of each step."""
        for step in range(self.steps):
            cosine = (1 + math.cos(math.pi * step / self.steps)) / 2
            yield self.learning_rate * min(1.0, (step + 1) / WARM) * cosine

    def batches(self, text: Tensor) -> Iterator[Tensor]:
        """Lines without end: each once, then each again in another order."""
        generator = torch.Generator().manual_seed(self.order)
        while True:
            lines = torch.randperm(len(text), generator=generator)
            for places in lines.split(self.batch):
                yield text[places]


def llama(
    *,
    corpus: Corpus,
    width: Size = 48,
    layers: Size = 2,
    heads: Size = 4,
    groups: Size = 2,
    hidden: Size = 128,
    tied: bool = False,
) -> dict[str, Any]:
    """RMS norms, rotary positions, a gated hidden layer, ``groups`` key-value heads."""
    found = _common(corpus, width, layers, heads, hidden, tied) | {"num_key_value_heads": groups}
    if heads % groups:
        raise UsageError(f"llama: {groups} groups do not divide {heads} heads")
    return {"model_type": "llama"} | found


def mixtral(
    *,
    corpus: Corpus,
    width: Size = 48,
    layers: Size = 2,
    heads: Size = 4,
    groups: Size = 2,
    hidden: Size = 64,
    experts: Annotated[int, Ge(2), Le(4096)] = 3,
) -> dict[str, Any]:
    """Like llama, with ``experts`` hidden layers of which every token passes two."""
    dense = llama(corpus=corpus, width=width, layers=layers, heads=heads, groups=groups, hidden=hidden)
    return dense | {"model_type": "mixtral", "num_local_experts": experts, "num_experts_per_tok": 2}


def neox(
    *, corpus: Corpus, width: Size = 48, layers: Size = 2, heads: Size = 4, hidden: Size = 128, tied: bool = False
) -> dict[str, Any]:
    """Layer norms, rotary positions on half of each head, attention and hidden layer side by side."""
    return {"model_type": "gpt_neox", "rotary_pct": 0.5} | _common(corpus, width, layers, heads, hidden, tied)


def gpt2(
    *, corpus: Corpus, width: Size = 48, layers: Size = 2, heads: Size = 4, hidden: Size = 128, tied: bool = True
) -> dict[str, Any]:
    """Layer norms, learned positions, the embedding also unembeds."""
    found = _common(corpus, width, layers, heads, hidden, tied)
    own = {"hidden_size": "n_embd", "num_hidden_layers": "n_layer", "num_attention_heads": "n_head"}
    own |= {"intermediate_size": "n_inner", "max_position_embeddings": "n_positions"}
    plain = {f"{name}_pdrop": 0.0 for name in ("resid", "embd", "attn")}
    return {"model_type": "gpt2"} | plain | {own.get(name, name): value for name, value in found.items()}


@says(becomes=lambda settings: _configured(settings["architecture"], settings["data"])["model_type"])
def pretrain(
    *,
    architecture: LanguageArchitecture,
    data: CorpusName = "corpus",
    steps: Whole = 300,
    batch: Count = 8,
    learning_rate: Positive = 5e-3,
    seed: Seed = 0,
    order: Seed = 0,
) -> LanguageModel:
    """A net from weights drawn by ``seed``, trained on the text of ``data`` in the order of ``order``."""
    module = _fresh(_configured(architecture, data), seed)
    _fit(module, CORPORA.make(data).text, CosineSchedule(steps, learning_rate, order, batch))
    return closed(module)


def tune(
    model: LanguageModel,
    *,
    data: CorpusName = "corpus(seed=1)",
    steps: Whole = 100,
    batch: Count = 8,
    learning_rate: Positive = 1e-3,
    order: Seed = 0,
) -> LanguageModel:
    """Train all weights further."""
    module = opened(model)
    _fit(module, CORPORA.make(data).text, CosineSchedule(steps, learning_rate, order, batch))
    return closed(module)


def lora(
    model: LanguageModel,
    *,
    data: CorpusName = "corpus(seed=1)",
    rank: Count = 4,
    steps: Whole = 100,
    learning_rate: Positive = 1e-2,
    seed: Seed = 0,
    order: Seed = 0,
    merged: bool = True,
) -> LanguageModel:
    """Train a sum of ``rank`` outer products beside each matrix of attention (E. Hu et al., LoRA, ICLR 2022).

    Unmerged it is an adapter in the layout of the library peft, with alpha equal to the rank.
    """
    module, generator = opened(model), torch.Generator().manual_seed(seed)
    module.requires_grad_(False)
    chosen = {name: part for name, part in module.named_modules() if _attends(name, part)}
    for part in chosen.values():
        weight = part.get_parameter("weight")
        parametrize.register_parametrization(part, "weight", _LowRank(weight.shape, rank, generator))
    _fit(module, CORPORA.make(data).text, CosineSchedule(steps, learning_rate, order))
    if not merged:
        return _adapter(chosen, rank)
    for part in chosen.values():
        parametrize.remove_parametrizations(part, "weight")
    return closed(module)


@says(draws_anew=True)
def distil(
    model: LanguageModel,
    *,
    data: CorpusName = "corpus(seed=1)",
    steps: Whole = 300,
    batch: Count = 8,
    learning_rate: Positive = 5e-3,
    seed: Seed = 1000,
    order: Seed = 0,
) -> LanguageModel:
    """A net of the same shape, drawn anew, that learns the model's probabilities (G. Hinton et al., 2015).

    Its weights owe nothing to the model's: no test of weights should find it.
    """
    student, teacher = _fresh(dict(model.config), seed), opened(model)

    def agree(scores: Tensor, lines: Tensor) -> Tensor:
        wanted = softmax(logits(teacher, lines[:, :-1]), -1).clone()
        return kl_div(log_softmax(scores, -1).flatten(0, 1), wanted.flatten(0, 1), reduction="batchmean")

    _fit(student, CORPORA.make(data).text, CosineSchedule(steps, learning_rate, order, batch), agree)
    return closed(student)


@says(draws_anew=True)
def reuse_embedding(
    model: LanguageModel,
    *,
    data: CorpusName = "corpus",
    steps: Whole = 300,
    batch: Count = 8,
    learning_rate: Positive = 5e-3,
    seed: Seed = 1000,
    order: Seed = 0,
) -> LanguageModel:
    """The model's embedding, kept as it is, with everything around it drawn and trained anew."""
    module = _fresh(dict(model.config), seed)
    embedding: Any = module.get_input_embeddings()  # pyright: ignore[reportCallIssue]
    with torch.no_grad():
        embedding.weight.copy_(Roles(model).get(Key("embedding")))
    embedding.weight.requires_grad_(False)
    _fit(module, CORPORA.make(data).text, CosineSchedule(steps, learning_rate, order, batch))
    return closed(module)


class _LowRank(nn.Module):
    def __init__(self, shape: torch.Size, rank: int, generator: torch.Generator) -> None:
        super().__init__()
        self.low = nn.Parameter(torch.randn(rank, shape[1], generator=generator) / math.sqrt(shape[1]))
        self.high = nn.Parameter(torch.zeros(shape[0], rank))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.high @ self.low


def _attends(name: str, part: nn.Module) -> bool:
    return "attn" in name.replace("attention", "attn") and getattr(getattr(part, "weight", None), "ndim", 0) == 2


def _adapter(chosen: dict[str, Any], rank: int) -> LanguageModel:
    tensors: dict[str, Tensor] = {}
    turned = any(type(part).__name__ == "Conv1D" for part in chosen.values())  # GPT-2 keeps matrices as [in, out]
    for name, part in chosen.items():
        pair = part.parametrizations.weight[0]
        low, high = (pair.high.T, pair.low.T) if turned else (pair.low, pair.high)
        tensors[f"base_model.model.{name}.lora_A.weight"] = low.detach()
        tensors[f"base_model.model.{name}.lora_B.weight"] = high.detach()
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "",
        "r": rank,
        "lora_alpha": rank,
        "bias": "none",
        "fan_in_fan_out": turned,
        "target_modules": sorted({".".join(name.split(".")[-2:]) for name in chosen}),
    }
    return LanguageModel(config, tensors, adapter=True)


def _common(corpus: Corpus, width: int, layers: int, heads: int, hidden: int, tied: bool) -> dict[str, Any]:
    if width % (4 * heads):
        raise UsageError(f"width {width} is no multiple of 4 for each of {heads} heads")
    return {
        "vocab_size": corpus.vocabulary,
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": hidden,
        "max_position_embeddings": corpus.length,
        "tie_word_embeddings": tied,
        "bos_token_id": None,
        "eos_token_id": None,
    }


def _configured(architecture: str | Call, data: str | Call) -> dict[str, Any]:
    return ARCHITECTURES.make(architecture, corpus=CORPORA.make(data))


def _fresh(config: dict[str, Any], seed: int) -> nn.Module:
    """A module of that configuration whose weights the seed draws."""
    with quiet() as transformers:
        described = transformers.AutoConfig.for_model(**config)
        module: nn.Module = transformers.AutoModelForCausalLM.from_config(described, attn_implementation="eager")
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(module.named_parameters()):
            if parameter.ndim > 1:
                parameter.normal_(0, SPREAD, generator=generator)
            else:
                parameter.fill_(float(name.endswith("weight")))
    return module


def _next_token(scores: Tensor, lines: Tensor) -> Tensor:
    return cross_entropy(scores.flatten(0, 1), lines[:, 1:].flatten())


def _fit(
    module: nn.Module, text: Tensor, schedule: CosineSchedule, loss: Callable[[Tensor, Tensor], Tensor] = _next_token
) -> None:
    module.float().train()
    learned = [parameter for parameter in module.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(learned, lr=schedule.learning_rate, betas=(0.9, 0.95), weight_decay=0.01, fused=True)
    for rate, lines in zip(schedule.rates(), schedule.batches(text), strict=False):
        optimiser.param_groups[0]["lr"] = rate
        loss(module(input_ids=lines[:, :-1], use_cache=False).logits, lines).backward()
        optimiser.step()
        optimiser.zero_grad()
    module.eval()
