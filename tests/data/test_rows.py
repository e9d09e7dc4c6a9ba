"""Tables of an owner, read from CSV, and models that take their columns as they stand."""

import numpy as np
import pytest
import torch
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier
from skops.io import dump

import whorl
from whorl.data import SOURCES
from whorl.data.base import PARTS
from whorl.errors import InvalidFile, UsageError
from whorl.oracles.convention import InputConvention
from whorl.testing import check_source

WINE = load_wine()


def write(path, rows, separator=",", start=""):
    path.write_text(start + "\n".join(separator.join(map(str, row)) for row in rows) + "\n", encoding="utf-8")
    return f'rows("{path}")'


@pytest.fixture
def wine(tmp_path):
    names = [f"grape {label}" for label in WINE.target]
    return write(
        tmp_path / "wine.csv",
        [[*WINE.feature_names, "kind"], *([*row, name] for row, name in zip(WINE.data, names, strict=True))],
    )


def test_the_source_keeps_the_contract(wine):
    check_source(SOURCES.make(wine))


def test_parts_share_no_row_and_hold_all(wine):
    parts = [SOURCES.make(wine).load(part) for part in PARTS]
    rows = torch.cat([part.images.flatten(1) for part in parts])
    assert len(rows.unique(dim=0)) == len(rows) == 178
    assert (float(rows.min()), float(rows.max())) == (0, 1)
    assert all(part.classes == ("grape 0", "grape 1", "grape 2") for part in parts)
    assert parts[0].features == tuple(WINE.feature_names)
    assert (
        SOURCES.make(parts[0].expression).load("test").labels.tolist()
        == SOURCES.make(wine).load("test").labels.tolist()
    )


def test_a_model_of_raw_columns_is_asked_in_their_units(wine, tmp_path):
    model = LogisticRegression(max_iter=5000).fit(WINE.data, [f"grape {label}" for label in WINE.target])
    dump(model, tmp_path / "model.skops")
    data, names = SOURCES.make(wine).load("test"), [f"grape {label}" for label in range(3)]
    oracle = whorl.open_oracle(tmp_path / "model.skops", input_shape=(1, 1, 13), class_names=names, units=wine)
    low, high = (bound.numpy() for bound in SOURCES.make(wine).units())
    raw = data.images.flatten(1).double().numpy() * (high - low) + low
    np.testing.assert_allclose(oracle.probabilities(data.inputs()), model.predict_proba(raw), atol=1e-4)
    assert (SOURCES.make("wine").units()[0] == torch.from_numpy(low)).all()  # the same table, as whorl has it


def test_whole_numbers_are_asked_as_whole_numbers(tmp_path):
    rng = np.random.default_rng(0)
    towns, rents = np.arange(300) % 47 + 3, rng.uniform(200, 900, 300)
    labels = (towns % 2 + (rents > 500)) % 2
    table = write(tmp_path / "t.csv", [["town", "rent", "y"], *zip(towns, rents.round(2), labels, strict=True)])
    encode = make_column_transformer((OneHotEncoder(), [0]), remainder=StandardScaler())  # unknown towns are an error
    model = make_pipeline(encode, DecisionTreeClassifier(random_state=0))
    dump(model.fit(np.stack([towns, rents.round(2)], 1), labels), tmp_path / "model.skops")
    oracle = whorl.open_oracle(tmp_path / "model.skops", input_shape=(1, 1, 2), classes=2, units=table)
    for part in PARTS:
        data = SOURCES.make(table).load(part)
        assert torch.equal(oracle.labels(data.inputs()), data.labels)


def test_only_what_rounding_took_from_a_whole_number_is_given_back():
    convention = InputConvention(mean=(0, -5, 0), std=(1 / 46, 1 / 3, 1e-7))
    asked = convention.adapter((1, 1, 3))
    given = torch.tensor([[13 / 46, 1 / 3, 0.12345671], [13.001 / 46, 0.5, 0.9]])[:, None, None].requires_grad_()
    found = asked(given).flatten(1)
    assert found[0, :2].tolist() == [13, 16]
    plain = given.flatten(1) * torch.tensor([46.0, 3, 1e7]) + torch.tensor([0.0, 15, 0])
    assert found[1, 0] == plain[1, 0] != 13
    assert (found - plain).abs().max() <= 1 / 16
    found.sum().backward()
    assert given.grad is not None
    assert given.grad.flatten(1)[0].tolist() == [46, 3, 1e7]


def test_a_fingerprint_says_of_an_estimator_what_its_file_does_not(wine, tmp_path):
    model = LogisticRegression(max_iter=5000).fit(WINE.data, [f"grape {label}" for label in WINE.target])
    dump(model, tmp_path / "model.skops")
    names = [f"grape {label}" for label in range(3)]
    fingerprint = whorl.extract(
        tmp_path / "model.skops",
        data=wine,
        scheme="random",
        budget=10,
        input_shape=(1, 1, 13),
        class_names=names,
        units=wine,
    )
    assert whorl.verify(fingerprint, tmp_path / "model.skops", units=wine, cache=tmp_path).similarity == 1


def test_columns_that_are_one_number_and_rows_that_occur_again(tmp_path):
    rows = [["a", "b", "y"], *([3, number, number % 2] for number in range(40)), [3, 5, 1], [3, 5, 1]]
    source = SOURCES.make(write(tmp_path / "t.csv", rows, ";", "\ufeff"))
    parts = [source.load(part) for part in PARTS]
    assert sum(map(len, parts)) == 40
    assert float(torch.cat([part.images for part in parts])[..., 0].abs().max()) == 0
    oracle_in = source.units()
    assert [bound.tolist() for bound in oracle_in] == [[3, 0], [3, 39]]


def test_classes_that_are_numbers_stand_in_their_order(tmp_path):
    rows = [["y", "a", "b"], *([10 - number % 3 * 4, number, -number] for number in range(60))]
    write(tmp_path / "t.csv", rows, "\t")
    assert SOURCES.make(f'rows("{tmp_path}/t.csv", label="y")').load("test").classes == ("2", "6", "10")


@pytest.mark.parametrize(
    ("rows", "label", "message"),
    [
        ([["a", "b", "y"], [1, "red", 0], [2, 3, 1]], "", r"line 2, column 'b' holds 'red'"),
        ([["a", "b", "y"], [1, 2, 0], [2, "", 1]], "", r"line 3, column 'b' is empty"),
        ([["a", "b", "y"], [1, "nan", 0], [2, 3, 1]], "", r"column 'b' holds 'nan'"),
        ([["a", "b", "y"], [1, "1e999", 0], [2, 3, 1]], "", r"column 'b' holds '1e999'"),
        ([["a", "b", "y"], [1, 2], [2, 3, 1]], "", r"line 2, holds 2 cells"),
        ([["a", "b", "y"], [1, 2, 0], [2, 3, 0]], "", r"all rows are of one class, '0'.*label="),
        ([["a", "b", "y"], *([1, 2, f"w{number}"] for number in range(1001))], "", r"holds 1,001 words; 2 to"),
        ([["a", "b", "y"], *([1, 2, number / 7] for number in range(60))], "", r"60 words, which are measured numbers"),
        ([["a", "b", "y"], [1, 2, "k"], [2, 3, " "]], "", r"line 3, names no class"),
        ([[1, 2, "k"], [2, 3, "m"], [4, 5, "k"]], "", r"first line is a row like the others\. Put a line before it"),
        ([[1, 2, 0], [2, 3, 1]], "", r"first line holds numbers alone\. Put a line before it"),
        ([["a", "b", "y"], ["1_0", 2, 0], [2, 3, 1]], "", r"column 'a' holds '1_0': all columns"),
        ([["a", "b", "y"], ["٣", 2, 0], [2, 3, 1]], "", r"column 'a' holds"),
        ([["a", "b", "y"], [1, "NA", 0], [2, 3, 1]], "", r"line 2, column 'b' holds 'NA', a missing value"),
        ([["a", "b", "y"], [1, 2, 0], [2, "null", 1]], "", r"line 3, column 'b' holds 'null', a missing value"),
        ([["a", "y", "b"], [1, 0, ""], [2, 1, " "]], "y", r"column 'b' is empty in all rows\. Leave it out"),
        ([["a", "b", "y"], ["", 2, 0], [2, "", 1]], "", r"line 2, column 'a' is empty"),
        ([["a", "a", "y"], [1, 2, 0], [2, 3, 1]], "", "columns that differ"),
        ([["a\x1b[1m", "b", "y"], [1, 2, 0], [2, 3, 1]], "", "columns that differ"),
        ([["a", "b", "y"], [1, 2, "\x1b[1m"], [2, 3, 1]], "", "holds 2 words"),
        ([["y"]], "", "columns that differ"),
        ([], "", "columns that differ"),
        ([["a", "b", "y"], [1, 2, 0], [2, 3, 1]], "kind", "has no column 'kind'; it has a, b, y"),
        ([["a", "b", "y"], [1, "2" * 200_000, 0]], "", "no CSV file"),
    ],
)
def test_what_is_no_table(tmp_path, rows, label, message):
    write(tmp_path / "t.csv", rows)
    with pytest.raises((InvalidFile, UsageError), match=message) as error:
        SOURCES.make(f'rows("{tmp_path}/t.csv", label="{label}")').load("test")
    assert str(error.value).isprintable()


def test_a_file_that_is_no_text_and_one_that_is_not_there(tmp_path):
    (tmp_path / "t.csv").write_bytes(b"a,b,y\n\xff\xfe,1,2\n")
    with pytest.raises(InvalidFile, match="no CSV file in UTF-8"):
        SOURCES.make(f'rows("{tmp_path}/t.csv")').load("test")
    with pytest.raises(UsageError, match="no such file"):
        SOURCES.make('rows("nowhere.csv")').load("test")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"units": "digits"}, "was not scaled from columns"),
        ({"units": "wine", "mean": [0.5]}, "give the one or the others"),
        ({"units": "wine"}, r"13 numbers; the model takes \[1, 1, 30\]"),
        ({"units": "nothing"}, "no such name"),
    ],
)
def test_units_that_do_not_fit(options, message):
    net = whorl.NETS.make("mlp(width=8)", input_shape=(1, 1, 30), classes=2)
    with pytest.raises(UsageError, match=message):
        whorl.open_oracle(net, input_shape=(1, 1, 30), classes=2, **options)


def test_a_table_that_was_written_anew_is_read_anew(tmp_path):
    source = SOURCES.make(write(tmp_path / "t.csv", [["a", "y"], [1, "u"], [2, "v"], [5, "u"]]))
    assert source.units()[1].tolist() == [5]
    write(tmp_path / "t.csv", [["a", "y"], [100, "u"], [200, "v"], [500, "u"], [700, "v"]])
    assert source.units()[1].tolist() == [700]


def test_columns_may_be_named_by_numbers_and_a_class_may_have_blanks_after_it(tmp_path):
    (tmp_path / "t.csv").write_text(
        "0,1,quality\n" + "".join(f"{n},{n + 1},{'bad' if n % 2 else 'good '}\n" for n in range(9)) + "9,1,good\n"
    )
    held = SOURCES.make(f'rows("{tmp_path}/t.csv")').load("victim")
    assert (held.features, held.classes) == (("0", "1"), ("bad", "good"))
