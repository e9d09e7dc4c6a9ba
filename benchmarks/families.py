"""A folder of families whose making is known: a base, eight nets made of its weights, and one that took a part.

Three kinds of nets by turns: a llama on synthetic text, a VGG and a perceptron on digits. Of each base, whose seed is
its own: a tune, a LoRA tune that is merged, a pruned tune (weights or units, by turns), a quantised LoRA tune, the
base with its units in another order (in the llama heads, axes and values too), a tune on other data whose tensors
have other names, the mean of the first two tunes, a stranger that holds a third of the base's matrices, and the first
tune as ONNX.

Each file says by its name what it is, as in ``007-quantised.safetensors``; nothing that is measured looks at names.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Final

import onnx
import torch
from lineage_vision import DATA, grafted, made_of, trained
from onnx import helper, numpy_helper
from safetensors.torch import load_file, save_file
from torch import Tensor

from whorl.data import SOURCES
from whorl.zoo import steps
from whorl.zoo.cache import Zoo
from whorl.zoo.recipe import parse_recipe

__all__ = ["DERIVED", "KINDS", "PART", "SOURCES_OF", "make"]

FIRST_SEED: Final = 9000  # of bases; no threshold was chosen on these
KINDS: Final = ("llama", "vgg(width=16)", "mlp(width=48,depth=3)")
SOURCES_OF: Final[Mapping[str, tuple[str, ...]]] = {
    "tune": ("base",),
    "lora": ("base",),
    "pruned": ("tune",),
    "quantised": ("lora",),
    "permuted": ("base",),
    "renamed": ("base",),
    "merged": ("tune", "lora"),
    "part": ("base",),
    "onnx": ("tune",),
}
"""What each was made of. All of a family go back to its base; ``part`` does so in a part alone."""
PART: Final = "part"
DERIVED: Final = tuple(name for name in SOURCES_OF if name != PART)
LANGUAGE: Final = {
    "base": "",
    "tune": " -> tune(steps=60)",
    "lora": " -> lora(steps=60)",
    "quantised": " -> lora(steps=60) -> quantise(bits=4)",
    "permuted": " -> permute_neurons -> permute_heads -> permute_residual",
    "renamed": " -> tune(corpus(seed=2), steps=60)",
    "merged": ' -> tune(steps=60) -> merge("base -> lora(steps=60)")',
}
PRUNED: Final = ("prune_weights(1/2)", "prune_width(1/4)")
VISION: Final = {
    "tune": "fine_tune(all)",
    "lora": "lora(rank=4)",
    "permuted": "shuffle",
}


def make(place: Path, cache: Path, families: int) -> None:
    """Write so many families of ten files each into ``place``; those that are there stay. ``cache`` keeps recipes."""
    place.mkdir(parents=True, exist_ok=True)
    for number in range(families):
        kind = KINDS[number % len(KINDS)]
        if not (place / f"{number:03d}-onnx.onnx").is_file():
            tensors = _language(number, cache) if kind == "llama" else _vision(kind, number)
            for name, held in tensors.items():
                _write(place, f"{number:03d}-{name}", held)


def _write(place: Path, name: str, tensors: dict[str, Tensor]) -> None:
    if name.endswith("onnx"):
        onnx.save(_graph(tensors), str(place / f"{name}.onnx"))
        return
    whole = {key: value.contiguous().clone() for key, value in tensors.items()}
    save_file(whole, place / f"{name}.safetensors")


def _language(number: int, cache: Path) -> dict[str, dict[str, Tensor]]:
    base = f"pretrain(llama, steps=150, seed={FIRST_SEED + number})"
    stranger = f"pretrain(llama, steps=60, seed={FIRST_SEED + 500 + number})"
    recipes = {name: base + steps for name, steps in LANGUAGE.items()}
    recipes["pruned"] = f"{base}{LANGUAGE['tune']} -> {PRUNED[number // len(KINDS) % 2]}"
    recipes["part"] = stranger
    paths = Zoo(cache).build([parse_recipe(text, kind=steps.LANGUAGE) for text in recipes.values()], workers=1)
    held = {name: load_file(path / "model.safetensors") for name, path in zip(recipes, paths, strict=True)}
    layer = {key: value for key, value in held["base"].items() if ".layers.0." in key}
    held["part"] |= layer
    held["renamed"] = _renamed(held["renamed"])
    held["onnx"] = held["tune"]
    return held


def _vision(kind: str, number: int) -> dict[str, dict[str, Tensor]]:
    source = SOURCES.make(DATA)
    data = {part: source.load(part) for part in ("victim", "attacker", "calibration", "test")}
    seed = FIRST_SEED + number
    base, stranger = (trained(kind, data["victim"], each) for each in (seed, seed + 500))

    def after(net: torch.nn.Module, steps: str, chance: int, pictures: str = "attacker") -> torch.nn.Module:
        return made_of(net, steps, stranger, data | {"attacker": data[pictures]}, seed=chance)

    nets = {"base": base} | {name: after(base, step, seed) for name, step in VISION.items()}
    pruning = ("prune_weights(1/2)", "prune_filters(1/4)")[number // len(KINDS) % 2]
    nets["pruned"] = after(nets["tune"], pruning, seed)
    nets["quantised"] = after(nets["lora"], "quantise(int4)", seed)
    nets["renamed"] = after(base, "fine_tune(all)", seed + 1, "calibration")
    nets["merged"] = deepcopy(nets["tune"])
    other = nets["lora"].state_dict()
    mean = {k: v.lerp(other[k], 0.5) if v.is_floating_point() else v for k, v in nets["tune"].state_dict().items()}
    nets["merged"].load_state_dict(mean)
    nets["part"] = grafted(base, stranger)
    held = {name: dict(net.state_dict()) for name, net in nets.items()}
    held["renamed"] = _renamed(held["renamed"])
    held["onnx"] = held["tune"]
    return held


def _renamed(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Other names in the same order, of which none says what the tensor is for."""
    return {f"block.{place:03d}.p": value for place, value in enumerate(tensors.values())}


def _graph(tensors: dict[str, Tensor]) -> onnx.ModelProto:
    """A graph that multiplies by every matrix and convolves with every kernel, under names such as exporters give."""
    nodes, held = [], []
    for place, value in enumerate(each.float() for each in tensors.values() if each.is_floating_point()):
        name = f"onnx::W_{place}"
        if value.ndim == 2:
            nodes.append(helper.make_node("MatMul", [f"x{place}", name], [f"y{place}"]))
            value = value.T.contiguous()
        elif value.ndim == 4:
            nodes.append(helper.make_node("Conv", [f"x{place}", name], [f"y{place}"]))
        else:
            nodes.append(helper.make_node("Add", [f"x{place}", name], [f"y{place}"]))
        held.append(numpy_helper.from_array(value.numpy(), name))
    places = range(len(held))
    inputs = [helper.make_tensor_value_info(f"x{place}", onnx.TensorProto.FLOAT, None) for place in places]
    outputs = [helper.make_tensor_value_info(f"y{place}", onnx.TensorProto.FLOAT, None) for place in places]
    return helper.make_model(helper.make_graph(nodes, "net", inputs, outputs, held))


if __name__ == "__main__":
    import sys

    torch.set_num_threads(1)
    make(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
