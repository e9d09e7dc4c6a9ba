"""The installed command as a shell sees it: exit codes, streams, signals, pipes and colours."""

from __future__ import annotations

import json
import os
import re
import runpy
import shlex
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from model_server import ModelServer
from rich.console import Console

from whorl.cli import console
from whorl.nets.files import read_model
from whorl.zoo.cache import Zoo
from whorl.zoo.recipe import parse_recipe

QUICK = "train(mlp(width=8), digits(size=8), epochs=1)"
WHORL = Path(sys.executable).with_name("whorl")
PATIENCE = 120  # seconds for a process on a busy machine


def environment(**changes):
    kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS")}
    return kept | {"OMP_NUM_THREADS": "1", "NO_PROXY": "127.0.0.1", "TERM": "xterm-256color"} | changes


def run(arguments, **changes):
    command = [WHORL, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, env=environment(**changes))


def on_a_terminal(arguments, **changes):
    """Exit code, and what a person at a terminal sees (both streams)."""
    ours, theirs = os.openpty()
    command = [WHORL, *map(str, arguments)]
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs, env=environment(**changes)
    ) as process:
        os.close(theirs)
        seen = b""
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # how Linux says that the other side is closed
                break
            if not part:
                break
            seen += part
    os.close(ours)
    return process.returncode, seen.decode()


@pytest.fixture(scope="module")
def results(case, tmp_path_factory):
    """Every situation of this file, run side by side, as an interpreter takes seconds to import torch."""
    folder = tmp_path_factory.mktemp("script")
    torn = folder / "torn.fp"
    torn.write_bytes(case.calibrated.read_bytes()[:-100])
    described = folder / "described"
    described.mkdir()
    (described / "model.toml").write_text(f'kind = "torch"\npath = "{case.victim}"\naccess = "labels"\n')
    net, header = read_model(case.stolen)
    verify = ["verify", case.calibrated, case.stolen, "--alpha", "0.05"]
    doubtful = ["verify", case.raw, case.stolen, "--fail-on", "inconclusive"]
    with ModelServer(net, header.input_shape) as server, ThreadPoolExecutor(4) as pool:
        endpoint = ["--set", "model=m", "--set", "output=logits", "--record", folder / "answers.sqlite"]
        situations = {
            "done": [*verify, "--json"],
            "unreachable": ["verify", case.calibrated, "http://127.0.0.1:1", *endpoint[:4], "--set", "retries=0"],
            "unknown option": ["verify", case.calibrated, case.stolen, "--nonsense"],
            "unknown verb": ["verfy"],
            "no number": [*verify, "--budget", "many"],
            "exhausted": ["verify", case.calibrated, server.url, *endpoint, "--set", "budget=3", "--set", "batch=1"],
            "refused": ["extract", described, "--data", "digits(size=8)", "-o", folder / "x.fp"],
            "tampered": ["verify", torn, case.stolen],
        }
        caches = {"WHORL_CACHE": str(folder / "cache")}
        found = {name: pool.submit(run, arguments, **caches) for name, arguments in situations.items()}
        terminals = {
            "derived": pool.submit(on_a_terminal, [*verify, "--fail-on", "derived"], **caches),
            "inconclusive": pool.submit(on_a_terminal, doubtful, NO_COLOR="1", **caches),
        }
        yield {name: future.result() for name, future in (found | terminals).items()} | {"asked": server.asked}


def test_help_and_version_answer_without_torch():
    code = "import sys; import whorl.cli.app; print(*sorted({'torch', 'numpy', 'sklearn'} & sys.modules.keys()))"
    imported = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE)
    assert (imported.stdout, imported.stderr) == ("\n", "")
    shown = run(["--help"])
    assert (shown.returncode, shown.stderr) == (0, "")
    for verb in ("demo", "extract", "calibrate", "verify", "schemes", "removals", "zoo", "bench", "report", "doctor"):
        assert re.search(rf"^│ {verb} ", shown.stdout, re.MULTILINE)
    assert "Exit codes: 0 done; 1 error; 2 usage" in shown.stdout
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", run(["--version"]).stdout)


def test_the_package_is_the_command_too():
    def as_module(*arguments):
        command = [sys.executable, "-m", "whorl", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, env=environment())

    assert as_module("schemes", "--json").stdout == run(["schemes", "--json"]).stdout != ""
    assert as_module("verfy").returncode == 2


def test_a_worker_that_reads_the_main_module_again_runs_nothing():
    main = Path(console.__file__).parents[1] / "__main__.py"
    assert "main" in runpy.run_path(str(main), run_name="__mp_main__")


def test_the_result_is_one_document_on_stdout(results):
    done = results["done"]
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["decision"] == "derived"
    assert done.stdout.endswith("}\n")


@pytest.mark.parametrize(
    ("situation", "code", "told"),
    [
        ("unreachable", 1, "cannot be reached"),
        ("exhausted", 5, "3 of a budget of 3 queries are spent and more are needed; give a larger budget"),
        ("refused", 6, "ipguard needs GRADIENTS of the victim"),
        ("tampered", 7, "torn.fp"),
    ],
)
def test_an_error_is_one_line_and_its_code(results, situation, code, told):
    found = results[situation]
    assert (found.returncode, found.stdout) == (code, "")
    (line,) = found.stderr.splitlines()
    assert line.startswith("error: ")
    assert told in line


@pytest.mark.parametrize(
    ("situation", "told"), [("unknown option", "--nonsense"), ("unknown verb", "'verify'"), ("no number", "--budget")]
)
def test_a_command_that_cannot_be_read_is_a_usage_error(results, situation, told):
    found = results[situation]
    assert (found.returncode, found.stdout) == (2, "")
    assert told in found.stderr
    assert "Traceback" not in found.stderr


def test_a_hard_budget_is_kept(results):
    assert sum(results["asked"].values()) == 3


def test_colours_are_for_terminals_that_want_them_and_decisions_for_scripts_that_ask(results):
    hue = re.compile(r"\x1b\[(\d+;)*(3[0-7]|9[0-7]|[34]8;)")
    code, seen = results["derived"]
    assert code == 3
    assert "DERIVED" in seen
    assert hue.search(seen)
    code, seen = results["inconclusive"]
    assert code == 4
    assert "INCONCLUSIVE" in seen
    assert not hue.search(seen)
    for found in results.values():
        if isinstance(found, subprocess.CompletedProcess):
            assert "\x1b" not in found.stdout + found.stderr


def test_quiet_is_quiet_on_a_terminal_too(whorl, monkeypatch):
    monkeypatch.setattr(console, "chatter", Console(stderr=True, force_terminal=True))
    monkeypatch.setattr(console, "_draws", lambda: True)
    loud = whorl("zoo", "build", QUICK, "-j", "1")
    assert "1/1" in loud.stderr
    quiet = whorl("zoo", "build", QUICK, f"{QUICK} -> quantise(int8)", "-j", "1", "-q")
    assert quiet.stderr == ""
    assert quiet.stdout.startswith(loud.stdout)
    assert re.fullmatch(r"[0-9a-f]{20}  accuracy 0\.\d{3}  agreement 1\.000\n", loud.stdout)


def test_a_reader_that_has_seen_enough_is_no_error():
    process = subprocess.Popen(
        [WHORL, "schemes", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
    )
    process.stdout.close()
    complaint = process.stderr.read()
    process.stderr.close()
    process.wait(PATIENCE)
    assert complaint == ""


def test_ctrl_c_keeps_what_is_finished_and_says_how_to_go_on(tmp_path):
    endless = QUICK.replace("epochs=1", "epochs=1000000")
    arguments = ["zoo", "build", QUICK, endless, "-j", "2", "--cache", str(tmp_path)]
    process = subprocess.Popen(
        [WHORL, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        # A test run in the background of a shell ignores SIGINT, and so would its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + PATIENCE
    while not list(tmp_path.glob("zoo/*.json")) and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    try:
        stdout, stderr = process.communicate(timeout=PATIENCE)  # it never ends if it waits for its workers
    finally:
        process.kill()
    assert (process.returncode, stdout) == (130, "")
    *progress, line = stderr.splitlines()
    # A slow machine is told of progress now and then.
    assert all(re.fullmatch(r"models: \d+ of \d+.*", each) for each in progress)
    assert line == f"stopped; what is finished is kept. Go on with: {shlex.join(['whorl', *arguments])}"
    go_on = shlex.split(line.partition("Go on with: ")[2])
    assert go_on[1:] == arguments
    assert [card.recipe for card in Zoo(tmp_path).cards()] == [str(parse_recipe(QUICK))]
