"""Roles of real checkpoints, held against what the library's own modules compute."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from families import FAMILIES, make, transformers
from safetensors.torch import save_file

from whorl.checkpoints.readers.safetensors import SafetensorsCheckpoint
from whorl.checkpoints.roles import SHARED, Key, Weights
from whorl.errors import InvalidFile

GROUPED = {"llama", "qwen2", "qwen3", "mistral", "gemma2", "phi3", "mixtral", "qwen2-moe"}
GATED = GROUPED
MLP = {  # a module that reads the residual stream after its norm, and the one that reads the hidden layer
    "llama": ("model.layers.1.mlp", "down_proj"),
    "phi": ("model.layers.1.mlp", "fc2"),
    "phi3": ("model.layers.1.mlp", "down_proj"),
    "gemma2": ("model.layers.1.mlp", "down_proj"),
    "gpt2": ("transformer.h.1.mlp", "c_proj"),
    "gpt-neox": ("gpt_neox.layers.1.mlp", "dense_4h_to_h"),
    "opt": ("model.decoder.layers.1", "fc2"),
}
ACTIVATIONS = {"gemma2": "gelu_tanh", "gpt2": "gelu_tanh", "phi": "gelu_tanh", "gpt-neox": "gelu", "opt": "relu"}


@pytest.fixture(scope="module")
def weights(saved):
    return lambda family: Weights(SafetensorsCheckpoint(saved(family)))


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_has_the_plan_of_its_configuration(weights, family):
    net = weights(family)
    plan = net.structure
    assert plan.known
    assert (plan.layers, plan.width) == (2, 32)
    assert (plan.heads, plan.kv_heads, plan.head_dim) == (4, 2 if family in GROUPED else 4, 8)
    assert plan.gated == (family in GATED)
    assert plan.norm == ("rms" if family in GROUPED else "layer")
    assert net.vocabulary == (0 if family == "vit" else 256)
    for layer in range(2):
        for role, rows in {"query": 32, "key": 8 * plan.kv_heads, "value": 8 * plan.kv_heads, "output": 32}.items():
            assert net.read(role, layer).shape == (rows, 32), role
    for layer, expert in plan.mlps():
        assert net.read("up", layer, expert).shape[1] == net.read("down", layer, expert).shape[0] == 32


def test_experts_are_told_apart(weights):
    assert weights("mixtral").structure.mlps() == [(layer, expert) for layer in (0, 1) for expert in (0, 1, 2)]
    mlps = weights("qwen2-moe").structure.mlps()
    assert mlps == [(layer, expert) for layer in (0, 1) for expert in (SHARED, 0, 1, 2)]
    assert weights("qwen2-moe").read("up", 0, SHARED).shape == (40, 32)
    assert weights("qwen2-moe").read("up", 0, 2).shape == (24, 32)
    assert weights("mixtral").read("router", 1).shape == (3, 32)


@pytest.mark.parametrize("family", MLP)
def test_the_hidden_layer_is_what_the_net_computes(weights, family):
    """Norm, gate, up, bias and turn are right together, or the numbers differ."""
    net, (path, last) = make(family), MLP[family]
    place = net.get_submodule(path)
    seen: dict[str, torch.Tensor] = {}
    place.get_submodule(last).register_forward_pre_hook(lambda _, inputs: seen.update(hidden=inputs[0]))
    norm = {"opt": "final_layer_norm", "gpt2": "ln_2", "phi": "input_layernorm", "gemma2": "pre_feedforward_layernorm"}
    block = net.get_submodule(path if family == "opt" else path.removesuffix(".mlp"))
    before = block.get_submodule(norm.get(family, "post_attention_layernorm"))
    before.register_forward_pre_hook(lambda _, inputs: seen.update(stream=inputs[0]))
    with torch.no_grad():
        net(torch.arange(20, 32)[None])
    ours, stream = weights(family), seen["stream"]
    if ours.structure.norm == "layer":
        stream = stream - stream.mean(-1, keepdim=True)
    tiny = getattr(before, "variance_epsilon", None) or before.eps
    normed = stream / (stream.square().mean(-1, keepdim=True) + tiny).sqrt()
    shift = getattr(before, "bias", None)
    up = normed @ ours.folded("up", 1).T
    if shift is not None:
        up = up + ours.read("up", 1) @ shift + ours.read("up_bias", 1)
    name = ACTIVATIONS.get(family, "silu")
    activation = {
        "gelu": torch.nn.functional.gelu,
        "gelu_tanh": lambda x: torch.nn.functional.gelu(x, approximate="tanh"),
        "relu": torch.relu,
        "silu": torch.nn.functional.silu,
    }[name]
    hidden = activation(normed @ ours.folded("gate", 1).T) * up if ours.structure.gated else activation(up)
    assert torch.allclose(hidden, seen["hidden"].reshape(hidden.shape), atol=2e-4)


def test_fused_attention_is_split_as_each_family_does(weights):
    state = make("gpt-neox").state_dict()["gpt_neox.layers.0.attention.query_key_value.weight"]
    by_head = state.view(4, 3, 8, 32)
    net = weights("gpt-neox")
    for part, role in enumerate(("query", "key", "value")):
        assert torch.equal(net.read(role, 0), by_head[:, part].reshape(32, 32))
        assert net.read(f"{role}_bias", 0).shape == (32,)
    state = make("gpt2").state_dict()["transformer.h.0.attn.c_attn.weight"]
    assert torch.equal(weights("gpt2").read("key", 0), state.T[32:64])
    state = make("phi3").state_dict()["model.layers.0.self_attn.qkv_proj.weight"]
    assert torch.equal(weights("phi3").read("value", 0), state[48:])


@pytest.mark.parametrize("shared", [False, True])
def test_keys_and_values_of_gpt_bigcode_are_what_the_net_computes(shared, tmp_path):
    """Each head's own stand side by side; where all heads share one group, queries come first."""
    sizes = {"vocab_size": 64, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 16, "multi_query": shared}
    config = transformers.GPTBigCodeConfig(**sizes, bos_token_id=0, eos_token_id=1)
    torch.manual_seed(0)
    net = transformers.AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        (tmp_path / "config.json").write_text(json.dumps(config.to_dict(), default=str))
        save_file({n: v for n, v in net.state_dict().items() if n != "lm_head.weight"}, tmp_path / "model.safetensors")
        ids = torch.arange(9)[None]
        cache = net(ids, use_cache=True).past_key_values.layers[0]
        stream = net.transformer.wte(ids) + net.transformer.wpe(torch.arange(9))
        read = net.transformer.h[0].ln_1(stream)[0]
    ours = Weights(SafetensorsCheckpoint(tmp_path))
    assert (ours.structure.architecture, ours.structure.kv_heads) == ("gpt-bigcode", 1 if shared else 4)
    for role, held in (("key", cache.keys), ("value", cache.values)):
        made = read @ ours.read(role, 0).T + ours.read(f"{role}_bias", 0)
        assert torch.allclose(made, held[0].transpose(0, 1).flatten(1), atol=1e-5)


def test_some_rows_are_those_of_the_whole(weights):
    for family, role in (("llama", "up"), ("gpt2", "up"), ("phi3", "up"), ("gpt-neox", "query")):
        net = weights(family)
        assert torch.equal(net.read(role, 0, rows=[1, 2, 7]), net.read(role, 0)[[1, 2, 7]])
        assert torch.equal(net.read(role, 0, rows=slice(3, 6)), net.read(role, 0)[3:6])


def test_names_alone_tell_the_family(saved, tmp_path):
    """Without a configuration the names decide, heads stay unknown, and what needs them is left out."""
    shutil.copy(saved("gpt-neox") / "model.safetensors", tmp_path)
    plan = Weights(SafetensorsCheckpoint(tmp_path / "model.safetensors")).structure
    assert (plan.architecture, plan.heads) == ("gpt-neox", 0)
    assert Key("query", 0) not in plan.parts
    assert Key("up", 0) in plan.parts


def test_a_configuration_that_lies_about_heads_is_not_believed(saved, tmp_path):
    shutil.copytree(saved("llama"), tmp_path / "lie")
    config = json.loads((tmp_path / "lie" / "config.json").read_text())
    (tmp_path / "lie" / "config.json").write_text(json.dumps(config | {"num_attention_heads": 7}))
    assert Weights(SafetensorsCheckpoint(tmp_path / "lie")).structure.heads == 0


def test_what_has_other_names_is_unknown(tmp_path):
    save_file({"a.weight": torch.ones(3, 2), "b.weight": torch.ones(2)}, tmp_path / "x.safetensors")
    assert not Weights(SafetensorsCheckpoint(tmp_path / "x.safetensors")).structure.known


def test_a_million_layers_are_refused(tmp_path):
    save_file({"model.layers.99999.mlp.up_proj.weight": torch.ones(1, 1)}, tmp_path / "x.safetensors")
    with pytest.raises(InvalidFile, match="100,000 layers"):
        Weights(SafetensorsCheckpoint(tmp_path / "x.safetensors"))


def written(folder, tensors, **config):
    """A folder with these tensors; with a configuration where one is given."""
    folder.mkdir(exist_ok=True)
    save_file({name: value.contiguous().clone() for name, value in tensors.items()}, folder / "model.safetensors")
    if config:
        (folder / "config.json").write_text(json.dumps(config))
    return Weights(SafetensorsCheckpoint(folder))


def equal_parts(one, two, *roles):
    return all(torch.equal(one.read(*key), two.read(*key)) for key in one.structure.parts if key.role in roles)


GPT2_MATRICES = ("c_attn.weight", "c_proj.weight", "c_fc.weight")


@pytest.mark.parametrize("config", [{}, {"model_type": "gpt2", "n_head": 4}, {"model_type": "other", "n_head": 4}])
def test_orientation_follows_shapes_and_no_family(weights, tmp_path, config):
    """Square matrices lie as the others do: by their shape alone they could lie either way."""
    state = {name: value for name, value in make("gpt2").state_dict().items() if name != "lm_head.weight"}
    turned = {name: value.T if name.endswith(GPT2_MATRICES) else value for name, value in state.items()}
    conv, linear = written(tmp_path / "conv", state, **config), written(tmp_path / "linear", turned, **config)
    roles = ("output", "up", "down", *(("query", "key", "value") if config else ()))
    assert {key.role for key in linear.structure.parts} >= set(roles)
    for net in (conv, linear):
        assert net.structure.parts.keys() == conv.structure.parts.keys()
        assert equal_parts(net, weights("gpt2"), *roles)
        assert torch.allclose(net.folded("up", 1), weights("gpt2").folded("up", 1))


def test_shapes_tell_how_many_keys_a_fused_matrix_holds(tmp_path):
    state = make("gpt2").state_dict()
    for layer in range(2):
        fused = state.pop(f"transformer.h.{layer}.attn.c_attn.weight").T
        state[f"transformer.h.{layer}.attn.c_attn.weight"] = fused[:48]  # 32 rows of queries, a key and a value of 8
        state[f"transformer.h.{layer}.attn.c_attn.bias"] = state[f"transformer.h.{layer}.attn.c_attn.bias"][:48]
    net = written(tmp_path / "x", {k: v.T if k.endswith(GPT2_MATRICES[1:]) else v for k, v in state.items()}, n_head=4)
    assert (net.structure.heads, net.structure.kv_heads, net.structure.head_dim) == (4, 1, 8)
    assert torch.equal(net.read("value", 0), state["transformer.h.0.attn.c_attn.weight"][40:])


@pytest.mark.parametrize("config", [{}, {"model_type": "some_new_family"}])
def test_a_family_is_never_guessed_to_add_to_its_gains(saved, tmp_path, config):
    state = make("llama").state_dict()
    net = written(tmp_path / "x", state, **config)
    assert net.structure.architecture == "llama"
    gain = state["model.layers.0.post_attention_layernorm.weight"]
    assert torch.allclose(net.folded("up", 0), state["model.layers.0.mlp.up_proj.weight"] * gain)
    named = written(tmp_path / "y", state, model_type="gemma")
    assert torch.allclose(named.folded("up", 0), state["model.layers.0.mlp.up_proj.weight"] * (1 + gain))


@pytest.mark.parametrize("prefix", ["adam.m.", "model.encoder_", "zz.module."])
def test_towers_are_never_mixed(weights, tmp_path, prefix):
    """What sorts first or last, has all the names and no embedding, is another tower."""
    state = {name: value for name, value in make("opt").state_dict().items() if name != "lm_head.weight"}  # tied
    other = {f"{prefix}{name}": value + 1 for name, value in state.items() if "embed_tokens" not in name}
    other[f"{prefix}lm_head.weight"] = torch.ones(256, 32)
    net = written(tmp_path / "x", state | other)
    assert net.structure.parts.keys() == weights("opt").structure.parts.keys()
    assert equal_parts(net, weights("opt"), *(key.role for key in net.structure.parts))


def test_numbers_and_wrappers_before_names_make_no_difference(weights, tmp_path):
    net = written(tmp_path / "x", {f"0.auto_model.{name}": value for name, value in make("bert").state_dict().items()})
    assert net.structure.norm == "layer"
    assert equal_parts(net, weights("bert"), "embedding", "up", "down", "query", "output")


META = {
    "model.embed_tokens": "tok_embeddings",
    "model.norm": "norm",
    "lm_head": "output",
    "model.layers": "layers",
    "self_attn": "attention",
    "mlp.gate_proj": "feed_forward.w1",
    "mlp.up_proj": "feed_forward.w3",
    "mlp.down_proj": "feed_forward.w2",
    "input_layernorm": "attention_norm",
    "post_attention_layernorm": "ffn_norm",
} | {f"{each}_proj": f"w{each}" for each in "qkvo"}


def test_what_meta_calls_llama_is_llama(weights, tmp_path):
    """Its rotations turn neighbouring rows: row 2i of a head is row i, and row 2i + 1 is row i + 4, of 8."""
    state = {}
    for name, value in make("llama").state_dict().items():
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            value = value.view(-1, 2, 4, 32).transpose(1, 2).reshape(value.shape)
        for ours, theirs in META.items():
            name = name.replace(ours, theirs)
        state[name] = value
    assert "layers.1.feed_forward.w3.weight" in state
    net = written(tmp_path / "x", state, n_heads=4, n_kv_heads=2)
    assert net.structure.parts.keys() == weights("llama").structure.parts.keys()
    assert equal_parts(net, weights("llama"), *(key.role for key in net.structure.parts))
    assert torch.equal(net.read("query", 1, rows=[1, 3, 9]), weights("llama").read("query", 1)[[1, 3, 9]])
    assert Key("query", 0) not in written(tmp_path / "y", state).structure.parts  # without heads no order is known


def test_an_embedding_of_another_width_is_projected_and_spans_no_axes(tmp_path):
    state = make("opt").state_dict()
    state = {name: value[:, :16] if "embed_tokens" in name else value for name, value in state.items()}
    net = written(tmp_path / "x", state)
    assert (net.structure.width, net.vocabulary) == (32, 0)
