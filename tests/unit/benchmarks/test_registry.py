import pytest

from e2e.benchmarks import fleets
from e2e.benchmarks.registry import BASELINES, HEADRACE, LAGS, build, entry, facts
from headrace.simulator.cell import Cell
from headrace.simulator.headrace_policy import HeadracePolicy
from headrace.simulator.request import Arrival

ROWS = [Arrival(float(i), 1500, 100) for i in range(10)]


def test_facts_are_the_simulated_truth_at_the_windows_lengths() -> None:
    found = facts(Cell(fleets.fleet(fleets.MEASURED)), fleets.slo("ttft2"), ROWS)
    assert found.prefill_tokens_per_s == pytest.approx(34_200, rel=0.01)
    assert found.best_batch(1550.0) == 199  # 410,620 KV tokens over 1,550 and 512 kept free
    assert found.context_length == 1600


def test_headrace_is_the_products_own_policy_with_its_default() -> None:
    made = build(HEADRACE, entry(HEADRACE).default, Cell(fleets.fleet(fleets.MEASURED)), fleets.slo("length"), ROWS)
    assert isinstance(made, HeadracePolicy)
    assert made.limits.headroom == 1.0
    assert made.limits.objective.ttft_per_1k_prompt_s == pytest.approx(0.5)


def test_a_controller_behind_prometheus_reads_older_metrics_than_headrace() -> None:
    assert set(LAGS) <= set(BASELINES)
    assert entry("hpa-queue").lag_s > entry(HEADRACE).lag_s


def test_an_unknown_policy_is_refused_with_the_known_ones() -> None:
    with pytest.raises(LookupError, match="Known: headrace, hpa-queue"):
        entry("magic")
