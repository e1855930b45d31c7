"""What a tick teaches: start-up times, arrivals, answer lengths, step times."""

import math
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import replace
from operator import itemgetter

import numpy as np

from headrace.api.roles import Role
from headrace.autoscaler.calibration import DecodeInterval, PrefillInterval, calibrate
from headrace.autoscaler.capacity import CapacityModel
from headrace.autoscaler.demand import gather, reckon
from headrace.autoscaler.feedback import learn as learn_feedback
from headrace.autoscaler.feedback import outcome
from headrace.autoscaler.forecast import observe as observe_forecast
from headrace.autoscaler.freshness import Freshness, freshness
from headrace.autoscaler.history import Rates, Rows, extend, rates
from headrace.autoscaler.lengths import (
    FINISHED_LEAST,
    FINISHED_MOST,
    REFRESH_S,
    SETTLED,
    STREAMS_LEAST,
    STREAMS_MOST,
    LengthLaw,
    lives_of,
)
from headrace.autoscaler.lengths import learn as learn_lengths
from headrace.autoscaler.limits import Limits
from headrace.autoscaler.memory import STARTS_KEPT, Feedback, Memory, PodMemory, RoleMemory, startup_s
from headrace.autoscaler.observe import Observed, decode_interval, is_decode_bound, prefill_interval, remember
from headrace.autoscaler.prompts import learn as learn_prompts
from headrace.autoscaler.reprice import reprice
from headrace.autoscaler.signals import PodPhase, PodSample, Signals

LEAST_STEP_S = 1e-4  # no engine decodes faster than 10,000 steps/s; keeps a division sane
HELD_KEPT = 300  # samples of the KV held: the longest look-back at a tick a second
LEAST_START_S = 1.0  # a pod that was Ready the moment it was made was adopted, not started
ENTRANCES = (Role.PREFILL, Role.WORKER)  # where requests are counted as they come in
EXITS = (Role.DECODE, Role.WORKER)  # where answers end


def learn(  # noqa: PLR0917 - what a tick teaches comes from all of a tick
    signals: Signals, pools: Mapping[Role, Observed], model: CapacityModel, limits: Limits, memory: Memory, now: float
) -> tuple[Memory, CapacityModel]:
    """Memory and model after the new samples. Pods that are gone are forgotten."""
    live = [pod for pod in signals.pods if pod.role in pools]
    fresh = [pod for pod in live if pod.phase is not PodPhase.STARTING and _is_fresh(pod, limits, now)]
    entrances = [pod for pod in fresh if pod.role in ENTRANCES]
    step_s = max((pool.step_s for role, pool in pools.items() if role in EXITS), default=LEAST_STEP_S)
    lengths = _lengths([pod for pod in fresh if pod.role in EXITS], memory.lengths, step_s, now)
    past = reprice(memory.history, memory.prompts, memory.lengths, lengths)
    rows, prompts, until, front = gather(entrances, memory.pods, lengths)
    stock_rows, stock_front = reckon(entrances, memory.pods)
    longest = max(limits.lookback_s(startup_s(memory.role(role), limits.startup_prior_s)) for role in pools)
    history = extend(past, _merge(rows, stock_rows), front if front is not None else stock_front, longest)
    shape = rates(history, longest)
    horizon_s = limits.tick_s + max(startup_s(memory.role(role), limits.startup_prior_s) for role in pools)
    forecast = observe_forecast(memory.forecast, history, horizon_s, 1.0 - 2.0 * limits.objective.miss_share)
    decode, prefill = _intervals(fresh, memory.pods, shape)
    parked = _parked(pools, shape, limits)
    roles = {
        role: _hold(
            _starts(memory.role(role), live, role, memory.pods), pool, shape.prompt_tokens, parked, now - longest, now
        )
        for role, pool in pools.items()
    }
    none = PodMemory()
    olds = ((pod, memory.pods.get(pod.pod, none)) for pod in live)
    pods = {pod.pod: remember(pod, old, until.get(pod.pod, old.arrivals_until)) for pod, old in olds}
    memory = replace(
        memory,
        feedback=_feedback(fresh, pools, model, limits, memory, now),
        pods=pods,
        roles=roles,
        history=history,
        lengths=lengths,
        prompts=learn_prompts(memory.prompts, prompts, now - memory.at, longest),
        forecast=forecast,
    )
    return memory, calibrate(model, decode, prefill)


def _feedback(  # noqa: PLR0917 - what clients got, who served them, and what they may get
    fresh: list[PodSample], pools: Mapping[Role, Observed], model: CapacityModel,
    limits: Limits, memory: Memory, now: float,
) -> Feedback:  # fmt: skip
    """What the clients of the answers since the last tick got."""
    exits = [pod for pod in fresh if pod.role in EXITS]
    found = outcome(exits, memory.pods, limits.objective, lambda tokens: model.alone_s(tokens, tokens / 2.0))
    may = limits.miss_shares({role: pool.current for role, pool in pools.items()})
    elapsed_s = now - memory.at if memory.at else 0.0
    return learn_feedback(memory.feedback, found, may, elapsed_s, decode_bound=is_decode_bound(pools))


def _is_fresh(pod: PodSample, limits: Limits, now: float) -> bool:
    return freshness(pod, now, limits) is Freshness.FRESH


def _merge(rows: Rows, stock_rows: Rows) -> Rows:
    """A fleet may run both kinds of engine for a while: seconds of both add up."""
    for second, row in stock_rows.items():
        known = rows.get(second)
        rows[second] = row if known is None else [a + b for a, b in zip(known, row, strict=True)]
    return rows


def _starts(memory: RoleMemory, pods: list[PodSample], role: Role, known: Mapping[str, PodMemory]) -> RoleMemory:
    """Start-up times of pods that became Ready since the last tick, newest last."""
    found = [
        pod.ready_at - pod.created_at
        for pod in pods
        if pod.role is role
        and pod.ready_at is not None
        and not (pod.pod in known and known[pod.pod].start_counted)
        and pod.ready_at - pod.created_at >= LEAST_START_S
    ]
    return replace(memory, starts_s=(*memory.starts_s, *found)[-STARTS_KEPT:]) if found else memory


def _intervals(
    fresh: list[PodSample], known: Mapping[str, PodMemory], shape: Rates
) -> tuple[list[DecodeInterval], list[PrefillInterval]]:
    """What the engines did since their last reads."""
    decode = [found for pod in fresh if (found := decode_interval(pod, known.get(pod.pod))) is not None]
    tokens, context = shape.request_tokens, shape.mean_context
    entrances = [pod for pod in fresh if pod.role in ENTRANCES]
    prefill = [
        part for pod in entrances if (part := prefill_interval(pod, known.get(pod.pod), tokens, context)) is not None
    ]
    return decode, prefill


def _parked(pools: Mapping[Role, Observed], shape: Rates, limits: Limits) -> float:
    """KV tokens that decode holds for prompts which prefill is too slow for: prefill's shortage, not decode's.

    A place is taken before the prompt is computed. 40 requests have one and do not run yet; at 10 a second and an
    objective of 2 s 20 of them are on their way: the KV of the other 20 is parked.
    """
    exit_ = pools.get(Role.DECODE)
    if exit_ is None or shape.count <= 0.0:  # no arrivals were seen yet: what holds a place is not told from what parks
        return 0.0
    placed = exit_.prealloc_requests - exit_.waiting_places
    on_their_way = shape.count * limits.objective.ttft_for(shape.prompt_tokens)
    return max(placed - on_their_way, 0.0) * shape.prompt_tokens


def _hold(  # noqa: PLR0917 - one sample with its time and what to leave out of it
    memory: RoleMemory, pool: Observed, prompt_tokens: float, parked: float, since: float, now: float
) -> RoleMemory:
    """The KV that a pool of decode holds now, added to the look-back. If nothing of it was read, nothing is added."""
    if pool.kv_capacity_tokens is None or pool.role not in EXITS:
        return memory
    kept = memory.held[bisect_right(memory.held, since, key=itemgetter(0)) :][-HELD_KEPT:]
    held = max(pool.held_kv - parked, 0.0) if pool.role is Role.DECODE else pool.held_kv
    return replace(memory, held=(*kept, (now, held + pool.waiting_kv(prompt_tokens))))


def _lengths(pods: list[PodSample], law: LengthLaw, step_s: float, now: float) -> LengthLaw:
    """The law of answer lengths, refreshed every half minute. Running streams are sampled to a bounded number."""
    if law.seen >= SETTLED and now - law.at < REFRESH_S:
        return law
    states = [pod.state for pod in pods if pod.state is not None]
    total = float(sum(state.finished_total for state in states))
    answers = max(FINISHED_MOST // max(len(states), 1), FINISHED_LEAST)
    streams = max(STREAMS_MOST // max(len(states), 1), STREAMS_LEAST)
    rate = (total - law.finished_total) / (now - law.at) / max(len(states), 1) if law.at else 0.0
    lives = []
    for state in states:
        finished = state.finished[-answers:]
        sample = state.running[:: max(len(state.running) // streams, 1)]
        window_tokens = len(finished) / rate / step_s if rate > 0.0 else math.inf
        lives.append(lives_of(finished, sample, window_tokens, float(state.running_total)))
    return learn_lengths(np.hstack(lives), now, total, law) if lives else law
