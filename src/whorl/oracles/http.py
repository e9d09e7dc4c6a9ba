"""A model behind an HTTP endpoint, asked politely and as rarely as possible.

Every answer is handed on as soon as it arrives, and a failure hands on first what has already been answered, so that
under a `Recorded` oracle a kill costs what was on its way and no more. The endpoint is taken for hostile: bodies are
cut off at a limit, its redirects are not followed, and a key never leaves for another host or into a message.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import torch
from torch import Tensor

from whorl.errors import BudgetExhausted, MissingExtra, OracleError, UsageError, WhorlError
from whorl.oracles.base import Chunk, Oracle
from whorl.oracles.binary_tensors import HEADER
from whorl.oracles.convention import InputConvention
from whorl.oracles.endpoint import HttpSettings
from whorl.oracles.formats import AnswerFormat, InputFormat, shorten
from whorl.oracles.open_inference import OpenInference
from whorl.oracles.protocols import HuggingFace, Protocol, Request, Template, TensorFlowServing
from whorl.oracles.redaction import redacted
from whorl.oracles.waiting import estimated, seconds
from whorl.types import Access, Task

__all__ = ["HttpOracle", "HttpSettings"]

logging.getLogger("stamina").addHandler(logging.NullHandler())  # or each retry would be printed without its cause

# What decides which question a picture becomes and what its answer means: answers are replayed only where it agrees.
_MEANING: Final = {"url", "protocol", "model", "output_name", "signature", "template", "answer", "flat"}
_COMPLAINT: Final = 2048  # bytes of an error page worth reading


class _Unavailable(OracleError):
    """An attempt that is worth repeating, after ``wait`` seconds where the endpoint says so."""

    def __init__(self, message: str, wait: float | None = None) -> None:
        super().__init__(message)
        self.wait = wait


class _Reply(NamedTuple):
    status: int
    body: bytes | bytearray
    json_length: str | None = None  # where the JSON of a binary answer ends, as its header says


class _NotAsked(OracleError):
    """A request that was given up because another one failed."""


class HttpOracle(Oracle):
    """A model behind an HTTP endpoint.

    ``sent`` counts inputs that left this machine, those of repeated attempts included, because a paid endpoint may
    bill them; ``budget`` bounds it. ``queries_spent`` counts answers.

    Parameters:
        access: what the endpoint answers with: LABELS, PROBABILITIES or LOGITS.
        convention: how the model wants its pictures.
        first_label: number of the first class where labels are given as numbers.
        class_names: the endpoint's names of the classes in order; ``LABEL_0`` and so on where empty.
        task: what the answers are; those that are no classes come as LOGITS.
        budget: inputs that may be sent at most; the next one ends in `BudgetExhausted` before it is sent.

    Raises:
        MissingExtra: httpx2, stamina or jmespath is not installed.
        UsageError: the settings cannot work, or the environment variable of the key is not set.
    """

    def __init__(  # noqa: PLR0913 each is a field of `ModelDescription`
        self,
        settings: HttpSettings,
        *,
        input_shape: tuple[int, int, int],
        classes: int,
        access: Access,
        convention: InputConvention | None = None,
        first_label: int = 0,
        class_names: tuple[str, ...] = (),
        budget: int | None = None,
        task: Task = "classification",
    ) -> None:
        convention = convention or InputConvention()
        self.settings = settings
        outputs = AnswerFormat(access, classes, class_names, first_label)
        self._protocol = _protocol(settings, InputFormat(convention, settings.flat), outputs)
        self._protocol.check(input_shape)
        self._batch = min(settings.batch, self._protocol.most or settings.batch)
        meaning = settings.model_dump(include=_MEANING)
        meaning |= {"access": access.name, "convention": _told(convention), "names": class_names, "shape": input_shape}
        meaning |= {"first_label": first_label} if first_label else {}
        meaning |= {"task": task} if task != "classification" else {}
        meaning |= {"classification": settings.classification} if settings.classification else {}
        super().__init__(
            access=access,
            input_shape=input_shape,
            classes=classes,
            name=_shown(_joined(settings.url, self._protocol.path)),
            digest=hashlib.sha256(json.dumps(meaning, sort_keys=True).encode()).hexdigest(),
            block=self._batch * settings.concurrency,
            task=task,
        )
        self.budget = budget
        self.sent = 0
        self._lock = threading.Lock()
        self._parsing = threading.Lock()  # a parsed body takes many times its size, so one at a time
        self._next_start = 0.0
        self._described = not isinstance(self._protocol, OpenInference) or self._protocol.named
        self._key = _key(settings)
        self._client, self._attempts = _client(settings, self._key)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _stream(self, inputs: Tensor) -> Iterator[Chunk]:
        try:
            yield from self._asked(inputs)
        except OracleError as error:  # the one kind of error that quotes the endpoint
            raise OracleError(redacted(str(error), self._key)) from None

    def _asked(self, inputs: Tensor) -> Iterator[Chunk]:
        affordable = inputs if self.budget is None else inputs[: max(0, self.budget - self.sent)]
        if len(affordable):
            self._describe()
        failure: WhorlError | None = None
        stopped = threading.Event()
        pool = ThreadPoolExecutor(self.settings.concurrency, thread_name_prefix="whorl-http")
        try:
            for positions, future in self._requests(pool, affordable, stopped):
                try:
                    answers = future.result()
                except _NotAsked:
                    continue
                except WhorlError as error:
                    # What is on its way may be answered and billed, so it is waited for; nothing new is sent.
                    failure = failure or error
                    continue
                yield positions, answers
        finally:
            stopped.set()
            pool.shutdown(wait=True, cancel_futures=True)
        if failure is not None:
            raise failure
        if len(affordable) < len(inputs):
            raise self._exhausted()

    def _requests(
        self, pool: ThreadPoolExecutor, inputs: Tensor, stopped: threading.Event
    ) -> Iterator[tuple[Tensor, Future[Tensor]]]:
        """Each request when it has ended, with the positions of its inputs.

        The next is sent when the caller comes for more, and so has kept what came: a kill costs one block at most.
        """
        parts = (torch.arange(len(inputs))[start:][: self._batch] for start in range(0, len(inputs), self._batch))
        pending: dict[Future[Tensor], Tensor] = {}
        while True:
            for positions in islice(parts, self.settings.concurrency - len(pending)):
                pending[pool.submit(self._ask, inputs[positions], stopped)] = positions
            if not pending:
                return
            for future in wait(pending, return_when=FIRST_COMPLETED).done:
                yield pending.pop(future), future

    def _describe(self) -> None:
        """Ask a v2 server once for the names of its tensors; a server that has no description is taken as it is."""
        if self._described or not isinstance(self._protocol, OpenInference):
            return
        url = _joined(self.settings.url, self._protocol.description_path)
        reply = self._exchange("GET", url, None, 0, threading.Event())
        if reply.status < 400:
            self._protocol = self._extended(self._read(url, self._protocol.described, reply.body, self.input_shape))
            self._protocol.check(self.input_shape)
        if self._protocol.unnamed:
            raise UsageError("classification is asked of one output, which the server does not name; set output_name")
        self._described = True

    def _extended(self, protocol: OpenInference) -> OpenInference:
        """With tensors as bytes where the server knows them; one that says nothing of itself is sent JSON."""
        if self.settings.binary is not None:
            return protocol
        try:
            self._pace(threading.Event())
            reply = self._send("GET", _joined(self.settings.url, "/v2"), None, 0)
            return protocol.extended(reply.body) if reply.status < 300 else protocol
        except OracleError:  # a gateway may know models alone
            return protocol

    def _ask(self, inputs: Tensor, stopped: threading.Event) -> Tensor:
        url = _joined(self.settings.url, self._protocol.path)
        try:
            if stopped.is_set():
                raise _NotAsked
            reply = self._exchange("POST", url, self._protocol.request(inputs), len(inputs), stopped)
            if reply.status >= 300:
                raise OracleError(f"{_shown(url)} answers {reply.status}{self._complaint(reply.body)}")
            with self._parsing:
                return self._read(url, self._protocol.answers, reply.body, len(inputs), reply.json_length)
        except BaseException:
            stopped.set()  # here, not where the error is read: this thread would begin the next request before that
            raise

    def _read(self, url: str, read: Callable[..., Any], *given: Any) -> Any:
        try:
            return read(*given)
        except OracleError as error:
            raise OracleError(f"{_shown(url)}: {error}") from None

    def _exchange(self, method: str, url: str, request: Request | None, count: int, stopped: threading.Event) -> _Reply:
        """The reply to the first attempt that is not worth repeating."""
        attempts = 0
        try:
            for attempt in self._attempts():
                with attempt:
                    attempts += 1
                    self._pace(stopped)
                    self._charge(count)
                    return self._send(method, url, request, count)
        except _Unavailable as error:
            times = f" (asked {attempts} times)" if attempts > 1 else ""
            raise OracleError(f"{_shown(url)} {error}{times}; what was answered is kept, try again later") from None
        raise AssertionError("the last attempt returns or raises")

    def _pace(self, stopped: threading.Event) -> None:
        """Wait for this request's turn."""
        delay = 0.0
        if self.settings.rate is not None:
            with self._lock:
                start = max(time.monotonic(), self._next_start)
                self._next_start = start + 1 / self.settings.rate
            delay = start - time.monotonic()
        if stopped.wait(delay) if delay > 0 else stopped.is_set():
            raise _NotAsked

    def _charge(self, count: int) -> None:
        with self._lock:
            if self.budget is not None and self.sent + count > self.budget:
                raise self._exhausted()
            self.sent += count

    def _exhausted(self) -> BudgetExhausted:
        return BudgetExhausted(
            f"{self.name}: {self.sent} of a budget of {self.budget} queries are spent and more are needed; "
            "give a larger budget"
        )

    def _send(self, method: str, url: str, request: Request | None, count: int) -> _Reply:
        """One attempt. Raises `_Unavailable` where another may help."""
        import httpx2

        body, headers = (request.body, dict(request.headers)) if request else (b"", {})
        try:
            with self._client.stream(method, url, content=body, headers=headers) as response:
                status = response.status_code
                if status < 300:
                    return _Reply(status, self._whole(response), response.headers.get(HEADER))
                complaint = self._opening(response)
                after = seconds(response.headers.get("retry-after"))
                if status not in (408, 429) and status < 500:
                    if 300 <= status < 400:
                        raise OracleError(f"{_shown(url)} redirects elsewhere ({status}), which is not followed")
                    return _Reply(status, complaint)
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout) as error:
            with self._lock:
                self.sent -= count  # nothing left this machine
            raise _Unavailable(f"cannot be reached ({shorten(error) or type(error).__name__})") from None
        except httpx2.TimeoutException:
            raise _Unavailable(f"did not answer within {self.settings.timeout:g} s") from None
        except httpx2.TransportError as error:
            raise _Unavailable(f"lost the connection ({type(error).__name__})") from None
        if after is None and (estimate := estimated(complaint)) is not None:
            after = min(estimate, self.settings.max_wait)
        message = f"answers {status}{self._complaint(complaint)}"
        if after is not None and after > self.settings.max_wait:
            raise OracleError(
                f"{_shown(url)} {message} and asks to wait {after:.0f} s, longer than max_wait, "
                f"{self.settings.max_wait:g} s; what was answered is kept, try again later"
            )
        raise _Unavailable(message, after)

    def _whole(self, response: Any) -> bytearray:
        """The body, cut off at the limit: neither its size nor its slowness is up to the endpoint."""
        encoding = response.headers.get("content-encoding", "identity")
        if encoding.lower() != "identity":
            raise OracleError(f"{self.name} compresses its answer ({shorten(encoding, 20)}) although asked not to")
        limit, declared = self.settings.max_response_bytes, int(response.headers.get("content-length", 0))
        deadline = time.monotonic() + self.settings.timeout
        body = bytearray()
        for part in response.iter_raw():
            body += part
            if max(declared, len(body)) > limit:
                raise OracleError(
                    f"{self.name} sends more than {limit} bytes for an answer; "
                    "ask for less at a time (batch) or raise max_response_bytes"
                )
            if time.monotonic() > deadline:
                raise _Unavailable(f"did not finish its answer within {self.settings.timeout:g} s")
        return body

    def _opening(self, response: Any) -> bytes:
        """As much of an error page as is worth reading."""
        deadline = time.monotonic() + self.settings.timeout
        opening = b""
        for part in response.iter_raw():
            opening += part
            if len(opening) > _COMPLAINT or time.monotonic() > deadline:
                break
        return opening[:_COMPLAINT]

    def _complaint(self, body: bytes | bytearray) -> str:
        text = shorten(body.decode(errors="replace"), 200)
        return f": {text}" if text else ""


def _protocol(settings: HttpSettings, inputs: InputFormat, outputs: AnswerFormat) -> Protocol:
    model, output = settings.model, settings.output_name
    if settings.protocol == "v2":
        names = (settings.input_name, output, settings.datatype)
        binary = settings.datatype == "BF16" if settings.binary is None else settings.binary
        return OpenInference(model, inputs, outputs, *names, binary, settings.classification)
    if settings.protocol == "tensorflow":
        return TensorFlowServing(model, inputs, outputs, output, settings.signature)
    if settings.protocol == "template":
        return Template(settings.template, settings.answer, inputs, outputs, model)
    if inputs != InputFormat():
        raise UsageError("Hugging Face takes PNG pictures; leave out range, layout, mean, std and flat")
    return HuggingFace(model, outputs)


def _told(convention: InputConvention) -> str:
    """The convention in words that stay, so that answers which were recorded before a field came are still found."""
    fields = {"range": convention.bounds, "layout": convention.layout, "mean": convention.mean, "std": convention.std}
    fields |= {"channels": convention.channels} if convention.channels != "RGB" else {}
    return f"InputConvention({', '.join(f'{key}={value!r}' for key, value in fields.items())})"


def _key(settings: HttpSettings) -> str:
    if settings.key_env is None:
        return ""
    key = os.environ.get(settings.key_env, "")
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise UsageError(
            f"the environment variable {settings.key_env} holds no API key; type: export {settings.key_env}=…"
        )
    return key


def _client(settings: HttpSettings, key: str) -> tuple[Any, Callable[[], Any]]:
    """A client, and a maker of attempts."""
    try:
        import httpx2
        import stamina

        from whorl.oracles.connections import bound
    except ImportError:
        raise MissingExtra("HTTP endpoints", "http") from None
    headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
    if key:
        headers[settings.key_header] = f"{settings.key_scheme} {key}".strip()
    limits = httpx2.Limits(max_connections=settings.concurrency, max_keepalive_connections=settings.concurrency)
    client = httpx2.Client(headers=headers, timeout=settings.timeout, limits=limits, follow_redirects=False)
    bound(client, 2 * settings.timeout)  # for a head and a body, each of which may take the time-out

    def pause(error: Exception) -> bool | float:
        return (True if error.wait is None else error.wait) if isinstance(error, _Unavailable) else False

    def attempts() -> Any:
        return stamina.retry_context(
            on=pause,
            attempts=settings.retries + 1,
            timeout=None,
            wait_initial=min(0.2, settings.max_wait),
            wait_max=settings.max_wait,
            wait_jitter=min(0.2, settings.max_wait),
        )

    return client, attempts


def _joined(url: str, path: str) -> str:
    parts = urlsplit(url)
    return parts._replace(path=parts.path.rstrip("/") + path if path else parts.path).geturl()


def _shown(url: str) -> str:
    """The address without its query string."""
    return urlsplit(url)._replace(query="").geturl()
