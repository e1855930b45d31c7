from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import pairwise

import pytest
from headrace_fakes.fluid_fleet import FluidFleet

from headrace.api.roles import Role
from headrace.autoscaler.capacity import CapacityModel
from headrace.autoscaler.decision import Decision, Reason
from headrace.autoscaler.limits import Limits, Objective, RoleLimits
from headrace.autoscaler.memory import Memory, initial_memory
from headrace.autoscaler.patience import MOST_PATIENCE
from headrace.autoscaler.plan import plan
from headrace.catalog.accelerators import lookup
from headrace.catalog.measured import LLAMA_8B
from headrace.catalog.step_times import StepTimes

PD = {Role.PREFILL: 1, Role.DECODE: 1}
TRUTH = CapacityModel.prior(LLAMA_8B, lookup("nvidia-h100"))


def limits_of(roles: Mapping[Role, int], top: int = 16, **changes: object) -> Limits:
    base = Limits(Objective(), {role: RoleLimits(1, top) for role in roles})
    return replace(base, **changes)  # type: ignore[arg-type]


class Run:
    """A fleet driven by the plan, one tick every five seconds."""

    def __init__(self, fleet: FluidFleet, limits: Limits, model: CapacityModel | None = None) -> None:
        self.fleet, self.limits, self.model = fleet, limits, model or fleet.truth
        self.memory: Memory = initial_memory()
        self.decisions: list[Decision] = []

    def go(self, seconds: int, hide: Callable[[FluidFleet], frozenset[str]] = lambda _f: frozenset()) -> Decision:
        for second in range(seconds):
            self.fleet.step()
            if second % 5 == 4:
                signals = self.fleet.signals(hide=hide(self.fleet))
                made = plan(signals, self.model, self.limits, self.memory, self.fleet.now)
                self.memory, self.model = made.memory, made.model
                self.fleet.apply(made.decision.targets())
                self.decisions.append(made.decision)
        return self.decisions[-1]

    def targets(self, role: Role) -> list[int]:
        return [decision.roles[role].target.replicas for decision in self.decisions]


def test_a_level_change_is_followed_up_and_after_the_window_down() -> None:
    fleet = FluidFleet(TRUTH, PD, rate=lambda t: 120.0 if 3600 <= t < 4800 else 20.0)  # the start is long forgotten
    run = Run(fleet, limits_of(PD))
    run.go(3600)
    assert fleet.count(Role.PREFILL) == 1
    run.go(1200)
    assert fleet.count(Role.PREFILL) >= 3
    assert fleet.queue_s() < 2.0
    assert fleet.tpot_s() < 0.05
    run.go(2400)
    assert fleet.count(Role.PREFILL) == 1
    assert fleet.count(Role.DECODE) == 1


def test_prompts_without_answers_grow_prefill_alone() -> None:
    fleet = FluidFleet(TRUTH, PD, rate=lambda t: 6.0 if t > 300 else 1.0, prompt=16000, output=8)
    Run(fleet, limits_of(PD)).go(900)
    assert fleet.count(Role.PREFILL) >= 3
    assert fleet.count(Role.DECODE) == 1


def test_long_answers_grow_decode_alone() -> None:
    fleet = FluidFleet(TRUTH, PD, rate=lambda t: 30.0 if t > 300 else 1.0, prompt=128, output=2000)
    decision = Run(fleet, limits_of(PD)).go(900)
    assert fleet.count(Role.PREFILL) == 1
    assert fleet.count(Role.DECODE) >= 3
    assert decision.roles[Role.DECODE].binding.startswith("Decode")


def test_an_aggregated_pool_is_sized_for_both_phases() -> None:
    fleet = FluidFleet(TRUTH, {Role.WORKER: 1}, rate=lambda t: 90.0 if t > 300 else 10.0)
    run = Run(fleet, limits_of({Role.WORKER: 1}))
    run.go(1500)
    assert 3 <= fleet.count(Role.WORKER) <= 8
    assert fleet.queue_s() < 2.0


def test_a_stock_engine_is_scaled_on_its_sums_and_the_health_says_so() -> None:
    fleet = FluidFleet(TRUTH, PD, rate=lambda t: 120.0 if t > 300 else 20.0, engine_state=False)
    decision = Run(fleet, limits_of(PD)).go(1200)
    assert decision.health.healthy
    assert decision.health.reason == "NoEngineState"
    assert fleet.count(Role.PREFILL) >= 3
    assert fleet.queue_s() < 2.0


def test_a_meaningless_prior_gives_way_to_the_engines_own_sums_within_twenty_seconds_of_load() -> None:
    slow = StepTimes(0.1, 1e-5, 0.0, 0.1, 1e-4, 0.0)
    truth = replace(TRUTH, prior_steps=slow, steps=slow, kv_capacity_tokens=4096.0, chunk_tokens=512.0)
    prior = replace(
        CapacityModel.prior(LLAMA_8B, lookup("cpu"), chunk_tokens=512, max_running=32), kv_capacity_tokens=4096.0
    )
    fleet = FluidFleet(truth, {Role.WORKER: 1}, rate=lambda t: 2.0 if t > 60 else 0.2, prompt=256, output=16)
    run = Run(fleet, limits_of({Role.WORKER: 1}, 3, objective=Objective(2.0, 0.3)), prior)
    run.go(60 + 30)
    assert run.model.decode_valid
    assert run.model.steps.decode_s(3, 800) == pytest.approx(0.1003, rel=0.2)


def test_starting_pods_count_as_supply() -> None:
    fleet = FluidFleet(TRUTH, PD, rate=lambda t: 120.0 if t > 60 else 20.0, startup_s=300.0)
    run = Run(fleet, limits_of(PD))
    run.go(340)
    assert max(run.targets(Role.PREFILL)) <= 6


def test_a_draining_pod_is_taken_back_before_one_is_started() -> None:
    fleet = FluidFleet(TRUTH, {Role.PREFILL: 2, Role.DECODE: 1}, rate=lambda _t: 60.0)
    run = Run(fleet, limits_of(PD))
    fleet.pods[1].draining = True
    fleet.pods[1].running = 1.0
    run.go(5)
    assert run.decisions[0].roles[Role.PREFILL].target.reactivate == ("prefill-0002",)
    assert run.decisions[0].roles[Role.PREFILL].reason is Reason.REACTIVATE


def test_victims_are_the_pods_with_least_to_finish() -> None:
    fleet = FluidFleet(TRUTH, {Role.PREFILL: 1, Role.DECODE: 3}, rate=lambda _t: 2.0)
    for pod, running in zip(fleet.of(Role.DECODE), (50.0, 5.0, 90.0), strict=True):
        pod.running = running
    run = Run(fleet, limits_of(PD, restart_hold_s=0.0, scale_down_window_s=0.0))
    run.go(5)
    assert run.decisions[0].roles[Role.DECODE].target.victims == ("decode-0003",)


def test_the_lead_time_is_learned_from_pods_that_became_ready() -> None:
    fleet = FluidFleet(TRUTH, {Role.PREFILL: 2, Role.DECODE: 3}, rate=lambda _t: 20.0, startup_s=45.0)
    run = Run(fleet, limits_of(PD))
    decision = run.go(5)
    assert run.memory.role(Role.DECODE).starts_s == (45.0, 45.0, 45.0)
    assert decision.inputs["decode_lead_s"] == 50.0


def steps_down(startup_s: float, **changes: object) -> list[float]:
    """Seconds between the steps down of a decode pool that lost its load."""
    fleet = FluidFleet(TRUTH, {Role.PREFILL: 1, Role.DECODE: 8}, rate=lambda _t: 1.0, startup_s=startup_s)
    run = Run(fleet, limits_of(PD, startup_prior_s=startup_s, **changes))  # type: ignore[arg-type]
    run.go(1500)
    assert fleet.count(Role.DECODE) == 1
    rows = run.decisions
    counts = run.targets(Role.DECODE)
    times = [row.at for before, after, row in zip(counts, counts[1:], rows[1:], strict=False) if after < before]
    return [after - before for before, after in pairwise(times)]


def test_between_two_steps_down_a_replica_could_have_started() -> None:
    assert min(steps_down(startup_s=100.0)) >= 100.0


def test_a_short_window_bounds_the_pause_between_two_steps_down() -> None:
    assert max(steps_down(startup_s=120.0, scale_down_window_s=20.0, restart_hold_s=0.0)) <= 40.0


def test_patience_grows_with_steps_taken_back_and_comes_back_to_one() -> None:
    fleet = FluidFleet(TRUTH, PD, rate=lambda t: 120.0 if t < 3600 and t % 400 < 100 else 20.0)
    run = Run(fleet, limits_of(PD, scale_down_window_s=60.0, restart_hold_s=0.0))
    run.go(3600)
    grown = run.memory.role(Role.PREFILL).patience
    run.go(4 * 3600)
    assert 1.0 < grown <= MOST_PATIENCE
    assert run.memory.role(Role.PREFILL).patience == 1.0


def test_memory_and_model_survive_json() -> None:
    import json

    fleet = FluidFleet(TRUTH, PD, rate=lambda _t: 30.0)
    run = Run(fleet, limits_of(PD))
    run.go(120)
    assert Memory.from_dict(json.loads(json.dumps(run.memory.to_dict()))) == run.memory
    assert CapacityModel.from_dict(json.loads(json.dumps(run.model.to_dict()))) == run.model


def test_advice_that_nobody_carries_out_stays_advice() -> None:
    fleet = FluidFleet(TRUTH, PD, rate=lambda t: 120.0 if t > 300 else 20.0)
    limits = replace(limits_of(PD), advisory=True)
    memory, model, decisions = initial_memory(), TRUTH, []
    for second in range(600):
        fleet.step()
        if second % 5 == 4:
            made = plan(fleet.signals(), model, limits, memory, fleet.now)
            memory, model = made.memory, made.model
            decisions.append(made.decision.roles[Role.PREFILL])
    wanted = [d for d in decisions if d.target.replicas > d.serving]
    assert len(wanted) > 20
    assert {d.reason for d in wanted} <= {Reason.SCALE_UP, Reason.LIMITED}
    assert memory.role(Role.PREFILL).patience == 1.0


def test_a_minimum_above_what_runs_may_take_from_the_other_role_within_the_budget() -> None:
    fleet = FluidFleet(TRUTH, {Role.PREFILL: 1, Role.DECODE: 2}, rate=lambda _t: 1.0)
    fleet.step()
    roles = {Role.PREFILL: RoleLimits(3, 3), Role.DECODE: RoleLimits(1, 4)}
    made = plan(fleet.signals(), TRUTH, Limits(Objective(), roles, gpu_budget=4.0), initial_memory(), fleet.now)
    wanted = {role: decided.target.replicas for role, decided in made.decision.roles.items()}
    assert wanted == {Role.PREFILL: 3, Role.DECODE: 1}
