"""How many replicas each constraint asks for by itself: closed forms, in tokens and token-seconds."""

import math
from dataclasses import dataclass, replace

from headrace.autoscaler.capacity import CapacityModel
from headrace.autoscaler.decision import Constraint, Need
from headrace.autoscaler.limits import Objective
from headrace.autoscaler.quantiles import gamma_quantile, normal_z

BUSY_SHARE = 0.25  # of a start-up that a backlog must outlast it by for every busy replica to be made up for
USABLE_KV = 0.85  # of an aggregated engine; the rest is for requests being allocated and for running ones to grow
USABLE_KV_SPLIT = 0.95  # of a decode engine, where that room is counted request by request (RESERVED_TOKENS)
STEP_MARGIN = 0.9  # of the TPOT objective: the mean step may not sit on the edge
LINK_SHARE = 0.7  # of the link's peak that transfers reach
LEAST_BUDGET_SHARE = 0.25  # of the TTFT objective is always granted to queueing, else no number of replicas helps
FIXED_POINT_ROUNDS = 4  # the answer moves by less than 1 % after three
ERROR_Z = 1.28  # the forecast's error is its 90 % quantile: as many standard deviations of a normal law
BISECTIONS = 6  # of an interval of at most a factor of ten: 4 % left, on the safe side
LEAST_NEED = 0.05  # replicas: keeps divisions sane on an idle pool
EDGE_REPLICAS = 1e-3  # so few that steps always sit at the limit: the edge of saturation
LEAST_SPARE = 0.1  # of the step limit: an objective below the base step time cannot be met by any number


@dataclass(frozen=True, slots=True)
class PrefillLoad:
    """Offered prefill work in replica-seconds per second, and what its bursts look like."""

    work: float  # at the lead time: forecast, never below the reactive rate
    error: float  # the share by which that may be too low
    reactive: float  # now
    envelope: float  # replicas that past bursts needed
    envelope_window_s: int
    budget_s: float  # of the TTFT objective left for waiting and computing
    alone_s: float  # the mean request's own prefill
    tight_alone_s: float  # that of the request whose budget it is
    variation: float  # dispersion of counts + squared variation of sizes
    backlog_s: float  # queued work, replica-seconds
    backlog_later_s: float  # at the lead time, if the serving replicas go on alone
    blocked: float  # replicas with a queue longer than the budget
    lead_s: float
    late_last: bool = False  # engines take requests that are late already after all others
    growth_known: bool = False  # by the forecast's error: until then the margin for chance covers it too


@dataclass(frozen=True, slots=True)
class DecodePool:
    """What one replica of the decode side holds: KV tokens and running requests."""

    kv_capacity_tokens: float
    slots: float
    usable: float = USABLE_KV  # share of the KV tokens that may be held at the quantile

    @property
    def room(self) -> float:
        """KV tokens of one replica that may be held."""
        return self.usable * self.kv_capacity_tokens


@dataclass(frozen=True, slots=True)
class DecodeLoad:
    """Offered decode work per second at the lead time, and what is resident now."""

    output: float  # tokens per second
    kv: float  # KV tokens held, summed over output tokens, per second: x seconds per token = resident tokens
    kv_sq: float
    reserved: float  # KV tokens kept free for each running request: held, but not read by a step
    rate: float  # requests per second
    dispersion: float
    error: float  # the share by which the rates may be too low at the lead time
    residence_tokens: float  # KV-weighted life of a request, in output tokens
    resident_kv: float  # what the pool held at the quantile of the look-back, with what waited for a place
    held_kv: float  # now
    entering_kv: float  # prompt tokens allocated while their prefill and transfer still run
    running: float  # now, with what waits for a place
    prompt: float  # prompt tokens per second, for the link


def ttft_budget_s(objective: Objective, model: CapacityModel, prompt_tokens: float, *, disaggregated: bool) -> float:
    """The TTFT objective less the KV transfer and the first decode step."""
    ttft_s = objective.ttft_for(prompt_tokens)
    beside_s = model.transfer_s(prompt_tokens) if disaggregated else 0.0
    return max(ttft_s - beside_s - model.steps.decode_base_s, LEAST_BUDGET_SHARE * ttft_s)


def prefill_needs(load: PrefillLoad, miss_share: float, factor: float, headroom: float) -> tuple[Need, ...]:
    """Needs of prefill: bursts, rate with a margin, backlog. `factor`: the model's own uncertainty (1.0 or 1.2)."""
    scale = factor * headroom
    # The forecast's error is another, independent margin: the two add like standard deviations.
    margin = math.hypot(min(spare(load, miss_share), 2.0 * math.sqrt(load.work) + 1.0), load.work * load.error)
    # A replica ordered now helps from the lead time on, and only those requests that do not wait elsewhere already:
    # the busy ones have to be made up for, as long as that takes a good part of a start.
    busy = min(load.blocked, load.backlog_later_s / max(load.budget_s, BUSY_SHARE * load.lead_s))
    backlog = load.reactive + busy if busy > 0.0 else 0.0
    return (
        Need(
            Constraint.PREFILL_ENVELOPE,
            load.envelope * scale,
            f"bursts of {load.envelope_window_s} s ask for {load.envelope:.2f} replicas "
            f"within {load.budget_s:.2f} s x {scale:.2f}",
        ),
        Need(
            Constraint.PREFILL_RATE,
            load.work * scale + margin,  # the margin is for chance, not for the model: an idle pool needs no second one
            f"{load.work:.2f} replicas of work at +{load.lead_s:.0f} s x {scale:.2f}, margin {margin:.2f}",
        ),
        Need(
            Constraint.PREFILL_BACKLOG,
            backlog * scale,
            f"{busy:.1f} replicas still busy with {load.backlog_later_s:.1f} s of queued work at +{load.lead_s:.0f} s, "
            f"beside {load.reactive:.2f} x {scale:.2f}"
            if busy > 0.0
            else f"{load.backlog_s:.1f} s of queued work, gone before a replica could start",
        ),
    )


def spare(load: PrefillLoad, miss_share: float) -> float:
    """Replicas beyond the work, so that at most `miss_share` of the requests wait beyond the budget.

    In order of arrival P(wait > budget) = exp(-m / a) with a = alone x variation / (2 budget), so m = a ln(1 / share).
    With late ones last only what does not fit is late, which is the loss of a queue with room for the budget:
    (1 - rho) / (exp(m / a) - 1) (Brownian motion between two barriers; Harrison, 1985, chapter 5).
    10 replicas of work, a = 0.5, 4 %: 1.6 in order of arrival, 0.2 with late ones last. That little leaves nothing for
    a load that grows, so it holds once the forecast's error says how much that is.
    """
    each = load.alone_s * load.variation / (2.0 * load.budget_s)
    most = each * math.log(1.0 / miss_share)
    if not (load.late_last and load.growth_known) or most <= 0.0:
        return most
    if each <= miss_share * load.work:  # even without any
        return 0.0
    low, high = 0.0, most
    for _ in range(BISECTIONS):
        middle = (low + high) / 2.0
        lost = middle / (load.work + middle) / math.expm1(middle / each)
        low, high = (middle, high) if lost > miss_share else (low, middle)
    return high


@dataclass(frozen=True, slots=True)
class Resident:
    """What a pool of n replicas holds: seconds per token, requests and KV tokens, mean and quantile, pool-wide."""

    tpot_s: float
    running: float
    held_kv: float
    running_q: float
    held_kv_q: float


def resident(
    load: DecodeLoad, model: CapacityModel, n: float, *, prefill_work: float, z: float, cap_s: float
) -> Resident:
    """The self-consistent occupancy of n replicas (Little): slower steps hold more, and more makes slower steps.

    t = fixed + (d1 N + d2 K) / n with N = output x t and K = kv x t gives t = fixed / (1 - (d1 output + d2 kv) / n).
    `prefill_work` is the time share that prefill takes from decode in an aggregated pool. `cap_s` bounds t.
    """
    steps = model.steps
    slope = (steps.decode_sequence_s * load.output + steps.decode_kv_token_s * load.kv) / n
    free = 1.0 - min(prefill_work / n, 0.95) - slope
    tpot_s = cap_s
    if free > 0.0:
        tpot_s = min(steps.decode_fixed_s(1.0) / free, cap_s)
        for _ in range(FIXED_POINT_ROUNDS if steps.decode_experts_s else 1):
            tpot_s = min(steps.decode_fixed_s(max(load.output * tpot_s / n, 1.0)) / free, cap_s)
    running = load.output * tpot_s
    held_kv = load.kv * tpot_s + load.reserved * running + load.entering_kv
    extra = max(load.dispersion - 1.0, 0.0)
    life_s = max(load.residence_tokens * tpot_s, 1e-9)
    # Variance of M/G/inf plus that of over-dispersed arrivals, the integral of g^2 taken as (integral of g)^2 / life.
    # Gateways even out the counts between replicas, but a long prompt fills the one replica it lands on: the part that
    # comes from sizes is not pooled, so that n replicas need what n separate ones need.
    running_var = running + extra * running**2 / (max(load.rate, 1e-9) * life_s)
    size = load.kv * tpot_s / running if running > 0.0 else 0.0
    size_var = max(load.kv_sq * tpot_s - running * size * size, 0.0)
    # The error is a quantile that was seen, capped, no law with a tail: beyond its own quantile it adds itself once.
    running_var += (running * load.error / max(z, ERROR_Z)) ** 2
    kv_var = running_var * (size + load.reserved) ** 2 + max(n, 1.0) * size_var
    return Resident(
        tpot_s, running, held_kv, gamma_quantile(running, running_var, z), gamma_quantile(held_kv, kv_var, z)
    )


def held_need(
    load: DecodeLoad, model: CapacityModel, pool: DecodePool, *,
    limit_s: float, ttft_s: float, prefill_work: float, z: float,
) -> tuple[float, float]:  # fmt: skip
    """Least n whose KV quantile fits, n = K_q(n) / room, and the n that has a place for its running requests.

    More replicas take shorter steps and hold less, so K_q falls with n and the least n lies between what is resident
    now and what a pool of that size would hold: bisection. What was resident counts up to what a pool holds that just
    meets both objectives: more is a backlog, parked while prefill or decode was short, and no measure of the load.
    """

    def asked(n: float) -> tuple[float, float]:
        held = resident(load, model, n, prefill_work=prefill_work, z=z, cap_s=limit_s)
        return held.held_kv_q / pool.room, held.running_q / pool.slots

    just_met = replace(load, entering_kv=max(load.entering_kv, load.prompt * ttft_s if load.entering_kv else 0.0))
    edge = resident(just_met, model, EDGE_REPLICAS, prefill_work=0.0, z=z, cap_s=limit_s)
    least_kv = max(min(load.resident_kv, edge.held_kv_q) / pool.room, LEAST_NEED)
    low = max(least_kv, prefill_work)
    high, slots = asked(low)
    if high > low:
        for _ in range(BISECTIONS):
            middle = math.sqrt(low * high)
            kv, slots = asked(middle)
            low, high = (middle, high) if kv > middle else (low, middle)
        least_kv = high
    places = min(load.running, edge.running_q + load.rate * ttft_s)  # what parks for prefill beyond that is prefill's
    return least_kv, max(slots, places / pool.slots, LEAST_NEED)


def step_need(load: DecodeLoad, model: CapacityModel, *, limit_s: float, prefill_work: float, z: float) -> float:
    """Least n at which a step takes at most `limit_s`: n = (N_q (d1 + d2 k) + limit R) / (limit - fixed).

    At the limit every request lives `limit` per token, so N is that of a pool on the edge; k: the mean KV of a request.
    Llama-8B on H100, 45 ms: N 400, k 2,000: (4.6 + 34.2) / (45 - 6.4) = 1.0 replica. R: prefill work of a worker.
    """
    edge = resident(load, model, EDGE_REPLICAS, prefill_work=0.0, z=z, cap_s=limit_s)
    steps = model.steps
    each_s = steps.decode_sequence_s + steps.decode_kv_token_s * load.kv / max(load.output, 1e-9)
    work = each_s * edge.running_q
    n = max(prefill_work, LEAST_NEED)
    for _ in range(FIXED_POINT_ROUNDS if steps.decode_experts_s else 1):
        spare_s = max(limit_s - steps.decode_fixed_s(max(edge.running_q / n, 1.0)), LEAST_SPARE * limit_s)
        n = max((work + limit_s * prefill_work) / spare_s, LEAST_NEED)
    return n


def decode_needs(
    load: DecodeLoad, model: CapacityModel, pool: DecodePool, objective: Objective, miss_share: float, *,
    prefill_work: float, scale: float,
) -> tuple[Need, ...]:  # fmt: skip
    """Needs of decode (or of an aggregated pool's decode half): KV, step time, link."""
    z = normal_z(1.0 - miss_share)
    limit_s = STEP_MARGIN * objective.tpot_s
    ttft_s = objective.ttft_for(load.prompt / max(load.rate, 1e-9))
    by_kv, by_slots = held_need(load, model, pool, limit_s=limit_s, ttft_s=ttft_s, prefill_work=prefill_work, z=z)
    by_step = step_need(load, model, limit_s=limit_s, prefill_work=prefill_work, z=z)
    link = load.prompt * model.kv_bytes_per_token / (LINK_SHARE * model.link_bytes_per_s)
    room = pool.room
    step_detail = f"{load.output:,.0f} tokens/s at {limit_s * 1e3:.1f} ms a step"
    slots_detail = f"{by_slots * pool.slots:,.0f} running requests over {pool.slots:,.0f} places a replica"
    return (
        Need(
            Constraint.DECODE_KV,
            by_kv * scale,
            f"{by_kv * room:,.0f} KV tokens at the quantile, {load.held_kv:,.0f} now, "
            f"over {room:,.0f} a replica x {scale:.2f}",
        ),
        Need(
            Constraint.DECODE_STEP,
            max(by_step, by_slots) * scale,
            f"{step_detail if by_step >= by_slots else slots_detail} x {scale:.2f}",
        ),
        Need(
            Constraint.KV_LINK,
            link,
            f"{load.prompt * model.kv_bytes_per_token / 1e9:.2f} GB/s over {model.link_bytes_per_s / 1e9:.0f} GB/s",
        ),
    )


def ttft_attainment(load: PrefillLoad, n: int) -> float | None:
    """Expected share of requests within the TTFT objective with n replicas (Kingman with an exponential tail).

    With late ones last, the loss of a queue with room for the budget, as in `spare`.
    """
    if n <= 0:
        return None
    if load.tight_alone_s > load.budget_s:
        return 0.0
    rho = load.work / n
    if rho >= 1.0:
        return 1.0 / rho if load.late_last else 0.0
    wait = math.pow(rho, math.sqrt(2.0 * (n + 1)) - 1.0)
    theta_s = load.alone_s * load.variation / (2.0 * n * (1.0 - rho))
    if theta_s <= 0.0:
        return 1.0
    late = math.exp(-(load.budget_s - load.tight_alone_s) / theta_s)
    if load.late_last and late < 1.0:
        late *= (1.0 - rho) / (1.0 - late)
    return 1.0 - min(1.0, wait * late)
