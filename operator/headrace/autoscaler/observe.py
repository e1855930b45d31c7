"""One role as the samples show it: counts by phase, load with silent pods imputed, intervals for calibration."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from operator import attrgetter, sub

from headrace.api.roles import Role
from headrace.autoscaler.calibration import DecodeInterval, PrefillInterval
from headrace.autoscaler.capacity import CapacityModel
from headrace.autoscaler.freshness import Freshness, freshness, is_new, median
from headrace.autoscaler.limits import Limits
from headrace.autoscaler.memory import Memory, PodMemory
from headrace.autoscaler.signals import EngineLoad, PodPhase, PodSample, Signals

RESERVED_TOKENS = 512.0  # SGLang's num_reserved_decode_tokens: what a decode engine keeps free for each request
WARM_UP_S = 10.0  # after Ready an engine still compiles and fills caches: its step times would poison the model
LEAST_INTERVAL_S = 1.0  # differences over less are mostly rounding
WAITING_FOR_DECODE = 0.1  # queue for decode places, relative to running streams, that counts as held up there
PREFILL_IDLE = 0.7  # busy share below which prefill itself is not what holds requests up


@dataclass(frozen=True, slots=True)
class Observed:
    """A role now. Token and request figures cover serving and draining pods; silent pods count as the median."""

    role: Role
    serving: tuple[PodSample, ...]
    starting: tuple[PodSample, ...]
    draining: tuple[PodSample, ...]
    unseen: int  # serving pods whose sample is missing; one that has just become Ready is none
    new: int  # serving pods that have just become Ready and were not read yet
    stale: int
    current: int  # replicas that are meant to stay: serving, starting, and ordered but not visible yet
    floor: int
    floor_until: float
    running: float
    kv_tokens: float
    queued_tokens: float  # new prompt tokens accepted and not yet prefilled
    queues: tuple[float, ...]  # the same per serving pod that was read
    waiting_places: float  # requests for which no KV could be allocated yet
    prealloc_requests: float  # these, and those whose KV is still being computed or sent
    inflight_requests: float
    retracted_requests: float
    kv_capacity_tokens: float | None  # of one replica
    max_running: float | None
    step_s: float  # of decode on the mean replica now, by the model
    busy_share: float | None  # of the wall time in prefill steps, mean over pods; None: not known

    @property
    def held_kv(self) -> float:
        """KV tokens taken: a decode engine also keeps a reserve free for every request it runs."""
        return self.kv_tokens + (RESERVED_TOKENS * self.running if self.role is Role.DECODE else 0.0)

    def waiting_kv(self, prompt_tokens: float) -> float:
        """KV tokens of requests that wait for a place, their prompts taken as the mean."""
        return self.waiting_places * (prompt_tokens + RESERVED_TOKENS) if self.role is Role.DECODE else 0.0


def observe(  # noqa: PLR0917 - one role of one tick
    signals: Signals, role: Role, limits: Limits, memory: Memory, model: CapacityModel, now: float
) -> Observed:
    """The role's pods of one Signals value. `memory` is that of the last tick, for the busy share."""
    pods = memory.pods
    serving, starting, draining = _by_phase(signals, role)
    states = [freshness(pod, now, limits) for pod in serving]
    seen = [pod for pod, state in zip(serving, states, strict=True) if state is not Freshness.MISSING]
    loads = [pod.load for pod in seen if pod.load is not None]
    leaving = [
        pod.load for pod in draining if pod.load is not None and freshness(pod, now, limits) is not Freshness.MISSING
    ]
    new = sum(is_new(pod, now, limits) for pod in serving)
    unseen = len(serving) - new - len(loads)
    pool = signals.pools.get(role)
    staying = len(serving) + len(starting)
    # Not the pods that exist: a rollout has some beyond the number, and they are not there to stay.
    ordered = max(pool.desired - len(draining), 0) if pool else staying

    totals = _totals(loads, leaving, unseen)
    queued = [queued_tokens(pod) for pod in seen]
    shares = [share for pod in seen if (share := _busy_share(pod, pods.get(pod.pod))) is not None]
    running, kv_tokens = totals[0], totals[1]
    replicas = float(max(len(serving), 1))
    return Observed(
        role=role,
        serving=serving,
        starting=starting,
        draining=draining,
        unseen=unseen,
        new=new,
        stale=states.count(Freshness.STALE),
        current=ordered,
        floor=pool.floor if pool else 0,
        floor_until=pool.floor_until if pool else 0.0,
        running=running,
        kv_tokens=kv_tokens,
        step_s=model.steps.decode_s(running / replicas, kv_tokens / replicas),
        queued_tokens=sum(queued) + unseen * median(queued),
        queues=tuple(queued),
        waiting_places=totals[2],
        prealloc_requests=totals[2] + totals[3],
        inflight_requests=totals[4],
        retracted_requests=totals[5],
        kv_capacity_tokens=median([float(load.max_total_tokens) for load in loads]) if loads else None,
        max_running=median([float(load.max_running_requests) for load in loads]) if loads else None,
        busy_share=sum(shares) / len(shares) if shares else None,
    )


_FIGURES = attrgetter(
    "running_requests",
    "used_tokens",
    "decode_prealloc_requests",
    "decode_transfer_requests",
    "prefill_inflight_requests",
    "decode_retracted_requests",
)


def _by_phase(signals: Signals, role: Role) -> tuple[tuple[PodSample, ...], ...]:
    mine = [pod for pod in signals.pods if pod.role is role]
    phases = (PodPhase.SERVING, PodPhase.STARTING, PodPhase.DRAINING)
    return tuple(tuple([pod for pod in mine if pod.phase is phase]) for phase in phases)


def _totals(loads: list[EngineLoad], leaving: list[EngineLoad], unseen: int) -> list[float]:
    """Sums of _FIGURES over serving and draining pods; unseen serving pods count as the median of the seen ones."""
    rows = [_FIGURES(load) for load in loads]
    if not rows and not leaving:
        return [0.0] * 6
    sums = [float(sum(column)) for column in zip(*rows, *map(_FIGURES, leaving), strict=True)]
    if unseen and rows:
        middles = [median([float(value) for value in column]) for column in zip(*rows, strict=True)]
        return [known + unseen * middle for known, middle in zip(sums, middles, strict=True)]
    return sums


def queued_tokens(pod: PodSample) -> float:
    """New prompt tokens waiting at a pod: from its state, else from the engine's own gauge, else 0."""
    if pod.state is not None:
        return float(pod.state.queued_tokens)
    if pod.load is not None and pod.load.waiting_uncached_tokens is not None:
        return float(pod.load.waiting_uncached_tokens)
    return 0.0


def _busy_share(pod: PodSample, old: PodMemory | None) -> float | None:
    load = pod.load
    if old is None or load is None or pod.sampled_at is None or old.busy_s is None or load.prefill_busy_s_total is None:
        return None
    wall_s = pod.sampled_at - old.at
    grown_s = load.prefill_busy_s_total - old.busy_s
    return min(grown_s / wall_s, 1.0) if wall_s >= LEAST_INTERVAL_S and grown_s >= 0.0 else None


def decode_interval(pod: PodSample, old: PodMemory | None) -> DecodeInterval | None:
    """Decode steps since the last read; None when there were none, the engine restarted, or it is still warming up."""
    load = pod.load
    if load is None or old is None or not load.decode_moments or not old.moments or not _warm(pod, old):
        return None
    steps, batch, time_us, batch_sq, batch_time_us, *_ = map(sub, load.decode_moments, old.moments)
    if steps <= 0 or batch < steps or time_us <= 0:
        return None
    kv_tokens = (old.used_tokens + load.used_tokens) / 2.0
    return DecodeInterval(steps, batch, time_us / 1e6, batch_sq, batch_time_us / 1e6, kv_tokens)


def prefill_interval(
    pod: PodSample, old: PodMemory | None, request_tokens: float, mean_context: float
) -> PrefillInterval | None:
    """Prefill since the last read; None as for decode."""
    load = pod.load
    if load is None or old is None or pod.sampled_at is None or not _warm(pod, old):
        return None
    if load.prefill_busy_s_total is None or load.prefill_uncached_tokens_total is None:
        return None
    if old.busy_s is None or old.uncached_tokens is None:
        return None
    busy_s = load.prefill_busy_s_total - old.busy_s
    tokens = load.prefill_uncached_tokens_total - old.uncached_tokens
    wall_s = pod.sampled_at - old.at
    if busy_s <= 0 or tokens <= 0 or wall_s < LEAST_INTERVAL_S:
        return None
    queued = (old.waiting_tokens or 0.0) > 0 and queued_tokens(pod) > 0
    return PrefillInterval(tokens, busy_s, wall_s, queued, request_tokens, mean_context)


def remember(pod: PodSample, old: PodMemory, arrivals_until: int) -> PodMemory:
    """The pod's memory after this read; a sample that was read before changes no figure."""
    load, counted = pod.load, old.start_counted or pod.ready_at is not None
    if load is None or pod.sampled_at is None or pod.sampled_at <= old.at:
        return replace(old, arrivals_until=arrivals_until, start_counted=counted)
    return PodMemory(
        arrivals_until=arrivals_until,
        start_counted=counted,
        at=pod.sampled_at,
        uncached_tokens=load.prefill_uncached_tokens_total,
        busy_s=load.prefill_busy_s_total,
        waiting_tokens=queued_tokens(pod),
        used_tokens=float(load.used_tokens),
        moments=load.decode_moments,
        finished=pod.state.finished_total if pod.state is not None else old.finished,
    )


def _warm(pod: PodSample, old: PodMemory) -> bool:
    return pod.sampled_at is not None and pod.sampled_at > old.at and old.at >= (pod.ready_at or 0.0) + WARM_UP_S


def tokens_left(load: EngineLoad | None) -> float:
    """How much a pod would have to finish when drained: unknown counts as everything."""
    return float("inf") if load is None else float(load.used_tokens)


def is_decode_bound(pools: Mapping[Role, Observed]) -> bool:
    """Whether requests wait for decode, not for prefill: decode's own queues are long while prefill has time."""
    prefill, decode = pools.get(Role.PREFILL), pools.get(Role.DECODE)
    if prefill is None or decode is None:
        return False
    held_up = decode.prealloc_requests > WAITING_FOR_DECODE * max(decode.running, 1.0) or decode.retracted_requests > 0
    return held_up and prefill.busy_share is not None and prefill.busy_share < PREFILL_IDLE
