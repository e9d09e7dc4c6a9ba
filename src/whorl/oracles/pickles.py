"""Reads the pickles in PyTorch's files as data: tensors, numbers, texts, and what holds them.

Nothing is unpickled. The stream of operations is walked, those that PyTorch's own state dicts consist of are followed,
and most others end the reading. What a call would make is made by this file from a list of its own, after its
arguments were checked against what the file holds: a count, a length or a shape takes no memory because it is claimed.
Training loops lay objects of other classes beside the weights: of each a `Foreign` is left, which holds its name alone.
Operations as documented in the standard library's ``pickletools``; layout of storages as in ``torch/serialization.py``.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Mapping
from pickle import UnpicklingError
from typing import IO, Any, Final

import torch
from torch import Tensor

__all__ = ["MAX_PICKLE", "Foreign", "Unread", "read_pickle"]

MAX_PICKLE: Final = 32 << 20  # bytes; the pickle of 50,000 tensors takes 8 MiB
MAX_OPERATIONS: Final = 1 << 21  # a tensor with its name takes about 35
MAX_CALLS: Final = 1 << 18  # a tensor takes 2
MAX_DIMENSIONS: Final = 64  # torch's own limit

Storage = torch.UntypedStorage
Scalar = str | bytes | int | float | bool | None

STORAGES: Final = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
}
# Types without a storage of their own, which files name with the tensor.
DTYPES: Final = {
    *STORAGES.values(),
    *(torch.uint16, torch.uint32, torch.uint64),
    *(torch.float8_e4m3fn, torch.float8_e4m3fnuz, torch.float8_e5m2, torch.float8_e5m2fnuz),
}
# Tensors that are told from code, although none of them is read.
OTHER_TENSORS: Final = {
    "torch._utils._rebuild_sparse_tensor": "a sparse tensor",
    "torch._utils._rebuild_sparse_csr_tensor": "a sparse tensor",
    "torch._utils._rebuild_qtensor": "a quantised tensor",
    "torch._utils._rebuild_nested_tensor": "a nested tensor",
    "torch._utils._rebuild_meta_tensor_no_storage": "a tensor without values (of the meta device)",
    "torch._utils._rebuild_wrapper_subclass": "a tensor of a class of its own",
    "torch._utils._rebuild_device_tensor_from_numpy": "a tensor of another device",
    "torch._utils._rebuild_device_tensor_from_cpu_tensor": "a tensor of another device",
}


PACKED: Final = "torch.ScriptObject"  # in which torch.ao.quantization lays the matrices of quantised layers
DENSE: Final = "; dense ones are needed"
BEFORE: Final = f"{DENSE}: save the model as it was before, or export it to ONNX"
QUANTISED: Final = {f"torch.{kind}Storage" for kind in ("QInt8", "QUInt8", "QInt32", "QUInt4x2", "QUInt2x4")}


class Unread(ValueError):
    """A kind of tensor that is known and not read; says which, after "FILE holds"."""


class _Typed:
    """A storage together with the type of its elements."""

    def __init__(self, storage: Storage, dtype: torch.dtype) -> None:
        self.storage, self.dtype = storage, dtype


class _Name:
    """A class or function that the file names, never the thing itself."""

    def __init__(self, place: str, name: str) -> None:
        self.path = f"{place.replace('__builtin__', 'builtins')}.{name}"
        self.name = name
        self.dtype = self._dtype(place, name)

    @staticmethod
    def _dtype(place: str, name: str) -> torch.dtype | None:
        """Of a storage its elements' type, of a ``dtype`` itself; bytes where a storage has no type."""
        if place in ("torch", "torch.cuda") and name in STORAGES:
            return STORAGES[name]
        if name == "UntypedStorage" and place in ("torch", "torch.storage"):
            return torch.uint8
        value = getattr(torch, name, None) if place == "torch" else None
        return value if isinstance(value, torch.dtype) else None


class _Opaque:
    """A value that no state dict consists of: a device, a layout, a set."""


class Foreign(_Opaque):
    """What a class or a function would make that no state dict consists of: not made, and its maker's ``path`` kept.

    ``state`` is what would be laid into it, None where nothing would.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.state: Any = None


def read_pickle(stream: IO[bytes], find: Callable[..., Storage]) -> Any:
    """The value of one pickle: dictionaries, lists, tuples, scalars, tensors, and placeholders for the rest.

    Parameters:
        stream: where the pickle begins; it is left behind its last byte. Holds at most `MAX_PICKLE` bytes.
        find: ``find(key, nbytes, *more)``, the storage of that key as the file holds it, or an error where it holds
            fewer bytes; ``more`` is what the format before PyTorch 1.6 says of views.

    Raises:
        UnpicklingError: an operation that state dicts do not consist of.
        Unread: a tensor of a kind that is not read.
        Exception: a damaged stream makes reading end in any error, after bounded time and memory.
    """
    return _Walk(find).value(stream)


class _Walk:
    """The stack, the marks and the memo of one pickle, as PyTorch's weights-only reader keeps them."""

    def __init__(self, find: Callable[..., Storage]) -> None:
        self.find = find
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.operations = self.calls = 0

    def value(self, stream: IO[bytes]) -> Any:
        for operation, argument, _ in pickletools.genops(stream):
            self._charge(1)
            if operation.name == "STOP":
                return self.stack.pop()
            step = STEPS.get(operation.name)
            if step is None:
                raise UnpicklingError(f"the operation {operation.name}")
            step(self, argument)
        raise EOFError("the pickle has no end")

    def _charge(self, count: int) -> None:
        self.operations += count
        if self.operations > MAX_OPERATIONS:
            raise ValueError(f"its pickle has more than {MAX_OPERATIONS:,} operations")

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def name(self, argument: str) -> None:
        self.push(_Name(*argument.split(" ", 1)))

    def name_on_stack(self, _: object) -> None:
        place, name = self.last(2)
        if type(place) is not str or type(name) is not str:
            raise ValueError("it names what is no class and no function")
        self.push(_Name(place, name))

    def mark(self, _: object) -> None:
        self.marks.append(self.stack)
        self.stack = []

    def marked(self) -> list[Any]:
        items, self.stack = self.stack, self.marks.pop()
        return items

    def last(self, count: int) -> tuple[Any, ...]:
        if len(self.stack) < count:
            raise IndexError("the stack is empty")
        items = tuple(self.stack[-count:])
        del self.stack[-count:]
        return items

    def extend(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is list:
            target.extend(items)
        elif type(target) is not Foreign:
            raise ValueError("it appends to what is no list")

    def set_items(self, items: list[Any] | tuple[Any, ...]) -> None:
        target = self.stack[-1]
        if type(target) is Foreign:
            return
        if type(target) is not dict or len(items) % 2:
            raise ValueError("it sets items of what is no dictionary")
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[_key(key)] = value

    def build(self, _: object) -> None:
        """Attributes of a dictionary, as ``_metadata`` of a state dict, which say nothing about its tensors."""
        state = self.stack.pop()
        if type(self.stack[-1]) is Foreign:
            self.stack[-1].state = state
            return
        if type(self.stack[-1]) is not dict or type(state) is not dict:
            raise UnpicklingError("the state of an object")

    def storage(self, _: object) -> None:
        kind, of, *more = self.stack.pop()
        if kind == "module" and isinstance(of, _Name):  # a class with its source, as the old format names modules
            self.push(of)
            return
        if isinstance(of, _Name) and of.path in QUANTISED:
            raise Unread(f"a quantised tensor{BEFORE}")
        if kind not in ("storage", b"storage") or not isinstance(of, _Name) or of.dtype is None:
            raise UnpicklingError("a persistent object that is no storage")
        key, _location, count, *view = more
        if not isinstance(key, str) or _whole(count) is None:
            raise ValueError("it names a storage that there can't be")
        self.push(_Typed(self.find(key, count * of.dtype.itemsize, of.dtype.itemsize, *view), of.dtype))

    def call(self, _: object) -> None:
        function, arguments = self._called()
        make = CALLS.get(function.path)
        if make is None:
            if function.path in OTHER_TENSORS:
                raise Unread(f"{OTHER_TENSORS[function.path]}{DENSE}")
            self.push(Foreign(function.path))
            return
        # One list may be handed to many calls, and each would copy it.
        self._charge(sum(len(each) for each in arguments if isinstance(each, list | dict | str | tuple)))
        self.push(make(*arguments))

    def new(self, _: object) -> None:
        """An object of a class, of which only the name is kept: no state dict is one."""
        kind, _arguments = self._called()
        if kind.path == PACKED:
            raise Unread(f"layers that torch.ao.quantization packed{BEFORE}")
        self.push(Foreign(kind.path))

    def _called(self) -> tuple[_Name | Foreign, tuple[Any, ...]]:
        """What is called, which may have been made by a foreign call itself, and with what."""
        function, arguments = self.last(2)
        self.calls += 1
        if self.calls > MAX_CALLS:
            raise ValueError(f"its pickle makes more than {MAX_CALLS:,} objects")
        if not isinstance(function, _Name | Foreign) or type(arguments) is not tuple:
            raise UnpicklingError("a call of what is no function")
        return function, arguments


def _key(key: Any) -> Scalar | _Opaque:
    """A key of a dictionary: itself, or one that equals no other, as trainers have classes and tuples for keys."""
    # A tuple of tuples may take 2^n steps to hash.
    return key if isinstance(key, str | bytes | int | float | Foreign | None) else _Opaque()


def _whole(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value < 1 << 62 else None


def _ordered(pairs: Any = ()) -> dict[Any, Any]:
    if not isinstance(pairs, list | tuple) or any(len(pair) != 2 for pair in pairs):
        raise ValueError("it makes a dictionary of what are no pairs")
    return {_key(key): value for key, value in pairs}


def _opaque(*arguments: Any) -> _Opaque:
    if not all(isinstance(each, str | int | float | list | dict | tuple) for each in arguments):
        raise ValueError("it makes an object of other objects")
    return _Opaque()


def _encoded(text: Any = "", encoding: Any = "latin1") -> bytes:
    """Bytes as protocol 2 writes them: a text of their codes."""
    if not isinstance(text, str | bytes) or encoding not in ("latin1", "latin-1", "utf-8"):
        raise ValueError("it makes bytes of what is no text")
    return text if isinstance(text, bytes) else text.encode(encoding)


def _size(sizes: Any) -> tuple[int, ...]:
    if not isinstance(sizes, tuple | list) or any(_whole(each) is None for each in sizes):
        raise ValueError("it makes a shape of what are no sizes")
    return tuple(sizes)


def _tensor(
    typed: Any, offset: Any, size: Any, stride: Any, _grad: Any = False, _hooks: Any = None, metadata: Any = None
) -> Tensor:
    return _viewed(typed, offset, size, stride, metadata, getattr(typed, "dtype", None))


def _tensor_of_type(
    typed: Any, offset: Any, size: Any, stride: Any, _grad: Any, _hooks: Any, dtype: Any, metadata: Any = None
) -> Tensor:
    return _viewed(typed, offset, size, stride, metadata, getattr(dtype, "dtype", None))


def _viewed(typed: Any, offset: Any, size: Any, stride: Any, metadata: Any, dtype: Any) -> Tensor:
    """A tensor that lies wholly in its storage: elements beyond its end would be made, not read."""
    if not isinstance(typed, _Typed) or dtype not in DTYPES:
        raise ValueError("it makes a tensor of what is no storage of numbers")
    size, stride = _size(size), _size(stride)
    if len(size) != len(stride) or len(size) > MAX_DIMENSIONS or _whole(offset) is None:
        raise ValueError("a tensor's sizes and strides do not fit")
    if isinstance(metadata, Mapping) and any(metadata.values()):
        raise ValueError("a tensor is conjugated or negated, which is not read")
    end = offset + sum((count - 1) * step for count, step in zip(size, stride, strict=True)) + 1
    if 0 not in size and end * dtype.itemsize > typed.storage.nbytes():
        raise ValueError(f"a tensor ends at {end * dtype.itemsize:,} bytes of a storage of {typed.storage.nbytes():,}")
    if 0 in size:
        return torch.empty(size, dtype=dtype, device=typed.storage.device)
    return torch.empty(0, dtype=dtype, device=typed.storage.device).set_(typed.storage, offset, size, stride)


def _parameter(data: Any, *_: Any) -> Tensor:
    if not isinstance(data, Tensor):
        raise ValueError("it makes a parameter of what is no tensor")
    return data


def _with_attributes(function: Any, kind: Any, arguments: Any, _state: Any) -> Tensor:
    """A tensor that had attributes of its own, which are left out."""
    plain = isinstance(kind, _Name) and kind.path in ("torch.Tensor", "torch._tensor.Tensor", PARAMETER)
    if not plain or not isinstance(function, _Name) or function.path not in TENSORS:
        raise UnpicklingError("a tensor of a class of its own")
    return TENSORS[function.path](*arguments)


PARAMETER: Final = "torch.nn.parameter.Parameter"
TENSORS: Final[dict[str, Callable[..., Tensor]]] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_of_type,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
}
CALLS: Final[dict[str, Callable[..., Any]]] = TENSORS | {
    "torch._tensor._rebuild_from_type_v2": _with_attributes,
    "collections.OrderedDict": _ordered,
    "collections.Counter": _opaque,
    "collections.defaultdict": lambda *_: {},
    "builtins.set": _opaque,
    "builtins.complex": _opaque,
    "builtins.bytearray": _encoded,
    "_codecs.encode": _encoded,
    "torch.device": _opaque,
    "torch.Size": _size,
    "torch.serialization._get_layout": _opaque,
}
VALUES: Final = (
    *("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"),
    *("BINUNICODE", "SHORT_BINUNICODE", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES"),
)
STEPS: Final[dict[str, Callable[[_Walk, Any], None]]] = {
    "PROTO": lambda _walk, _: None,
    "FRAME": lambda _walk, _: None,
    "GLOBAL": _Walk.name,
    "STACK_GLOBAL": _Walk.name_on_stack,
    "REDUCE": _Walk.call,
    "NEWOBJ": _Walk.new,
    "NEWOBJ_EX": lambda walk, _: walk.new(walk.stack.pop()),
    "BUILD": _Walk.build,
    "BINPERSID": _Walk.storage,
    "MARK": _Walk.mark,
    "APPEND": lambda walk, _: walk.extend(list(walk.last(1))),
    "APPENDS": lambda walk, _: walk.extend(walk.marked()),
    "SETITEM": lambda walk, _: walk.set_items(walk.last(2)),
    "SETITEMS": lambda walk, _: walk.set_items(walk.marked()),
    "EMPTY_TUPLE": lambda walk, _: walk.push(()),
    "EMPTY_LIST": lambda walk, _: walk.push([]),
    "EMPTY_DICT": lambda walk, _: walk.push({}),
    "EMPTY_SET": lambda walk, _: walk.push(_Opaque()),
    "ADDITEMS": lambda walk, _: walk.marked().clear(),  # a set is no state dict
    "FROZENSET": lambda walk, _: walk.push(_opaque(walk.marked())),
    "TUPLE": lambda walk, _: walk.push(tuple(walk.marked())),
    "TUPLE1": lambda walk, _: walk.push(walk.last(1)),
    "TUPLE2": lambda walk, _: walk.push(walk.last(2)),
    "TUPLE3": lambda walk, _: walk.push(walk.last(3)),
    "NONE": lambda walk, _: walk.push(None),
    "NEWTRUE": lambda walk, _: walk.push(True),
    "NEWFALSE": lambda walk, _: walk.push(False),
    "BINGET": lambda walk, index: walk.push(walk.memo[index]),
    "LONG_BINGET": lambda walk, index: walk.push(walk.memo[index]),
    "BINPUT": lambda walk, index: walk.memo.__setitem__(index, walk.stack[-1]),
    "LONG_BINPUT": lambda walk, index: walk.memo.__setitem__(index, walk.stack[-1]),
    "MEMOIZE": lambda walk, _: walk.memo.__setitem__(len(walk.memo), walk.stack[-1]),
} | dict.fromkeys(VALUES, _Walk.push)
