"""What the steps of a simulated engine cost: prefill when busy and when idle, decode, host work, KV transfer."""

from dataclasses import dataclass, replace

from headrace.catalog.step_times import StepTimes

KV_CHUNK_TOKENS = 8192  # SGLang's default chunked_prefill_size on an 80 GB chip


@dataclass(frozen=True, slots=True)
class PrefillTimes:
    """Seconds of one prefill step: `max(floor, base + token x + context w)` for x new tokens.

    w counts token-context pairs: a piece of x tokens that starts at context k adds x (k + x/2). 4,096 tokens from 0 at
    21.7 us and 0.9 ns: 8.1 + 88.8 + 4,096 x 2,048 x 0.9e-6 ms = 8.1 + 88.8 + 7.5 = 104.4 ms.
    """

    base_s: float
    token_s: float
    context_s: float
    floor_s: float = 0.0

    def step_s(self, tokens: int, work: float) -> float:
        """Seconds for `tokens` new tokens that attend to `work` token-context pairs."""
        return max(self.floor_s, self.base_s + self.token_s * tokens + self.context_s * work)

    def scaled(self, device: float) -> "PrefillTimes":
        """On a chip whose arithmetic needs `device` times as long. Base and floor are the host's and stay."""
        return replace(self, token_s=self.token_s * device, context_s=self.context_s * device)


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

    def decode_table(self, max_batch: int) -> list[float]:
        """Seconds of a decode step without its KV part, by batch size 0..max_batch."""
        steps = self.decode
        return [steps.decode_fixed_s(b) + steps.decode_sequence_s * b for b in range(max_batch + 1)]
