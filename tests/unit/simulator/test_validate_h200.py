"""The capacity model against serving runs of a chip of which nothing but the data sheet is in the catalogue."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.catalog.measured import MEASURED
from headrace.simulator import calibrate, validate
from headrace.simulator.profiles import catalogue_times, profile
from headrace.simulator.times import EngineTimes

RUNS = Path(__file__).parents[3] / "e2e" / "benchmarks" / "measured" / "h200_sglang0514"
MODELS = {"llama8b": "llama-8b-h100", "qwen3moe": "qwen3-30b-a3b-h100"}


def read(path: Path) -> dict[str, Any]:
    raw = path.read_bytes()
    content: dict[str, Any] = json.loads(gzip.decompress(raw) if path.suffix == ".gz" else raw)
    return content


def report(model: str, times: EngineTimes) -> dict[str, Any]:
    rows: list[dict[str, Any]] = []
    for path in sorted((RUNS / model).glob("serve_*.json.gz")):
        rows += validate.compare(path.stem, read(path), times, profile(MODELS[model]).shape, np.random.default_rng(0))
    return validate.report(rows)


def below_saturation(found: dict[str, Any]) -> list[dict[str, Any]]:
    return [row for row in found["rows"] if not row["saturated"]]


def test_no_constant_of_the_catalogue_was_measured_on_the_h200() -> None:
    assert {measured.accelerator for measured in MEASURED} == {"nvidia-h100"}


@pytest.mark.parametrize("model", MODELS)
def test_the_catalogue_predicts_a_chip_nobody_measured_within_20_percent(model: str) -> None:
    found = report(model, catalogue_times("nvidia-h200", profile(MODELS[model]).model))
    assert found["median_error"]["tpot_p50"] <= 0.10
    assert found["median_error"]["ttft_p50"] <= 0.10
    rows = below_saturation(found)
    assert len(rows) >= 4
    for row in rows:
        assert abs(row["error_tpot_p50_s"]) <= 0.20
        assert abs(row["error_ttft_p50_s"]) <= 0.20
        assert abs(row["error_completed_rps"]) <= 0.05


@pytest.mark.parametrize("model", MODELS)
def test_a_fit_on_the_chips_own_profile_is_within_5_percent_of_tpot_and_15_of_ttft(model: str) -> None:
    fitted = calibrate.fit(
        read(RUNS / model / f"profile_{model}_h200.json"),
        read(RUNS / model / "unified_probe.json"),
        profile(MODELS[model]).model,
    )
    found = report(model, fitted)
    assert found["median_error"]["tpot_p50"] <= 0.05
    assert found["median_error"]["ttft_p50"] <= 0.15


@pytest.mark.parametrize("model", MODELS)
def test_the_catalogues_decode_steps_hold_for_every_batch_that_was_profiled(model: str) -> None:
    times = catalogue_times("nvidia-h200", profile(MODELS[model]).model)
    errors = {}
    for row in read(RUNS / model / f"profile_{model}_h200.json")["decode"]:
        predicted = times.decode_s(row["batch"], row["total_kv_tokens"])
        errors[row["batch"], row["ctx"]] = abs(predicted / row["step_s"] - 1.0)
    assert max(errors.values()) <= 0.12, errors  # the worst: 7 streams of 32,768 tokens
    assert float(np.median(list(errors.values()))) <= 0.03


def test_a_batch_above_the_largest_graph_costs_the_hosts_launches() -> None:
    times = catalogue_times("nvidia-h200")
    assert times.decode_s(256, 256 * 280) < 0.7 * times.decode_s(257, 257 * 280)  # 11.5 and 17.1 ms were measured
    assert times.decode_s(257, 257 * 280) == times.eager_decode_s
    assert times.decode_s(320, 320 * 2048) > times.eager_decode_s  # there the device takes longer than the host


def test_a_chip_with_faster_memory_alone_is_bound_by_arithmetic_from_a_smaller_batch() -> None:
    h100, h200 = catalogue_times("nvidia-h100"), catalogue_times("nvidia-h200")
    gained = [1.0 - h200.decode_fixed_s(b) / h100.decode_fixed_s(b) for b in (1, 128, 192, 256)]
    assert gained == sorted(gained, reverse=True)
    assert gained[-1] < 0.05  # measured: 9.3 and 9.5 ms at 256, but 4.8 and 6.3 ms at 1
