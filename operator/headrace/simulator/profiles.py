"""Fleets that can be simulated: a model on an accelerator with its engine's step times, and how many replicas."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from headrace.api.roles import AGGREGATED_ROLES, DISAGGREGATED_ROLES, Role
from headrace.autoscaler.capacity import CapacityModel, roofline
from headrace.catalog.accelerators import ACCELERATORS, Accelerator, lookup
from headrace.catalog.measured import LLAMA_8B, LLAMA_8B_H100, QWEN3_30B_A3B, QWEN3_30B_A3B_H100
from headrace.catalog.models import ModelFacts
from headrace.simulator.calibrate import EAGER_DECODE_LAYER_S, read_weights_s
from headrace.simulator.engine import EngineShape
from headrace.simulator.times import KV_CHUNK_TOKENS, EngineTimes, PrefillTimes, TransferTimes

# `headrace simulate validate --calibrate` on the measured profile and disaggregation probe (SGLang 0.5.14, H100 80GB
# HBM3, Llama-3.1-8B shape bf16, TP1, nixl/UCX on one host, 2026-11-22), rounded to three digits.
LLAMA_8B_H100_TIMES = EngineTimes(
    busy=PrefillTimes(base_s=0.0, token_s=2.32e-5, context_s=7.84e-10, floor_s=6.41e-3),
    idle=PrefillTimes(base_s=8.40e-3, token_s=1.93e-5, context_s=1.32e-9, floor_s=0.0153),
    decode=LLAMA_8B_H100.steps,
    frontend_s=3.03e-3,
    eager_launch_s=0.0332,
    transfer=TransferTimes(latency_s=0.0, token_s=5.43e-6),
    weights_s=4.89e-3,
    eager_decode_s=18.3e-3,
)

# The same fit on the Qwen3-30B-A3B profile of that machine. No disaggregation probe was taken: launches grow with the
# layers (48 / 32), the transfer with the KV bytes of a token (98,304 / 131,072).
QWEN3_30B_A3B_H100_TIMES = EngineTimes(
    busy=PrefillTimes(3.44e-3, 1.40e-5, 1.09e-9, floor_s=0.0227, experts_s=0.0192, expert_token_s=9.29e-6),
    idle=PrefillTimes(8.06e-3, 1.37e-5, 9.87e-10, floor_s=0.0278, experts_s=0.0192, expert_token_s=9.12e-6),
    decode=QWEN3_30B_A3B_H100.steps,
    frontend_s=4.63e-3,
    eager_launch_s=0.0332 * 48 / 32,
    transfer=TransferTimes(latency_s=0.0, token_s=5.43e-6 * 98_304 / 131_072),
    weights_s=8.81e-4,
    eager_decode_s=EAGER_DECODE_LAYER_S * 48,
)

LLAMA_70B_FP8 = ModelFacts(
    layers=80, hidden=8192, heads=64, kv_heads=8, head_dim=128, intermediate=28672, vocab=128256, dtype="fp8"
)  # meta-llama/Llama-3.1-70B config.json
# The roofline's decode step is too fast for 70B fp8 on 4 H100: batch 4 to 64 at 1,024 + 8,192 tokens measured 12.0 to
# 23.4 ms (aiconfigurator's silicon sample, vLLM), the roofline gives 9.6 to 18.6 ms. Prefill agrees within 10 %.
SILICON_70B_DECODE = 1.26


@dataclass(frozen=True, slots=True)
class FleetProfile:
    """A model on `tensor_parallel` chips of one accelerator, and the bounds a service of it would have."""

    name: str
    model: ModelFacts
    accelerator: str
    tensor_parallel: int
    times: EngineTimes
    shape: EngineShape
    minimum: int = 1
    maximum: int = 64
    description: str = ""
    served_as: tuple[str, ...] = ()  # what a --model-path of this model has in it, small letters and digits only
    topologies: Mapping[str, tuple[Role, ...]] = field(
        default_factory=lambda: {"disaggregated": DISAGGREGATED_ROLES, "aggregated": AGGREGATED_ROLES}
    )

    def roles(self, topology: str) -> tuple[Role, ...]:
        """The roles of `disaggregated` or `aggregated`. Raises ValueError for anything else."""
        if topology not in self.topologies:
            raise ValueError(f"topology {topology!r}: use one of {', '.join(self.topologies)}")
        return self.topologies[topology]

    def prior(self) -> CapacityModel:
        """What the autoscaler believes before it has seen this fleet: catalogue and model facts, nothing of `times`."""
        return CapacityModel.prior(
            self.model,
            lookup(self.accelerator),
            self.tensor_parallel,
            chunk_tokens=self.shape.chunk_tokens,
            max_running=self.shape.max_running,
        )


def scaled_to(times: EngineTimes, source: Accelerator, target: Accelerator) -> EngineTimes:
    """Measured times of one chip carried to another: arithmetic by FLOP/s, memory by bandwidth, KV by the link.

    Of a decode step, reading weights (at the efficiency of reading KV), experts and KV scales with the bandwidth, what
    a sequence adds with the FLOP/s, and the rest, kernel launches, stays. Llama-8B from H100 to H200: weights 4.89 ms
    x 3.35/4.8, the other 1.52 ms as they are: 4.93 ms, 0.77 of 6.41 (measured on an H200: 4.81). Where reading gets
    faster and arithmetic does not, a batch is bound by arithmetic earlier: `EngineTimes.decode_fixed_s`.
    """
    arithmetic = source.flops_for("bf16") / target.flops_for("bf16")
    memory = source.bandwidth_bytes_per_s / target.bandwidth_bytes_per_s
    link = source.link_bytes_per_s / target.link_bytes_per_s
    old = times.decode
    decode = replace(
        old,
        decode_base_s=old.decode_base_s + times.weights_s * (memory - 1.0),
        decode_sequence_s=old.decode_sequence_s * arithmetic,
        decode_kv_token_s=old.decode_kv_token_s * memory,
        decode_experts_s=old.decode_experts_s * memory,
    )
    floor_s = times.busy.floor_s * decode.decode_fixed_s(KV_CHUNK_TOKENS) / old.decode_fixed_s(KV_CHUNK_TOKENS)
    return replace(
        times,
        busy=replace(times.busy.scaled(arithmetic, memory), floor_s=floor_s),
        idle=times.idle.scaled(arithmetic, memory),
        decode=decode,
        weights_s=times.weights_s * memory,
        transfer=replace(times.transfer, token_s=times.transfer.token_s * link),
    )


# Decode attention on fp8 KV converts what it reads and is bound by that: 31.0 ns for a token's 65,536 bytes on the H100
# (SGLang 0.5.14, profile with --kv-cache-dtype fp8_e4m3), not half of bf16's 42.7. Kernel timings (aiconfigurator 0.12,
# fa3) give 32.2 and on the H200 27.6 ns, 0.86 of it, where bf16 goes from 43.5 to 30.8, 0.71.
FP8_KV_BYTE_S = 31.0e-9 / 65_536


def catalogue_times(accelerator: str, model: ModelFacts = LLAMA_8B, kv_dtype: str | None = None) -> EngineTimes:
    """Times of `model` on a catalogue chip from the nearest measured chip alone. Raises UnknownAccelerator.

    Of the models only the two measured shapes are known exactly; any other takes the dense one's times, scaled by the
    roofline of both on the measured chip. `kv_dtype` is the engine's --kv-cache-dtype: fp8 costs arithmetic.
    """
    measured, target = ACCELERATORS[LLAMA_8B_H100.accelerator], lookup(accelerator)
    base = QWEN3_30B_A3B_H100_TIMES if model == QWEN3_30B_A3B else LLAMA_8B_H100_TIMES
    if model not in {LLAMA_8B, QWEN3_30B_A3B}:
        base = _from_roofline(model, measured, 1)
    times = scaled_to(base, measured, target)
    if not (kv_dtype or "").startswith("fp8"):
        return times
    arithmetic = measured.flops_for("bf16") / target.flops_for("bf16")
    kv_token_s = FP8_KV_BYTE_S * model.kv_bytes_per_token("fp8") * arithmetic
    return replace(times, decode=replace(times.decode, decode_kv_token_s=kv_token_s))


def _from_roofline(model: ModelFacts, chip: Accelerator, tensor_parallel: int, decode: float = 1.0) -> EngineTimes:
    """The dense measured engine with the roofline's arithmetic; host work grows with the layers."""
    steps = roofline(model, chip, tensor_parallel)
    like = LLAMA_8B_H100_TIMES
    layers = model.layers / LLAMA_8B.layers
    # A saturated step has no base of its own: the measured engine's busy token is 7 % dearer than its lone one.
    busy_share = like.busy.token_s / LLAMA_8B_H100.steps.prefill_token_s
    idle_share = like.idle.token_s / LLAMA_8B_H100.steps.prefill_token_s
    kv_share = model.kv_bytes_per_token() / LLAMA_8B.kv_bytes_per_token()
    steps = steps.scaled(decode=decode)
    weights_s = steps.decode_fixed_s(KV_CHUNK_TOKENS)  # no step is faster than reading the weights once
    return EngineTimes(
        busy=PrefillTimes(0.0, steps.prefill_token_s * busy_share, steps.prefill_token_context_s, weights_s),
        idle=PrefillTimes(
            like.idle.base_s * layers,
            steps.prefill_token_s * idle_share,
            steps.prefill_token_context_s * like.idle.context_s / like.busy.context_s,
            max(like.idle.floor_s * layers, weights_s),
        ),
        decode=steps,
        frontend_s=like.frontend_s,
        eager_launch_s=like.eager_launch_s * layers,
        # Every rank sends its own share of the heads.
        transfer=TransferTimes(like.transfer.latency_s, like.transfer.token_s * kv_share / tensor_parallel),
        weights_s=read_weights_s(model, steps),
        eager_decode_s=EAGER_DECODE_LAYER_S * model.layers,
    )


def _profiles() -> dict[str, FleetProfile]:
    h100 = lookup("nvidia-h100")
    big = CapacityModel.prior(LLAMA_70B_FP8, h100, 4)
    found = (
        FleetProfile(
            name="llama-8b-h100",
            model=LLAMA_8B,
            accelerator="nvidia-h100",
            tensor_parallel=1,
            times=LLAMA_8B_H100_TIMES,
            shape=EngineShape(kv_capacity_tokens=LLAMA_8B_H100.kv_capacity_tokens),
            description="Llama-3.1-8B bf16, one H100 a replica, measured",
            served_as=("llama8b", "llama318b", "llama38b"),
        ),
        FleetProfile(
            name="qwen3-30b-a3b-h100",
            model=QWEN3_30B_A3B,
            accelerator="nvidia-h100",
            tensor_parallel=1,
            times=QWEN3_30B_A3B_H100_TIMES,
            shape=EngineShape(kv_capacity_tokens=QWEN3_30B_A3B_H100.kv_capacity_tokens),
            description="Qwen3-30B-A3B bf16 (MoE), one H100 a replica, step times measured, transfer scaled",
            served_as=("qwen3moe", "qwen330ba3b"),
        ),
        FleetProfile(
            name="llama-70b-h100-tp4",
            model=LLAMA_70B_FP8,
            accelerator="nvidia-h100",
            tensor_parallel=4,
            times=_from_roofline(LLAMA_70B_FP8, h100, 4, SILICON_70B_DECODE),
            shape=EngineShape(kv_capacity_tokens=int(big.kv_capacity_tokens), gpus=4),
            description="Llama-3.1-70B fp8, four H100 a replica, roofline corrected by silicon rows",
            served_as=("llama70b", "llama3170b", "llama3370b"),
        ),
    )
    return {profile.name: profile for profile in found}


PROFILES: Mapping[str, FleetProfile] = _profiles()


def profile(name: str) -> FleetProfile:
    """A fleet profile by name. Raises LookupError that lists the known ones."""
    if name not in PROFILES:
        raise LookupError(f"profile {name!r} is unknown. Known: {', '.join(PROFILES)}.")
    return PROFILES[name]


def profile_of_model(path: str | None) -> FleetProfile | None:
    """The profile whose model a server's --model-path names, as far as the path tells: `meta-llama/Llama-3.1-8B`."""
    name = "".join(letter for letter in (path or "").rsplit("/", 1)[-1].lower() if letter.isalnum())
    return next((found for found in PROFILES.values() if any(part in name for part in found.served_as)), None)


def with_accelerator(base: FleetProfile, accelerator: str) -> FleetProfile:
    """The same fleet on another chip, from the catalogue alone; KV capacity grows with the memory left for it."""
    chip = lookup(accelerator)
    prior = CapacityModel.prior(base.model, chip, base.tensor_parallel)
    return replace(
        base,
        name=f"{base.name}@{accelerator}",
        accelerator=accelerator,
        times=scaled_to(base.times, lookup(base.accelerator), chip),
        shape=replace(base.shape, kv_capacity_tokens=int(prior.kv_capacity_tokens)),
    )
