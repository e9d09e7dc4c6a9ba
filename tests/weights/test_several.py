"""Files with several nets, and with numbers that are none."""

from __future__ import annotations

import json
import math

import pytest
import torch
from families import make
from safetensors.torch import save_file
from typer.testing import CliRunner

from whorl.cli.app import app
from whorl.errors import InvalidFile
from whorl.weights.comparison import compare, document
from whorl.weights.family import relations
from whorl.weights.family.tree import lineage


def state(seed=0):
    return {name: value.contiguous().clone() for name, value in make("llama", seed).state_dict().items()}


def saved(path, *states):
    save_file({f"{prefix}{name}": value.clone() for prefix, each in states for name, value in each.items()}, path)
    return path


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("plain") / "a.safetensors", ("", state()))


def told(found):
    return {each.name for each in found.operations}


@pytest.mark.parametrize("prefix", ["adam.m.", "zz."])
def test_a_net_is_found_beside_another_one_whatever_sorts_first(plain, tmp_path, prefix):
    """Half of the numbers of B are A's: a part of the file, and no more."""
    path = saved(tmp_path / "b.safetensors", ("", state()), (prefix, state(1)))
    found = compare(plain, path)
    assert found.decision == "part reused"
    assert "identical" not in told(found)
    assert any("B 2 nets" in each and "''" in each for each in found.caveats)
    assert compare(path, plain).decision == "related"


def test_p_values_are_corrected_for_the_number_of_pairs(plain, tmp_path):
    alone = compare(plain, plain)
    path = saved(tmp_path / "b.safetensors", ("", state()), ("other.", state(1)), ("third.", state(2)))
    assert compare(plain, path).log_p == pytest.approx(alone.log_p + math.log(3))
    assert compare(path, path).log_p == pytest.approx(alone.log_p + math.log(9))


def test_identical_is_told_of_files_whose_every_net_is(tmp_path):
    one = saved(tmp_path / "a.safetensors", ("", state()), ("ema.", state(1)))
    other = saved(tmp_path / "b.safetensors", ("", state()), ("ema.", state(2)))
    assert told(compare(one, one)) == {"identical"}
    assert compare(one, one).decision == "related"
    assert told(compare(one, other)) == {"partly untouched"}
    moved = saved(tmp_path / "c.safetensors", ("old.", state()), ("ema.", state(2)))
    (partly,) = compare(one, moved).operations
    assert partly.told == "the net '' of A is the net 'old.' of B; there are others"


def test_nets_that_are_too_many_to_be_compared_are_named(plain, tmp_path):
    """Among them may be the one that is a copy, so that nothing is identical."""
    several = [(f"{word}.", state(seed)) for seed, word in enumerate(("a", "b", "c", "d"), 1)]
    small = {name: value for name, value in state().items() if "layers.1" not in name}
    path = saved(tmp_path / "b.safetensors", *several, ("small.", small))
    found = compare(plain, path)
    assert (found.decision, found.passed_over) == ("inconclusive", ((), ("small.",)))
    assert document(found)["passed_over"] == ((), ("small.",))
    both = compare(path, path, layers=1)
    assert both.passed_over == (("small.",), ("small.",))
    assert "identical" not in told(both)
    shown = CliRunner().invoke(app, ["compare", str(plain), str(path), "-q"]).stdout
    assert "its nets 'small.' were not compared, for others in it are larger" in shown
    (tmp_path / "nets").mkdir()
    path.rename(tmp_path / "nets" / "b.safetensors")
    assert lineage(tmp_path / "nets").skipped == {"b.safetensors": "only its nets 'small.', for 4 in it are larger"}


def test_strangers_stay_strangers_net_by_net(tmp_path):
    one = saved(tmp_path / "a.safetensors", ("", state(3)), ("ema.", state(4)))
    other = saved(tmp_path / "b.safetensors", ("", state(5)), ("ema.", state(6)))
    assert compare(one, other).decision == "inconclusive"


@pytest.mark.parametrize("value", [math.nan, -math.inf])
@pytest.mark.parametrize("name", ["model.layers.0.mlp.up_proj.weight", "model.norm.weight"])
def test_what_is_not_finite_is_left_out_and_named(plain, tmp_path, name, value):
    broken = state()
    broken[name].view(-1)[5] = value
    path = saved(tmp_path / "b.safetensors", ("", broken))
    for found in (compare(plain, path), compare(path, plain), compare(path, path)):
        assert found.decision == "related"
        assert any(name in each and "left out" in each for each in found.caveats)
    assert "identical" not in told(compare(plain, path))


def test_a_file_of_nothing_else_is_refused(plain, tmp_path):
    path = saved(tmp_path / "b.safetensors", ("", {name: value * math.nan for name, value in state().items()}))
    with pytest.raises(InvalidFile, match="NaN or an infinity"):
        compare(plain, path)
    path = saved(tmp_path / "few.safetensors", ("", {name: torch.full((16, 16), math.nan) for name in "abc"}))
    with pytest.raises(InvalidFile, match=r"few\.safetensors holds no tensor that can be used: all hold NaN"):
        compare(plain, path)


def test_complex_tensors_are_left_out_and_named(plain, tmp_path):
    """As those of state-space nets; what they hold is not known, so that nothing is called identical or a copy."""
    beside = {**state(), **{f"ssm.{n}": torch.randn(4, 4, dtype=torch.complex64) for n in range(20)}}
    (tmp_path / "nets").mkdir()
    paths = [tmp_path / "nets" / name for name in ("a.pt", "b.pt")]
    for path in paths:
        torch.save(beside, path)
    for other in (plain, paths[1]):
        found = compare(paths[0], other)
        assert (found.decision, told(found)) == ("related", {"partly untouched"})
        lines = [each for each in found.caveats if "left out: ssm.0, ssm.1, ssm.2, ssm.3, ... (20), complex" in each]
        assert len(lines) == (1 if other == plain else 2)
    tree = lineage(tmp_path / "nets")
    assert [member.copies for member in tree.members] == [(), ()]
    assert "only ssm.0, ssm.1" in tree.skipped["a.pt"]
    torch.save({"w": torch.randn(4, 4, dtype=torch.complex64)}, tmp_path / "alone.pt")
    with pytest.raises(InvalidFile, match="no tensor that can be used: 'w' is complex"):
        compare(plain, tmp_path / "alone.pt")


def folder(path, vocabulary, seed=0):
    path.mkdir()
    saved(path / "model.safetensors", ("", state(seed)))
    (path / "vocab.json").write_text(vocabulary)
    return path


@pytest.mark.parametrize(
    "vocabulary",
    [
        json.dumps({f"other {place}": place for place in range(256)}),
        json.dumps({f"word {place}": 255 - place for place in range(256)}),
        "{",
        "[3, 4]",
    ],
)
def test_a_wrong_tokenizer_hides_no_copy(tmp_path, vocabulary):
    """Tokens that no name pairs, or that names pair wrongly, are paired by their numbers; and strangers stay so."""
    ours = folder(tmp_path / "ours", json.dumps({f"word {place}": place for place in range(256)}))
    assert compare(ours, folder(tmp_path / "copy", vocabulary)).decision == "related"
    assert compare(ours, folder(tmp_path / "stranger", vocabulary, seed=1)).decision == "inconclusive"


def test_a_pair_that_fails_ends_no_family_tree(tmp_path, monkeypatch):
    """Nor does a net with which nothing can be compared; such pairs are no comparisons."""
    for seed in range(3):
        folder(tmp_path / f"net{seed}", "{}", seed)
    save_file({"other": torch.ones(3, 5)}, tmp_path / "other.safetensors")

    def failing(first, second, **settings):
        if {first.path.name, second.path.name} == {"net0", "net1"}:
            raise InvalidFile("net1 was cut off while it was read")
        return compare(first, second, **settings)

    monkeypatch.setattr(relations, "compare", failing)
    found = lineage(tmp_path)
    assert (found.pairs, found.compared) == (6, 2)
    assert ("net0", "net1") in found.untested
    assert len(found.untested) == 4
