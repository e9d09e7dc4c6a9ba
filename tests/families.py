"""Small nets of many families, written by the library that everybody writes them with."""

from __future__ import annotations

import logging

import torch

from whorl.zoo.causal import import_transformers

transformers = import_transformers()
logging.getLogger("transformers").setLevel(logging.ERROR)
SIZES = {"vocab_size": 256, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
SIZES |= {"intermediate_size": 64, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
GROUPED = {**SIZES, "num_key_value_heads": 2}
FAMILIES = {
    "llama": ("LlamaConfig", GROUPED),
    "qwen2": ("Qwen2Config", GROUPED),
    "qwen3": ("Qwen3Config", {**GROUPED, "head_dim": 8}),
    "mistral": ("MistralConfig", GROUPED),
    "gemma2": ("Gemma2Config", {**GROUPED, "head_dim": 8}),
    "phi": ("PhiConfig", SIZES),
    "phi3": ("Phi3Config", GROUPED),
    "mixtral": ("MixtralConfig", {**GROUPED, "num_local_experts": 3}),
    "qwen2-moe": (
        "Qwen2MoeConfig",
        {**GROUPED, "num_experts": 3, "moe_intermediate_size": 24, "shared_expert_intermediate_size": 40},
    ),
    "gpt2": ("GPT2Config", {"vocab_size": 256, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 16}),
    "gpt-neox": ("GPTNeoXConfig", SIZES),
    "opt": ("OPTConfig", {**SIZES, "ffn_dim": 64, "word_embed_proj_dim": 32, "max_position_embeddings": 16}),
    "bert": ("BertConfig", SIZES),
    "vit": (
        "ViTConfig",
        {name: value for name, value in SIZES.items() if not name.endswith("_id") and name != "vocab_size"}
        | {"image_size": 16, "patch_size": 8},
    ),
}


def make(family: str, seed: int = 0) -> torch.nn.Module:
    """A net with fresh weights, whose norms and biases are not at their start."""
    name, settings = FAMILIES[family]
    config = getattr(transformers, name)(**settings)
    kind = {"bert": transformers.BertModel, "vit": transformers.ViTModel}.get(family)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = kind(config) if kind else transformers.AutoModelForCausalLM.from_config(config)
        with torch.no_grad():
            for parameter in net.parameters():
                if parameter.ndim == 1:
                    parameter.add_(0.1 * torch.randn_like(parameter))
    return net.eval()
