import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from e2e.benchmarks import report, tune
from e2e.benchmarks.bootstrap import over_seeds, over_windows
from e2e.benchmarks.cells import CellRows, Verdict, cells, losing_first
from e2e.benchmarks.gates import gates

BASE: dict[str, Any] = {
    "window": {}, "fleet": "f", "objective": "ttft2", "seed": 0, "reached": True, "ttft_p50_s": 0.1, "ttft_p95_s": 1.0,
    "tpot_p95_s": 0.02, "actions": 1, "reversals_per_hour": 0.0, "dropped": 0, "retractions": 0,
}  # fmt: skip


def row(
    policy: str, knob: float, hours: float, attained: float, trace: str = "a", *, delay_s: float = 60.0
) -> dict[str, Any]:
    key = f"{policy}{knob}{trace}{delay_s}"
    return {**BASE, "key": key, "policy": policy, "knob": knob, "gpu_hours": hours, "attainment": attained,
            "trace": trace, "delay_s": delay_s}  # fmt: skip


def test_cells_are_sorted_with_the_lost_ones_first() -> None:
    rows = [
        row("headrace", 1.0, 8.0, 0.96, "won"), row("hpa-kv", 0.6, 10.0, 0.97, "won"),
        row("headrace", 1.0, 12.0, 0.96, "dear"), row("hpa-kv", 0.6, 10.0, 0.97, "dear"),
        row("headrace", 1.0, 8.0, 0.90, "missed"), row("hpa-kv", 0.6, 10.0, 0.97, "missed"),
        row("headrace", 1.0, 8.0, 0.96, "alone"), row("hpa-kv", 0.6, 10.0, 0.90, "alone"),
        row("headrace", 1.0, 8.0, 0.90, "nobody"), row("hpa-kv", 0.6, 10.0, 0.90, "nobody"),
    ]  # fmt: skip
    found = losing_first(cells(rows, [60.0]), 0.95)
    assert [cell.name[0] for cell in found] == ["missed", "dear", "nobody", "won", "alone"]
    assert [cell.ratio(0.95) for cell in found][:2] == [math.inf, pytest.approx(1.2)]
    verdicts = [cell.verdict(0.95) for cell in found]
    assert verdicts == [Verdict.LOST, Verdict.LOST, Verdict.NOBODY, Verdict.WON, Verdict.WON]
    assert "2 won (at most 0.85 of the best baseline's GPU-hours; in 1 Headrace alone" in report.summary(found, 0.95)
    won, worst, *_ = gates(found, 0.95)
    assert won.measured == "2 of 4 (50%); nobody attains 0 of these, nor the clairvoyant 1 more"
    assert (won.passed, worst.passed) == (False, False)
    assert worst.measured == "1 dearer, 1 that only a baseline attains"


def test_a_cell_that_only_the_clairvoyant_attains_is_not_won() -> None:
    rows = [
        row("headrace", 1.0, 8.0, 0.96, "won"), row("hpa-kv", 0.6, 10.0, 0.97, "won"),
        row("headrace", 1.0, 8.0, 0.90, "nobody"), row("clairvoyant", 0.95, 7.0, 0.95, "nobody"),
    ]  # fmt: skip
    gate = gates(cells(rows, [60.0]), 0.95)[0]
    assert gate.measured == "1 of 2 (50%); nobody attains 1 of these, nor the clairvoyant 0 more"
    assert gate.passed is False
    rows[3] |= {"reached": False}
    assert gates(cells(rows, [60.0]), 0.95)[0].passed is True


def test_a_bar_in_the_name_of_a_trace_does_not_break_the_tables() -> None:
    text = report.markdown(cells([row("headrace", 1.0, 8.0, 0.96, "a|b")], [60.0]), [])
    assert "a\\|b" in text
    assert "| a|b |" not in text


def test_bounds_are_not_counted_as_baselines() -> None:
    rows = [row("headrace", 1.0, 8.0, 0.96), row("static", 0.95, 7.0, 0.95), row("clairvoyant", 0.95, 5.0, 0.95)]
    cell = cells(rows, [60.0])[0]
    assert cell.best(0.95) is None
    assert cell.bound("clairvoyant", 0.95) == 5.0


def test_a_static_fleet_stands_in_the_cells_of_all_delays() -> None:
    rows = [row("static", 0.95, 7.0, 0.95), row("headrace", 1.0, 8.0, 0.96, delay_s=120.0)]
    assert {cell.name[3] for cell in cells(rows, [60.0, 120.0])} == {60.0, 120.0}


def test_a_knob_that_is_default_and_winner_gives_a_row_of_each_variant(tmp_path: Path) -> None:
    winners = {"hpa-kv": {"60": 0.6}}
    rows = [row("hpa-kv", 0.6, 10.0, 0.97), row("hpa-kv", 0.3, 20.0, 0.99), row("headrace", 1.0, 8.0, 0.96)]
    text = report.write(rows, [60.0], winners, tmp_path, ["A note."])
    kept = json.loads((tmp_path / "results.json").read_text())["rows"]
    assert [r["variant"] for r in kept] == ["default", "grid", "0.3", "default"]
    assert "A note." in text


def test_a_grid_winner_is_the_cheapest_that_attains_and_misses_are_dear() -> None:
    rows = [
        row("static", 0.95, 10.0, 0.95), row("hpa-kv", 0.3, 9.0, 0.97), row("hpa-kv", 0.6, 7.0, 0.955),
        row("hpa-kv", 0.8, 5.0, 0.80),
    ]  # fmt: skip
    assert tune.choose(rows) == {"hpa-kv": {"60": 0.6}}


def test_committed_winners_are_values_of_the_grids() -> None:
    from e2e.benchmarks.registry import BASELINES, entry

    for policy, by_delay in tune.winners().items():
        assert policy in BASELINES
        assert set(by_delay.values()) <= {*entry(policy).grid, entry(policy).default}


def test_the_cheaper_bound_stands_beside_headrace_with_its_name() -> None:
    rows = [row("headrace", 1.0, 8.0, 0.96), row("static", 0.95, 7.0, 0.95), row("clairvoyant", 0.95, 9.0, 0.95)]
    assert cells(rows, [60.0])[0].cheapest_bound(0.95) == ("static", 7.0)
    rows[1] |= {"reached": False}
    assert cells(rows, [60.0])[0].cheapest_bound(0.95) == ("clairvoyant", 9.0)
    assert "| clairvoyant | 0.89 |" in report.markdown(cells(rows, [60.0]), [])


@pytest.mark.parametrize(("hours", "passed"), [(11.0, True), (13.0, False)])
def test_azure_2024_is_held_against_the_clairvoyant_at_a_minute(hours: float, passed: bool) -> None:
    rows = [row("headrace", 1.0, hours, 0.96, "azure2024_x"), row("clairvoyant", 0.95, 10.0, 0.95, "azure2024_x")]
    assert gates(cells(rows, [60.0]), 0.95)[2].passed is passed
    elsewhere = [row("headrace", 1.0, hours, 0.96), row("clairvoyant", 0.95, 10.0, 0.95)]
    assert gates(cells(elsewhere, [60.0]), 0.95)[2].passed is None


def test_dropped_requests_and_reversals_of_any_run_of_the_default_fail_their_gates() -> None:
    rows = [row("headrace", 1.0, 8.0, 0.96), row("headrace", 1.15, 9.0, 0.97) | {"dropped": 5}]
    assert [gate.passed for gate in gates(cells(rows, [60.0]), 0.95)][3:] == [True, True]
    rows.append(row("headrace", 1.0, 8.0, 0.96, "b") | {"dropped": 1, "reversals_per_hour": 7.0})
    assert [gate.passed for gate in gates(cells(rows, [60.0]), 0.95)][3:] == [False, False]


def test_baselines_are_compared_at_the_gpu_hours_of_headraces_default() -> None:
    rows = [row("headrace", 1.0, 11.0, 0.96), row("hpa-kv", 0.6, 10.0, 0.90), row("hpa-kv", 0.3, 12.0, 0.94)]
    (cell,) = cells(rows, [60.0])
    best = cell.best_at_equal_cost()
    assert best is not None
    assert best[0] == "hpa-kv"
    assert best[1] == pytest.approx(0.92)
    assert cell.points_ahead() == pytest.approx(4.0)
    (dear,) = cells([row("headrace", 1.0, 9.0, 0.96), *rows[1:]], [60.0])
    assert dear.best_at_equal_cost() is None
    assert "none is as cheap" in report.markdown([dear], [])


def test_seeds_are_drawn_together_for_all_policies() -> None:
    rows = []
    for seed, hours in enumerate((8.0, 10.0, 12.0)):  # a hard seed is as hard for both: the ratio never moves
        rows.append(row("headrace", 1.0, hours, 0.96) | {"seed": seed})
        rows.append(row("hpa-kv", 0.6, 2.0 * hours, 0.96) | {"seed": seed})
    (cell,) = cells(rows, [60.0])
    assert over_seeds(cell, lambda drawn: drawn.ratio(0.95)) == (0.5, 0.5)
    assert "| 0.50 to 0.50 |" in report.markdown([cell], [])
    hours_low, hours_high = over_seeds(cell, lambda drawn: drawn.points("headrace")[0].gpu_hours) or (0.0, 0.0)
    assert (hours_low, hours_high) == (8.0, 12.0)


def test_one_seed_and_one_window_have_no_interval() -> None:
    found = cells([row("headrace", 1.0, 8.0, 0.96), row("hpa-kv", 0.6, 7.0, 0.94)], [60.0])
    assert over_seeds(found[0], CellRows.points_ahead) is None
    assert over_windows(found, lambda drawn: float(len(drawn))) is None


def test_windows_are_drawn_with_all_their_delays() -> None:
    rows = [
        row("headrace", 1.0, 8.0, level, trace, delay_s=delay_s)
        for trace, level in (("a", 0.9), ("b", 1.0)) for delay_s in (60.0, 120.0)
    ]  # fmt: skip
    sizes: list[int] = []

    def first(drawn: Sequence[CellRows]) -> float:
        sizes.append(len(drawn))
        return drawn[0].points("headrace")[0].attainment

    found = cells(rows, [60.0, 120.0])
    assert over_windows(found, first) == (0.9, 1.0)
    assert set(sizes) == {4}
