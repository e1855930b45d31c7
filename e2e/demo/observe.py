"""From what the API server and Prometheus answer to what the demo shows. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

from e2e.demo.record import ROLES, DecisionRow, EngineSignals, RoleCount

# One query brings every figure: SGLang's names with either separator, since OpenMetrics turns the colon into "_".
ENGINE_QUERY = '{{__name__=~"sglang[:_](num_running_reqs|num_queue_reqs|token_usage)",service="{service}"}}'
_WAITING, _RUNNING, _KV = "num_queue_reqs", "num_running_reqs", "token_usage"


def count_pods(pods: Iterable[Mapping[str, Any]]) -> dict[str, RoleCount]:
    """Pods by role and state. A pod that is being deleted drains, whatever its label says; ended pods don't count."""
    tally = {role: [0, 0, 0] for role in ROLES}
    for pod in pods:
        metadata, status = pod.get("metadata") or {}, pod.get("status") or {}
        labels = metadata.get("labels") or {}
        counts = tally.get(labels.get("headrace.dev/role", ""))
        if counts is None or status.get("phase") in {"Succeeded", "Failed"}:
            continue
        if metadata.get("deletionTimestamp") or labels.get("headrace.dev/state") == "draining":
            counts[2] += 1
        elif _is_ready(status):
            counts[0] += 1
        else:
            counts[1] += 1
    return {role: RoleCount(*counts) for role, counts in tally.items()}


def _is_ready(status: Mapping[str, Any]) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions") or ())


def engine_signals(response: Mapping[str, Any]) -> dict[str, EngineSignals]:
    """Signals by role from a Prometheus instant vector. A role without series has no signals, not zero ones."""
    values: dict[tuple[str, str], list[float]] = defaultdict(list)
    for series in (response.get("data") or {}).get("result") or ():
        name = str(series["metric"].get("__name__", "")).removeprefix("sglang").lstrip(":_")
        values[series["metric"].get("role", ""), name].append(float(series["value"][1]))

    def total(role: str, name: str) -> float | None:
        return sum(values[role, name]) if (role, name) in values else None

    return {
        role: EngineSignals(
            running_requests=total(role, _RUNNING),
            waiting_requests=total(role, _WAITING),
            kv_share=fmean(values[role, _KV]) if (role, _KV) in values else None,
        )
        for role in ROLES
    }


def decision_rows(record: Mapping[str, Any]) -> list[DecisionRow]:
    """The rows of one decision record of the status, one for each role."""
    return [
        DecisionRow(
            at=str(record.get("at", "")),
            role=role,
            current=part.get("current"),
            target=part.get("target"),
            reason=str(part.get("reason", "")),
            binding=str(part.get("binding", "")),
            message=str(part.get("message", "")),
            vetoes=tuple(_veto(veto) for veto in part.get("vetoes") or ()),
        )
        for role, part in roles_of(record).items()
    ]


def roles_of(record: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """A decision's parts by role."""
    return {str(role): part for role, part in (record.get("roles") or {}).items()}


def _veto(veto: object) -> str:
    if isinstance(veto, Mapping):
        return f"{veto.get('guard', '')}: {veto.get('message', '')}"
    return str(veto)


def latest_decision(service: Mapping[str, Any]) -> dict[str, DecisionRow]:
    """The newest decision by role from an InferenceService's status."""
    record = (service.get("status") or {}).get("decision") or {}
    return {row.role: row for row in decision_rows(record)}


def recent_decisions(service: Mapping[str, Any]) -> list[DecisionRow]:
    """Rows of the decisions that changed a target, as far back as the status keeps them."""
    records: Sequence[Mapping[str, Any]] = (service.get("status") or {}).get("recentDecisions") or ()
    return [row for record in records for row in decision_rows(record) if row.target != row.current]


def conditions(service: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """(type, status, reason, message) of each condition."""
    found = (service.get("status") or {}).get("conditions") or ()
    return [(c["type"], c["status"], c.get("reason", ""), c.get("message", "")) for c in found]
