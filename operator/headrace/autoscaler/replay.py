"""The same decisions again from recorded ticks: exactly as they were, or under another objective, bound or start-up.

A change is replayed in open loop: the load is the recorded fleet's. Only the number of replicas follows the replayed
targets: replicas that the recorded fleet did not have are idle ones, which start as long as engines are known to.
Without a change every decision is about the fleet as it was.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from headrace.api.roles import Role
from headrace.autoscaler.capacity import CapacityModel
from headrace.autoscaler.decision import Decision
from headrace.autoscaler.limits import Limits
from headrace.autoscaler.memory import Feedback, Memory, startup_s
from headrace.autoscaler.plan import Plan, plan
from headrace.autoscaler.record import to_record
from headrace.autoscaler.signals import EngineLoad, PodPhase, PodSample, Signals
from headrace.autoscaler.signals_record import (
    Record,
    limits_from_json,
    limits_to_json,
    signals_from_json,
    signals_to_json,
)

LOG_VERSION = 1


@dataclass(frozen=True, slots=True)
class Tick:
    """One decision of the operator with all that went into it, and what came out."""

    signals: Signals
    limits: Limits
    memory: Memory  # before the decision
    model: CapacityModel  # before the decision
    plan: Plan


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the log. `begin`: memory and model before the tick, where the line carries them."""

    signals: Signals
    limits: Limits
    previous_at: float  # epoch seconds of the tick that the memory had seen last; 0: none
    recorded: Mapping[str, Any]  # the decision's record
    begin: tuple[Memory, CapacityModel] | None = None
    model: CapacityModel | None = None  # to decide by, where a source tells it at every tick; None: what is learnt
    feedback: Feedback | None = None  # in place of the memory's, as told with the model
    unchanged: Mapping[Role, int] | None = None  # targets without the change, where these are not the recorded ones


@dataclass(frozen=True, slots=True)
class Change:
    """What to replay otherwise than it was. None, and roles left out: as recorded."""

    ttft_s: float | None = None
    ttft_per_1k_prompt_s: float | None = None
    tpot_s: float | None = None
    percentile: float | None = None
    headroom: float | None = None
    gpu_budget: float | None = None
    scale_down_window_s: float | None = None
    max_starting: int | None = None
    startup_s: float | None = None  # as if every engine had needed so long to start
    least: Mapping[Role, int] = field(default_factory=dict)
    most: Mapping[Role, int] = field(default_factory=dict)

    def limits(self, limits: Limits) -> Limits:
        """The limits with the change in them. Raises ValueError where a role's lower bound is then above its upper."""
        roles = {
            role: replace(part, min=self.least.get(role, part.min), max=self.most.get(role, part.max))
            for role, part in limits.roles.items()
        }
        for role, part in roles.items():
            if part.min > part.max:
                raise ValueError(f"{role}: min {part.min} is above max {part.max}; change both")
        objective = _with(
            limits.objective,
            ttft_s=self.ttft_s,
            ttft_per_1k_prompt_s=self.ttft_per_1k_prompt_s,
            tpot_s=self.tpot_s,
            percentile=self.percentile,
        )
        changed: Limits = _with(
            replace(limits, roles=roles, objective=objective),
            headroom=self.headroom,
            gpu_budget=self.gpu_budget,
            scale_down_window_s=self.scale_down_window_s,
            max_starting=self.max_starting,
            startup_prior_s=self.startup_s,
        )
        return changed

    def signals(self, signals: Signals) -> Signals:
        """The signals with start-up times that differ."""
        if self.startup_s is None:
            return signals
        return replace(signals, pods=tuple(_started(pod, self.startup_s) for pod in signals.pods))

    def memory(self, memory: Memory) -> Memory:
        """The memory with start-up times that differ."""
        if self.startup_s is None:
            return memory
        roles = {
            role: replace(part, starts_s=(self.startup_s,) * len(part.starts_s)) for role, part in memory.roles.items()
        }
        return replace(memory, roles=roles)


@dataclass(frozen=True, slots=True)
class Step:
    """One tick again. `decision` None: the log has a gap before it, so that nobody knows what the memory was."""

    entry: Entry
    decision: Decision | None


@dataclass(frozen=True, slots=True)
class Difference:
    """The first place where two records differ."""

    path: str  # roles.prefill.target.replicas
    recorded: Any
    replayed: Any

    def __str__(self) -> str:
        return f"{self.path}: recorded {self.recorded!r}, replayed {self.replayed!r}"


def to_line(tick: Tick, begin: bool) -> Record:
    """The tick as JSON-able values; with `begin` a replay can start at it."""
    line = {
        "version": LOG_VERSION,
        "service": tick.signals.service,
        "at": tick.signals.at,
        "previous_at": tick.memory.at,
        "signals": signals_to_json(tick.signals),
        "limits": limits_to_json(tick.limits),
        "decision": to_record(tick.plan.decision),
    }
    return line | {"memory": tick.memory.to_dict(), "model": tick.model.to_dict()} if begin else line


def from_line(line: Mapping[str, Any]) -> Entry:
    """The entry of a line. Raises ValueError for another version, KeyError or TypeError for anything malformed."""
    if line["version"] != LOG_VERSION:
        raise ValueError(f"version: the line has {line['version']!r}, this build reads {LOG_VERSION}")
    begin = None
    if "memory" in line:
        begin = Memory.from_dict(line["memory"]), CapacityModel.from_dict(line["model"])
    return Entry(
        signals=signals_from_json(line["signals"]),
        limits=limits_from_json(line["limits"]),
        previous_at=line["previous_at"],
        recorded=line["decision"],
        begin=begin,
    )


def replay(entries: Iterable[Entry], change: Change | None = None) -> Iterator[Step]:
    """Every entry decided again by `plan`, each service with its own memory, in the order of the log."""
    change = change or Change()
    threads: dict[str, _Thread] = {}
    for entry in entries:
        service = entry.signals.service
        thread = threads.get(service)
        if thread is None or thread.at != entry.previous_at:
            if entry.begin is None:
                threads.pop(service, None)
                yield Step(entry, None)
                continue
            memory, model = entry.begin
            thread = threads[service] = _Thread(change.memory(memory), model)
        yield Step(entry, thread.decide(entry, change))


def first_difference(recorded: Any, replayed: Any, path: str = "") -> Difference | None:
    """Where a record that went through JSON differs from one that did not; None: nowhere."""
    if isinstance(recorded, Mapping) and isinstance(replayed, Mapping):
        for key in (*recorded, *(key for key in replayed if key not in recorded)):
            here = f"{path}.{key}" if path else str(key)
            if found := first_difference(recorded.get(key), replayed.get(key), here):
                return found
        return None
    if isinstance(recorded, list | tuple) and isinstance(replayed, list | tuple) and len(recorded) == len(replayed):
        pairs = enumerate(zip(recorded, replayed, strict=True))
        return next((d for i, pair in pairs if (d := first_difference(*pair, f"{path}[{i}]"))), None)
    return None if recorded == replayed else Difference(path, recorded, replayed)


def compare(step: Step) -> Difference | None:
    """Where the replayed decision differs from the recorded one; None: nowhere, or it could not be replayed."""
    return None if step.decision is None else first_difference(step.entry.recorded, to_record(step.decision))


class _Thread:
    """What one service's replay carries from tick to tick."""

    def __init__(self, memory: Memory, model: CapacityModel) -> None:
        self.at = memory.at
        self._memory, self._model = memory, model
        self._pools: dict[Role, _Pool] = {}

    def decide(self, entry: Entry, change: Change) -> Decision:
        signals, limits = change.signals(entry.signals), change.limits(entry.limits)
        for role, pool in self._pools.items():
            signals = _as_if(signals, role, pool)
        memory = self._memory if entry.feedback is None else replace(self._memory, feedback=entry.feedback)
        made = plan(signals, entry.model or self._model, limits, memory, signals.at)
        self.at, self._memory, self._model = signals.at, made.memory, made.model
        if change == Change():
            return made.decision
        recorded = recorded_targets(entry)
        unchanged = recorded if entry.unchanged is None else entry.unchanged
        for role, target in made.decision.targets().items():
            now = unchanged.get(role, target.replicas)
            lead_s = startup_s(made.memory.role(role), limits.startup_prior_s)
            old = self._pools.get(role, _Pool(now))
            ordered = target.replicas - recorded.get(role, now)
            self._pools[role] = old.after(now, target.replicas - now, ordered, signals.at, lead_s)
        return made.decision


@dataclass(frozen=True, slots=True)
class _Pool:
    """How one role's replayed pool differs from the recorded one, or from that of a replay without the change."""

    unchanged: int  # target
    ahead: int = 0  # replayed target less that one
    ordered: int = 0  # replayed target less the recorded one, which is what the workload was set to
    ready_at: tuple[float, ...] = ()  # of the replicas that only the replay has, in order

    def after(self, unchanged: int, ahead: int, ordered: int, now: float, lead_s: float) -> "_Pool":
        """The pool after one more decision: what only the recorded fleet gave up serves on, the rest has to start."""
        kept = self.ready_at[: max(ahead, 0)]
        new = max(ahead, 0) - len(kept)
        serve_on = min(new, max(self.unchanged - unchanged, 0))
        ready_at = sorted((*kept, *(now,) * serve_on, *(now + lead_s,) * (new - serve_on)))
        return _Pool(unchanged, ahead, ordered, tuple(ready_at))


def _as_if(signals: Signals, role: Role, pool: _Pool) -> Signals:
    """The signals with the replay's number of replicas in one role; the load in total stays the recorded one.

    Recorded 3, without the change 2, with it 5: the workload is 3 + (5 - 3). With 3 + (5 - 2) the replicas by which the
    approximation is off would be ordered once more at every tick that holds the number.
    """
    if pool.ahead == 0:
        return signals
    pools = dict(signals.pools)
    if role in pools:
        pools[role] = replace(pools[role], desired=max(pools[role].desired + pool.ordered, 0))
    mine = [pod for pod in signals.pods if pod.role is role]
    starting = sorted((pod for pod in mine if pod.phase is PodPhase.STARTING), key=lambda pod: -pod.created_at)
    never = {pod.pod for pod in starting[: max(-pool.ahead, 0)]}
    peer = next((pod for pod in mine if pod.load is not None), None)
    more = tuple(_idle(role, number, at, signals.at, peer) for number, at in enumerate(pool.ready_at, start=1))
    return replace(signals, pools=pools, pods=(*(pod for pod in signals.pods if pod.pod not in never), *more))


def _idle(role: Role, number: int, ready_at: float, now: float, peer: PodSample | None) -> PodSample:
    """A replica that only the replay has. Made when it is ready, so that nothing is learnt from its start."""
    if now < ready_at or peer is None or peer.load is None:
        return PodSample(f"replayed-{role}-{number}", role, PodPhase.STARTING, created_at=ready_at)
    load = EngineLoad(0, 0, 0, peer.load.max_total_tokens, peer.load.max_running_requests)
    return PodSample(f"replayed-{role}-{number}", role, PodPhase.SERVING, ready_at, ready_at, now, peer.revision, load)


def recorded_targets(entry: Entry) -> dict[Role, int]:
    """The replicas that the operator decided for."""
    return {Role(name): part["target"]["replicas"] for name, part in entry.recorded["roles"].items()}


def beside(steps: Iterable[Step]) -> Iterator[Entry]:
    """The entries of an approximate replay without a change, to replay with one: beside it, not beside the record.

    Else every difference that is the approximation's own would be carried on as if the change had made it.
    """
    for step in steps:
        targets = {} if step.decision is None else step.decision.targets()
        yield replace(step.entry, unchanged={role: target.replicas for role, target in targets.items()})


def recorded_needs(entry: Entry, role: Role) -> dict[str, float]:
    """What each constraint asked for; empty where the role was not there."""
    part = entry.recorded["roles"].get(role.value, {"needs": ()})
    return {need["constraint"]: need["replicas"] for need in part["needs"]}


def _started(pod: PodSample, startup_s: float) -> PodSample:
    return pod if pod.ready_at is None else replace(pod, created_at=pod.ready_at - startup_s)


def _with(value: Any, **changes: Any) -> Any:
    return replace(value, **{name: item for name, item in changes.items() if item is not None})
