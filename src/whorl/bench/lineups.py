"""Lineups as columns beside the schemes: is it the victim whom a suspect resembles most, or a twin of its recipe?"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from whorl.bench.work import ask_each, cell_of, costs_path, peak_memory
from whorl.detection.lineup import outermost
from whorl.errors import UsageError
from whorl.expressions import Call, parse
from whorl.fingerprints.files import write_fingerprint
from whorl.fingerprints.secret import read_secret, secret_path, write_secret
from whorl.fingerprints.terms import Terms, terms_of
from whorl.lineups.figures import with_reasons
from whorl.lineups.making import Material, line_up, with_known
from whorl.lineups.session import hold
from whorl.oracles.base import Oracle
from whorl.schemes import SCHEMES
from whorl.schemes.opening import read_fingerprint
from whorl.storage import write_json
from whorl.suites.suite import Suite
from whorl.types import Access, Rule
from whorl.zoo.cache import Zoo
from whorl.zoo.recipe import Recipe, parse_recipe

__all__ = [
    "BY",
    "COLUMNS",
    "QUESTIONS",
    "by_scheme",
    "expression_for",
    "is_lineup",
    "judge_lineups",
    "make_lineup",
    "needs_of",
    "scheme_in",
]

COLUMNS: Final = {"lineup": "lineup", "lineup, labels": "lineup(scores=mixture)"}
"""Label to expression: with all that a suspect answers, and with its labels alone."""
BY: Final = "lineup by "
"""What the label of a lineup by a scheme begins with; the scheme's follows."""
QUESTIONS: Final = 1000
ALIKE: Final = "the suite trains the victim and its twins by one recipe"


def is_lineup(expression: str) -> bool:
    """Whether a column's expression names a lineup and no scheme."""
    return expression.partition("(")[0].strip() == "lineup"  # what others wrote need not parse


def expression_for(expression: str, victim: Recipe) -> str:
    """A lineup's expression for one victim: of several steps its twins share all but the last, and are levelled."""
    shared = len(victim.chain.steps) > 1
    return "lineup(scores=levelled)" if shared and expression == COLUMNS["lineup"] else expression


def by_scheme(name: str, expression: str) -> tuple[str, str]:
    """The column in which each candidate has a fingerprint of its own by a scheme: its label and its expression.

    Raises:
        UsageError: there is no such scheme, or it learns from shadow models, which twins have none of.
    """
    if (scheme := SCHEMES.make(expression)).needs_pool:
        raise UsageError(
            f"{scheme.name} learns from shadow models, and twins have none of their own: no lineup is by it. Leave it "
            "out of --by"
        )
    return f"{BY}{name}", str(Call("lineup", (), (("by", SCHEMES.bind(expression)),)))


def scheme_in(expression: str) -> str:
    """The expression of the scheme that a lineup's column is by; empty where all candidates are asked the same."""
    return _terms(expression).by


def needs_of(expression: str) -> Access:
    """What a lineup's column reads of a suspect that gives as much; labels alone where others' words don't parse."""
    try:
        terms = _terms(expression)
        if terms.by:
            return SCHEMES.make(terms.by).needs_suspect
        return Access.PROBABILITIES if terms.scores in ("residual", "levelled") else Access.LABELS
    except (UsageError, ValidationError):
        return Access.LABELS


def _terms(expression: str, **more: Any) -> Terms:
    given = {name: str(value) if isinstance(value, Call) else value for name, value in parse(expression).kwargs}
    return Terms.model_validate({**given, **more})


def make_lineup(
    suite: Suite, victim: int, expression: str, questions: int, path: str, folder: str, device: str
) -> None:
    """Line up a victim and its twins, in a fingerprint file and the secret beside it."""
    zoo, recipe = Zoo(Path(folder), device=device), suite.victims[victim]
    terms = _terms(expression, alpha=suite.alpha)
    material = Material.of(suite.data_of(victim), terms.by)
    mine = zoo.oracle(recipe)
    with peak_memory() as memory:
        # The lineup brings its own questions; the scheme of the file that holds it is of no matter.
        bare = SCHEMES.make("random").extract(mine, material.pool, budget=1, seed=0)
        twins = [zoo.oracle(each) for each in suite.twins(victim)]
        made, secret = line_up(bare, mine, twins, material, size=questions, terms=terms, recipe=str(recipe))
        apart = outermost((terms_of(made.candidates, made.task) if made.candidates else terms).figures, secret.place)
        made = with_reasons(made, secret, dict.fromkeys(apart, ALIKE))
    copies: dict[str, list[Oracle]] = {}
    for row in suite.known:
        copies.setdefault(row.label, []).append(zoo.oracle(recipe.then(row.removal)))
    write_json(costs_path(path), memory)
    write_secret(secret, secret_path(path))
    write_fingerprint(with_known(made, secret, strangers={}, copies=copies), path)


def judge_lineups(
    recipe: str, paths: tuple[str, ...], alpha: float, folder: str, device: str
) -> dict[str, dict[str, Any]]:
    """Hold one suspect before many lineups: path to the fields of a cell, or to the reason of a refusal."""

    def ask(path: str, suspect: Oracle) -> dict[str, Any]:
        fingerprint, secret = read_fingerprint(path), read_secret(secret_path(path))
        started = time.perf_counter()
        verdict = hold(fingerprint, suspect, Rule(alpha=alpha, lineup=True), secret=secret)
        return cell_of(verdict, verdict.similarity, time.perf_counter() - started)

    return ask_each(Zoo(Path(folder), device=device).oracle(parse_recipe(recipe)), paths, ask)
