import json
import math
from pathlib import Path
from typing import Any

import pytest

from e2e.benchmarks import report, tune

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
    found = report.losing_first(report.cells(rows, [60.0]), 0.95)
    assert [cell.name[0] for cell in found] == ["missed", "dear", "nobody", "won", "alone"]
    assert [cell.ratio(0.95) for cell in found][:2] == [math.inf, pytest.approx(1.2)]
    assert "4 cells that some policy attains: 2 at most 0.85" in report.summary(found, 0.95)


def test_bounds_are_not_counted_as_baselines() -> None:
    rows = [row("headrace", 1.0, 8.0, 0.96), row("static", 0.95, 7.0, 0.95), row("clairvoyant", 0.95, 5.0, 0.95)]
    cell = report.cells(rows, [60.0])[0]
    assert cell.best(0.95) is None
    assert cell.bound("clairvoyant", 0.95) == 5.0


def test_a_static_fleet_stands_in_the_cells_of_all_delays() -> None:
    rows = [row("static", 0.95, 7.0, 0.95), row("headrace", 1.0, 8.0, 0.96, delay_s=120.0)]
    assert {cell.name[3] for cell in report.cells(rows, [60.0, 120.0])} == {60.0, 120.0}


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
