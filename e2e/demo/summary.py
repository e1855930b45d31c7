"""`demo-report/summary.json`: the run in figures. Pure."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from e2e.demo.record import ROLES, RoleCount, RunRecord
from e2e.demo.verdict import shortcomings, story
from e2e.load.results import by_phase, summarise


def summary(record: RunRecord) -> dict[str, Any]:
    """Counts, quantiles, replicas over time, decisions, versions and durations."""
    failures = shortcomings(record)
    zero_at = load_start(record)
    return {
        "passed": not failures,
        "shortcomings": failures,
        "service": record.service,
        "objective": asdict(record.objective) if record.objective else None,
        "requests": {
            **summarise(record.results),
            "sent": len(record.sent_at),
            "unanswered": record.unanswered,
            "phases": by_phase(record.results),
        },
        "roles": {role: asdict(story(record.samples, role)) for role in ROLES},
        "replicas": replica_changes(record, zero_at),
        "decisions": [asdict(row) for row in record.decisions],
        "phases": [asdict(phase) for phase in record.phases],
        "stages": [asdict(stage) for stage in record.stages],
        "versions": record.versions,
    }


def load_start(record: RunRecord) -> float:
    """The moment from which all times of the report count: the first phase, else the first sample."""
    if record.phases:
        return record.phases[0].started_at
    return record.samples[0].at if record.samples else 0.0


def load_end(record: RunRecord) -> float:
    """The last moment that the report shows."""
    ends = [phase.ended_at for phase in record.phases] + [sample.at for sample in record.samples[-1:]]
    return max(ends, default=load_start(record) + 1)


def replica_changes(record: RunRecord, zero_at: float) -> Mapping[str, list[dict[str, float]]]:
    """By role: a row whenever a count changed, `after_s` counted from the start of the load."""
    changes: dict[str, list[dict[str, float]]] = {role: [] for role in ROLES}
    before: dict[str, RoleCount] = {}
    for sample in record.samples:
        for role in ROLES:
            count = sample.counts.get(role, RoleCount())
            if before.get(role) != count:
                changes[role].append({"after_s": round(sample.at - zero_at, 1), **asdict(count)})
                before[role] = count
    return changes
