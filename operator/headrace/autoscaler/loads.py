"""From observation and history to the offered load of each role at its lead time."""

from dataclasses import dataclass, replace

from headrace.autoscaler.capacity import CapacityModel
from headrace.autoscaler.history import Rates, rates
from headrace.autoscaler.limits import Limits, Objective
from headrace.autoscaler.memory import Memory
from headrace.autoscaler.needs import (
    DecodeLoad,
    PrefillLoad,
    envelope,
    history_dispersion,
    ttft_budget_s,
    work_rate,
)
from headrace.autoscaler.observe import Observed

SHORT_S, LONG_S = 60, 300  # a minute smooths single requests, five minutes single bursts
WAITING_FOR_DECODE = 0.1  # queue for decode places, relative to running streams, that counts as held up there
PREFILL_IDLE = 0.7  # busy share below which prefill itself is not what holds requests up
SAFE_SHARE = 0.95  # offered work above this share of the pool never lets a backlog drain in time
ANSWER_TOKENS = 256.0  # of a request, where no engine reports lengths
KV_SPREAD = 4.0 / 3.0  # mean square of the KV of a stream over its squared mean, for a uniform age


@dataclass(frozen=True, slots=True)
class Demand:
    """The recent rates of a service and the growth that the forecast expects until the lead time."""

    short: Rates
    long: Rates
    growth: float  # forecast over the larger of the two, at least 1
    unseen_factor: float  # arrivals of silent pods: all serving over those that report
    dispersion: float
    engine_state: bool  # arrivals and lengths come from /headrace/state

    @property
    def shape(self) -> Rates:
        """The longer window where it holds anything: request shapes change slower than rates."""
        return self.long if self.long.count > 0 else self.short


def demand(memory: Memory, growth: float, unseen_factor: float, *, engine_state: bool, lookback_s: int) -> Demand:
    """Rates of the history over a minute and over the look-back (five minutes unless windows are shortened)."""
    history = memory.history
    return Demand(
        short=rates(history, SHORT_S),
        long=rates(history, min(LONG_S, lookback_s)),
        growth=growth,
        unseen_factor=unseen_factor,
        dispersion=history_dispersion(history),
        engine_state=engine_state,
    )


def prefill_load(  # noqa: PLR0917 - a pure sum of its inputs
    found: Demand, pool: Observed, memory: Memory, model: CapacityModel, limits: Limits, lead_s: float,
    gateway_requests: float, *, decode_bound: bool,
) -> PrefillLoad:  # fmt: skip
    """Offered prefill work. Work held up by decode is not prefill's: `decode_bound` leaves the backlog out."""
    objective, shape = limits.objective, found.shape
    disaggregated = pool.role == "prefill"
    reactive = work_rate(found.short, model) * found.unseen_factor
    steady = max(reactive, work_rate(found.long, model) * found.unseen_factor)
    budget_s = ttft_budget_s(objective, model, shape.prompt_tokens, disaggregated=disaggregated)
    queued = pool.queued_tokens + gateway_requests * shape.request_tokens
    backlog_s = 0.0 if decode_bound else queued * model.token_price_s(shape.mean_context)
    bursts, window = envelope(memory.history, model, budget_s, objective.miss_share)
    ready = float(len(pool.serving))
    drained_s = backlog_s / (ready - reactive) if ready > reactive else float("inf")
    return PrefillLoad(
        work=steady * found.growth,
        reactive=reactive,
        envelope=bursts * found.unseen_factor,
        envelope_window_s=window,
        budget_s=budget_s,
        alone_s=model.alone_s(shape.request_tokens, shape.mean_context),
        variation=found.dispersion + shape.size_variation,
        backlog_s=backlog_s,
        useful=backlog_s > 0.0 and (reactive > SAFE_SHARE * ready or drained_s > lead_s),
        lead_s=lead_s,
    )


def decode_load(found: Demand, pool: Observed, queued_prompt_tokens: float, memory: Memory) -> DecodeLoad:
    """Offered decode work from arrivals and learned lengths, with what prefill is about to hand over."""
    rate = _larger(found.short, found.long)
    factor = found.unseen_factor * found.growth
    shape = found.shape
    handed_over = queued_prompt_tokens + pool.prealloc_requests * shape.prompt_tokens
    answer = rate.output / rate.count if rate.count > 0 else ANSWER_TOKENS
    square = sum(memory.lengths.square) / len(memory.lengths.square)
    return DecodeLoad(
        output=rate.output * factor,
        kv=rate.kv * factor,
        kv_sq=rate.kv_sq * factor,
        rate=rate.count * factor,
        dispersion=found.dispersion,
        # The KV-weighted life: E[o^2] / E[o], twice the mean for an exponential law, the mean for a fixed length.
        residence_tokens=max(square / max(answer, 1.0), answer, 1.0),
        resident_kv=pool.kv_tokens + handed_over,
        running=pool.running + pool.prealloc_requests,
        prompt=rate.prompt * factor,
    )


def stock_decode_load(found: Demand, pool: Observed, model: CapacityModel, handed_over: float) -> DecodeLoad:
    """Offered decode work where no engine reports lengths: what is running now, at the present step time."""
    pods = float(max(len(pool.serving), 1))
    step_s = model.steps.decode_s(pool.running / pods, pool.kv_tokens / pods)
    output = pool.running / step_s * found.growth
    kv = pool.kv_tokens / step_s * found.growth
    each = pool.kv_tokens / max(pool.running, 1.0)
    return DecodeLoad(
        output=output,
        kv=kv,
        kv_sq=kv * each * KV_SPREAD,
        rate=output / ANSWER_TOKENS,
        dispersion=1.0,
        residence_tokens=2.0 * ANSWER_TOKENS,
        resident_kv=pool.kv_tokens + handed_over,
        running=pool.running,
        prompt=found.short.prompt * found.unseen_factor,
    )


def is_decode_bound(prefill: Observed, decode: Observed) -> bool:
    """Whether requests wait for decode, not for prefill: decode's own queues are long while prefill has time."""
    held_up = decode.prealloc_requests > WAITING_FOR_DECODE * max(decode.running, 1.0) or decode.retracted_requests > 0
    return held_up and prefill.busy_share is not None and prefill.busy_share < PREFILL_IDLE


def handed_over_tokens(found: Demand, prefill: Observed, model: CapacityModel, life_s: float) -> float:
    """Prompt tokens in prefill's queue that reach decode before today's streams have left.

    A queue longer than that is bounded by what prefill can finish in one life of a stream.
    """
    price_s = model.token_price_s(found.shape.mean_context)
    finishing = min(prefill.queued_tokens, len(prefill.serving) * life_s / price_s) if price_s > 0 else 0.0
    cached = found.shape.prompt_tokens / max(found.shape.request_tokens, 1.0)
    return finishing * cached + prefill.inflight_requests * found.shape.prompt_tokens


def shed_hint(load: PrefillLoad, ready: float, objective: Objective) -> bool:
    """Whether waiting is hopeless: beyond three times the objective now, and still at the lead time."""
    worst_s = 3.0 * objective.ttft_s
    later_s = load.backlog_s + (load.reactive - ready) * load.lead_s
    return ready > 0 and load.backlog_s / ready > worst_s and later_s / ready > worst_s


def _larger(short: Rates, long: Rates) -> Rates:
    """The window with the higher decode work; the rest of its columns go with it."""
    return short if short.kv >= long.kv else replace(long, count=max(long.count, short.count))
