"""What a replay found: recorded beside replayed targets over time, their sums, and how far they agree."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

from headrace.api.roles import Role
from headrace.autoscaler.decision import Decision, RoleDecision
from headrace.autoscaler.replay import Difference, Entry, Step, compare, recorded_needs, recorded_targets

GAP_TICKS = 3.0  # a longer pause in the log is the operator's, and counts as one tick of the replica-hours


@dataclass(slots=True)
class RoleTrack:
    """One role's targets over time; needs, binding constraint and sentence as replayed.

    `unchanged`: of an approximate replay without the change, beside which the change was replayed; else empty.
    """

    recorded: list[int] = field(default_factory=list)
    replayed: list[int] = field(default_factory=list)
    unchanged: list[int] = field(default_factory=list)
    needs: list[Mapping[str, float]] = field(default_factory=list)  # constraint -> replicas
    recorded_needs: list[Mapping[str, float]] = field(default_factory=list)
    binding: list[str] = field(default_factory=list)
    message: list[str] = field(default_factory=list)
    gpus: float = 1.0  # of one replica

    @property
    def lines(self) -> dict[str, list[int]]:
        """The targets by name."""
        all_ = {"recorded": self.recorded, "unchanged": self.unchanged, "replayed": self.replayed}
        return {name: line for name, line in all_.items() if line}

    def absent(self) -> None:
        """A tick at which the role is not there."""
        if self.unchanged:
            self.unchanged.append(0)
        self.recorded.append(0)
        self.replayed.append(0)
        self.needs.append({})
        self.recorded_needs.append({})
        self.binding.append("")
        self.message.append("")

    def add(self, recorded: int, needs: Mapping[str, float], part: RoleDecision) -> None:
        """A tick's decision beside what was recorded."""
        self.recorded.append(recorded)
        self.recorded_needs.append(needs)
        self.replayed.append(part.target.replicas)
        self.needs.append({need.constraint.value: need.replicas for need in part.needs})
        self.binding.append(part.binding.value)
        self.message.append(part.message)


@dataclass(slots=True)
class Track:
    """One service over the replayed time."""

    at: list[float] = field(default_factory=list)  # epoch seconds of each replayed tick
    arrivals: list[float] = field(default_factory=list)  # requests per second, mean over the last minute
    roles: dict[Role, RoleTrack] = field(default_factory=dict)
    tick_s: float = 5.0
    skipped: int = 0  # ticks behind a gap in the log
    first: tuple[float, Difference] | None = None  # where a record differs first, in any field
    first_target: str = ""  # where a target differs first, in words

    def spans_s(self) -> list[float]:
        """How long each target held."""
        gaps = [after - before for before, after in pairwise(self.at)]
        return [gap if gap <= GAP_TICKS * self.tick_s else self.tick_s for gap in [*gaps, self.tick_s]]

    def agreement(self) -> dict[str, dict[str, float]]:
        """Role -> share of ticks with the same target, and with one at most a replica away."""
        found = {}
        for role, line in self.roles.items():
            apart = [abs(a - b) for a, b in zip(line.recorded, line.replayed, strict=True)]
            shares = (sum(gap <= most for gap in apart) / len(apart) for most in (0, 1))
            found[role.value] = dict(zip(("same", "within_one"), shares, strict=True))
        return found


@dataclass(frozen=True, slots=True)
class Result:
    """All services. `agreement`: of an approximate replay without a change, by service; None: from the log itself."""

    tracks: Mapping[str, Track]
    changed: bool
    agreement: Mapping[str, Mapping[str, Mapping[str, float]]] | None = None

    @property
    def approximate(self) -> bool:
        """Whether the signals were rebuilt from sums."""
        return self.agreement is not None

    @property
    def exact(self) -> bool:
        """Whether every decision must come out as recorded."""
        return not self.changed and not self.approximate


def follow(
    steps: Iterable[Step], *, since: float = float("-inf"), until: float = float("inf"), exact: bool = True
) -> dict[str, Track]:
    """The steps as one track a service, ordered by name. `exact`: records are compared field by field too."""
    tracks: dict[str, Track] = {}
    for step in steps:
        if not since <= step.entry.signals.at <= until:
            continue
        track = tracks.setdefault(step.entry.signals.service, Track())
        if step.decision is None:
            track.skipped += 1
        else:
            _add(track, step.entry, step.decision, compare(step) if exact and track.first is None else None)
    return dict(sorted(tracks.items()))


def _add(track: Track, entry: Entry, decision: Decision, difference: Difference | None) -> None:
    at, recorded = entry.signals.at, recorded_targets(entry)
    for role, part in decision.roles.items():
        before, after = recorded.get(role, part.target.replicas), part.target.replicas
        line = track.roles.setdefault(role, RoleTrack())
        while len(line.recorded) < len(track.at):
            line.absent()
        line.add(before, recorded_needs(entry, role), part)
        if entry.unchanged is not None:
            before = entry.unchanged.get(role, after)
            line.unchanged.append(before)
        line.gpus = entry.limits.roles[role].gpus
        if before != after and not track.first_target:
            track.first_target = (
                f"at {time_text(at)} {role} would have been {after} where it was {before}: {part.message}"
            )
    for role in track.roles.keys() - decision.roles.keys():  # the topology changed within the log
        track.roles[role].absent()
    if difference is not None:
        track.first = at, difference
    track.at.append(at)
    track.arrivals.append(decision.inputs["arrivals_per_s_1m"])
    track.tick_s = entry.limits.tick_s


def summary(track: Track) -> dict[str, dict[str, dict[str, float]]]:
    """Role -> recorded, replayed (and unchanged) -> replica-hours, GPU-hours, most replicas, changes."""
    spans_s = track.spans_s()
    return {
        role.value: {name: _figures(targets, spans_s, line.gpus) for name, targets in line.lines.items()}
        for role, line in track.roles.items()
    }


def _figures(targets: list[int], spans_s: list[float], gpus: float) -> dict[str, float]:
    hours = sum(target * span_s for target, span_s in zip(targets, spans_s, strict=True)) / 3600.0
    return {
        "replica_hours": hours,
        "gpu_hours": hours * gpus,
        "most": max(targets),
        "changes": sum(before != after for before, after in pairwise(targets)),
    }


def time_text(at: float) -> str:
    """A moment for people."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def as_data(result: Result) -> dict[str, Any]:
    """Everything as JSON: summaries, and one row a tick."""
    services = {name: _service_data(track) for name, track in result.tracks.items()}
    data = {"changed": result.changed, "approximate": result.approximate, "services": services}
    return data | ({"agreement": result.agreement} if result.approximate else {})


def _service_data(track: Track) -> dict[str, Any]:
    difference = None
    if track.first is not None:
        at, found = track.first
        difference = {"at": at, "path": found.path, "recorded": found.recorded, "replayed": found.replayed}
    return {
        "ticks": len(track.at),
        "skipped": track.skipped,
        "first_difference": difference,
        "roles": summary(track),
        "rows": [_row(track, index) for index in range(len(track.at))],
    }


def _row(track: Track, index: int) -> dict[str, Any]:
    row: dict[str, Any] = {"at": track.at[index], "arrivals_per_s": track.arrivals[index]}
    for role, line in track.roles.items():
        row[role.value] = {
            **{name: targets[index] for name, targets in line.lines.items()},
            "binding": line.binding[index],
            "needs": line.needs[index],
            "recorded_needs": line.recorded_needs[index],
        }
    return row
