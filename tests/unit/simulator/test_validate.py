from typing import Any

import numpy as np
import pytest

from headrace.api.roles import Role
from headrace.simulator import validate
from headrace.simulator.engine import EngineShape
from headrace.simulator.profiles import LLAMA_8B_H100_TIMES

SHAPE = EngineShape(kv_capacity_tokens=410_620)
FLAGS = "-m sglang.launch_server --chunked-prefill-size 2048"


def recorded(servers: list[dict[str, Any]], rate: float = 8.0) -> dict[str, Any]:
    """A measured file, as an engine that behaves exactly like the simulator would leave it."""
    rng = np.random.default_rng(2)
    sends = np.cumsum(rng.exponential(1.0 / rate, 200))
    run: dict[str, Any] = {
        "isl": 1024, "osl": 64, "rate_rps": rate, "arrival_window_s": float(sends[-1]),
        "requests": [[float(t), 0.0, 0.0] for t in sends], "metrics": {str(s["port"]): [] for s in servers},
    }  # fmt: skip
    measured = {"servers": servers, "runs": [run]}
    made = validate.setup(measured, SHAPE)
    records = validate.replay(run, made, LLAMA_8B_H100_TIMES, rng).records
    run["requests"] = [
        [t, first, first + tpot * 63]
        for t, first, tpot in zip(records.arrived, records.ttft, records.tpot, strict=True)
    ]
    return measured


UNIFIED = [{"port": 1, "cmd": FLAGS, "events": [[1.0, "kv", "KV Cache is allocated. #tokens: 438941"]]}]
SPLIT = [
    {"port": 1, "cmd": "x --disaggregation-mode prefill"},
    {"port": 2, "cmd": "x --disaggregation-mode decode"},
    {"port": 3, "cmd": "x --disaggregation-mode decode"},
]


def test_an_engine_like_the_simulator_has_no_error() -> None:
    rows = validate.compare("serve_x", recorded(UNIFIED), LLAMA_8B_H100_TIMES, SHAPE, np.random.default_rng(0))
    assert abs(rows[0]["error_ttft_p50_s"]) < 1e-4
    assert abs(rows[0]["error_tpot_p50_s"]) < 1e-4
    assert abs(rows[0]["error_completed_rps"]) < 1e-4
    assert validate.report(rows)["median_error"]["ttft_p50"] < 1e-4


def test_the_setup_comes_from_the_servers_that_took_part() -> None:
    made = validate.setup(recorded(UNIFIED), SHAPE)
    assert (made.shape.kv_capacity_tokens, made.shape.chunk_tokens) == (438_941, 2048)
    assert made.replicas == {Role.WORKER: 1}
    measured = recorded(SPLIT)
    assert validate.setup(measured, SHAPE).replicas == {Role.PREFILL: 1, Role.DECODE: 2}


def test_rates_above_capacity_are_marked_and_left_out_of_the_medians() -> None:
    made = validate.setup(recorded(UNIFIED), SHAPE)
    assert validate.utilisation(LLAMA_8B_H100_TIMES, made, 1024, 256, 22.0) == pytest.approx(1.0, abs=0.06)
    attained = {
        f"{who}_attainment_{slo.name()}": 1.0 for who in ("measured", "simulated") for slo in validate.OBJECTIVES
    }
    rows = [
        {"saturated": False, "error_tpot_p50_s": 0.02, "error_ttft_p50_s": -0.1, "error_ttft_p90_s": 0.0, **attained},
        {"saturated": True, "error_tpot_p50_s": 0.9, "error_ttft_p50_s": 0.9, "error_ttft_p90_s": 0.0, **attained},
    ]
    assert validate.report(rows)["median_error"] == {"tpot_p50": 0.02, "ttft_p50": 0.1, "ttft_p90": 0.0}
