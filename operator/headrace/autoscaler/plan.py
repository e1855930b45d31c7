"""One decision for one service: signals, capacity, limits and memory in; targets with their reasons out.

The same function runs in the operator, in the simulator and in replay. It reads no clock and keeps no state: everything
that lasts is in the Memory and the CapacityModel that come back.
"""

import math
from dataclasses import dataclass, replace

from headrace.api.roles import Role
from headrace.autoscaler.capacity import CapacityModel
from headrace.autoscaler.choose import Part, choose
from headrace.autoscaler.decision import Constraint, Decision, Need, RoleDecision, SignalHealth, Veto
from headrace.autoscaler.freshness import health as signal_health
from headrace.autoscaler.guards import Case, apply_guards
from headrace.autoscaler.learn import learn
from headrace.autoscaler.limits import Limits, RoleLimits
from headrace.autoscaler.memory import Memory, RoleMemory, add_peak, startup_s
from headrace.autoscaler.observe import Observed, observe
from headrace.autoscaler.patience import lowered_from, patience
from headrace.autoscaler.signals import Signals
from headrace.autoscaler.sizing import Sizing, size
from headrace.autoscaler.targets import pick, reason_of, sentence

IDLE_NEED = 0.1  # replicas: below this no constraint is worth naming but the lower bound
SETTLE_S = 30.0  # an order shows in the pods' phases after an API round trip and a scrape: until then it still holds


@dataclass(frozen=True, slots=True)
class Plan:
    """A decision, and what the next one needs."""

    decision: Decision
    memory: Memory
    model: CapacityModel


def plan(signals: Signals, model: CapacityModel, limits: Limits, memory: Memory, now: float) -> Plan:
    """Decide for one service. Never raises on missing or odd signals; times are epoch seconds."""
    if memory.since == 0.0:
        memory = replace(memory, since=now)
    health = signal_health(signals, limits, now)
    pools = {role: observe(signals, role, limits, memory, model, now) for role in limits.roles}
    memory, model = learn(signals, pools, model, limits, memory, now)
    sizing = size(signals, pools, model, limits, memory)
    cases: dict[Role, Case] = {}
    parts: dict[Role, Part] = {}
    vetoes: dict[Role, tuple[Veto, ...]] = {}
    starting = {role: len(pool.starting) for role, pool in pools.items()}
    for role, role_limits in limits.roles.items():
        others = sum(starting.values()) - starting[role] if limits.starts_shared else 0
        case = _case(role, pools[role], role_limits, limits, memory, health, sizing, now, others)
        raw = math.ceil(case.need - 1e-9)
        guarded, vetoes[role] = apply_guards(case, max(raw, case.role_limits.min))
        starting[role] = max(starting[role], guarded - len(case.pool.serving) - len(case.pool.draining))
        cases[role] = case
        parts[role] = Part(
            wanted=guarded,
            need=case.need,
            least=role_limits.min,
            most=role_limits.max,
            gpus=role_limits.gpus,
            cost=role_limits.cost_per_hour,
            draining=len(pools[role].draining),
        )
    chosen, joint = choose(_not_below_current(parts, cases, limits), limits)
    for role, added in joint.items():
        vetoes[role] = (*vetoes[role], *added)
    roles = {role: _role_decision(case, chosen[role], vetoes[role], sizing) for role, case in cases.items()}
    decision = Decision(
        service=signals.service,
        at=now,
        roles=roles,
        health=health,
        inputs=sizing.inputs,
        shed=sizing.shed,
    )
    return Plan(decision, _remember(memory, cases, roles, now), model)


def _case(  # noqa: PLR0917 - gathers what the guards may look at
    role: Role, pool: Observed, role_limits: RoleLimits, limits: Limits, memory: Memory,
    health: SignalHealth, sizing: Sizing, now: float, others_starting: int,
) -> Case:  # fmt: skip
    mine = memory.role(role)
    lead_s = startup_s(mine, limits.startup_prior_s)
    window_s = limits.window_s(lead_s) * mine.patience
    need = max(need.replicas for need in sizing.needs[role])
    queues = sizing.prefill is not None and role is not Role.DECODE
    peaks = add_peak(mine.peaks, now, need, window_s)
    current = _current(pool, mine, role_limits, now)
    return Case(
        pool=pool,
        role_limits=role_limits,
        limits=limits,
        memory=replace(mine, peaks=peaks, retracted_at=now if pool.retracted_requests > 0 else mine.retracted_at),
        health=health,
        now=now,
        since=memory.since,
        current=current,
        need=need,
        peak=peaks[0][1],
        window_s=window_s,
        startup_s=lead_s,
        wait_s=_wait_s(sizing, pool) if queues else 0.0,
        budget_s=sizing.prefill.budget_s if sizing.prefill and queues else math.inf,
        others_starting=others_starting,
        holds=lambda n: sizing.holds(role, n, current),
    )


def _wait_s(sizing: Sizing, pool: Observed) -> float:
    return sizing.prefill.backlog_s / max(len(pool.serving), 1) if sizing.prefill else 0.0


def _current(pool: Observed, memory: RoleMemory, role_limits: RoleLimits, now: float) -> int:
    """Replicas meant to stay, counting an order that was given and does not show yet."""
    if memory.target is not None:
        if now - memory.raised_at < SETTLE_S and memory.target > pool.current:
            return memory.target
        if now - memory.lowered_at < SETTLE_S and memory.target < pool.current:
            return memory.target
    return pool.current if pool.current > 0 else role_limits.min


def _not_below_current(parts: dict[Role, Part], cases: dict[Role, Case], limits: Limits) -> dict[Role, Part]:
    """A budget that holds for what runs today only limits growth; one that was cut below that makes pools shrink."""
    kept = {
        role: replace(part, least=min(max(min(cases[role].current, part.wanted), part.least), part.most))
        for role, part in parts.items()
    }
    least = sum(part.least * part.gpus for part in kept.values())
    return parts if limits.gpu_budget is not None and least > limits.gpu_budget + 1e-9 else kept


def _role_decision(case: Case, replicas: int, vetoes: tuple[Veto, ...], sizing: Sizing) -> RoleDecision:
    role = case.pool.role
    needs = sizing.needs[role]
    binding = max(needs, key=lambda need: need.replicas)
    if binding.replicas <= max(case.role_limits.min - 1.0, IDLE_NEED):
        binding = Need(Constraint.MINIMUM, float(case.role_limits.min), f"replicas.min is {case.role_limits.min}")
    target = pick(case, replicas)
    reason = reason_of(case, target, vetoes)
    return RoleDecision(
        target=target,
        serving=len(case.pool.serving),
        starting=len(case.pool.starting),
        draining=len(case.pool.draining),
        needs=needs,
        binding=binding.constraint,
        reason=reason,
        message=sentence(case, target, binding, vetoes),
        vetoes=vetoes,
        what_if=tuple(sizing.what_if(role, n) for n in (replicas - 1, replicas, replicas + 1) if n >= 1),
    )


def _remember(memory: Memory, cases: dict[Role, Case], roles: dict[Role, RoleDecision], now: float) -> Memory:
    kept: dict[Role, RoleMemory] = {}
    for role, case in cases.items():
        target, old = roles[role].target, case.memory
        kv_capacity_tokens = case.pool.kv_capacity_tokens or old.kv_capacity_tokens
        if case.limits.advisory:
            kept[role] = replace(old, kv_capacity_tokens=kv_capacity_tokens, target=None)
            continue
        before = old.target if old.target is not None else case.current
        kept[role] = replace(
            old,
            kv_capacity_tokens=kv_capacity_tokens,
            target=target.replicas,
            victims=target.victims,
            raised_at=now if target.replicas > before else old.raised_at,
            lowered_at=now if target.replicas < before else old.lowered_at,
            lowered_from=lowered_from(old, target.replicas, before),
            patience=patience(old, case.window_s, target.replicas, before, now),
        )
    return replace(memory, at=now, roles=kept)
