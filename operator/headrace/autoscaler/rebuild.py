"""Signals, limits and capacity again from a time-series database: entries for an approximate replay.

What the database does not have is put as plainly as it can be: requests between two scrapes are alike and evenly
spread, a pod's phase follows from the operator's counts, and step times come from the published model.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import log
from typing import Any

from headrace.api.roles import Role
from headrace.autoscaler.capacity import CapacityModel
from headrace.autoscaler.figures import capacity_of_figures, limits_of_figures
from headrace.autoscaler.limits import Limits
from headrace.autoscaler.memory import STARTS_NEEDED, Feedback, Memory, RoleMemory
from headrace.autoscaler.recording import Recording, Totals, states
from headrace.autoscaler.replay import Entry
from headrace.autoscaler.signals import (
    EngineLoad,
    EngineState,
    GatewaySample,
    PodPhase,
    PodSample,
    PoolState,
    Signals,
)

SOURCE = "prometheus"
# What a replay from a time-series database can't know, for the reader of its result.
UNKNOWN = (
    "lengths of single requests: those between two scrapes count as alike and evenly spread",
    "what happened between two scrapes, and when exactly: decisions may come a scrape earlier or later",
    "step times, and what single clients got: the capacity model and the factors on the needs are taken as published",
    "what the operator remembered before the warm-up",
)
_STATE = tuple(name for name in Totals.__dataclass_fields__ if name not in {"at", "running"})
_LOAD = (
    "running_requests",
    "waiting_requests",
    "used_tokens",
    "max_total_tokens",
    "prefill_bootstrap_requests",
    "prefill_inflight_requests",
    "decode_prealloc_requests",
    "decode_transfer_requests",
)
_NEEDED = _LOAD[:4]


@dataclass(frozen=True, slots=True)
class _Engine:
    """One pod over the recording."""

    pod: str
    role: Role
    samples: Mapping[float, PodSample]  # tick -> what was known of it; its phase and times are open
    first: float
    last: float


@dataclass(slots=True)
class _Lives:
    """What the ticks before say of one role's pods."""

    starting_since: list[float] = field(default_factory=list)  # of each replica that is not Ready
    ready_at: dict[str, float] = field(default_factory=dict)
    complete_at: float = 0.0  # when as many engines answered as the operator counted
    target: int | None = None  # decided at the tick before


def entries(recording: Recording) -> Iterator[Entry]:
    """One entry for each tick of which enough is known, in order; the first carries a memory that is nearly empty."""
    engines = [_engine(recording, pod) for pod in recording.engines.get("scraped_at", {})]
    lives = {role: _Lives() for role in Role}
    previous_at = 0.0
    for tick in recording.ticks:
        known = _known(recording, tick)
        if known is None:
            continue
        limits, model = known
        signals = _signals(recording, tick, limits, model, engines, lives)
        recorded = _recorded(recording, tick)
        begin = None if previous_at else (_memory(recording, tick, limits), model)
        yield Entry(
            signals, limits, begin[0].at if begin else previous_at, recorded, begin, model, _feedback(recording, tick)
        )
        for role, replicas in recording.at("target", tick).items():
            lives[Role(role)].target = round(replicas)
        previous_at = tick


def _known(recording: Recording, tick: float) -> tuple[Limits, CapacityModel] | None:
    """Limits and capacity at a tick; None where the operator was silent or does not scale the service."""
    try:
        limits = limits_of_figures(recording.at("limit", tick))
        model = capacity_of_figures(recording.at("capacity", tick))
    except KeyError:
        return None
    roles = {role.value for role in limits.roles}
    told = all(roles <= recording.at(figure, tick).keys() for figure in ("target", "workload", "startup"))
    return (limits, model) if roles and told else None


def _feedback(recording: Recording, tick: float) -> Feedback:
    """The factors on the needs as they were published: what single clients got is not known."""
    factors = recording.at("feedback", tick)
    return Feedback(prefill=log(factors.get("prefill", 1.0)), decode=log(factors.get("decode", 1.0)))


def _recorded(recording: Recording, tick: float) -> dict[str, Any]:
    """What was decided, as far as it was published, in the form of a decision's record."""
    needs: dict[str, list[dict[str, Any]]] = {}
    for series, replicas in recording.at("need", tick).items():
        role, _, constraint = series.partition("/")
        needs.setdefault(role, []).append({"constraint": constraint, "replicas": replicas})
    targets = recording.at("target", tick)
    return {
        "roles": {
            role: {"target": {"replicas": round(replicas)}, "needs": needs.get(role, [])}
            for role, replicas in targets.items()
        }
    }


def _memory(recording: Recording, tick: float, limits: Limits) -> Memory:
    """A memory that began long enough ago for every hold to be over, and that knows how long starts take."""
    targets, startup_s = recording.at("target", tick), recording.at("startup", tick)
    roles = {
        role: RoleMemory(target=round(targets[role]), starts_s=(startup_s[role],) * STARTS_NEEDED)
        for role in limits.roles
    }
    return Memory(since=tick - limits.restart_hold_s - limits.tick_s, at=tick - limits.tick_s, roles=roles)


def _signals(  # noqa: PLR0917  one tick of the recording, and what the ticks before said
    recording: Recording, tick: float, limits: Limits, model: CapacityModel, engines: Sequence[_Engine],
    lives: Mapping[Role, _Lives],
) -> Signals:  # fmt: skip
    startup_s, counts = recording.at("startup", tick), recording.at("replicas", tick)
    pods: list[PodSample] = []
    for role in limits.roles:
        here = [engine for engine in engines if engine.role is role and tick in engine.samples]
        by_state = {state: round(counts.get(f"{role}/{state}", 0.0)) for state in PodPhase}
        pods += _pods(role, here, by_state, tick, startup_s[role], lives[role], limits.fresh_s)
    waiting = recording.sums.get("gateway_queued", {}).get("", {}).get(tick)
    return Signals(
        service=recording.service,
        at=tick,
        pods=tuple(_placed(pod, model) for pod in pods),
        pools={role: _pool(recording, tick, role, limits, lives[role].target) for role in limits.roles},
        gateway=None if waiting is None else GatewaySample(tick, round(waiting)),
        source=SOURCE,
    )


def _pool(recording: Recording, tick: float, role: Role, limits: Limits, before: int | None) -> PoolState:
    """The workload. `before`: the target of the tick before.

    The published number is that which the last scraped decision saw, and stands beside that decision's target until the
    next scrape. Where Headrace writes the replicas, the next decision saw that target carried out.
    """
    replicas = round(recording.at("workload", tick)[role])
    if before is not None and "Internal" in recording.at("mode", tick) and not limits.paused:
        replicas = before + round(recording.at("replicas", tick).get(f"{role}/{PodPhase.DRAINING}", 0.0))
    floor = round(recording.at("floor", tick).get(role, 0.0))
    return PoolState(replicas, floor, tick + limits.tick_s if floor else 0.0)


def _pods(  # noqa: PLR0917  one role at one tick
    role: Role, engines: Sequence[_Engine], counts: Mapping[PodPhase, int], tick: float, startup_s: float,
    lives: _Lives, fresh_s: float,
) -> list[PodSample]:  # fmt: skip
    """The pods with phases that agree with the operator's counts.

    Of the engines that answer, those that are the first to fall silent drain, and the youngest still start. Replicas
    that nothing was scraped from stand without a sample, once that has lasted: a count is a scrape old, and a pod that
    has just ended is still in it.
    """
    by_end = sorted(engines, key=lambda engine: (engine.last, engine.pod))
    draining, rest = by_end[: counts[PodPhase.DRAINING]], by_end[counts[PodPhase.DRAINING] :]
    by_age = sorted(rest, key=lambda engine: (engine.first, engine.pod))
    serving = by_age[: counts[PodPhase.SERVING]]
    found = []
    for phase, some in ((PodPhase.SERVING, serving), (PodPhase.DRAINING, draining)):
        for engine in some:
            ready_at = lives.ready_at.setdefault(engine.pod, tick)
            sample = replace(engine.samples[tick], phase=phase, ready_at=ready_at, created_at=ready_at - startup_s)
            found.append(sample)
    silent = max(counts[PodPhase.SERVING] - len(serving), 0)
    if not silent or not lives.complete_at:
        lives.complete_at = tick if not silent else tick - fresh_s
    if tick - lives.complete_at >= fresh_s:
        found += [
            PodSample(f"unseen-{role}-{i}", role, PodPhase.SERVING, lives.complete_at - startup_s, lives.complete_at)
            for i in range(silent)
        ]
    waiting, since = counts[PodPhase.STARTING], lives.starting_since
    since[:] = [*since[-waiting:], *[tick] * (waiting - len(since))] if waiting else []
    found += [PodSample(f"starting-{role}-{i}", role, PodPhase.STARTING, at) for i, at in enumerate(since)]
    return found


def _placed(pod: PodSample, model: CapacityModel) -> PodSample:
    """A sample with the places of an engine, which no metric tells."""
    if pod.load is None:
        return pod
    return replace(pod, load=replace(pod.load, max_running_requests=round(model.max_running)))


def _engine(recording: Recording, pod: str) -> _Engine:
    """One pod's samples at every tick at which it answered."""
    figures = {name: table[pod] for name, table in recording.engines.items() if pod in table}
    role = Role(recording.role_of(pod))
    scraped_at = figures["scraped_at"]
    ticks = [tick for tick in scraped_at if all(tick in figures.get(name, {}) for name in _NEEDED)]
    known = _states(figures, ticks, from_start=bool(ticks) and ticks[0] > recording.ticks[0])
    samples = {}
    for tick in ticks:
        at = scraped_at[tick]
        load: dict[str, Any] = {n: round(figures[n][tick]) for n in _LOAD if tick in figures.get(n, {})}
        prefilled = figures.get("prefilled", {}).get(tick)
        samples[tick] = PodSample(
            pod=pod,
            role=role,
            phase=PodPhase.SERVING,
            created_at=at,
            sampled_at=at,
            load=EngineLoad(
                **load,
                max_running_requests=0,
                prefill_uncached_tokens_total=None if prefilled is None else round(prefilled),
            ),
            state=known.get(at),
        )
    return _Engine(pod, role, samples, min(ticks, default=0.0), max(ticks, default=0.0))


def _states(
    figures: Mapping[str, Mapping[float, float]], ticks: Sequence[float], *, from_start: bool
) -> dict[float, EngineState]:
    """The engine's own reports by the moment of the scrape; none of an engine that is not ours."""
    if "queued_tokens" not in figures:
        return {}
    totals: dict[float, Totals] = {}
    for tick in ticks:
        at = figures["scraped_at"][tick]
        counts = {name: figures.get(name, {}).get(tick, 0.0) for name in _STATE}
        totals.setdefault(at, Totals(at=at, running=figures["running_requests"][tick], **counts))
    return {state.at: state for state in states(list(totals.values()), from_start=from_start)}
