"""Conditions by the Kubernetes API and kstatus conventions, and the pure function that sets one."""

from collections.abc import Iterable
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from headrace.api.base import ApiModel


class ConditionType(StrEnum):
    """What a condition speaks about. Reconciling and Stalled are abnormal when True; the others are well when True."""

    READY = "Ready"
    RECONCILING = "Reconciling"
    STALLED = "Stalled"
    PREFILL_READY = "PrefillReady"
    DECODE_READY = "DecodeReady"
    WORKER_READY = "WorkerReady"
    GATEWAY_READY = "GatewayReady"
    SIGNALS_HEALTHY = "SignalsHealthy"
    SCALING_ACTIVE = "ScalingActive"
    SCALING_LIMITED = "ScalingLimited"


class ConditionStatus(StrEnum):
    """Unknown is not False: it says that nobody could look."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class ConditionReason(StrEnum):
    """Why a condition is as it is. Scaling reasons come from the decision itself."""

    # Ready, Reconciling, <Role>Ready; what keeps a pod from serving has the reasons of reconcile.pods.Trouble
    AVAILABLE = "Available"
    STARTING = "Starting"  # replicas exist and are not ready yet
    PROGRESSING = "Progressing"  # the spec was accepted and is being carried out
    ROLLING_OUT = "RollingOut"  # replicas of two revisions are there
    SETTLED = "Settled"  # nothing to do
    REPLICAS_MISSING = "ReplicasMissing"
    UNSCHEDULABLE = "Unschedulable"
    # Stalled
    INVALID_SPEC = "InvalidSpec"
    CHILD_NAME_COLLISION = "ChildNameCollision"
    MODEL_INVALID = "ModelInvalid"  # found, and not a model: no config.json, for example
    API_REJECTED = "APIRejected"  # the API server refused a child; the message carries its words
    FORBIDDEN = "Forbidden"  # the operator lacks a permission
    NOT_STALLED = "NotStalled"
    # ScalingActive
    SCALING_OFF = "ModeOff"
    ADVISORY = "Advisory"
    PAUSED = "Paused"
    ACTIVE = "Active"
    DELEGATED = "Delegated"  # a HorizontalPodAutoscaler or a ScaledObject writes what Headrace decides
    ACTUATOR_CONFLICT = "ActuatorConflict"  # somebody else's actuator sizes one of the pools
    ACTUATOR_MISSING = "ActuatorMissing"  # the mode's actuator can't be made here
    ACTUATOR_FAILING = "ActuatorFailing"  # it is there, and says that it can't scale
    # SignalsHealthy has the reasons of autoscaler.decision.SignalHealth, ScalingLimited of its Reason.


class Condition(ApiModel):
    """One aspect of the state."""

    type: Annotated[str, StringConstraints(max_length=64)]
    """What the condition speaks about."""

    status: ConditionStatus
    """True, False, or Unknown where nobody could look."""

    reason: Annotated[str, StringConstraints(min_length=1, max_length=128)]
    """Why, in one CamelCase word for programs."""

    message: Annotated[str, StringConstraints(max_length=4096)] = ""
    """Why, in a sentence for people, with the mend where there is one."""

    last_transition_time: str = Field(json_schema_extra={"format": "date-time"})
    """When `status` last changed."""

    observed_generation: int = 0
    """The generation of the spec that this was judged by."""


_MESSAGE_LIMIT = 4096  # the schema's; a container's last words can be longer


def format_time(epoch_s: float) -> str:
    """RFC 3339 in UTC, whole seconds, as Kubernetes writes it: 0.0 is 1970-01-01T00:00:00Z."""
    return datetime.fromtimestamp(int(epoch_s), tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def find_condition(conditions: Iterable[Condition], kind: ConditionType) -> Condition | None:
    """The condition of a type, if it is there."""
    return next((condition for condition in conditions if condition.type == kind), None)


def set_condition(
    conditions: Iterable[Condition],
    kind: ConditionType,
    status: ConditionStatus | bool | None,
    *,
    reason: str,
    message: str,
    observed_generation: int,
    now: float,
) -> tuple[Condition, ...]:
    """The conditions with one set, its place kept. `lastTransitionTime` moves only when `status` flips.

    `status` may be a bool, or None for Unknown. `now` is in seconds since the epoch.
    """
    before = tuple(conditions)
    old = find_condition(before, kind)
    new_status = _as_status(status)
    since = old.last_transition_time if old is not None and old.status is new_status else format_time(now)
    new = Condition(
        type=kind.value,
        status=new_status,
        reason=reason,
        message=message[:_MESSAGE_LIMIT],
        last_transition_time=since,
        observed_generation=observed_generation,
    )
    if old is None:
        return (*before, new)
    return tuple(new if condition is old else condition for condition in before)


def _as_status(status: ConditionStatus | bool | None) -> ConditionStatus:
    if isinstance(status, ConditionStatus):
        return status
    if status is None:
        return ConditionStatus.UNKNOWN
    return ConditionStatus.TRUE if status else ConditionStatus.FALSE
