"""What was decided, as metrics: enough for limits and capacity to be read back, and gone with the service."""

from dataclasses import replace

from headrace_fakes.fluid_fleet import FluidFleet
from prometheus_client import generate_latest

from headrace.api.pools import ScalingMode
from headrace.api.roles import Role
from headrace.autoscaler.capacity import CapacityModel
from headrace.autoscaler.figures import capacity_of_figures, limits_of_figures
from headrace.autoscaler.limits import Limits, Objective, RoleLimits
from headrace.autoscaler.memory import initial_memory
from headrace.autoscaler.plan import Plan, plan
from headrace.autoscaler.signals import PoolState
from headrace.catalog.accelerators import lookup
from headrace.catalog.measured import LLAMA_8B
from headrace.loops.keys import Key
from headrace.observability.metrics import Metrics

INTERNAL = ScalingMode.INTERNAL
CHAT = Key("default", "chat")
MODEL = CapacityModel.prior(LLAMA_8B, lookup("nvidia-h100"))
LIMITS = Limits(
    Objective(1.5, 0.04, 90.0, 0.2),
    {Role.PREFILL: RoleLimits(1, 8, 2.0, 7.0), Role.DECODE: RoleLimits(2, 4)},
    gpu_budget=12.0,
    scale_down_window_s=60.0,
    starts_shared=True,
)


FLEET = FluidFleet(MODEL, {Role.PREFILL: 1, Role.DECODE: 2}, rate=lambda _: 10.0).signals()


def made(limits: Limits = LIMITS) -> Plan:
    return plan(FLEET, MODEL, limits, initial_memory(), FLEET.at)


def figures(metrics: Metrics, family: str, label: str) -> dict[str, float]:
    (found,) = [part for part in metrics.registry.collect() if part.name == family]
    return {sample.labels[label]: sample.value for sample in found.samples}


def test_limits_and_capacity_are_read_back_from_the_metrics() -> None:
    metrics = Metrics()
    metrics.decided.publish(CHAT, INTERNAL, FLEET, LIMITS, made())
    assert limits_of_figures(figures(metrics, "headrace_limit", "limit")) == LIMITS
    model = capacity_of_figures(figures(metrics, "headrace_capacity", "figure"))
    assert replace(model, source=MODEL.source) == MODEL


def test_target_needs_and_start_up_time_are_those_of_the_decision() -> None:
    metrics, planned = Metrics(), made()
    metrics.decided.publish(CHAT, INTERNAL, FLEET, LIMITS, planned)
    decode = planned.decision.roles[Role.DECODE]
    assert figures(metrics, "headrace_target_replicas", "role")["decode"] == decode.target.replicas
    needs = figures(metrics, "headrace_need_replicas", "constraint")
    assert {need.constraint.value: need.replicas for need in decode.needs}.items() <= needs.items()
    assert set(figures(metrics, "headrace_startup_seconds", "role")) == {"prefill", "decode"}
    assert figures(metrics, "headrace_feedback_factor", "half") == {"prefill": 1.0, "decode": 1.0}


def test_a_limit_that_was_taken_off_and_a_role_that_is_gone_lose_their_series() -> None:
    metrics = Metrics()
    metrics.decided.publish(CHAT, INTERNAL, FLEET, LIMITS, made())
    free = replace(LIMITS, gpu_budget=None)
    metrics.decided.publish(CHAT, INTERNAL, FLEET, free, made(free))
    assert "gpu_budget" not in figures(metrics, "headrace_limit", "limit")
    alone = replace(free, roles={Role.WORKER: RoleLimits(2, 4)})
    metrics.decided.publish(CHAT, INTERNAL, FLEET, alone, made(alone))
    assert set(figures(metrics, "headrace_target_replicas", "role")) == {"worker"}


def test_a_forgotten_service_leaves_no_series_and_is_published_whole_again() -> None:
    metrics = Metrics()
    for key in (CHAT, Key("default", "mail")):
        metrics.decided.publish(key, INTERNAL, FLEET, LIMITS, made())
    metrics.forget(CHAT)
    text = generate_latest(metrics.registry).decode()
    assert 'service="chat"' not in text
    assert 'service="mail"' in text
    metrics.decided.publish(CHAT, INTERNAL, FLEET, LIMITS, made())
    assert (
        'headrace_limit{limit="prefill.max",namespace="default",service="chat"} 8.0'
        in generate_latest(metrics.registry).decode()
    )


def test_a_floor_is_told_while_it_holds() -> None:
    metrics = Metrics()
    for until, told in ((FLEET.at + 1.0, 3.0), (FLEET.at, 0.0)):
        pools = {**FLEET.pools, Role.DECODE: PoolState(4, 3, until)}
        metrics.decided.publish(CHAT, INTERNAL, replace(FLEET, pools=pools), LIMITS, made())
        assert figures(metrics, "headrace_floor_replicas", "role")["decode"] == told
        assert figures(metrics, "headrace_workload_replicas", "role") == {"prefill": 1.0, "decode": 4.0}


def test_a_service_has_one_mode() -> None:
    metrics = Metrics()
    for mode in (INTERNAL, ScalingMode.ADVISORY):
        metrics.decided.publish(CHAT, mode, FLEET, LIMITS, made())
        assert figures(metrics, "headrace_scaling_mode", "mode") == {mode.value: 1.0}
    assert limits_of_figures(figures(metrics, "headrace_limit", "limit")) == LIMITS
