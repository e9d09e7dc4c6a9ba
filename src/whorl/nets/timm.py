"""The architectures of timm, as nets that take pictures in [0, 1] of any size.

Source: R. Wightman, *PyTorch Image Models*, doi 10.5281/zenodo.4414861. Nothing is downloaded here: a net is made with
fresh weights, and `whorl.zoo.pretrained` puts those of a safetensors file into it.
"""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import Tensor, fx, nn
from torch.nn.functional import interpolate, relu

from whorl.errors import MissingExtra, UsageError
from whorl.nets.base import Classifier, HiddenUnits

__all__ = ["TimmNet", "import_mended", "import_timm", "make_timm"]

NAME: Final = re.compile(r"\w+(\.\w+)?", re.ASCII)  # hf-hub: and local-dir: names would fetch or read files
# What keeps channels apart and commutes with scaling one by a positive number.
PASSED: Final = (nn.ReLU, nn.Identity, nn.Dropout, nn.AvgPool2d, nn.MaxPool2d)
_libraries: list[torch.library.Library] = []  # operators vanish with the object that declared them


class TimmNet(Classifier):
    """The timm architecture ``name``, as in ``resnet50`` or, with the tag of its weights, ``resnet50.tv_in1k``.

    Pictures are resized bicubically, with antialiasing, to the size that timm names for these weights. Mean and
    spread are of the pictures that it was trained on: timm's own for timm's weights (`own_weights`).

    Raises `UsageError` for a name that timm does not know or an architecture that ends in no linear classifier or keeps
    tables outside of its weights, `MissingExtra` without timm.
    """

    def __init__(self, input_shape: tuple[int, int, int], classes: int, *, name: str) -> None:
        super().__init__(input_shape, classes)
        body: Any = make_timm(name, channels=input_shape[0], classes=classes)
        last = body.get_classifier()
        if not isinstance(last, nn.Linear | nn.Conv2d) or last.weight[0].numel() != last.weight.shape[1]:
            raise UsageError(f"timm's {name} ends in {type(last).__name__}; a linear classifier is needed")
        body.reset_classifier(0)
        if unsaved := sorted({key for key, _ in body.named_buffers()} - body.state_dict().keys()):
            raise UsageError(f"timm's {name} keeps {unsaved[0]} outside of its weights, so no file could hold it whole")
        self.configuration: Mapping[str, Any] = dict(body.pretrained_cfg)
        self.size: tuple[int, int] = tuple(self.configuration["input_size"][1:])
        self.body = body
        self.head = nn.Linear(last.weight.shape[1], classes)

    def embed(self, normalised: Tensor) -> Tensor:
        """What the classifier reads, of pictures resized to ``size``."""
        if self.input_shape[1:] != self.size:
            normalised = interpolate(normalised, self.size, mode="bicubic", antialias=True)
        return self.body(normalised)

    def hidden_units(self) -> list[HiddenUnits]:
        """Filters that one convolution makes and one reads, with norms, ReLU and pooling alone between them.

        Raises `UsageError` where there are none, as in transformers.
        """
        layers = dict(self.body.named_modules())
        try:
            nodes = list(_Tracer().trace(self.body).nodes)
        except Exception:  # whatever an architecture does with a picture that is not there
            nodes = []
        found = [units for node in nodes if (units := _units(node, layers)) is not None]
        if not found:
            raise UsageError(
                f"in {self.configuration['architecture']} no filters are found that one layer makes and one reads "
                "through ReLU; choose another removal or victim"
            )
        return found

    def own_weights(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """timm's names for weights as the names that this net has for them, with timm's mean and spread."""
        classifier = f"{self.configuration['classifier']}."
        own = {f"body.{name}": value for name, value in weights.items() if not name.startswith(classifier)}
        for name, value in weights.items():
            if name.startswith(classifier):  # where it is a convolution of 1 x 1, its weight is [classes, d, 1, 1]
                own[f"head.{name.removeprefix(classifier)}"] = value.flatten(1) if value.ndim == 4 else value
        for name in ("mean", "std"):
            own[name] = torch.tensor(self.configuration[name]).view(-1, 1, 1)
        return own

    @property
    def repository(self) -> str:
        """Where the hub keeps these weights, as in ``timm/resnet50.tv_in1k``."""
        named = "{architecture}.{tag}".format_map(self.configuration)
        return str(self.configuration.get("hf_hub_id") or f"timm/{named}")


def make_timm(name: str, *, channels: int, classes: int) -> nn.Module:
    """The module that timm makes of ``name``, with fresh weights. Raises as `TimmNet` does."""
    if not NAME.fullmatch(str(name)):
        raise UsageError(f"timm:{name} is not the name of a timm architecture, such as resnet18")
    timm = import_timm()
    try:
        return timm.create_model(name, pretrained=False, num_classes=classes, in_chans=channels)
    except Exception as error:  # each of a thousand architectures has its own
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UsageError(f"timm can't make {name}: {reason[:200]}") from None


def import_timm() -> Any:
    """The package timm, as `import_mended` brings it. Raises `MissingExtra` without timm."""
    try:
        return import_mended("timm")
    except ImportError:
        raise MissingExtra("timm's architectures", "hub") from None


def import_mended(name: str) -> Any:
    """A module, also where it imports a torchvision that was built for another PyTorch than the one installed.

    Such a torchvision can't load its compiled operators and stops at declaring the shapes of two of them. They are
    declared here, without any code behind them; no architecture of timm and no language model asks them.
    """
    try:
        return importlib.import_module(name)
    except RuntimeError as error:
        if "torchvision::nms does not exist" not in str(error):
            raise
    library = torch.library.Library("torchvision", "FRAGMENT")
    for operator in ("nms", "qnms"):
        library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _libraries.append(library)
    for half in [half for half in sys.modules if half.partition(".")[0] in (name.partition(".")[0], "torchvision")]:
        del sys.modules[half]  # half imported
    return importlib.import_module(name)


class _Tracer(fx.Tracer):
    """Does not look into layers, whose subclasses in timm add activations and padding."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        known = isinstance(m, nn.Conv2d | nn.Linear | nn.BatchNorm2d)
        return known or super().is_leaf_module(m, module_qualified_name)


def _units(node: fx.Node, layers: Mapping[str, nn.Module]) -> HiddenUnits | None:
    """The units that a node of the graph makes, if a single layer reads them."""
    producer = _layer(node, layers)
    if not _mixes(producer):
        return None
    carriers: list[nn.BatchNorm2d | nn.Conv2d] = []
    while len(node.users) == 1:
        (node,) = node.users
        layer = _layer(node, layers)
        if _mixes(layer):
            return HiddenUnits(producer, tuple(carriers), layer) if type(layer) is type(producer) else None  # pyright: ignore[reportArgumentType] told by _mixes
        if isinstance(layer, nn.BatchNorm2d | nn.Conv2d) and _carries(layer):
            carriers.append(layer)
        elif not isinstance(layer, PASSED):
            return None
    return None


def _layer(node: fx.Node, layers: Mapping[str, nn.Module]) -> nn.Module | None:
    if node.op == "call_module":
        return layers[str(node.target)]
    return nn.ReLU() if node.target in (relu, torch.relu, "relu") else None


def _mixes(layer: nn.Module | None) -> bool:
    return isinstance(layer, nn.Linear) or (isinstance(layer, nn.Conv2d) and layer.groups == 1)


def _carries(layer: nn.BatchNorm2d | nn.Conv2d) -> bool:
    """Whether a layer acts channel by channel, and so does what timm's norms do after themselves."""
    if isinstance(layer, nn.Conv2d):
        return layer.groups == layer.in_channels == layer.out_channels
    return all(isinstance(part, PASSED) for part in layer.children())
