"""`headrace explain`: why a service has as many replicas as it has, in plain words from its status."""

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Annotated, Any

import typer

from headrace.api.conditions import Condition, ConditionStatus
from headrace.api.roles import Role
from headrace.api.status import InferenceServiceStatus, RoleDecisionRecord, RoleStatus, TargetChange, WhatIfRecord
from headrace.autoscaler.decision import Constraint, Reason
from headrace.autoscaler.explain import MEANING, REASONS
from headrace.kube.interface import Kube, Manifest
from headrace.kube.kinds import INFERENCE_SERVICE

WATCH_S = 2.0  # between two looks: the autoscaler decides every five seconds
_ABNORMAL_WHEN_TRUE = {"Reconciling", "Stalled", "ScalingLimited"}

Service = Annotated[str, typer.Argument(metavar="SERVICE", help="Name of the InferenceService, or NAMESPACE/NAME.")]
Namespace = Annotated[str, typer.Option("--namespace", "-n", help="Its namespace.")]
AsJson = Annotated[bool, typer.Option("--json", help="The decision as JSON.")]
Watch = Annotated[bool, typer.Option("--watch", "-w", help="Go on and show every change.")]


def explain(service: Service, namespace: Namespace = "default", as_json: AsJson = False, watch: Watch = False) -> None:
    """Say in plain words why a service has as many replicas as it has, and what changed lately.

    Example: headrace explain chat --namespace default --watch
    """
    from headrace.cli.connection import run  # noqa: PLC0415  the client library takes a second to import
    from headrace.clock import SystemClock  # noqa: PLC0415

    clock = SystemClock()
    if "/" in service:  # as every output of ours names it
        namespace, _, service = service.partition("/")

    async def look(kube: Kube) -> bool:
        shown = ""
        while True:
            manifest = await kube.get(INFERENCE_SERVICE, namespace, service)
            if manifest is None:
                typer.echo(f"there is no InferenceService {service} in namespace {namespace}", err=True)
                return False
            text = as_data(manifest) if as_json else describe(manifest, clock.now())
            if text.splitlines()[1:] != shown.splitlines()[1:]:  # the first line carries an age, which always moves
                typer.echo(text)
                shown = text
            if not watch:
                return True
            await clock.sleep(WATCH_S)

    if not run(look):
        raise typer.Exit(1)


def as_data(manifest: Manifest) -> str:
    """Counts, conditions and decisions as JSON, as they stand in the status."""
    status: Mapping[str, Any] = manifest.get("status") or {}
    wanted = (*(role.value for role in Role), "conditions", "capacity", "decision", "recentDecisions")
    name = f"{manifest['metadata'].get('namespace', 'default')}/{manifest['metadata']['name']}"
    return json.dumps({"service": name, **{key: status[key] for key in wanted if key in status}}, indent=2)


def describe(manifest: Manifest, now: float) -> str:
    """The whole explanation; its first line carries the age of the decision."""
    status = InferenceServiceStatus.parse(manifest)
    metadata = manifest["metadata"]
    name = f"{metadata.get('namespace', 'default')}/{metadata['name']}"
    lines = [f"{name}: {_age(status, now)}", *_attention(status.conditions)]
    for role in Role:
        record = getattr(status.decision, role.value, None)
        if record is not None:
            lines += ["", *_role(role, record, getattr(status, role.value))]
    if status.decision is None:
        lines.append("No decision yet: the operator is not running, has just started, or scaling is off (see Ready).")
    if status.recent_decisions:
        lines += ["", "Changes, newest first:", *map(_change, status.recent_decisions)]
    return "\n".join(lines)


def _age(status: InferenceServiceStatus, now: float) -> str:
    if status.decision is None:
        return "no decision in its status"
    decided_at = datetime.fromisoformat(status.decision.at).timestamp()
    return f"decided {max(0.0, now - decided_at):.0f} s ago ({status.decision.at}); shown when something changed"


def _attention(conditions: tuple[Condition, ...]) -> Iterator[str]:
    """The conditions that are not as they should be; Ready in any case."""
    for condition in conditions:
        well = (condition.status is ConditionStatus.TRUE) != (condition.type in _ABNORMAL_WHEN_TRUE)
        if condition.type == "Ready" or not well:
            yield f"  {condition.type}={condition.status} ({condition.reason}): {condition.message}"


def _role(role: Role, record: RoleDecisionRecord, live: RoleStatus | None) -> Iterator[str]:
    counts = f"; {live.ready} serve, {live.starting} start, {live.draining} drain" if live else ""
    yield f"{role.value}: {record.target} wanted{counts}. {record.reason}: {_meaning(record.reason)}."
    if record.message:
        yield f"   {record.message}"
    for need in sorted(record.needs, key=lambda need: -need.replicas):
        mark = "*" if need.constraint == record.binding else " "
        yield f" {mark} {need.replicas:6.2f} for {need.constraint} ({_constraint(need.constraint)}): {need.detail}"
    if record.binding == Constraint.MINIMUM:
        yield f" * {_constraint(record.binding)} decides"
    for veto in record.vetoes:
        yield f"   guard {veto.guard}: {veto.message}"
    for row in record.what_if:
        yield f"   {_what_if(row, record.target)}"


def _meaning(reason: str) -> str:
    return REASONS[Reason(reason)] if reason in set(Reason) else "a reason of another version of Headrace"


def _constraint(name: str) -> str:
    return MEANING[Constraint(name)] if name in set(Constraint) else "a constraint of another version of Headrace"


def _what_if(row: WhatIfRecord, chosen: int) -> str:
    parts = []
    if row.ttft_attainment is not None:
        parts.append(f"{row.ttft_attainment:.1%} within TTFT")
    if row.tpot_seconds is not None:
        parts.append(f"{row.tpot_seconds * 1000:.1f} ms a token")
    if row.kv_share is not None:
        parts.append(f"KV {row.kv_share:.0%} full")
    if row.accelerators is not None:
        parts.append(f"{row.accelerators:g} accelerators")
    return f"with {row.replicas}{' (chosen)' if row.replicas == chosen else ''}: {', '.join(parts) or 'not known'}"


def _change(change: TargetChange) -> str:
    return (
        f"  {change.at} {change.role} {change.from_replicas} -> {change.to_replicas} {change.reason}"
        f"{f' ({change.binding})' if change.binding else ''}: {change.message}"
    )
