"""What an ONNX graph does with its weights: which way round a matrix lies, what scales integers, how modules are named.

Nodes are looked at, never run. A matrix is the second operand of a product in most graphs, and so lies [in, out]; a
convolution's kernel, the rows of a `Gather` and the operand of a `Gemm` with ``transB`` lie as PyTorch's do. Integers
come with their scales in a `DequantizeLinear` before their product, in the product itself (``QLinear...``), or in a
`Mul` after it (`MatMulInteger`); zero points default to 0. `MatMulNBits` has [out, in] of few bits each, with scales of
blocks. LSTM, GRU and RNN hold their directions and gates in one tensor, and `DynamicQuantizeLSTM` lies [in, out] with a
scale for each direction, or each column of it. Operators: ``onnx/docs/Operators.md``, and
onnxruntime's ``docs/ContribOperators.md``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Final, NamedTuple

__all__ = ["Node", "Use", "uses"]

PASSING: Final = frozenset({"Identity", "Cast", "QuantizeLinear", "DequantizeLinear"})
OPERAND: Final = {  # the input of a product that may be a matrix [in, out]
    "MatMul": 1,
    "Gemm": 1,
    "FusedMatMul": 1,
    "Attention": 1,
    "MatMulInteger": 1,
    "MatMulIntegerToFloat": 1,
    "DynamicQuantizeMatMul": 1,
    "QLinearMatMul": 3,
    "QGemm": 3,
}
KERNEL: Final = {"Conv": 1, "ConvTranspose": 1, "ConvInteger": 1, "QLinearConv": 3}
INSIDE: Final = {  # places of integers, scale and zero point among the inputs, and the axis that scales are along
    "DequantizeLinear": (0, 1, 2, 1),
    "QLinearMatMul": (3, 4, 5, -1),
    "QGemm": (3, 4, 5, -1),
    "QLinearConv": (3, 4, 5, 0),
    "DynamicQuantizeMatMul": (1, 2, 3, -1),
    "MatMulIntegerToFloat": (1, 3, 5, -1),
    "GatherBlockQuantized": (0, 2, 3, 1),
    "MatMulNBits": (1, 2, 3, 1),
}
AFTER: Final = {"MatMulInteger": (1, 3, -1), "ConvInteger": (1, 3, 0)}  # integers, zero point, axis
STORED: Final = re.compile(r"_(?:quantized|(?:DQ_)?Q[248])$")  # what quantisers add to a name
NAMELESS: Final = re.compile(r"(?:onnx::)?[A-Za-z_]*\d+")  # what exporters call what they made themselves
MAX_LINKS: Final = 64  # of identities and casts from a tensor to where it is used
IFCO: Final = (0, 2, 3, 1)  # PyTorch's order of what lies as iofc
GATES: Final = {"LSTM": IFCO, "DynamicQuantizeLSTM": IFCO, "GRU": (1, 0, 2), "RNN": (0,)}  # zrh, as PyTorch's rzn
RECURRENT: Final = {"DynamicQuantizeLSTM": ((8, 9), (10, 11))}  # places of scale and zero point of both matrices
Source = Callable[[str], str]


class Node(NamedTuple):
    """One operation, without the tensors and graphs among its attributes."""

    name: str
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    numbers: Mapping[str, int]


@dataclass(frozen=True)
class Scale:
    """How integers become numbers: by the tensors ``scale`` and ``zero``, empty without one, along ``axis``.

    A scale is for ``block`` places of the axis; 0 where its shape says for how many. Where ``bits`` is not 0, bytes
    hold numbers of so many bits each, of which rows have ``columns``, or as many as they hold; ``places`` is the tensor
    that says which scale a column has, empty where they follow each other.
    """

    scale: str = ""
    zero: str = ""
    axis: int = 0
    block: int = 0
    bits: int = 0
    columns: int = 0
    places: str = ""

    @property
    def tensors(self) -> tuple[str, ...]:
        """Those that are no weights themselves."""
        return tuple(filter(None, (self.scale, self.zero, self.places)))


@dataclass(frozen=True)
class Use:
    """How the graph reads a tensor: ``turned`` is [in, out]; ``name`` is what its module is called.

    ``gates`` is set for a matrix of a recurrent layer, [directions, gates * units, in] or its last two axes ``turned``:
    in which order its gates are handed out, of the ``direction`` alone.
    """

    name: str
    turned: bool
    scale: Scale | None
    gates: tuple[int, ...] = ()
    direction: int = 0


def uses(nodes: Sequence[Node], shapes: Mapping[str, tuple[int, ...]], integers: Set[str]) -> dict[str, list[Use]]:
    """How each tensor of a graph is used, by its name in the file; only ``integers`` may have scales.

    A matrix of a recurrent layer has a use for each direction, and every other tensor one.
    """
    same = {node.outputs[0]: node.inputs[0] for node in nodes if node.outputs and node.inputs and node.op in PASSING}

    def source(name: str) -> str:
        for _ in range(MAX_LINKS):
            if name in shapes or name not in same:
                break
            name = same[name]
        return name

    scales = _scales(nodes, shapes, integers, source)
    readers: dict[str, list[tuple[Node, int]]] = {}
    for node in nodes:
        if node.outputs and node.outputs[0] not in same:
            for place, name in enumerate(node.inputs):
                if (tensor := source(name)) in shapes:
                    readers.setdefault(tensor, []).append((node, place))
    found = _recurrent(nodes, shapes, readers, scales, source)
    taken = {*shapes, *(use.name for held in found.values() for use in held)}
    for tensor, shape in shapes.items():
        if tensor in found:
            continue
        held = readers.get(tensor, [])
        turned = len(shape) == 2 and bool(held) and all(map(_turns, *zip(*held, strict=True)))
        name = _called(tensor, held)
        name = tensor if name in taken else name
        taken.add(name)
        found[tensor] = [Use(name, turned, scales.get(tensor))]
    return found


def _recurrent(
    nodes: Sequence[Node],
    shapes: Mapping[str, tuple[int, ...]],
    readers: Mapping[str, Sequence[tuple[Node, int]]],
    scales: Mapping[str, Scale],
    source: Source,
) -> dict[str, list[Use]]:
    """The two matrices of each recurrent layer, under the names that PyTorch's layers have."""
    found: dict[str, list[Use]] = {}
    layers: Counter[str] = Counter()
    taken = set(shapes)
    for node in nodes:
        if node.op not in GATES:
            continue
        tensors = [source(_input(node, place)) for place in (1, 2)]
        fed, kept = (shapes.get(tensor, ()) for tensor in tensors)
        gates, packed = GATES[node.op], RECURRENT.get(node.op)
        if packed:
            fed, kept = ((*shape[:1], *shape[:0:-1]) for shape in (fed, kept))
        how = [_packed_by(node, places, shapes, source) for places in packed] if packed else [None, None]
        fits = len(fed) == len(kept) == 3 and fed[:2] == kept[:2] and 1 <= kept[0] <= 2 and (not packed or all(how))
        alone = all(len(readers.get(each, [])) == 1 and each not in scales for each in tensors)
        if not (fits and alone and kept[1] == len(gates) * kept[2] > 0):
            continue
        path = ".".join(filter(None, node.name.split("/")[:-1])) or node.op.lower()
        layer, layers[path] = layers[path], layers[path] + 1
        for tensor, word, scale in zip(tensors, ("ih", "hh"), how, strict=True):
            names = [f"{path}.weight_{word}_l{layer}{end}" for end in ("", "_reverse")[: kept[0]]]
            if not taken & set(names):
                taken |= set(names)
                found[tensor] = [
                    Use(name, packed is not None, scale, gates, direction) for direction, name in enumerate(names)
                ]
    return found


def _packed_by(
    node: Node, places: tuple[int, int], shapes: Mapping[str, tuple[int, ...]], source: Source
) -> Scale | None:
    """By what the integers of a recurrent layer become numbers; None where the file does not hold it."""
    scale, zero = (source(_input(node, place)) for place in places)
    return Scale(scale, zero, axis=1) if scale in shapes and (zero in shapes or not zero) else None


def _turns(node: Node, place: int) -> bool:
    return OPERAND.get(node.op) == place and not node.numbers.get("transB")


def _called(tensor: str, readers: Sequence[tuple[Node, int]]) -> str:
    """A tensor's own name, or that of the module that alone uses it, which exporters write into the names of nodes."""
    name = STORED.sub("", tensor)
    if len(readers) != 1 or not NAMELESS.fullmatch(name):
        return name
    node, place = readers[0]
    *path, _ = node.name.split("/")
    fits = (place in (OPERAND.get(node.op), KERNEL.get(node.op)) or node.op == "MatMulNBits") and any(path)
    return ".".join([*filter(None, path), "weight"]) if fits else name


def _scales(
    nodes: Sequence[Node], shapes: Mapping[str, tuple[int, ...]], integers: Set[str], source: Source
) -> dict[str, Scale]:
    """Scale, zero point and axis of each tensor of integers that has them."""
    makers = {output: node for node in nodes for output in node.outputs}
    readers: dict[str, list[Node]] = {}
    for node in nodes:
        for name in node.inputs:
            readers.setdefault(name, []).append(node)
    found: dict[str, Scale] = {}
    for node in nodes:
        if node.op in INSIDE:
            *places, axis = INSIDE[node.op]
            tensor, scale, zero = (source(_input(node, place)) for place in places)
            axis = node.numbers.get("quantize_axis", node.numbers.get("axis", axis))
        elif node.op in AFTER and node.outputs:
            *places, axis = AFTER[node.op]
            tensor, zero = (source(_input(node, place)) for place in places)
            scale = _scaled_after(node.outputs[0], readers, makers, shapes)
        else:
            continue
        if tensor in integers and scale in shapes and (zero in shapes or not zero):
            found.setdefault(tensor, _scale(node, scale, zero, axis, source))
    return found


def _scale(node: Node, scale: str, zero: str, axis: int, source: Source) -> Scale:
    block, bits = node.numbers.get("block_size"), node.numbers.get("bits", 4)
    if node.op == "MatMulNBits":
        return Scale(scale, zero, axis, block or 0, bits, node.numbers.get("K", 0), source(_input(node, 4)))
    if node.op == "GatherBlockQuantized":
        return Scale(scale, zero, axis, block or 128, bits)
    return Scale(scale, zero, axis, block or 0)


def _scaled_after(
    output: str, readers: Mapping[str, list[Node]], makers: Mapping[str, Node], shapes: Mapping[str, tuple[int, ...]]
) -> str:
    """The tensor by which a sum of integers is multiplied, by itself or in a product with the scale of the input."""
    for _ in range(MAX_LINKS):
        held = readers.get(output, [])
        if len(held) != 1 or not held[0].outputs:
            break
        if held[0].op != "Mul":
            if held[0].op not in PASSING:
                break
            output = held[0].outputs[0]
            continue
        factors = [name for name in held[0].inputs if name != output]
        factors += [
            each for name in factors if name in makers and makers[name].op == "Mul" for each in makers[name].inputs
        ]
        return next((name for name in factors if name in shapes), "")
    return ""


def _input(node: Node, place: int) -> str:
    return node.inputs[place] if place < len(node.inputs) else ""
