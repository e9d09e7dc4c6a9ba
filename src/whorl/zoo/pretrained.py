"""Models that come from elsewhere: a net of the catalog with the weights of a safetensors file.

The file lies on this machine or on the Hugging Face hub, where timm and many authors of papers keep theirs. It may be
hostile: only tensors are read from it, never a pickle, and every name and shape must fit the architecture.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Final

import torch
from torch import Tensor, nn

from whorl.data.base import Dataset
from whorl.data.hub import TIMEOUT, asking_hub
from whorl.errors import InvalidFile, UsageError
from whorl.nets import NETS
from whorl.nets.timm import TimmNet
from whorl.nets.training import dimensions
from whorl.oracles.files import MAX_BYTES, load_weights
from whorl.settings import Named
from whorl.storage import read_tensors
from whorl.zoo.steps import NET

__all__ = ["Pretrained", "check_checkpoint", "load_pretrained"]

SUFFIX: Final = ".safetensors"
_HUB: Final = re.compile(
    r"hub:(?P<name>[\w.-]+/[\w.-]+)(?:/(?P<file>[\w./+-]+))?(?:@(?P<revision>[\w./-]+))?", re.ASCII
)


@dataclass(frozen=True, kw_only=True)
class Pretrained:
    """The first step of a recipe for a model that is downloaded.

    ``architecture`` is an expression of `NETS`; ``checkpoint`` is ``hub:OWNER/NAME``, its ``model.safetensors`` or the
    file named after it, as in ``hub:OWNER/NAME/file.safetensors@REVISION``, or the path of a file. Where it is empty,
    a net of timm takes the weights that timm names for it. ``data`` is the task: what it is tested on and attacked
    with. The digest covers these words, not the content: give the hub's REVISION where it must not change.
    """

    gives: ClassVar[str] = NET

    architecture: Annotated[str, Named(("whorl.nets:NETS", "whorl.nets:ESTIMATORS"), "architecture")]
    checkpoint: str = ""
    data: Annotated[str, Named(("whorl.data:SOURCES",), "task")]


def check_checkpoint(checkpoint: str, architecture: str) -> None:
    """Raise `UsageError` unless ``checkpoint`` may name weights of ``architecture``."""
    if not checkpoint:
        if not architecture.startswith("timm("):
            raise UsageError(
                f'pretrained: {architecture} has no checkpoint of its own; give one, as in "hub:OWNER/NAME" or '
                '"weights.safetensors"'
            )
        return
    file = checkpoint
    if checkpoint.startswith("hub:"):
        match = _HUB.fullmatch(checkpoint)
        file = "" if match is None else match["file"] or f"model{SUFFIX}"
        if match is None or ".." in file.split("/"):
            raise UsageError(
                f'pretrained: {checkpoint!r} does not name a checkpoint; give one as in "hub:OWNER/NAME", '
                f'"hub:OWNER/NAME/file{SUFFIX}@REVISION" or "weights{SUFFIX}"'
            )
    if not file.endswith(SUFFIX):
        raise UsageError(
            f"pretrained: {checkpoint!r} is no {SUFFIX} file, and no other is loaded. Where you trust it, convert it: "
            f"safetensors.torch.save_file(model.state_dict(), 'weights{SUFFIX}')"
        )


def load_pretrained(step: Pretrained, data: Dataset, *, max_bytes: int = MAX_BYTES) -> nn.Module:
    """The net of a step, in evaluation mode on the CPU, for the pictures and classes of ``data``.

    Raises:
        UsageError: no such file, repository or architecture.
        InvalidFile: not safetensors, larger than ``max_bytes``, not finite, or weights of another architecture.
        WhorlError: the hub can't be reached.
        MissingExtra: without timm or huggingface_hub, where they are needed.
    """
    shape, classes = dimensions(step.architecture, data)
    with torch.device("meta"):
        net = NETS.make(step.architecture, input_shape=shape, classes=classes)
    checkpoint = step.checkpoint
    if not checkpoint:
        assert isinstance(net, TimmNet)
        checkpoint = f"hub:{net.repository}"
    path = _fetched(checkpoint, max_bytes) if checkpoint.startswith("hub:") else Path(checkpoint)
    weights, _ = read_tensors(path, max_bytes=max_bytes)
    if broken := [name for name, value in weights.items() if not value.float().isfinite().all()]:
        raise InvalidFile(f"{checkpoint} holds NaN or an infinity in {broken[0]!r}; get its weights anew")
    if isinstance(net, TimmNet) and not weights.keys() <= net.state_dict().keys():
        weights = net.own_weights(weights)
    net.to_empty(device="cpu")
    load_weights(net, _with_counts(weights, net), checkpoint)
    return net.eval()


def _with_counts(weights: dict[str, Tensor], net: nn.Module) -> dict[str, Tensor]:
    """Old files lack the number of batches that each norm has seen, which no answer depends on."""
    counts = {name: value for name, value in net.state_dict().items() if name.endswith(".num_batches_tracked")}
    return {name: torch.zeros_like(value) for name, value in counts.items()} | weights


def _fetched(checkpoint: str, max_bytes: int) -> Path:
    """The local path, in the hub's own cache, of a file ``hub:OWNER/NAME/FILE@REVISION``."""
    match = _HUB.fullmatch(checkpoint)
    assert match is not None
    name, file, revision = match["name"], match["file"] or f"model{SUFFIX}", match["revision"]
    otherwise = f"fetch {file} elsewhere and give its path as checkpoint"
    with asking_hub(name, "model", example='"hub:timm/resnet50.tv_in1k"', otherwise=otherwise) as api:
        info = api.model_info(name, revision=revision, timeout=TIMEOUT, files_metadata=True)
        sizes = {each.rfilename: each.size or 0 for each in info.siblings or []}
        if file not in sizes:
            held = ", ".join(sorted(each for each in sizes if each.endswith(SUFFIX))[:5]) or f"no {SUFFIX} file"
            raise UsageError(f"the hub's {name} has no file {file}; it has {held}")
        if sizes[file] > max_bytes:
            raise InvalidFile(f"{file} of the hub's {name} has {sizes[file]:,} bytes; at most {max_bytes:,} are read")
        return Path(api.hf_hub_download(name, file, revision=info.sha))
