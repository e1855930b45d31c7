"""From what the API server and Prometheus answer to what the demo shows. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

from e2e.demo.record import ROLES, DecisionRow, EngineSignals, RoleCount

# Prefill and decode engines have queues of their own: before the KV has a place, and while it comes over.
_WAITING = (
    "num_queue_reqs",
    "num_prefill_bootstrap_queue_reqs",
    "num_decode_prealloc_queue_reqs",
    "num_decode_transfer_queue_reqs",
)
_RUNNING, _KV = "num_running_reqs", "token_usage"
# One query brings every figure: SGLang's names with either separator, since OpenMetrics turns the colon into "_".
ENGINE_QUERY = f'{{{{__name__=~"sglang[:_]({"|".join((*_WAITING, _RUNNING, _KV))})",service="{{service}}"}}}}'


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

    def total(role: str, *names: str) -> float | None:
        known = [value for name in names for value in values.get((role, name), ())]
        return sum(known) if known else None

    return {
        role: EngineSignals(
            running_requests=total(role, _RUNNING),
            waiting_requests=total(role, *_WAITING),
            kv_share=fmean(values[role, _KV]) if (role, _KV) in values else None,
        )
        for role in ROLES
    }


def latest_decision(service: Mapping[str, Any]) -> dict[str, DecisionRow]:
    """The newest decision by role from an InferenceService's status."""
    decision = (service.get("status") or {}).get("decision") or {}
    return {
        role: DecisionRow(
            at=str(decision.get("at", "")),
            role=role,
            current=decision[role].get("current"),
            target=decision[role].get("target"),
            reason=str(decision[role].get("reason", "")),
            binding=str(decision[role].get("binding", "")),
            message=str(decision[role].get("message", "")),
            vetoes=tuple(f"{veto['guard']}: {veto['message']}" for veto in decision[role].get("vetoes") or ()),
        )
        for role in ROLES
        if role in decision
    }


def recent_decisions(service: Mapping[str, Any]) -> list[DecisionRow]:
    """The decisions that changed a target, as far back as the status keeps them."""
    changes: Sequence[Mapping[str, Any]] = (service.get("status") or {}).get("recentDecisions") or ()
    return [
        DecisionRow(
            at=str(change["at"]),
            role=str(change["role"]),
            current=change.get("fromReplicas"),
            target=change.get("toReplicas"),
            reason=str(change.get("reason", "")),
            binding=str(change.get("binding", "")),
            message=str(change.get("message", "")),
        )
        for change in changes
    ]


def conditions(service: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """(type, status, reason, message) of each condition."""
    found = (service.get("status") or {}).get("conditions") or ()
    return [(c["type"], c["status"], c.get("reason", ""), c.get("message", "")) for c in found]
