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

    def use(exceeding="", auc=0.9, **powers):
        shape = {
            name: {
                "power": {"hits": hits, "count": 100, "interval": {"low": hits / 100 - 0.1, "high": 1.0}},
                "exceeds": name == exceeding,
                "auc": {"value": auc},
                "tpr": {"value": 0.5},
                "answered": 1.0 if name != "random" else 0.9,
            }
            for name, hits in powers.items()
        }
        monkeypatch.setattr(cards, "_measured", lambda: ("a suite", 0.05, shape))

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
    measured(ipguard=95, akh=90, random=60)
    assert choose(Needs(grants(Access.WEIGHTS)))[0] == "ipguard"
    name, reason = choose(Needs(grants(Access.LABELS)))
    assert name == "akh"
    assert "most power of 2 schemes" in reason
    assert "0.90 [0.80, 1.00] on a suite at alpha 0.05" in reason


def test_of_equal_powers_the_better_auc_is_taken(measured):
    measured(random=90, akh=90)  # random could not be asked about a tenth of the pairs
    assert choose(Needs(grants(Access.LABELS)))[0] == "akh"


def test_a_scheme_whose_accusations_exceed_alpha_is_never_proposed(measured):
    measured(exceeding="akh", akh=99, random=60)
    assert choose(Needs(grants(Access.LABELS)))[0] == "random"
    measured(exceeding="random", random=60)
    assert choose(Needs(grants(Access.LABELS)))[0] != "random"


def test_unmeasured_schemes_are_not_preferred(measured):
    measured(random=60)
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
