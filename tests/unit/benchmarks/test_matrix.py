from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from e2e.benchmarks import autoscaling, fleets, matrix
from e2e.benchmarks.registry import HEADRACE, entry
from e2e.benchmarks.store import Store
from e2e.benchmarks.traces import Window, judged, rows, tuned
from e2e.benchmarks.work import Scale


def test_windows_of_a_long_trace_do_not_overlap_and_tuning_never_sees_them(tmp_path: Path) -> None:
    t = np.arange(0.0, 8 * 3600.0, 10.0)
    path = tmp_path / "long.parquet"
    pq.write_table(pa.table({"t": t, "input_tokens": [100] * len(t), "output_tokens": [10] * len(t)}), path)
    windows = judged(path, 3600.0, 2)
    assert len(windows) == 2
    assert not windows[0].overlaps(windows[1])
    tuning = tuned(path, 3600.0, windows)
    assert tuning is not None
    assert not any(tuning.overlaps(window) for window in windows)


def test_a_short_trace_is_one_window_and_tunes_nothing(traces: Path) -> None:
    path = traces / "rising.parquet"
    (window,) = judged(path, 1800.0, 2)
    assert 118 < window.length_s < 122
    assert tuned(path, 1800.0, [window]) is None


def test_too_few_requests_are_refused_with_the_number(tmp_path: Path) -> None:
    path = tmp_path / "thin.parquet"
    pq.write_table(pa.table({"t": [0.0], "input_tokens": [1], "output_tokens": [1]}), path)
    with pytest.raises(ValueError, match="1 requests"):
        rows(Window(str(path), 0.0, 10.0))


def test_quick_runs_one_knob_a_policy_and_headrace_untuned() -> None:
    winners = {"hpa-kv": {"60": 0.45, "120": 0.3}}
    assert matrix.knobs("hpa-kv", matrix.winner(winners, "hpa-kv", 180.0), quick=True) == (0.3,)
    assert matrix.knobs(HEADRACE, None, quick=True) == (1.0,)
    assert set(entry("hpa-kv").grid) <= set(matrix.knobs("hpa-kv", None, quick=False))


def test_a_static_fleet_is_one_job_for_all_delays() -> None:
    scene = matrix.Scene(Window("x.parquet", 0.0, 60.0), fleets.MEASURED, "ttft2")
    made = matrix.jobs([scene], [60.0, 120.0], [HEADRACE], {}, seeds=1, quick=True)
    assert len({job.key for job in made}) == len(made) - 1


def test_prompts_that_no_idle_replica_serves_in_time_make_an_objective_unattainable(tmp_path: Path) -> None:
    path = tmp_path / "huge.parquet"
    t = np.arange(300.0)
    pq.write_table(pa.table({"t": t, "input_tokens": [60_000] * 300, "output_tokens": [10] * 300}), path)
    window = Window(str(path), 0.0, 300.0)
    assert not fleets.attainable(fleets.MEASURED, window, "ttft2")
    assert fleets.attainable(fleets.MEASURED, window, "length")


def test_finished_rows_and_scales_survive_and_a_torn_line_is_dropped(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.add({"key": "a", "policy": "headrace"})
    store.add({"key": "b", "policy": "hpa-kv"})
    store.add_scale("scene", Scale(2.0, {"prefill": 9}))
    store.add_scale("hopeless", None)
    with store.rows_path.open("a") as file:
        file.write('{"key": "c", "pol')
    again = Store(tmp_path)
    assert set(again.rows) == {"a", "b"}
    assert again.scales == {"scene": Scale(2.0, {"prefill": 9}), "hopeless": None}
    again.forget({"headrace"})
    assert set(Store(tmp_path).rows) == {"b"}


def test_rows_and_scales_of_another_file_of_the_same_name_are_dropped(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for trace in ("a", "b"):
        store.add({"key": trace, "policy": "headrace", "trace": trace})
        store.add_scale(f"{trace}+60s|fleet|disaggregated|ttft2|16", Scale(2.0, {"prefill": 9}))
    store.match({"a": "1111", "b": "2222"})
    assert set(store.rows) == {"a", "b"}  # nothing was known of the files
    again = Store(tmp_path)
    again.match({"a": "1111", "b": "3333"})
    assert set(again.rows) == set(Store(tmp_path).rows) == {"a"}
    assert [key[0] for key in again.scales] == ["a"]


def test_rows_of_other_code_are_told_in_the_report(
    traces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = [
        "--traces", str(traces), "--out", str(tmp_path), "--quick", "--replicas", "2", "--delays", "10", "--jobs", "1",
        "--policies", "hpa-kv",
    ]  # fmt: skip
    assert autoscaling.main(options) == 0
    assert "other code" not in (tmp_path / "report.md").read_text()
    monkeypatch.setattr(autoscaling, "code_digest", lambda: "changed")
    assert autoscaling.main(options) == 0
    assert "run again with --again: clairvoyant, hpa-kv, static" in (tmp_path / "report.md").read_text()


def test_without_traces_it_says_so_and_succeeds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert autoscaling.main(["--traces", str(tmp_path / "none"), "--out", str(tmp_path / "out")]) == 0
    assert "skipped: no Parquet traces in" in capsys.readouterr().out


def test_an_unknown_policy_is_refused_with_the_known_ones(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        autoscaling.main(["--traces", str(tmp_path), "--policies", "magic"])
    assert "Known: headrace, hpa-queue" in capsys.readouterr().err


def test_a_small_run_writes_rows_report_and_plots_and_a_second_run_adds_nothing(
    traces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    options = [
        "--traces", str(traces), "--out", str(out), "--quick", "--replicas", "3", "--delays", "10", "--jobs", "1",
        "--policies", "headrace,hpa-kv",
    ]  # fmt: skip
    assert autoscaling.main(options) == 0
    lines = (out / "rows.jsonl").read_text().splitlines()
    assert len(lines) == 4  # static, clairvoyant, Headrace, one baseline
    assert "the losing cells first" in capsys.readouterr().out
    assert list((out / "plots").glob("pareto-*.png"))
    scale = Store(out).scales
    assert all(found is not None and sum(found.static.values()) == 3 for found in scale.values())
    assert autoscaling.main(options) == 0
    assert (out / "rows.jsonl").read_text().splitlines() == lines
