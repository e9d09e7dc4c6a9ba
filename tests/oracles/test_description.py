"""model.toml is read, and each mistake in it ends in one line that names the key and the fix."""

from pathlib import Path

import pytest
import torch
from torch import nn

from whorl.errors import InvalidFile, UsageError
from whorl.oracles.convention import InputConvention, lower
from whorl.oracles.description import ModelDescription, describe, read_description
from whorl.types import Access

WHOLE = """
kind = "torch"
path = "weights/net.safetensors"
architecture = "resnet8(width=8)"
class_names = ["cat", "dog"]
output = "probabilities"
access = "labels"

[input]
shape = [3, 8, 8]
range = [0, 255]
layout = "NHWC"
mean = [120.0, 110, 100]
std = [60, 61.5, 62]
"""


def read(tmp_path: Path, text: str) -> ModelDescription:
    (tmp_path / "model.toml").write_text(text)
    return read_description(tmp_path / "model.toml")


def test_a_whole_description(tmp_path: Path) -> None:
    found = read(tmp_path, WHOLE)
    assert found.path == str(tmp_path / "weights" / "net.safetensors")
    assert (found.kind, found.architecture, found.output) == ("torch", "resnet8(width=8)", "probabilities")
    assert found.class_count == 2
    assert found.granted is Access.LABELS
    assert found.input.shape == (3, 8, 8)
    assert found.input.convention == InputConvention((0, 255), "NHWC", (120, 110, 100), (60, 61.5, 62))


def test_an_endpoint_and_an_absolute_path(tmp_path: Path) -> None:
    found = read(tmp_path, 'kind = "http"\nurl = "http://127.0.0.1:1"\nclasses = 3\n[http]\nmodel = "m"\n')
    assert found.path is None
    assert found.http == {"model": "m"}
    assert found.input.convention == InputConvention()
    assert read(tmp_path, 'kind = "onnx"\npath = "/x.onnx"').path == "/x.onnx"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('kind = "torch', "is not TOML"),
        ("\x00", "is not TOML"),
        ('path = "x"', "kind: Field required"),
        ('kind = "keras"\npath = "x"', "kind: Input should be 'torch', 'onnx', 'skops' or 'http'.*keras"),
        ('kind = "onnx"', "needs path"),
        ('kind = "http"', "needs url"),
        ('kind = "http"\nurl = "http://x"\npath = "x"', "and no path"),
        ('kind = "onnx"\npath = "x"\n[http]\nmodel = "m"', "neither url nor"),
        ('kind = "onnx"\npath = "x"\narchitecture = "resnet8"', 'architecture is for kind "torch"'),
        ('kind = "onnx"\npath = "x"\nclases = 3', "clases is not known. Known: kind, path"),
        ('kind = "onnx"\npath = "x"\n[input]\nsize = 3', r"input\.size is not known. Known: shape, range"),
        ('kind = "onnx"\npath = "x"\nclasses = "3"', "classes: .*integer"),
        ('kind = "onnx"\npath = "x"\nclasses = 1', "classes: .*greater than or equal to 2"),
        ('kind = "onnx"\npath = "x"\nclasses = 3\nclass_names = ["a", "b"]', "classes is 3, and class_names lists 2"),
        ('kind = "onnx"\npath = "x"\n[input]\nshape = [3, 8]', r"input\.shape"),
        ('kind = "onnx"\npath = "x"\n[input]\nshape = [3, 8, 0]', r"input\.shape\.2"),
        ('kind = "onnx"\npath = "x"\n[input]\nlayout = "CHW"', r"input\.layout.*'NCHW' or 'NHWC'"),
        ('kind = "onnx"\npath = "x"\n[input]\nmean = [nan]', r"input\.mean\.0"),
        ('kind = "onnx"\npath = "x"\noutput = "scores"', "output: .*'logits', 'probabilities' or 'labels'"),
        ('kind = "onnx"\npath = "x"\naccess = "all"', "access: .*'labels'"),
        ('kind = "onnx"\npath = 1979-05-27\nclasses = []', "classes"),
    ],
)
def test_mistakes(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InvalidFile, match=message) as error:
        read(tmp_path, text)
    assert "model.toml" in str(error.value)
    assert str(error.value).isprintable()


def test_size_and_place(tmp_path: Path) -> None:
    with pytest.raises(InvalidFile, match="at most 1,048,576 are read"):
        read(tmp_path, "#" * (1 << 20) + "\n")
    with pytest.raises(UsageError, match="no such file"):
        read_description(tmp_path / "none.toml")


def test_a_key_in_the_wrong_place_is_not_repeated() -> None:
    with pytest.raises(UsageError) as error:
        describe({"kind": "http", "url": "http://x", "api_key": "s3cret"})
    assert "s3cret" not in str(error.value)


# The convention


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_the_adapter_is_the_formula(layout: str) -> None:
    inputs = torch.rand(5, 3, 4, 6, generator=torch.Generator().manual_seed(0))
    mean, std = (120.0, 110.0, 100.0), (60.0, 61.5, 62.0)
    adapted = InputConvention((-10, 245), layout, mean, std).adapter((3, 4, 6))(inputs)  # pyright: ignore
    stretched = -10 + 255 * inputs.double()
    expected = (stretched - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    expected = expected.permute(0, 2, 3, 1) if layout == "NHWC" else expected
    torch.testing.assert_close(adapted, expected.float(), atol=1e-5, rtol=1e-5)


def test_the_adapter_is_differentiable_and_absent_where_nothing_is_to_do() -> None:
    inputs = torch.rand(1, 1, 2, 2, requires_grad=True)
    InputConvention((0, 255), std=(51.0,)).adapter((1, 2, 2))(inputs).sum().backward()
    assert inputs.grad is not None
    torch.testing.assert_close(inputs.grad, torch.full_like(inputs, 5.0))
    assert isinstance(InputConvention().adapter((1, 2, 2)), nn.Identity)


@pytest.mark.parametrize(
    ("convention", "message"),
    [
        (InputConvention(mean=(0.5, 0.5)), "input.mean has 2 numbers; the model takes"),
        (InputConvention(std=(1.0, 0.0, 1.0)), "above 0"),
        (InputConvention(range=(1, 1)), "low < high"),
        (InputConvention(layout="CHWN"), "NCHW or NHWC"),  # pyright: ignore[reportArgumentType]
    ],
)
def test_conventions_that_cannot_be(convention: InputConvention, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        convention.adapter((3, 4, 4))


def test_outputs_are_lowered_and_nan_has_no_class() -> None:
    logits = torch.tensor([[0.0, 2.0], [1.0, float("nan")]])
    assert lower(logits, "logits", Access.LABELS).tolist() == [1, -1]
    torch.testing.assert_close(lower(logits[:1], "logits", Access.PROBABILITIES), logits[:1].softmax(1))
    assert torch.equal(lower(logits[:1], "probabilities", Access.PROBABILITIES), logits[:1])
    assert lower(torch.tensor([[1], [0]]), "labels", Access.LABELS).tolist() == [1, 0]


def test_a_shape_that_no_picture_has_is_refused_before_anything_is_made() -> None:
    given = {"kind": "http", "url": "http://127.0.0.1:9", "classes": 3, "output": "labels"}
    with pytest.raises(UsageError, match=r"input: shape \[16384, 16384, 16384\] is more than 16,777,216 numbers"):
        describe(given | {"input": {"shape": [16384, 16384, 16384]}})
