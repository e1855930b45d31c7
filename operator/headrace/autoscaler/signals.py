"""The signal contract: all that a decision may know about a service at one moment.

Real endpoints (Prometheus, `/v1/loads`, `/headrace/state`) and the simulator fill the same types, with the same lag and
loss, and nothing else reaches `plan`. A value of `None` means "not known", never zero.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from headrace.api.roles import Role


class PodPhase(StrEnum):
    """Where a replica is in its life."""

    STARTING = "starting"  # created, not Ready yet
    SERVING = "serving"  # Ready, and the gateway may send to it
    DRAINING = "draining"  # taken out of the gateways, finishing what it has; can be taken back


@dataclass(frozen=True, slots=True)
class EngineLoad:
    """One replica's load, its ranks aggregated (`/v1/loads`, or the engine's metrics through Prometheus)."""

    running_requests: int
    waiting_requests: int  # in PD the bootstrap, prealloc and transfer queues are folded in
    used_tokens: int  # KV tokens held by live requests; evictable prefix cache counts as free
    max_total_tokens: int  # KV tokens that fit
    max_running_requests: int
    waiting_uncached_tokens: int | None = None  # prompt tokens queued and not in the prefix cache
    prefill_uncached_tokens_total: int | None = None  # running sum since the engine's start
    prefill_busy_s_total: float | None = None  # seconds spent in prefill steps since the engine's start
    decode_moments: tuple[float, ...] | None = None  # SGLang's six running sums for a regression of decode step time
    generated_tokens_total: int | None = None
    prefill_bootstrap_requests: int = 0
    prefill_inflight_requests: int = 0  # prefilled, KV not yet pulled by the decode side
    decode_prealloc_requests: int = 0
    decode_transfer_requests: int = 0
    decode_retracted_requests: int = 0
    cache_hit_rate: float | None = None  # share of prompt tokens served by the prefix cache, 0..1
    lag_s: float = 0.0  # how much older than the read the figures of a busy engine are: its scheduler may hang
    engine_version: str = ""  # as the engine tells it; empty: the source does not carry it
    read_as: str = ""  # the known release that an unknown one was read like; empty: its own, or not told


@dataclass(frozen=True, slots=True)
class ArrivalBin:
    """Requests of one length class that one engine accepted during one second."""

    at_s: int  # epoch second
    length_class: int  # headrace_engine_config.length_class
    count: int
    prompt_tokens: int
    cached_tokens: int


@dataclass(frozen=True, slots=True)
class RunningStream:
    """A request in decode: its prompt and the tokens generated so far."""

    prompt_tokens: int
    age_tokens: int


@dataclass(frozen=True, slots=True)
class FinishedRequest:
    """The lengths of a request that ended, and how long its client waited, as the engine that answered it saw it."""

    length_class: int
    prompt_tokens: int
    output_tokens: int
    ttft_s: float | None = None  # accepted -> first token; a decode engine accepts a request when prefill does
    tpot_s: float | None = None  # mean seconds per token after the first; None for answers of one token


@dataclass(frozen=True, slots=True)
class EngineState:
    """What only our own engine keeps (`/headrace/state`). Arrivals and finished: the recent ones, newest last."""

    at: float  # epoch seconds, the engine's clock
    started_at: float
    queued_tokens: int
    arrivals: tuple[ArrivalBin, ...] = ()
    running: tuple[RunningStream, ...] = ()  # at most 512, sampled evenly
    running_total: int = 0
    finished: tuple[FinishedRequest, ...] = ()
    arrivals_total: int = 0
    finished_total: int = 0


@dataclass(frozen=True, slots=True)
class PodSample:
    """One replica as last seen. `sampled_at` None: nothing was ever read from it."""

    pod: str
    role: Role
    phase: PodPhase
    created_at: float
    ready_at: float | None = None
    sampled_at: float | None = None  # epoch seconds of the read that filled load and state
    revision: str = ""
    load: EngineLoad | None = None
    state: EngineState | None = None


@dataclass(frozen=True, slots=True)
class GatewaySample:
    """Requests that the gateways hold and no engine has seen yet."""

    sampled_at: float
    queued_requests: int
    inflight_requests: int | None = None


@dataclass(frozen=True, slots=True)
class PoolState:
    """What the workload object says about one role: the input that reconcile gives to the autoscaler."""

    desired: int  # spec.replicas now
    floor: int = 0  # somebody else's write to replicas, kept as a floor for one scale-down window
    floor_until: float = 0.0


@dataclass(frozen=True, slots=True)
class Signals:
    """Everything known about one service at `at`."""

    service: str  # namespace/name
    at: float
    pods: tuple[PodSample, ...]
    pools: Mapping[Role, PoolState] = field(default_factory=dict)
    gateway: GatewaySample | None = None
    source: str = "loads+state"  # which endpoints filled it, for the explanation
