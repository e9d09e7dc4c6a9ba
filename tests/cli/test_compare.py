"""``whorl compare`` as it is typed."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from whorl.cli.app import app


def save(folder, seed=0, base=None):
    """A Llama-like checkpoint without its library: random numbers, or a noisy copy of another."""
    chance = torch.Generator().manual_seed(seed)
    shapes = {"model.embed_tokens.weight": (64, 32), "model.norm.weight": (32,), "lm_head.weight": (64, 32)}
    for layer in range(2):
        at = f"model.layers.{layer}"
        shapes |= {f"{at}.mlp.{name}_proj.weight": (96, 32) for name in ("gate", "up")}
        shapes |= {f"{at}.mlp.down_proj.weight": (32, 96)}
        shapes |= {f"{at}.self_attn.{name}_proj.weight": (32, 32) for name in "qkvo"}
    tensors = {name: torch.randn(shape, generator=chance) for name, shape in shapes.items()}
    if base is not None:
        held = load_file(base / "model.safetensors")
        tensors = {name: held[name] + 0.2 * value for name, value in tensors.items()}
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors")
    config = {"model_type": "llama", "num_attention_heads": 4, "num_key_value_heads": 4}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="module")
def nets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nets")
    ours = save(folder / "ours")
    save(folder / "copy", 1, base=ours)
    save(folder / "other", 2)
    return folder


def typed(*words):
    return CliRunner().invoke(app, ["compare", *map(str, words)])


def test_a_copy_is_told_in_plain_words(nets):
    told = typed(nets / "ours", nets / "copy")
    assert told.exit_code == 0, told.stderr
    for words in ("RELATED", "exact", "gated signs", "unit places", "who came first cannot be told", "MB read"):
        assert words in told.stdout
    assert "evaded by" in told.stderr


def test_a_stranger_is_not_accused(nets):
    told = typed(nets / "ours", nets / "other", "--quiet")
    assert "INCONCLUSIVE" in told.stdout
    assert "made from" not in told.stdout
    assert not told.stderr


def test_json_is_one_document_and_exit_codes_follow(nets):
    told = typed(nets / "ours", nets / "copy", "--json", "--fail-on", "related")
    assert told.exit_code == 3
    document = json.loads(told.stdout)
    keys = {"decision", "null_hypothesis", "p_value", "tests", "layers", "operations", "direction", "bytes_read"}
    assert keys | {"seconds", "caveats", "relation"} <= document.keys()
    assert document["decision"] == "related"
    assert typed(nets / "ours", nets / "other", "--fail-on", "inconclusive").exit_code == 4
    assert typed(nets / "ours", nets / "other", "--fail-on", "related").exit_code == 0


def test_nothing_tested_is_said_and_can_be_failed_on(tmp_path):
    for name in "ab":
        save_file({"lin.weight": torch.randn(1, 8)}, tmp_path / f"{name}.safetensors")
    pair = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    told = typed(*pair, "--fail-on", "untested", "--report", tmp_path / "page.html")
    assert told.exit_code == 4
    assert "nothing could be tested" in told.stdout
    assert "no p-value" in told.stdout
    assert "nothing could be tested" in (tmp_path / "page.html").read_text().lower()
    assert typed(*pair, "--fail-on", "inconclusive").exit_code == 4


def test_shares_of_numbers_are_told_and_a_test_that_was_made_is_not_untested(nets):
    told = typed(nets / "ours", nets / "other", "--fail-on", "untested", "--layers", "1")
    assert told.exit_code == 0
    assert "that were not read" in told.stdout
    (shares,) = {
        each["tested"] for each in json.loads(typed(nets / "ours", nets / "ours", "--json").stdout)["coverage"]
    }
    held = load_file(nets / "ours" / "model.safetensors")
    counted = [name for name in held if "mlp" in name or "embed" in name or "v_proj" in name]
    assert shares == pytest.approx(sum(held[each].numel() for each in counted) / sum(v.numel() for v in held.values()))


def test_the_page_shows_tests_map_and_caveats(nets, tmp_path):
    page = tmp_path / "deep" / "page.html"
    assert typed(nets / "ours", nets / "copy", "--report", page).exit_code == 0
    written = page.read_text()
    assert "<b>A</b>: the evidence is in the weights" in written
    for words in ("Related", "gated signs", "Where the evidence lies", "layer 1", "evaded by", "What happened"):
        assert words.lower() in written.lower()
    assert "://" not in written.replace("http://www.w3.org/2000/svg", "")


def test_all_layers_reads_more(nets):
    one, every = (
        json.loads(typed(nets / "ours", nets / "copy", "--json", *options).stdout)
        for options in (("--layers", "1"), ("--all-layers",))
    )
    assert one["bytes_read"] < every["bytes_read"]
    assert (len(one["layers"]), len(every["layers"])) == (2, 3)


def test_an_adapter_is_read_over_its_base_and_the_answer_says_what_that_shows(nets, tmp_path):
    chance = torch.Generator().manual_seed(0)
    factors = {
        f"base_model.model.model.layers.0.mlp.down_proj.lora_{side}.weight": torch.randn(shape, generator=chance)
        for side, shape in {"A": (4, 96), "B": (32, 4)}.items()
    }
    save_file(factors, tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 4, "lora_alpha": 4}')
    refused = typed(nets / "ours", tmp_path)
    assert refused.exit_code == 2
    assert "--base" in refused.stderr
    told = typed(nets / "ours", tmp_path, "--base", nets / "ours")
    assert told.exit_code == 0, told.stderr
    assert "low-rank update: the change has rank 4 to 4" in told.stdout
    assert "is the word of whoever named the base" in " ".join(told.stderr.split())
    other = typed(nets / "other", tmp_path, "--base", nets / "ours", "--quiet")
    assert "INCONCLUSIVE" in other.stdout
    assert "leave out --base" in typed(nets / "ours", nets / "copy", "--base", nets / "ours").stderr


@pytest.fixture(scope="module")
def merge(nets):
    """Half of two copies of ours."""
    save(nets / "second", 3, base=nets / "ours")
    one, two = (load_file(nets / name / "model.safetensors") for name in ("copy", "second"))
    (nets / "half").mkdir()
    save_file({name: (one[name] + two[name]) / 2 for name in one}, nets / "half" / "model.safetensors")
    (nets / "half" / "config.json").write_text((nets / "ours" / "config.json").read_text())
    return nets / "half"


def test_shares_of_further_parents(nets, merge, tmp_path):
    told = typed(nets / "copy", merge, "--parent", nets / "second", "--parent", nets / "other")
    assert told.exit_code == 0, told.stderr
    assert "these leave 0.0% of B's distance from its nearest candidate unexplained" in " ".join(told.stdout.split())
    assert "Siblings" in told.stderr
    page = tmp_path / "page.html"
    words = ("--parent", nets / "second", "--ancestor", nets / "ours")
    mixed = json.loads(typed(nets / "copy", merge, *words, "--json", "--report", page).stdout)["mixture"]
    assert [each["value"] for each in mixed["coefficients"]] == pytest.approx([0.5, 0.5], abs=1e-5)
    assert all(0 < each["null"] < 0.05 for each in mixed["coefficients"])
    assert mixed["unexplained"] == pytest.approx(0, abs=1e-6)
    assert mixed["ancestor"] == str(nets / "ours")
    assert len(mixed["overlaps"]) == 3
    assert "What B is mixed from" in page.read_text()
    text = typed(nets / "copy", merge, *words, "--quiet").stdout
    assert "equal signs" in text
    assert "change since" in text


def test_an_ancestor_alone_takes_the_first_net_as_the_candidate(nets, merge):
    mixed = json.loads(typed(nets / "copy", merge, "--ancestor", nets / "ours", "--json").stdout)["mixture"]
    assert [each["value"] for each in mixed["coefficients"]] == pytest.approx([0.5], abs=0.1)
    told = typed(nets / "ours", merge, "--ancestor", nets / "ours")
    assert told.exit_code == 2
    assert "name further candidates" in told.stderr


def test_a_parent_of_other_shapes_is_one_line(nets, merge, tmp_path):
    save_file({"w": torch.zeros(4, 4)}, tmp_path / "w.safetensors")
    told = typed(nets / "copy", merge, "--parent", tmp_path / "w.safetensors")
    assert told.exit_code == 2
    assert "cannot be parts of one mixture" in " ".join(told.stderr.split())
    assert "Traceback" not in told.stderr


@pytest.mark.parametrize(
    ("content", "says", "code"),
    [(None, "no such", 2), (b"", "", 7), (b"\xff" * 100, "safetensors", 7), ((1 << 40).to_bytes(8, "little"), "", 7)],
)
def test_what_cannot_be_read_is_one_line(nets, tmp_path, content, says, code):
    path = tmp_path / "bad.safetensors"
    if content is not None:
        path.write_bytes(content)
    told = typed(nets / "ours", path)
    assert told.exit_code == code
    assert says in told.stderr
    assert "Traceback" not in told.stderr
