"""Every name of every catalogue refuses what its annotations do not allow, and the check finds one that does not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import pytest
from annotated_types import Ge

from whorl.data import SOURCES
from whorl.expressions import Call
from whorl.inspection import INSPECTIONS, SIEVES
from whorl.nets import ESTIMATORS, NETS
from whorl.queries import QUERIES
from whorl.removals import REMOVALS
from whorl.representations import REPRESENTATIONS, SIMILARITIES
from whorl.schemes import SCHEMES
from whorl.settings import settings_of
from whorl.suites.suite import SUITES
from whorl.testing import check_settings
from whorl.testing.settings import wrong_values
from whorl.zoo.lessons import ARCHITECTURES, CORPORA
from whorl.zoo.steps import CHANGES, FIRST, OWNED

CATALOGS = (
    *(SCHEMES, REMOVALS, NETS, ESTIMATORS, SOURCES, SUITES, QUERIES, REPRESENTATIONS, SIMILARITIES),
    *(INSPECTIONS, SIEVES, FIRST, OWNED, CHANGES, ARCHITECTURES, CORPORA),
)
# Parameters without a default.
GIVEN = {
    "kind": "uchida",
    "architecture": "mlp",
    "data": "digits(size=8)",
    "classes": (0, 1),
    "path": "x",
    "train": "x",
    "name": "x",
}
LANGUAGE = {"architecture": "llama", "data": "corpus", "other": "base"}


def check(catalog, name):
    given = LANGUAGE if catalog is CHANGES or name == "pretrain" else GIVEN
    needed = {key: given[key] for key, value in catalog.parameters(name).items() if value is ...}

    def bind(settings):
        return catalog.bind(Call(name, (), tuple(settings.items())))

    check_settings(catalog[name], needed, bind=bind, fixed=catalog.fixed)


@pytest.mark.parametrize(("catalog", "name"), [(each, name) for each in CATALOGS for name in each], ids=str)
def test_wrong_settings_are_refused(catalog, name):
    check(catalog, name)


def test_a_composed_scheme_refuses_alike():
    check(SCHEMES, "random-subsample+lime+cosine")


@dataclass(frozen=True)
class Open:
    setting: Any = 0


@dataclass(frozen=True)
class Unlike:
    """A default that its own range leaves out."""

    setting: Annotated[int, Ge(1)] = 0


def bare(setting=0):
    return setting


@dataclass(frozen=True)
class Fine:
    setting: Annotated[int, Ge(1)] = 1


@pytest.mark.parametrize(
    ("target", "bind", "says"),
    [
        (Open, None, "setting allows anything"),
        (bare, None, "setting has no annotation"),
        (Unlike, None, "refuses settings that are right: .*setting is a whole number of at least 1, not 0"),
        (Fine, str, "setting=0.5 is accepted|setting=None is accepted"),
    ],
)
def test_broken_promises_are_named(target, bind, says):
    with pytest.raises(AssertionError, match=says) as caught:
        check_settings(target, bind=bind)
    assert "\n" not in str(caught.value)


def test_settings_that_keep_the_contract_pass():
    check_settings(Fine)
    assert {None, True, 0, 0.5, "no-such-name"} <= set(wrong_values(settings_of(Fine)["setting"]))
