"""The same decisions again from recorded ticks: exactly as they were, or under another objective, bound or start-up.

A change is replayed in open loop. The load is the recorded fleet's; only the pools' desired numbers are moved by what
the replayed targets differ from the recorded ones, so that a replay that wants less can go on to want less still.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from headrace.api.roles import Role
from headrace.autoscaler.capacity import CapacityModel
from headrace.autoscaler.decision import Decision
from headrace.autoscaler.limits import Limits
from headrace.autoscaler.memory import Memory
from headrace.autoscaler.plan import Plan, plan
from headrace.autoscaler.record import to_record
from headrace.autoscaler.signals import PodSample, Signals
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


@dataclass(frozen=True, slots=True)
class Change:
    """What to replay otherwise than it was. None, and roles left out: as recorded."""

    ttft_s: float | None = None
    tpot_s: float | None = None
    percentile: float | None = None
    headroom: float | None = None
    gpu_budget: float | None = None
    scale_down_window_s: float | None = None
    startup_s: float | None = None  # as if every engine had needed so long to start
    least: Mapping[Role, int] = field(default_factory=dict)
    most: Mapping[Role, int] = field(default_factory=dict)

    def limits(self, limits: Limits) -> Limits:
        """The limits with the change in them."""
        roles = {
            role: replace(part, min=self.least.get(role, part.min), max=self.most.get(role, part.max))
            for role, part in limits.roles.items()
        }
        objective = _with(limits.objective, ttft_s=self.ttft_s, tpot_s=self.tpot_s, percentile=self.percentile)
        changed: Limits = _with(
            replace(limits, roles=roles, objective=objective),
            headroom=self.headroom,
            gpu_budget=self.gpu_budget,
            scale_down_window_s=self.scale_down_window_s,
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
        self._ahead: dict[Role, int] = {}  # replayed target less the recorded one, at the last tick

    def decide(self, entry: Entry, change: Change) -> Decision:
        signals = _shifted(change.signals(entry.signals), self._ahead)
        made = plan(signals, self._model, change.limits(entry.limits), self._memory, signals.at)
        self.at, self._memory, self._model = signals.at, made.memory, made.model
        recorded = recorded_targets(entry)
        self._ahead = {
            role: target.replicas - recorded.get(role, target.replicas)
            for role, target in made.decision.targets().items()
        }
        return made.decision


def recorded_targets(entry: Entry) -> dict[Role, int]:
    """The replicas that the operator decided for."""
    return {Role(name): part["target"]["replicas"] for name, part in entry.recorded["roles"].items()}


def _shifted(signals: Signals, ahead: Mapping[Role, int]) -> Signals:
    if not any(ahead.values()):
        return signals
    pools = {
        role: replace(pool, desired=max(pool.desired + ahead.get(role, 0), 0)) for role, pool in signals.pools.items()
    }
    return replace(signals, pools=pools)


def _started(pod: PodSample, startup_s: float) -> PodSample:
    return pod if pod.ready_at is None else replace(pod, created_at=pod.ready_at - startup_s)


def _with(value: Any, **changes: Any) -> Any:
    return replace(value, **{name: item for name, item in changes.items() if item is not None})
