import numpy as np

from headrace.api.roles import Role
from headrace.autoscaler.signals import Signals
from headrace.simulator.bounds import clairvoyant, static_in_hindsight
from headrace.simulator.cell import Cell, run_cell
from headrace.simulator.clairvoyant import ClairvoyantPolicy, needs
from headrace.simulator.fleet import EPOCH
from headrace.simulator.profiles import profile
from headrace.simulator.request import Arrival
from headrace.simulator.results import Slo
from headrace.simulator.static_policy import StaticPolicy

LLAMA = profile("llama-8b-h100")
CELL = Cell(LLAMA, delay_s=30.0, maximum=16)


def waves(seconds: float, top: float) -> list[Arrival]:
    """Two minutes at the top rate, two at a tenth of it, over and over."""
    rng = np.random.default_rng(4)
    made, t = [], 0.0
    while t < seconds:
        t += rng.exponential(1.0 / (top if int(t / 120.0) % 2 == 0 else 0.1 * top))
        made.append(Arrival(t, 1500, 100))
    return made[:-1]


def test_one_replica_less_than_static_in_hindsight_misses_the_target() -> None:
    load = waves(480.0, 90.0)
    found = static_in_hindsight(CELL, load, 480.0, Slo(), 0.95)
    assert found.reached
    for role in found.replicas:
        fewer = {name: count - (name is role) for name, count in found.replicas.items()}
        if min(fewer.values()) >= 1:
            result = run_cell(CELL, StaticPolicy(fewer), load, 480.0, fewer)
            assert result.attainment(Slo()) < 0.95


def test_the_clairvoyant_reaches_the_target_for_less_than_the_static_fleet() -> None:
    load = waves(480.0, 60.0)
    static = static_in_hindsight(CELL, load, 480.0, Slo(), 0.95)
    found = clairvoyant(CELL, load, 480.0, Slo(), 0.95, initial=static.replicas)
    assert found.reached
    assert found.result.attainment(Slo()) >= 0.95
    assert found.result.gpu_hours < static.result.gpu_hours


def test_an_out_of_reach_target_is_reported_as_such() -> None:
    load = waves(120.0, 50.0)
    found = static_in_hindsight(CELL, load, 120.0, Slo(ttft_s=0.001), 0.95)
    assert not found.reached


def test_a_target_that_the_start_alone_costs_is_reported_as_such() -> None:
    load = waves(240.0, 90.0)
    late = Cell(LLAMA, delay_s=120.0, maximum=16)
    found = clairvoyant(late, load, 240.0, Slo(), 0.95, initial=dict.fromkeys((Role.PREFILL, Role.DECODE), 1))
    assert not found.reached
    assert not found.result.gave_up  # its figures cover the whole load


def test_a_load_that_the_smallest_fleet_carries_ends_the_search() -> None:
    load = [Arrival(5.0 * i, 1000, 20) for i in range(24)]
    found = clairvoyant(CELL, load, 120.0, Slo(), 0.95, initial=dict.fromkeys((Role.PREFILL, Role.DECODE), 1))
    assert found.reached
    assert found.result.actions == 0


def test_without_chance_prefill_needs_its_work_and_decode_what_is_alive() -> None:
    load = [Arrival(0.5 * i, 2000, 200) for i in range(240)]
    need = needs(LLAMA, "disaggregated", load, 120.0, Slo(), 0.0)
    times = LLAMA.times
    each = (times.busy.token_s + times.transfer.token_s) * 2000 + 0.5 * times.busy.context_s * 2000**2
    assert np.allclose(need[Role.PREFILL][2:], 2.0 * each, rtol=0.05)  # a minute of work over a minute and the budget
    assert need[Role.DECODE][0] <= need[Role.DECODE][2]  # the first slot fills up
    worker = needs(LLAMA, "aggregated", load, 120.0, Slo(), 0.0)[Role.WORKER]
    assert (worker > need[Role.DECODE]).all()


def test_a_burst_inside_a_slot_needs_more_than_the_slots_mean_and_a_longer_objective_less() -> None:
    load = [Arrival(10.0 + 0.01 * i, 2000, 20) for i in range(300)]  # 300 prompts within 3 s, then nothing
    each = LLAMA.times.busy.token_s * 2000
    burst = needs(LLAMA, "disaggregated", load, 30.0, Slo(), 0.0)[Role.PREFILL][0]
    assert burst > 3.0 * 300 * each / 30.0
    assert burst > needs(LLAMA, "disaggregated", load, 30.0, Slo(ttft_s=6.0), 0.0)[Role.PREFILL][0]
    assert burst > needs(LLAMA, "disaggregated", load, 30.0, Slo(), 0.3)[Role.PREFILL][0]


def test_the_schedule_starts_a_delay_ahead_and_bridges_gaps_that_are_shorter() -> None:
    need = {Role.PREFILL: np.array([1.0, 4.0, 1.0, 1.0, 1.0, 3.0, 1.0, 1.0])}
    policy = ClairvoyantPolicy(need, 1.0, delay_s=55.0)
    signals = Signals("x/y", EPOCH, (), {})
    wanted = [policy.decide(signals, EPOCH + at)[Role.PREFILL].replicas for at in (0.0, 31.0, 61.0, 91.0, 151.0, 181.0)]
    assert wanted == [4, 4, 1, 3, 3, 1]
