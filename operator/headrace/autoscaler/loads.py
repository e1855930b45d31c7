"""From observation and history to the offered load of each role at its lead time."""

import math
from dataclasses import dataclass, replace

from headrace.api.roles import Role
from headrace.autoscaler.capacity import CapacityModel
from headrace.autoscaler.envelope import envelope, history_dispersion, work_rate
from headrace.autoscaler.forecast import Outlook, outlook
from headrace.autoscaler.history import History, Rates, rates
from headrace.autoscaler.limits import Limits, Objective
from headrace.autoscaler.memory import Memory, RoleMemory
from headrace.autoscaler.needs import (
    DecodeLoad,
    PrefillLoad,
    ttft_budget_s,
)
from headrace.autoscaler.observe import RESERVED_TOKENS, Observed
from headrace.autoscaler.prompts import tight_prompt_tokens

SHORT_S, LONG_S = 60, 300  # a minute smooths single requests, five minutes single bursts
LEAST_SHORT_S = 5  # the shortest history that a rate is taken from: a tick
JUMP_S = 20  # a third of the minute: bursts that end sooner are over long before help comes
JUMP_TIMES = 3.0  # the rate before: of a smaller jump what runs still serves a good part while the minute fills
JUMP_SIGMAS = 4.0  # beyond the scatter of the rate before: once in 30,000 windows by chance
# Bursts like those of the look-back may take all misses where a start takes so long, half of them at twice that: larger
# ones come too, and last as long as the help is under way.
REPEATED_S = 30.0
HELD_NEEDED = 20  # samples of the KV held before a 95 % quantile of them means anything
ANSWER_TOKENS = 256.0  # of a request, where no engine reports lengths
KV_SPREAD = 4.0 / 3.0  # mean square of the KV of a stream over its squared mean, for a uniform age


@dataclass(frozen=True, slots=True)
class Demand:
    """The recent rates of a service and the growth that the forecast expects until the lead time."""

    short: Rates
    long: Rates
    outlook: Outlook  # what the forecast adds to the larger of the two
    unseen_factor: float  # arrivals of silent pods: all serving over those that report
    dispersion: float
    engine_state: bool  # arrivals and lengths come from /headrace/state

    @property
    def shape(self) -> Rates:
        """The longer window where it holds anything: request shapes change slower than rates."""
        return self.long if self.long.count > 0 else self.short


def demand(memory: Memory, now: float, unseen_factor: float, *, engine_state: bool, lookback_s: int) -> Demand:
    """Rates of the history over a minute and over the look-back (five minutes unless windows are shortened).

    In its first two minutes a service is new to its clients too: a mean that reaches back to nothing lags behind what
    comes, so the newer half is the short window. 40 s of history: 20 s.
    """
    history = memory.history
    short_s = min(SHORT_S, max(history.seconds // 2, LEAST_SHORT_S))
    short, long_s = rates(history, short_s), min(LONG_S, lookback_s)
    jump = _jump(history, long_s)
    return Demand(
        short=jump if jump is not None and jump.count > short.count else short,
        long=rates(history, long_s),
        outlook=outlook(memory.forecast, now),
        unseen_factor=unseen_factor,
        dispersion=history_dispersion(history),
        engine_state=engine_state,
    )


def _jump(history: History, long_s: int) -> Rates | None:
    """The rates of the last 20 s where they are a new load and no burst of the old one; None otherwise.

    A minute's window has seen a third of a jump after 20 s, and orders all of it only after 60. 10 requests/s with an
    index of dispersion of 20 scatter by sqrt(20 x 10 / 20) = 3.2 a second over 20 s: above 23 it is no chance, and from
    30 on, three times as many, it counts. A service younger than three such windows has no load to compare with.
    """
    if history.seconds < 3 * JUMP_S:
        return None
    old = float(history.count[-long_s - JUMP_S : -JUMP_S].mean())
    new = float(history.count[-JUMP_S:].mean())
    if new < JUMP_TIMES * old:
        return None
    before = History(history.start, history.told[:, :-JUMP_S])
    scatter = math.sqrt(history_dispersion(before) * old / JUMP_S)
    return rates(history, JUMP_S) if new - old > JUMP_SIGMAS * scatter else None


def prefill_load(  # noqa: PLR0917 - a pure sum of its inputs
    found: Demand, pool: Observed, memory: Memory, model: CapacityModel, limits: Limits, lead_s: float,
    gateway_requests: float, miss_share: float, *, decode_bound: bool,
) -> PrefillLoad:  # fmt: skip
    """Offered prefill work. Work held up by decode is not prefill's: `decode_bound` leaves the backlog out."""
    objective, shape = limits.objective, found.shape
    disaggregated = pool.role is Role.PREFILL
    reactive = work_rate(found.short, model) * found.unseen_factor
    steady = max(reactive, work_rate(found.long, model) * found.unseen_factor)
    tight = shape.prompt_tokens
    if objective.ttft_per_1k_prompt_s > 0.0:
        tight = tight_prompt_tokens(memory.prompts, shape.prompt_tokens)
    part = tight / max(shape.prompt_tokens, 1.0)  # cached tokens and context in proportion to the mean request's
    budget_s = ttft_budget_s(objective, model, tight, disaggregated=disaggregated)
    queued = pool.queued_tokens + gateway_requests * shape.request_tokens
    backlog_s = 0.0 if decode_bound else queued * model.token_price_s(shape.mean_context)
    late_last = limits.late_last and found.engine_state  # a stock engine knows one order
    repeated = miss_share * min(REPEATED_S / lead_s, 1.0) if late_last else miss_share
    bursts, window = envelope(memory.history, model, budget_s, repeated, late_last=late_last)
    ready = float(len(pool.serving))
    # What waits at an engine stays there: new requests go to the free ones, what is too much for them joins the queues.
    price_s = model.token_price_s(shape.mean_context)
    blocked = 0.0 if decode_bound else float(sum(queue * price_s > budget_s for queue in pool.queues))
    free = ready - blocked + len(pool.starting)  # these are there before one that is ordered now
    later_s = backlog_s + (max(reactive - free, 0.0) - blocked) * lead_s
    return PrefillLoad(
        work=steady * found.outlook.trend,
        error=found.outlook.error,
        reactive=reactive,
        envelope=bursts * found.unseen_factor,
        envelope_window_s=window,
        budget_s=budget_s,
        alone_s=model.alone_s(shape.request_tokens, shape.mean_context),
        tight_alone_s=model.alone_s(part * shape.request_tokens, part * shape.mean_context),
        variation=found.dispersion + shape.size_variation,
        backlog_s=backlog_s,
        backlog_later_s=max(later_s, 0.0),
        blocked=blocked,
        lead_s=lead_s,
        late_last=late_last,
        growth_known=found.outlook.tried,
    )


def decode_load(found: Demand, pool: Observed, memory: Memory, model: CapacityModel, miss_share: float) -> DecodeLoad:
    """Offered decode work from arrivals and learned lengths, and what the pool usually holds.

    A decode engine reserves RESERVED_TOKENS for each request and takes its place before the prompt is computed.
    """
    split = pool.role is Role.DECODE
    reserved = RESERVED_TOKENS if split else 0.0
    rate = _larger(found.short, found.long)
    factor = found.unseen_factor * found.outlook.trend
    shape = found.shape
    held_kv, waiting_kv = pool.held_kv, pool.waiting_kv(shape.prompt_tokens)
    answer = rate.output / rate.count if rate.count > 0 else ANSWER_TOKENS
    square = sum(memory.lengths.square) / len(memory.lengths.square)
    life_tokens = max(square / max(answer, 1.0), answer, 1.0)
    # Long prompts hold more for longer: the mean over tokens, not over requests.
    weighted = shape.request_tokens * (1.0 + shape.size_variation)
    enters_s = model.alone_s(weighted, shape.mean_context) + model.transfer_s(weighted)
    return DecodeLoad(
        output=rate.output * factor,
        kv=rate.kv * factor,
        kv_sq=rate.kv_sq * factor,
        reserved=reserved,
        rate=rate.count * factor,
        dispersion=found.dispersion,
        error=found.outlook.error,
        # The KV-weighted life: E[o^2] / E[o], twice the mean for an exponential law, the mean for a fixed length.
        residence_tokens=life_tokens,
        resident_kv=usual_kv(memory.role(pool.role), held_kv + waiting_kv, miss_share) * found.outlook.trend,
        held_kv=held_kv,
        entering_kv=rate.prompt * factor * enters_s if split else 0.0,
        running=pool.running + pool.prealloc_requests,
        prompt=rate.prompt * factor,
    )


def stock_decode_load(found: Demand, pool: Observed, memory: Memory, miss_share: float) -> DecodeLoad:
    """Offered decode work where no engine reports lengths: what is running now, at the present step time."""
    step_s = pool.step_s
    output = pool.running / step_s * found.outlook.trend
    kv = pool.kv_tokens / step_s * found.outlook.trend
    each = pool.kv_tokens / max(pool.running, 1.0)
    reserved = RESERVED_TOKENS if pool.role is Role.DECODE else 0.0
    held_kv, waiting_kv = pool.held_kv, pool.waiting_kv(found.shape.prompt_tokens)
    return DecodeLoad(
        output=output,
        kv=kv,
        kv_sq=kv * each * KV_SPREAD,
        reserved=reserved,
        rate=output / ANSWER_TOKENS,
        dispersion=1.0,
        error=found.outlook.error,
        residence_tokens=2.0 * ANSWER_TOKENS,
        resident_kv=usual_kv(memory.role(pool.role), held_kv + waiting_kv, miss_share) * found.outlook.trend,
        held_kv=held_kv,
        entering_kv=0.0,
        running=pool.running,
        prompt=found.short.prompt * found.unseen_factor,
    )


def usual_kv(memory: RoleMemory, now_kv: float, miss_share: float) -> float:
    """KV tokens that the look-back held at the quantile, what waited for a place included: the envelope of decode.

    It counts what no model of arrivals does: places taken while prompts are still computed, and their bursts. With
    fewer samples than a quantile needs, the newest one.
    """
    values = sorted([value for _, value in memory.held])
    if len(values) < HELD_NEEDED:
        return memory.held[-1][1] if memory.held else now_kv
    return values[min(math.ceil((1.0 - miss_share) * len(values)) - 1, len(values) - 1)]


def shed_hint(load: PrefillLoad, ready: float, objective: Objective) -> bool:
    """Whether waiting is hopeless: beyond three times the objective now, and still when all that starts has started."""
    worst_s = 3.0 * objective.ttft_s
    return ready > 0 and min(load.backlog_s, load.backlog_later_s) / ready > worst_s


def _larger(short: Rates, long: Rates) -> Rates:
    """The window with the higher decode work; the rest of its columns go with it."""
    return short if short.kv >= long.kv else replace(long, count=max(long.count, short.count))
