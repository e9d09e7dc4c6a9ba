"""Pictures reach a graph in the range, type and shape that it takes, or whorl asks."""

from pathlib import Path

import pytest
import torch
from onnx_graphs import saved, written
from torch.testing import assert_close

from whorl.errors import UsageError
from whorl.oracles.convention import InputConvention
from whorl.oracles.onnx import OnnxOracle

LEVELS = torch.randint(0, 256, (5, 3, 2, 4), generator=torch.Generator().manual_seed(0))
INPUTS = LEVELS / 255
MEANS = INPUTS.mean((2, 3))
NUMBERS = (
    "float top = {255}, float low = {0.0039215688}, float half = {0.5}, float middle = {127.5}, float[3,1,1] mean ="
    " {123.675, 116.28, 103.53}, float[3,1,1] std = {58.395, 57.12, 57.375}, float sixteen = {16}, uint8 zero = {0},"
    " int8 least = {-128}, float unit = {1}, float[3,1,1] share = {0.485, 0.456, 0.406}"
)


def reading(nodes: str, tmp_path: Path, kind: str = "float", **options: object) -> OnnxOracle:
    text = (
        f"g ({kind}[n, 3, 2, 4] x) => (float[n, 3] y) <{NUMBERS}> {{ {nodes} "
        "y = ReduceMean <axes = [2, 3], keepdims = 0> (z) }"
    )
    return OnnxOracle(saved(written(text), tmp_path), **options)  # pyright: ignore[reportArgumentType]


def normalised(low: float, high: float) -> torch.Tensor:
    return low + (high - low) * MEANS


DEVIATION = (MEANS * 255 - torch.tensor([123.675, 116.28, 103.53])) / torch.tensor([58.395, 57.12, 57.375])
CENTRED = DEVIATION * torch.tensor([58.395, 57.12, 57.375])
QUANTISED = "q = QuantizeLinear (x, {0}, zero)  z = DequantizeLinear (q, {0}, zero)"
READ = {
    "divided by 255": ("z = Div (x, top)", "float", MEANS),
    "times 1/255": ("z = Mul (low, x)", "float", MEANS),
    "to -1..1": ("a = Div (x, middle)  z = Sub (a, unit)", "float", normalised(-1, 1)),
    "moved first": ("t = Transpose <perm = [0, 1, 3, 2]> (x)  z = Div (t, top)", "float", MEANS),
    "mean and deviation of bytes": ("a = Sub (x, mean)  z = Div (a, std)", "float", DEVIATION),
    "mean of bytes": ("z = Sub (x, mean)", "float", CENTRED),
    "quantised in steps of 1": (
        QUANTISED.format("unit"),
        "float",
        MEANS * 255,
    ),
    "quantised in steps of 1/255": (
        QUANTISED.format("low"),
        "float",
        MEANS,
    ),
    "a mean of 0..1": ("z = Sub (x, share)", "float", MEANS - torch.tensor([0.485, 0.456, 0.406])),
    "taken to bytes inside": (
        "a = Mul (x, top)  z = Sub (a, mean)",
        "float",
        CENTRED,
    ),
    "no arithmetic": ("z = Relu (x)", "float", MEANS),
    "bytes cast": ("z = Cast <to = 1> (x)", "uint8", MEANS * 255),
    "bytes divided": ("c = Cast <to = 1> (x)  z = Div (c, top)", "uint8", MEANS),
    "bytes dequantised": ("z = DequantizeLinear (x, low, zero)", "uint8", MEANS),
    "signed bytes dequantised": ("z = DequantizeLinear (x, low, least)", "int8", MEANS),
    "whole numbers divided": ("c = Cast <to = 1> (x)  z = Div (c, top)", "int32", MEANS),
    "long numbers divided": ("c = Cast <to = 1> (x)  z = Mul (c, low)", "int64", MEANS),
}


@pytest.mark.parametrize(("nodes", "kind", "expected"), READ.values(), ids=READ)
def test_the_range_is_that_of_the_first_nodes(tmp_path: Path, nodes: str, kind: str, expected: torch.Tensor) -> None:
    assert_close(reading(nodes, tmp_path, kind).logits(INPUTS), expected, atol=2e-4, rtol=1e-4)


ASKED = {
    "whole numbers that say nothing": ("z = Cast <to = 1> (x)", "int64"),
    "signed bytes that say nothing": ("z = Cast <to = 1> (x)", "int8"),
    "sixteen levels": ("c = Cast <to = 1> (x)  z = Div (c, sixteen)", "uint8"),
    "sixteen levels as floats": ("z = Div (x, sixteen)", "float"),
}


@pytest.mark.parametrize(("nodes", "kind"), ASKED.values(), ids=ASKED)
def test_a_range_that_cannot_be_told_is_asked_for(tmp_path: Path, nodes: str, kind: str) -> None:
    with pytest.raises(UsageError, match=r"range=\[low, high\]"):
        reading(nodes, tmp_path, kind)
    answers = reading(nodes, tmp_path, kind, convention=InputConvention((0, 16))).logits(INPUTS)
    levels = INPUTS * 16 if kind == "float" else (INPUTS * 16).round()
    assert_close(answers, levels.mean((2, 3)) / (16 if "Div" in nodes else 1))


def test_a_range_that_is_given_holds(tmp_path: Path) -> None:
    given = reading("z = Div (x, top)", tmp_path, convention=InputConvention((0, 1)))
    assert_close(given.logits(INPUTS), MEANS / 255)
    with pytest.raises(UsageError, match=r"uint8\), which cannot hold 0..1; set range"):
        reading("z = Cast <to = 1> (x)", tmp_path, "uint8", convention=InputConvention((0, 1)))
    for convention in (InputConvention(mean=(0.5,) * 3), InputConvention(std=(0.5,) * 3)):
        with pytest.raises(UsageError, match="mean and std are in units of range; set range"):
            reading("z = Cast <to = 1> (x)", tmp_path, "uint8", convention=convention)


def test_blue_first(tmp_path: Path) -> None:
    convention = InputConvention((0, 255), mean=(1.0, 2.0, 3.0), channels="BGR")
    answers = reading("z = Relu (x)", tmp_path, convention=convention).logits(INPUTS)
    levels = (INPUTS * 255 - torch.tensor([1.0, 2, 3]).view(3, 1, 1)).relu().mean((2, 3))
    assert_close(answers, levels.flip(1))
    last = InputConvention(layout="NHWC", channels="BGR").adapter((3, 2, 4))(INPUTS)
    assert torch.equal(last, INPUTS.flip(1).permute(0, 2, 3, 1))
    with pytest.raises(UsageError, match="BGR needs pictures of 3 channels"):
        InputConvention(channels="BGR").adapter((1, 2, 4))


def test_rows_and_pictures_without_channels(tmp_path: Path) -> None:
    nodes = "r = Reshape (x, t)  y = ReduceMean <axes = [2], keepdims = 0> (r)"
    rows = written(f"g (float[n, 24] x) => (float[n, 2] y) <int64[3] t = {{-1, 2, 12}}> {{ {nodes} }}")
    path = saved(rows, tmp_path)
    assert_close(OnnxOracle(path, input_shape=(3, 2, 4)).logits(INPUTS), INPUTS.flatten(1).reshape(5, 2, 12).mean(2))
    with pytest.raises(UsageError, match="give input_shape"):
        OnnxOracle(path)
    with pytest.raises(UsageError, match="mend input_shape"):
        OnnxOracle(path, input_shape=(1, 5, 5))
    grey = written("g (float[n, 2, 4] x) => (float[n, 2] y) { y = ReduceMean <axes = [2], keepdims = 0> (x) }")
    for layout in ("NCHW", "NHWC"):
        oracle = OnnxOracle(saved(grey, tmp_path), convention=InputConvention(layout=layout))  # pyright: ignore
        assert oracle.input_shape == (1, 2, 4)
        assert_close(oracle.logits(INPUTS[:, :1]), INPUTS[:, 0].mean(2))
    with pytest.raises(UsageError, match="mend input_shape"):
        OnnxOracle(saved(grey, tmp_path), input_shape=(3, 2, 4))


def test_a_batch_of_one(tmp_path: Path) -> None:
    text = "g (float[1, 3, 2, 4] x) => (float[1, 3] y) { y = ReduceMean <axes = [2, 3], keepdims = 0> (x) }"
    assert_close(OnnxOracle(saved(written(text), tmp_path)).logits(INPUTS), MEANS)
