"""The time of one engine step as a function of what is in it: the currency of prior, measurement and calibration."""

import math
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class StepTimes:
    """Step-time coefficients of one replica, in seconds.

    Prefill step with x new tokens at mean context k: `max(floor, p0 + p1 x + p2 x k)`.
    Decode step with batch b and K resident KV tokens: `d0 + d1 b + d2 K`, plus for MoE `de (1 - (1 - share)^b)`: the
    share of the experts' weights that b tokens touch between them.
    """

    prefill_base_s: float
    prefill_token_s: float
    prefill_token_context_s: float
    decode_base_s: float
    decode_sequence_s: float
    decode_kv_token_s: float
    decode_experts_s: float = 0.0
    experts_share: float = 0.0  # experts per token / experts
    prefill_floor_s: float = 0.0

    def prefill_s(self, tokens: float, mean_context: float = 0.0) -> float:
        """Seconds of one prefill step. Llama-8B on H100, 4,096 new tokens from 0: context 2,048, 0.105 s."""
        if tokens <= 0:
            return 0.0
        work = self.prefill_base_s + tokens * (self.prefill_token_s + self.prefill_token_context_s * mean_context)
        return max(self.prefill_floor_s, work)

    def decode_s(self, batch: float, kv_tokens: float) -> float:
        """Seconds of one decode step. Llama-8B on H100, 128 x 1,024 tokens: 6.41 + 1.47 + 5.60 = 13.5 ms."""
        return self.decode_fixed_s(batch) + self.decode_sequence_s * batch + self.decode_kv_token_s * kv_tokens

    def decode_fixed_s(self, batch: float) -> float:
        """The part of a decode step that reads weights: constant for a dense model, saturating in b for MoE."""
        if not self.decode_experts_s or batch <= 0:
            return self.decode_base_s
        touched = 1.0 - math.pow(1.0 - self.experts_share, batch)
        return self.decode_base_s + self.decode_experts_s * touched

    def scaled(self, prefill: float = 1.0, decode: float = 1.0) -> "StepTimes":
        """The same shape, slower (above 1) or faster."""
        return replace(
            self,
            prefill_base_s=self.prefill_base_s * prefill,
            prefill_token_s=self.prefill_token_s * prefill,
            prefill_token_context_s=self.prefill_token_context_s * prefill,
            prefill_floor_s=self.prefill_floor_s * prefill,
            decode_base_s=self.decode_base_s * decode,
            decode_sequence_s=self.decode_sequence_s * decode,
            decode_kv_token_s=self.decode_kv_token_s * decode,
            decode_experts_s=self.decode_experts_s * decode,
        )
