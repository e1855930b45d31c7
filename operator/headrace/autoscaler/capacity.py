"""What one replica can do: a roofline prior from model and chip, corrected by the engines' own sums."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from headrace.catalog.accelerators import Accelerator
from headrace.catalog.measured import attention_flops, efficiency, nearest_measured
from headrace.catalog.models import ModelFacts
from headrace.catalog.step_times import StepTimes

KV_MEMORY_SHARE = 0.87  # of the data-sheet memory for weights and KV: 69.9 of 80 GB on the measured H100 engine
EXPERTS_IN_PREFILL = 0.4  # of the time to read all experts shows in a prefill step's base (measured: 0.37)
ALL_REDUCE_S = 10e-6  # one small all-reduce over NVLink; two a layer with tensor parallelism
LAUNCH_LAYERS = 32  # the measured launch cost is that of 32 layers, and grows with them
PRIOR_HEADROOM = 0.2  # extra need while nothing measured backs the prior (WVA and Dynamo use 15..20 %)


@dataclass(frozen=True, slots=True)
class DecodeEvidence:
    """Decayed sums over decode steps: SGLang's `decode_moments` differences, times in seconds, and resident tokens."""

    steps: float = 0.0
    batch: float = 0.0
    time_s: float = 0.0
    batch_sq: float = 0.0
    batch_time_s: float = 0.0
    kv_tokens: float = 0.0  # sum over steps of the tokens resident, from the KV gauge
    error: float = 1.0  # moving mean of |predicted / seen - 1| of intervals that the fit had not seen yet
    trusted: bool = False  # predicted well lately, so that it may leave the clip around the prior


@dataclass(frozen=True, slots=True)
class PrefillEvidence:
    """Decayed sums of prefill seconds seen and predicted, for engines with and without a queue."""

    seen_s: float = 0.0
    predicted_s: float = 0.0
    saturated_seen_s: float = 0.0
    saturated_predicted_s: float = 0.0
    error: float = 1.0
    trusted: bool = False  # predicted well lately, so that it may leave the clip around the prior


@dataclass(frozen=True, slots=True)
class CapacityModel:
    """Capacity of one replica of a model on an accelerator. `steps`: the calibrated times."""

    prior_steps: StepTimes
    steps: StepTimes
    kv_capacity_tokens: float
    max_running: float = 256.0
    chunk_tokens: float = 8192.0  # new tokens that one prefill step can take
    kv_bytes_per_token: float = 131072.0
    link_bytes_per_s: float = 25e9
    transfer_base_s: float = 0.010  # TTFT that an idle prefill/decode pair adds: 9..20 ms measured below 4k tokens
    source: str = "roofline"
    measured: bool = False  # the prior itself was measured on this chip
    saturated: float = 1.0  # batched prefill against the model's price of it
    prefill_valid: bool = False
    decode_valid: bool = False
    prefill: PrefillEvidence = field(default_factory=PrefillEvidence)
    decode: DecodeEvidence = field(default_factory=DecodeEvidence)

    @classmethod
    def prior(
        cls,
        model: ModelFacts,
        accelerator: Accelerator,
        tensor_parallel: int = 1,
        kv_dtype: str | None = None,
        *,
        chunk_tokens: int = 8192,
        max_running: int = 256,
        accept_length: float = 1.0,
    ) -> "CapacityModel":
        """The prior for a model on `tensor_parallel` chips; `accept_length`: tokens per speculative decode step."""
        profile = nearest_measured(model, accelerator) if tensor_parallel == 1 and kv_dtype is None else None
        steps = profile.steps if profile else roofline(model, accelerator, tensor_parallel, kv_dtype)
        kv_bytes = model.kv_bytes_per_token(kv_dtype)
        free = accelerator.memory_bytes * tensor_parallel * KV_MEMORY_SHARE - model.weight_bytes
        steps = steps.scaled(decode=1.0 / max(accept_length, 1.0))
        return cls(
            prior_steps=steps,
            steps=steps,
            kv_capacity_tokens=float(profile.kv_capacity_tokens if profile else max(free / kv_bytes, 1.0)),
            max_running=float(max_running),
            chunk_tokens=float(chunk_tokens),
            kv_bytes_per_token=kv_bytes,
            link_bytes_per_s=accelerator.link_bytes_per_s * tensor_parallel,
            source=profile.provenance if profile else f"roofline of {accelerator.name}",
            measured=profile is not None,
        )

    def token_price_s(self, mean_context: float) -> float:
        """Seconds of prefill per new token when a queue fills the steps: 21.7 + 1.1 + 0.9 us for Llama-8B at 1,024."""
        steps = self.steps
        fixed = steps.prefill_base_s / self.chunk_tokens
        return self.saturated * (fixed + steps.prefill_token_s + steps.prefill_token_context_s * mean_context)

    def alone_s(self, tokens: float, mean_context: float) -> float:
        """Seconds of prefill for one request that waits for nobody, chunk by chunk."""
        chunks = max(1.0, -(-tokens // self.chunk_tokens))
        return self.steps.prefill_s(tokens, mean_context) + (chunks - 1.0) * self.steps.prefill_base_s

    def transfer_s(self, prompt_tokens: float) -> float:
        """Seconds that moving a prompt's KV to the decode side adds to TTFT. 1,024 tokens at 50 GB/s: 10 + 2.7 ms."""
        return self.transfer_base_s + prompt_tokens * self.kv_bytes_per_token / self.link_bytes_per_s

    def headroom(self, valid: bool) -> float:
        """Factor on a need: 1.2 while the model is neither calibrated nor measured."""
        return 1.0 if valid or self.measured else 1.0 + PRIOR_HEADROOM

    def to_dict(self) -> dict[str, Any]:
        """Everything, JSON-able, for the operator's ConfigMap."""
        return asdict(self)

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> "CapacityModel":
        """What `to_dict` wrote. Raises KeyError or TypeError on anything else."""
        return cls(
            **{
                **record,
                "prior_steps": StepTimes(**record["prior_steps"]),
                "steps": StepTimes(**record["steps"]),
                "prefill": PrefillEvidence(**record["prefill"]),
                "decode": DecodeEvidence(**record["decode"]),
            }
        )

    def distorted(self, factor: float) -> "CapacityModel":
        """The same model believing that everything takes `factor` times as long: for tests of robustness."""
        prior = self.prior_steps.scaled(factor, factor)
        return replace(self, prior_steps=prior, steps=self.steps.scaled(factor, factor))


def roofline(
    model: ModelFacts, accelerator: Accelerator, tensor_parallel: int = 1, kv_dtype: str | None = None
) -> StepTimes:
    """Step times from bytes and FLOPs at the efficiencies of the measured profiles: a measured chip, scaled."""
    found = efficiency()
    bandwidth = accelerator.bandwidth_bytes_per_s * tensor_parallel
    flops = accelerator.flops_for("fp8" if model.weight_byte <= 1.0 else "bf16") * tensor_parallel
    reduce_s = 2 * model.layers * ALL_REDUCE_S if tensor_parallel > 1 else 0.0
    experts_s = model.params_experts * model.weight_byte / (found.experts * bandwidth)
    launch_s = found.prefill_launch_s * model.layers / LAUNCH_LAYERS
    token_flops = 2.0 * model.params_active
    return StepTimes(
        prefill_base_s=launch_s + EXPERTS_IN_PREFILL * experts_s + reduce_s,
        prefill_token_s=token_flops / (found.compute * flops),
        prefill_token_context_s=attention_flops(model) / (found.attention * flops),
        decode_base_s=model.params_dense * model.weight_byte / (found.weights * bandwidth) + reduce_s,
        decode_sequence_s=token_flops / (found.decode_sequence_flops * flops),
        decode_kv_token_s=model.kv_bytes_per_token(kv_dtype) / (found.kv * bandwidth),
        decode_experts_s=experts_s,
        experts_share=model.experts_per_token / model.experts if model.experts else 0.0,
    )
