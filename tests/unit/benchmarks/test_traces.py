from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from e2e.benchmarks import autoscaling, matrix, spread, work
from e2e.benchmarks.traces import Window, judged, readable, rows

GOOD = {"t": np.arange(300.0), "input_tokens": np.full(300, 500), "output_tokens": np.full(300, 20)}


def save(folder: Path, name: str, columns: dict[str, Any]) -> Path:
    path = folder / f"{name}.parquet"
    pq.write_table(pa.table(columns), path)
    return path


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({"time": [1.0]}, "no column 't'; it has time"),
        (GOOD | {"t": GOOD["t"][::-1]}, "'t' is not sorted"),
        (GOOD | {"t": [f"{i}" for i in range(299)] + ["noon"]}, "'t' cannot be read as numbers"),
        (GOOD | {"input_tokens": [None] + [5] * 299}, "'input_tokens' has missing values"),
        (GOOD | {"output_tokens": np.full(300, -1)}, "'output_tokens' has negative values"),
        ({name: values[:10] for name, values in GOOD.items()}, "10 requests, 200 are the least"),
        ({name: values[:0] for name, values in GOOD.items()}, "no rows"),
    ],
)
def test_a_trace_that_cannot_be_judged_is_named_with_the_reason(
    tmp_path: Path, columns: dict[str, Any], told: str
) -> None:
    bad, good = save(tmp_path, "bad", columns), save(tmp_path, "good", GOOD)
    windows, (problem,) = readable([bad, good], 3600.0, 1, 6)
    assert [window.path for window in windows] == [str(good)]
    assert str(bad) in problem
    assert told in problem


def test_what_is_no_parquet_is_named_too(tmp_path: Path) -> None:
    (tmp_path / "text.parquet").write_text("hello")
    _, (problem,) = readable([tmp_path / "text.parquet"], 3600.0, 1, 6)
    assert "text.parquet: 't' cannot be read" in problem


def test_a_clock_in_epoch_seconds_gives_the_window_that_one_from_zero_gives(tmp_path: Path) -> None:
    zero = save(tmp_path, "zero", GOOD)
    epoch = save(tmp_path, "epoch", GOOD | {"t": GOOD["t"] + 1.7e9})
    (a,), (b,) = judged(zero, 60.0, 1), judged(epoch, 60.0, 1)
    assert (a.length_s, a.trace.split("@")[1]) == (b.length_s, b.trace.split("@")[1])
    (whole,) = judged(epoch, 3600.0, 1)
    assert [arrival.t for arrival in rows(whole)] == list(GOOD["t"])


def test_token_counts_stored_as_floats_are_whole_in_the_simulator(tmp_path: Path) -> None:
    path = save(tmp_path, "floats", GOOD | {"input_tokens": np.full(300, 500.7)})
    assert rows(Window(str(path), 0.0, 300.0))[0].input_tokens == 500


def test_quick_takes_the_next_trace_for_one_that_cannot_be_judged(tmp_path: Path) -> None:
    for i in range(8):
        save(tmp_path, f"trace-{i}", GOOD if i else {"time": [1.0]})
    scenes, problems = matrix.quick_scenes(tmp_path, 2)
    assert len(scenes) == matrix.QUICK_WINDOWS
    assert len(problems) == 1


def test_prompts_that_fit_no_engine_are_told_and_not_searched_for(tmp_path: Path) -> None:
    save(tmp_path, "huge", GOOD | {"input_tokens": np.full(300, 500_000)})
    scenes, (problem,) = matrix.quick_scenes(tmp_path)
    assert not scenes
    assert "misses every objective" in problem


def test_requests_too_small_to_fill_the_fleet_are_told(tmp_path: Path) -> None:
    save(tmp_path, "dust", GOOD | {"input_tokens": np.ones(300, dtype=int), "output_tokens": np.ones(300, dtype=int)})
    scenes, (problem,) = matrix.quick_scenes(tmp_path)
    assert not scenes
    assert "try fewer --replicas" in problem


def test_a_directory_of_nothing_but_bad_traces_gives_a_report_that_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(tmp_path, "bad", {"time": [1.0]})
    assert autoscaling.main(["--traces", str(tmp_path), "--out", str(tmp_path / "out"), "--quick"]) == 0
    assert "no column 't'" in (tmp_path / "out" / "report.md").read_text()
    assert "Written:" in capsys.readouterr().out


def test_a_run_that_fails_is_told_and_the_others_are_kept(tmp_path: Path) -> None:
    scene = matrix.Scene(Window(str(tmp_path / "gone.parquet"), 0.0, 300.0), "llama-8b-h100", "ttft2")
    good = matrix.Scene(Window(str(save(tmp_path, "good", GOOD)), 0.0, 300.0), "llama-8b-h100", "ttft2", replicas=2)
    kept: list[str] = []
    failed = spread.spread(
        "test", 1, [scene, good],
        submit=lambda pool, item: pool.submit(work.find_scale, item),
        done=lambda item, _found: kept.append(item.key),
    )  # fmt: skip
    assert kept == [good.key]
    assert len(failed) == 1
    assert "gone" in failed[0]
