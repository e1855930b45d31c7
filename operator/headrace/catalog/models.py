"""What sizing needs to know of a model, read from the config.json that every Hugging Face model carries."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

DTYPE_BYTES: Mapping[str, float] = {
    "float32": 4.0,
    "bfloat16": 2.0,
    "float16": 2.0,
    "bf16": 2.0,
    "fp16": 2.0,
    "fp8": 1.0,
    "fp8_e4m3": 1.0,
    "fp8_e5m2": 1.0,
    "int8": 1.0,
    "fp4": 0.5,
    "int4": 0.5,
}


class IncompleteModelConfig(ValueError):  # noqa: N818 - reads as what happened
    """config.json lacks a field that sizing needs; the message names the field."""


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """Shape of a decoder. Parameters are counted from it, so they are within a few per cent of the model card."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocab: int
    dtype: str = "bfloat16"  # of the weights
    tied_embeddings: bool = False
    experts: int = 0  # routed experts in a MoE layer; 0: dense
    experts_per_token: int = 0
    expert_intermediate: int = 0
    shared_intermediate: int = 0  # width of the experts every token visits
    dense_layers: int = 0  # leading layers of a MoE model that have a plain MLP
    sliding_window: int | None = None
    window_layers: int = 0  # layers that keep only the window
    kv_lora_rank: int = 0  # MLA: width of the compressed KV; 0: plain attention
    qk_rope_head_dim: int = 0
    qk_nope_head_dim: int = 0
    v_head_dim: int = 0
    q_lora_rank: int = 0

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "ModelFacts":
        """Facts from a parsed config.json; a multimodal model's `text_config` counts. Raises IncompleteModelConfig."""
        text = config.get("text_config") or config.get("llm_config")
        source: Mapping[str, Any] = {**config, **text} if isinstance(text, Mapping) else config
        layers, hidden = _whole(source, "num_hidden_layers"), _whole(source, "hidden_size")
        heads = _whole(source, "num_attention_heads")
        window, window_layers = _window(source, layers)
        experts = _first(source, ("num_experts", "n_routed_experts", "num_local_experts"))
        intermediate = _whole(source, "intermediate_size")
        expert_width = _first(source, ("moe_intermediate_size",)) or intermediate
        shared = _first(source, ("shared_expert_intermediate_size",))
        return cls(
            layers=layers,
            hidden=hidden,
            heads=heads,
            kv_heads=_first(source, ("num_key_value_heads",)) or heads,
            head_dim=_first(source, ("head_dim",)) or hidden // heads,
            intermediate=intermediate,
            vocab=_whole(source, "vocab_size"),
            dtype=_dtype(source),
            tied_embeddings=bool(source.get("tie_word_embeddings", False)),
            experts=experts,
            experts_per_token=_first(source, ("num_experts_per_tok", "moe_topk")) if experts else 0,
            expert_intermediate=expert_width if experts else 0,
            shared_intermediate=(shared or _first(source, ("n_shared_experts",)) * expert_width) if experts else 0,
            dense_layers=_first(source, ("first_k_dense_replace",)) if experts else 0,
            sliding_window=window,
            window_layers=window_layers,
            kv_lora_rank=_first(source, ("kv_lora_rank",)),
            qk_rope_head_dim=_first(source, ("qk_rope_head_dim",)),
            qk_nope_head_dim=_first(source, ("qk_nope_head_dim",)),
            v_head_dim=_first(source, ("v_head_dim",)),
            q_lora_rank=_first(source, ("q_lora_rank",)),
        )

    @property
    def weight_byte(self) -> float:
        """Bytes of one weight."""
        return DTYPE_BYTES[self.dtype]

    @property
    def attention_params_per_layer(self) -> int:
        """Weights of one layer's attention. Llama-3.1-8B: 4096 x 128 x (2 x 32 + 2 x 8) = 41.9 million."""
        if self.kv_lora_rank:
            qk = self.qk_nope_head_dim + self.qk_rope_head_dim
            query = (
                self.q_lora_rank * (self.hidden + self.heads * qk)
                if self.q_lora_rank
                else self.hidden * self.heads * qk
            )
            compress = self.hidden * (self.kv_lora_rank + self.qk_rope_head_dim)
            expand = self.kv_lora_rank * self.heads * (self.qk_nope_head_dim + self.v_head_dim)
            return query + compress + expand + self.heads * self.v_head_dim * self.hidden
        return self.hidden * self.head_dim * (2 * self.heads + 2 * self.kv_heads)

    @property
    def params_experts(self) -> int:
        """Weights of all routed experts. Qwen3-30B-A3B: 48 x 128 x 3 x 2048 x 768 = 29.0 billion."""
        if not self.experts:
            return 0
        return (self.layers - self.dense_layers) * self.experts * 3 * self.hidden * self.expert_intermediate

    @property
    def params_dense(self) -> int:
        """Weights that every token touches, the output matrix included (the input embedding is a look-up, left out)."""
        moe_layers = self.layers - self.dense_layers if self.experts else 0
        mlp = (self.layers - moe_layers) * 3 * self.hidden * self.intermediate
        moe = moe_layers * self.hidden * (3 * self.shared_intermediate + self.experts)
        return self.layers * self.attention_params_per_layer + mlp + moe + self.vocab * self.hidden

    @property
    def params_active(self) -> int:
        """Weights that one token touches. Llama-3.1-8B: 7.5 billion; Qwen3-30B-A3B: 3.0 billion."""
        share = self.experts_per_token / self.experts if self.experts else 0.0
        return self.params_dense + round(self.params_experts * share)

    @property
    def prefill_experts_share(self) -> float:
        """Share of a prompt token's arithmetic that runs in routed experts; 0 for a dense model.

        The output matrix sees only the last token of a prompt. Qwen3-30B-A3B: 1.81 of 2.73 billion weights: 0.66.
        """
        experts = self.params_active - self.params_dense
        return experts / (self.params_active - self.vocab * self.hidden)

    @property
    def params_total(self) -> int:
        """All weights. Llama-3.1-8B: 8.03 billion."""
        embedding = 0 if self.tied_embeddings else self.vocab * self.hidden
        return self.params_dense + self.params_experts + embedding

    @property
    def weight_bytes(self) -> float:
        """Memory the weights take on all devices together."""
        return self.params_total * self.weight_byte

    @property
    def attention_width(self) -> int:
        """Query width of a layer, for the attention FLOP count: heads x head_dim (MLA: heads x the qk width)."""
        if self.kv_lora_rank:
            return self.heads * (self.qk_nope_head_dim + self.qk_rope_head_dim)
        return self.heads * self.head_dim

    @property
    def full_attention_layers(self) -> int:
        """Layers whose KV grows with the whole context."""
        return self.layers - self.window_layers

    def kv_bytes_per_token(self, dtype: str | None = None) -> float:
        """KV bytes a token of long context adds, on all devices together; `dtype` None: the weights' dtype.

        Llama-3.1-8B bf16: 2 x 32 layers x 8 heads x 128 x 2 bytes = 131,072. MLA keeps one compressed vector a layer.
        Layers with a sliding window add nothing beyond the window and are left out.
        """
        byte = DTYPE_BYTES[dtype or ("bfloat16" if self.weight_byte < DTYPE_BYTES["bfloat16"] else self.dtype)]
        values = self.kv_lora_rank + self.qk_rope_head_dim if self.kv_lora_rank else 2 * self.kv_heads * self.head_dim
        return (self.full_attention_layers or self.layers) * values * byte


def _whole(source: Mapping[str, Any], name: str) -> int:
    value = source.get(name)
    if not isinstance(value, int) or value <= 0:
        raise IncompleteModelConfig(f"config.json: {name} is {value!r}, but sizing needs a whole number above 0")
    return value


def _first(source: Mapping[str, Any], names: tuple[str, ...]) -> int:
    for name in names:
        value = source.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    return 0


def _dtype(source: Mapping[str, Any]) -> str:
    quantization = source.get("quantization_config")
    if isinstance(quantization, Mapping):
        method = str(quantization.get("quant_method", ""))
        if method in {"fp8", "compressed-tensors", "modelopt"}:
            return "fp8"
        if method in {"awq", "gptq"}:
            return "int4" if quantization.get("bits", 4) == 4 else "int8"
    named = str(source.get("torch_dtype") or source.get("dtype") or "bfloat16")
    return named if named in DTYPE_BYTES else "bfloat16"


def _window(source: Mapping[str, Any], layers: int) -> tuple[int | None, int]:
    """Window length and how many layers have it: from layer_types, else a pattern, else all layers."""
    window = _first(source, ("sliding_window",))
    if not window or source.get("use_sliding_window") is False:
        return None, 0
    kinds = source.get("layer_types")
    if isinstance(kinds, list):
        return window, sum(kind in {"sliding_attention", "chunked_attention"} for kind in kinds)
    pattern = _first(source, ("sliding_window_pattern",))  # Gemma: each pattern-th layer attends to everything
    return window, layers - layers // pattern if pattern else layers
