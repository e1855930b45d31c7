import pytest

from headrace.catalog.accelerators import ACCELERATORS, Accelerator, UnknownAccelerator, lookup
from headrace.catalog.measured import (
    LLAMA_8B,
    LLAMA_8B_H100,
    QWEN3_30B_A3B,
    QWEN3_30B_A3B_H100,
    efficiency,
    nearest_measured,
)
from headrace.catalog.models import IncompleteModelConfig, ModelFacts

LLAMA_CONFIG = {
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 128256,
    "torch_dtype": "bfloat16",
}
DEEPSEEK_CONFIG = {
    "hidden_size": 7168,
    "intermediate_size": 18432,
    "num_attention_heads": 128,
    "num_hidden_layers": 61,
    "num_key_value_heads": 128,
    "vocab_size": 129280,
    "n_routed_experts": 256,
    "num_experts_per_tok": 8,
    "n_shared_experts": 1,
    "moe_intermediate_size": 2048,
    "first_k_dense_replace": 3,
    "kv_lora_rank": 512,
    "q_lora_rank": 1536,
    "qk_rope_head_dim": 64,
    "qk_nope_head_dim": 128,
    "v_head_dim": 128,
    "torch_dtype": "bfloat16",
    "quantization_config": {"quant_method": "fp8"},
}


def test_llama_config_gives_the_published_size_and_kv() -> None:
    facts = ModelFacts.from_config(LLAMA_CONFIG)
    assert facts == LLAMA_8B
    assert facts.params_total == pytest.approx(8.03e9, rel=0.01)
    assert facts.kv_bytes_per_token() == 131072


def test_moe_config_counts_active_and_total_parameters() -> None:
    assert QWEN3_30B_A3B.params_total == pytest.approx(30.5e9, rel=0.01)
    assert QWEN3_30B_A3B.params_active == pytest.approx(3.0e9, rel=0.1)


def test_mla_config_keeps_one_compressed_vector_a_layer() -> None:
    facts = ModelFacts.from_config(DEEPSEEK_CONFIG)
    assert facts.params_total == pytest.approx(671e9, rel=0.01)
    assert facts.params_active == pytest.approx(37e9, rel=0.03)
    assert facts.dtype == "fp8"
    assert facts.kv_bytes_per_token() == 61 * 576 * 2  # KV stays bf16 unless it is asked to be smaller


def test_sliding_window_layers_keep_no_long_context() -> None:
    config = {**LLAMA_CONFIG, "sliding_window": 1024, "sliding_window_pattern": 6, "num_hidden_layers": 36}
    facts = ModelFacts.from_config(config)
    assert facts.window_layers == 30
    assert facts.kv_bytes_per_token() == 2 * 6 * 8 * 128 * 2


def test_multimodal_config_reads_the_text_part() -> None:
    assert ModelFacts.from_config({"vision_config": {"hidden_size": 1}, "text_config": LLAMA_CONFIG}) == LLAMA_8B


def test_missing_field_is_named() -> None:
    with pytest.raises(IncompleteModelConfig, match="num_hidden_layers"):
        ModelFacts.from_config({k: v for k, v in LLAMA_CONFIG.items() if k != "num_hidden_layers"})


def test_unknown_accelerator_names_the_nearest_and_the_known() -> None:
    with pytest.raises(UnknownAccelerator, match=r"Did you mean 'nvidia-h100'.*nvidia-h200"):
        lookup("h100")
    assert lookup("cpu").resource_name is None


@pytest.mark.parametrize("accelerator", ACCELERATORS.values(), ids=lambda a: a.name)
def test_every_accelerator_is_complete(accelerator: Accelerator) -> None:
    assert accelerator.flops["bf16"] > 0
    assert accelerator.bandwidth_bytes_per_s > 0
    assert accelerator.resource_name is not None or accelerator.name == "cpu"


@pytest.mark.parametrize(
    ("batch", "kv_tokens", "measured_s"), [(256, 71_551, 0.012552), (128, 134_080, 0.013461), (7, 229_540, 0.017153)]
)
def test_measured_decode_constants_reproduce_the_measurements(batch: int, kv_tokens: int, measured_s: float) -> None:
    assert LLAMA_8B_H100.steps.decode_s(batch, kv_tokens) == pytest.approx(measured_s, rel=0.055)


def test_measured_moe_decode_saturates_with_the_batch() -> None:
    steps = QWEN3_30B_A3B_H100.steps
    assert steps.decode_s(256, 71_552) == pytest.approx(0.027775, rel=0.05)
    assert steps.decode_fixed_s(1) < 0.3 * steps.decode_fixed_s(256)


def test_measured_prefill_constants_reproduce_the_measurements() -> None:
    steps = LLAMA_8B_H100.steps
    assert steps.prefill_s(4096, 2048) == pytest.approx(0.10245, rel=0.03)
    assert steps.prefill_s(128, 64) == pytest.approx(0.0183, rel=0.03)


def test_efficiencies_are_shares_of_the_peak() -> None:
    found = efficiency()
    for share in (found.weights, found.kv, found.experts, found.compute, found.attention):
        assert 0.3 < share < 1.0


def test_a_measured_pair_is_found_and_another_is_not() -> None:
    assert nearest_measured(LLAMA_8B, lookup("nvidia-h100")) is LLAMA_8B_H100
    assert nearest_measured(LLAMA_8B, lookup("nvidia-h200")) is None
