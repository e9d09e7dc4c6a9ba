import base64
import io
import re

import numpy as np
import pytest
import torch
from page_reader import Page
from PIL import Image
from synthetic_results import BEYOND, COLUMNS, GROUPS, ROWS, make_fingerprint, make_result, make_verdict

from whorl.bench.summary import summarise
from whorl.errors import InvalidFile, UsageError
from whorl.fingerprints.files import write_fingerprint
from whorl.report.pages import bench_page, verdict_page
from whorl.report.pictures import data_uri, gallery, read_gallery
from whorl.report.words import p_value, percent, plain, rate, seconds
from whorl.types import Queries

HOSTILE = "<script>alert(1)</script>\"'&\u202e\x00\n]]>"


@pytest.fixture(scope="module")
def result():
    return make_result()


@pytest.fixture(scope="module")
def bench(result):
    return bench_page(result)


def verdicts():
    known = make_fingerprint()
    unknown = make_fingerprint(independents=0)
    return {
        "derived": (make_verdict(known, 1.0), known),
        "unrelated": (make_verdict(known, 0.0), known),
        "inconclusive": (make_verdict(unknown, 1.0), unknown),
    }


def sound(html):
    """The page, with unique ids, no script, nothing loaded, and every label pointing at something."""
    page = Page(html)
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for tag, attributes in page.elements:
        assert tag not in ("script", "link", "iframe", "object", "embed", "base")
        assert not any(name.startswith("on") for name in attributes)
        assert attributes.get("src", "data:image/png;base64,").startswith("data:image/png;base64,")
        assert tag == "a" or "href" not in attributes
        assert set(attributes.get("aria-labelledby", "").split()) <= set(ids)
        if attributes.get("href", "").startswith("#"):
            assert attributes["href"][1:] in ids
    assert not re.search(r"url\(|@import", html)
    assert len(html.encode()) < 3_000_000
    return page


def test_the_table_holds_every_number_of_the_summary(result, bench):
    page, summary = sound(bench), summarise(result)
    for row in (*ROWS, *BEYOND):
        values = page.row(row)[1:]
        assert len(values) == len(COLUMNS)
        for column, cell in zip(summary.columns, values, strict=True):
            assert rate(column.rows[row].mean) in cell
            assert f"{rate(column.rows[row].low)}–{rate(column.rows[row].high)}" in cell or (
                rate(column.rows[row].low) == rate(column.rows[row].high)
            )
            assert result.paper.get(row, {}).get(column.name, "") in cell
    for group, count in GROUPS.items():
        cells = page.row(group)
        assert f"{count} models" in cells[0]
        for column, cell in zip(summary.columns, cells[1:], strict=True):
            assert f"[{rate(column.groups[group].low)}, {rate(column.groups[group].high)}]" in cell
            assert result.paper.get(group, {}).get(column.name, "") in cell
    for column, *figures in zip(
        summary.columns,
        *(page.row(label)[1:] for label in ("ARUC", "Flagged", "Accused", "Median", "Extraction")),
        strict=True,
    ):
        area, flagged, accused, needed, extraction = figures
        assert area.startswith(rate(column.aruc.value))
        assert rate(column.aruc.interval.low) in area
        assert flagged.startswith(f"{column.flagged.hits}/{column.flagged.count}")
        assert accused.startswith(f"{column.accused.hits}/{column.accused.count}")
        assert " ".join(percent(column.accused.interval.high).split()) in accused
        assert f"{column.needed:g}" in needed
        assert seconds(column.seconds) in extraction


def test_rows_beyond_the_paper_and_damaged_copies_are_marked(bench):
    page = sound(bench)
    assert all("†" in page.row(row)[0] for row in BEYOND)
    assert not any("†" in page.row(row)[0] for row in ROWS)
    damaged = [cells[0] for cells in page.rows if cells and "damaged" in cells[0]]
    assert len(damaged) == 1
    assert damaged[0].strip().startswith("FP c=7/16")
    assert "3 of 3 damaged" in damaged[0]


def test_missed_copies_and_accused_independents_have_a_sign(result, bench):
    page = sound(bench)
    for column, name in enumerate(COLUMNS, start=1):
        key = name if name != "ipguard" else f"ipguard k={summarise(result).best_k:g}"
        for row in (*ROWS, *BEYOND, *GROUPS):
            cells = [c for c in result.cells if c.scheme == key and c.group == row]
            missed = any(c.decision != "derived" and not c.damaged for c in cells if c.kind != "independent")
            accused = any(c.decision == "derived" for c in cells if c.kind == "independent")
            assert ("missed" in page.row(row)[column], "accused" in page.row(row)[column]) == (missed, accused)


def test_the_page_says_which_k_was_chosen_by_whom(result, bench):
    best = summarise(result).best_k
    assert best == 5
    assert "Only calibration models chose it" in bench
    assert "ipguard at k = 5" in "".join(sound(bench).text)
    assert "ARUC against k" not in bench_page(make_result(sweep=False))


def test_one_victim_has_no_interval():
    html = bench_page(make_result(victims=1, sweep=False))
    page = sound(html)
    assert all("no interval" in cell for label in ("ARUC", "AUC") for cell in page.row(label)[1:])
    assert "with one victim there is no interval" in html
    assert "One victim: nothing here tells how much victims differ" in html


def test_one_victim_with_a_sweep_draws_no_whiskers():
    html = bench_page(make_result(victims=1))
    sound(html)
    assert 'class="whisker"' not in html
    assert 'class="whisker"' in bench_page(make_result(victims=2))


def test_what_was_not_tested_follows_from_the_result(result, bench):
    assert "reduced run" not in bench.lower()
    limited = bench_page(make_result(limit=3, rows=["FTLL", "FTAL", "RTLL"], victims=2))
    assert "This is a reduced run: at most 3" in limited
    absent = re.search(r"Removals not in this suite: ([^;]*);", limited).group(1)
    assert "quantisation" in absent
    assert "distillation" in absent
    assert "fine-tuning" not in absent
    assert "quantisation" not in re.search(r"Removals not in this suite: ([^;]*);", bench).group(1)


def test_hostile_names_stay_text(result):
    cells = [
        cell.model_copy(update={"suspect": HOSTILE, "group": HOSTILE if cell.group == "FTLL" else cell.group})
        for cell in result.cells
    ]
    rows = [HOSTILE, *result.rows[1:]]
    victims = [HOSTILE, *result.victims[1:]]
    machine = result.machine.model_copy(update={"processor": HOSTILE})
    changed = {"cells": cells, "rows": rows, "victims": victims, "suite": HOSTILE, "about": HOSTILE, "machine": machine}
    page = sound(bench_page(result.model_copy(update=changed)))
    assert "<script>alert(1)</script>" in "".join(page.text)
    assert not {"\u202e", "\x00"} & set("".join(page.text))


def test_hostile_names_stay_text_in_a_verdict():
    fingerprint = make_fingerprint()
    page = sound(verdict_page(make_verdict(fingerprint, 1.0, suspect=HOSTILE), fingerprint=fingerprint))
    assert "<script>alert(1)</script>" in "".join(page.text)
    assert HOSTILE not in "".join(page.text)


@pytest.mark.parametrize("decision", ["derived", "unrelated", "inconclusive"])
def test_verdict_page_says_what_was_decided_and_why(decision):
    verdict, fingerprint = verdicts()[decision]
    assert verdict.decision == decision
    page = sound(verdict_page(verdict, fingerprint=fingerprint))
    text = "".join(page.text)
    assert decision.capitalize() in text
    assert all(caveat in text for caveat in verdict.caveats)
    assert f"{p_value(verdict.p_value)} (cannot be below {p_value(verdict.p_value_floor)})" in text
    assert f"{verdict.queries['spent']} of a budget of {verdict.queries['budget']}" in text
    assert f"--alpha {verdict.alpha:g} --budget {verdict.queries['budget']}" in text
    for removal, power in verdict.power.items():
        cells = page.row(removal)
        assert cells[1:3] == [f"{power['caught']} of {power['copies']}", rate(power["power"])]


def test_verdict_page_without_the_fingerprint_draws_quantiles():
    verdict, fingerprint = verdicts()["derived"]
    page = sound(verdict_page(verdict))
    assert page.row("similarity")[1:] == [rate(verdict.similarity), ".00", ".09", ".17", ".18", ".18"]
    assert sound(verdict_page(verdict, fingerprint=fingerprint)).row("similarity")[-1] == ".18"  # the threshold
    assert not [tag for tag, _ in page.elements if tag == "img"]


def test_a_fingerprint_of_another_verdict_is_refused():
    verdict, _ = verdicts()["derived"]
    with pytest.raises(UsageError, match="not the one of the verdict"):
        verdict_page(verdict, fingerprint=make_fingerprint(independents=20))


def test_pictures_are_those_of_the_fingerprint(result, tmp_path):
    fingerprint = make_fingerprint()
    write_fingerprint(fingerprint, tmp_path / "ipguard.safetensors")
    page = sound(bench_page(result, fingerprints=tmp_path))
    images = [attributes for tag, attributes in page.elements if tag == "img"]
    assert len(images) == 3 * 8
    for name, tensor in (("seed", fingerprint.queries.companions["seeds"]), ("query", fingerprint.queries.inputs)):
        for number in range(8):
            shown = next(of for of in images if of["alt"] == f"{name} {number + 1} of ipguard")
            expected = (tensor[number] * 255).round().byte().permute(1, 2, 0).numpy()
            assert np.array_equal(decoded(shown["src"]), expected)


def test_differences_are_amplified_around_grey():
    seeds = torch.full((2, 1, 4, 4), 0.5)
    inputs = seeds.clone()
    inputs[0, 0, 1, 2] = 0.6
    shown = gallery(Queries(inputs, {"seeds": seeds}))
    assert shown.gain == pytest.approx(5)
    pixels = decoded(shown.differences[0])
    assert pixels[1, 2] == 255
    assert (np.delete(pixels.ravel(), 6) == 128).all()


def test_pictures_come_from_the_folder_alone(tmp_path):
    write_fingerprint(make_fingerprint(seeds=False), tmp_path / "one.safetensors")
    (tmp_path / "inner").mkdir()
    assert read_gallery(tmp_path, "one.safetensors").seeds == ()
    assert read_gallery(tmp_path / "inner", "../one.safetensors") is None
    assert read_gallery(tmp_path, str(tmp_path / "one.safetensors")) is None
    assert read_gallery(tmp_path, "two.safetensors") is None
    (tmp_path / "two.safetensors").write_bytes(b"no")
    with pytest.raises(InvalidFile):
        read_gallery(tmp_path, "two.safetensors")


def test_large_pictures_are_scaled_down():
    assert decoded(data_uri(torch.rand(3, 300, 200))).shape == (96, 64, 3)


@pytest.mark.parametrize(
    ("value", "written"),
    [(0.972, ".97"), (1.0, "1.00"), (0.0, ".00"), (-0.25, "-.25"), (10.5, "10.50"), (0.999, "1.00")],
)
def test_rates_are_written_as_the_field_does(value, written):
    assert rate(value) == written


def test_long_names_are_shortened_in_the_middle():
    assert plain("a" * 100 + "b" * 100, 30) == "a" * 20 + "…" + "b" * 10


def decoded(uri):
    with Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/png;base64,")))) as image:
        return np.asarray(image)
