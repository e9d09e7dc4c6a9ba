"""Where stdout and stderr lead, whoever writes to them: a pipe that nobody reads any more, a disk that is full."""

from __future__ import annotations

import io
import os
import sys
from typing import Any, Final, TextIO

__all__ = ["STDOUT", "open_streams"]

STDOUT: Final = "stdout"  # what a refusal to write the result calls its file


class _Outlet(io.FileIO):
    """A descriptor that takes everything and drops what nobody can get, so that a verb still does its work.

    Where a reader has gone (``whorl ... | head -1``) nothing is said, as he has seen enough. Where the result finds no
    room, the first write raises `OSError`; chatter that finds none is dropped, as there is nowhere to say so.
    """

    def __init__(self, descriptor: int, name: str) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self._called, self._dropping = name, False

    def write(self, content: Any, /) -> int | None:
        if not self._dropping:
            try:
                return super().write(content)
            except BrokenPipeError:
                self._dropping = True
            except OSError as error:
                self._dropping = True
                if self._called == STDOUT:
                    error.filename = STDOUT
                    raise
        return memoryview(content).nbytes


def open_streams() -> None:
    """Let stdout and stderr of this process be such outlets, and write signs beyond a terminal's own as escapes."""
    sys.stdout = _opened(sys.stdout, STDOUT)
    sys.stderr = _opened(sys.stderr, "stderr")


def _opened(stream: TextIO | None, name: str) -> TextIO:
    if stream is None:  # closed by the caller, as by >&-
        return open(os.devnull, "w", encoding="utf-8")
    if not isinstance(stream, io.TextIOWrapper):
        return stream
    stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(_Outlet(stream.fileno(), name)),
        encoding=stream.encoding,
        errors="backslashreplace",
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )
