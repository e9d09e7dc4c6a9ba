"""Cards, and the choice of a scheme for what is at hand."""

from __future__ import annotations

import pytest

from whorl.errors import UsageError
from whorl.schemes import SCHEMES, cards
from whorl.schemes.cards import Needs, card, choose
from whorl.types import Access, grants


@pytest.fixture
def measured(monkeypatch):
    """Figures by scheme, in place of the committed ones."""

    def use(**figures):
        shape = {
            name: {"auc": {"value": value, "interval": {"low": value - 0.1, "high": 1.0}}, "tpr": {"value": 0.5}}
            for name, value in figures.items()
        }
        monkeypatch.setattr(cards, "_measured", lambda: ("a suite", shape))

    return use


@pytest.mark.parametrize("name", SCHEMES)
def test_every_scheme_has_a_card(name):
    shown = card(name)
    for text in (shown.idea, shown.blind, shown.paper):
        assert len(text) > 10
        assert "\n" not in text
    assert shown.victim >= shown.suspect
    assert len(shown.idea) <= 130


def test_the_best_measured_scheme_that_access_allows(measured):
    measured(ipguard=0.95, akh=0.9, random=0.6)
    assert choose(Needs(grants(Access.WEIGHTS)))[0] == "ipguard"
    name, reason = choose(Needs(grants(Access.LABELS)))
    assert name == "akh"
    assert "best AUC of 2 schemes" in reason
    assert "0.90 [0.80, 1.00] on a suite" in reason


def test_unmeasured_schemes_are_not_preferred(measured):
    measured(random=0.6)
    assert choose(Needs(grants(Access.WEIGHTS)))[0] == "random"


def test_without_measurements_the_least_demanding_is_taken(measured):
    measured()
    name, reason = choose(Needs(grants(Access.WEIGHTS)))
    assert card(name).suspect == grants(Access.LABELS)
    assert "asks least" in reason


def test_what_nothing_fits_is_refused(measured):
    measured()
    with pytest.raises(UsageError, match="no scheme fits: classification, LABELS of the victim"):
        choose(Needs(grants(Access.LABELS), pictures=False))
