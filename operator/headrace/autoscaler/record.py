"""A decision as plain JSON and back: for the status, the log, and replay."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from headrace.api.roles import Role
from headrace.autoscaler.decision import (
    Constraint,
    Decision,
    Need,
    Reason,
    RoleDecision,
    RoleTarget,
    SignalHealth,
    Veto,
    WhatIf,
)

RECORD_VERSION = 1


def to_record(decision: Decision) -> dict[str, Any]:
    """The decision as JSON-able values; `from_record` gives it back unchanged."""
    return {
        "version": RECORD_VERSION,
        "service": decision.service,
        "at": decision.at,
        "shed": decision.shed,
        "health": asdict(decision.health),
        "inputs": dict(decision.inputs),
        "roles": {role.value: _role_record(part) for role, part in decision.roles.items()},
    }


def from_record(record: Mapping[str, Any]) -> Decision:
    """The decision of a record. Raises ValueError for another version, KeyError or TypeError for anything malformed."""
    if record.get("version") != RECORD_VERSION:
        raise ValueError(f"version: decision record has {record.get('version')!r}, this build reads {RECORD_VERSION}")
    return Decision(
        service=record["service"],
        at=record["at"],
        roles={Role(name): _role(Role(name), part) for name, part in record["roles"].items()},
        health=SignalHealth(**record["health"]),
        inputs=dict(record["inputs"]),
        shed=record["shed"],
    )


def _role_record(part: RoleDecision) -> dict[str, Any]:
    return {
        "target": {
            "replicas": part.target.replicas,
            "victims": list(part.target.victims),
            "reactivate": list(part.target.reactivate),
        },
        "serving": part.serving,
        "starting": part.starting,
        "draining": part.draining,
        "needs": [{**asdict(need), "constraint": need.constraint.value} for need in part.needs],
        "binding": part.binding.value,
        "reason": part.reason.value,
        "message": part.message,
        "vetoes": [asdict(veto) for veto in part.vetoes],
        "whatIf": [asdict(row) for row in part.what_if],
    }


def _role(role: Role, part: Mapping[str, Any]) -> RoleDecision:
    target = part["target"]
    return RoleDecision(
        target=RoleTarget(role, target["replicas"], tuple(target["victims"]), tuple(target["reactivate"])),
        serving=part["serving"],
        starting=part["starting"],
        draining=part["draining"],
        needs=tuple(Need(Constraint(n["constraint"]), n["replicas"], n["detail"]) for n in part["needs"]),
        binding=Constraint(part["binding"]),
        reason=Reason(part["reason"]),
        message=part["message"],
        vetoes=tuple(Veto(**veto) for veto in part["vetoes"]),
        what_if=tuple(WhatIf(**row) for row in part["whatIf"]),
    )
