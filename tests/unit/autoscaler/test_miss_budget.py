"""The share of requests that may miss is one budget, whatever they miss by."""

import math
from dataclasses import replace

import pytest
from headrace_fakes.fluid_fleet import FluidFleet

from headrace.api.roles import Role
from headrace.autoscaler.capacity import CapacityModel
from headrace.autoscaler.decision import Constraint
from headrace.autoscaler.limits import Limits, Objective, RoleLimits
from headrace.autoscaler.memory import Memory, RoleMemory, initial_memory
from headrace.autoscaler.needs import resident, spare, ttft_attainment
from headrace.autoscaler.observe import observe
from headrace.autoscaler.plan import plan
from headrace.autoscaler.quantiles import normal_z
from headrace.autoscaler.sizing import Sizing, size
from headrace.catalog.accelerators import lookup
from headrace.catalog.measured import LLAMA_8B

MODEL = CapacityModel.prior(LLAMA_8B, lookup("nvidia-h100"))
ROLES = {Role.PREFILL: RoleLimits(1, 8), Role.DECODE: RoleLimits(1, 8)}
KNOWN_ERRORS = (0.0,) * 20  # so many that the forecast's error counts


def sizing_of(percentile: float, *, late_last: bool = True, missed: float = 0.0, error: float = 0.0) -> Sizing:
    """After five minutes of 60 requests a second.

    `missed`: the logarithm of the factor that clients' misses raise decode by; `error`: of the forecast, relative.
    """
    fleet = FluidFleet(MODEL, {Role.PREFILL: 2, Role.DECODE: 2}, rate=lambda _t: 60.0)
    limits = Limits(Objective(percentile=percentile), ROLES, late_last=late_last)
    memory, model = initial_memory(), MODEL
    for second in range(300):
        fleet.step()
        if second % 5 == 4:
            made = plan(fleet.signals(), model, limits, memory, fleet.now)
            memory, model = made.memory, made.model
    signals = fleet.signals()
    forecast = replace(memory.forecast, errors=(KNOWN_ERRORS,) * 3, error=error) if error else memory.forecast
    memory = replace(memory, feedback=replace(memory.feedback, decode=missed), forecast=forecast)
    pools = {role: observe(signals, role, limits, memory, model, fleet.now) for role in ROLES}
    return size(signals, pools, model, limits, memory)


def test_what_old_readings_ask_for_comes_so_much_later() -> None:
    fleet = FluidFleet(MODEL, {Role.PREFILL: 1, Role.DECODE: 1}, rate=lambda _t: 1.0)
    fleet.step()
    fresh = fleet.signals()
    old = replace(fresh, at=fresh.at + 15.0)
    gone = replace(fresh.pods[0], pod="gone", sampled_at=fresh.at - 3600.0)  # missing says nothing about the others
    limits, memory = Limits(Objective(), ROLES), initial_memory()
    leads = []
    for signals in (fresh, old, replace(old, pods=(*old.pods, gone))):
        pools = {role: observe(signals, role, limits, memory, MODEL, signals.at) for role in ROLES}
        leads.append(size(signals, pools, MODEL, limits, memory).inputs["prefill_lead_s"])
    assert leads[1] == leads[2] == pytest.approx(leads[0] + 15.0)


def test_the_misses_of_both_roles_together_are_what_the_objective_allows() -> None:
    limits = Limits(Objective(percentile=95.0), ROLES)
    shares = limits.miss_shares({Role.PREFILL: 12, Role.DECODE: 3})
    assert (shares.prefill, shares.decode) == pytest.approx((0.04, 0.01))
    even = limits.miss_shares({})
    assert (even.prefill, even.decode) == pytest.approx((0.025, 0.025))


def test_the_cheaper_role_keeps_a_tenth_of_the_misses() -> None:
    shares = Limits(Objective(percentile=95.0), ROLES).miss_shares({Role.PREFILL: 100, Role.DECODE: 1})
    assert (shares.prefill, shares.decode) == pytest.approx((0.045, 0.005))


def test_an_aggregated_pool_has_half_for_each_objective() -> None:
    shares = Limits(Objective(percentile=95.0), {Role.WORKER: RoleLimits(1, 8)}).miss_shares({Role.WORKER: 4})
    assert (shares.prefill, shares.decode) == pytest.approx((0.025, 0.025))


def test_decode_is_sized_and_told_at_the_quantile_that_is_left_to_it() -> None:
    sizing = sizing_of(95.0)
    assert sizing.decode is not None
    held = resident(sizing.decode, sizing.model, 2.0, prefill_work=0.0, z=normal_z(0.975), cap_s=0.5)
    told = sizing.what_if(Role.DECODE, 2).kv_share
    assert told == pytest.approx(held.held_kv_q / (2 * sizing.pools[Role.DECODE].kv_capacity_tokens))


def test_a_short_rush_of_what_was_held_does_not_size_decode_for_the_rest_of_the_lookback() -> None:
    held = tuple((float(at), 900_000.0 if at < 4 else 100_000.0) for at in range(100))
    limits = Limits(Objective(percentile=95.0), ROLES)
    fleet = FluidFleet(MODEL, {Role.PREFILL: 1, Role.DECODE: 2}, rate=lambda _t: 1.0)
    fleet.step()
    memory = Memory(roles={Role.DECODE: RoleMemory(held=held)})
    pools = {role: observe(fleet.signals(), role, limits, memory, MODEL, fleet.now) for role in ROLES}
    load = size(fleet.signals(), pools, MODEL, limits, memory).decode
    assert load is not None
    assert load.resident_kv == 100_000.0


def test_prefill_keeps_a_margin_for_the_share_that_is_left_to_it() -> None:
    sizing = sizing_of(95.0, late_last=False)
    load = sizing.prefill
    assert load is not None
    tail = load.alone_s * load.variation * math.log(40.0) / (2.0 * load.budget_s)
    rate = next(need for need in sizing.needs[Role.PREFILL] if need.constraint is Constraint.PREFILL_RATE)
    scale = sizing.model.headroom(sizing.model.prefill_valid)
    assert rate.replicas == pytest.approx(load.work * scale + math.hypot(tail, load.work * load.error))


def test_with_late_ones_last_the_margin_is_what_loses_no_more_than_the_share() -> None:
    load = sizing_of(95.0).prefill
    assert load is not None
    example = replace(load, work=10.0, alone_s=0.5, variation=2.0, budget_s=1.0)  # a = 0.5
    assert not example.growth_known  # after five minutes no forecast was judged
    assert spare(example, 0.04) == pytest.approx(1.61, abs=0.01)
    loaded = replace(example, growth_known=True)
    assert spare(loaded, 0.04) == pytest.approx(0.2, abs=0.03)
    assert spare(replace(loaded, late_last=False), 0.04) == pytest.approx(1.61, abs=0.01)
    assert spare(replace(loaded, work=100.0), 0.04) == 0.0  # chance loses less even without any
    assert spare(loaded, 0.01) > spare(loaded, 0.04)


@pytest.mark.parametrize("replicas", [11, 12, 15])
def test_more_are_in_time_with_late_ones_last(replicas: int) -> None:
    load = sizing_of(95.0).prefill
    assert load is not None
    last = replace(load, work=10.0, alone_s=0.5, tight_alone_s=0.5, variation=2.0, budget_s=1.0)
    arrival = replace(last, late_last=False)
    served, queued = ttft_attainment(last, replicas), ttft_attainment(arrival, replicas)
    assert served is not None
    assert queued is not None
    assert 1.0 >= served > queued
    assert ttft_attainment(last, 5) == pytest.approx(0.5)  # half of the work fits
    assert ttft_attainment(arrival, 5) == 0.0
    assert ttft_attainment(replace(last, tight_alone_s=1.1), 5) == 0.0  # late with any number


@pytest.mark.parametrize("late_last", [True, False])
def test_a_stricter_percentile_never_asks_for_less(*, late_last: bool) -> None:
    strict, loose = sizing_of(99.0, late_last=late_last), sizing_of(90.0, late_last=late_last)
    for role in ROLES:
        for more, less in zip(strict.needs[role], loose.needs[role], strict=True):
            assert more.replicas >= less.replicas - 1e-9


def decode_needs_of(missed: float, error: float) -> list[float]:
    sizing = sizing_of(95.0, missed=missed, error=error)
    assert sizing.decode is not None
    assert sizing.decode.error == pytest.approx(error)
    return [need.replicas for need in sizing.needs[Role.DECODE]]


@pytest.mark.parametrize(("missed", "error"), [(0.5, 0.5), (0.5, 0.1), (0.05, 0.5)])
def test_of_clients_misses_and_the_forecasts_error_the_larger_raises_decode(missed: float, error: float) -> None:
    neither, both = decode_needs_of(0.0, 0.0), decode_needs_of(missed, error)
    alone = decode_needs_of(missed, 0.0), decode_needs_of(0.0, error)
    assert both == pytest.approx([max(pair) for pair in zip(*alone, strict=True)])
    for need, bare in zip(both[:2], neither[:2], strict=True):  # KV and steps; the link knows no margin
        assert need >= math.exp(missed) * bare * (1.0 - 1e-9)
