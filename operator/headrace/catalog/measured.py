"""Step times measured on real accelerators, each with where it comes from, and what share of the peak they reach."""

from dataclasses import dataclass

from headrace.catalog.accelerators import ACCELERATORS, Accelerator
from headrace.catalog.models import ModelFacts
from headrace.catalog.step_times import StepTimes


@dataclass(frozen=True, slots=True)
class MeasuredProfile:
    """One model on one accelerator, tensor parallel 1, as measured."""

    name: str
    accelerator: str
    model: ModelFacts
    steps: StepTimes
    kv_capacity_tokens: int
    provenance: str


LLAMA_8B = ModelFacts(
    layers=32, hidden=4096, heads=32, kv_heads=8, head_dim=128, intermediate=14336, vocab=128256
)  # meta-llama/Llama-3.1-8B config.json
QWEN3_30B_A3B = ModelFacts(
    layers=48, hidden=2048, heads=32, kv_heads=4, head_dim=128, intermediate=6144, vocab=151936,
    experts=128, experts_per_token=8, expert_intermediate=768,
)  # fmt: skip  # Qwen/Qwen3-30B-A3B config.json

_H100_RUN = "SGLang 0.5.14, CUDA graphs, fa3, chunk 8192, dummy weights, H100 80GB HBM3, 2026-11-22"

LLAMA_8B_H100 = MeasuredProfile(
    name="llama-3.1-8b bf16 on nvidia-h100",
    accelerator="nvidia-h100",
    model=LLAMA_8B,
    steps=StepTimes(
        # Least squares over 9 points of 1,024..32,768 tokens (streaming TTFT, saturated batches): worst 2.9 %.
        prefill_base_s=8.69e-3,
        prefill_token_s=2.172e-5,
        prefill_token_context_s=8.48e-10,
        prefill_floor_s=0.018,  # streaming TTFT of a lone 128-token prompt: 18.3 ms
        # Least squares over 43 points, batch 1..256, context 256..32,768: mean error 0.8 %, worst 5 %.
        decode_base_s=6.408e-3,
        decode_sequence_s=1.145e-5,
        decode_kv_token_s=4.272e-8,
    ),
    kv_capacity_tokens=410_620,
    provenance=_H100_RUN,
)

QWEN3_30B_A3B_H100 = MeasuredProfile(
    name="qwen3-30b-a3b bf16 on nvidia-h100",
    accelerator="nvidia-h100",
    model=QWEN3_30B_A3B,
    steps=StepTimes(
        # Least squares over 9 points of 1,024..32,000 tokens: worst 3.5 %.
        prefill_base_s=2.016e-2,
        prefill_token_s=1.177e-5,
        prefill_token_context_s=1.239e-9,
        prefill_floor_s=0.025,  # a lone 128-token prompt, less the 9 ms that a non-streaming reply adds
        # Least squares over 31 points: median error 1.3 %, worst 7 %. A form linear in the batch is 58 % off at worst.
        decode_base_s=3.444e-3,
        decode_sequence_s=9.363e-6,
        decode_kv_token_s=3.523e-8,
        decode_experts_s=1.923e-2,
        experts_share=8 / 128,
    ),
    kv_capacity_tokens=167_155,
    provenance=_H100_RUN,
)

MEASURED = (LLAMA_8B_H100, QWEN3_30B_A3B_H100)


@dataclass(frozen=True, slots=True)
class Efficiency:
    """What share of the data-sheet peaks real kernels reach, and what a step costs beside them."""

    weights: float  # of the bandwidth, reading weights
    kv: float  # of the bandwidth, reading KV
    experts: float  # of the bandwidth, reading experts: small, scattered matrices
    compute: float  # of the FLOP/s, matrix products of prefill
    attention: float  # of the FLOP/s, prefill attention
    prefill_launch_s: float  # a prefill step's cost beside its tokens
    decode_sequence_flops: float  # of the FLOP/s, by the growth of a decode step with its batch


def efficiency() -> Efficiency:
    """Efficiencies of the measured profiles above, so that a chip nobody measured is a measured one scaled.

    Worked for Llama-8B on H100: weights 7.50e9 x 2 bytes / 3.35e12 = 4.48 ms of the 6.41 measured: 0.70. KV 131,072
    bytes / 3.35e12 = 39.1 ns of 42.7: 0.92. Prefill 2 x 7.50e9 / 989e12 = 15.2 us of 21.7: 0.70.
    """
    dense, moe = LLAMA_8B_H100, QWEN3_30B_A3B_H100
    chip = ACCELERATORS[dense.accelerator]
    bandwidth, flops = chip.bandwidth_bytes_per_s, chip.flops_for("bf16")
    token_flops = 2.0 * dense.model.params_active
    return Efficiency(
        weights=dense.model.params_dense * dense.model.weight_byte / bandwidth / dense.steps.decode_base_s,
        kv=dense.model.kv_bytes_per_token() / bandwidth / dense.steps.decode_kv_token_s,
        experts=moe.model.params_experts * moe.model.weight_byte / bandwidth / moe.steps.decode_experts_s,
        compute=token_flops / flops / dense.steps.prefill_token_s,
        attention=attention_flops(dense.model) / flops / dense.steps.prefill_token_context_s,
        prefill_launch_s=dense.steps.prefill_base_s,
        decode_sequence_flops=token_flops / flops / dense.steps.decode_sequence_s,
    )


def attention_flops(model: ModelFacts) -> float:
    """FLOPs that one new token spends on one token of context: 2 for QK and 2 for PV per unit of width and layer."""
    return 4.0 * model.full_attention_layers * model.attention_width


def nearest_measured(model: ModelFacts, accelerator: Accelerator) -> MeasuredProfile | None:
    """The profile of exactly this model and accelerator, if one was measured."""
    for profile in MEASURED:
        if profile.model == model and profile.accelerator == accelerator.name:
            return profile
    return None
