"""The leaderboard's pages, read as a browser without scripts reads them."""

from __future__ import annotations

import json
from urllib.parse import unquote, urlsplit

import pytest
from page_reader import Page
from synthetic_boards import NEED, board_result
from synthetic_results import make_result

from whorl.bench.result import Cell, Refusal
from whorl.bench.standings import standings
from whorl.errors import UsageError
from whorl.report.boards import FLAGS, boards_of
from whorl.report.leaderboard import site, write_site
from whorl.report.words import interval, rate
from whorl.schemes.cards import card

HOSTILE = "<script>alert(1)</script>\"'&\u202e\x00]]>"


@pytest.fixture(scope="module")
def results():
    limited = board_result(victims=1, independents=5, null=0, rows=("FTAL",), limit=1, date="", command="")
    return {"field.json": board_result(), "small.json": limited, "old.json": make_result()}


@pytest.fixture(scope="module")
def pages(results):
    return site(results)


def suite_page(pages, name="suite-plugged-field.html"):
    return Page(pages[name])


def test_there_is_a_page_for_each_suite_scheme_and_family(pages):
    suites = {"suite-plugged-field.html", "suite-ipguard-textures.html"}
    assert suites < set(pages)
    assert len([page for page in pages if page.startswith("suite-")]) == 3
    assert {page for page in pages if page.startswith("scheme-")} == {
        f"scheme-{name}.html" for name in (*NEED, "fgsm", "igsm", "cw-l2", "ipguard")
    }
    assert {"attack-extract.html", "attack-fine-tune.html", "attack-quantise.html"} < set(pages)


def test_every_link_leads_somewhere(pages):
    anchors = {name: set(Page(html).of("id")) for name, html in pages.items()}
    count = 0
    for name, html in pages.items():
        for link in Page(html).of("href"):
            parts = urlsplit(link)
            assert not parts.scheme
            assert not parts.netloc
            target = unquote(parts.path) or name
            assert target in pages, link
            assert not parts.fragment or parts.fragment in anchors[target], link
            count += 1
    assert count > 100


def test_nothing_is_loaded_and_only_the_page_s_own_script_runs(pages):
    for html in pages.values():
        page = Page(html)
        assert page.of("src") == []
        assert "@import" not in html
        assert "url(" not in html
        policy = next(attributes["content"] for _, attributes in page.elements if "http-equiv" in attributes)
        assert policy.startswith("default-src 'none'")
        assert ("script-src 'sha256-" in policy) == ("<script>" in html)
        assert "unsafe-eval" not in policy
        assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
        assert len(page.of("id")) == len(set(page.of("id")))


def test_the_ranking_is_that_of_the_standings(results, pages):
    rows = standings(results["field.json"])
    page = suite_page(pages)
    shown = [cells for cells in page.rows if cells and cells[0].strip().isdigit()]
    assert [cells[1].split()[0] for cells in shown] == [row.name for row in rows]
    for row, cells in zip(rows, shown, strict=True):
        for place, figure in ((2, row.power.estimate), (4, row.auc), (5, row.tpr)):
            assert cells[place].split() == [rate(figure.value), *interval(figure.interval).split()]
        assert cells[3].split()[0].startswith(f"{row.accused.hits}/{row.accused.count}")
        assert cells[8:10] == [str(row.undecided), str(row.refused or "")]
        assert cells[10:13] == [row.victim_access, row.suspect_access, f"{row.inputs:,}"]
        assert "2026-11-20" in [cell.split()[0] for cell in cells if cell]
        assert "whorl bench run plugged/field" in cells[-1]
        assert cells[-2] == card(row.name).paper


def test_ties_go_by_intervals_and_not_by_rank():
    page = suite_page(site({"many.json": board_result(victims=20)}))
    tied = ["tied with the best" in cells[1] for cells in page.rows if cells and cells[0].strip().isdigit()]
    assert tied == [True, True, True, True, False]  # random lies apart
    assert "3 other schemes cannot be told from it" in page.words


def test_a_scheme_that_accuses_clearly_more_than_alpha_is_last_and_marked():
    """sac-w calls every model derived, so that its power is 1."""
    plain = board_result(victims=20)
    cells = [
        each.model_copy(update={"decision": "derived"}) if each.scheme == "sac-w" else each for each in plain.cells
    ]
    pages = site({"many.json": plain.model_copy(update={"cells": cells})})
    page = suite_page(pages)
    last = page.row("5")
    assert last[1] == "sac-w ~"  # and not tied with the best
    assert (last[2].split()[0], last[3]) == ("1.00", "440/440100 %, above 5 %")
    assert "sac-w recognises most" not in page.words
    assert [line["exceeds"] for line in json.loads(page.data)] == [False] * 4 + [True]
    assert "●" not in Page(pages["index.html"]).row("sac-w")[2]
    alone = board_result(schemes=("sac-w",), victims=20)
    page = suite_page(site({"a.json": alone.model_copy(update={"cells": [c for c in cells if c.scheme == "sac-w"]})}))
    assert "No scheme is best" in page.words


def test_a_lineup_has_a_line_on_every_board_and_no_page():
    plain = board_result(schemes=("akh", "random"), null=0)
    made = [
        each.model_copy(update={"expression": "lineup(scores=mixture)", "scheme": "lineup, labels"})
        if each.scheme == "random"
        else each
        for each in plain.extractions
    ]
    named = {
        name: [
            each.model_copy(update={"scheme": "lineup, labels"}) if each.scheme == "random" else each
            for each in getattr(plain, name)
        ]
        for name in ("cells", "refusals")
    }
    pages = site(
        {"a.json": plain.model_copy(update={**named, "columns": ["akh", "lineup, labels"], "extractions": made})}
    )
    page = suite_page(pages)
    heads = next(cells for cells in page.rows if "Scheme" in cells)
    line, other = page.row("lineup,", column=1), page.row("akh", column=1)
    assert (line[0], other[0]) == ("1", "2")  # akh has the better AUC and no null to call a copy derived by
    assert [line[heads.index(name)] for name in ("needs of the victim", "suspect gives")] == ["training", "labels"]
    assert (other[heads.index("power")], other[heads.index("accused")]) == ("–", "–")
    assert [name for name in pages if name.startswith("scheme-")] == ["scheme-akh.html"]
    assert not [link for html in pages.values() for link in Page(html).of("href") if "lineup" in link]
    assert Page(pages["index.html"]).row("lineup")[1] == "labels"
    assert Page(pages["index.html"]).row("akh")[2].endswith("AUC")


def test_two_victims_have_ranges():
    page = suite_page(site({"two.json": board_result(victims=2)}))
    row = standings(board_result(victims=2))[0]
    for place, figure in ((2, row.power.estimate), (4, row.auc)):
        low, high = figure.extent.low, figure.extent.high
        assert page.row("1")[place].split() == [rate(figure.value), *f"{rate(low)} to {rate(high)}".split()]
    assert "few victims" in page.words


def test_what_was_not_answered_counts_as_lost_in_the_ranking():
    """Every scheme is perfect; akh was refused all strangers but those it tells easily, and stands last."""
    whole = board_result(schemes=("akh", "zest"))
    cells = [
        cell.model_copy(update={"similarity": 0.9 if cell.kind == "derived" else 0.1})
        for cell in whole.cells
        if cell.scheme == "zest" or cell.kind == "derived" or int(cell.suspect.split()[-1]) <= 11
    ]
    refused = [
        Refusal(
            victim=cell.victim, scheme="akh", suspect=cell.suspect, group="VGG", kind="independent", family="",
            damaged=False, reason="grants nothing",
        )
        for cell in whole.cells
        if cell.scheme == "akh" and cell.kind == "independent" and int(cell.suspect.split()[-1]) > 11
    ]  # fmt: skip
    (board,) = boards_of({"a.json": whole.model_copy(update={"cells": cells, "refusals": refused})})
    assert [(entry.name, entry.whole.auc.value, entry.whole.answered) for entry in board.entries] == [
        ("zest", 1, 1),
        ("akh", 1, 0.5),
    ]
    assert json.loads(suite_page(site({"a.json": whole})).data)[0]["answered"][""] == 1


def test_accusations_are_shown_by_group(results, pages):
    page = suite_page(pages)
    rows = {row.name: row for row in standings(results["field.json"])}
    shown = [cells for cells in page.rows if cells and len(cells) == 2 and cells[0].strip() in rows]
    assert dict(shown) == {name: f"{row.accused.hits}/{row.accused.count}" for name, row in rows.items()}
    assert any(row.accused.hits for row in rows.values())


def test_the_script_is_given_what_the_table_shows(results, pages):
    data = json.loads(suite_page(pages).data)
    rows = standings(results["field.json"])
    assert [line["name"] for line in data] == [row.name for row in rows]
    assert [line["inputs"] for line in data] == [NEED[row.name] for row in rows]
    assert [line["access"] for line in data] == [len(card(row.name).suspect) for row in rows]
    for row, line in zip(rows, data, strict=True):
        for place, figure in enumerate((row.power.estimate, row.auc)):
            assert line["figures"][""][place][:3] == [figure.value, figure.interval.low, figure.interval.high]
        assert set(line["figures"]) == {"", "fine-tune", "prune-weights", "extract"}  # no distilled copy kept accuracy
        assert line["figures"]["extract"][1][0] == row.families["extract"].value


def test_filters_offer_only_what_there_is(pages):
    page = suite_page(pages)
    values = [attributes["value"] for tag, attributes in page.elements if tag == "option"]
    families, levels = ["", "fine-tune", "prune-weights", "extract"], ["", "labels", "probabilities", "gradients"]
    assert values == ["power", "auc", "tpr", "aruc", *families, *levels, "", "32", "100", "2000"]
    labelled = [attributes["for"] for tag, attributes in page.elements if tag == "label"]
    assert labelled == [attributes["id"] for tag, attributes in page.elements if tag == "select"]


def test_flags_say_what_is_weak(results):
    whole, old, limited = boards_of(results)
    assert (whole.flags, limited.flags) == ((), tuple(flag for flag in FLAGS if flag != "few victims"))
    assert (old.suite, old.flags) == ("ipguard/textures", ("few negatives",))
    page = Page(
        site({"small.json": results["small.json"]})[
            "suite-plugged-field-at-most-1-victims-rows-and-models-in-a-group.html"
        ]
    )
    for flag in limited.flags:
        assert flag in page.words
    heads = next(cells for cells in page.rows if "Scheme" in cells)
    assert not {"power", "accused"} & set(heads)
    assert "this null is too small for verdicts" in page.words
    assert "power" not in [attributes["value"] for tag, attributes in page.elements if tag == "option"]


@pytest.mark.parametrize(
    ("changes", "flag"),
    [
        ({"independents": 19}, "few negatives"),
        ({"victims": 1}, "one victim"),
        ({"victims": 2}, "few victims"),
        ({"null": 18}, "no null"),
        ({"rows": ("FTAL", "WP p=.5", "distillation")}, "no adaptive attack"),
        ({"limit": 3}, "limited run"),
        ({"removals": "extract"}, "limited run"),
    ],
)
def test_each_flag_alone(changes, flag):
    (board,) = boards_of({"one.json": board_result(**changes)})
    assert board.flags == (flag,)


def test_results_of_the_same_test_share_a_board_and_the_newest_is_shown():
    early = board_result(schemes=("akh", "random"), date="2026-01-01", command="whorl bench run plugged/field -s 1")
    late = board_result(schemes=("akh", "zest"), date="2026-02-01")
    (board,) = boards_of({"late.json": late, "early.json": early})
    assert {entry.name: entry.run.file for entry in board.entries} == {
        "akh": "late.json",
        "random": "early.json",
        "zest": "late.json",
    }
    assert board.date == "2026-02-01"
    apart = boards_of({"one.json": early, "two.json": board_result(independents=21)})
    assert len(apart) == 2


def test_one_name_with_two_settings_is_told_apart_by_file():
    other = board_result(schemes=("random",))
    made = [each.model_copy(update={"expression": "random(start=noise)"}) for each in other.extractions]
    files = {
        "a.json": board_result(schemes=("random", "akh")),
        "b.json": other.model_copy(update={"extractions": made}),
    }
    (board,) = boards_of(files)
    assert {entry.name for entry in board.entries} == {"akh", "random (a.json)", "random (b.json)"}
    assert [entry.scheme for entry in board.entries].count("random") == 2
    assert len(Page(site(files)["scheme-random.html"]).row("plugged/field")) > 5


def test_old_results_take_their_families_from_the_suite(results):
    board = next(board for board in boards_of(results) if board.suite == "ipguard/textures")
    assert {"fine-tune", "prune filters", "extract", "distil"} < set(board.families)
    unknown = boards_of({"old.json": make_result().model_copy(update={"suite": "nobody/knows"})})
    assert unknown[0].families == ("other",)


def test_old_results_show_a_dash_for_what_they_lack(pages):
    cells = suite_page(pages, "suite-ipguard-textures.html").row("1")
    assert cells[-1] == "–"  # the command
    assert "–" in cells[11:17]  # seconds of verification, and the date


def test_the_page_of_a_scheme(results, pages):
    page = Page(pages["scheme-zest.html"])
    known = card("zest")
    assert known.idea in page.words
    assert known.blind in page.words
    assert known.paper in page.words
    row = next(row for row in standings(results["field.json"]) if row.name == "zest")
    cells = page.row("plugged/field")
    place = [each.name for each in standings(results["field.json"])].index("zest") + 1
    assert cells[2] == f"{place} of 5"
    assert cells[3].startswith(rate(row.power.estimate.value))
    assert cells[5].startswith(rate(row.auc.value))
    extracted = next(entry for entry in boards_of(results)[0].entries if entry.name == "zest").families["extract"]
    assert page.row("extract")[1].startswith(rate(extracted.power.estimate.value))
    assert page.row("distil")[1] == "–"


def test_the_page_of_an_attack_tells_what_was_left_of_the_models(results, pages):
    page = Page(pages["attack-extract.html"])
    assert page.row("accuracy")[3] == ".94"
    assert page.row("fidelity")[3] == ".90"
    assert page.row("queries")[3] == "5,000"
    assert page.row("lost")[3] == "0 of 3"
    parts = {entry.name: entry.families["extract"] for entry in boards_of(results)[0].entries}
    best = min(parts.values(), key=lambda of: of.order)
    names = [
        cells[0].split()[0] for cells in page.rows if cells and cells[0].split()[:1] and cells[0].split()[0] in NEED
    ]
    assert names[0] == best.name
    assert page.row(best.name)[1].startswith(rate(best.power.estimate.value))
    assert page.row(best.name)[2:] == [rate(best.auc.value), rate(best.power.estimate.value)]  # a family of one row
    gone = Page(pages["attack-distil.html"])
    assert "No copy of this family kept its accuracy here" in gone.words
    assert gone.row("lost")[3] == "3 of 3"


def test_the_index_names_leaders_and_how_to_submit(results, pages):
    page = Page(pages["index.html"])
    first, *_ = rows = standings(results["field.json"])
    assert page.row(first.name)[2:] == [f"● {rate(first.power.estimate.value)}", "–"]
    akh = next(row for row in rows if row.name == "akh")
    assert page.row("akh")[2] == f"● {rate(akh.power.estimate.value)}"  # of three victims few can be told apart
    assert "whorl bench validate yours.json" in page.words
    assert all(meaning in page.words for meaning in FLAGS.values())


def test_a_plug_in_that_is_not_installed_is_shown_without_its_needs():
    other = board_result(schemes=("akh", "random"))
    made = [
        each.model_copy(update={"expression": "somebody-elses(depth=2)"}) if each.scheme == "random" else each
        for each in other.extractions
    ]
    pages = site({"a.json": other.model_copy(update={"extractions": made})})
    assert "was not installed where this site was built" in pages["scheme-somebody-elses.html"]
    assert suite_page(pages).row("random", column=1)[10] == "–"
    assert json.loads(suite_page(pages).data)[1]["access"] == -1


def test_hostile_names_stay_text():
    result = board_result()
    cells: list[Cell] = []
    for cell in result.cells:
        row = HOSTILE if cell.group == "FTAL" else cell.group
        cells.append(
            cell.model_copy(update={"group": row, "suspect": HOSTILE, "scheme": cell.scheme.replace("akh", HOSTILE)})
        )
    made = [each.model_copy(update={"scheme": each.scheme.replace("akh", HOSTILE)}) for each in result.extractions]
    names = {
        "columns": [HOSTILE if name == "akh" else name for name in result.columns],
        "rows": [HOSTILE, *result.rows[1:]],
    }
    texts = dict.fromkeys(("suite", "about", "command", "date"), HOSTILE)
    changed = result.model_copy(
        update={"cells": cells, "extractions": made, "refusals": [], "models": [], **names, **texts}
    )
    for name, html in site({f"{HOSTILE}.json": changed}).items():
        assert name.isascii()
        assert "/" not in name
        page = Page(html)
        assert "<script>alert" not in html
        assert not {"\u202e", "\x00"} & set("".join(page.text) + (page.data or ""))
        assert "u202e" not in html
        assert sum(tag == "script" for tag, _ in page.elements) in (0, 2)


def test_siblings_are_shown_apart_and_averaged_nowhere():
    plain = board_result(schemes=("akh",))
    apart = [
        cell.model_copy(update={"kind": "sibling", "suspect": f"sibling {cell.suspect}", "decision": "derived"})
        for cell in plain.cells
        if cell.group == "FTAL"
    ]
    result = plain.model_copy(update={"cells": [*plain.cells, *apart]})
    (board,) = boards_of({"a.json": result})
    assert board.entries[0].whole.auc == standings(plain)[0].auc
    assert (board.copies, board.independents) == (9, 22)
    page = suite_page(site({"a.json": result}))
    heads = next(cells for cells in page.rows if "Scheme" in cells)
    assert page.row("akh", column=1)[heads.index("siblings derived")] == "3/3"
    assert "siblings derived" not in suite_page(site({"a.json": plain})).words


def test_nothing_to_rank_is_refused():
    with pytest.raises(UsageError, match="no result holds both"):
        site({"a.json": board_result(rows=("distillation",))})


def test_pages_are_written_with_the_index_first(tmp_path):
    paths = write_site({"a.json": board_result()}, tmp_path / "new" / "site")
    assert paths[0] == tmp_path / "new" / "site" / "index.html"
    assert {path.name for path in paths} == {path.name for path in (tmp_path / "new" / "site").iterdir()}
