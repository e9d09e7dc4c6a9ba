"""Causal language models as plain data, seen by role, and as modules of the library that everybody loads them with.

A `LanguageModel` is what its folder holds: a configuration and named tensors. `Roles` edits one by the roles of
`whorl.checkpoints.roles`, so that a change of queries or neurons is written once for every family; `opened` makes the
module of `transformers` of it, which alone says what the model computes.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, Final

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from whorl.checkpoints.checkpoint import Checkpoint, TensorEntry
from whorl.checkpoints.roles import Key, Part, Weights
from whorl.errors import MissingExtra, UsageError
from whorl.nets.timm import import_mended
from whorl.storage import read_json, read_tensors, write_json, write_tensors
from whorl.zoo.steps import LANGUAGE

__all__ = ["Change", "LanguageModel", "Roles", "closed", "import_transformers", "logits", "loss", "opened", "quiet"]

Change = Callable[[Tensor], Tensor]
"""What is done to the first axis of a matrix [n, k], k being anything."""

FILES: Final = {False: ("config.json", "model"), True: ("adapter_config.json", "adapter_model")}
SETTINGS: Final = {  # GPT-2 has words of its own
    "layers": ("num_hidden_layers", "n_layer"),
    "hidden": ("intermediate_size", "n_inner"),
}


@dataclass(frozen=True)
class LanguageModel:
    """A model as its folder holds it. An ``adapter`` holds only what is added to another model."""

    kind: ClassVar[str] = LANGUAGE

    config: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    adapter: bool = False

    @classmethod
    def read(cls, folder: Path) -> LanguageModel:
        """Read a folder that `write` or transformers wrote in one piece. Raises what `read_tensors` raises."""
        adapter = (folder / FILES[True][0]).is_file()
        config, tensors = FILES[adapter]
        return cls(read_json(folder / config), read_tensors(folder / f"{tensors}.safetensors")[0], adapter)

    def write(self, folder: Path) -> None:
        """Write ``config.json`` and ``model.safetensors``, or what an adapter has instead."""
        config, tensors = FILES[self.adapter]
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / config, dict(self.config))
        write_tensors(folder / f"{tensors}.safetensors", self.tensors, {"format": "pt"})

    @property
    def family(self) -> str:
        """The word of transformers for the architecture, as in ``llama`` or ``gpt_neox``."""
        return str(self.config.get("model_type", "adapter"))


class _Held(Checkpoint):
    """A model in memory, for the plan of its roles."""

    format: ClassVar[str] = "memory"

    def __init__(self, model: LanguageModel) -> None:
        entries = {
            name: TensorEntry(tuple(value.shape), str(value.dtype), value.nbytes)
            for name, value in model.tensors.items()
        }
        super().__init__(Path(model.family), entries, model.config)
        self._tensors = model.tensors

    def _stored(self, name: str, rows: Sequence[int] | None) -> Tensor:
        return self._tensors[name] if rows is None else self._tensors[name][list(rows)]


class Roles:
    """A copy of a model, in float32, to be edited by role; `model` gives the outcome.

    Raises `UsageError` for an adapter and for a family whose norms or biases this module does not know.
    """

    ADMITTED: ClassVar = ("llama", "gpt2", "gpt_neox", "mixtral")

    def __init__(self, model: LanguageModel) -> None:
        if model.adapter:
            raise UsageError("an adapter is no whole model; merge it first, as in lora(..., merged=true)")
        if model.family not in self.ADMITTED:
            raise UsageError(f"no step of this zoo edits {model.family}; it edits {', '.join(self.ADMITTED)}")
        self.config = dict(model.config)
        self.tensors = {name: value.to(torch.float32, copy=True) for name, value in model.tensors.items()}
        self.plan = Weights(_Held(LanguageModel(self.config, self.tensors))).structure

    @property
    def model(self) -> LanguageModel:
        """The edited model."""
        held = next(iter(self.tensors.values())).dtype
        return LanguageModel(self.config | {"dtype": str(held).removeprefix("torch.")}, self.tensors)

    @property
    def family(self) -> str:
        """The word of transformers for the architecture."""
        return str(self.config["model_type"])

    def keys(self, *roles: str, layer: int | None = None) -> Iterator[Key]:
        """Places of these roles, in order."""
        yield from sorted(key for key in self.plan.parts if key.role in roles and (layer is None or key.layer == layer))

    def get(self, key: Key) -> Tensor:
        """A part: [out, in], or a vector."""
        return self._read(self.plan.parts[key])

    def put(self, key: Key, value: Tensor) -> None:
        """Set a part. Only one that has a tensor of its own may change its shape."""
        self._write(self.plan.parts[key], value)

    def bias(self, key: Key) -> Tensor | None:
        """What is added after this matrix or gain, if anything."""
        part = self._bias(key)
        return None if part is None else self._read(part)

    def put_bias(self, key: Key, value: Tensor) -> None:
        """Set it."""
        part = self._bias(key)
        assert part is not None
        self._write(part, value)

    def outputs(self, change: Change, key: Key) -> None:
        """Change what a matrix gives: its rows [out, in] and its bias [out, 1]. A vector of gains counts as rows."""
        value = self.get(key).double()
        self.put(key, change(value[:, None])[:, 0] if value.ndim == 1 else change(value))
        if (bias := self.bias(key)) is not None:
            self.put_bias(key, change(bias.double()[:, None])[:, 0])

    def inputs(self, change: Change, key: Key) -> None:
        """Change what a matrix takes: its columns, as rows [in, out]."""
        self.put(key, change(self.get(key).double().T).T)

    def untie(self) -> None:
        """Give the unembedding a matrix of its own."""
        if Key("unembedding") not in self.plan.parts:
            self.tensors["embed_out.weight" if self.family == "gpt_neox" else "lm_head.weight"] = self.get(
                Key("embedding")
            ).clone()
            self.config["tie_word_embeddings"] = False
            self.plan = Weights(_Held(LanguageModel(self.config, self.tensors))).structure

    def configure(self, name: str, value: int) -> None:
        """Set ``layers`` or ``hidden`` in the configuration."""
        self.config[next(word for word in SETTINGS[name] if word in self.config)] = value

    def _bias(self, key: Key) -> Part | None:
        named = key._replace(role=f"{key.role}_bias")
        if named in self.plan.parts:
            return self.plan.parts[named]
        name = f"{self.plan.parts[key].tensor.removesuffix('weight')}bias"
        return Part(name) if name in self.tensors else None

    def _read(self, part: Part) -> Tensor:
        value = self.tensors[part.tensor]
        value = value.T if part.transposed and value.ndim == 2 else value
        return torch.cat([value[first:last] for first, last in part.rows]) if part.rows else value

    def _write(self, part: Part, value: Tensor) -> None:
        value = value.to(torch.float32)
        if part.rows:
            whole, done = self.tensors[part.tensor], 0
            whole = whole.T if part.transposed and whole.ndim == 2 else whole
            for first, last in part.rows:
                whole[first:last] = value[done : done + last - first]
                done += last - first
        else:
            value = value.T if part.transposed and value.ndim == 2 else value
            self.tensors[part.tensor] = value.contiguous()


def import_transformers() -> Any:
    """The package transformers. Raises `MissingExtra` without it."""
    if importlib.util.find_spec("transformers") is None:
        raise MissingExtra("tiny language models", "language")
    import_mended("transformers.image_utils")  # the first of its modules to import torchvision, where there is one
    return importlib.import_module("transformers")


@contextmanager
def quiet() -> Generator[Any]:
    """transformers without its warnings and progress bars, and with the global generator left as it was."""
    transformers = import_transformers()
    log = transformers.utils.logging
    before, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        with torch.random.fork_rng(devices=[]):
            yield transformers
    finally:
        log.set_verbosity(before)
        if bars:
            log.enable_progress_bar()


def opened(model: LanguageModel) -> nn.Module:
    """The module that computes a model, in float32, ready to be asked."""
    if model.adapter:
        raise UsageError("an adapter computes nothing alone; merge it first, as in lora(..., merged=true)")
    with quiet() as transformers, TemporaryDirectory() as folder:
        model.write(Path(folder))
        return transformers.AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="eager", local_files_only=True, use_safetensors=True
        ).eval()


def closed(module: nn.Module) -> LanguageModel:
    """The same as plain data, under the names that transformers writes."""
    with quiet(), TemporaryDirectory() as folder:
        module.save_pretrained(folder)  # pyright: ignore[reportCallIssue] every module of transformers has it
        return LanguageModel.read(Path(folder))


def logits(model: LanguageModel | nn.Module, tokens: Tensor) -> Tensor:
    """Scores of the next token at every place: int64 [n, length] to float32 [n, length, vocabulary]."""
    module = opened(model) if isinstance(model, LanguageModel) else model
    with torch.inference_mode():
        return module(input_ids=tokens, use_cache=False).logits


def loss(model: LanguageModel | nn.Module, tokens: Tensor) -> float:
    """Mean cross entropy of the next token, in nats."""
    scores = logits(model, tokens)
    return float(cross_entropy(scores[:, :-1].flatten(0, 1), tokens[:, 1:].flatten()))
