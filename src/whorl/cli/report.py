"""``whorl report``: one self-contained HTML page of a result."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from whorl.cli.console import guarded, line
from whorl.cli.options import CacheRead, file_to_write

__all__ = ["report"]


@guarded
def report(
    result: Annotated[
        Path, typer.Argument(help="A result of whorl bench run, or a verdict kept by whorl verify ... --json.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Where to write the page.", callback=file_to_write)
    ] = Path("report.html"),
    cache: CacheRead = None,
) -> None:
    """Write a page: of a benchmark its table, curves, pictures and what was not tested; of a verdict all it rests on.

    Example: whorl verify mine.fp suspect.onnx --json > verdict.json, then whorl report verdict.json
    """
    from whorl.bench.result import read_result
    from whorl.report.pages import bench_page
    from whorl.report.saved import read_verdict, verdict_in
    from whorl.storage import write_whole
    from whorl.zoo.cache import default_cache

    if verdict_in(result):
        page = read_verdict(result)
    else:
        page = bench_page(read_result(result), fingerprints=(cache or default_cache()) / "fingerprints")
    write_whole(output, page)
    line(str(output))
