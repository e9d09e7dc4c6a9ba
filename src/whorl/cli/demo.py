"""``whorl demo``: the whole path on embedded data, in a few minutes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from whorl.cli.bench import run
from whorl.cli.console import bar, counter, guarded, line, say
from whorl.cli.options import Cache, Jobs, Quiet, Wide, file_to_write
from whorl.types import Verdict

if TYPE_CHECKING:
    from whorl.suites.suite import Suite

__all__ = ["demo"]

SUITE: Final = "ipguard/digits"
# A thief whose few pictures do for no copy that knows this model's own faults makes more of them and asks about those.
# Of five such thieves the lineup names the source of all, and the six schemes miss two; this is one of the two.
THIEF: Final = "jacobian('vgg(width=8)', learning_rate=0.1)"


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

    Then a thief extracts it by questions of his own, and victim and twins are lined up before that copy.

    Everything is made here from scikit-learn's digits: nothing is downloaded. Run again, it starts from what it kept.
    """
    import torch

    from whorl.bench.result import read_result
    from whorl.engine.stages import Stages
    from whorl.report.pages import bench_page, verdict_page
    from whorl.storage import write_whole
    from whorl.suites.suite import SUITES
    from whorl.zoo.cache import Zoo, default_cache

    torch.set_num_threads(1)  # of nets so small: more cost ten times as much on a busy machine
    suite, folder = SUITES[SUITE](), cache or default_cache()
    _ = Stages(folder).store  # a damaged one is refused before anything is trained
    early = [*suite.victims, suite.victims[0].then(THIEF)]  # later one core would be left alone with the thief
    with bar(quiet) as show:
        Zoo(folder).build([*early, *suite.recipes()], workers=jobs, progress=show)
    run(SUITE, output=output, cache=cache, jobs=jobs, wide=wide, quiet=quiet)
    page = output.with_suffix(".html")
    write_whole(page, bench_page(read_result(output), fingerprints=folder / "fingerprints"))
    verdict = _lined_up(suite, THIEF, folder, jobs, quiet)
    beside = output.with_name(f"{output.stem}-lineup.html")
    write_whole(beside, verdict_page(verdict))
    if not quiet:
        say(f"pages: {page} {beside}   with your own model: whorl extract --help, whorl twins --help")


def _lined_up(suite: Suite, removal: str, folder: Path, jobs: int, quiet: bool) -> Verdict:
    """Judge one more copy by the suite's schemes, and then by a lineup of the victim and the models of the null.

    The null was made by the victim's own recipe with other seeds, so the same models that the schemes rank the suspect
    among are the victim's twins, and both tests have one alpha.
    """
    from dataclasses import replace

    from whorl import ownership
    from whorl.bench.runner import run as run_suite
    from whorl.report.words import listed, ordinal
    from whorl.suites.suite import Derived
    from whorl.zoo.cache import Zoo

    victim, row = suite.victims[0], Derived("extracted", removal, beyond=True)
    with bar(quiet) as show:
        judged = run_suite(replace(suite, derived=(row,)), folder=folder, workers=jobs, progress=show)
        zoo = Zoo(folder)
        strangers = {str(each): zoo.oracle(each) for of in suite.independents.values() for each in of}
        lined_up, secret = ownership.line_up(
            ownership.extract(zoo.oracle(victim), data=suite.data, scheme="random", budget=1),
            zoo.oracle(victim),
            {str(each): zoo.oracle(each) for each in suite.null},
            data=suite.data,
            alpha=suite.alpha,
            recipe=f"{victim}, and the same with other seeds",
            victim_seed=int(str(dict(victim.chain.steps[-1].kwargs)["seed"])),
            strangers=strangers,
            cache=folder,
            progress=counter(show, "lineup", 1 + len(suite.null) + len(strangers)),
        )
        verdict = ownership.verify(lined_up, zoo.oracle(victim.then(removal)), secret=secret, cache=folder)
    cells = [cell for cell in judged.cells if cell.group == row.label]
    seen = [cell.scheme for cell in cells if cell.decision == "derived"]
    assert isinstance(verdict, Verdict)  # no integrity check
    lineup, found = verdict.lineup, lined_up.candidates
    assert found is not None
    line(f"{removal}, accuracy {cells[0].accuracy:.2f}")
    line(
        f"  suspect among {len(suite.null)} independent models: {len(seen)} of {len(cells)} schemes call it derived "
        f"at alpha {suite.alpha:g}{f' ({listed(seen)})' if seen else ''}"
    )
    line(
        f"  lineup of the victim and the same {len(suite.null)} as twins: {verdict.decision.upper()}, the victim is "
        f"{ordinal(lineup['rank'])} of {lineup['candidates']}, p-value {verdict.p_value:.2f}, "
        f"{verdict.queries['spent']} questions; it is named by {lineup['strangers']['named_the_victim']} of "
        f"{lineup['strangers']['asked']} strangers"
    )
    if not quiet:
        for caveat in verdict.caveats:
            say(f"· {caveat}")
    return verdict
