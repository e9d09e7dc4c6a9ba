"""Expressions print and parse to the same thing; mistakes show their place."""

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whorl.errors import UsageError
from whorl.expressions import MAX_DEPTH, MAX_LENGTH, Call, Chain, Value, parse, parse_chain

names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_.+]{0,6}(-[A-Za-z0-9_.+]{1,4})?", fullmatch=True)
scalars = st.one_of(
    st.booleans(),
    st.none(),
    st.integers(-(10**30), 10**30),
    st.floats(allow_nan=False, allow_infinity=False),
    st.fractions(max_denominator=10**6),
    st.text(max_size=12),
    names,
)


def calls(values: st.SearchStrategy[Value], least: int) -> st.SearchStrategy[Call]:
    keywords = st.dictionaries(names, values, max_size=2).map(lambda given: tuple(given.items()))
    made = st.builds(Call, names, st.lists(values, max_size=2).map(tuple), keywords)
    return made.filter(lambda call: len(call.args) + len(call.kwargs) >= least)


# Among the values a call without parameters is a string, so only calls with some are generated there.
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3).map(tuple), calls(inner, least=1)),
    max_leaves=8,
)
chains = st.lists(calls(values, least=0), min_size=1, max_size=3).map(lambda steps: Chain(tuple(steps)))


def kinds(value: object) -> object:
    """The value with the types that == does not tell apart: 1, 1.0, True and Fraction(1)."""
    if isinstance(value, tuple):
        return tuple(kinds(item) for item in value)
    if isinstance(value, Call):
        return value.name, kinds(value.args), kinds(value.kwargs)
    return type(value), value


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(chains.filter(lambda chain: len(str(chain)) <= MAX_LENGTH))
def test_what_is_printed_parses_to_the_same(chain: Chain) -> None:
    found = parse_chain(str(chain))
    assert found == chain
    assert kinds(found.steps) == kinds(chain.steps)
    assert str(found) == str(chain)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a", Call("a")),
        ("a()", Call("a")),
        ("wrn22-4(width=8)", Call("wrn22-4", (), (("width", 8),))),
        ("f(1, 1., -.5, 1e-3, 4/16)", Call("f", (1, 1.0, -0.5, 1e-3, Fraction(1, 4)))),
        ("f(true, false, none)", Call("f", (True, False, None))),
        ("f(\"true\", 'it\\'s', 'say \"hi\"')", Call("f", ("true", "it's", 'say "hi"'))),
        ("f([1, [a, b]], [])", Call("f", ((1, ("a", "b")), ()))),
        ("f(g(1), g)", Call("f", (Call("g", (1,)), "g"))),
        ("  f ( x = 1 ,) ", Call("f", (), (("x", 1),))),
        ("f(./a, ../b.c, /d, ~/e, x=g/h-i)", Call("f", ("./a", "../b.c", "/d", "~/e"), (("x", "g/h-i"),))),
        ("f(., .., ~, .5, [./a, .b/c])", Call("f", (".", "..", "~", 0.5, ("./a", ".b/c")))),
        (r"f(C:\new\a, C:/new, .\b, \\c\d)", Call("f", (r"C:\new\a", "C:/new", r".\b", r"\\c\d"))),
        (r'f("C:\new\my pictures\", 1)', Call("f", ("C:\\new\\my pictures\\", 1))),
        (r"f('..\new', 'a\test', '\\c\d\n')", Call("f", (r"..\new", r"a\test", r"\\c\d\n"))),
        (r'f("C:\\new", "say \"a\\b\"\n")', Call("f", (r"C:\new", 'say "a\\b"\n'))),
    ],
)
def test_examples(text: str, expected: Call) -> None:
    assert kinds(parse(text)) == kinds(expected)


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(st.text(alphabet="aB:\\~./ \"'\n\u00fc", max_size=12))
def test_what_looks_like_a_path_is_printed_so_that_it_is_read_back(text: str) -> None:
    call = Call("f", (text, 1))
    assert parse(str(call)) == call


def test_a_path_is_printed_in_quotes_as_before() -> None:
    assert str(parse("f(./a)")) == str(parse('f("./a")')) == 'f("./a")'


def test_chains() -> None:
    chain = parse_chain("train(resnet20, cifar10, seed=0)->prune_filters(4/16)")
    assert [step.name for step in chain.steps] == ["train", "prune_filters"]
    assert str(chain) == "train(resnet20, cifar10, seed=0) -> prune_filters(1/4)"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a name"),
        ("a(", "expected a value"),
        ("a(1", r"expected ',' or '\)'"),
        ("a(1 2)", r"a\(1 ⟨here⟩2\)"),
        ("a(1)b", "expected '->' or the end"),
        ("a ->", "expected a name"),
        ("3", "expected a name"),
        ("a(x=1, 2)", "after the first key=value"),
        ("a(x=1, x=2)", "'x' only once"),
        ("a(1/0)", "denominator other than 0"),
        ("./a", r"folder\(PATH\)"),
        ("a(./b c)", "quotes around a text"),
        ("a($)", "expected a name, number or string"),
        ("a('b)", "expected a name, number or string"),
        ('a("\\q")', "cannot read the string"),
        ("a([1, 2)", r"expected ',' or '\]'"),
        ("a -> b", "not a chain"),
        ("a" * (MAX_LENGTH + 1), "is too long"),
        ("a(" * (MAX_DEPTH + 2) + ")" * (MAX_DEPTH + 2), f"at most {MAX_DEPTH} levels"),
        ("a(" + "[" * 2000 + "]" * 2000 + ")", f"at most {MAX_DEPTH} levels"),
    ],
)
def test_mistakes(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse(text)


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(st.text(alphabet="ab(),=[]->\"'\\/.1e \n", max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        chain = parse_chain(text)
    except UsageError:
        return
    assert parse_chain(str(chain)) == chain
