"""The models that are held against a fingerprint: opened with what it knows of them, their answers recorded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn

from whorl.errors import UsageError
from whorl.fingerprints.second import identity
from whorl.nets.base import Net
from whorl.oracles.base import Oracle
from whorl.oracles.opening import open_oracle, options_for
from whorl.oracles.recorded import Recorded
from whorl.schemes import SCHEMES
from whorl.types import Fingerprint, Rule
from whorl.zoo.cache import default_cache

__all__ = ["asked", "one_of", "opened_for"]


def opened_for(fingerprint: Fingerprint, model: Any, /, **options: Any) -> Oracle:
    """An oracle for a model that is held against a fingerprint.

    The fingerprint knows the shape and the classes that a bare file, an address or a plain module does not tell.
    """
    if isinstance(model, str | Path):
        described = (".toml", ".skops") if "architecture" in options else (".toml", ".skops", ".safetensors")
        bare = Path(model).suffix.lower() not in described and not Path(model).is_dir()
    else:
        bare = isinstance(model, nn.Module) and not isinstance(model, Net)
    known: dict[str, Any] = {"input_shape": list(fingerprint.space.shape)} if bare else {}
    graph = isinstance(model, str | Path) and Path(model).suffix.lower() == ".onnx"
    if bare and not (graph and SCHEMES.make(fingerprint.scheme).any_classes):  # a graph knows how many it has itself
        known["classes"] = fingerprint.classes
    return open_oracle(model, **known | options)


def one_of(fingerprint: Fingerprint, model: Any, /, **options: Any) -> Oracle:
    """One of several models that are described together; an oracle says all of itself."""
    return model if isinstance(model, Oracle) else opened_for(fingerprint, model, **options_for(model, options))


@contextmanager
def asked(
    fingerprints: Sequence[Fingerprint],
    suspect: Any,
    rule: Rule,
    options: Mapping[str, Any],
    *,
    record: Path | str | None,
    replay: bool,
    cache: Path | None,
) -> Iterator[Oracle]:
    """The suspect, opened; its answers recorded where that was asked for, or where they may cost something."""
    oracle = opened_for(fingerprints[0], suspect, **options)
    if record is None and oracle.block is not None and oracle.digest:
        record = (cache or default_cache()) / "answers" / f"{oracle.digest[:20]}-{oracle.access.name.lower()}.sqlite"
    if record is None:
        if replay:
            raise UsageError(f"answers of {oracle.name} are not recorded, so none can be replayed; leave out --replay")
        yield oracle
        return
    if not replay:
        Path(record).parent.mkdir(parents=True, exist_ok=True)
    purpose = " ".join(sorted(identity(each) for each in fingerprints))
    recorded = Recorded(oracle, record, purpose=purpose, rule=str(rule), replay=replay)
    try:
        yield recorded
        recorded.finish()  # only here, where there is a verdict: what ends in an error or by a signal is gone on with
    finally:
        recorded.close()
