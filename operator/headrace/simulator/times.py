"""What the steps of a simulated engine cost: prefill when busy and when idle, decode, host work, KV transfer."""

from dataclasses import dataclass, replace
from math import hypot

from headrace.catalog.step_times import StepTimes

KV_CHUNK_TOKENS = 8192  # SGLang's default chunked_prefill_size on chips of 60 to 160 GB
GRAPH_BATCH = 256  # SGLang's default cuda_graph_max_bs on those chips at tensor parallel 1 to 3


@dataclass(frozen=True, slots=True)
class PrefillTimes:
    """Seconds of one prefill step: `max(floor, base + token x + context w)` for x new tokens.

    w counts token-context pairs: a piece of x tokens that starts at context k adds x (k + x/2). 4,096 tokens from 0 at
    21.7 us and 0.9 ns: 8.1 + 88.8 + 4,096 x 2,048 x 0.9e-6 ms = 8.1 + 88.8 + 7.5 = 104.4 ms.
    MoE: the part `expert_token x` of the arithmetic runs in experts, whose weights have to be read as well. Tiles that
    are part full are bound by neither alone, so the two add as the sides of a right angle:
    `sqrt(experts^2 + (expert_token x)^2)`. Qwen3-30B-A3B on H100, 2,048 tokens: 19.2 ms of reading and 19.0 ms of
    arithmetic make 27 ms. In this form the lone and the saturated prompts of the H100 profile agree on the time of a
    token (13.7 and 14.0 us); straight lines through them do not (9.5 and 14.8 us).
    """

    base_s: float
    token_s: float
    context_s: float
    floor_s: float = 0.0
    experts_s: float = 0.0  # reading all experts once
    expert_token_s: float = 0.0  # the part of token_s that is arithmetic in experts

    def step_s(self, tokens: int, work: float) -> float:
        """Seconds for `tokens` new tokens that attend to `work` token-context pairs."""
        seconds = self.base_s + self.token_s * tokens + self.context_s * work
        if self.experts_s:
            seconds += self.experts_wait_s(tokens)
        return max(self.floor_s, seconds)

    def experts_wait_s(self, tokens: float) -> float:
        """What reading the experts adds to the arithmetic of `tokens`."""
        arithmetic = self.expert_token_s * tokens
        return hypot(self.experts_s, arithmetic) - arithmetic

    def scaled(self, arithmetic: float, memory: float = 1.0) -> "PrefillTimes":
        """On a chip with so many times the time for arithmetic and for memory. Base and floor are the host's: kept."""
        return replace(
            self,
            token_s=self.token_s * arithmetic,
            context_s=self.context_s * arithmetic,
            experts_s=self.experts_s * memory,
            expert_token_s=self.expert_token_s * arithmetic,
        )


@dataclass(frozen=True, slots=True)
class TransferTimes:
    """KV from a prefill to a decode engine: a fixed part a request, and the link's rate."""

    latency_s: float
    token_s: float  # KV bytes of one token over the link's bytes per second

    def seconds(self, tokens: int) -> float:
        """Seconds to move the KV of `tokens`. 4,096 tokens x 131,072 bytes at 27 GB/s: 19.9 ms."""
        return self.latency_s + self.token_s * tokens


@dataclass(frozen=True, slots=True)
class EngineTimes:
    """All step times of one replica.

    `busy` holds while the device has work queued, so that the host prepares the next step unseen; `idle` is a lone
    request on an idle engine, where it waits for the host as well.
    """

    busy: PrefillTimes
    idle: PrefillTimes
    decode: StepTimes
    frontend_s: float  # HTTP, tokenizer and reply of one request, beside the engine's steps
    eager_launch_s: float  # host time of a prefill step of a prefill-only engine, which runs without prefill graphs
    transfer: TransferTimes
    # Of a decode step, reading the dense weights. It hides the arithmetic of a batch until that takes longer.
    weights_s: float = 0.0
    eager_decode_s: float = 0.0  # host time of a decode step above `graph_batch`: no CUDA graph, each kernel launched
    graph_batch: int = GRAPH_BATCH

    def decode_table(self, max_batch: int) -> list[float]:
        """Seconds of a decode step without its KV part, by batch size 0..max_batch."""
        return [self.decode_fixed_s(b) for b in range(max_batch + 1)]

    def decode_fixed_s(self, batch: float) -> float:
        """Seconds of a decode step without its KV part: a roofline of reading weights and multiplying with them.

        The multiplication of b sequences costs what b more prompt tokens cost. Llama-8B on H200, batch 320: weights
        3.4 ms, arithmetic 320 x 19.3 us = 6.2 ms: 4.94 + 320 x 11.45 us + 2.8 = 11.4 ms; 12.0 measured, 8.6 without.
        """
        steps = self.decode
        arithmetic = (self.idle.token_s - self.idle.expert_token_s) * batch
        beyond = max(0.0, arithmetic - self.weights_s) if self.weights_s else 0.0
        return steps.decode_fixed_s(batch) + steps.decode_sequence_s * batch + beyond

    def decode_s(self, batch: float, kv_tokens: float) -> float:
        """Seconds of a decode step of `batch` sequences that hold `kv_tokens` between them."""
        device = self.decode_fixed_s(batch) + self.decode.decode_kv_token_s * kv_tokens
        return max(device, self.eager_decode_s) if batch > self.graph_batch else device
