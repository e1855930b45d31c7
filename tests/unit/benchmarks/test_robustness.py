import json
from pathlib import Path
from typing import Any

import pytest

from e2e.benchmarks import robustness
from e2e.benchmarks.robustness_report import Gate, gates
from e2e.benchmarks.store import Row


def row(variant: str = "reference", policy: str = "headrace", **changes: Any) -> Row:
    made: Row = {
        "trace": "x", "policy": policy, "variant": variant, "about": "", "delay_s": 60.0, "seed": 0,
        "reached": True if policy == "clairvoyant" else None, "gpu_hours": 10.0, "attainment": 0.96,
        "attainment_warm": 0.97, "reversals_per_hour": 2.0, "actions": 9, "dropped": 0, "failed_starts": 0,
        "ttft_p90_of_objective": 0.5, "ttft_p90_of_objective_warm": 0.5,
    }  # fmt: skip
    return made | changes


def verdict(rows: list[Row], gate: str, variant: str) -> Gate:
    (found,) = [g for g in gates(rows) if g.gate.startswith(gate) and g.variant == variant]
    return found


def test_a_point_lost_to_late_metrics_fails_and_half_a_point_passes() -> None:
    rows = [row(), row("lag-loss", attainment=0.945), row("model-optimistic", attainment=0.955)]
    assert verdict(rows, "points", "lag-loss").passed is False
    assert verdict(rows, "points", "lag-loss").value == pytest.approx(1.5)
    assert verdict(rows, "points", "model-optimistic").passed is True
    assert gates(rows)[0].variant == "lag-loss"  # failures first


def test_one_dropped_request_and_seven_reversals_fail() -> None:
    rows = [row(), row("starts", dropped=1), row("start-up=300", reversals_per_hour=7.0)]
    assert verdict(rows, "requests dropped", "starts").passed is False
    assert verdict(rows, "reversals", "start-up=300").passed is False
    assert verdict(rows, "reversals", "starts").passed is True


def test_an_ablation_is_no_gate() -> None:
    assert all(gate.variant == "reference" for gate in gates([row(), row("-envelope", dropped=9)]))


@pytest.mark.parametrize(
    ("headrace", "clairvoyant", "passed"),
    [
        ({}, {}, True),
        ({}, {"reached": False}, True),
        ({"ttft_p90_of_objective": 2.5}, {}, False),
        ({"ttft_p90_of_objective": 2.5}, {"reached": False}, None),
        ({"ttft_p90_of_objective": 2.5}, {"ttft_p90_of_objective": 3.0}, None),
        ({"ttft_p90_of_objective": 2.5}, {"gpu_hours": 12.0}, None),
        ({"ttft_p90_of_objective": None}, {}, False),
    ],
)
def test_the_cliff_is_judged_where_the_clairvoyant_can_pass_it(
    headrace: dict[str, Any], clairvoyant: dict[str, Any], passed: bool | None
) -> None:
    rows = [
        row("start-up=10"), row("start-up=180", **headrace),
        row("start-up=10", "clairvoyant"), row("start-up=180", "clairvoyant", **clairvoyant),
    ]  # fmt: skip
    found = verdict(rows, "p90 TTFT", "start-up=180")
    assert found.passed is passed
    assert bool(found.why) is (passed is None)


def test_gpu_hours_at_the_long_start_up_are_compared_with_the_short_one() -> None:
    rows = [row("start-up=10"), row("start-up=180", gpu_hours=12.0)]
    rows += [row(r["variant"], "clairvoyant") for r in rows]
    found = verdict(rows, "GPU-hours", "start-up=180")
    assert found.value == pytest.approx(1.2)
    assert found.passed is False


def test_seeds_are_averaged_and_a_dropped_request_of_any_counts() -> None:
    rows = [row(), row("starts"), row("starts", seed=1, dropped=2)]
    assert verdict(rows, "requests dropped", "starts").value == 2


def test_a_run_writes_rows_and_gates_and_goes_on_only_with_the_same_code(
    traces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (traces / "torn.parquet").write_bytes(b"PAR1")
    out = tmp_path / "out"
    options = [
        "--traces", str(traces), "--out", str(out), "--replicas", "3", "--jobs", "1", "--variants", "lag-loss",
    ]  # fmt: skip
    assert robustness.main(options) == 0
    assert "torn.parquet" in capsys.readouterr().out
    record = json.loads((out / "robustness.json").read_text())
    assert {r["variant"] for r in record["rows"]} == {"reference", "lag-loss"}
    assert any(gate["gate"].startswith("points") for gate in record["gates"])
    lines = (out / "rows.jsonl").read_text().splitlines()
    assert robustness.main(options) == 0
    assert (out / "rows.jsonl").read_text().splitlines() == lines
    monkeypatch.setattr(robustness, "code_digest", lambda: "changed")
    assert robustness.main(options) == 0
    assert len((out / "rows.jsonl").read_text().splitlines()) == 2 * len(lines)


def test_without_traces_it_says_so_and_succeeds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert robustness.main(["--traces", str(tmp_path / "none"), "--out", str(tmp_path / "out")]) == 0
    assert "skipped: no Parquet traces in" in capsys.readouterr().out


def test_an_unknown_variant_is_refused_with_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        robustness.main(["--variants", "magic"])
    assert "Known: reference, lag-loss" in capsys.readouterr().err


def test_ttft_is_taken_relative_to_the_objective_of_its_own_prompt(tmp_path: Path) -> None:
    from e2e.benchmarks import fleets
    from headrace.api.roles import Role
    from headrace.simulator.cell import Cell, run_cell
    from headrace.simulator.request import Arrival
    from headrace.simulator.static_policy import StaticPolicy

    fleet = {Role.PREFILL: 1, Role.DECODE: 1}
    load = [Arrival(2.0 * i, 8000, 10) for i in range(50)]
    result = run_cell(Cell(fleets.fleet(fleets.MEASURED)), StaticPolicy(fleet), load, 100.0, fleet)
    plain = robustness.ttft_of_objective(result, fleets.slo("ttft2"), 0.0)
    grown = robustness.ttft_of_objective(result, fleets.slo("length"), 0.0)
    assert plain is not None
    assert grown == pytest.approx(plain / 2.0)  # 8,000 tokens have 4 s instead of 2
    assert robustness.ttft_of_objective(result, fleets.slo("ttft2"), 1e6) is None
