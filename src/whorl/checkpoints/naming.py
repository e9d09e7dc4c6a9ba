"""Which tensor is which: the names that families of transformers give to their parts.

A template holds ``{layer}`` and ``{expert}`` where numbers stand, and may be preceded by anything (``model.``,
``language_model.``). Roles are those of `whorl.checkpoints.roles`. A fused tensor has the roles that it joins, as in
``query+key+value``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from whorl.catalog import Catalog

__all__ = ["NAMINGS", "Naming", "namings"]


@dataclass(frozen=True)
class Naming:
    """The names of one family.

    Which way round a matrix lies is told by its shape, and by ``transposed`` (those of layers are [in, out]) only where
    none of the net tells; ``by_head`` says that a fused query+key+value lists query, key and value of the first head,
    then of the second, instead of all queries first; ``paired``, that rotations turn neighbouring rows of query and
    key, instead of the two halves of a head; ``parallel``, that the hidden layer reads what attention reads,
    after the same norm. ``norm_offset`` is what the gain of a norm is added to (Gemma stores it less one); names do not
    tell it, so a family that has one is never taken unless it is named. ``models`` are the words of ``model_type`` that
    mean this family; a GGUF file has ``gguf`` and its architecture for one.
    """

    name: str
    parts: Mapping[str, str]
    transposed: bool = False
    by_head: bool = False
    paired: bool = False
    parallel: bool = False
    norm_offset: float = 0.0
    models: frozenset[str] = field(default_factory=frozenset)


_LLAMA: Final = {
    "embedding": "embed_tokens.weight",
    "unembedding": "lm_head.weight",
    "final_norm": "norm.weight",
    "attention_norm": "layers.{layer}.input_layernorm.weight",
    "mlp_norm": "layers.{layer}.post_attention_layernorm.weight",
    "query": "layers.{layer}.self_attn.q_proj.weight",
    "key": "layers.{layer}.self_attn.k_proj.weight",
    "value": "layers.{layer}.self_attn.v_proj.weight",
    "output": "layers.{layer}.self_attn.o_proj.weight",
    "query_bias": "layers.{layer}.self_attn.q_proj.bias",
    "key_bias": "layers.{layer}.self_attn.k_proj.bias",
    "value_bias": "layers.{layer}.self_attn.v_proj.bias",
    "query_norm": "layers.{layer}.self_attn.q_norm.weight",
    "key_norm": "layers.{layer}.self_attn.k_norm.weight",
    "gate": "layers.{layer}.mlp.gate_proj.weight",
    "up": "layers.{layer}.mlp.up_proj.weight",
    "down": "layers.{layer}.mlp.down_proj.weight",
}
_EXPERTS: Final = {
    "router": "layers.{layer}.mlp.gate.weight",
    "gate.expert": "layers.{layer}.mlp.experts.{expert}.gate_proj.weight",
    "up.expert": "layers.{layer}.mlp.experts.{expert}.up_proj.weight",
    "down.expert": "layers.{layer}.mlp.experts.{expert}.down_proj.weight",
    "gate.shared": "layers.{layer}.mlp.shared_expert.gate_proj.weight",
    "up.shared": "layers.{layer}.mlp.shared_expert.up_proj.weight",
    "down.shared": "layers.{layer}.mlp.shared_expert.down_proj.weight",
}
_MIXTRAL: Final = {
    "router": "layers.{layer}.block_sparse_moe.gate.weight",
    "gate.expert": "layers.{layer}.block_sparse_moe.experts.{expert}.w1.weight",
    "up.expert": "layers.{layer}.block_sparse_moe.experts.{expert}.w3.weight",
    "down.expert": "layers.{layer}.block_sparse_moe.experts.{expert}.w2.weight",
}
_META: Final = {  # as Meta itself publishes Llama
    "embedding": "tok_embeddings.weight",
    "unembedding": "output.weight",
    "final_norm": "norm.weight",
    "attention_norm": "layers.{layer}.attention_norm.weight",
    "mlp_norm": "layers.{layer}.ffn_norm.weight",
    "query": "layers.{layer}.attention.wq.weight",
    "key": "layers.{layer}.attention.wk.weight",
    "value": "layers.{layer}.attention.wv.weight",
    "output": "layers.{layer}.attention.wo.weight",
    "gate": "layers.{layer}.feed_forward.w1.weight",
    "up": "layers.{layer}.feed_forward.w3.weight",
    "down": "layers.{layer}.feed_forward.w2.weight",
}
_PHI3: Final = {
    "query+key+value": "layers.{layer}.self_attn.qkv_proj.weight",
    "gate+up": "layers.{layer}.mlp.gate_up_proj.weight",
}
_PHI: Final = _LLAMA | {
    "final_norm": "final_layernorm.weight",
    "output": "layers.{layer}.self_attn.dense.weight",
    "up": "layers.{layer}.mlp.fc1.weight",
    "up_bias": "layers.{layer}.mlp.fc1.bias",
    "down": "layers.{layer}.mlp.fc2.weight",
}
_GEMMA2: Final = {"mlp_norm": "layers.{layer}.pre_feedforward_layernorm.weight"}
_OPT: Final = {
    "embedding": "embed_tokens.weight",
    "position": "embed_positions.weight",
    "unembedding": "lm_head.weight",
    "final_norm": "decoder.final_layer_norm.weight",
    "attention_norm": "layers.{layer}.self_attn_layer_norm.weight",
    "mlp_norm": "layers.{layer}.final_layer_norm.weight",
    "query": "layers.{layer}.self_attn.q_proj.weight",
    "key": "layers.{layer}.self_attn.k_proj.weight",
    "value": "layers.{layer}.self_attn.v_proj.weight",
    "output": "layers.{layer}.self_attn.out_proj.weight",
    "query_bias": "layers.{layer}.self_attn.q_proj.bias",
    "key_bias": "layers.{layer}.self_attn.k_proj.bias",
    "value_bias": "layers.{layer}.self_attn.v_proj.bias",
    "up": "layers.{layer}.fc1.weight",
    "up_bias": "layers.{layer}.fc1.bias",
    "down": "layers.{layer}.fc2.weight",
}
# Norms of BART, BERT and DistilBERT come after the sum, so that none is read through.
_BART: Final = {role: name for role, name in _OPT.items() if not role.endswith("norm")} | {"embedding": "shared.weight"}
_GPT2: Final = {
    "embedding": "wte.weight",
    "position": "wpe.weight",
    "unembedding": "lm_head.weight",
    "final_norm": "ln_f.weight",
    "attention_norm": "h.{layer}.ln_1.weight",
    "mlp_norm": "h.{layer}.ln_2.weight",
    "query+key+value": "h.{layer}.attn.c_attn.weight",
    "query_bias+key_bias+value_bias": "h.{layer}.attn.c_attn.bias",
    "output": "h.{layer}.attn.c_proj.weight",
    "up": "h.{layer}.mlp.c_fc.weight",
    "up_bias": "h.{layer}.mlp.c_fc.bias",
    "down": "h.{layer}.mlp.c_proj.weight",
}
_GPT_NEO: Final = {role: name for role, name in _GPT2.items() if "+" not in role} | {
    "query": "h.{layer}.attn.attention.q_proj.weight",
    "key": "h.{layer}.attn.attention.k_proj.weight",
    "value": "h.{layer}.attn.attention.v_proj.weight",
    "output": "h.{layer}.attn.attention.out_proj.weight",
}
_NEOX: Final = {
    "embedding": "gpt_neox.embed_in.weight",
    "unembedding": "embed_out.weight",
    "final_norm": "final_layer_norm.weight",
    "attention_norm": "layers.{layer}.input_layernorm.weight",
    "mlp_norm": "layers.{layer}.post_attention_layernorm.weight",
    "query+key+value": "layers.{layer}.attention.query_key_value.weight",
    "query_bias+key_bias+value_bias": "layers.{layer}.attention.query_key_value.bias",
    "output": "layers.{layer}.attention.dense.weight",
    "up": "layers.{layer}.mlp.dense_h_to_4h.weight",
    "up_bias": "layers.{layer}.mlp.dense_h_to_4h.bias",
    "down": "layers.{layer}.mlp.dense_4h_to_h.weight",
}
_BERT: Final = {
    "embedding": "embeddings.word_embeddings.weight",
    "position": "embeddings.position_embeddings.weight",
    "query": "layer.{layer}.attention.self.query.weight",
    "key": "layer.{layer}.attention.self.key.weight",
    "value": "layer.{layer}.attention.self.value.weight",
    "query_bias": "layer.{layer}.attention.self.query.bias",
    "key_bias": "layer.{layer}.attention.self.key.bias",
    "value_bias": "layer.{layer}.attention.self.value.bias",
    "output": "layer.{layer}.attention.output.dense.weight",
    "up": "layer.{layer}.intermediate.dense.weight",
    "up_bias": "layer.{layer}.intermediate.dense.bias",
    "down": "layer.{layer}.output.dense.weight",
}
_DISTILBERT: Final = {
    "embedding": "embeddings.word_embeddings.weight",
    "position": "embeddings.position_embeddings.weight",
    "query": "layer.{layer}.attention.q_lin.weight",
    "key": "layer.{layer}.attention.k_lin.weight",
    "value": "layer.{layer}.attention.v_lin.weight",
    "query_bias": "layer.{layer}.attention.q_lin.bias",
    "key_bias": "layer.{layer}.attention.k_lin.bias",
    "value_bias": "layer.{layer}.attention.v_lin.bias",
    "output": "layer.{layer}.attention.out_lin.weight",
    "up": "layer.{layer}.ffn.lin1.weight",
    "up_bias": "layer.{layer}.ffn.lin1.bias",
    "down": "layer.{layer}.ffn.lin2.weight",
}
_VIT: Final = {
    "patches": "embeddings.patch_embeddings.projection.weight",
    "final_norm": "layernorm.weight",
    "attention_norm": "layers.{layer}.layernorm_before.weight",
    "mlp_norm": "layers.{layer}.layernorm_after.weight",
    "query": "layers.{layer}.attention.q_proj.weight",
    "key": "layers.{layer}.attention.k_proj.weight",
    "value": "layers.{layer}.attention.v_proj.weight",
    "output": "layers.{layer}.attention.o_proj.weight",
    "up": "layers.{layer}.mlp.fc1.weight",
    "up_bias": "layers.{layer}.mlp.fc1.bias",
    "down": "layers.{layer}.mlp.fc2.weight",
}
_VIT4: Final = {  # as transformers wrote it before version 5
    "patches": "embeddings.patch_embeddings.projection.weight",
    "final_norm": "layernorm.weight",
    "attention_norm": "layer.{layer}.layernorm_before.weight",
    "mlp_norm": "layer.{layer}.layernorm_after.weight",
    "query": "layer.{layer}.attention.attention.query.weight",
    "key": "layer.{layer}.attention.attention.key.weight",
    "value": "layer.{layer}.attention.attention.value.weight",
    "output": "layer.{layer}.attention.output.dense.weight",
    "up": "layer.{layer}.intermediate.dense.weight",
    "up_bias": "layer.{layer}.intermediate.dense.bias",
    "down": "layer.{layer}.output.dense.weight",
}
_TIMM: Final = {
    "patches": "patch_embed.proj.weight",
    "position": "pos_embed",
    "final_norm": "norm.weight",
    "attention_norm": "blocks.{layer}.norm1.weight",
    "mlp_norm": "blocks.{layer}.norm2.weight",
    "query+key+value": "blocks.{layer}.attn.qkv.weight",
    "output": "blocks.{layer}.attn.proj.weight",
    "up": "blocks.{layer}.mlp.fc1.weight",
    "up_bias": "blocks.{layer}.mlp.fc1.bias",
    "down": "blocks.{layer}.mlp.fc2.weight",
}
_GGUF: Final = {
    "embedding": "token_embd.weight",
    "position": "position_embd.weight",
    "unembedding": "output.weight",
    "final_norm": "output_norm.weight",
    "attention_norm": "blk.{layer}.attn_norm.weight",
    "mlp_norm": "blk.{layer}.ffn_norm.weight",
    "query": "blk.{layer}.attn_q.weight",
    "key": "blk.{layer}.attn_k.weight",
    "value": "blk.{layer}.attn_v.weight",
    "query+key+value": "blk.{layer}.attn_qkv.weight",
    "output": "blk.{layer}.attn_output.weight",
    "gate": "blk.{layer}.ffn_gate.weight",
    "up": "blk.{layer}.ffn_up.weight",
    "down": "blk.{layer}.ffn_down.weight",
    "query_bias": "blk.{layer}.attn_q.bias",
    "key_bias": "blk.{layer}.attn_k.bias",
    "value_bias": "blk.{layer}.attn_v.bias",
    "query_bias+key_bias+value_bias": "blk.{layer}.attn_qkv.bias",
    "query_norm": "blk.{layer}.attn_q_norm.weight",
    "key_norm": "blk.{layer}.attn_k_norm.weight",
    "up_bias": "blk.{layer}.ffn_up.bias",
    "router": "blk.{layer}.ffn_gate_inp.weight",
    "gate.expert": "blk.{layer}.ffn_gate.{expert}.weight",
    "up.expert": "blk.{layer}.ffn_up.{expert}.weight",
    "down.expert": "blk.{layer}.ffn_down.{expert}.weight",
    "gate.shared": "blk.{layer}.ffn_gate_shexp.weight",
    "up.shared": "blk.{layer}.ffn_up_shexp.weight",
    "down.shared": "blk.{layer}.ffn_down_shexp.weight",
    "gate.experts": "blk.{layer}.ffn_gate_exps.weight",
    "up.experts": "blk.{layer}.ffn_up_exps.weight",
    "down.experts": "blk.{layer}.ffn_down_exps.weight",
}
_GGUF_FUSED: Final = {role: name for role, name in _GGUF.items() if role not in ("gate", "up")} | {
    "gate+up": _GGUF["up"]
}

GEMMA: Final = Naming("gemma", _LLAMA, norm_offset=1.0, models=frozenset({"gemma"}))
GEMMA2: Final = Naming(
    "gemma2", _LLAMA | _GEMMA2, norm_offset=1.0, models=frozenset({"gemma2", "gemma3", "gemma3_text"})
)
MIXTRAL: Final = Naming("mixtral", _LLAMA | _MIXTRAL, models=frozenset({"mixtral"}))
QWEN_MOE: Final = Naming("qwen-moe", _LLAMA | _EXPERTS, models=frozenset({"qwen2_moe", "qwen3_moe", "olmoe"}))
PHI3: Final = Naming("phi3", _LLAMA | _PHI3, models=frozenset({"phi3"}))
LLAMA: Final = Naming("llama", _LLAMA, models=frozenset({"llama", "mistral", "qwen2", "qwen3", "smollm3", "olmo2"}))
META: Final = Naming("llama (Meta)", _META, paired=True)
PHI: Final = Naming("phi", _PHI, parallel=True, models=frozenset({"phi"}))
OPT: Final = Naming("opt", _OPT, models=frozenset({"opt"}))
BART: Final = Naming("bart", _BART, models=frozenset({"bart"}))
GPT2: Final = Naming("gpt2", _GPT2, transposed=True, models=frozenset({"gpt2"}))
# One group of keys and values for all heads, or else each head's queries, keys and values side by side.
GPT_BIGCODE: Final = Naming("gpt-bigcode", _GPT2, by_head=True, models=frozenset({"gpt_bigcode"}))
GPT_NEO: Final = Naming("gpt-neo", _GPT_NEO, models=frozenset({"gpt_neo"}))
GPT_NEOX: Final = Naming("gpt-neox", _NEOX, by_head=True, models=frozenset({"gpt_neox"}))
BERT: Final = Naming("bert", _BERT, models=frozenset({"bert", "roberta"}))
DISTILBERT: Final = Naming("distilbert", _DISTILBERT, models=frozenset({"distilbert"}))
VIT: Final = Naming("vit", _VIT, models=frozenset({"vit"}))
VIT_TRANSFORMERS_4: Final = Naming("vit (transformers 4)", _VIT4, models=frozenset({"vit"}))
VIT_TIMM: Final = Naming("vit (timm)", _TIMM)
# Gains of Gemma have had their 1 added, and heads of GPT-NeoX were put apart, by the converter.
GGUF: Final = Naming("gguf", _GGUF)
GGUF_PARALLEL: Final = Naming("gguf (parallel)", _GGUF, parallel=True, models=frozenset({"gguf phi2"}))
GGUF_FUSED: Final = Naming("gguf (fused)", _GGUF_FUSED, models=frozenset({"gguf phi3", "gguf glm4", "gguf chatglm"}))

# Told apart by `models` (the word `model_type` of a configuration) or else by how many names fit.
NAMINGS: Catalog[Naming] = Catalog(
    "namings",
    {
        "gemma": "whorl.checkpoints.naming:GEMMA",
        "gemma2": "whorl.checkpoints.naming:GEMMA2",
        "mixtral": "whorl.checkpoints.naming:MIXTRAL",
        "qwen-moe": "whorl.checkpoints.naming:QWEN_MOE",
        "phi3": "whorl.checkpoints.naming:PHI3",
        "llama": "whorl.checkpoints.naming:LLAMA",
        "llama (Meta)": "whorl.checkpoints.naming:META",
        "phi": "whorl.checkpoints.naming:PHI",
        "opt": "whorl.checkpoints.naming:OPT",
        "bart": "whorl.checkpoints.naming:BART",
        "gpt2": "whorl.checkpoints.naming:GPT2",
        "gpt-bigcode": "whorl.checkpoints.naming:GPT_BIGCODE",
        "gpt-neo": "whorl.checkpoints.naming:GPT_NEO",
        "gpt-neox": "whorl.checkpoints.naming:GPT_NEOX",
        "bert": "whorl.checkpoints.naming:BERT",
        "distilbert": "whorl.checkpoints.naming:DISTILBERT",
        "vit": "whorl.checkpoints.naming:VIT",
        "vit (transformers 4)": "whorl.checkpoints.naming:VIT_TRANSFORMERS_4",
        "vit (timm)": "whorl.checkpoints.naming:VIT_TIMM",
        "gguf": "whorl.checkpoints.naming:GGUF",
        "gguf (parallel)": "whorl.checkpoints.naming:GGUF_PARALLEL",
        "gguf (fused)": "whorl.checkpoints.naming:GGUF_FUSED",
    },
)


def namings() -> dict[str, Any]:
    """Every naming by its name."""
    return {name: NAMINGS[name] for name in NAMINGS.in_order()}
