"""Whatever holds weights, opened by what it is: a file by its suffix, a folder by the files in it."""

from __future__ import annotations

import re
from pathlib import Path, PurePath
from typing import Any, Final

from whorl.catalog import Catalog
from whorl.checkpoints.checkpoint import Checkpoint, read_config
from whorl.checkpoints.ranks import Ranks, are_ranks
from whorl.checkpoints.readers.adapter import ADAPTER_CONFIG, Adapter
from whorl.checkpoints.readers.gguf import SHARD
from whorl.checkpoints.readers.packed import unpacked
from whorl.checkpoints.readers.torch_file import PARTED
from whorl.checkpoints.views import unwrapped
from whorl.errors import InvalidFile, UsageError
from whorl.oracles.foreign import told_lock
from whorl.storage import no_file, text_in

__all__ = ["READERS", "declared_base", "foreign", "is_adapter", "open_checkpoint", "suffix_of", "suffixes", "wholes"]

PAGE: Final = ": a page of HTML, as a failed download leaves. Fetch the file again"
TEXTS: Final = {
    "version https://git-lfs": ": a pointer of Git LFS. Fetch what it stands for: git lfs pull",
    **dict.fromkeys(("<!doctype html", "<html"), PAGE),
}
READERS: Catalog[Checkpoint] = Catalog(
    "readers",
    {  # in the order of preference
        "safetensors": "whorl.checkpoints.readers.safetensors:SafetensorsCheckpoint",
        "torch": "whorl.checkpoints.readers.torch_file:TorchCheckpoint",
        "gguf": "whorl.checkpoints.readers.gguf:GgufCheckpoint",
        "onnx": "whorl.checkpoints.readers.onnx:OnnxCheckpoint",
        "distributed": "whorl.checkpoints.readers.distributed:DistributedCheckpoint",
    },
)


_ORIGIN: Final = "give the net that it was made from"
FOREIGN: Final = {  # what is known to hold weights and is not read, and what to do
    **dict.fromkeys(
        (".jit", ".torchscript", ".ptl"), ("TorchScript", "where you trust it, save torch.jit.load(FILE).state_dict()")
    ),
    ".pt2": ("a program of torch.export", "save torch.export.load(FILE).state_dict"),
    ".pte": ("a program of ExecuTorch", _ORIGIN),
    ".tflite": ("TensorFlow Lite", "make ONNX of it: python -m tf2onnx.convert --tflite FILE --output net.onnx"),
    **dict.fromkeys(
        (".keras", ".h5", ".hdf5"), ("Keras or HDF5", "save its arrays as safetensors, or make ONNX of it")
    ),
    ".pb": ("a graph of TensorFlow", "make ONNX of it: python -m tf2onnx.convert"),
    ".msgpack": ("weights of Flax", "save its arrays as safetensors"),
    ".ot": ("weights of tch-rs", "save its tensors as safetensors"),
    ".npz": ("arrays of NumPy", "save them as safetensors"),
    **dict.fromkeys(
        (".pkl", ".pickle", ".joblib"), ("a pickle, which may run code", "have its owner save safetensors")
    ),
    ".skops": ("estimators of scikit-learn", "use whorl extract and verify, or make ONNX of a net: skl2onnx"),
    **dict.fromkeys((".pdparams", ".pdiparams", ".pdmodel"), ("Paddle", "make ONNX of it: paddle2onnx")),
    ".distcp": ("a part of a checkpoint of torch.distributed", "give its folder, which has .metadata"),
    ".mlmodel": ("Core ML", _ORIGIN),
    **dict.fromkeys((".engine", ".plan", ".trt"), ("an engine of TensorRT", _ORIGIN)),
    ".nemo": ("an archive of NeMo", "give the .ckpt in it: tar -xf FILE"),
    ".mar": ("an archive of TorchServe", "give the .pt in it: unzip FILE"),
}


OPTIMISER: Final = re.compile(r".*mp_rank_\d+_optim_states\.pt")  # of DeepSpeed, beside the weights of ZeRO 1 and 2


def suffixes() -> dict[str, Any]:
    """The reader of each suffix, the preferred ones first."""
    return {suffix: kind for kind in _kinds() for suffix in kind.suffixes}


def suffix_of(name: str) -> str | None:
    """The suffix by which a file's name is known, which may hold a dot as ``.pth.tar`` does; None for no such name."""
    return next((suffix for suffix in suffixes() if name.endswith(suffix)), None)


def foreign(name: str) -> str:
    """What a file of this name holds that is not read, and what to give; empty where nothing is known of it."""
    found = FOREIGN.get(PurePath(name).suffix.lower())
    return f"holds {found[0]}, which is not read here; {found[1]}" if found else ""


def wholes() -> dict[str, Any]:
    """The reader of each file that makes a folder one checkpoint, the preferred ones first."""
    return {name: kind for kind in _kinds() for name in kind.whole}


def _kinds() -> list[Any]:
    return [READERS[name] for name in READERS.in_order()]


def open_checkpoint(path: str | Path, *, base: str | Path | Checkpoint | None = None) -> Checkpoint:
    """The named tensors of a file or folder, none of which is read yet; packed ones are unpacked when they are.

    Parameters:
        path: a file with one of the `suffixes`, as ``.safetensors``, ``.pt``, ``.gguf``, ``.onnx``; or a folder of one
            checkpoint, in one piece or in shards. Of several formats safetensors are read first, then PyTorch's.
        base: what a PEFT adapter adapts, needed for one and refused for anything else.

    Raises:
        UsageError: nothing there, several checkpoints, an adapter without its base, or a packing that is not read.
        InvalidFile: damaged or untrue.
        MissingExtra: a package for this format is not installed.
    """
    path = Path(path)
    if is_adapter(path):
        if base is None:
            name = declared_base(path)
            told = f" of what it calls {name[:100]!r}" if name else ""
            raise UsageError(f"{path} is an adapter{told}; give the base too: --base FOLDER (base=...)")
        return Adapter(path, base if isinstance(base, Checkpoint) else open_checkpoint(base))
    if base is not None:
        raise UsageError(f"{path} is no adapter and needs no base; an adapter is a folder with {ADAPTER_CONFIG}")
    return unwrapped(unpacked(_folder(path) if path.is_dir() else _file(path)))


def _file(path: Path) -> Checkpoint:
    known = suffixes()
    if not path.exists():
        raise UsageError(no_file(path))
    if path.is_file() and (told := told_lock(path)):
        raise UsageError(f"{path} is {told}")
    if (suffix := suffix_of(path.name)) is None:
        told = foreign(path.name) or f"is not known to hold weights; the suffixes are {', '.join(known)}"
        raise UsageError(f"{path} {told}")
    return _read(known[suffix], path)


def _read(kind: Any, path: Path) -> Checkpoint:
    """What a reader makes of a path; where it fails and a file of its kind holds text, that it does."""
    try:
        return kind(path)
    except InvalidFile:
        files = (
            [path] if path.is_file() else sorted(each for each in path.iterdir() if each.name.endswith(kind.suffixes))
        )
        for file in files:
            if text := text_in(file):
                # It is not quoted: who sent a link would be told what lies behind it.
                told = next((told for start, told in TEXTS.items() if text.lower().startswith(start)), "")
                raise InvalidFile(f"{file} holds text and no weights{told}") from None
        raise


def _folder(path: Path) -> Checkpoint:
    for name, kind in wholes().items():
        if (path / name).is_file():
            return _read(kind, path)
    for suffix, kind in suffixes().items():
        found = sorted(file for file in path.glob(f"*{suffix}") if not OPTIMISER.fullmatch(file.name))
        split = {match[1] for file in found if (match := SHARD.fullmatch(file.name))}
        if found and (kind.gathers or PARTED.fullmatch(found[0].name)):
            return _read(kind, path if kind.gathers else found[0])
        if len(found) == 1 or (found and len(split) == 1 and all(SHARD.fullmatch(file.name) for file in found)):
            return _read(kind, found[0])
        if are_ranks(found):
            return Ranks(path, map(_file, found))
        if found:
            names = ", ".join(file.name for file in found[:5])
            raise UsageError(f"{path} holds {len(found)} checkpoints ({names}); give one of these files")
    found = sorted(each.name for each in path.iterdir())
    if "zero_to_fp32.py" in found:
        raise UsageError(
            f"{path} is what DeepSpeed saves to; give the folder in it that {path / 'latest'} names, or put it "
            "together where you trust it: python zero_to_fp32.py . whole"
        )
    told = f"only {', '.join(found[:5])}{' and more' if len(found) > 5 else ''}" if found else "nothing at all"
    raise UsageError(f"{path} holds no weights, {told}; the suffixes are {', '.join(suffixes())}")


def is_adapter(path: Path) -> bool:
    """Whether this is the folder of an adapter: weights that mean nothing without those of its base."""
    if not (path / ADAPTER_CONFIG).is_file():
        return False
    held = any((path / f"adapter_model{suffix}").is_file() for suffix in (".safetensors", ".bin"))
    return held or not any((path / name).is_file() for name in wholes())


def declared_base(path: Path) -> str:
    """What an adapter calls its base; empty where it says nothing."""
    name = read_config(path, ADAPTER_CONFIG).get("base_model_name_or_path")
    return name if isinstance(name, str) else ""
