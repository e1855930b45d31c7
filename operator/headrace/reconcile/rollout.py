"""Order among the parts of a service: what must be there before something else may go."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from headrace.api.conditions import ConditionReason
from headrace.reconcile.diff import Prune
from headrace.reconcile.fields import Manifest
from headrace.reconcile.health import PoolFacts


def prune_hold(prunes: Sequence[Prune], pools: Iterable[PoolFacts], old_ready: int) -> str:
    """Why children that are no longer wanted must stay for now; empty: they may go.

    When the topology is switched the old engines serve until the new ones do: the gateways roll over once they have
    found engines of each role. `old_ready`: Ready pods of pools that are to go.
    Nothing is held where a new pod finds no node, for it may wait for the very accelerators that the old ones have.
    """
    if not any(prune.ref.kind == "Deployment" for prune in prunes) or not old_ready:
        return ""
    waiting = []
    for pool in pools:
        trouble = pool.trouble()
        if trouble is not None and trouble.reason == ConditionReason.UNSCHEDULABLE:
            return ""
        if pool.ready < pool.least or pool.rolling:
            waiting.append(pool.name)
    return f"the old pools serve until {' and '.join(waiting)} are ready" if waiting else ""


def rolling(deployment: Mapping[str, Any]) -> bool:
    """Whether pods of an older template are still there, or the last change of the template was not seen yet."""
    status, meta = deployment.get("status") or {}, deployment["metadata"]
    seen = int(status.get("observedGeneration") or 0) >= int(meta.get("generation") or 0)
    return not seen or int(status.get("updatedReplicas") or 0) < int(status.get("replicas") or 0)


def creation_problem(deployment: Mapping[str, Any]) -> str:
    """The Deployment's own words when its pods can't be created (quota, admission); empty: no problem."""
    conditions = (deployment.get("status") or {}).get("conditions") or ()
    failure = next((c for c in conditions if c.get("type") == "ReplicaFailure" and c.get("status") == "True"), None)
    return str(failure.get("message") or failure.get("reason") or "pods can't be created") if failure else ""


def revision_of(deployment: Manifest) -> str:
    """The revision label that new pods get."""
    labels = deployment["spec"].get("template", {}).get("metadata", {}).get("labels") or {}
    return str(labels.get("headrace.dev/revision", ""))
