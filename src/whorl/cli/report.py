"""``whorl report``: one self-contained HTML page of a result."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from whorl.cli.console import guarded, line
from whorl.cli.options import Cache

__all__ = ["report"]


@guarded
def report(
    result: Annotated[Path, typer.Argument(help="A result written by whorl bench run.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where to write the page.")] = Path("report.html"),
    cache: Cache = None,
) -> None:
    """Write a page with the table, curves, fingerprint pictures, and what was not tested."""
    from whorl.bench.result import read_result
    from whorl.report.pages import bench_page
    from whorl.zoo.cache import default_cache

    page = bench_page(read_result(result), fingerprints=(cache or default_cache()) / "fingerprints")
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(page, encoding="utf-8")
    line(str(output))
