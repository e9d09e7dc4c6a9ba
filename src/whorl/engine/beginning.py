"""How worker processes begin: forked from a process that has imported torch and computed nothing.

A fork begins at once, in memory that it shares with the others; an interpreter of its own takes seconds, and hundreds
of MiB, before it has imported torch. A torch that has computed may hang in its pool of threads once it is forked, but
one that was only imported has no threads.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing import forkserver
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerContext, SpawnContext  # the first is not on every system

__all__ = ["context"]


def context() -> ForkServerContext | SpawnContext:
    """What begins workers here: a server of forks on Linux, new interpreters elsewhere.

    The libraries of macOS that torch links do not bear a fork, whatever was computed.
    """
    if sys.platform.startswith("linux"):
        try:
            _ensure_server()
        except OSError:  # the name of the folder of temporary files is too long for a socket
            pass
        else:
            return multiprocessing.get_context("forkserver")
    return multiprocessing.get_context("spawn")


def _ensure_server() -> None:
    """Have a server that imports what is imported here of whorl, unless there is one."""
    # Without a folder in front of the search path that holds the suspect's files, and may hold a torch.py among them.
    search = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONSAFEPATH": "1"}
    ours = [name for name in sys.modules if name.startswith("whorl.") and not name.startswith("whorl.cli")]
    forkserver.set_forkserver_preload(ours)
    # Ctrl-C is the parent's, and a server that is importing would answer it with a traceback.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        with _environment(search):
            forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _environment(changes: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
