"""Weights and architectures from files and names, without running what a file says."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Final

import torch
from torch import Tensor, nn

from whorl.errors import InvalidFile, UsageError
from whorl.expressions import parse
from whorl.nets import NETS
from whorl.nets.base import refuse_huge
from whorl.nets.own import current_folder
from whorl.nets.timm import make_timm
from whorl.oracles.archives import read_archive
from whorl.oracles.foreign import TO_ONNX, told_format
from whorl.oracles.pickles import Foreign, Unread
from whorl.storage import check_size, not_whole, one_line, read_tensors

__all__ = ["CODE", "WEIGHT_SUFFIXES", "call_code", "load_architecture", "load_weights", "map_weights", "read_weights"]

MAX_BYTES: Final = 4 << 30
WEIGHT_SUFFIXES: Final = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")
PATH: Final = re.compile(r"(?:.*[/\\])?(?P<stem>\w+)(?:\.py)?(?::(?P<name>[\w.]*))?")  # of a file of code
CODE: Final = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*(\(.*\))?")
NESTED: Final = (
    "state_dict",
    "model_state_dict",
    "model",
    "module",
    "params_ema",
    "params",
)  # where training loops put the weights in a checkpoint


MODULE: Final = {"_parameters", "_modules"}  # what every pickled `torch.nn.Module` holds of itself


def read_weights(path: str | Path, *, max_bytes: int = MAX_BYTES) -> dict[str, Tensor]:
    """Named tensors of a ``.safetensors`` file, or of a state dict in ``.pt``, ``.pth``, ``.bin`` or ``.ckpt``.

    Raises:
        UsageError: no such file, or a suffix that is not known.
        InvalidFile: damaged, too large, or pickled code, which is never run.
    """
    path = Path(path)
    if path.suffix.lower() == ".safetensors":
        return read_tensors(path, max_bytes=max_bytes)[0]
    if path.suffix.lower() not in WEIGHT_SUFFIXES:
        raise UsageError(f"{path} is not known to hold weights; the suffixes are {', '.join(WEIGHT_SUFFIXES)}")
    return _owned(map_weights(path, max_bytes=max_bytes), path, max_bytes)


def map_weights(path: Path, *, max_bytes: int) -> Mapping[str, Tensor]:
    """Dense tensors of a PyTorch state dict, which stay on disk until they are used: copy what you keep.

    Read as data by `whorl.oracles.archives`; PyTorch's own loader is not asked. A tensor may repeat a few bytes into
    terabytes, or share them with others. A file of the format before PyTorch 1.6 may have to be copied into memory,
    and is read up to 4 GiB.

    Raises:
        UsageError: no such file.
        InvalidFile: damaged, too large, or pickled code, which is never run.
    """
    check_size(path, max_bytes)
    if told := told_format(path):
        raise InvalidFile(f"{path} is {told}")
    try:
        content = read_archive(path)
    except UnpicklingError as error:
        raise _pickled(path, one_line(error, 100)) from None
    except Unread as error:
        raise InvalidFile(f"{path} holds {one_line(error)}") from None
    except Exception as error:  # a damaged pickle makes reading end in anything
        raise not_whole(path, "PyTorch file", error) from None
    return _state_dict(content, path)


def _state_dict(content: Any, path: Path) -> Mapping[str, Tensor]:
    """The mapping from names to tensors, looked for one level down as well: by its usual names, or as the only one."""
    if _is_state_dict(content):
        return content
    held = {str(key): value for key, value in content.items()} if isinstance(content, Mapping) else {}
    states = {key: value for key, value in held.items() if _is_state_dict(value)}
    if usual := next((key for key in NESTED if key in states), next(iter(states)) if len(states) == 1 else ""):
        return states[usual]
    if not states and (foreign := _foreign(content)):
        made = one_line(ValueError(foreign.path), 100)
        if isinstance(foreign.state, Mapping) and MODULE <= foreign.state.keys():
            raise InvalidFile(
                f"{path} holds a whole module ({made}), which is code and is not run. Where you trust it, load it with "
                f"torch.load({path.name!r}, weights_only=False) and export it to ONNX ({TO_ONNX}), or save its weights "
                "alone: safetensors.torch.save_file(model.state_dict(), 'model.safetensors')"
            )
        raise _pickled(path, f"made by {made}")
    if states:
        told = f"holds several state dicts ({_told(states)}); keep one in a file of its own"
        key = next(iter(states))
    else:
        told = f"holds no state dict{f', but {_told(held)}' if held else ''}; save one"
        key = ""
    line = f"torch.save(torch.load(path)[{key[:60]!r}], new)" if key else "torch.save(model.state_dict(), path)"
    raise InvalidFile(f"{path} {told}: {line}")


def _pickled(path: Path, what: str) -> InvalidFile:
    return InvalidFile(
        f"{path} holds pickled code or objects ({what}), which are not loaded. Where you trust it, "
        "convert it: safetensors.torch.save_file(model.state_dict(), 'model.safetensors')"
    )


def _foreign(content: Any, depth: int = 2) -> Foreign | None:
    """The first object of a foreign class, looked for where a state dict would lie or would have it."""
    if isinstance(content, Foreign):
        return content
    below = content.values() if depth and isinstance(content, Mapping) else ()
    return next((found for value in below if (found := _foreign(value, depth - 1))), None)


def _is_state_dict(content: Any) -> bool:
    return (
        isinstance(content, Mapping)
        and bool(content)
        and all(isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items())
    )


def _told(names: Iterable[str]) -> str:
    first = [repr(name[:40]) for name in islice(names, 6)]
    return ", ".join(first[:5]) + (" and more" if len(first) > 5 else "")


def _owned(tensors: Mapping[str, Tensor], path: Path, max_bytes: int) -> dict[str, Tensor]:
    """Dense copies: a tensor in the file may repeat a few bytes into terabytes, or share them with others."""
    size = sum(value.numel() * value.element_size() for value in tensors.values())
    if size > max_bytes:
        raise InvalidFile(f"{path} unpacks to {size:,} bytes of tensors; at most {max_bytes:,} are read")
    return {name: value.detach().clone(memory_format=torch.contiguous_format) for name, value in tensors.items()}


def load_weights(module: nn.Module, weights: Mapping[str, Tensor], source: str) -> None:
    """Put ``weights`` into ``module``; every name and shape must fit.

    Words that lead all names and none of the module's are left out: wrappers put them there, as ``module.`` for data
    in parallel and ``_orig_mod.`` for compiled nets, and so does a training loop that is a module around the net.

    Raises:
        InvalidFile: names the first keys that are missing, unexpected or of another shape.
    """
    own = module.state_dict()
    while (leading := _leading(weights)) and not any(name.startswith(leading) for name in own):
        weights = {name.removeprefix(leading): value for name, value in weights.items()}
    shapes = [
        f"{name} {list(weights[name].shape)} instead of {list(value.shape)}"
        for name, value in own.items()
        if name in weights and weights[name].shape != value.shape
    ]
    problems = {
        "missing": [name for name in own if name not in weights],
        "unexpected": [name for name in weights if name not in own],
        "mis-shaped": shapes,
    }
    if any(problems.values()):
        told = "; ".join(_first(problem, names) for problem, names in problems.items() if names)
        raise InvalidFile(f"{source} does not fit the architecture: {told}. Mend architecture, input shape or classes")
    module.load_state_dict(dict(weights), strict=True)


def _leading(names: Iterable[str]) -> str:
    """The word, with its dot, that leads all names; empty where none does."""
    names = list(names)
    first = f"{names[0].partition('.')[0]}." if names else ""
    return first if all(name.startswith(first) for name in names) else ""


def _first(problem: str, names: list[str]) -> str:
    rest = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{problem} " + ", ".join(one_line(ValueError(name), 100) for name in names[:3]) + rest


def load_architecture(text: str, *, trust_code: bool, input_shape: tuple[int, int, int], classes: int) -> nn.Module:
    """A module with fresh weights.

    Parameters:
        text: one of `whorl.nets.NETS` as in ``resnet8(width=16)``; ``timm:NAME``; or ``module:callable`` as in
            ``my_nets:small(width=8)``, which runs that code. It is handed ``input_shape`` and ``classes`` where it
            has parameters of these names.

    Raises:
        UsageError: no such architecture, wrong parameters, or code without ``trust_code``.
        MissingExtra: ``timm:NAME`` without timm.
    """
    if text.startswith("timm:"):
        return make_timm(text.removeprefix("timm:"), channels=input_shape[0], classes=classes)
    if CODE.fullmatch(text):
        module = call_code(text, trust_code=trust_code, input_shape=input_shape, classes=classes)
        if not isinstance(module, nn.Module):
            raise UsageError(f"{text} gave a {type(module).__name__}; a torch.nn.Module is needed")
        return module
    path = PATH.fullmatch(text)
    if path and ("/" in text or "\\" in text or ".py" in text):
        raise UsageError(
            f"{text} is a path, and code is named by its module: go to the folder of {path['stem']}.py and give "
            f"{path['stem']}:{path['name'] or 'NAME'}"
        )
    call = NETS.bind(text)
    try:
        refuse_huge(text, input_shape=input_shape, classes=classes)
        return NETS.make(call, input_shape=input_shape, classes=classes)
    except (TypeError, ValueError, RuntimeError, ArithmeticError) as error:
        if isinstance(error, UsageError):
            raise
        raise UsageError(f"{text} can't be built for inputs {list(input_shape)}: {one_line(error)}") from None


def call_code(text: str, *, trust_code: bool, **offered: Any) -> Any:
    """What ``module:callable`` or ``module:callable(key=value)`` returns.

    The module is looked for in the current folder too. The callable is handed those of ``offered`` that it has
    parameters for.

    Raises:
        UsageError: ``trust_code`` is false, there is no such callable, or it fails.
    """
    if not trust_code:
        raise UsageError(f"{text} is code, and code is run for a model only with --trust-code (trust_code=True)")
    place, _, expression = text.partition(":")
    call = parse(expression)
    try:
        with current_folder():
            function: Any = importlib.import_module(place)
            for attribute in call.name.split("."):
                function = getattr(function, attribute)
        wanted = inspect.signature(function).parameters
        keywords = {key: value for key, value in offered.items() if key in wanted} | dict(call.kwargs)
        return function(*call.args, **keywords)
    except Exception as error:  # trusted code may fail in any way
        raise UsageError(f"{text} failed: {type(error).__name__}: {one_line(error)}") from error
