from collections.abc import Mapping

import numpy as np
import pytest

from headrace.api.roles import Role
from headrace.autoscaler.decision import RoleTarget
from headrace.autoscaler.signals import PodPhase, Signals
from headrace.simulator.cell import Cell, headrace, mean_load, run_cell
from headrace.simulator.fleet import EPOCH
from headrace.simulator.observe import MetricFaults
from headrace.simulator.profiles import profile
from headrace.simulator.request import Arrival
from headrace.simulator.results import RunResult, Slo
from headrace.simulator.static_policy import StaticPolicy

LLAMA = profile("llama-8b-h100")
PD = {Role.PREFILL: 1, Role.DECODE: 1}


def poisson(rate: float, seconds: float, seed: int = 1, isl: int = 1000, osl: int = 100) -> list[Arrival]:
    rng = np.random.default_rng(seed)
    at = np.cumsum(rng.exponential(1.0 / rate, int(rate * seconds * 1.2)))
    return [
        Arrival(float(t), int(isl * rng.uniform(0.5, 1.5)), int(osl * rng.uniform(0.5, 1.5))) for t in at if t < seconds
    ]


class Script:
    """Plays targets at given times and keeps the signals it was shown."""

    name = "script"

    def __init__(self, plan: Mapping[float, Mapping[Role, RoleTarget]], interval_s: float = 5.0) -> None:
        self.plan = plan
        self.interval_s = interval_s
        self.seen: list[Signals] = []

    def decide(self, signals: Signals, now: float) -> Mapping[Role, RoleTarget]:
        self.seen.append(signals)
        assert signals.at == now
        return self.plan.get(now - EPOCH, {})


def run(cell: Cell, policy: object, load: list[Arrival], seconds: float, initial: Mapping[Role, int]) -> RunResult:
    return run_cell(cell, policy, load, seconds, initial)  # type: ignore[arg-type]


@pytest.mark.parametrize("topology", ["disaggregated", "aggregated"])
def test_every_request_finishes_exactly_once(topology: str) -> None:
    load = poisson(20.0, 60.0)
    cell = Cell(LLAMA, topology)
    fleet = dict.fromkeys(LLAMA.roles(topology), 2)
    result = run(cell, StaticPolicy(fleet), load, 60.0, fleet)
    assert result.arrived == len(load)
    assert len(result.records.ttft) == len(load)
    assert result.unfinished == result.rejected == 0
    assert min(result.records.ttft) > 0


def test_equal_inputs_give_equal_results() -> None:
    load = poisson(60.0, 300.0)
    cell = Cell(LLAMA, delay_cv=0.3, start_failure=0.2, faults=MetricFaults(lag_s=5.0, loss=0.1), seed=3)
    first, second = (run(cell, headrace(cell, Slo()), load, 300.0, PD) for _ in range(2))
    assert first.records.ttft == second.records.ttft
    assert first.gpu_s == second.gpu_s
    assert first.series == second.series


def test_gpu_time_counts_starting_and_draining_replicas() -> None:
    up = {Role.DECODE: RoleTarget(Role.DECODE, 2)}
    down = {Role.DECODE: RoleTarget(Role.DECODE, 1, victims=("decode-2",))}
    cell = Cell(LLAMA, delay_s=30.0, stop_s=4.0)
    result = run(cell, Script({10.0: up, 60.0: down}), [Arrival(100.0, 10, 2)], 120.0, PD)
    assert result.gpu_s["prefill"] == pytest.approx(120.0)
    assert result.gpu_s["decode"] == pytest.approx(120.0 + 50.0 + 4.0)  # idle when retired: only its termination adds
    assert (result.actions, result.reversals) == (2, 1)


def test_a_victim_finishes_its_streams_and_gets_no_new_ones() -> None:
    load = [Arrival(0.1 * i, 500, 2000) for i in range(100)]
    script = Script({10.0: {Role.DECODE: RoleTarget(Role.DECODE, 1, victims=("decode-1",))}})
    result = run(Cell(LLAMA), script, load, 120.0, {Role.PREFILL: 1, Role.DECODE: 2})
    assert result.unfinished == 0
    shown = [pod for pod in script.seen[2].pods if pod.pod == "decode-1"]
    assert shown[0].phase is PodPhase.DRAINING
    assert result.gpu_s["decode"] < 2 * 120.0
    assert result.gpu_s["decode"] > 120.0 + 15.0  # streams of 2,000 tokens take longer than that to end


def test_a_draining_replica_can_be_taken_back() -> None:
    load = [Arrival(0.1 * i, 500, 2000) for i in range(100)]
    script = Script({
        10.0: {Role.DECODE: RoleTarget(Role.DECODE, 1, victims=("decode-1",))},
        15.0: {Role.DECODE: RoleTarget(Role.DECODE, 2, reactivate=("decode-1",))},
    })  # fmt: skip
    run(Cell(LLAMA, delay_s=1000.0), script, load, 60.0, {Role.PREFILL: 1, Role.DECODE: 2})
    assert {pod.pod: pod.phase for pod in script.seen[-1].pods if pod.role is Role.DECODE} == {
        "decode-1": PodPhase.SERVING, "decode-2": PodPhase.SERVING,
    }  # fmt: skip


def test_a_failed_start_is_tried_again_on_the_same_gpu() -> None:
    script = Script({5.0: {Role.DECODE: RoleTarget(Role.DECODE, 20)}})
    cell = Cell(LLAMA, delay_s=20.0, start_failure=0.5, seed=5)
    result = run(cell, script, [], 600.0, PD)
    assert result.failed_starts > 5
    ready = [pod.ready_at - pod.created_at for pod in script.seen[-1].pods if pod.ready_at and "decode" in pod.pod]
    assert {round(seconds) for seconds in ready} >= {0, 20, 40}


def test_bounds_hold_whatever_a_policy_asks_for() -> None:
    script = Script({5.0: {Role.DECODE: RoleTarget(Role.DECODE, 99)}, 50.0: {Role.DECODE: RoleTarget(Role.DECODE, 0)}})
    result = run(Cell(LLAMA, delay_s=1.0, maximum=4), script, [], 200.0, PD)
    assert max(result.series["decode_desired"]) == 4
    assert min(result.series["decode_desired"]) == 1


def test_readings_are_as_old_as_the_lag_and_the_pod_list_is_not() -> None:
    script = Script({20.0: {Role.DECODE: RoleTarget(Role.DECODE, 2)}})
    run(Cell(LLAMA, delay_s=10.0, faults=MetricFaults(lag_s=15.0)), script, poisson(5.0, 100.0), 100.0, PD)
    last = script.seen[-1]
    assert {last.at - pod.sampled_at for pod in last.pods if pod.sampled_at} == {15.0}
    started = next(signals for signals in script.seen if any(pod.pod == "decode-2" for pod in signals.pods))
    assert started.at - EPOCH == 25.0
    assert all(pod.sampled_at is None for pod in script.seen[0].pods)


def test_lost_scrapes_leave_the_older_reading() -> None:
    script = Script({})
    run(Cell(LLAMA, faults=MetricFaults(loss=0.4)), script, poisson(5.0, 300.0), 300.0, PD)
    ages = [signals.at - pod.sampled_at for signals in script.seen for pod in signals.pods if pod.sampled_at]
    assert 0.3 < sum(age > 0 for age in ages) / len(ages) < 0.5


def test_a_request_that_no_engine_can_hold_is_rejected_and_counted() -> None:
    result = run(Cell(LLAMA), StaticPolicy(PD), [Arrival(1.0, 500_000, 10), Arrival(2.0, 100, 10)], 10.0, PD)
    assert result.rejected == 1
    assert result.attainment(Slo()) == 0.5


def test_signals_carry_what_happened() -> None:
    load = poisson(10.0, 100.0)
    script = Script({})
    run(Cell(LLAMA), script, load, 100.0, PD)
    last = script.seen[-1]
    states = {pod.role: pod.state for pod in last.pods}
    seen = sum(arrival.t <= last.at - EPOCH for arrival in load)
    for role in PD:
        state = states[role]
        assert state is not None
        assert state.arrivals_total == pytest.approx(seen, abs=2)
        assert sum(row.count for row in state.arrivals) == pytest.approx(seen, abs=2)
        keys = [(row.at_s, row.length_class) for row in state.arrivals]
        assert len(set(keys)) == len(keys)
    decode = states[Role.DECODE]
    assert decode is not None
    assert len(decode.running) == decode.running_total
    assert {row.output_tokens for row in decode.finished} <= {arrival.output_tokens for arrival in load}


def test_the_published_sums_give_the_step_time_back() -> None:
    script = Script({})
    run(Cell(LLAMA), script, poisson(20.0, 200.0), 200.0, PD)
    load = next(pod.load for pod in script.seen[-1].pods if pod.role is Role.DECODE)
    assert load is not None
    assert load.decode_moments is not None
    count, batch, micros, *_ = load.decode_moments
    mean_batch = batch / count
    expected = LLAMA.times.decode.decode_s(mean_batch, mean_batch * 1050)
    assert micros / count * 1e-6 == pytest.approx(expected, rel=0.05)
    busy = next(pod.load for pod in script.seen[-1].pods if pod.role is Role.PREFILL)
    assert busy is not None
    assert busy.prefill_uncached_tokens_total is not None
    assert busy.prefill_busy_s_total == pytest.approx(busy.prefill_uncached_tokens_total * 3.5e-5, rel=0.3)


def test_the_products_own_plan_follows_a_rise_in_load() -> None:
    load = poisson(5.0, 300.0) + [
        Arrival(300.0 + a.t, a.input_tokens, a.output_tokens) for a in poisson(120.0, 600.0, seed=2)
    ]
    cell = Cell(LLAMA, delay_s=30.0)
    result = run(cell, headrace(cell, Slo()), load, 900.0, mean_load(LLAMA, "disaggregated", load[:500], 300.0))
    assert result.series["prefill_serving"][0] == 1
    assert max(result.series["prefill_serving"]) >= 4
    assert result.unfinished == 0
    late = np.asarray(result.records.arrived) > 450.0
    assert np.mean(np.asarray(result.records.ttft)[late] < 2.0) > 0.95
