"""One door to every kind of model: whatever names a model goes in, an oracle comes out."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from whorl.errors import InvalidFile, Undescribed, UsageError
from whorl.nets.base import Net, refuse_incomplete
from whorl.nets.files import KEY, read_model
from whorl.oracles.base import Chunk, Oracle
from whorl.oracles.consent import check_consent
from whorl.oracles.convention import GRANTS
from whorl.oracles.description import ModelDescription, describe, read_description
from whorl.oracles.endpoint import HttpSettings
from whorl.oracles.files import CODE, WEIGHT_SUFFIXES, call_code, load_architecture, load_weights, read_weights
from whorl.oracles.foreign import told_format
from whorl.oracles.onnx import OnnxOracle
from whorl.oracles.reordered import with_same_names
from whorl.oracles.sklearn import SklearnOracle
from whorl.oracles.skops import read_skops
from whorl.oracles.torch import TorchOracle
from whorl.oracles.wrappers import LabelsOnly, Wrapper
from whorl.storage import digest_file, digest_tensors, no_file, read_metadata
from whorl.types import Access

__all__ = ["open_oracle", "options_for"]

DESCRIPTION: Final = "model.toml"
KINDS: Final = {".onnx": "onnx", ".skops": "skops"} | dict.fromkeys(WEIGHT_SUFFIXES, "torch")
EXAMPLES: Final = {"architecture": "resnet8(width=8)", "input_shape": "3,32,32", "classes": "10"}
SERVED: Final = {"architecture": ("torch",), "output_name": ("onnx", "http"), "first_label": ("onnx", "http")} | {
    "task": ("torch", "onnx", "http")
}
INPUT_OPTIONS: Final = {"input_shape": "shape"} | {
    key: key for key in ("range", "layout", "mean", "std", "channels", "units")
}


def open_oracle(
    target: Oracle | nn.Module | str | Path | Any,
    *,
    trust_code: bool = False,
    trust_hosts: Collection[str] = (),
    access: Access | str | None = None,
    **options: Any,
) -> Oracle:
    """An oracle for ``target``.

    Parameters:
        target: an oracle, a PyTorch module, a fitted scikit-learn classifier, a folder with a ``model.toml``, a path
            to ``.toml``, ``.safetensors``, ``.pt``, ``.pth``, ``.bin``, ``.ckpt``, ``.onnx`` or ``.skops``, an
            ``http(s)://`` address, or ``module:callable``.
        trust_code: allow ``module:callable``, as target or architecture, to run.
        trust_hosts: hosts, as ``host`` or ``host:port``, that a ``model.toml`` may send queries and keys to. Without
            its host here, an address in a file needs ``url=`` from the caller. A variable that such a file names as
            ``key_env`` begins with ``WHORL_``, or is given by the caller as ``key_env=``.
        access: grant no more than this. What the model itself grants is never raised.
        options: the fields of ``model.toml``, which they override: architecture, task, classes, class_names, output,
            output_name, first_label, input_shape, range, layout, mean, std, channels, units, and for an address the
            fields of `whorl.oracles.http.HttpSettings`.

    Raises:
        UsageError: the target is of no known kind, the description lacks something, or a file would send queries or
            a key where the caller has not consented to; says what to give.
        InvalidFile: a file is damaged or would have to run code.
        MissingExtra: an optional package is needed.
    """
    cap = _access(access)
    if target == "":  # which as a path is the folder that one stands in
        raise UsageError("the model has an empty name; name a model")
    if isinstance(target, str | Path):
        return _lowered(_from_text(str(target), trust_code, trust_hosts, cap, options), cap)
    return _lowered(_from_object(target, cap, options), cap)


def options_for(target: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    """Of options that describe several models those that can be meant for this one.

    An architecture is for bare weights, and no other kind of file nor a file of whorl's own takes one.
    """
    if not isinstance(target, str | Path) or (kind := KINDS.get(Path(target).suffix.lower())) is None:
        return dict(options)
    own = kind == "torch" and _says_architecture(Path(target))
    return {
        key: value
        for key, value in options.items()
        if kind in SERVED.get(key, (kind,)) and not (own and key == "architecture")
    }


def _says_architecture(path: Path) -> bool:
    return path.suffix.lower() == ".safetensors" and path.is_file() and KEY in read_metadata(path)


def _access(access: Access | str | None) -> Access | None:
    if not isinstance(access, str):
        return access
    if access.upper() not in Access.__members__:
        levels = _list(level.name.lower() for level in Access)
        raise UsageError(f"no such access: {access!r}. The levels are {levels}.")
    return Access[access.upper()]


def _lowered(oracle: Oracle, cap: Access | None) -> Oracle:
    if cap is None or oracle.access <= cap:
        return oracle
    if isinstance(oracle, TorchOracle) and cap > Access.LOGITS and oracle.access is Access.WEIGHTS:
        shape, classes = oracle.input_shape, oracle.classes
        lowered = TorchOracle(
            oracle.module,
            input_shape=shape,
            classes=classes,
            access=cap,
            name=oracle.name,
            digest=oracle.digest,
            task=oracle.task,
        )
        lowered.class_names = oracle.class_names
        return lowered
    return LabelsOnly(oracle) if cap is Access.LABELS else _Capped(oracle, cap)


class _Capped(Wrapper):
    """The same answers, or their softmax, with every other door shut."""

    def __init__(self, inner: Oracle, cap: Access) -> None:
        super().__init__(inner, access=min(cap, Access.LOGITS), change=f"Capped({cap.name.lower()})")

    def _stream(self, inputs: Tensor) -> Iterator[Chunk]:
        soften = self.access is Access.PROBABILITIES  # what is lowered to probabilities granted logits
        for positions, answers in self.inner.stream(inputs):
            yield positions, answers.softmax(1) if soften else answers


def _from_object(target: Any, cap: Access | None, options: Mapping[str, Any]) -> Oracle:
    if isinstance(target, Oracle):
        if options:
            raise UsageError(f"{target.name} is an oracle already; it takes no {_list(options)}")
        return target
    if not isinstance(target, nn.Module) and not hasattr(target, "predict"):
        raise UsageError(f"a {type(target).__name__} is not a model. {_known()}")
    if isinstance(target, nn.Module):
        refuse_incomplete(target)
    kind = "torch" if isinstance(target, nn.Module) else "skops"
    known = {"input_shape": target.input_shape, "classes": target.classes} if isinstance(target, Net) else {}
    description = _described({"kind": kind, "path": type(target).__name__}, known | dict(options))
    if description.architecture is not None:
        raise UsageError(f"architecture is for files of weights; {type(target).__name__} is a module already")
    if isinstance(target, nn.Module):
        return _named(_torch(target, description, cap, digest_tensors(target.state_dict())), description)
    return _named(_sklearn(target, description, digest=""), description)


def _from_text(
    target: str, trust_code: bool, trust_hosts: Collection[str], cap: Access | None, options: Mapping[str, Any]
) -> Oracle:
    path = Path(target)
    if target.startswith(("http://", "https://")):
        description = _described({"kind": "http", "url": target}, options)
        return _named(_http(description), description)
    if CODE.fullmatch(target) and not path.exists():
        made = call_code(target, trust_code=trust_code, **options)
        return made if isinstance(made, Oracle) else _from_object(made, cap, options)
    if path.is_dir():
        if not (path / DESCRIPTION).is_file():
            raise UsageError(
                f"{path} is a folder without a {DESCRIPTION}; give a file of it, or describe the model there"
            )
        path = path / DESCRIPTION
    if path.suffix.lower() == ".toml":
        read = read_description(path).model_dump(mode="json", exclude_unset=True)
        description = _described(read, options)
        if description.kind == "http":
            check_consent(path, _settings(description), named=options.keys(), trust_hosts=trust_hosts)
        return _named(_from_description(description, trust_code, cap), description)
    if path.is_file() and (told := told_format(path)):
        raise InvalidFile(f"{path} is {told}")
    kind = KINDS.get(path.suffix.lower(), options.get("kind"))
    if not path.is_file():
        known = "" if kind or path.exists() else f". {_known()}"  # what was meant may be none of the kinds either
        raise UsageError(f"{no_file(path)}{known}")
    if kind is None:
        raise UsageError(f"{target} is not known to be a model. {_known()}")
    description = _described({"kind": kind, "path": target}, options)
    return _named(_from_description(description, trust_code, cap), description)


def _named(oracle: Oracle, description: ModelDescription) -> Oracle:
    """The oracle with the names of its classes, in their order where a graph has the same in another."""
    names = description.class_names
    if set(oracle.class_names) != set(names):
        oracle.class_names = names or oracle.class_names
    return with_same_names(oracle, names)


def _from_description(description: ModelDescription, trust_code: bool, cap: Access | None) -> Oracle:
    cap = min(cap or Access.WEIGHTS, description.granted or Access.WEIGHTS)
    if description.kind == "http":
        return _lowered(_http(description), cap)
    path = Path(description.path or "")
    if description.kind == "onnx":
        return _onnx(path, description, cap)
    if description.kind == "skops":
        oracle = _sklearn(read_skops(path), description, digest=digest_file(path), name=path.name)
        return _lowered(oracle, cap)
    return _weights(path, description, trust_code, cap)


def _described(base: Mapping[str, Any], options: Mapping[str, Any]) -> ModelDescription:
    """The description ``base`` with options over it; options whorl does not know belong to an endpoint."""
    values = {key: value for key, value in base.items() if key not in ("input", "http")}
    pictures, http = dict(base.get("input", {})), dict(base.get("http", {}))
    fields = ModelDescription.model_fields.keys() - {"input", "http"}
    for key, value in options.items():
        if key in INPUT_OPTIONS:
            pictures[INPUT_OPTIONS[key]] = value
        elif key in fields and not (values["kind"] == "http" and key in HttpSettings.model_fields.keys() - {"url"}):
            values[key] = value
        elif values["kind"] == "http":
            http[key] = value
        else:
            known = _list(sorted((fields | INPUT_OPTIONS.keys()) - {"kind", "path", "url"}))
            raise UsageError(f"{values.get('path')} takes no option {key!r}. Known: {known}")
    try:
        return describe(values | {"input": pictures} | ({"http": http} if http else {}))
    except UsageError as error:
        if "path" not in values:  # an address may hold a key, which no message shows
            raise
        raise UsageError(f"{values['path']}: {error}") from None


def _shape(description: ModelDescription) -> tuple[tuple[int, int, int], int]:
    shape, classes = description.input.shape, description.class_count
    if shape is None or classes is None:
        lacking = _lacking(description)
        where = description.path or description.url
        raise Undescribed(
            f"{where} does not say its {' and '.join(lacking)}; give {_list(f'{name}=' for name in lacking)} "
            "or a model.toml with input.shape and classes",
            lacking,
        )
    return shape, classes


def _lacking(description: ModelDescription) -> dict[str, str]:
    """What is not known of the outside of a model, each with an example."""
    known = {"input_shape": description.input.shape, "classes": description.class_count}
    return {name: EXAMPLES[name] for name, value in known.items() if value is None}


def _weights(path: Path, description: ModelDescription, trust_code: bool, cap: Access) -> Oracle:
    if description.architecture is None and _says_architecture(path):
        module, header = read_model(path)
        own = {"input_shape": header.input_shape, "classes": header.classes}
        given = {"input_shape": description.input.shape, "classes": description.class_count}
        for key, value in given.items():
            if value not in (None, own[key]):
                raise UsageError(f"{path} has {key} {own[key]}; {value} is given. Leave it out")
        described = _described(description.model_dump(mode="json", exclude_unset=True), own)
        return _torch(module, described, cap, digest_tensors(module.state_dict()), path.name)
    if description.architecture is None:
        read_weights(path)  # of what holds none that is said, and no architecture asked for
        more = _lacking(description)
        told = f". It does not say its {' and '.join(more)} either; give {_list(f'{name}=' for name in more)} too"
        raise Undescribed(
            f"{path} holds weights without their architecture; give architecture=, as in 'resnet8(width=8)', "
            f"timm:resnet18 or module:callable{told if more else ''}",
            {"architecture": EXAMPLES["architecture"], **more},
        )
    shape, classes = _shape(description)
    weights = read_weights(path)
    module = load_architecture(description.architecture, trust_code=trust_code, input_shape=shape, classes=classes)
    load_weights(module, weights, str(path))
    return _torch(module.eval(), description, cap, digest_tensors(module.state_dict()), path.name)


def _torch(
    module: nn.Module, description: ModelDescription, cap: Access | None, digest: str, name: str = ""
) -> TorchOracle:
    shape, classes = _shape(description)
    adapter = description.input.convention.adapter(shape)
    if description.output == "labels":
        raise UsageError("a PyTorch model gives logits or probabilities; to grant labels only, give access='labels'")
    task = module.task if isinstance(module, Net) else description.task or "classification"
    if description.task not in (None, task):
        raise UsageError(
            f"{name or type(module).__name__} does {task}, and task={description.task} is given: leave it out"
        )
    if task == "classification" and classes < 2:
        raise UsageError(f"{name or type(module).__name__} is a classifier; it has 2 classes or more, not {classes}")
    if task != "classification" and description.output == "probabilities":
        raise UsageError(f"{name or type(module).__name__} is a {task} model, which gives no probabilities")
    device = next((parameter.device for parameter in module.parameters()), torch.device("cpu"))
    parts = [] if isinstance(adapter, nn.Identity) else [adapter.to(device)]
    parts += [module] + ([_Logarithm()] if description.output == "probabilities" else [])
    whole = module if len(parts) == 1 else nn.Sequential(*parts)
    whole.training = module.training  # not train(), which would reach into a module that is only borrowed
    return TorchOracle(
        whole,
        input_shape=shape,
        classes=classes,
        access=cap or Access.WEIGHTS,
        name=name or type(module).__name__,
        digest=digest,
        task=task,
    )


class _Logarithm(nn.Module):
    """Logits of probabilities: their softmax is the probabilities again."""

    def forward(self, probabilities: Tensor) -> Tensor:
        return probabilities.clamp_min(1e-30).log()


def _onnx(path: Path, description: ModelDescription, cap: Access) -> OnnxOracle:
    return OnnxOracle(
        path,
        input_shape=description.input.shape,
        classes=description.class_count,
        output=description.output,
        output_name=description.output_name,
        first_label=description.first_label,
        class_names=description.class_names,
        access=cap,
        convention=description.input.convention,
        columns=description.input.columns,
        task=description.task or "classification",
    )


def _sklearn(estimator: Any, description: ModelDescription, *, digest: str, name: str = "") -> SklearnOracle:
    if description.class_count is None and len(getattr(estimator, "classes_", ())) > 1:
        description = description.model_copy(update={"classes": len(estimator.classes_)})
    shape, classes = _shape(description)
    return SklearnOracle(
        estimator,
        input_shape=shape,
        classes=classes,
        convention=description.input.convention,
        class_names=description.class_names,
        columns=description.input.columns,
        name=name,
        digest=digest,
    )


def _settings(description: ModelDescription) -> HttpSettings:
    return HttpSettings.read(
        {key: value for key, value in description.http.items() if key != "budget"} | {"url": description.url}
    )


def _http(description: ModelDescription) -> Oracle:
    from whorl.oracles.http import HttpOracle

    budget = description.http.get("budget")
    settings = _settings(description)  # first, as it keeps keys in a URL out of messages
    shape, classes = _shape(description)
    output = "logits" if description.numbers else description.output
    if output is None:
        raise UsageError(
            f"{description.url} does not say what it answers; give output='labels', one of {_list(GRANTS)}"
        )
    if budget is not None and (type(budget) is not int or budget < 0):
        raise UsageError(f"budget must be a whole number of queries, at least 0; it is {budget!r}")
    return HttpOracle(
        settings,
        input_shape=shape,
        classes=classes,
        access=GRANTS[output],
        convention=description.input.convention,
        first_label=description.first_label,
        class_names=description.class_names,
        budget=budget,
        task=description.task or "classification",
    )


def _list(names: Iterable[str]) -> str:
    return ", ".join(names)


def _known() -> str:
    return (
        "Known: an oracle, a PyTorch module, a scikit-learn classifier, model.toml or a folder that holds one, "
        f"{_list(sorted(KINDS))}, http(s)://..., and module:callable with --trust-code"
    )
