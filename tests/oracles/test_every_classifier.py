"""Every classifier of scikit-learn: saved by skops it answers as before, or docs/tables.md says why it is not read."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skops.io
import torch
from sklearn.datasets import load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.utils import all_estimators

from whorl.errors import InvalidFile
from whorl.oracles.convention import InputConvention
from whorl.oracles.description import InputDescription
from whorl.oracles.opening import open_oracle

ROWS, KINDS = load_wine(return_X_y=True)
CLASSIFIERS = dict(all_estimators("classifier"))
BINARY = ("FixedThresholdClassifier", "TunedThresholdClassifierCV")
SEVERAL = ("ClassifierChain", "MultiOutputClassifier")
ONE = {"estimator": GaussianNB()}
TWO = {"estimators": [("a", GaussianNB()), ("b", LogisticRegression())]}
AROUND = (*BINARY, *SEVERAL, "OneVsOneClassifier", "OneVsRestClassifier", "OutputCodeClassifier")
INSIDE = dict.fromkeys((*AROUND, "SelfTrainingClassifier"), ONE)
INSIDE |= dict.fromkeys(("StackingClassifier", "VotingClassifier"), TWO)
LINES = (Path(__file__).parents[2] / "docs" / "tables.md").read_text(encoding="utf-8").splitlines()
TABLE = {line.split("`")[1]: [cell.strip() for cell in line.split("|")[2:-1]] for line in LINES if line[:3] == "| `"}


def fitted(name: str, rows: np.ndarray) -> Any:
    estimator = CLASSIFIERS[name](**INSIDE.get(name, {}))
    if "random_state" in estimator.get_params():
        estimator.set_params(random_state=0)
    labels = np.stack([KINDS > 0, KINDS > 1], 1) if name in SEVERAL else KINDS > 0 if name in BINARY else KINDS
    return estimator.fit(rows, labels.astype(int))


def test_the_table_is_of_all_classifiers_and_no_others() -> None:
    assert sorted(TABLE) == sorted(CLASSIFIERS)


@pytest.mark.parametrize("name", CLASSIFIERS)
@pytest.mark.filterwarnings("ignore")
def test_what_the_table_says(tmp_path: Path, name: str) -> None:
    whole = name == "CategoricalNB"  # which takes whole numbers
    rows = (ROWS > ROWS.mean(0)).astype(float) if whole else ROWS
    estimator, path = fitted(name, rows), tmp_path / "x.skops"
    skops.io.dump(estimator, path)
    answers, said = TABLE[name]
    about: dict[str, Any] = {"input_shape": (1, 1, 13), **({} if whole else {"units": "wine"})}
    if answers == "not read":
        with pytest.raises(InvalidFile, match=said.partition(":")[0]):
            open_oracle(path, classes=3, **about)
        return
    oracle = open_oracle(path, classes=len(estimator.classes_), **about)
    low, high = (0, 1) if whole else (ROWS.min(0), ROWS.max(0))
    inputs = torch.tensor((rows - low) / (high - low), dtype=torch.float32)[:, None, None]
    convention = InputConvention() if whole else InputDescription(units="wine").convention
    asked = convention.adapter((1, 1, 13), torch.float32 if whole else torch.float64)(inputs).flatten(1).numpy()
    assert oracle.access.name.lower() == answers
    found = oracle.answers(inputs).numpy()
    if answers == "labels":
        assert np.array_equal(found, estimator.predict(asked))
    else:
        assert np.array_equal(found, estimator.predict_proba(asked).astype(np.float32))
