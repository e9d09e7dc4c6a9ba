"""The leaderboard in a real browser: mouse, keyboard alone, narrow and dark screens, without scripts."""

from __future__ import annotations

import re
import shutil

import pytest
from playwright.sync_api import expect, sync_playwright
from synthetic_boards import board_result
from synthetic_results import make_result

from whorl.bench.parts import of_family
from whorl.bench.standings import standings
from whorl.report.leaderboard import write_site
from whorl.report.words import rate

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SUITE, EXCEEDING = "suite-plugged-field.html", "suite-accusing-field.html"
WIDE, NARROW = {"width": 1280, "height": 900}, {"width": 360, "height": 740}
RESULT = board_result(victims=20)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    limited = board_result(victims=1, independents=5, null=0, limit=1)
    accusing = [
        cell.model_copy(update={"decision": "derived"}) if cell.scheme == "sac-w" else cell for cell in RESULT.cells
    ]
    changed = RESULT.model_copy(update={"suite": "accusing/field", "cells": accusing})
    results = {"field.json": RESULT, "small.json": limited, "old.json": make_result(), "accusing.json": changed}
    write_site(results, folder)
    return folder


@pytest.fixture(scope="module")
def chromium():
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip(f"no browser is installed; any of {', '.join(BROWSERS)} will do")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium, folder):
    """Opens a page of the site; at the end nothing was asked of the network and nothing was complained about."""
    contexts, complaints, abroad = [], [], []

    def pass_files(route):
        if route.request.url.startswith("file:"):
            route.continue_()
        else:
            abroad.append(route.request.url)
            route.abort()

    def open_page(name=SUITE, viewport=WIDE, **options):
        context = chromium.new_context(viewport=viewport, **options)
        contexts.append(context)
        context.route("**/*", pass_files)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(address(folder, name))
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert abroad == []
    assert complaints == []


def address(folder, name):
    file, mark, fragment = name.partition("#")
    return f"{(folder / file).as_uri()}{mark}{fragment}"


def shown(page):
    """The visible lines: name, rank, and whether they are tied with the best."""
    lines = page.locator("#ranking tbody tr:visible")
    names = [text.split()[0] for text in lines.locator("th.name").all_inner_texts()]
    ranks = [int(text) for text in lines.locator("td.rank").all_inner_texts()]
    tied = ["tied" in (lines.nth(index).get_attribute("class") or "") for index in range(lines.count())]
    return list(zip(names, ranks, tied, strict=True))


def expected(measure="", family="", names=None):
    """The same from the standings, of the copies of one family alone where it is named."""
    rows = {row.name: row for row in standings(of_family(RESULT, family) if family else RESULT)}
    ranked = [row for row in rows.values() if names is None or row.name in names]
    ties = [row.tied(ranked[0]) for row in ranked]
    if measure:
        ranked.sort(key=lambda row: -row.at_worst(getattr(row, measure)))
        best = getattr(ranked[0], measure).interval.low * ranked[0].answered
        ties = [getattr(row, measure).interval.high * row.answered >= best for row in ranked]
    return [(row.name, rank, tie) for rank, (row, tie) in enumerate(zip(ranked, ties, strict=True), start=1)]


def test_the_ranking_as_it_opens(visit):
    page = visit()
    assert shown(page) == expected()
    expect(page.locator("#status")).to_have_text("5 of 5 schemes. Best: zest; 3 more cannot be told from it.")
    assert page.locator("th[aria-sort]").inner_text() == "power"


def test_a_scheme_that_accuses_more_than_alpha_stays_below_whatever_ranks(visit):
    page = visit(EXCEEDING)
    assert shown(page)[-1] == ("sac-w", 5, False)
    expect(page.locator("#status")).to_contain_text("Best: zest")
    page.get_by_label("Rank by").select_option(label="AUC")
    assert shown(page)[-1] == ("sac-w", 5, False)
    page.get_by_label("Inputs asked of it, at most").select_option(label="100")
    page.get_by_label("The suspect gives at most").select_option(label="probabilities")
    assert [name for name, *_ in shown(page)] == ["akh", "random", "sac-w"]


@pytest.mark.parametrize(
    ("label", "option", "wanted"),
    [
        ("Removals", "extract", expected(family="extract")),
        ("Rank by", "AUC", expected("auc")),
        ("Rank by", "TPR at FPR 0", expected("tpr")),
        ("Rank by", "ARUC", expected("aruc", names={"akh", "modelgif", "random", "sac-w", "zest"})),
        ("The suspect gives at most", "labels", expected(names={"akh", "random"})),
        ("The suspect gives at most", "probabilities", expected(names={"akh", "random", "sac-w", "zest"})),
        ("Inputs asked of it, at most", "100", expected(names={"akh", "random", "sac-w", "modelgif"})),
    ],
)
def test_a_filter_ranks_what_it_leaves_anew(visit, label, option, wanted):
    page = visit()
    page.get_by_label(label).select_option(label=option)
    assert shown(page) == wanted


def test_filters_combine_show_their_figures_and_are_cleared_by_mouse(visit):
    page = visit()
    page.get_by_label("Removals").select_option(label="extract")
    page.get_by_label("The suspect gives at most").select_option(label="labels")
    assert shown(page) == expected(family="extract", names={"akh", "random"})
    of = {row.name: row for row in standings(of_family(RESULT, "extract"))}
    for name in ("akh", "random"):
        line = page.locator("#ranking tbody tr", has=page.locator("th.name", has_text=re.compile(rf"^{name}\b")))
        power = of[name].power.estimate.value
        assert line.locator("[data-of=power] .v").inner_text() == rate(power)
        assert line.locator("[data-of=auc] .v").inner_text() == rate(of[name].auc.value)
        bar = line.locator(".gauge").evaluate("bar => Number(bar.style.getPropertyValue('--v'))")
        assert bar == pytest.approx(power)
    page.get_by_role("button", name="Clear filters").click()
    expect(page.locator("#status")).to_contain_text("5 of 5 schemes")
    assert shown(page) == expected()


def test_the_address_holds_the_filters(visit, folder):
    page = visit()
    page.get_by_label("Removals").select_option(label="prune weights")
    page.get_by_label("Inputs asked of it, at most").select_option(label="100")
    assert page.url.endswith("#family=prune-weights&inputs=100")
    before = shown(page)
    again = visit(f"{SUITE}#family=prune-weights&inputs=100")
    assert shown(again) == before
    assert again.get_by_label("Removals").input_value() == "prune-weights"
    again.goto(address(folder, f"{SUITE}#access=labels"))  # as when somebody edits the address
    assert [name for name, *_ in shown(again)] == ["akh", "random"]
    assert again.get_by_label("Removals").input_value() == ""
    again.goto(address(folder, f"{SUITE}#access=everything&by=beauty&nothing"))
    assert shown(again) == expected()


def test_links_within_the_page_keep_the_filters(visit):
    page = visit(f"{SUITE}#access=labels")
    page.evaluate("location.hash = 'runs'")
    assert eventually(page, "location.hash === '#runs'")
    assert [name for name, *_ in shown(page)] == ["akh", "random"]


def test_a_filter_that_leaves_nothing_says_so(visit):
    page = visit(f"{SUITE}#access=labels&inputs=32")
    assert shown(page) == []
    expect(page.locator("#status")).to_have_text("No scheme fits. Widen a filter.")


def test_everything_works_by_keyboard_alone(visit):
    page = visit()
    reached = []
    for _ in range(12):
        page.keyboard.press("Tab")
        focused = page.evaluate(
            """() => { const at = document.activeElement, style = getComputedStyle(at);
            return [at.id || at.textContent.trim(), style.outlineStyle, parseFloat(style.outlineWidth)]; }"""
        )
        reached.append(focused)
        if focused[0] == "Clear filters":
            break
    names = [name for name, *_ in reached]
    assert names[-5:] == ["by", "family", "access", "inputs", "Clear filters"]
    assert all(style != "none" and width >= 2 for _, style, width in reached), reached  # one sees where one is
    for _ in range(3):
        page.keyboard.press("Shift+Tab")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    expect(page.get_by_label("Removals")).to_have_value("extract")
    assert shown(page) == expected(family="extract")
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowDown")
    expect(page.get_by_label("The suspect gives at most")).to_have_value("labels")
    assert shown(page) == expected(family="extract", names={"akh", "random"})
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#status")).to_contain_text("5 of 5 schemes")
    page.keyboard.press("Tab")  # the table, which scrolls by arrows
    region = page.locator(".scroll:focus")
    expect(region).to_have_attribute("role", "region")
    page.keyboard.press("ArrowRight")
    assert eventually(page, "document.activeElement.scrollLeft > 0")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_url("**/scheme-*.html")


def test_the_status_is_told_to_those_who_listen(visit):
    page = visit()
    status = page.get_by_role("status")
    page.get_by_label("The suspect gives at most").select_option(label="labels")
    expect(status).to_have_text("2 of 5 schemes. Best: akh, apart from all others.")
    rows = page.locator("#ranking").get_by_role("row", name=re.compile("sac-w"))
    assert rows.count() == 0  # hidden lines are hidden from all


@pytest.mark.parametrize("viewport", [NARROW, WIDE], ids=["narrow", "wide"])
def test_no_page_scrolls_sideways(visit, folder, viewport):
    page = visit(viewport=viewport)
    for file in sorted(folder.iterdir()):
        page.goto(file.as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"], file.name
        inner = page.locator(".scroll").evaluate_all("all => all.map(one => [one.clientWidth, one.tabIndex])")
        assert all(width <= viewport["width"] and index == 0 for width, index in inner)


def test_a_narrow_screen_has_every_filter_and_a_table_that_scrolls(visit):
    page = visit(viewport=NARROW)
    for label in ("Rank by", "Removals", "The suspect gives at most", "Inputs asked of it, at most"):
        box = page.get_by_label(label).bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 360
        assert box["height"] >= 36  # a finger's width
    table = page.locator(".scroll").first
    assert table.evaluate("one => one.scrollWidth > one.clientWidth")
    table.evaluate("one => { one.scrollLeft = 400 }")
    name = page.locator("#ranking tbody th.name").first.bounding_box()
    assert 0 <= name["x"] < 60  # whose line it is stays in sight


def test_dark_and_light_differ_and_stay_readable(visit):
    for scheme, dark in (("light", False), ("dark", True)):
        page = visit(color_scheme=scheme)
        ground, ink, soft, select = page.evaluate(
            """() => { const of = (query, what) => getComputedStyle(document.querySelector(query))[what];
            return [of('html', 'backgroundColor'), of('html', 'color'), of('#status', 'color'),
                    of('select', 'backgroundColor')]; }"""
        )
        assert (luminance(ground) < 0.2) == dark
        assert contrast(ink, ground) >= 7
        assert contrast(soft, ground) >= 4.5
        assert (luminance(select) < 0.2) == dark


def test_without_scripts_it_is_a_plain_table(visit):
    page = visit(java_script_enabled=False)
    expect(page.locator("form")).to_be_hidden()
    assert shown(page) == expected()
    page.goto(page.url.replace(SUITE, "index.html"))
    page.get_by_role("link", name="plugged/field").first.click()
    page.wait_for_url(f"**/{SUITE}")


def test_links_lead_where_they_say(visit):
    page = visit("index.html")
    page.locator("#schemes ~ .scroll").get_by_role("link", name="akh").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("akh")
    page.get_by_role("link", name="extract").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("extract")
    page.get_by_role("link", name="plugged/field").first.click()
    expect(page.get_by_role("heading", level=1)).to_have_text("plugged/field")
    page.get_by_role("link", name="Submit").click()
    page.wait_for_url("**/index.html#submit")
    expect(page.get_by_role("heading", name="How to submit")).to_be_in_viewport()


def eventually(page, expression):
    """Whether it becomes true within seconds; asked from here, since the page's own policy allows no such script."""
    for _ in range(100):
        if page.evaluate(expression):
            return True
        page.wait_for_timeout(50)
    return False


def luminance(colour):
    """Relative luminance of a CSS colour (WCAG 2.2)."""
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)
