"""engine.json: what it may say, and what it answers to what it may not."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace_engine_config import EngineConfig, EngineConfigError, load_config
from headrace_engine_config.config import own_argument

PLAIN: dict[str, Any] = {"modelPath": "/models/tiny", "servedModelName": "tiny", "role": "worker"}


def _error(text: str) -> str:
    with pytest.raises(EngineConfigError) as caught:
        load_config(text)
    return str(caught.value)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"role": "both"}, "role: Input should be 'prefill', 'decode' or 'worker'"),
        ({"device": "tpu"}, "device: Input should be 'cuda' or 'cpu'"),
        ({"modelPath": ""}, "modelPath: String should have at least 1 character"),
        ({"port": 0}, "port: Input should be greater than or equal to 1"),
        ({"port": 65536}, "port: Input should be less than or equal to 65535"),
        ({"bootstrapPort": "x"}, "bootstrapPort: Input should be a valid integer"),
        ({"memFractionStatic": 1}, "memFractionStatic: Input should be less than 1"),
        ({"memFractionStatic": 0}, "memFractionStatic: Input should be greater than 0"),
        ({"maxTotalTokens": 0}, "maxTotalTokens: Input should be greater than or equal to 1"),
        ({"maxRunningRequests": -1}, "maxRunningRequests: Input should be greater than or equal to 1"),
        ({"contextLength": 0}, "contextLength: Input should be greater than or equal to 1"),
        ({"pageSize": 0}, "pageSize: Input should be greater than or equal to 1"),
        ({"parallelism": {"tensor": 0}}, "parallelism.tensor: Input should be greater than or equal to 1"),
        ({"parallelism": {"tp": 2}}, "parallelism.tp: unknown key; remove it or check its spelling"),
        ({"transferBackend": "ucx"}, "transferBackend: Input should be 'mooncake', 'mooncake_tcp' or 'nixl'"),
        ({"kvCacheDtype": "int8"}, "kvCacheDtype: Input should be 'auto', 'fp8_e4m3', 'fp8_e5m2' or 'bf16'"),
        ({"speculative": {}}, "speculative.algorithm: missing; set it"),
        ({"slowDownSeconds": -1}, "slowDownSeconds: Input should be greater than or equal to 0"),
        ({"terminationDrainSeconds": -1}, "terminationDrainSeconds: Input should be greater than or equal to 0"),
        ({"logLevel": "loud"}, "logLevel: Input should be 'debug', 'info', 'warning' or 'error'"),
        ({"extraArgs": []}, "extraArgs: Input should be an object"),
        ({"extraArgs": {"port": 1}}, 'extraArgs: "port" is set by Headrace; set port instead'),
        (
            {"extraArgs": {"disaggregation-mode": "null"}},
            'extraArgs: "disaggregation-mode" is set by Headrace; set role',
        ),
        ({"extraArgs": {"enable-metrics": False}}, 'extraArgs: "enable-metrics" is set by Headrace; remove it'),
        (
            {"extraArgs": {"tensor-parallel": 2}},
            'extraArgs: "tensor-parallel" is set by Headrace; set parallelism.tensor',
        ),
        ({"tpSize": 2}, "tpSize: unknown key; remove it or check its spelling (SGLang's own arguments go below extra"),
    ],
)
def test_a_bad_field_is_named_with_what_it_should_be(changes: dict[str, Any], sentence: str) -> None:
    assert _error(json.dumps(PLAIN | changes)).startswith(sentence)


@pytest.mark.parametrize("field", list(PLAIN))
def test_a_missing_field_is_named(field: str) -> None:
    assert _error(json.dumps({k: v for k, v in PLAIN.items() if k != field})) == f"{field}: missing; set it"


def test_every_bad_field_gets_its_own_sentence() -> None:
    both = "servedModelName: missing; set it; role: Input should be 'prefill', 'decode' or 'worker'"
    assert _error('{"role": "both", "modelPath": "/m"}') == both


@pytest.mark.parametrize("text", ["", "{", "nonsense"])
def test_what_is_not_json_is_an_error_of_the_file(text: str) -> None:
    assert _error(text).startswith("engine.json: Invalid JSON")


def test_a_list_is_an_error_of_the_file() -> None:
    assert _error("[]").startswith("engine.json: Input should be an object")


def test_what_is_left_out_has_the_defaults_of_a_gpu_engine() -> None:
    loaded = load_config(json.dumps(PLAIN))
    assert (loaded.device, loaded.port, loaded.bootstrap_port, loaded.sglang_version) == ("cuda", 30000, 8998, "0.5.23")
    assert loaded.radix_cache
    assert loaded.parallelism.tensor == loaded.parallelism.data == 1
    assert (loaded.mem_fraction_static, loaded.max_total_tokens, loaded.speculative) == (None, None, None)
    assert loaded.extra_args == {}


def test_keys_are_camel_case_in_the_file() -> None:
    written = json.loads(load_config(json.dumps(PLAIN)).model_dump_json(by_alias=True))
    assert {"modelPath", "servedModelName", "maxTotalTokens", "terminationDrainSeconds", "extraArgs"} <= written.keys()
    assert not [key for key in written if "_" in key]


@given(
    role=st.sampled_from(["prefill", "decode", "worker"]),
    port=st.integers(1, 65535),
    tensor=st.integers(1, 64),
    fraction=st.none() | st.floats(0.01, 0.99),
    extra=st.dictionaries(
        st.text().filter(lambda name: not own_argument(name)), st.none() | st.booleans() | st.integers() | st.text()
    ),
)
def test_what_the_operator_writes_the_engine_reads_back_equal(
    role: Any, port: int, tensor: int, fraction: float | None, extra: dict[str, Any]
) -> None:
    written = EngineConfig(
        model_path="/m",
        served_model_name="m",
        role=role,
        port=port,
        parallelism={"tensor": tensor},
        mem_fraction_static=fraction,
        extra_args=extra,
    )
    assert load_config(written.model_dump_json(by_alias=True)) == written
