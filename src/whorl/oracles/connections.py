"""A bound on the time that one answer may take, which the time-outs of httpx2 do not give: each byte begins them anew.

Imported only where httpx2 is installed.
"""

from __future__ import annotations

import time
from typing import Any

import httpcore2

__all__ = ["bound"]


def bound(client: Any, seconds: float) -> None:
    """Let every connection of an ``httpx2.Client`` read for at most ``seconds`` after the last byte that it sent.

    Headers that drip, and interim responses (100 Continue) without end, then end in a time-out. The way to a pool is
    private; transports of one's own would lose the proxies of the environment.
    """
    for transport in (client._transport, *client._mounts.values()):
        if transport is not None:
            transport._pool._network_backend = _Backend(transport._pool._network_backend, seconds)


class _Backend(httpcore2.NetworkBackend):
    def __init__(self, inner: Any, seconds: float) -> None:
        self._inner = inner
        self._seconds = seconds

    def connect_tcp(self, *given: Any, **named: Any) -> _Stream:
        return _Stream(self._inner.connect_tcp(*given, **named), self._seconds)

    def connect_unix_socket(self, *given: Any, **named: Any) -> _Stream:
        return _Stream(self._inner.connect_unix_socket(*given, **named), self._seconds)

    def sleep(self, seconds: float) -> None:
        self._inner.sleep(seconds)


class _Stream(httpcore2.NetworkStream):
    def __init__(self, inner: Any, seconds: float) -> None:
        self._inner = inner
        self._seconds = seconds
        self._sent = time.monotonic()

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        left = self._sent + self._seconds - time.monotonic()
        if left <= 0:
            raise httpcore2.ReadTimeout
        return self._inner.read(max_bytes, left if timeout is None else min(timeout, left))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, timeout)
        self._sent = time.monotonic()

    def close(self) -> None:
        self._inner.close()

    def start_tls(self, *given: Any, **named: Any) -> _Stream:
        return _Stream(self._inner.start_tls(*given, **named), self._seconds)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)
