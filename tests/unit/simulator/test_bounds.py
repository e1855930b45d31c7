import numpy as np

from headrace.api.roles import Role
from headrace.simulator.bounds import clairvoyant, scale_for, static_in_hindsight
from headrace.simulator.cell import Cell, run_cell
from headrace.simulator.clairvoyant import needs
from headrace.simulator.load import scale
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
    load = waves(480.0, 90.0)
    static = static_in_hindsight(CELL, load, 480.0, Slo(), 0.95)
    found = clairvoyant(CELL, load, 480.0, Slo(), 0.95, initial=static.replicas)
    assert found.reached
    assert found.result.attainment(Slo()) >= 0.95
    assert found.result.gpu_hours < static.result.gpu_hours


def test_an_out_of_reach_target_is_reported_as_such() -> None:
    load = waves(120.0, 50.0)
    found = static_in_hindsight(CELL, load, 120.0, Slo(ttft_s=0.001), 0.95)
    assert not found.reached


def test_the_scale_search_ends_at_the_asked_for_number_of_replicas() -> None:
    base = waves(240.0, 10.0)
    factor, found = scale_for(CELL, lambda f: list(scale(base, f, np.random.default_rng(1))), 240.0, Slo(), replicas=6)
    assert factor > 1.0
    assert abs(found.total - 6) <= 1


def test_needs_are_the_work_of_the_slots() -> None:
    load = [Arrival(0.5 * i, 2000, 200) for i in range(240)]
    need = needs(LLAMA, "disaggregated", load, 120.0, 0.05)
    busy = 2000 * LLAMA.times.busy.token_s + 0.5 * LLAMA.times.busy.context_s * 2000**2
    assert np.allclose(need[Role.PREFILL], 2.0 * busy)
    assert need[Role.DECODE][0] < need[Role.DECODE][2]  # streams live for 9 s: the first slot fills up
