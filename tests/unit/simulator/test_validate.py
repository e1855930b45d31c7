from typing import Any

import numpy as np
import pytest

from headrace.api.roles import Role
from headrace.simulator import validate
from headrace.simulator.engine import EngineShape
from headrace.simulator.profiles import LLAMA_8B_H100_TIMES, profile_of_model

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


def test_the_setup_falls_back_to_the_servers_own_account_of_itself() -> None:
    info = {
        "max_total_num_tokens": 906_051, "chunked_prefill_size": 4096,
        "cuda_graph_config": {"decode": {"max_bs": 128}},
    }  # fmt: skip
    measured = {"servers": [{"port": 1, "cmd": "x", "server_info": info}], "runs": [{"metrics": {}}]}
    made = validate.setup(measured, SHAPE)
    assert (made.shape.kv_capacity_tokens, made.shape.chunk_tokens, made.graph_batch) == (906_051, 4096, 128)
    measured["servers"] = [{"port": 1, "cmd": "x", "server_info": {"chunked_prefill_size": -1}}]
    assert validate.setup(measured, SHAPE).shape == SHAPE


@pytest.mark.parametrize(
    ("command", "model"),
    [
        ("-m sglang.launch_server --model-path ./dev/models/llama8b --port 1", "llama8b"),
        ("x --model-path=meta-llama/Llama-3.1-8B-Instruct", "Llama-3.1-8B-Instruct"),
        ("x --model Qwen/Qwen3-30B-A3B/", "Qwen3-30B-A3B"),
        ("x", None),
    ],
)
def test_the_model_is_the_last_part_of_the_path_that_was_served(command: str, model: str | None) -> None:
    assert validate.served_model({"servers": [{"cmd": command}]}) == model
    assert validate.served_model({"server": {"cmd": command}}) == model


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("meta-llama/Llama-3.1-8B-Instruct", "llama-8b-h100"),
        ("Qwen/Qwen3-30B-A3B", "qwen3-30b-a3b-h100"),
        ("Llama-3.1-70B-fp8", "llama-70b-h100-tp4"),
        ("gpt-oss-20b", None),
        (None, None),
    ],
)
def test_a_profile_is_found_by_the_path_of_its_model(path: str | None, name: str | None) -> None:
    found = profile_of_model(path)
    assert (found.name if found else None) == name


def test_engines_without_graphs_and_with_fp8_kv_are_known_by_their_command() -> None:
    command = "x --kv-cache-dtype fp8_e4m3 --disable-cuda-graph"
    measured = {"servers": [{"port": 1, "cmd": command}], "runs": [{"metrics": {}}]}
    assert validate.setup(measured, SHAPE).graph_batch == 0
    assert validate.kv_dtype(measured) == "fp8_e4m3"
    assert validate.kv_dtype({"servers": UNIFIED}) is None
