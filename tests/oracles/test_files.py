"""Weights and architectures load without running what a file says."""

import os
import pickle
import sys
import zipfile
from collections import OrderedDict, defaultdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from whorl.errors import InvalidFile, UsageError
from whorl.oracles.files import load_architecture, load_weights, read_weights
from whorl.oracles.opening import open_oracle
from whorl.types import Access


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3))


def one_line(error: pytest.ExceptionInfo[BaseException]) -> None:
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 700


# Weights


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".pth", ".bin"])
@pytest.mark.parametrize("nesting", ["", "state_dict", "model"])
def test_state_dicts(tmp_path: Path, suffix: str, nesting: str) -> None:
    weights = net().state_dict()
    path = tmp_path / f"net{suffix}"
    if suffix == ".safetensors":
        save_file(weights, path)
    else:
        torch.save({"epoch": 3, nesting: weights} if nesting else weights, path)
    found = read_weights(path)
    assert found.keys() == weights.keys()
    assert all(torch.equal(found[name], value) for name, value in weights.items())


def test_the_old_format_of_torch_save(tmp_path: Path) -> None:
    weights = OrderedDict(w=torch.arange(3.0))
    torch.save(weights, tmp_path / "x.pt", _use_new_zipfile_serialization=False)
    assert torch.equal(read_weights(tmp_path / "x.pt")["w"], weights["w"])


class Malicious:
    """Unpickling it makes a file."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.witness}",)


@pytest.mark.parametrize("zipped", [True, False])
def test_pickled_code_is_not_run(tmp_path: Path, zipped: bool) -> None:
    witness = tmp_path / "owned"
    path = tmp_path / "x.pt"
    torch.save({"w": torch.ones(1), "x": Malicious(witness)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(InvalidFile, match=r"pickled code.*safetensors\.torch\.save_file") as error:
        read_weights(path)
    one_line(error)
    assert not witness.exists()
    torch.load(path, weights_only=False)
    assert witness.exists()  # the file was dangerous indeed


def test_plain_pickles_and_whole_modules_are_not_run(tmp_path: Path) -> None:
    witness = tmp_path / "owned"
    (tmp_path / "a.pt").write_bytes(pickle.dumps(Malicious(witness), protocol=2))
    torch.save(net(), tmp_path / "b.pt")
    for name in ("a.pt", "b.pt"):
        with pytest.raises(InvalidFile):
            read_weights(tmp_path / name)
    assert not witness.exists()


def test_damaged_and_strange_files(tmp_path: Path) -> None:
    torch.save(net().state_dict(), tmp_path / "whole.pt")
    whole = (tmp_path / "whole.pt").read_bytes()
    contents = {
        "empty.pt": b"",
        "half.pt": whole[: len(whole) // 2],
        "text.pt": b"PK\x03\x04 and nothing",
        "noise.bin": bytes(range(256)) * 4,
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InvalidFile) as error:
            read_weights(tmp_path / name)
        one_line(error)
    for name, value in {"list": [torch.ones(1)], "none": {}, "numbers": {"w": 1.5}, "keys": {1: torch.ones(1)}}.items():
        torch.save(value, tmp_path / f"{name}.pt")
        with pytest.raises(InvalidFile, match="holds no state dict"):
            read_weights(tmp_path / f"{name}.pt")


def test_a_state_dict_is_found_under_any_one_name_and_several_are_named(tmp_path: Path) -> None:
    state, other = {"w": torch.ones(2)}, {"w": torch.zeros(2)}
    torch.save(
        {"step": 3, "model_state": state, "optimizer_state": {"state": {}, "param_groups": []}}, tmp_path / "a.pt"
    )
    assert torch.equal(read_weights(tmp_path / "a.pt")["w"], state["w"])
    torch.save({"teacher": other, "model": state}, tmp_path / "b.pt")
    assert torch.equal(read_weights(tmp_path / "b.pt")["w"], state["w"])
    torch.save({"teacher": other, "student": state}, tmp_path / "c.pt")
    with pytest.raises(InvalidFile, match=r"several state dicts \('teacher', 'student'\).*\['teacher'\]"):
        read_weights(tmp_path / "c.pt")
    torch.save({"step": 3, "loss": 0.5}, tmp_path / "d.pt")
    with pytest.raises(InvalidFile, match="but 'step', 'loss'"):
        read_weights(tmp_path / "d.pt")


class Settings(dict[str, Any]):
    """What a training loop keeps its settings in."""


def training_loop() -> dict[str, Any]:
    """What Lightning saves: weights below a word, and objects of other classes beside them."""
    model, rate = net(), partial(torch.optim.Adam, lr=0.1)
    optimiser = rate(model.parameters())
    model.eval()(torch.ones(1, 12)).sum().backward()
    optimiser.step()
    settings = Settings(lr=0.1, out=Path("runs"), made=datetime(2024, 1, 1, tzinfo=UTC), mode=Access.LABELS, rate=rate)
    best = {"best": np.float64(0.5), "seen": np.arange(3), "kept": frozenset({1}), "by": defaultdict(dict, a={})}
    return {
        "epoch": 1,
        "pytorch-lightning_version": "2.4.0",
        "state_dict": {f"model.{name}": value for name, value in model.state_dict().items()},
        "optimizer_states": [optimiser.state_dict()],
        "lr_schedulers": [],
        "callbacks": {"ModelCheckpoint{'monitor': None}": best, nn.Linear: {(1, 2): nn.Linear(2, 2)}},
        "hyper_parameters": settings,
    }


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("protocol", [2, 4])
def test_objects_beside_the_weights_are_passed_over(tmp_path: Path, zipped: bool, protocol: int) -> None:
    saved, witness = training_loop(), tmp_path / "owned"
    saved["callbacks"]["hostile"] = [Malicious(witness)]
    path = tmp_path / "last.ckpt"
    torch.save(saved, path, _use_new_zipfile_serialization=zipped, pickle_protocol=protocol)
    found = read_weights(path)
    assert found.keys() == saved["state_dict"].keys()
    assert all(torch.equal(found[name], value) for name, value in saved["state_dict"].items())
    assert not witness.exists()
    load_weights(net(), found, str(path))


def test_objects_in_the_place_of_weights_are_named(tmp_path: Path) -> None:
    torch.save({"epoch": 1, "model": {"w": torch.ones(1), "x": Settings()}}, tmp_path / "a.ckpt")
    with pytest.raises(InvalidFile, match=r"pickled code or objects \(made by \w*test_files") as error:
        read_weights(tmp_path / "a.ckpt")
    one_line(error)


@pytest.mark.parametrize("inside", [False, True])
def test_a_whole_module_is_called_one_also_where_no_architecture_is_given(tmp_path: Path, inside: bool) -> None:
    path = tmp_path / "x.pt"
    torch.save({"epoch": 1, "model": net()} if inside else net(), path)
    for read in (read_weights, open_oracle):
        with pytest.raises(
            InvalidFile, match=r"whole module \(torch\.nn\..*weights_only=False.*onnx.*save_file"
        ) as error:
            read(path)
        one_line(error)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("kind", [nn.Linear, nn.LSTM, nn.LSTMCell, nn.Embedding])
def test_quantised_layers_are_named(tmp_path: Path, kind: type[nn.Module]) -> None:
    ways: Any = torch.ao.quantization
    how = ways.float_qparams_weight_only_qconfig if kind is nn.Embedding else ways.default_dynamic_qconfig
    made = ways.quantize_dynamic(nn.Sequential(kind(8, 8)), {kind: how})
    torch.save(made.state_dict(), tmp_path / "x.pt")
    with pytest.raises(InvalidFile, match=r"holds (a quantised tensor|layers that torch\.ao).*or export it to ONNX"):
        read_weights(tmp_path / "x.pt")


def test_tensors_that_unpack_to_more_than_the_file(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(1).expand(1 << 20, 1 << 20)}, tmp_path / "x.pt")
    with pytest.raises(InvalidFile, match=r"unpacks to 4,398,046,511,104 bytes"):
        read_weights(tmp_path / "x.pt")
    torch.save({"w": torch.eye(3).to_sparse()}, tmp_path / "y.pt")
    with pytest.raises(InvalidFile):
        read_weights(tmp_path / "y.pt")


def test_compressed_archives(tmp_path: Path) -> None:
    torch.save({"w": torch.zeros(1 << 16)}, tmp_path / "x.pt")
    with zipfile.ZipFile(tmp_path / "x.pt") as plain, zipfile.ZipFile(tmp_path / "y.pt", "w", 8) as packed:
        for entry in plain.namelist():
            packed.writestr(entry, plain.read(entry))
    with pytest.raises(InvalidFile, match="compressed"):
        read_weights(tmp_path / "y.pt")


def test_sizes_suffixes_places(tmp_path: Path) -> None:
    torch.save({"w": torch.zeros(100)}, tmp_path / "x.pt")
    with pytest.raises(InvalidFile, match="at most 100 are read"):
        read_weights(tmp_path / "x.pt", max_bytes=100)
    with pytest.raises(UsageError, match="no such file"):
        read_weights(tmp_path / "y.pt")
    with pytest.raises(UsageError, match=r"suffixes are \.safetensors"):
        read_weights(tmp_path / "x.h5")


# Fitting weights to an architecture


@pytest.mark.parametrize("leading", ["module.", "_orig_mod.module.", "model."])
def test_weights_of_a_module_around_the_net(leading: str) -> None:
    source, target = net(), load_architecture("mlp", trust_code=False, input_shape=(1, 2, 2), classes=3)
    weights = {f"{leading}{name}": value for name, value in source.state_dict().items()}
    fresh = net()
    nn.init.zeros_(fresh[1].weight)  # pyright: ignore[reportIndexIssue, reportArgumentType]
    load_weights(fresh, weights, "x.pt")
    assert torch.equal(fresh.state_dict()["1.weight"], source.state_dict()["1.weight"])
    with pytest.raises(InvalidFile):
        load_weights(target, weights, "x.pt")
    own = nn.Sequential(OrderedDict(model=source))
    load_weights(own, weights if leading == "model." else own.state_dict(), "x.pt")  # whose own word stays


def test_misfits_are_listed() -> None:
    weights = dict(net().state_dict())
    for index in range(5):
        weights[f"extra{index}"] = torch.ones(1)
    del weights["2.running_mean"]
    weights["4.weight"] = torch.ones(7, 5)
    with pytest.raises(InvalidFile) as error:
        load_weights(net(), weights, "x.pt")
    one_line(error)
    for part in (
        "x.pt does not fit the architecture: missing 2.running_mean;",
        "unexpected extra0, extra1, extra2 and 2 more;",
        "mis-shaped 4.weight [7, 5] instead of [3, 5].",
    ):
        assert part in str(error.value)


# Architectures


def test_named_architectures() -> None:
    module = load_architecture("resnet8(width=4)", trust_code=False, input_shape=(1, 8, 8), classes=3)
    assert module.eval()(torch.zeros(2, 1, 8, 8)).shape == (2, 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("resnet9(width=8)", "Did you mean"),
        ("resnet8(widht=8)", "Did you mean width"),
        ("resnet8(width=many)", "width is a whole number"),
        ("resnet8(width=100000)", "parameters; at most"),
        ("resnet8(", "cannot read the expression"),
        ("timm:resnet18;x", "not the name of a timm architecture"),
        ("timm:no_such_net", "timm can't make no_such_net"),
        ("timm:hf-hub:evil/model", "not the name of a timm architecture"),
    ],
)
def test_architectures_that_cannot_be(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as error:
        load_architecture(text, trust_code=False, input_shape=(3, 8, 8), classes=3)
    one_line(error)


CODE = """
from pathlib import Path
from torch import nn
Path(__file__).with_name("imported").touch()
def small(input_shape, classes, width=3):
    size = input_shape[0] * input_shape[1] * input_shape[2]
    return nn.Sequential(nn.Flatten(), nn.Linear(size, width), nn.Linear(width, classes))
def text(): return "not a module"
def broken(): raise RuntimeError("out of\\nluck")
"""


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "my_nets.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "my_nets", raising=False)
    return tmp_path


def test_code_is_refused_without_trust(code: Path) -> None:
    with pytest.raises(UsageError, match="code is run for a model only with --trust-code"):
        load_architecture("my_nets:small", trust_code=False, input_shape=(1, 2, 2), classes=3)
    assert not (code / "imported").exists()


def test_trusted_code(code: Path) -> None:
    before = list(sys.path)
    module = load_architecture("my_nets:small(width=7)", trust_code=True, input_shape=(1, 2, 2), classes=3)
    assert [tuple(value.shape) for value in module.state_dict().values()] == [(7, 4), (7,), (3, 7), (3,)]
    assert sys.path == before
    for text, message in {
        "my_nets:text": "gave a str",
        "my_nets:broken": "my_nets:broken failed: RuntimeError: out of luck",
        "my_nets:absent": "AttributeError",
        "no_such_module:f": "ModuleNotFoundError",
        str(code / "my_nets.py:small"): "go to the folder of my_nets.py and give my_nets:small",
        "nets\\\\my_nets:small": "give my_nets:small",
        "my_nets.py": "give my_nets:NAME",
    }.items():
        with pytest.raises(UsageError, match=message) as error:
            load_architecture(text, trust_code=True, input_shape=(1, 2, 2), classes=3)
        one_line(error)
