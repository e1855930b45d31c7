"""What a pod object tells: its part in the service, where it is in its life, and what keeps it from serving."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from headrace.reconcile.fields import Manifest

ROLE_LABEL = "headrace.dev/role"
SERVICE_LABEL = "headrace.dev/service"
STATE_LABEL = "headrace.dev/state"
REVISION_LABEL = "headrace.dev/revision"
DRAINING_SINCE = "headrace.dev/draining-since"
DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
SERVING, DRAINING = "serving", "draining"
# What LeaderWorkerSet, and controllers that follow it, put on the pods of one engine that spans several nodes.
_LWS = "leaderworkerset.sigs.k8s.io"
# A message of a condition is read in one line of a terminal: the end of a traceback says what went wrong.
_MESSAGE_CHARS = 300


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a pod does not serve: a reason of the role's condition, and a sentence."""

    reason: str  # EngineCrashLoop, EngineCrashed, ImagePullFailed, Unschedulable, ConfigMissing
    message: str


@dataclass(frozen=True, slots=True)
class PodView:
    """The facts of a pod that decisions rest on. Times in epoch seconds."""

    name: str
    uid: str
    role: str
    created_at: float
    ready: bool
    ready_at: float | None
    phase: str  # Pending, Running, Succeeded, Failed, Unknown
    scheduled: bool
    terminating: bool
    draining: bool
    draining_since: float | None
    deletion_cost: int
    revision: str
    template_hash: str
    ip: str
    never_served: bool  # no engine in it ever got past its start, so it can hold no request
    engine_down: bool  # no engine process is running in it now, so whatever it had is lost already
    trouble: Trouble | None
    group: str = ""  # of an engine over several pods: what they have in common; empty: the pod is a replica by itself
    worker_index: int = 0  # within the group; the leader, which alone has the HTTP server, is 0
    group_size: int = 1  # pods that the group must have


def view(pod: Manifest) -> PodView:
    """Read a pod object. Whatever is missing or malformed counts as not known, never as an error."""
    meta, status = pod["metadata"], pod.get("status") or {}
    labels, notes = meta.get("labels") or {}, meta.get("annotations") or {}
    conditions = {c["type"]: c for c in status.get("conditions") or ()}
    ready = conditions.get("Ready", {})
    engines = status.get("containerStatuses") or ()
    pending = not engines and status.get("phase", "Pending") == "Pending"  # no container was created yet
    return PodView(
        name=meta["name"],
        uid=meta.get("uid", ""),
        role=labels.get(ROLE_LABEL, ""),
        created_at=parse_time(meta.get("creationTimestamp")) or 0.0,
        ready=ready.get("status") == "True",
        ready_at=parse_time(ready.get("lastTransitionTime")) if ready.get("status") == "True" else None,
        phase=status.get("phase", "Pending"),
        scheduled=bool((pod.get("spec") or {}).get("nodeName")),
        terminating=bool(meta.get("deletionTimestamp")) or status.get("phase") in {"Succeeded", "Failed"},
        draining=labels.get(STATE_LABEL) == DRAINING,
        draining_since=parse_time(notes.get(DRAINING_SINCE)),
        deletion_cost=_integer(notes.get(DELETION_COST)),
        revision=labels.get(REVISION_LABEL, ""),
        template_hash=labels.get("pod-template-hash", ""),
        ip=status.get("podIP", ""),
        never_served=pending or _all(engines, lambda c: not c.get("started") and not c.get("restartCount")),
        engine_down=pending or _all(engines, lambda c: "running" not in (c.get("state") or {})),
        trouble=_trouble(meta["name"], status, conditions),
        group=_group(labels),
        worker_index=_integer(labels.get(f"{_LWS}/worker-index")),
        group_size=max(_integer(notes.get(f"{_LWS}/size")), 1),
    )


def parse_time(text: Any) -> float | None:
    """Epoch seconds of an RFC 3339 time, None where there is none or it is malformed."""
    try:
        moment = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _group(labels: Mapping[str, Any]) -> str:
    """The name and the number of a pod's group; empty for a pod that is alone."""
    number = labels.get(f"{_LWS}/group-index")
    return f"{labels.get(f'{_LWS}/name', '')}/{number}" if number is not None else ""


def _all(containers: Sequence[Mapping[str, Any]], test: Callable[[Mapping[str, Any]], bool]) -> bool:
    """Whether there are containers and all pass; where none are reported nothing is known."""
    return bool(containers) and all(test(container) for container in containers)


def _integer(text: Any) -> int:
    try:
        return int(text)
    except (TypeError, ValueError):
        return 0


def _trouble(name: str, status: Mapping[str, Any], conditions: Mapping[str, Any]) -> Trouble | None:
    scheduled = conditions.get("PodScheduled", {})
    if scheduled.get("status") == "False" and scheduled.get("reason") == "Unschedulable":
        return Trouble("Unschedulable", f"pod {name} finds no node: {_last_line(scheduled.get('message'))}")
    for container in (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())):
        found = _container_trouble(name, container)
        if found:
            return found
    return None


def _container_trouble(pod: str, container: Mapping[str, Any]) -> Trouble | None:
    state, last = container.get("state") or {}, (container.get("lastState") or {}).get("terminated")
    waiting = (state.get("waiting") or {}).get("reason", "")
    detail = _last_line((state.get("waiting") or {}).get("message"))
    where = f"container {container.get('name')} of pod {pod}"
    if waiting in {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"}:
        return Trouble("ImagePullFailed", f"{where} can't pull image {container.get('image')}: {detail or waiting}")
    if waiting in {"CreateContainerConfigError", "CreateContainerError"}:
        return Trouble("ConfigMissing", f"{where} can't be created: {detail or waiting}")
    ended = state.get("terminated") or (last if not container.get("ready") else None)
    # Between two waits a crash loop runs for a while: judged by its restarts, it keeps one reason all along.
    looping = waiting == "CrashLoopBackOff" or container.get("restartCount", 0) > 1
    if ended and (ended.get("exitCode") or looping):
        reason = "EngineCrashLoop" if looping else "EngineCrashed"
        why = _last_line(ended.get("message")) or ended.get("reason") or "no termination message"
        return Trouble(reason, f"{where} exited with code {ended.get('exitCode')}: {why}")
    return None


def _last_line(text: Any) -> str:
    lines = [line.strip() for line in str(text or "").splitlines() if line.strip()]
    return lines[-1][:_MESSAGE_CHARS] if lines else ""
