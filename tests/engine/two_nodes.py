"""A Ray cluster of two nodes on this machine: processes of their own, loopback addresses, a folder, a secret token."""

from __future__ import annotations

import ctypes
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

ADDRESSES = ("127.0.0.2", "127.0.0.3")  # Ray takes 127.0.0.1 for the address of the network card
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "token",  # it listens on every interface
    "RAY_AUTH_TOKEN": secrets.token_hex(32),
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_failure_threshold": "4",
    "OMP_NUM_THREADS": "1",
}
PRCTL = ctypes.CDLL(None).prctl if sys.platform == "linux" else None


class TwoNodes:
    """One core each. A driver needs `ENVIRONMENT` too, from before it imports ray."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind((ADDRESSES[0], 0))
            self.address = f"{ADDRESSES[0]}:{free.getsockname()[1]}"
        self.folder = folder
        self.processes: list[subprocess.Popen[bytes]] = []
        try:
            for number in range(len(ADDRESSES)):
                self.processes.append(self._start(number))
                self._wait_for(number)
        except BaseException:
            self.stop()
            raise

    def _start(self, number: int) -> subprocess.Popen[bytes]:
        port = self.address.rpartition(":")[2]
        place = ["--address", self.address]
        if number == 0:
            place = ["--head", "--port", port, "--temp-dir", str(self.folder), "--include-dashboard=false"]
        common = ["--num-cpus=1", "--num-gpus=0", "--object-store-memory=80000000", "--disable-usage-stats", "--block"]
        with self._log(number).open("wb") as log:
            return subprocess.Popen(
                [
                    Path(sys.executable).with_name("ray"),
                    "start",
                    f"--node-ip-address={ADDRESSES[number]}",
                    *place,
                    *common,
                ],
                env=os.environ
                | ENVIRONMENT
                | {
                    "RAY_TMPDIR": str(self.folder),
                    "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]),
                },
                cwd=self.folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=_end_with_parent,
            )

    def _log(self, number: int) -> Path:
        return self.folder / f"node{number}.log"

    def _wait_for(self, number: int, seconds: float = 120) -> None:
        deadline = time.monotonic() + seconds
        while "runtime started" not in self._log(number).read_text():
            assert self.processes[number].poll() is None, self._log(number).read_text()
            assert time.monotonic() < deadline, self._log(number).read_text()
            time.sleep(0.05)

    def kill(self, number: int) -> None:
        """SIGKILL for everything on a node, as when its power fails."""
        root = self.processes[number]
        if root.poll() is not None:
            return  # its number may be somebody else's by now
        for pid in [root.pid, *_descendants(root.pid)]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        root.wait()

    def stop(self) -> None:
        for number in range(len(self.processes)):
            self.kill(number)


def _end_with_parent() -> None:
    """Ray stops the node on SIGTERM, which the kernel sends when the process of the tests is killed."""
    PRCTL(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def meet(folder: Path, round_: int) -> tuple[str, int]:
    """Wait until a task on the other node has come here too; return the address of this node and the process."""
    from ray.util import get_node_ip_address

    place = str(get_node_ip_address())
    (folder / f"{round_} {place}").touch()
    deadline = time.monotonic() + 120
    while len(list(folder.glob(f"{round_} *"))) < len(ADDRESSES):
        assert time.monotonic() < deadline, "nobody came"
        time.sleep(0.01)
    return place, os.getpid()


def _descendants(root: int) -> list[int]:
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    found, new = [], [root]
    while new:
        new = [pid for pid, parent in parents.items() if parent in new]
        found += new
    return found
