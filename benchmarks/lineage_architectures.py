"""Does `whorl compare` tell right of nets that others wrote? Every architecture of transformers that can be made tiny.

    python benchmarks/lineage_architectures.py --cache CACHE [--only llama bert] [-o RESULT.json]

Each architecture is made with two layers of 32 axes or so and trained until its loss falls, on texts or pictures that
are drawn here. Of one net there are a tune, a low-rank update that was merged, a copy of 8 bits and one with half of
its weights left out; strangers are a net of another seed and other data, and a twin, which saw the very same data in
the same order. An architecture that can't be made so small, or that takes other inputs, is left out and named.

A derivative is told rightly where it is `related`, a stranger where it is not; operations where the one that was done
is told and no other (`MEANT`).
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import random
import resource
import signal
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from whorl.bench.result import describe_machine
from whorl.metrics import clopper_pearson
from whorl.nets.timm import import_mended
from whorl.storage import write_json
from whorl.weights.comparison import Comparison, compare

import_mended("transformers.image_utils")  # before the first class of a model is asked for
from transformers import (  # noqa: E402
    AutoModelForCausalLM,
    AutoModelForImageClassification,
    AutoModelForMaskedLM,
    PreTrainedModel,
)
from transformers import logging as told_by_transformers  # noqa: E402
from transformers.models.auto import modeling_auto  # noqa: E402
from transformers.models.auto.configuration_auto import CONFIG_MAPPING  # noqa: E402
from transformers.pytorch_utils import Conv1D  # noqa: E402

WORDS, LENGTH, CLASSES, SIZE = 97, 24, 4, 16
MOST = 1_500_000  # parameters
LONGEST = 240  # seconds for an architecture
MEMORY = 12 << 30  # bytes: some architectures are large whatever they are told
STEPS, TUNED = 60, 20
TASKS: dict[str, tuple[Any, dict[str, str]]] = {
    "text": (AutoModelForCausalLM, modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES),
    "masked text": (AutoModelForMaskedLM, modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES),
    "pictures": (AutoModelForImageClassification, modeling_auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES),
}
TINY: dict[str, Any] = {
    **dict.fromkeys(("hidden_size", "d_model", "n_embd", "dim", "embed_dim", "embedding_size", "model_dim"), 32),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "num_layers", "n_layers", "encoder_layers", "decoder_layers"), 2),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "encoder_attention_heads", "num_heads"), 4),
    **dict.fromkeys(("decoder_attention_heads", "num_key_value_heads", "n_kv_heads", "num_local_experts"), 4),
    **dict.fromkeys(("num_experts", "n_routed_experts", "moe_num_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "moe_k"), 2),
    **dict.fromkeys(("intermediate_size", "ffn_dim", "n_inner", "d_ff", "encoder_ffn_dim", "decoder_ffn_dim"), 64),
    **dict.fromkeys(("hidden_dim", "ffn_hidden_size", "feed_forward_size"), 64),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size"), 48),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "sliding_window"), 64),
    **dict.fromkeys(("head_dim", "v_head_dim", "kv_lora_rank", "q_lora_rank"), 8),
    **dict.fromkeys(("qk_rope_head_dim", "qk_nope_head_dim"), 4),
    **dict.fromkeys(("bos_token_id", "decoder_start_token_id"), 1),
    "vocab_size": WORDS,
    "pad_token_id": 0,
    "eos_token_id": 2,
    "num_labels": CLASSES,
    "image_size": SIZE,
    "patch_size": 4,
    "num_channels": 3,
    "is_decoder": False,
    "hidden_sizes": [16, 32, 32, 32],
    "depths": [1, 1, 1, 1],
    "use_cache": False,
}
MEANT = {
    "tuned": ({"tuned"}, {"partly untouched"}),
    "low rank": ({"low-rank update"}, {"partly untouched"}),
    "8 bits": ({"quantised"}, {"partly untouched"}),
    "half left out": ({"pruned"}, {"partly untouched"}),
}
"""What must be told of a derivative, and what may be told beside it."""


def tiny(kind: str, task: str) -> PreTrainedModel:
    """A small net of an architecture, whatever its options are called. Raises what its code raises."""
    known = CONFIG_MAPPING[kind]().to_dict()
    options = {name: value for name, value in TINY.items() if name in known or name in ("num_labels",)}
    if task == "text" and "is_decoder" in known and kind.startswith(("bert", "roberta", "electra", "xlm")):
        options["is_decoder"] = True
    config = CONFIG_MAPPING[kind](**options)
    with torch.device("meta"):  # what is too large is never made
        if (size := sum(each.numel() for each in TASKS[task][0].from_config(config).parameters())) > MOST:
            raise ValueError(f"{size:,} parameters are too many")
    return TASKS[task][0].from_config(config).float()


def batches(task: str, seed: int, style: int, count: int) -> Iterator[dict[str, Tensor]]:
    """Texts of a chain whose words follow each other in a way of their own (``style``), or pictures of blobs."""
    chance = torch.Generator().manual_seed(seed)
    rules = torch.Generator().manual_seed(1000 + style)
    following = torch.randint(3, WORDS, (WORDS, 3), generator=rules)
    patterns = torch.randn(CLASSES, 3, SIZE, SIZE, generator=rules)
    for _ in range(count):
        if task == "pictures":
            labels = torch.randint(0, CLASSES, (16,), generator=chance)
            yield {
                "pixel_values": patterns[labels] + torch.randn(16, 3, SIZE, SIZE, generator=chance),
                "labels": labels,
            }
            continue
        words = torch.randint(3, WORDS, (8, LENGTH), generator=chance)
        for place in range(1, LENGTH):
            drawn = torch.randint(0, 3, (8, 1), generator=chance)
            words[:, place] = following[words[:, place - 1]].gather(1, drawn)[:, 0]
        inputs, labels = words, words
        if task == "masked text":
            hidden = torch.rand(words.shape, generator=chance) < 0.3
            inputs, labels = words.masked_fill(hidden, 1), words.masked_fill(~hidden, -100)
        yield {"input_ids": inputs, "attention_mask": torch.ones_like(words), "labels": labels}


def trained(net: PreTrainedModel, task: str, seed: int, style: int, steps: int, rate: float) -> tuple[float, float]:
    """Train; returns the mean loss of the first and of the last steps."""
    net.train()
    torch.manual_seed(seed)
    chosen = [each for each in net.parameters() if each.requires_grad]
    optimiser = torch.optim.AdamW(chosen, lr=rate, weight_decay=0.01)
    losses = []
    for batch in batches(task, seed, style, steps):
        loss = net(**batch).loss
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(chosen, 1.0)
        optimiser.step()
        losses.append(float(loss))
    return float(np.mean(losses[:5])), float(np.mean(losses[-5:]))


def matrices(net: nn.Module) -> dict[str, nn.Parameter]:
    return {name: each for name, each in net.named_parameters() if each.ndim >= 2}


class LowRank(nn.Module):
    """What is added to a matrix, or a kernel, while it is trained."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        rows = weight.flatten(1)
        self.down = nn.Parameter(torch.randn(2, rows.shape[1]) / rows.shape[1] ** 0.5)
        self.up = nn.Parameter(torch.zeros(len(rows), 2))

    def forward(self, weight: Tensor) -> Tensor:
        """The weight with what was added."""
        return weight + 2 * (self.up @ self.down).view_as(weight)


def low_rank(net: PreTrainedModel, task: str) -> None:
    """Train updates of rank two of every linear and convolutional layer and merge them."""
    torch.manual_seed(5)
    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d, Conv1D)
    layers = [each for each in net.modules() if isinstance(each, kinds) and min(each.weight.flatten(1).shape) >= 16]
    tied = {id(each.weight) for each in net.modules() if isinstance(each, nn.Embedding)}
    layers = [each for each in layers if id(each.weight) not in tied]
    for each in net.parameters():
        each.requires_grad_(False)
    for each in layers:
        nn.utils.parametrize.register_parametrization(each, "weight", LowRank(each.weight))
    trained(net, task, 7, 1, TUNED, 3e-3)
    for each in layers:
        nn.utils.parametrize.remove_parametrizations(each, "weight")


def rounded(net: nn.Module) -> None:
    """Eight bits a weight, one scale for each unit that it writes."""
    turned = {id(each.weight) for each in net.modules() if isinstance(each, Conv1D)}
    for weight in matrices(net).values():
        if id(weight) in turned:
            scale = weight.data.abs().amax(0, keepdim=True).clamp_min(1e-12) / 127
            weight.data = (weight.data / scale).round() * scale
            continue
        rows = weight.data.flatten(1)
        scale = rows.abs().amax(1, keepdim=True).clamp_min(1e-12) / 127
        weight.data = ((rows / scale).round() * scale).view_as(weight)


def pruned(net: nn.Module) -> None:
    """The smaller half of each matrix is left out."""
    for weight in matrices(net).values():
        weight.data = torch.where(weight.abs() > weight.abs().median(), weight.data, 0)


def save(net: PreTrainedModel, folder: Path) -> None:
    """A folder as the library would write it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net.save_pretrained(folder)


def family(kind: str, task: str, folder: Path) -> tuple[dict[str, Path], tuple[float, float]]:
    """All nets of one architecture, and the loss of the first; they are found again where they were made before."""
    made = {name: folder / name.replace(" ", "-") for name in ("net", "other seed", "twin", *MEANT)}
    if (told := folder / "loss.json").exists():
        first, last = json.loads(told.read_bytes())
        return made, (first, last)
    nets: dict[str, PreTrainedModel] = {}
    falls = (0.0, 0.0)
    for name, seed, order, style in (("net", 0, 0, 0), ("other seed", 1, 1, 2), ("twin", 2, 0, 0)):
        torch.manual_seed(seed)
        nets[name] = tiny(kind, task)
        lost = trained(nets[name], task, order, style, STEPS, 3e-3)
        falls = lost if name == "net" else falls
    for name in MEANT:
        nets[name] = copy.deepcopy(nets["net"])
    trained(nets["tuned"], task, 3, 1, TUNED, 1e-3)
    low_rank(nets["low rank"], task)
    rounded(nets["8 bits"])
    pruned(nets["half left out"])
    for name, net in nets.items():
        save(net, made[name])
    write_json(told, list(falls))
    return made, falls


def row(found: Comparison, meant: str | None) -> dict[str, Any]:
    """What was told of a pair, and whether it is right."""
    names = sorted({each.name for each in found.operations})
    right = None
    if meant is not None:
        must, may = MEANT[meant]
        right = must <= set(names) and set(names) <= must | may
    return {
        "decision": found.decision,
        "exact": found.exact,
        "tested": found.tested,
        "log10_p": round(found.log_p / math.log(10), 2),
        "operations": names,
        "operations_right": right,
        "direction": found.direction,
    }


def judged(kind: str, task: str, folder: Path) -> dict[str, Any]:
    files, (first, last) = family(kind, task, folder)
    if not last < 0.97 * first:
        raise ValueError(f"the loss does not fall ({first:.3f}, {last:.3f})")
    derived = {name: row(compare(files["net"], files[name], layers=0), name) for name in MEANT}
    pairs = [("net", "other seed"), ("net", "twin"), ("tuned", "twin"), ("8 bits", "other seed")]
    strangers = {f"{one} and {two}": row(compare(files[one], files[two], layers=0), None) for one, two in pairs}
    return {"task": task, "loss": [round(first, 4), round(last, 4)], "derived": derived, "strangers": strangers}


def candidates() -> Iterator[tuple[str, str]]:
    """Every architecture once, with the first task that it has; those of each task in an order that was drawn."""
    seen: set[str] = set()
    for task, (_, names) in TASKS.items():
        kinds = [kind for kind in names if kind not in seen and kind in CONFIG_MAPPING]
        seen.update(kinds)
        random.Random(task).shuffle(kinds)
        yield from ((kind, task) for kind in kinds)


def summary(architectures: dict[str, Any]) -> dict[str, Any]:
    """Shares over architectures, with Clopper and Pearson's intervals (95 %)."""

    def share(values: list[bool]) -> dict[str, float]:
        bounds = clopper_pearson(sum(values), len(values))
        return {"count": len(values), "rate": sum(values) / len(values), "low": bounds.low, "high": bounds.high}

    every = architectures.values()
    told = {
        name: {
            "related": share([each["derived"][name]["decision"] == "related" for each in every]),
            "operations right": share([bool(each["derived"][name]["operations_right"]) for each in every]),
        }
        for name in MEANT
    }
    strangers = [each for one in every for each in one["strangers"].values()]
    right = [bool(each["derived"][name]["operations_right"]) for each in every for name in MEANT]
    return {
        "architectures": len(architectures),
        "derived": told,
        "operations right": share(right),
        "strangers accused": share([each["decision"] in ("related", "part reused") for each in strangers]),
        "strangers untested": sum(not each["tested"] for each in strangers),
    }


def too_long(*_: object) -> None:
    """What the alarm does."""
    raise TimeoutError(f"took more than {LONGEST} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=[], help="architectures")
    parser.add_argument("--cache", type=Path, required=True, help="a folder for the nets")
    parser.add_argument("--most", type=int, default=27, help="architectures of each task")
    parser.add_argument("-o", "--output", type=Path, default=Path("benchmarks/results/lineage-architectures.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    signal.signal(signal.SIGALRM, too_long)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    told_by_transformers.set_verbosity_error()
    told_by_transformers.disable_progress_bar()
    warnings.simplefilter("ignore")
    started = time.perf_counter()
    found: dict[str, Any] = {}
    left_out: dict[str, str] = {}
    for kind, task in candidates():
        enough = sum(each["task"] == task for each in found.values()) >= options.most
        if enough or (options.only and kind not in options.only):
            continue
        signal.alarm(LONGEST)
        try:
            found[kind] = judged(kind, task, options.cache / kind)
        except Exception as error:  # another library's code, called with options that it did not expect
            left_out[kind] = f"{type(error).__name__}: {error}".splitlines()[0][:160]
            print(f"{kind}: left out, {left_out[kind]}", flush=True)
            continue
        finally:
            signal.alarm(0)
        each = found[kind]
        wrong = {
            **{n: (v["decision"], v["operations"]) for n, v in each["derived"].items() if not v["operations_right"]},
            **{n: v["decision"] for n, v in each["strangers"].items() if v["decision"] != "inconclusive"},
        }
        print(f"{kind}: {wrong or 'right'}", flush=True)
    document = {
        "machine": describe_machine("cpu").model_dump(),
        "seconds": round(time.perf_counter() - started, 1),
        "all": summary(found),
        "architectures": found,
        "left out": left_out,
    }
    write_json(options.output, document)
    print(document["all"])


if __name__ == "__main__":
    main()
