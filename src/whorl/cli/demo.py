"""``whorl demo``: the whole path on embedded data, in a few minutes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from whorl.cli.bench import run
from whorl.cli.console import guarded, say
from whorl.cli.options import Cache, Jobs, Quiet, Wide, file_to_write

__all__ = ["demo"]


@guarded
def demo(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Where to write the result.", callback=file_to_write)
    ] = Path("out/demo.json"),
    cache: Cache = None,
    jobs: Jobs = 0,
    wide: Wide = False,
    quiet: Quiet = False,
) -> None:
    """Steal, hide and recognise a small net: train it, copy it 20 ways, judge the copies and 10 strangers.

    Everything is made here from scikit-learn's digits: nothing is downloaded. Run again, it starts from what it kept.
    """
    from whorl.bench.result import read_result
    from whorl.report.pages import bench_page
    from whorl.zoo.cache import default_cache

    run("ipguard/digits", output=output, cache=cache, jobs=jobs, wide=wide, quiet=quiet)
    page = output.with_suffix(".html")
    fingerprints = (cache or default_cache()) / "fingerprints"
    page.write_text(bench_page(read_result(output), fingerprints=fingerprints), encoding="utf-8")
    if not quiet:
        say(f"page: {page}   with your own model: whorl extract --help")
