from collections.abc import Callable
from dataclasses import replace

import pytest

from e2e.benchmarks import fleets
from e2e.benchmarks.ablations import ABLATIONS, AblatedPolicy, PinnedPolicy
from e2e.benchmarks.variants import FAULTS, REFERENCE, variants
from headrace.api.roles import Role
from headrace.autoscaler import loads, sizing
from headrace.autoscaler import plan as planning
from headrace.autoscaler.decision import Constraint
from headrace.autoscaler.signals import Signals
from headrace.simulator.cell import Cell, limits, run_cell
from headrace.simulator.headrace_policy import HeadracePolicy
from headrace.simulator.request import Arrival

CELL, SLO = Cell(fleets.fleet(fleets.MEASURED), delay_s=30.0), fleets.slo("ttft2")
MODEL = CELL.profile.prior()
LOAD = [Arrival(0.05 * i, 1500, 100) for i in range(2400)]  # two minutes at 20 a second: one replica of each role
START = {Role.PREFILL: 1, Role.DECODE: 1}


@pytest.mark.parametrize("name", ABLATIONS)
def test_every_ablation_runs_and_puts_the_product_back_as_it_was(name: str) -> None:
    before = [vars(module).copy() for module in (planning, loads, sizing)]
    policy = AblatedPolicy(MODEL, limits(CELL, SLO), ABLATIONS[name])
    result = run_cell(CELL, policy, LOAD, 120.0, START)
    assert result.unfinished == 0
    assert [vars(module) for module in (planning, loads, sizing)] == before


def test_without_the_envelope_no_need_comes_from_it_and_the_others_stay() -> None:
    policy = AblatedPolicy(MODEL, limits(CELL, SLO), ABLATIONS["-envelope"])
    run_cell(CELL, policy, LOAD, 60.0, START)
    assert policy.last is not None
    named = {need.constraint for need in policy.last.roles[Role.PREFILL].needs}
    assert Constraint.PREFILL_ENVELOPE not in named
    assert Constraint.PREFILL_RATE in named


def test_without_the_usefulness_test_a_backlog_that_is_soon_gone_counts() -> None:
    burst = sorted([*LOAD, *(Arrival(30.0 + 0.01 * i, 1500, 100) for i in range(200))])
    policies = [
        HeadracePolicy(MODEL, limits(CELL, SLO)),
        AblatedPolicy(MODEL, limits(CELL, SLO), ABLATIONS["-usefulness"]),
    ]
    most = []
    for policy in policies:
        needs: list[float] = []
        for until in (35.0, 40.0):
            run_cell(CELL, policy, burst, until, {Role.PREFILL: 4, Role.DECODE: 1})
            assert policy.last is not None
            found = policy.last.roles[Role.PREFILL].needs
            needs += [need.replicas for need in found if need.constraint is Constraint.PREFILL_BACKLOG]
        most.append(max(needs))
    assert most[0] == 0.0
    assert most[1] > 0.5


def test_without_the_forecast_nothing_is_added_to_the_last_value() -> None:
    rising = [Arrival(0.05 * i / (1.0 + i / 2400), 1500, 100) for i in range(9600)]
    policy = AblatedPolicy(MODEL, limits(CELL, SLO), ABLATIONS["-forecast"])
    run_cell(CELL, policy, rising, 400.0, START)
    assert policy.last is not None
    assert policy.last.inputs["forecast_error"] == 0.0


def test_a_pinned_model_is_the_same_after_a_run_and_believes_itself() -> None:
    wrong = MODEL.distorted(0.7)
    policy = PinnedPolicy(wrong, limits(CELL, SLO))
    run_cell(CELL, policy, LOAD, 120.0, START)
    assert policy.model == replace(wrong, prefill_valid=True, decode_valid=True)


def test_a_variant_changes_the_cell_and_the_policy_it_says_and_nothing_else(signals: Callable[..., Signals]) -> None:
    assert REFERENCE.cell(CELL) == replace(CELL, delay_s=60.0, faults=replace(CELL.faults, lag_s=2.5))
    assert (FAULTS.cell(CELL).faults.lag_s, FAULTS.cell(CELL).faults.loss) == (15.0, 0.05)
    plain = REFERENCE.policy(CELL, SLO)
    assert type(plain) is HeadracePolicy
    assert plain.model == MODEL
    seen = signals()
    assert FAULTS.policy(CELL, SLO).decide(seen, seen.at) == plain.decide(seen, seen.at)
    names = [variant.name for variant in variants(ablate=True)]
    assert len(set(names)) == len(names)
