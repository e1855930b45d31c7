"""The simulator's command line on real files: recorded traces and measured serving runs, where they are at hand.

HEADRACE_MEASURED and HEADRACE_TRACES name the directories; without them (or the usual places beside the checkout) the
tests that need them are skipped.
"""

import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from headrace.cli.simulate import app

BESIDE = Path(__file__).resolve().parents[3] / "shared"
MEASURED = Path(os.environ.get("HEADRACE_MEASURED", BESIDE / "perf" / "h100_sglang0514"))
TRACES = Path(os.environ.get("HEADRACE_TRACES", BESIDE / "traces"))

needs_measured = pytest.mark.skipif(not MEASURED.is_dir(), reason="no measured serving runs (set HEADRACE_MEASURED)")
needs_traces = pytest.mark.skipif(not TRACES.is_dir(), reason="no traces (set HEADRACE_TRACES)")


def invoke(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "steady.parquet"
    rows = {
        "t": [0.1 * i for i in range(3000)],
        "input_tokens": [800 + i % 400 for i in range(3000)],
        "output_tokens": [60 + i % 80 for i in range(3000)],
        "hash_ids": [[i % 7, 100 + i] for i in range(3000)],
    }
    pq.write_table(pa.table(rows), path)
    return path


def test_run_writes_results_and_a_picture(trace: Path, tmp_path: Path) -> None:
    out, picture = tmp_path / "out.json", tmp_path / "out.png"
    shown = invoke("run", "--trace", str(trace), "--delay", "20", "--json", str(out), "--plot", str(picture))
    (row,) = json.loads(out.read_text())["rows"]
    assert (row["requests"], row["dropped"], row["policy"]) == (3000, 0, "headrace")
    assert row["attainment"] > 0.95
    assert len(row["series"]["t_s"]) == row["ticks"]
    assert picture.stat().st_size > 10_000
    assert "requests in" in shown


def test_a_directory_of_traces_is_run_one_by_one(trace: Path, tmp_path: Path) -> None:
    trace.rename(trace.with_name("a.parquet"))
    pq.write_table(pq.read_table(trace.with_name("a.parquet")), trace.with_name("b.parquet"))
    out = tmp_path / "out.json"
    invoke("run", "--trace", str(tmp_path), "--policy", "static:1,1", "--minutes", "2", "--json", str(out))
    rows = json.loads(out.read_text())["rows"]
    assert [row["trace"] for row in rows] == ["a", "b"]
    assert rows[0]["gpu_hours"] == pytest.approx(2 * 120 / 3600)


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        (["--profile", "llama"], "Known: llama-8b-h100"),
        (["--policy", "static:1"], "static:PREFILL,DECODE"),
        (["--topology", "mixed"], "disaggregated"),
        (["--accelerator", "nvidia-h10"], "Did you mean"),
    ],
)
def test_a_wrong_option_is_answered_with_the_right_ones(trace: Path, arguments: list[str], answer: str) -> None:
    result = CliRunner().invoke(app, ["run", "--trace", str(trace), *arguments], env={"COLUMNS": "200"})
    assert result.exit_code == 2
    assert answer in result.output


def test_a_trace_without_a_needed_column_is_named(tmp_path: Path) -> None:
    path = tmp_path / "odd.parquet"
    pq.write_table(pa.table({"t": [0.0], "input_tokens": [1]}), path)
    result = CliRunner().invoke(app, ["run", "--trace", str(path)], env={"COLUMNS": "200"})
    assert result.exit_code == 2
    assert "output_tokens" in result.output


@needs_measured
@pytest.mark.parametrize(
    ("source", "tpot", "ttft"),
    [
        (["--calibrate", str(MEASURED / "profile_llama8b_h100.json")], 0.05, 0.15),
        (["--accelerator", "nvidia-h100"], 0.20, 0.20),
    ],
)
def test_the_simulator_agrees_with_the_measured_serving_runs(
    source: list[str], tpot: float, ttft: float, tmp_path: Path
) -> None:
    out = tmp_path / "validation.json"
    invoke("validate", "--measured", str(MEASURED), *source, "--json", str(out))
    report = json.loads(out.read_text())
    assert report["median_error"]["tpot_p50"] <= tpot
    assert report["median_error"]["ttft_p50"] <= ttft
    assert {row["topology"] for row in report["rows"]} == {"aggregated", "disaggregated"}
    assert report["rows_below_saturation"] < len(report["rows"])


@needs_traces
def test_a_recorded_trace_is_served(tmp_path: Path) -> None:
    path = TRACES / "azure2023_conv_first29min.parquet"
    if not path.is_file():
        pytest.skip(f"no {path.name} in {TRACES}")
    out = tmp_path / "out.json"
    invoke("run", "--trace", str(path), "--scale", "8", "--minutes", "5", "--json", str(out))
    (row,) = json.loads(out.read_text())["rows"]
    assert row["dropped"] == 0
    assert row["attainment"] > 0.8
