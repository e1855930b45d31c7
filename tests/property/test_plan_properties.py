"""What must hold of every decision, whatever the signals say."""

from dataclasses import replace

import pytest
from headrace_fakes.fluid_fleet import FluidFleet
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.api.roles import Role
from headrace.autoscaler.capacity import CapacityModel
from headrace.autoscaler.limits import Limits, Objective, RoleLimits
from headrace.autoscaler.memory import Memory, initial_memory
from headrace.autoscaler.plan import Plan, plan
from headrace.autoscaler.record import from_record, to_record
from headrace.autoscaler.signals import (
    ArrivalBin,
    EngineLoad,
    EngineState,
    FinishedRequest,
    GatewaySample,
    PodPhase,
    PodSample,
    PoolState,
    RunningStream,
    Signals,
)
from headrace.catalog.accelerators import lookup
from headrace.catalog.measured import LLAMA_8B
from headrace_engine_config.length_class import length_class

NOW = 1_000_000.0
MODEL = CapacityModel.prior(LLAMA_8B, lookup("nvidia-h100"))
ROLES = (Role.PREFILL, Role.DECODE)
whole = st.integers


@st.composite
def loads(draw: st.DrawFn) -> EngineLoad:
    running = draw(whole(0, 300))
    return EngineLoad(
        running_requests=running,
        waiting_requests=draw(whole(0, 500)),
        used_tokens=draw(whole(0, 410_000)),
        max_total_tokens=draw(st.sampled_from([4096, 410_620])),
        max_running_requests=256,
        waiting_uncached_tokens=draw(st.none() | whole(0, 3_000_000)),
        prefill_uncached_tokens_total=draw(st.none() | whole(0, 10**9)),
        prefill_busy_s_total=draw(st.none() | st.floats(0, 1e6)),
        decode_moments=draw(st.none() | st.just((100.0, 3000.0, 1e6, 9e4, 3e7, 3000.0))),
        decode_prealloc_requests=draw(whole(0, 200)),
        decode_transfer_requests=draw(whole(0, 50)),
        decode_retracted_requests=draw(whole(0, 1)),
    )


@st.composite
def states(draw: st.DrawFn, at: float) -> EngineState:
    size = draw(st.sampled_from([100, 1000, 20_000]))
    rate = draw(whole(0, 40))
    seconds = range(int(at) - draw(whole(0, 119)), int(at))
    kind = length_class(size)
    return EngineState(
        at=at,
        started_at=NOW - 5000,
        queued_tokens=draw(whole(0, 5_000_000)),
        arrivals=tuple(ArrivalBin(s, kind, rate, rate * size, draw(whole(0, rate * size))) for s in seconds if rate),
        running=tuple(RunningStream(size, draw(whole(0, 3000))) for _ in range(draw(whole(0, 3)))),
        running_total=draw(whole(3, 300)),
        finished=tuple(FinishedRequest(kind, size, draw(whole(1, 3000))) for _ in range(draw(whole(0, 3)))),
        finished_total=draw(whole(0, 10_000)),
    )


@st.composite
def pods(draw: st.DrawFn, role: Role, index: int) -> PodSample:
    phase = draw(st.sampled_from([PodPhase.SERVING] * 4 + [PodPhase.STARTING, PodPhase.DRAINING]))
    seen = phase is not PodPhase.STARTING and draw(st.booleans() | st.just(True))
    at = NOW - draw(st.floats(0, 100)) if seen else None
    return PodSample(
        pod=f"{role}-{index}",
        role=role,
        phase=phase,
        created_at=NOW - 2000,
        ready_at=None if phase is PodPhase.STARTING else NOW - draw(st.floats(0, 1990) | st.floats(0, 30)),
        sampled_at=at,
        load=draw(loads()) if at is not None else None,
        state=draw(st.none() | states(at)) if at is not None else None,
    )


@st.composite
def fleets(draw: st.DrawFn) -> Signals:
    found = [draw(pods(role, i)) for role in ROLES for i in range(draw(whole(0, 6)))]
    pools = {
        role: PoolState(sum(p.role is role for p in found) + draw(whole(0, 2)), draw(whole(0, 3)), NOW + 60)
        for role in ROLES
    }
    gateway = draw(st.none() | st.builds(GatewaySample, st.just(NOW), whole(0, 1000)))
    return Signals("default/chat", NOW, tuple(found), pools, gateway)


@st.composite
def limit_sets(draw: st.DrawFn) -> Limits:
    roles = {}
    for role in ROLES:
        least = draw(whole(1, 3))
        roles[role] = RoleLimits(least, least + draw(whole(0, 12)), float(draw(st.sampled_from([1, 2, 8]))))
    return Limits(
        Objective(draw(st.floats(0.2, 10)), draw(st.floats(0.005, 0.2)), draw(st.sampled_from([90.0, 95.0, 99.0]))),
        roles,
        gpu_budget=draw(st.none() | st.floats(1, 100)),
        pd_ratio_min=draw(st.none() | st.floats(0.1, 1)),
        pd_ratio_max=draw(st.none() | st.floats(1, 5)),
        restart_hold_s=draw(st.sampled_from([0.0, 300.0])),
        scale_down_window_s=draw(st.sampled_from([None, 0.0, 60.0])),
    )


def decide(signals: Signals, limits: Limits, memory: Memory | None = None) -> Plan:
    return plan(signals, MODEL, limits, memory or initial_memory(), signals.at)


@given(fleets(), limit_sets())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_never_outside_bounds_or_budget(signals: Signals, limits: Limits) -> None:
    targets = decide(signals, limits).decision.targets()
    for role, part in limits.roles.items():
        assert part.min <= targets[role].replicas <= part.max
        assert len(set(targets[role].victims)) == len(targets[role].victims)
    held = sum(targets[role].replicas * part.gpus for role, part in limits.roles.items())
    least = sum(part.min * part.gpus for part in limits.roles.values())
    if limits.gpu_budget is not None and limits.gpu_budget >= least:
        assert held <= limits.gpu_budget + 1e-6


@given(fleets(), limit_sets(), whole(1, 10))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_more_queue_never_means_fewer_replicas(signals: Signals, limits: Limits, times: int) -> None:
    def longer(pod: PodSample) -> PodSample:
        if pod.role is not Role.PREFILL or pod.load is None:
            return pod
        waiting = pod.load.waiting_uncached_tokens
        load = replace(pod.load, waiting_uncached_tokens=None if waiting is None else waiting * times)
        state = replace(pod.state, queued_tokens=pod.state.queued_tokens * times) if pod.state else None
        return replace(pod, load=load, state=state)

    limits = replace(limits, gpu_budget=None, pd_ratio_min=None, pd_ratio_max=None)
    before = decide(signals, limits).decision.targets()
    after = decide(replace(signals, pods=tuple(map(longer, signals.pods))), limits).decision.targets()
    for role in ROLES:
        assert after[role].replicas >= before[role].replicas


@given(fleets(), limit_sets(), st.data())
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_pod_that_says_nothing_never_lets_its_role_shrink(
    signals: Signals, limits: Limits, data: st.DataObject
) -> None:
    limits = replace(limits, gpu_budget=None, restart_hold_s=0.0)
    serving = [pod.pod for pod in signals.pods if pod.phase is PodPhase.SERVING]
    hidden = set(data.draw(st.lists(st.sampled_from(serving), min_size=1))) if serving else set()
    seen = tuple(
        replace(pod, sampled_at=None, load=None, state=None) if pod.pod in hidden else pod for pod in signals.pods
    )
    decision = decide(replace(signals, pods=seen), limits).decision
    for role in {pod.role for pod in signals.pods if pod.pod in hidden}:
        staying = sum(p.role is role and p.phase is not PodPhase.DRAINING for p in signals.pods)
        assert decision.roles[role].target.replicas >= min(staying, limits.roles[role].max)


@given(fleets(), limit_sets(), st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_pod_whose_figures_are_old_never_lets_its_role_shrink(
    signals: Signals, limits: Limits, data: st.DataObject
) -> None:
    limits = replace(limits, gpu_budget=None, restart_hold_s=0.0)
    old_s = data.draw(st.floats(limits.fresh_s + 0.1, limits.stale_s))
    hung = data.draw(st.booleans())

    def late(pod: PodSample) -> PodSample:
        if pod.phase is not PodPhase.SERVING or pod.load is None:
            return pod
        if hung:
            return replace(pod, sampled_at=NOW, load=replace(pod.load, lag_s=old_s))
        return replace(pod, sampled_at=NOW - old_s)

    decision = decide(replace(signals, pods=tuple(map(late, signals.pods))), limits).decision
    for role in {pod.role for pod in signals.pods if pod.phase is PodPhase.SERVING}:
        staying = sum(p.role is role and p.phase is not PodPhase.DRAINING for p in signals.pods)
        assert decision.roles[role].target.replicas >= min(staying, limits.roles[role].max)


@given(fleets(), limit_sets())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_equal_inputs_give_equal_decisions_and_records_are_lossless(signals: Signals, limits: Limits) -> None:
    first, second = decide(signals, limits), decide(signals, limits)
    assert first == second
    assert from_record(to_record(first.decision)) == first.decision


def drive(fleet: FluidFleet, limits: Limits, model: CapacityModel, seconds: int) -> list[dict[Role, int]]:
    memory, targets = initial_memory(), []
    for second in range(seconds):
        fleet.step()
        if second % 5 == 4:
            made = plan(fleet.signals(), model, limits, memory, fleet.now)
            memory, model = made.memory, made.model
            fleet.apply(made.decision.targets())
            targets.append({role: target.replicas for role, target in made.decision.targets().items()})
    return targets


LIMITS = Limits(Objective(), {role: RoleLimits(1, 32) for role in ROLES})
shapes = {"rate": st.floats(0.5, 150), "prompt": st.sampled_from([200, 1000, 8000]), "output": whole(10, 800)}


@given(**shapes)
@settings(max_examples=12, deadline=None)
def test_no_oscillation_on_constant_load(rate: float, prompt: int, output: int) -> None:
    rate = min(rate, 120_000 / prompt)
    fleet = FluidFleet(MODEL, {Role.PREFILL: 2, Role.DECODE: 2}, rate=lambda _t: rate, prompt=prompt, output=output)
    targets = drive(fleet, LIMITS, MODEL, 4800)  # a first step down needs ten quiet minutes, the next as many
    settled = targets[len(targets) * 2 // 3 :]
    assert all(row == settled[0] for row in settled)


@given(rate=st.floats(5, 120), wrong=st.sampled_from([0.7, 1.3]))
@settings(max_examples=8, deadline=None)
def test_a_restart_in_the_middle_of_load_never_scales_down(rate: float, wrong: float) -> None:
    fleet = FluidFleet(MODEL, {Role.PREFILL: 6, Role.DECODE: 6}, rate=lambda _t: rate)
    for _ in range(120):
        fleet.step()
    targets = drive(fleet, LIMITS, MODEL.distorted(wrong), int(LIMITS.restart_hold_s))
    assert all(count >= 6 for row in targets for count in row.values())


@pytest.mark.parametrize("wrong", [0.7, 1.0, 1.3])
@pytest.mark.parametrize("rate", [30.0, 110.0])
def test_a_model_thirty_per_cent_wrong_stays_safe(wrong: float, rate: float) -> None:
    fleet = FluidFleet(MODEL, {Role.PREFILL: 2, Role.DECODE: 2}, rate=lambda _t: rate)
    targets = drive(fleet, LIMITS, MODEL.distorted(wrong), 1800)
    right = FluidFleet(MODEL, {Role.PREFILL: 2, Role.DECODE: 2}, rate=lambda _t: rate)
    reference = drive(right, LIMITS, MODEL, 1800)
    assert fleet.queue_s() < 2.0
    assert fleet.tpot_s() < 0.05
    for role in ROLES:
        assert abs(targets[-1][role] - reference[-1][role]) <= 1
