"""How `make docs` makes a site of this repository: the hooks that mkdocs.yml names, and the links of a page.

Pages keep the places that they have in the repository, so that a link between them means the same in the site and in a
code host. What else they link to, as results and pictures, is copied. The API reference is written from ``whorl``'s own
list of public names. Nothing here imports the generator before it runs: the tests read links and anchors without it.
"""

from __future__ import annotations

import ast
import logging
import posixpath
import re
import runpy
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["ROOT", "anchors", "links", "on_config", "on_files", "on_post_page", "pages", "reference", "slug"]

ROOT = Path(__file__).parents[1]
API = "api.md"
FENCE = re.compile(r"^```(?P<info>[^\n]*)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?://|mailto:)(?P<page>[^)#\s]*)(?:#(?P<anchor>[^)\s]*))?[^)]*\)")
HEADING = re.compile(r"^#{1,6} +(?P<text>.+?) *#*$", re.MULTILINE)
FOREIGN = re.compile(r"<(?:script|link|img|iframe|source|video)\b[^>]*\b(?:src|href)=[\"']?(?:https?:)?//[^>]*>")

log = logging.getLogger("mkdocs.hooks.pages")  # a warning of this logger fails a strict build


def links(text: str) -> list[tuple[str, str]]:
    """(page, anchor) of every link of a page that leads nowhere outside; both as written, "" where there is none."""
    return [(match["page"], match["anchor"] or "") for match in LINK.finditer(FENCE.sub("", text))]


def slug(heading: str, separator: str = "-") -> str:
    """The anchor that code hosts give a heading: its letters, digits, "_" and "-" in lower case, and spaces as "-"."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", separator)


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings. One that comes twice counts once: hosts number the second in their own ways."""
    headings = (match["text"] for match in HEADING.finditer(FENCE.sub("", text)))
    return {slug(re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)) for heading in headings}


def pages(nav: Any) -> list[str]:
    """The pages of the navigation of mkdocs.yml in order, as paths from the root of the repository."""
    if isinstance(nav, str):
        return [nav]
    return [page for each in (nav.values() if isinstance(nav, dict) else nav) for page in pages(each)]


def reference() -> str:
    """The page of the API: the public names of ``whorl`` by room: an owner's verbs, then by the import law."""
    rooms: dict[str, list[str]] = {}
    for name, place in runpy.run_path(str(ROOT / "src" / "whorl" / "__init__.py"))["_FACE"].items():
        rooms.setdefault(place.partition(":")[0].split(".")[1], []).append(name)
    law = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"][0]
    order = [room.strip().removeprefix("whorl.") for layer in law["layers"] for room in layer.split("|")]
    lines = ["# The API", "", "What `import whorl` offers, by room. Names are imported when they are first used."]
    for room in sorted(rooms, key=lambda room: (room != "ownership", order.index(room))):
        lines += ["", f"## {room}", "", opening_words(room)]
        for name in sorted(rooms[room], key=lambda name: (name.isupper(), name)):
            lines += ["", f"::: whorl.{name}"]
    return "\n".join(lines) + "\n"


def opening_words(room: str) -> str:
    """The first paragraph of a room's docstring; empty where it has none."""
    folder = ROOT / "src" / "whorl" / room
    path = folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")
    return (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n\n")[0]


def beside(page: str, text: str) -> Iterator[str]:
    """What a page links to that is no page, as paths from the root."""
    for target, _ in links(text):
        path = posixpath.normpath(posixpath.join(posixpath.dirname(page), target))
        if target and not path.endswith(".md") and (ROOT / path).is_file():
            yield path


def on_config(config: Any) -> Any:
    """Anchors are those of a code host."""
    config.mdx_configs.setdefault("toc", {})["slugify"] = slug
    return config


def on_files(files: Any, config: Any) -> Any:
    """The pages of the navigation and what they link to, at their places, instead of the bare folder of documents."""
    from mkdocs.structure.files import File, Files

    shown = Files([file for file in files if file.src_dir != config.docs_dir])
    paths = [page for page in pages(config.nav) if page != API and (ROOT / page).is_file()]
    paths += sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))
    paths += [path for page in paths for path in beside(page, (ROOT / page).read_text(encoding="utf-8"))]
    for path in dict.fromkeys(paths):
        shown.append(File.generated(config, path, abs_src_path=str(ROOT / path)))
    shown.append(File.generated(config, API, content=reference()))
    return shown


def on_post_page(output: str, page: Any, **_: Any) -> str:
    """Warn of what a page would fetch from elsewhere."""
    for match in FOREIGN.finditer(output):
        log.warning("%s fetches from elsewhere: %s", page.file.src_uri, match[0])
    return output
