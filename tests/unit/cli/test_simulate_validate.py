import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from headrace.cli.simulate import app

RUNS = Path(__file__).parents[3] / "e2e" / "benchmarks" / "measured" / "h200_sglang0514"
LLAMA, MOE = RUNS / "llama8b", RUNS / "qwen3moe"
PROFILE = "profile_llama8b_h200.json"


@pytest.fixture
def measured(tmp_path: Path) -> Path:
    for name in ("serve_isl4096.json.gz", PROFILE):
        shutil.copy(LLAMA / name, tmp_path / name)
    return tmp_path


def validate(*options: str | Path) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["validate", *map(str, options)], env={"COLUMNS": "1000"})
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result.exit_code, " ".join(result.output.replace("│", " ").split())


def edit(path: Path, **changes: Any) -> None:
    content = json.loads(gzip.decompress(path.read_bytes()))
    path.write_bytes(gzip.compress(json.dumps(content | changes).encode()))


def test_a_directory_of_runs_gives_a_report(measured: Path) -> None:
    out = measured / "out.json"
    code, text = validate("--measured", measured, "--accelerator", "nvidia-h200", "--json", out)
    assert code == 0
    assert "Median error over 3 rates" in text
    report = json.loads(out.read_text())
    assert report["median_error"]["tpot_p50"] < 0.1
    assert report["notes"] == []


def test_the_model_that_the_runs_name_is_the_one_that_is_predicted(tmp_path: Path) -> None:
    shutil.copy(MOE / "serve_isl4096.json.gz", tmp_path)
    shutil.copy(LLAMA / "serve_isl4096.json.gz", tmp_path / "serve_dense.json.gz")
    out = tmp_path / "out.json"
    assert validate("--measured", tmp_path, "--accelerator", "nvidia-h200", "--json", out)[0] == 0
    errors = {row["run"]: abs(row["error_tpot_p50_s"]) for row in json.loads(out.read_text())["rows"]}
    assert max(errors.values()) < 0.1
    assert set(errors) == {"serve_isl4096", "serve_dense"}


def test_runs_of_another_model_than_the_profile_are_left_out_and_named(measured: Path) -> None:
    shutil.copy(MOE / "serve_isl4096.json.gz", measured / "serve_moe.json.gz")
    code, text = validate("--measured", measured, "--calibrate", measured / PROFILE)
    assert code == 0
    assert "serve_moe.json.gz: left out, it served 'qwen3moe' and" in text


def test_no_run_of_the_profiles_model_is_an_error(measured: Path) -> None:
    code, text = validate("--measured", measured, "--calibrate", MOE / "profile_qwen3moe_h200.json")
    assert code == 2
    assert "a profile of model 'qwen3moe', but" in text
    assert "holds runs of llama8b" in text
    assert "serve_isl4096.json.gz" in text


@pytest.mark.parametrize("route", ["--calibrate", "--accelerator"])
def test_a_fleet_of_another_model_is_refused_with_the_right_one(measured: Path, route: str) -> None:
    value = measured / PROFILE if route == "--calibrate" else "nvidia-h200"
    code, text = validate("--measured", measured, route, value, "--profile", "qwen3-30b-a3b-h100")
    assert code == 2
    assert ("use --profile llama-8b-h100" if route == "--calibrate" else "leave --profile out or name") in text


def test_a_model_that_nobody_knows_is_taken_as_the_default_with_a_note(measured: Path) -> None:
    path = measured / "serve_isl4096.json.gz"
    content = json.loads(gzip.decompress(path.read_bytes()))
    content["servers"][0]["cmd"] = content["servers"][0]["cmd"].replace("llama8b", "own-model")
    edit(path, servers=content["servers"])
    code, text = validate("--measured", measured, "--accelerator", "nvidia-h200")
    assert code == 0
    assert "serve_isl4096.json.gz: model 'own-model' is not known, taken as llama-8b-h100; give --profile" in text


def test_no_serving_file_is_an_error(tmp_path: Path) -> None:
    code, text = validate("--measured", tmp_path, "--accelerator", "nvidia-h200")
    assert code == 2
    assert "no serve_*.json.gz in it" in text


def test_a_missing_profile_is_an_error(measured: Path) -> None:
    code, text = validate("--measured", measured, "--calibrate", measured / "profile_gone.json")
    assert code == 2
    assert "profile_gone.json" in text


def test_an_unknown_accelerator_is_answered_with_the_nearest(measured: Path) -> None:
    code, text = validate("--measured", measured, "--accelerator", "nvidia-h20")
    assert code == 2
    assert "Did you mean 'nvidia-h200'" in text


def damage(path: Path, kind: str) -> None:
    whole = path.read_bytes()
    damaged = {
        "truncated": whole[: len(whole) // 2],
        "not gzip": b"{}",
        "broken inside": whole[:200] + b"\0" * 50 + whole[250:],
        "not json": gzip.compress(b"{'runs'"),
        "not text": gzip.compress(b"\xff\xfe\x00"),
        "a list": gzip.compress(b"[]"),
        "empty": b"",
    }
    path.write_bytes(damaged[kind])


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("truncated", "not a whole gzip file"),
        ("not gzip", "not a whole gzip file"),
        ("broken inside", "not a whole gzip file"),
        ("empty", "not JSON"),
        ("not json", "not JSON"),
        ("not text", "not JSON"),
        ("a list", "holds a list"),
    ],
)
def test_a_damaged_serving_file_is_named(measured: Path, kind: str, says: str) -> None:
    damage(measured / "serve_isl4096.json.gz", kind)
    code, text = validate("--measured", measured, "--accelerator", "nvidia-h200")
    assert code == 2
    assert says in text
    assert "serve_isl4096.json.gz" in text


RUN: dict[str, Any] = {"isl": 1024, "osl": 16, "arrival_window_s": 10.0, "requests": [[0.1, 0.2, 0.5]]}


@pytest.mark.parametrize(
    ("runs", "says"),
    [
        ([], "runs is empty or missing"),
        ([{key: value for key, value in RUN.items() if key != "requests"}], "runs[0] has no requests"),
        ([RUN | {"requests": []}], "no request was completed"),
        ([RUN, RUN | {"requests": [[0.1, None, 0.5]]}], "runs[1].requests holds [0.1, None, 0.5]"),
        ([RUN | {"osl": 1}], "osl above 1"),
        ([RUN | {"isl": "1024"}], "isl and arrival_window_s have to be"),
    ],
)
def test_a_run_that_cannot_be_compared_is_named_by_file_and_field(
    measured: Path, runs: list[dict[str, Any]], says: str
) -> None:
    edit(measured / "serve_isl4096.json.gz", runs=runs)
    code, text = validate("--measured", measured, "--accelerator", "nvidia-h200")
    assert code == 2
    assert says in text
    assert "serve_isl4096.json.gz" in text


def test_a_profile_row_without_a_figure_is_named(measured: Path) -> None:
    content = json.loads((measured / PROFILE).read_text())
    content["decode"][3]["step_s"] = None
    (measured / PROFILE).write_text(json.dumps(content))
    code, text = validate("--measured", measured, "--calibrate", measured / PROFILE)
    assert code == 2
    assert "decode[3].step_s is not a number above 0" in text
    assert PROFILE in text


def test_probe_rows_that_failed_are_passed_over(measured: Path) -> None:
    rows = [{"input_len": 128, "err": "timed out"}, {"input_len": 4096, "pd_ttft_s": 0.12, "unified_ttft_s": None}]
    (measured / "pd_probe.json").write_text(json.dumps({"rows": rows}))
    assert validate("--measured", measured, "--calibrate", measured / PROFILE)[0] == 0


def test_a_file_without_servers_is_replayed_with_the_defaults(measured: Path) -> None:
    edit(measured / "serve_isl4096.json.gz", servers=[])
    code, text = validate("--measured", measured, "--accelerator", "nvidia-h200")
    assert code == 0
    assert "model None is not known" in text
