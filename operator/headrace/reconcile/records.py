"""A decision as the status shows it: compact, figures to a few digits, and a list of the changes of target."""

from collections.abc import Mapping
from math import floor, isfinite, log10
from typing import Any

from headrace.api.conditions import format_time
from headrace.api.roles import Role
from headrace.api.status import (
    RECENT_DECISIONS,
    CapacityFigure,
    DecisionRecord,
    NeedRecord,
    RoleDecisionRecord,
    TargetChange,
    VetoRecord,
    WhatIfRecord,
)
from headrace.autoscaler.decision import Decision, RoleDecision

_TEXT = 1024  # the schema's limit of a sentence


def decision_record(decision: Decision) -> DecisionRecord:
    """The record of a decision."""
    roles = {role.value: _role(role_decision) for role, role_decision in decision.roles.items()}
    return DecisionRecord(
        at=format_time(decision.at), inputs={key: _figure(value) for key, value in decision.inputs.items()}, **roles
    )


def role_record(record: DecisionRecord | None, role: Role) -> RoleDecisionRecord | None:
    """The part of a record that is about a role."""
    found: RoleDecisionRecord | None = getattr(record, role.value, None)
    return found


def recent(
    previous: tuple[TargetChange, ...], before: DecisionRecord | None, decision: Decision
) -> tuple[TargetChange, ...]:
    """The changes of target, newest first: the ones already listed, and those that `decision` makes after `before`."""
    changes = []
    for role, now in decision.roles.items():
        old = role_record(before, role)
        if old is not None and old.target != now.target.replicas:
            changes.append(
                TargetChange(
                    at=format_time(decision.at),
                    role=role.value,
                    from_replicas=old.target,
                    to_replicas=now.target.replicas,
                    binding=now.binding.value,
                    reason=now.reason.value,
                    message=now.message[:_TEXT],
                )
            )
    return (*changes, *previous)[:RECENT_DECISIONS]


def significant(record: DecisionRecord | None) -> Any:
    """What must change for a record to be worth a write: targets, counts, the binding constraint, reasons, vetoes."""
    found = [(role.value, role_record(record, role)) for role in Role]
    return [
        (name, r.target, r.current, r.starting, r.draining, r.binding, r.reason, sorted(v.guard for v in r.vetoes))
        for name, r in found
        if r is not None
    ]


def fingerprint(decision: Decision) -> Any:
    """The same of a decision that was just taken, with all that the reconciler acts on: equal means nothing to do."""
    roles = []
    for role, part in decision.roles.items():
        guards = sorted(veto.guard for veto in part.vetoes)
        counts = (part.serving, part.starting, part.draining)
        roles.append((role.value, part.target, counts, part.binding, part.reason, guards))
    return (roles, decision.health.healthy, decision.health.reason)


def capacity_figures(
    capacity: Mapping[str, Mapping[str, Mapping[str, float | None]]],
) -> dict[str, dict[str, CapacityFigure]]:
    """Capacity by role, figure and kind (predicted, measured), to two digits: 1,284 tokens/s is shown as 1300."""
    return {
        role: {
            name: CapacityFigure(**{kind: None if value is None else _round(value, 2) for kind, value in kinds.items()})
            for name, kinds in figures.items()
        }
        for role, figures in capacity.items()
    }


def _role(decision: RoleDecision) -> RoleDecisionRecord:
    return RoleDecisionRecord(
        current=decision.serving,
        target=decision.target.replicas,
        starting=decision.starting,
        draining=decision.draining,
        needs=tuple(
            NeedRecord(constraint=n.constraint.value, replicas=_figure(n.replicas), detail=n.detail[:_TEXT])
            for n in decision.needs
        ),
        binding=decision.binding.value,
        reason=decision.reason.value,
        message=decision.message[:_TEXT],
        vetoes=tuple(VetoRecord(guard=v.guard[:64], message=v.message[:_TEXT]) for v in decision.vetoes),
        what_if=tuple(
            WhatIfRecord(
                replicas=w.replicas,
                ttft_attainment=_figure(w.ttft_attainment),
                tpot_seconds=_figure(w.tpot_s),
                kv_share=_figure(w.kv_share),
                accelerators=_figure(w.gpus),
            )
            for w in decision.what_if
        ),
    )


def _figure(value: Any) -> Any:
    """Numbers to three digits, also inside lists and maps; infinities and NaN, which JSON has not, as null."""
    if isinstance(value, Mapping):
        return {str(key): _figure(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_figure(inner) for inner in value]
    return _round(value, 3) if isinstance(value, float) else value


def _round(value: float, digits: int) -> float | None:
    if not isfinite(value):
        return None
    return round(value, digits - 1 - floor(log10(abs(value)))) if value else 0.0
