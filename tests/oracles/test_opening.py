"""Whatever names a model becomes an oracle with the right answers, and never more access than was allowed."""

import sys
from pathlib import Path
from typing import Any

import pytest
import skops.io
import torch
from safetensors.torch import save_file
from sklearn.ensemble import RandomForestClassifier
from torch import nn

from whorl.errors import InvalidFile, UsageError
from whorl.nets import NETS
from whorl.nets.files import write_model
from whorl.oracles.http import HttpOracle
from whorl.oracles.onnx import OnnxOracle
from whorl.oracles.opening import open_oracle
from whorl.oracles.sklearn import SklearnOracle
from whorl.oracles.torch import TorchOracle
from whorl.storage import digest_tensors
from whorl.types import Access

SHAPE = (1, 8, 8)
ARCHITECTURE = "resnet8(width=4)"
INPUTS = torch.rand(12, *SHAPE, generator=torch.Generator().manual_seed(3))
DESCRIBED: dict[str, Any] = {"architecture": ARCHITECTURE, "input_shape": SHAPE, "classes": 3}


@pytest.fixture(scope="module")
def net() -> nn.Module:
    torch.manual_seed(0)
    made = NETS.make(ARCHITECTURE, input_shape=SHAPE, classes=3)
    made(INPUTS)  # moves the running statistics of the norms
    return made.eval()


@pytest.fixture(scope="module")
def folder(net: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same net in every kind of file."""
    folder = tmp_path_factory.mktemp("models")
    write_model(net, folder / "whorl.safetensors", architecture=ARCHITECTURE, input_shape=SHAPE)
    save_file(net.state_dict(), folder / "bare.safetensors")
    torch.save(net.state_dict(), folder / "net.pt")
    batch = {0: torch.export.Dim("batch")}
    torch.onnx.export(
        net, (INPUTS[:2],), folder / "net.onnx", dynamo=True, dynamic_shapes=(batch,), external_data=False
    )
    toml = (
        f'kind = "torch"\npath = "net.pt"\narchitecture = "{ARCHITECTURE}"\nclasses = 3\n[input]\nshape = [1, 8, 8]\n'
    )
    (folder / "model.toml").write_text(toml)
    return folder


def logits(net: nn.Module) -> torch.Tensor:
    with torch.inference_mode():
        return net(INPUTS)


@pytest.mark.parametrize(
    ("name", "options", "kind"),
    [
        ("whorl.safetensors", {}, TorchOracle),
        ("bare.safetensors", DESCRIBED, TorchOracle),
        ("net.pt", DESCRIBED, TorchOracle),
        ("net.onnx", {}, OnnxOracle),
        ("model.toml", {}, TorchOracle),
        ("", {}, TorchOracle),
    ],
)
def test_one_net_in_every_kind_of_file(
    net: nn.Module, folder: Path, name: str, options: dict[str, Any], kind: type
) -> None:
    for target in (folder / name, str(folder / name)):
        oracle = open_oracle(target, **options)
        assert isinstance(oracle, kind)
        assert (oracle.input_shape, oracle.classes) == (SHAPE, 3)
        torch.testing.assert_close(oracle.logits(INPUTS), logits(net), atol=1e-4, rtol=1e-4)
        assert torch.equal(oracle.labels(INPUTS), logits(net).argmax(1))
        if kind is TorchOracle:
            assert oracle.access is Access.WEIGHTS
            assert oracle.digest == digest_tensors(net.state_dict())


@pytest.mark.parametrize("access", list(Access))
@pytest.mark.parametrize("name", ["whorl.safetensors", "net.onnx", "model.toml"])
def test_access_is_lowered_and_never_raised(net: nn.Module, folder: Path, name: str, access: Access) -> None:
    own = Access.LOGITS if name.endswith("onnx") else Access.WEIGHTS
    for asked in (access, access.name.lower()):
        oracle = open_oracle(folder / name, access=asked)
        assert oracle.access is min(access, own)
    expected = {Access.LABELS: logits(net).argmax(1), Access.PROBABILITIES: logits(net).softmax(1)}
    torch.testing.assert_close(oracle.answers(INPUTS), expected.get(access, logits(net)), atol=1e-4, rtol=1e-4)


def test_a_description_caps_access_and_options_override_it(folder: Path) -> None:
    capped = folder / "capped.toml"
    capped.write_text((folder / "model.toml").read_text().replace("classes = 3", 'classes = 3\naccess = "labels"'))
    assert open_oracle(capped).access is Access.LABELS
    assert open_oracle(capped, access="weights").access is Access.LABELS
    wrong = folder / "wrong.toml"
    wrong.write_text((folder / "model.toml").read_text().replace("classes = 3", "classes = 4"))
    with pytest.raises(InvalidFile, match="mis-shaped"):
        open_oracle(wrong)
    assert open_oracle(wrong, classes=3).classes == 3


def test_an_oracle_is_itself_or_less(net: nn.Module) -> None:
    inner = open_oracle(net)
    assert isinstance(inner, TorchOracle)
    assert open_oracle(inner) is inner
    for access in Access:
        lowered = open_oracle(inner, access=access)
        assert lowered.access is access
        assert (lowered.name, lowered.digest) == (inner.name, inner.digest)
        assert torch.equal(lowered.labels(INPUTS), logits(net).argmax(1))
    torch.testing.assert_close(open_oracle(inner, access="probabilities").answers(INPUTS), logits(net).softmax(1))
    with pytest.raises(UsageError, match="is an oracle already"):
        open_oracle(inner, classes=3)


def test_modules_need_a_shape_unless_they_know_it(net: nn.Module) -> None:
    assert open_oracle(net).input_shape == SHAPE
    plain = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    with pytest.raises(UsageError, match=r"does not say its input_shape and classes; give input_shape=, classes="):
        open_oracle(plain)
    oracle = open_oracle(plain, input_shape=SHAPE, class_names=["a", "b", "c"])
    assert oracle.answers(INPUTS).shape == (12, 3)


def test_a_module_that_wants_other_pictures_or_gives_probabilities(net: nn.Module) -> None:
    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, pictures: torch.Tensor) -> torch.Tensor:
            return self.net((pictures.permute(0, 3, 1, 2) * 2 + 10) / 255).softmax(1)

    outer = Outer().eval()
    options: dict[str, Any] = {"layout": "NHWC", "range": (0, 255), "mean": [10], "std": [2], "output": "probabilities"}
    oracle = open_oracle(outer, input_shape=SHAPE, classes=3, **options)
    torch.testing.assert_close(oracle.probabilities(INPUTS), logits(net).softmax(1), atol=1e-5, rtol=1e-4)
    assert oracle.access is Access.WEIGHTS
    assert isinstance(oracle, TorchOracle)
    inputs = INPUTS.clone().requires_grad_()
    oracle.differentiable()(inputs).logsumexp(1).sum().backward()
    assert inputs.grad is not None
    with pytest.raises(UsageError, match="access='labels'"):
        open_oracle(outer, input_shape=SHAPE, classes=3, output="labels")


def test_estimators_and_skops(tmp_path: Path) -> None:
    rows = INPUTS.flatten(1).numpy()
    forest = RandomForestClassifier(3, random_state=0).fit(rows, [0, 1, 2] * 4)
    skops.io.dump(forest, tmp_path / "x.skops")
    (tmp_path / "model.toml").write_text('kind = "skops"\npath = "x.skops"\nclasses = 3\n[input]\nshape = [1, 8, 8]\n')
    for oracle in (
        open_oracle(forest, input_shape=SHAPE),
        open_oracle(tmp_path / "x.skops", input_shape=SHAPE, classes=3),
        open_oracle(tmp_path),
    ):
        assert isinstance(oracle, SklearnOracle)
        assert oracle.labels(INPUTS).tolist() == forest.predict(rows).tolist()
    assert open_oracle(tmp_path, access="labels").access is Access.LABELS
    with pytest.raises(UsageError, match="give input_shape="):
        open_oracle(forest)


def test_addresses_and_described_endpoints(tmp_path: Path) -> None:
    options: dict[str, Any] = {"input_shape": SHAPE, "classes": 3, "model": "m"}
    oracle = open_oracle("http://127.0.0.1:9", output="probabilities", batch=4, budget=5, **options)
    assert isinstance(oracle, HttpOracle)
    assert (oracle.access, oracle.settings.batch, oracle.budget) == (Access.PROBABILITIES, 4, 5)
    assert open_oracle("http://127.0.0.1:9", output="logits", access="labels", **options).access is Access.LABELS
    text = 'kind = "http"\nurl = "http://127.0.0.1:9"\nclasses = 3\noutput = "labels"\n[input]\nshape = [1, 8, 8]\n'
    (tmp_path / "model.toml").write_text(text + '[http]\nmodel = "m"\nrate = 2.5\n')
    described = open_oracle(tmp_path, trust_hosts=["127.0.0.1"])
    assert isinstance(described, HttpOracle)
    assert (described.access, described.settings.rate) == (Access.LABELS, 2.5)
    with pytest.raises(UsageError, match="give output="):
        open_oracle("http://127.0.0.1:9", **options)
    with pytest.raises(UsageError, match="no setting 'speed'"):
        open_oracle("http://127.0.0.1:9", output="labels", speed=3, **options)
    with pytest.raises(UsageError, match="budget must be"):
        open_oracle("http://127.0.0.1:9", output="labels", budget=-1, **options)
    with pytest.raises(UsageError) as error:
        open_oracle("http://127.0.0.1:9/?api_key=s3cret", **options)
    assert "s3cret" not in str(error.value)


CODE = """
from pathlib import Path
from torch import nn
Path(__file__).with_name("imported").touch()
def suspect(classes): return nn.Sequential(nn.Flatten(), nn.Linear(64, classes))
def text(): return "not a model"
"""


def test_code_needs_trust(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "suspects.py").write_text(CODE)
    weights = nn.Sequential(nn.Flatten(), nn.Linear(64, 3)).state_dict()
    save_file(weights, tmp_path / "x.safetensors")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "suspects", raising=False)
    options: dict[str, Any] = {"input_shape": SHAPE, "classes": 3}
    for target, more in {"suspects:suspect": {}, "x.safetensors": {"architecture": "suspects:suspect"}}.items():
        with pytest.raises(UsageError, match="--trust-code"):
            open_oracle(target, **options, **more)
        assert not (tmp_path / "imported").exists()
    assert open_oracle("suspects:suspect", trust_code=True, **options).classes == 3
    oracle = open_oracle("x.safetensors", trust_code=True, architecture="suspects:suspect", **options)
    expected = INPUTS.flatten(1) @ weights["1.weight"].T + weights["1.bias"]
    torch.testing.assert_close(oracle.logits(INPUTS), expected)
    with pytest.raises(UsageError, match="a str is not a model"):
        open_oracle("suspects:text", trust_code=True)


@pytest.mark.parametrize(
    ("target", "options", "message"),
    [
        ("model.h5", {}, r"no such file: .*model\.h5.*\. Known: .*\.safetensors"),
        ("whrl.safetensors", {}, r"no such file: .*whrl\.safetensors; there is .*/whorl\.safetensors$"),
        (3, {}, "a int is not a model"),
        ("none.onnx", {}, "no such file"),
        ("none.toml", {}, "no such file"),
        (
            "bare.safetensors",
            {},
            r"without their architecture; give architecture=.* input_shape and classes either; give input_shape=, clas",
        ),
        ("net.pt", {"architecture": ARCHITECTURE}, "does not say its input_shape and classes"),
        ("net.pt", {**DESCRIBED, "color": 3}, "takes no option 'color'. Known: access"),
        ("net.pt", {**DESCRIBED, "classes": "three"}, "classes: .*integer"),
        ("net.onnx", {"access": "everything"}, "The levels are labels, probabilities"),
        ("whorl.safetensors", {"classes": 4}, "has classes 3; 4 is given"),
        ("none.pt", {}, "no such file"),
        (
            "net.onnx",
            {"architecture": ARCHITECTURE},
            r"net\.onnx: architecture is for kind \"torch\"; this is \"onnx\"",
        ),
        ("..", {}, r"is a folder without a model\.toml; give a file of it"),
    ],
)
def test_mistakes(folder: Path, target: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message) as error:
        open_oracle(folder / target if isinstance(target, str) else target, **options)
    assert str(error.value).isprintable()


def test_an_empty_name_is_no_folder() -> None:
    with pytest.raises(UsageError, match="the model has an empty name"):
        open_oracle("")
