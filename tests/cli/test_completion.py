"""What a shell completes, by the protocol that shells speak."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from test_console_script import PATIENCE, WHORL, environment

from whorl.cli import completion
from whorl.cli.app import app
from whorl.data import SOURCES
from whorl.inspection import INSPECTIONS, SIEVES
from whorl.nets import NETS
from whorl.removals import REMOVALS
from whorl.schemes import SCHEMES
from whorl.suites.suite import SUITES

COMPLETE = """
import sys
from whorl.cli.app import main
sys.argv[0] = "whorl"
try:
    main()
finally:
    print(*{"torch", "numpy"} & sys.modules.keys(), file=sys.stderr)
"""


def completed(shell, *words):
    """What a shell is answered at the end of these words, and which heavy modules that took."""
    spoken = {
        "_WHORL_COMPLETE": f"complete_{shell}",
        "COMP_WORDS": " ".join(words),
        "COMP_CWORD": str(len(words) - 1),
        "_TYPER_COMPLETE_ARGS": " ".join(words),
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }
    command = [sys.executable, "-c", COMPLETE]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, env=environment(**spoken))
    assert done.stderr == "\n"
    return done.stdout


@pytest.mark.parametrize(
    ("complete", "catalog"),
    [
        (completion.schemes, SCHEMES),
        (completion.removals, REMOVALS),
        (completion.inspections, INSPECTIONS),
        (completion.sieves, SIEVES),
        (completion.suites, SUITES),
        (completion.sources, SOURCES),
        (completion.architectures, NETS),
    ],
    ids=lambda each: getattr(each, "__name__", ""),
)
def test_what_is_read_from_the_source_is_the_catalog(complete, catalog):
    found = complete("")
    assert [name for name, _ in found] == list(catalog)
    for name, told in found:
        assert 5 < len(told) <= completion.WIDTH, name
    assert complete(found[-1][0]) == found[-1:]
    assert complete("no such name") == []


def test_plug_ins_are_completed(tmp_path, monkeypatch):
    metadata = tmp_path / "plugged-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: plugged\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[whorl.schemes]\nown-scheme = absent:Scheme\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert completion.schemes("own") == [("own-scheme", "of plugged")]


def test_lists_and_auto():
    assert completion.masks_of_schemes("akh,ipg") == [("akh,ipguard", dict(completion.schemes(""))["ipguard"])]
    assert [name for name, _ in completion.scheme_or_auto("a")] == ["auto", "adv-tra", "afa", "akh"]


KINDS = {
    "scheme": {"ipguard"},
    "schemes": {"ipguard"},
    "name": {"ipguard"},
    "suite": {"ipguard/digits"},
    "removal": {"fine_tune"},
    "shadow_removal": {"fine_tune"},
    "data": {"digits"},
    "architecture": {"resnet8"},
}


def test_every_argument_and_option_that_takes_a_name_completes_it():
    command = typer.main.get_command(app)
    seen = set()
    with command.make_context("whorl", [], resilient_parsing=True) as context:
        verbs = {**command.commands, **command.commands["zoo"].commands, **command.commands["bench"].commands}
        for name, verb in verbs.items():
            for parameter in verb.params:
                if parameter.name in KINDS and (name, parameter.name) != ("grid", "schemes"):
                    found = {item.value for item in parameter.shell_complete(context, "")}
                    assert found >= KINDS[parameter.name], (name, parameter.name)
                    seen.add(parameter.name)
    assert seen == set(KINDS)


def test_shells_are_answered_without_torch():
    assert completed("bash", "whorl", "bench", "run", "ipguard/d") == "ipguard/digits\n"
    assert "prune_weights\tZero the share amount" in completed("fish", "whorl", "calibrate", "m", "--removal", "prune_")


def test_the_completion_that_is_installed_completes_in_bash(tmp_path):
    home = environment(HOME=str(tmp_path), PATH=f"{WHORL.parent}{os.pathsep}{os.environ['PATH']}")
    # The shell is the one that asks, so that it has to be asked from bash: what runs the tests may be another.
    asked = f'"{WHORL}" --show-completion && "{WHORL}" --install-completion; exit $?'
    done = subprocess.run(["bash", "-c", asked], capture_output=True, text=True, timeout=PATIENCE, env=home)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "complete -o default -F _whorl_completion whorl" in done.stdout
    script = next(Path(tmp_path).glob(".bash_completions/whorl.sh"))
    assert str(script) in (tmp_path / ".bashrc").read_text()
    typed = 'COMP_WORDS=(whorl schemes ip); COMP_CWORD=2; _whorl_completion whorl; echo "${COMPREPLY[@]}"'
    answer = subprocess.run(
        ["bash", "-c", f'source "{script}"; {typed}'], capture_output=True, text=True, timeout=PATIENCE, env=home
    )
    assert answer.stdout == "ipguard\n", answer.stderr
