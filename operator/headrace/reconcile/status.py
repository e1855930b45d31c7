"""The one composer of the status: everything known goes in, one whole object comes out, or the old one unchanged."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from headrace.api.conditions import Condition, ConditionReason, ConditionType, set_condition
from headrace.api.resolve import resolve
from headrace.api.roles import Role
from headrace.api.status import CapacityFigure, DecisionRecord, InferenceServiceStatus, RoleStatus, TargetChange
from headrace.api.v1alpha1 import InferenceService
from headrace.autoscaler.decision import Decision
from headrace.reconcile.actuators import Obstacle
from headrace.reconcile.health import (
    ROLE_CONDITIONS,
    Finding,
    PoolFacts,
    gateway_ready,
    pool_ready,
    ready,
    reconciling,
    scaling,
)
from headrace.reconcile.records import capacity_figures, decision_record, recent, significant

# Conditions whose message carries live figures: a new figure alone is not worth a write.
_FIGURES_IN_MESSAGE = {
    ConditionType.SIGNALS_HEALTHY.value,
    ConditionType.SCALING_LIMITED.value,
}


@dataclass(frozen=True, slots=True)
class Stall:
    """Why the spec can't be carried out, with the mend."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Facts:
    """All that one pass learnt about a service."""

    service: InferenceService
    pools: Mapping[Role, PoolFacts]
    gateway: PoolFacts
    endpoint: str
    decision: Decision | None = None
    capacity: Mapping[str, Mapping[str, Mapping[str, float | None]]] = field(default_factory=dict)
    pending: str = ""  # what of this pass is still to be done
    stall: Stall | None = None
    obstacle: Obstacle | None = None  # what keeps decisions from being carried out


def compose(facts: Facts, before: InferenceServiceStatus, now: float, *, capacity_due: bool) -> InferenceServiceStatus:
    """The status after a pass; `before` itself where nothing that is worth a write has changed.

    `capacity_due`: whether capacity figures that move may cause a write now (once a minute at most); one that becomes
    known is written at once.
    """
    parts = [pool_ready(pool, ROLE_CONDITIONS[role]) for role, pool in facts.pools.items()]
    parts.append(gateway_ready(facts.gateway))
    summary = ready(parts, facts.endpoint)
    if facts.stall is not None:
        pending = Finding(ConditionType.RECONCILING, False, facts.stall.reason, "waits for the mend told by Stalled")
    else:
        pending = reconciling([*facts.pools.values(), facts.gateway], facts.pending)
    service = facts.service
    findings = [
        summary,
        pending,
        _stalled(facts.stall),
        *parts,
        *scaling(service.spec.autoscaling.mode, service.paused, facts.decision, facts.obstacle),
    ]
    capacity = capacity_figures(facts.capacity) or before.capacity
    record, changes = _decision(facts.decision, before)
    after = InferenceServiceStatus(
        observed_generation=service.generation,
        conditions=_conditions(findings, before.conditions, service.generation, now),
        endpoint=facts.endpoint,
        gateway=_role_status(facts.gateway),
        resolved=resolve(service.spec),
        capacity=capacity if capacity_due or _known(capacity) - _known(before.capacity) else before.capacity,
        decision=record,
        recent_decisions=changes,
        **{role.value: _role_status(pool) for role, pool in facts.pools.items()},
    )
    return before if _projection(after) == _projection(before) else after


def refuse(
    before: InferenceServiceStatus, stall: Stall, generation: int, now: float, *, serving_goes_on: bool = True
) -> InferenceServiceStatus:
    """The status of a service whose spec can't be used: what runs keeps running, and is reported as it was."""
    findings = [
        Finding(ConditionType.READY, False, stall.reason, stall.message),
        Finding(ConditionType.RECONCILING, False, stall.reason, "waits for the mend told by Stalled"),
        _stalled(stall),
    ]
    kept = before.conditions if serving_goes_on else ()
    known = {finding.type.value for finding in findings}
    conditions = _conditions(findings, kept, generation, now)
    conditions += tuple(condition for condition in kept if condition.type not in known)
    after = before.model_copy(update={"observed_generation": generation, "conditions": conditions})
    return before if _projection(after) == _projection(before) else after


def _stalled(stall: Stall | None) -> Finding:
    if stall is None:
        return Finding(ConditionType.STALLED, False, ConditionReason.NOT_STALLED, "nothing is in the way")
    return Finding(ConditionType.STALLED, True, stall.reason, stall.message)


def _conditions(
    findings: Sequence[Finding], before: tuple[Condition, ...], generation: int, now: float
) -> tuple[Condition, ...]:
    """The findings as conditions, in their order. Conditions that no finding speaks about are dropped."""
    types = {finding.type.value for finding in findings}
    old = tuple(condition for condition in before if condition.type in types)
    for finding in findings:
        old = set_condition(
            old,
            finding.type,
            finding.status,
            reason=str(finding.reason),
            message=finding.message,
            observed_generation=generation,
            now=now,
        )
    order = {finding.type.value: index for index, finding in enumerate(findings)}
    return tuple(sorted(old, key=lambda condition: order[condition.type]))


def _role_status(pool: PoolFacts) -> RoleStatus:
    return RoleStatus(
        desired=pool.desired,
        replicas=len(pool.alive),
        ready=pool.ready,
        starting=pool.starting,
        draining=pool.draining,
        revision=pool.revision,
        summary=f"{pool.ready}/{pool.desired}",
    )


def _known(capacity: Mapping[str, Mapping[str, CapacityFigure]] | None) -> set[tuple[str, str, str]]:
    """Which figures there are: (role, figure, predicted or measured)."""
    return {
        (role, name, kind)
        for role, figures in (capacity or {}).items()
        for name, figure in figures.items()
        for kind, value in figure.to_wire().items()
        if value is not None
    }


def _decision(
    decision: Decision | None, before: InferenceServiceStatus
) -> tuple[DecisionRecord | None, tuple[TargetChange, ...]]:
    """The record to show; without a decision (restart, mode Off) the last one stays as history."""
    if decision is None:
        return before.decision, before.recent_decisions
    return decision_record(decision), recent(before.recent_decisions, before.decision, decision)


def _projection(status: InferenceServiceStatus) -> dict[str, Any]:
    """What is worth a write: everything but times, ages and figures that move at every tick."""
    wire = status.to_wire()
    wire["decision"] = significant(status.decision)
    wire["conditions"] = [
        {
            key: value
            for key, value in condition.items()
            if key != "lastTransitionTime" and not (key == "message" and condition["type"] in _FIGURES_IN_MESSAGE)
        }
        for condition in wire.get("conditions", ())
    ]
    return wire
