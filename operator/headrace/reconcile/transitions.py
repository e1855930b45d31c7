"""Which changes of the status are news: the Events of a pass."""

from dataclasses import dataclass

from headrace.api.conditions import Condition, ConditionReason, ConditionStatus, ConditionType, find_condition
from headrace.api.status import InferenceServiceStatus

# Conditions whose change of status or reason is told, and the status that is a warning.
_TOLD = {
    ConditionType.READY: ConditionStatus.FALSE,
    ConditionType.STALLED: ConditionStatus.TRUE,
    ConditionType.PREFILL_READY: ConditionStatus.FALSE,
    ConditionType.DECODE_READY: ConditionStatus.FALSE,
    ConditionType.WORKER_READY: ConditionStatus.FALSE,
    ConditionType.GATEWAY_READY: ConditionStatus.FALSE,
    ConditionType.SIGNALS_HEALTHY: ConditionStatus.FALSE,
}


@dataclass(frozen=True, slots=True)
class News:
    """One Event."""

    reason: str
    message: str
    warning: bool


def news(before: InferenceServiceStatus, after: InferenceServiceStatus) -> list[News]:
    """What changed between two statuses that a person would want to be told."""
    found = []
    for kind, bad in _TOLD.items():
        old, new = find_condition(before.conditions, kind), find_condition(after.conditions, kind)
        if new is not None and _is_news(old, new, bad):
            found.append(News(new.reason, f"{new.type}={new.status}: {new.message}", new.status is bad))
    found += _actuators(before, after)
    known = len(before.recent_decisions)
    fresh = len(after.recent_decisions) - known if not known else _fresh(before, after)
    for change in after.recent_decisions[:fresh]:
        text = f"{change.role} {change.from_replicas} -> {change.to_replicas}: {change.message}"
        found.append(News(change.reason, text, warning=False))
    return found


# Of ScalingActive: that an actuator is in the way, or no longer. A mode that somebody chose is no news.
_OBSTACLES = {
    ConditionReason.ACTUATOR_CONFLICT.value,
    ConditionReason.ACTUATOR_MISSING.value,
    ConditionReason.ACTUATOR_FAILING.value,
}


def _actuators(before: InferenceServiceStatus, after: InferenceServiceStatus) -> list[News]:
    old = find_condition(before.conditions, ConditionType.SCALING_ACTIVE)
    new = find_condition(after.conditions, ConditionType.SCALING_ACTIVE)
    was = old.reason if old is not None and old.reason in _OBSTACLES else ""
    if new is None or new.reason == was or not (was or new.reason in _OBSTACLES):
        return []
    text = f"{new.type}={new.status}: {new.message}"
    return [News(new.reason, text, warning=new.reason in _OBSTACLES)]


# What every new service goes through: worth an Event only when it happens to one that was well.
_USUAL_AT_FIRST = {ConditionReason.STARTING.value, ConditionReason.REPLICAS_MISSING.value}


def _is_news(old: Condition | None, new: Condition, bad: ConditionStatus) -> bool:
    """The first look is news only where it is bad; later ones when the status or, of a bad one, the reason changes."""
    if old is None:
        return new.status is bad and new.reason not in _USUAL_AT_FIRST
    changed = new.status is bad and old.reason != new.reason and new.reason not in _USUAL_AT_FIRST
    return old.status is not new.status or changed


def _fresh(before: InferenceServiceStatus, after: InferenceServiceStatus) -> int:
    """How many changes at the head of the new list come before the head of the old one."""
    head = before.recent_decisions[0]
    return next((i for i, change in enumerate(after.recent_decisions) if change == head), len(after.recent_decisions))
