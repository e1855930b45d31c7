"""The needs of every role of a service, and what other replica counts would give."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from headrace.api.roles import Role
from headrace.autoscaler.capacity import CapacityModel
from headrace.autoscaler.decision import Need, WhatIf
from headrace.autoscaler.guards import keep_share
from headrace.autoscaler.limits import Limits, MissShares
from headrace.autoscaler.loads import (
    Demand,
    decode_load,
    demand,
    prefill_load,
    shed_hint,
    stock_decode_load,
)
from headrace.autoscaler.memory import Feedback, Memory, startup_s
from headrace.autoscaler.needs import (
    STEP_MARGIN,
    USABLE_KV,
    USABLE_KV_SPLIT,
    DecodeLoad,
    DecodePool,
    PrefillLoad,
    decode_needs,
    prefill_needs,
    resident,
    ttft_attainment,
)
from headrace.autoscaler.observe import Observed, is_decode_bound
from headrace.autoscaler.quantiles import normal_z
from headrace.autoscaler.signals import Signals


@dataclass(frozen=True, slots=True)
class Sizing:
    """Needs per role, the figures behind them, and the loads for the what-if table."""

    needs: Mapping[Role, tuple[Need, ...]]
    inputs: Mapping[str, Any]
    shed: bool
    model: CapacityModel
    limits: Limits
    miss_shares: MissShares
    prefill: PrefillLoad | None = None
    decode: DecodeLoad | None = None
    pools: Mapping[Role, DecodePool] = field(default_factory=dict)

    def what_if(self, role: Role, n: int) -> WhatIf:
        """What `n` replicas of a role would give under the same load."""
        gpus = n * self.limits.roles[role].gpus
        attainment = tpot_s = kv_share = None
        work = 0.0
        if self.prefill is not None and role is not Role.DECODE:
            attainment = ttft_attainment(self.prefill, n)
            work = self.prefill.work if role is Role.WORKER else 0.0
        if self.decode is not None and role is not Role.PREFILL:
            z = normal_z(1.0 - self.miss_shares.decode)
            held = resident(
                self.decode, self.model, float(n), prefill_work=work, z=z, cap_s=10.0 * self.limits.objective.tpot_s
            )
            tpot_s, kv_share = held.tpot_s, held.held_kv_q / (n * self.pools[role].kv_capacity_tokens)
        return WhatIf(n, attainment, tpot_s, kv_share, gpus)

    def holds(self, role: Role, n: int, current: int) -> bool:
        """Whether `n` replicas would carry today's load with room to spare: the counterfactual before a scale-down.

        Fewer replicas take longer steps, so what is resident grows with them: load x N / (N - 1), and the KV with it.
        """
        objective, seen = self.limits.objective, self.what_if(role, n)
        if seen.ttft_attainment is not None and seen.ttft_attainment < 1.0 - self.miss_shares.prefill:
            return False
        if seen.tpot_s is None or seen.kv_share is None or self.decode is None:
            return True
        now = self.what_if(role, current)
        slower = seen.tpot_s / now.tpot_s if now.tpot_s else 1.0
        pool = self.pools[role]
        share = max(seen.kv_share, self.decode.held_kv * slower / (n * pool.kv_capacity_tokens))
        return seen.tpot_s <= STEP_MARGIN * objective.tpot_s and share <= keep_share(n) * pool.usable


def size(
    signals: Signals, pools: Mapping[Role, Observed], model: CapacityModel, limits: Limits, memory: Memory
) -> Sizing:
    """Needs of all roles from one demand, so that prefill and decode are sized for the same future."""
    entrance = pools.get(Role.PREFILL) or pools.get(Role.WORKER)
    exit_ = pools.get(Role.DECODE) or pools.get(Role.WORKER)
    delay_s = limits.tick_s + _age_s(signals, limits)
    leads = {role: startup_s(memory.role(role), limits.startup_prior_s) + delay_s for role in pools}
    found = demand(
        memory,
        now=signals.at,
        unseen_factor=_unseen_factor(entrance),
        engine_state=any(pod.state is not None for pool in pools.values() for pod in pool.serving),
        lookback_s=limits.lookback_s(max(leads.values())),
    )
    may = limits.miss_shares({role: pool.current for role, pool in pools.items()})
    load_p = load_d = None
    needs: dict[Role, tuple[Need, ...]] = dict.fromkeys(pools, ())
    if entrance is not None:
        waiting = float(signals.gateway.queued_requests) if signals.gateway else 0.0
        bound, lead_s = is_decode_bound(pools), leads[entrance.role]
        load_p = prefill_load(
            found, entrance, memory, model, limits, lead_s, waiting, may.prefill, decode_bound=bound
        )  # fmt: skip
        factor = model.headroom(model.prefill_valid) * math.exp(memory.feedback.prefill)
        needs[entrance.role] = prefill_needs(load_p, may.prefill, factor, limits.headroom)
    if exit_ is not None:
        work = load_p.work if load_p is not None and exit_.role is Role.WORKER else 0.0
        load_d, found_d = _decode(found, exit_, memory, model, limits, may.decode, work)
        needs[exit_.role] += found_d
    return Sizing(
        needs=needs,
        inputs=_inputs(found, load_p, load_d, pools, model, leads, memory.feedback),
        shed=load_p is not None and entrance is not None and shed_hint(load_p, len(entrance.serving), limits.objective),
        model=model,
        limits=limits,
        miss_shares=may,
        prefill=load_p,
        decode=load_d,
        pools={role: _pool(pool, model, memory) for role, pool in pools.items()},
    )


def _decode(  # noqa: PLR0917 - a pure sum of its inputs
    found: Demand, pool: Observed, memory: Memory, model: CapacityModel, limits: Limits, may_miss: float, work: float
) -> tuple[DecodeLoad, tuple[Need, ...]]:
    # What the look-back held is over time, and is most when prefill was late: taken at the whole miss share.
    load = _decode_load(found, pool, memory, model, limits.objective.miss_share)
    scale = model.headroom(model.decode_valid) * limits.headroom
    capacity = _pool(pool, model, memory)

    def needs(load: DecodeLoad, scale: float) -> tuple[Need, ...]:
        return decode_needs(load, model, capacity, limits.objective, may_miss, prefill_work=work, scale=scale)

    # A jump teaches the forecast by how much it came unforeseen, and clients miss what it cost: two margins for one
    # thing, of which the larger holds. Together they were 1.65 x 1.7 after a single jump.
    missed = memory.feedback.decode
    if missed <= 0.0:
        return load, needs(load, scale)
    by_misses = needs(replace(load, error=0.0), scale * math.exp(missed))
    if load.error <= 0.0:
        return load, by_misses
    pairs = zip(needs(load, scale), by_misses, strict=True)
    return load, tuple(max(pair, key=lambda need: need.replicas) for pair in pairs)


def _decode_load(found: Demand, pool: Observed, memory: Memory, model: CapacityModel, miss_share: float) -> DecodeLoad:
    if found.engine_state:
        return decode_load(found, pool, memory, model, miss_share)
    return stock_decode_load(found, pool, memory, miss_share)


def _pool(pool: Observed, model: CapacityModel, memory: Memory) -> DecodePool:
    capacity = pool.kv_capacity_tokens or memory.role(pool.role).kv_capacity_tokens or model.kv_capacity_tokens
    usable = USABLE_KV_SPLIT if pool.role is Role.DECODE else USABLE_KV
    return DecodePool(capacity, pool.max_running or model.max_running, usable)


def _age_s(signals: Signals, limits: Limits) -> float:
    """How old fresh samples are in the mean, in seconds: what is ordered by them comes so much later."""
    ages = [signals.at - pod.sampled_at for pod in signals.pods if pod.sampled_at is not None]
    fresh = [max(age_s, 0.0) for age_s in ages if age_s <= limits.fresh_s]
    return sum(fresh) / len(fresh) if fresh else 0.0


def _unseen_factor(entrance: Observed | None) -> float:
    if entrance is None or not entrance.unseen:
        return 1.0
    seen = len(entrance.queues)
    return (seen + entrance.unseen) / seen if seen else 1.0


def _inputs(  # noqa: PLR0917 - the record shows all that sizing saw
    found: Demand, load_p: PrefillLoad | None, load_d: DecodeLoad | None,
    pools: Mapping[Role, Observed], model: CapacityModel, leads: Mapping[Role, float], feedback: Feedback,
) -> dict[str, Any]:  # fmt: skip
    shape, steps = found.shape, model.steps
    inputs: dict[str, Any] = {
        "arrivals_per_s_1m": found.short.count,
        "arrivals_per_s_5m": found.long.count,
        "prompt_tokens": shape.prompt_tokens,
        "uncached_tokens": shape.request_tokens,
        "output_tokens": shape.output / shape.count if shape.count > 0 else None,
        "trend": found.outlook.trend,
        "forecast_error": found.outlook.error,
        "dispersion": found.dispersion,
        "token_price_s": model.token_price_s(shape.mean_context),
        "decode_base_s": steps.decode_base_s,
        "decode_sequence_s": steps.decode_sequence_s,
        "decode_kv_token_s": steps.decode_kv_token_s,
        "prefill_calibrated": model.prefill_valid,
        "decode_calibrated": model.decode_valid,
        "step_margin": STEP_MARGIN,
        "feedback_prefill": math.exp(feedback.prefill),
        "feedback_decode": math.exp(feedback.decode),
    }
    if feedback.answers > 0.0:
        inputs["ttft_missed_share"] = feedback.ttft_missed / feedback.answers
        inputs["ttft_late_alone_share"] = feedback.late_alone / feedback.answers
        inputs["tpot_missed_share"] = feedback.tpot_missed / feedback.answers
    for role, pool in pools.items():
        inputs[f"{role}_running"] = pool.running
        inputs[f"{role}_kv_tokens"] = pool.kv_tokens
        inputs[f"{role}_queued_tokens"] = pool.queued_tokens
        inputs[f"{role}_lead_s"] = leads[role]
    return inputs | _load_inputs(load_p, load_d)


def _load_inputs(load_p: PrefillLoad | None, load_d: DecodeLoad | None) -> dict[str, Any]:
    inputs: dict[str, Any] = {}
    if load_p is not None:
        inputs |= {
            "prefill_work": load_p.work,
            "ttft_budget_s": load_p.budget_s,
            "backlog_s": load_p.backlog_s,
            "request_alone_s": load_p.alone_s,
            "variation": load_p.variation,
        }
    if load_d is not None:
        inputs |= {
            "decode_tokens_per_s": load_d.output,
            "decode_kv_per_s": load_d.kv,
            "entering_kv_tokens": load_d.entering_kv,
            "held_kv_tokens": load_d.held_kv,
            "resident_kv_tokens": load_d.resident_kv,
            "life_tokens": load_d.residence_tokens,
        }
    return inputs
