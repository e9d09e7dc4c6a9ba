"""A number that an encoder knows is asked as the encoder knows it, to the last bit, wherever the encoder stands."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import make_column_transformer
from sklearn.ensemble import BaggingClassifier, HistGradientBoostingClassifier, VotingClassifier
from sklearn.feature_selection import SelectKBest
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import (
    FunctionTransformer,
    KBinsDiscretizer,
    OneHotEncoder,
    OrdinalEncoder,
    StandardScaler,
    TargetEncoder,
)
from sklearn.tree import DecisionTreeClassifier
from skops.io import dump

from whorl.data import SOURCES
from whorl.data.base import PARTS
from whorl.errors import UsageError
from whorl.oracles.opening import open_oracle

RNG = np.random.default_rng(0)
SIZES = np.array([0.1, 0.2, 0.3, 0.7, 1.1, 1.5, 4.9])
RATES = np.array([-3.3, 1 / 3, 2.6e-3, 1234.56, 17])
ROWS = np.stack([RNG.choice(SIZES, 400), RNG.choice(RATES, 400), RNG.choice(SIZES * 1e-4, 400)], 1)
ROWS = np.concatenate([ROWS, [[0.1, 1 / 3, 7e-5]]])
KINDS = ((ROWS[:, 0] * 10).round() + (ROWS[:, 1] > 1) + (ROWS[:, 2] > 4e-5)).astype(int) % 3


@pytest.fixture
def table(tmp_path: Path) -> str:
    lines = [",".join(map(repr, [*map(float, row), int(kind)])) for row, kind in zip(ROWS, KINDS, strict=True)]
    (tmp_path / "t.csv").write_text("\n".join(["size,rate,share,kind", *lines]))
    return f"rows('{tmp_path / 't.csv'}')"


def asked(estimator: Any, table: str, tmp_path: Path, **options: Any) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities by whorl of all rows of a table, and the rows as the table has them, in one order."""
    dump(estimator, tmp_path / "x.skops")
    oracle = open_oracle(tmp_path / "x.skops", input_shape=(1, 1, ROWS.shape[1]), units=table, **options)
    source = SOURCES.make(table)
    found = torch.cat([source.load(part).images for part in PARTS])
    bounds = source.units()
    assert bounds is not None
    low, high = bounds
    near = (found.flatten(1).double() * (high - low) + low).numpy()
    rows = ROWS[np.abs(near[:, None] / np.ptp(ROWS, 0) - ROWS / np.ptp(ROWS, 0)).sum(2).argmin(1)]
    return oracle.probabilities(found).numpy(), rows


ENCODERS: dict[str, Callable[[], Any]] = {
    "one-hot": lambda: OneHotEncoder(sparse_output=False),
    "one-hot that ignores": lambda: OneHotEncoder(handle_unknown="ignore", drop="first", sparse_output=False),
    "ordinal": OrdinalEncoder,
    "ordinal that marks": lambda: OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1),
    "target": lambda: TargetEncoder(random_state=0),
    "bins by quantiles": lambda: KBinsDiscretizer(4, encode="ordinal", quantile_method="averaged_inverted_cdf"),
    "bins by a number each": lambda: KBinsDiscretizer(
        5, encode="onehot-dense", strategy="quantile", quantile_method="inverted_cdf"
    ),
}


@pytest.mark.parametrize("make", ENCODERS.values(), ids=ENCODERS)
@pytest.mark.filterwarnings("ignore")
def test_categories_that_are_no_whole_numbers_are_found(tmp_path: Path, table: str, make: Callable[[], Any]) -> None:
    estimator = make_pipeline(make(), LogisticRegression()).fit(ROWS, KINDS)
    found, rows = asked(estimator, table, tmp_path)
    assert len(found) > 100
    assert np.array_equal(found, estimator.predict_proba(rows).astype(np.float32))


PLACES: dict[str, Callable[[], Any]] = {
    "of some columns": lambda: make_pipeline(
        make_column_transformer((OneHotEncoder(), [2, 0]), (OrdinalEncoder(), slice(1, 2))), LogisticRegression()
    ),
    "of the rest": lambda: make_pipeline(
        make_column_transformer(("drop", [1]), remainder=OneHotEncoder()), LogisticRegression()
    ),
    "in a pipeline of a column": lambda: make_pipeline(
        make_column_transformer((make_pipeline(SimpleImputer(), OrdinalEncoder()), [0, 2]), (OrdinalEncoder(), [1])),
        DecisionTreeClassifier(random_state=0),
    ),
    "behind what keeps numbers": lambda: make_pipeline(
        FunctionTransformer(), SelectKBest(k=2), OneHotEncoder(), LogisticRegression()
    ),
    "in a union": lambda: make_pipeline(make_union(OrdinalEncoder(), OneHotEncoder()), LogisticRegression()),
    "in a bag": lambda: BaggingClassifier(
        make_pipeline(OneHotEncoder(handle_unknown="ignore"), LogisticRegression()), 5, max_features=2, random_state=0
    ),
    "in a vote": lambda: VotingClassifier(
        [("a", make_pipeline(OneHotEncoder(), LogisticRegression())), ("b", DecisionTreeClassifier(max_depth=1))],
        voting="soft",
    ),
    "for each class": lambda: OneVsRestClassifier(make_pipeline(OneHotEncoder(), LogisticRegression())),
    "calibrated": lambda: CalibratedClassifierCV(make_pipeline(OneHotEncoder(), LogisticRegression())),
}


@pytest.mark.parametrize("make", PLACES.values(), ids=PLACES)
@pytest.mark.filterwarnings("ignore")
def test_encoders_are_found_wherever_they_stand(tmp_path: Path, table: str, make: Callable[[], Any]) -> None:
    estimator = make().fit(ROWS, KINDS)
    found, rows = asked(estimator, table, tmp_path)
    assert np.array_equal(found, estimator.predict_proba(rows).astype(np.float32))


def test_what_lies_between_categories_stays_there(tmp_path: Path, table: str) -> None:
    estimator = make_pipeline(
        OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1), LogisticRegression()
    )
    dump(estimator.fit(ROWS, KINDS), tmp_path / "x.skops")
    oracle = open_oracle(tmp_path / "x.skops", input_shape=(1, 1, 3), units=table)
    low, high = ROWS.min(0), ROWS.max(0)
    beside = np.array([[0.15, 0.1, 1.5e-5], [0.1 + 1e-5, 1 / 3 + 1e-2, 7.001e-5]])
    inputs = torch.tensor((beside - low) / (high - low), dtype=torch.float32)[:, None, None]
    unknown = estimator.predict_proba([[9, 9, 9]] * 2).astype(np.float32)
    assert np.array_equal(oracle.probabilities(inputs).numpy(), unknown)


def test_rows_as_whorl_scales_them_are_looked_up_too(tmp_path: Path) -> None:
    rows = (ROWS - ROWS.min(0)) / np.ptp(ROWS, 0)
    estimator = make_pipeline(OneHotEncoder(), LogisticRegression()).fit(rows, KINDS)
    dump(estimator, tmp_path / "x.skops")
    oracle = open_oracle(tmp_path / "x.skops", input_shape=(1, 1, 3))
    found = oracle.probabilities(torch.from_numpy(rows).float()[:, None, None]).numpy()
    assert np.array_equal(found, estimator.predict_proba(rows).astype(np.float32))


def test_categories_that_float32_cannot_tell_apart_are_refused(tmp_path: Path, table: str) -> None:
    rows = ROWS.copy()
    rows[:200, 1] += np.where(rows[:200, 1] == 17, 1e-6, 0)  # of a range of 1,238
    estimator = make_pipeline(OneHotEncoder(), LogisticRegression()).fit(rows, KINDS)
    dump(estimator, tmp_path / "x.skops")
    message = r"x\.skops looks column 2 up in categories of which 17\.0 and 17\.000001 are one number to float32"
    with pytest.raises(UsageError, match=message):
        open_oracle(tmp_path / "x.skops", input_shape=(1, 1, 3), units=table)


@pytest.mark.filterwarnings("ignore")
def test_an_estimator_that_was_fitted_on_names_takes_columns_by_name(tmp_path: Path, table: str) -> None:
    moved = [2, 0, 1]
    estimator = make_pipeline(
        make_column_transformer((OneHotEncoder(), [0, 1]), remainder=StandardScaler()), LogisticRegression()
    ).fit(ROWS[:, moved], KINDS)
    estimator[0].feature_names_in_ = np.array(["share", "size", "rate"], dtype=object)
    found, rows = asked(estimator, table, tmp_path)
    np.testing.assert_allclose(found, estimator.predict_proba(rows[:, moved]), atol=1e-6)
    estimator[0].feature_names_in_ = np.array(["a", "b", "c"], dtype=object)  # no names of the table: as they stand
    with pytest.raises(Exception, match="unknown categories"):
        asked(estimator, table, tmp_path)


def test_a_column_far_from_zero_keeps_its_bins(tmp_path: Path) -> None:
    """A time in seconds: the offset is of float64 and takes nothing from a number of [0, 1]."""
    rows = ROWS.copy()
    rows[:, 2] = 1.7e9 + np.round(6e5 * rows[:, 2], 1)
    lines = [",".join(map(repr, [*map(float, row), int(kind)])) for row, kind in zip(rows, KINDS, strict=True)]
    (tmp_path / "t.csv").write_text("\n".join(["size,rate,time,kind", *lines]))
    bins = KBinsDiscretizer(5, encode="ordinal", strategy="uniform")
    estimator = make_pipeline(bins, DecisionTreeClassifier(random_state=0)).fit(rows, KINDS)
    dump(estimator, tmp_path / "x.skops")
    oracle = open_oracle(tmp_path / "x.skops", input_shape=(1, 1, 3), units=f"rows('{tmp_path / 't.csv'}')")
    given = (rows - rows.min(0)) / np.ptp(rows, 0)
    assert np.array_equal(
        oracle.labels(torch.from_numpy(given).float()[:, None, None]).numpy(), estimator.predict(rows)
    )


@pytest.mark.parametrize("columns", [1, 3])
def test_a_value_that_is_a_threshold_stays_on_its_side(tmp_path: Path, columns: int) -> None:
    """Bins of a column of many values end at values that it holds, and a tree sends these to the left."""
    chance = np.random.default_rng(columns)
    rows = chance.integers(-300, 600, (1500, columns)) / 1000
    kinds = (np.sin(40 * rows).sum(1) + chance.normal(0, 0.3, len(rows)) > 0).astype(int)
    boosted = HistGradientBoostingClassifier(max_iter=20, random_state=0).fit(rows, kinds)
    lines = [",".join(map(repr, [*map(float, row), int(kind)])) for row, kind in zip(rows, kinds, strict=True)]
    path = tmp_path / "many.csv"
    path.write_text("\n".join([",".join([*(f"c{number}" for number in range(columns)), "kind"]), *lines]))
    dump(boosted, tmp_path / "x.skops")
    units = f"rows('{path}')"
    oracle = open_oracle(tmp_path / "x.skops", input_shape=(1, 1, columns), units=units, class_names=["0", "1"])
    source = SOURCES.make(units)
    low, high = source.units() or (torch.zeros(1), torch.ones(1))
    for part in PARTS:
        images = source.load(part).images
        own = ((images.flatten(1).double() * (high - low) + low).numpy() * 1000).round() / 1000
        expected = boosted.predict_proba(own)
        np.testing.assert_allclose(oracle.probabilities(images).numpy(), expected, atol=1e-6)


def test_columns_that_are_picked_by_name_are_picked_by_place(tmp_path: Path, table: str) -> None:
    """As a pipeline is that was fitted on a data frame, which rows of numbers are none of."""
    steps = (StandardScaler(), [1]), (OneHotEncoder(sparse_output=False), [0])
    piped = make_pipeline(make_column_transformer(*steps, remainder="passthrough"), LogisticRegression())
    piped.fit(ROWS, KINDS)
    expected = piped.predict_proba(ROWS)
    picker, names = piped[0], ["size", "rate", "share"]
    picker.feature_names_in_ = np.array(names, dtype=object)
    picker.transformers_ = [(name, step, [names[place] for place in of]) for name, step, of in picker.transformers_]
    with pytest.raises(ValueError, match="dataframes"):
        piped.predict_proba(ROWS)
    given, rows = asked(piped, table, tmp_path)
    places = [int(np.abs(ROWS - row).sum(1).argmin()) for row in rows]
    np.testing.assert_allclose(given, expected[places], atol=1e-6)
    live = open_oracle(piped, input_shape=(1, 1, ROWS.shape[1]), units=table)
    assert live.classes == 3
    assert picker.transformers_[0][2] == ["rate"], "what somebody gave is as it was"
