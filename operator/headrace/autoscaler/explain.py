"""A decision in plain words, for the person who asks why there are so many replicas."""

from datetime import UTC, datetime

from headrace.autoscaler.decision import Constraint, Decision, Reason, RoleDecision, WhatIf

MEANING = {
    Constraint.PREFILL_ENVELOPE: "bursts of prompts, to be worked off within the TTFT budget",
    Constraint.PREFILL_RATE: "prompt tokens per second at the time a new replica would be ready",
    Constraint.PREFILL_BACKLOG: "prompts that already wait",
    Constraint.DECODE_KV: "room for KV tokens",
    Constraint.DECODE_STEP: "step time, so that every token comes within the TPOT objective",
    Constraint.KV_LINK: "bytes per second from prefill to decode",
    Constraint.MINIMUM: "the lower bound of the spec",
}
REASONS = {
    Reason.STEADY: "nothing to change",
    Reason.SCALE_UP: "more replicas are needed",
    Reason.SCALE_DOWN: "fewer replicas carry the load",
    Reason.REACTIVATE: "a draining replica is taken back",
    Reason.HELD: "a change was wanted and a guard held it",
    Reason.LIMITED: "more is needed than limits allow",
    Reason.NO_SIGNALS: "no signals, so nothing is changed",
    Reason.PAUSED: "scaling is paused",
}


def explain(decision: Decision) -> str:
    """The decision as text of a few lines a role: what was seen, what each constraint asks for, what held it."""
    when = datetime.fromtimestamp(decision.at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    health = "healthy" if decision.health.healthy else "NOT healthy"
    lines = [
        f"{decision.service} at {when}",
        f"signals: {health} ({decision.health.reason}): {decision.health.message}",
        _load(decision),
        *_clients(decision),
    ]
    for part in decision.roles.values():
        lines += _role(part)
    if decision.shed:
        lines.append("hint: refuse or hold new requests at the gateway; no replica can come in time")
    return "\n".join(lines)


def _load(decision: Decision) -> str:
    inputs = decision.inputs
    text = (
        f"load: {inputs.get('arrivals_per_s_1m', 0.0):.2f} requests/s over the last minute, "
        f"{inputs.get('prompt_tokens', 0.0):.0f} prompt tokens each ({inputs.get('uncached_tokens', 0.0):.0f} uncached)"
    )
    output = inputs.get("output_tokens")
    return text + (f", {output:.0f} output tokens" if output else "")


def _clients(decision: Decision) -> list[str]:
    """What clients got lately, where engines tell it, and what that makes of the needs."""
    inputs = decision.inputs
    late, slow = inputs.get("ttft_missed_share"), inputs.get("tpot_missed_share")
    if late is None or slow is None:
        return []
    alone = inputs.get("ttft_late_alone_share", 0.0)
    anyway = f" ({alone:.1%} with prompts that take longer alone: no number of replicas helps)" if alone else ""
    return [
        f"clients: {late:.1%} of the answers of about ten minutes missed TTFT{anyway}, {slow:.1%} TPOT; "
        f"needs of prefill x {inputs['feedback_prefill']:.2f}, of decode x {inputs['feedback_decode']:.2f}"
    ]


def _role(part: RoleDecision) -> list[str]:
    target = part.target
    lines = [
        "",
        f"{target.role}: {target.replicas} replicas wanted; {part.serving} serve, {part.starting} start, "
        f"{part.draining} drain. {part.reason}: {REASONS[part.reason]}.",
    ]
    for need in sorted(part.needs, key=lambda need: -need.replicas):
        mark = "*" if need.constraint is part.binding else " "
        lines.append(f" {mark} {need.replicas:6.2f}  {need.constraint}: {MEANING[need.constraint]}; {need.detail}")
    if part.binding is Constraint.MINIMUM:
        lines.append(f" * {MEANING[Constraint.MINIMUM]} decides")
    lines += [f"   guard {veto.guard}: {veto.message}" for veto in part.vetoes]
    if target.victims:
        lines.append(f"   drains: {', '.join(target.victims)}")
    if target.reactivate:
        lines.append(f"   takes back: {', '.join(target.reactivate)}")
    lines += [f"   {_what_if(row, target.replicas)}" for row in part.what_if]
    return lines


def _what_if(row: WhatIf, chosen: int) -> str:
    parts = [f"with {row.replicas}{' (chosen)' if row.replicas == chosen else ''}:"]
    if row.ttft_attainment is not None:
        parts.append(f"{row.ttft_attainment:.1%} within TTFT,")
    if row.tpot_s is not None:
        parts.append(f"{row.tpot_s * 1e3:.1f} ms a token,")
    if row.kv_share is not None:
        parts.append(f"KV {row.kv_share:.0%} full at the quantile,")
    return " ".join([*parts, f"{row.gpus:g} accelerators"])
