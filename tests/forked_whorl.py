"""The command ``whorl`` for tests that type it often: each call is a fork of a process that has imported torch already.

A fork finds no module of whorl's own imported. Its arguments, folder, environment and streams are those of the call,
and it runs the installed command, so it differs from a process begun anew by the seconds that torch, scipy and
scikit-learn take. `tests/cli/test_console_script.py` begins its processes anew.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
from pathlib import Path

INSTALLED = Path(sys.executable).with_name("whorl")
HEAVY = ("torch", "scipy.optimize", "scipy.stats", "sklearn.ensemble", "typer", "rich.progress", "pydantic", "jinja2")
CALL = """#!{python} -IS
import json, os, socket, sys

with socket.socket(socket.AF_UNIX) as line:
    line.connect({address!r})
    socket.send_fds(line, [b"."], [0, 1, 2])
    line.sendall(json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode())
    line.shutdown(socket.SHUT_WR)
    code = int(line.makefile().read() or 1)
if code < 0:
    os.kill(os.getpid(), -code)
sys.exit(code)
"""


class Forked:
    """Puts ``whorl`` into ``folder``, for whoever has that folder first in PATH. To be stopped."""

    def __init__(self, folder: Path, environment: dict[str, str]):
        folder.mkdir()
        self.folder = folder
        place = folder / "line"
        call = folder / "whorl"
        call.write_text(CALL.format(python=sys.executable, address=str(place)))
        call.chmod(0o755)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(place))
            listener.listen()
            self.process = subprocess.Popen(
                [sys.executable, __file__, str(listener.fileno())], pass_fds=[listener.fileno()], env=environment
            )

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()


def wait_for_a_call(listener: socket.socket) -> socket.socket:
    """The line of the next call. Returns in processes that have one to answer, and never in this one."""
    while True:
        line, _ = listener.accept()
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            if child := os.fork():
                _, status = os.waitpid(child, 0)
                line.sendall(str(os.waitstatus_to_exitcode(status)).encode())
                os._exit(0)
            return line
        line.close()


def take(line: socket.socket) -> None:
    """Become the process that the call would have begun."""
    _, streams, _, _ = socket.recv_fds(line, 1, 3)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    sys.stdin, sys.stdout = os.fdopen(0, closefd=False), os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", 1, errors="backslashreplace", closefd=False)
    with line.makefile() as told:
        arguments, folder, environment = json.loads(told.read())
    line.close()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = [str(INSTALLED), *arguments]
    search = environment.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:1] = [str(INSTALLED.parent), *(each for each in search if each)]


if __name__ == "__main__":
    for name in HEAVY:
        importlib.import_module(name)
    gc.freeze()  # a search for cycles would write to, and so copy, every page that the forks share
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for who waits for the call
    with socket.socket(fileno=int(sys.argv[1])) as listening:
        call = wait_for_a_call(listening)
    take(call)
    runpy.run_path(str(INSTALLED), run_name="__main__")
