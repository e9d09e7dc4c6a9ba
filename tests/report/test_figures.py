import dataclasses
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from synthetic_results import BEYOND, GROUPS, ROWS, make_fingerprint, make_result, make_verdict

from whorl.bench.summary import summarise
from whorl.errors import UsageError
from whorl.report.figures import aruc_by_k, curve_figure, figure_bench, match_figure
from whorl.report.strips import interval_bar, suspect_figure, threshold_of
from whorl.report.study import Study
from whorl.report.svg import Scale, element, steps
from whorl.report.words import rate

SVG = "{http://www.w3.org/2000/svg}"


def parsed(svg):
    """The drawing, well formed and named, without what would load or run."""
    root = ElementTree.fromstring(str(svg))
    assert root.tag == f"{SVG}svg"
    assert root.get("role") == "img"
    assert [child.tag for child in root][:2] == [f"{SVG}title", f"{SVG}desc"]
    assert all(child.text for child in root[:2])
    assert not {element.tag for element in root.iter()} & {f"{SVG}script", f"{SVG}image", f"{SVG}use"}
    return root


def texts(root):
    return [element.text for element in root.iter(f"{SVG}text")]


def groups(root):
    """Row label -> its group of shapes."""
    return {g.find(f"{SVG}text").text: g for g in root.iter(f"{SVG}g") if g.find(f"{SVG}text") is not None}


@pytest.fixture(scope="module")
def study():
    return Study.of(make_result())


def test_the_readme_figure_shows_every_row_with_its_number(study):
    root = parsed(figure_bench(study.result))
    width, height = map(float, root.get("viewBox").split()[2:])
    assert (width, root.get("width")) == (800, "800")
    column = study.column()
    rows = groups(root)
    for label in (*ROWS, *BEYOND, *GROUPS):
        mean = (column.rows | column.groups)[label].mean
        assert [element.text for element in rows[label].findall(f"{SVG}text")] == [label, rate(mean)]
    assert all(float(text.get("y")) < height for text in root.iter(f"{SVG}text"))
    assert "@import" not in str(root.find(f"{SVG}style").text)
    assert [rect for rect in root.iter(f"{SVG}rect") if rect.get("class") == "ground"]


def test_the_readme_figure_takes_another_column_and_refuses_an_unknown_one(study):
    assert "fgsm" in figure_bench(study.result, "fgsm")
    with pytest.raises(UsageError, match="has no column 'nobody'; it has random"):
        figure_bench(study.result, "nobody")


def test_the_readme_figure_of_one_victim():
    root = parsed(figure_bench(make_result(victims=1, sweep=False)))
    assert any("one victim" in text for text in texts(root))


def test_marks_lie_where_their_similarity_is(study):
    column = study.column("fgsm")
    root = parsed(match_figure(study, column, key="m"))
    ticks = {t.text: float(t.get("x")) for t in root.iter(f"{SVG}text") if t.get("class") == "tick"}
    shown = [float(circle.get("cx")) for circle in groups(root)["FTLL"].iter(f"{SVG}circle")]
    similarities = sorted({cell.similarity for cell in study.of_group(column, "FTLL")})
    expected = [ticks["0"] + value * (ticks["1"] - ticks["0"]) for value in similarities]
    assert shown == pytest.approx(expected, abs=0.01)
    band = next(rect for rect in root.iter(f"{SVG}rect") if rect.get("class") == "band")
    null = study.null(column)
    assert float(band.get("x")) + 1 == pytest.approx(ticks["0"] + min(null) * (ticks["1"] - ticks["0"]), abs=0.02)
    assert float(band.get("width")) - 2 == pytest.approx((max(null) - min(null)) * (ticks["1"] - ticks["0"]), abs=0.02)


def test_every_model_is_named_by_a_mark(study):
    root = parsed(match_figure(study, study.column(), key="m"))
    named = " ".join(title.text for title in groups(root)["random forest"].iter(f"{SVG}title"))
    for victim in (1, 2, 3):
        assert f"random forest 1, victim {victim}" in named
    damaged = {circle.get("class") for circle in groups(root)["FP c=7/16"].iter(f"{SVG}circle")}
    assert damaged == {"copy hollow"}


def test_the_shaded_area_is_the_aruc(study):
    for column in study.summary.columns:
        root = parsed(curve_figure(study, column, key="c"))
        area = next(path for path in root.iter(f"{SVG}path") if path.get("class") == "area").get("d")
        x, y = (float(value) for value in re.match(r"M([\d.]+) ([\d.]+)", area).groups())
        total = 0.0
        for command, value in re.findall(r"([VH])([\d.]+)", area)[:-2]:
            if command == "V":
                y = float(value)
            else:
                total += (float(value) - x) * (164 - y)
                x = float(value)
        assert total / (256 * 152) == pytest.approx(column.aruc.value, abs=2e-3)


def test_aruc_by_k_marks_the_k_that_calibration_chose(study):
    root = parsed(aruc_by_k(study.summary.sweep, study.summary.best_k, key="k"))
    assert "chosen: k = 5" in texts(root)
    named = [title.text for title in root.iter(f"{SVG}title")]
    for point in study.summary.sweep:
        assert f"k = {point.k:g}, models under test: {rate(point.aruc.value)}" in named
        assert f"k = {point.k:g}, calibration models: {rate(point.calibration_aruc)}" in named


def test_a_sweep_with_one_k_or_with_k_zero_can_be_drawn():
    points = summarise(make_result()).sweep
    parsed(aruc_by_k(points[:1], points[0].k, key="k"))
    parsed(aruc_by_k([dataclasses.replace(points[0], k=0.0), *points[1:]], 0.0, key="k"))


def test_the_threshold_is_the_one_the_verdict_used():
    fingerprint = make_fingerprint(independents=99)
    verdict = make_verdict(fingerprint, 1.0, alpha=0.05)
    # A fifth of alpha goes to sampling; the rest of .04 is 4 ranks of 100: the fourth largest of 0, .01, ..., .98.
    assert threshold_of(verdict, fingerprint.calibration) == pytest.approx(0.95)
    assert threshold_of(verdict, None) is None


@pytest.mark.parametrize("similarity", [-3.0, 0.4, 7.5])
def test_similarities_beyond_the_unit_interval_stay_in_the_picture(similarity):
    verdict = dataclasses.replace(make_verdict(make_fingerprint(), 1.0), similarity=similarity)
    root = parsed(suspect_figure(verdict, None, None))
    circle = next(c for c in root.iter(f"{SVG}circle") if c.get("class") == "suspect")
    assert 130 < float(circle.get("cx")) < 405


def test_interval_bars_span_their_interval():
    root = parsed(interval_bar(0.5, 0.25, 1.0, key="p"))
    line = next(path.get("d") for path in root.iter(f"{SVG}path"))
    assert line.startswith("M35.50 8H139.00")


def test_steps_are_constant_up_to_each_threshold():
    unit = Scale(0, 1, 0, 100)
    assert steps(unit, unit, [0, 0.5, 1], [1, 0.75, 0.25]) == "M0 75V75H50V25H100"


def test_elements_escape_names_and_text():
    written = element("g", '<b>"&', class_='"><script>')
    assert ElementTree.fromstring(written).text == '<b>"&'
    assert "<script>" not in written


def test_scales_are_linear_or_logarithmic():
    assert Scale(0, 2, 10, 20)(1) == 15
    assert Scale(1, 100, 0, 10, logarithmic=True)(10) == pytest.approx(5)
    assert np.isfinite(Scale(0.1, 20, 0, 1, logarithmic=True)(0.1))
