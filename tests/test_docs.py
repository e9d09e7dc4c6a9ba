"""Everything that the documentation tells a reader to type, typed.

Fenced blocks of a file run in order in one temporary folder. What a fence's info string means:

- ``console``: lines after ``$ `` are commands for bash; one that ends in a backslash goes on in the next. A command
  must exit with 0, or with N where it ends in ``# exits with N``. The lines after it are its output: all of stdout, of
  stderr or of both. Spaces count as one; ``…`` or ``...`` stands for anything in a line, alone on a line for any lines.
- ``python``: runs in one namespace for the whole file, which sees the same environment as the commands do.
- ``toml`` (or ``python``) with the first line ``# file: NAME``: is written to NAME. The entry points of a
  ``pyproject.toml`` are installed for the commands that follow, as pip would install them.
- ``text``: takes too long, or what a reader here has not. There is no other info string.

A command of whorl's in a ``text`` block or in the help of a verb is not run, but everything in it is read as the verb
reads it: its options, and the expressions that they hold.
"""

from __future__ import annotations

import os
import re
import runpy
import shlex
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import typer
import yaml
from forked_whorl import Forked

import whorl
from whorl.cli.app import app
from whorl.data import SOURCES
from whorl.expressions import parse_chain
from whorl.nets import NETS
from whorl.removals import REMOVALS
from whorl.schemes import MARKS, SCHEMES
from whorl.suites.suite import SUITES
from whorl.zoo.recipe import parse_recipe

ROOT = Path(__file__).parents[1]
FILES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")] + sorted(ROOT.glob("docs/**/*.md"))
SITE = SimpleNamespace(**runpy.run_path(str(ROOT / "docs" / "pages.py")))
NAVIGATION = SITE.pages(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"])
FILE = re.compile(r"# file: (\S+)\n")
CODE = re.compile(r"#\s*exits with (\d+)\s*$")
PATIENCE = 200  # seconds for one command on a busy machine
STARTED_WITH = [os.path.abspath(each) for each in os.environ.get("PYTHONPATH", "").split(os.pathsep) if each]
"""Where these tests find whorl, so that the commands of a document are those of the same tree."""


@dataclass(frozen=True)
class Block:
    """A fenced block; ``line`` is that of its first line of content, from 1."""

    info: str
    body: str
    line: int


@dataclass
class Command:
    """A line to type, and what it is said to print (None: not said)."""

    text: str
    expected: str | None = None

    @property
    def code(self) -> int:
        found = CODE.search(self.text)
        return int(found.group(1)) if found else 0


def blocks_of(text):
    return [
        Block(match["info"].strip(), match["body"], text.count("\n", 0, match.start("body")) + 1)
        for match in SITE.FENCE.finditer(text)
    ]


def commands_of(body):
    found: list[Command] = []
    goes_on = False
    for line in body.splitlines():
        if goes_on:
            found[-1].text += "\n" + line.removeprefix("> ")
        elif line.startswith("$ "):
            found.append(Command(line.removeprefix("$ ")))
        elif found:
            found[-1].expected = (found[-1].expected or "") + line + "\n"
        else:
            raise ValueError(f"output before the first command: {line}")
        goes_on = line.endswith("\\") and (goes_on or line.startswith("$ "))
    return found


def tidy(text):
    lines = [" ".join(line.split()) for line in text.splitlines()]
    return "\n".join(line for line in lines if line) + "\n"


def pattern_of(expected):
    lines = tidy(expected).replace("...", "…").splitlines()
    return re.compile("".join(r"(?:.*\n)*?" if line == "…" else pattern_of_line(line) + r"\n" for line in lines))


def pattern_of_line(line):
    # Between two words that stand side by side there is one space, which serves both sides of the wildcard.
    return r" (?:.* )?".join(re.escape(part) for part in line.split(" … ")).replace("…", ".*")


def is_said(expected, out, error):
    pattern = pattern_of(expected)
    return any(pattern.fullmatch(tidy(text)) for text in (out, error, out + error, error + out))


class Reader:
    """Somebody who types what a document says, in an empty folder."""

    def __init__(self, folder, started_with=STARTED_WITH):
        self.folder = folder
        self.search = os.pathsep.join(map(str, [folder, folder / "site", *started_with]))
        self.module = ModuleType("document")

    def read(self, text, name):
        for block in blocks_of(text):
            if block.info == "text":
                continue
            place = f"{name}:{block.line}"
            if block.info in ("toml", "python") and (match := FILE.match(block.body)):
                self.write(match.group(1), block.body)
            elif block.info == "python":
                code = compile("\n" * (block.line - 1) + block.body, name, "exec", dont_inherit=True)
                exec(code, self.module.__dict__)
            elif block.info == "console":
                for command in commands_of(block.body):
                    self.type(command, place)
            else:
                raise ValueError(f"{place}: a block is console, python, text, or toml with # file:, not {block.info!r}")

    def write(self, file, body):
        path = self.folder / file
        assert path.resolve().is_relative_to(self.folder.resolve()), f"{file} is outside of the reader's folder"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(body)
        if path.name == "pyproject.toml":
            self.install(tomllib.loads(body)["project"])

    def install(self, project):
        info = self.folder / "site" / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
        info.mkdir(parents=True)
        groups = project.get("entry-points", {})
        lines = [f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in names.items()) for group, names in groups.items()]
        (info / "entry_points.txt").write_text("\n".join(lines))
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
        )

    def type(self, command, place):
        done = subprocess.run(
            ["bash", "-c", command.text],
            cwd=self.folder,
            env=os.environ | {"PYTHONPATH": self.search},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            stdin=subprocess.DEVNULL,
        )
        shown = f"{place}: $ {command.text}\n{done.stdout}{done.stderr}"
        if done.returncode != command.code:
            raise AssertionError(f"{shown}exits with {done.returncode}, not {command.code}")
        if command.expected is not None and not is_said(command.expected, done.stdout, done.stderr):
            raise AssertionError(f"{shown}is not\n{command.expected}")


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory):
    """Models are trained once for all documents, by whichever worker comes first."""
    base = tmp_path_factory.getbasetemp()
    return (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "docs-cache"


@pytest.fixture(scope="session")
def typed(tmp_path_factory):
    """A folder with a ``whorl`` that begins at once: the documents type it more than a hundred times."""
    begun = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}
    command = Forked(tmp_path_factory.mktemp("typed") / "bin", begun)
    yield command.folder
    command.stop()


@pytest.fixture
def reader(tmp_path, shared_cache, typed, monkeypatch):
    before = dict(os.environ)
    person = Reader(tmp_path)
    (tmp_path / "benchmarks").symlink_to(ROOT / "benchmarks")  # the reader stands in a clone
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, "document", person.module)  # where dataclasses look their annotations up
    os.environ |= {
        "PATH": os.pathsep.join([str(typed), str(Path(sys.executable).parent), os.environ["PATH"]]),
        "WHORL_CACHE": str(shared_cache),
        "COLUMNS": "120",
        "NO_COLOR": "1",
        "OMP_NUM_THREADS": "1",
    }
    yield person
    os.environ.clear()
    os.environ.update(before)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_document_says_works(path, reader):
    reader.read(path.read_text(encoding="utf-8"), str(path))


@pytest.mark.parametrize("path", [*FILES, ROOT / "CHANGELOG.md"], ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path):
    assert [link for link in SITE.links(path.read_text(encoding="utf-8")) if not leads_somewhere(path, *link)] == []


def leads_somewhere(path, page, anchor):
    """In a code host and in the site, which has files and the pages of its navigation, and no folders."""
    target = (path.parent / page).resolve() if page else path
    if not target.is_file() or (target.suffix == ".md" and target.relative_to(ROOT).as_posix() not in NAVIGATION):
        return False
    return not anchor or (target.suffix == ".md" and anchor in SITE.anchors(target.read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    "link", ["docs", "docs/nothing.md", "docs/verdicts.md#nothing", "#nothing", "LICENSE#nothing", "tests/lost.md"]
)
def test_a_link_that_leads_nowhere_is_noticed(link):
    found = SITE.links(f"[one](LICENSE) [two]({link}), [three](https://example.org/x)\n```text\n[four](x.md)\n```\n")
    assert [leads_somewhere(ROOT / "README.md", *each) for each in found] == [True, False]


def test_anchors_are_those_of_a_code_host():
    headings = "# `a.b`, or  C: d-e\n\n```text\n# no heading\n```\n## It's [a link](x.md) of_two *kinds*\n#no heading\n"
    assert SITE.anchors(headings) == {"ab-or--c-d-e", "its-a-link-of_two-kinds"}


def test_every_page_is_in_the_navigation_once():
    pages = [path.relative_to(ROOT).as_posix() for path in (*FILES, ROOT / "CHANGELOG.md")]
    assert sorted(NAVIGATION) == sorted([SITE.API, *pages])


def test_the_reference_has_every_public_name_in_its_room():
    rooms = SITE.reference().split("\n## ")[1:]
    named = [
        (room.partition("\n")[0], name) for room in rooms for name in re.findall(r"^::: whorl\.(\w+)$", room, re.M)
    ]
    assert sorted(name for _, name in named) == sorted(whorl.__all__)
    assert {("ownership", "verify"), ("schemes", "SCHEMES"), ("types", "Verdict")} <= set(named)
    assert named[0][0] == "ownership"  # what a newcomer looks for
    assert [room for room in rooms if not re.match(r"\w+\n\n\w\S*( \S+){3}", room)] == []  # each says what it is for


READERS = {
    "data": SOURCES.bind,
    "scheme": lambda text: text == "auto" or SCHEMES.bind(text),
    "by": lambda text: text == "" or SCHEMES.bind(text),
    "removal": REMOVALS.bind,
    "shadow_removal": REMOVALS.bind,
    "train": lambda text: (parse_chain if "my_nets:" in text else parse_recipe)(text),  # there is no such code here
    "shadow": parse_recipe,
    "recipe": parse_recipe,
    "recipes": parse_recipe,
    "null_recipe": parse_recipe,
    "suite": SUITES.__getitem__,
    "guards": REMOVALS.bind,
    "thief": REMOVALS.bind,
    "kind": MARKS.bind,
    "service": lambda text: text.endswith(".safetensors") or parse_recipe(text),
}
"""What reads the values of a parameter of that name, without running anything."""
QUOTED = re.compile(r"'([^']*\([^']*)'")


def verbs(command=None, path=("whorl",)):
    """The words and the command of every verb, nested ones too."""
    command = command or typer.main.get_command(app)
    inner = getattr(command, "commands", {})
    if not inner:
        yield path, command
    for name, each in inner.items():
        yield from verbs(each, (*path, name))


def read_command(line):
    """Parse a line as a shell and the verb do. Raises what they say of a mistake."""
    words = shlex.split(line)
    while "=" in words[0]:
        variable, _, value = words.pop(0).partition("=")
        assert variable.startswith("WHORL_")
        SOURCES.bind(value)
    place, command = next(each for each in verbs() if each[0] == tuple(words[: len(each[0])]))
    context = command.make_context(place[-1], words[len(place) :])
    for name, value in context.params.items():
        for text in value if isinstance(value, (list, tuple)) else [value]:
            if text is not None and name in READERS:
                READERS[name](text)


def unrun_commands():
    for path in FILES:
        for block in blocks_of(path.read_text(encoding="utf-8")):
            for line in block.body.splitlines() if block.info == "text" else ():
                if re.match(r"(WHORL_\w+=\S+ )?whorl ", line):
                    yield pytest.param(line, id=f"{path.name}: {line}"[:60])
    for _, command in verbs():
        for text in (command.help or "").split("\n\n"):
            if "whorl " in text:
                line = "whorl " + " ".join(text.split()).partition("whorl ")[2]
                yield pytest.param(line, id=f"help: {line}"[:60])


@pytest.mark.parametrize("line", list(unrun_commands()))
def test_a_command_that_is_not_run_can_be_read(line):
    read_command(line)


@pytest.mark.parametrize("verb", [" ".join(place) for place, _ in verbs()])
def test_the_expressions_in_the_help_of_options_can_be_read(verb):
    command = {" ".join(place): each for place, each in verbs()}[verb]
    for parameter in command.params:
        for text in QUOTED.findall(getattr(parameter, "help", None) or ""):
            READERS.get(parameter.name, READERS["scheme"] if "scheme" in parameter.name else NETS.bind)(text)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("whorl extract mine.safetensors --data 'folder(./my pictures)' -o mine.fp", "quotes around"),
        ("whorl extract mine.safetensors --data pictures -o mine.fp", "no such name among the data"),
        ("whorl calibrate mine.fp --train 'train(resnet8, digits, ...)'", "expected a name"),
        ("whorl calibrate mine.fp --trian 'train(resnet8, digits)'", "No such option"),
    ],
)
def test_a_command_that_cannot_be_read_is_noticed(line, message):
    with pytest.raises(Exception, match=message):
        read_command(line)


def fenced(info, *lines):
    return "\n".join([f"```{info}", *lines, "```", ""])


def test_the_reader_notices_what_does_not_work(reader):
    wrong = [
        ("exits with 1, not 0", fenced("console", "$ false")),
        ("exits with 0, not 3", fenced("console", "$ true  # exits with 3")),
        ("is not", fenced("console", "$ echo one", "two")),
        ("is not", fenced("console", "$ echo one; echo more", "one")),
        ("division by zero", fenced("python", "1 / 0")),
        ("not 'sh'", fenced("sh", "true")),
        ("not 'toml'", fenced("toml", "key = 1")),
        ("output before", fenced("console", "one")),
        ("outside of", fenced("toml", "# file: ../above.toml")),
    ]
    for message, text in wrong:
        with pytest.raises(Exception, match=message):
            reader.read(text, "wrong.md")


def test_the_reader_goes_on_where_the_block_before_ended(reader, tmp_path):
    text = [
        fenced("toml", "# file: sub/own.toml", "key = 1"),
        fenced("console", "$ cat sub/own.toml", "…", "key = 1", "$ echo a \\", ">   b; exit 4  # exits with 4", "a  b"),
        fenced("python", "import os", "own = open('sub/own.toml').read()", "os.environ['OWN'] = 'seen'"),
        fenced("console", "$ echo $OWN", "seen", "$ echo to stderr >&2", "to ...", "$ echo unsaid"),
        fenced("python", "assert own.endswith('key = 1\\n')"),
        fenced("text", "$ false"),
    ]
    reader.read("\n".join(text), "right.md")
    assert reader.module.own
    assert Path.cwd() == tmp_path


def test_the_reader_runs_the_code_under_test(reader, tmp_path):
    here = 'python -c "import whorl; print(whorl.__file__)"'
    reader.read(fenced("console", f"$ {here}", whorl.__file__), "here.md")
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "kept.py").write_text("print('kept')\n")
    command = tmp_path / "tree" / "whorl"
    command.mkdir()
    (command / "__init__.py").touch()
    (command / "__main__.py").write_text(
        "import os, sys\n\ndef main():\n    print(os.getcwd(), os.environ['OWN'], sys.argv[1:])\n    sys.exit(5)\n"
    )
    said = f"{tmp_path}/tree seen ['a b', 'c']"
    typed = ["$ cd tree; OWN=seen whorl 'a b' c | cat; exit ${PIPESTATUS[0]}  # exits with 5", said]
    Reader(tmp_path, [tmp_path / "tree"]).read(
        fenced("console", "$ python -c 'import kept'", "kept") + fenced("console", *typed), "kept.md"
    )


def test_wildcards_stand_for_no_more_than_they_say():
    assert is_said("a … c\n", "a b c\n", "")
    assert is_said("a … c\n", "a c\n", "")
    assert not is_said("a … c\n", "ac\n", "")
    assert not is_said("a … c\n", "a b\nc\n", "")
    assert is_said("a...c (1)\n", "abc (1)\n", "")
    assert is_said("a\n...\nc\n", "a\nb\nb\nc\n", "")
    assert is_said("a\n…\n", "a\n", "")
    assert not is_said("a\n", "a\nb\n", "")
    assert is_said("said\nout\n", "out\n", "said\n")
