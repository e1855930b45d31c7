from typing import Any

import pytest

from headrace.catalog.accelerators import lookup
from headrace.catalog.measured import QWEN3_30B_A3B
from headrace.simulator import calibrate
from headrace.simulator.profiles import LLAMA_8B_H100_TIMES, PROFILES, catalogue_times, profile, scaled_to
from headrace.simulator.times import EngineTimes


def measured(times: EngineTimes) -> tuple[dict[str, Any], dict[str, Any]]:
    """A profile and a probe as an engine of exactly these times would give them."""
    prefill = []
    probe = []
    for n in (128, 512, 1024, 2048, 4096, 8192):
        lone = times.idle.step_s(n, 0.5 * n * n)
        prefill.append({"input_len": n, "client_median_s": lone + times.frontend_s, "server_e2e_median_s": lone})
        launched = max(lone, times.eager_launch_s) if n < 1024 else lone
        probe.append({
            "input_len": n, "unified_ttft_s": lone + times.frontend_s,
            "pd_ttft_s": launched + times.frontend_s + times.transfer.seconds(n),
        })  # fmt: skip
    saturated = [
        {
            "input_len": n,
            "n": count,
            "total_s": times.frontend_s + count * n // 8192 * times.busy.step_s(8192, 8192 * n / 2),
        }
        for n, count in ((1024, 96), (4096, 32), (8192, 16))
    ]
    decode = [
        {"batch": b, "total_kv_tokens": b * c, "step_s": times.decode.decode_s(b, b * c)}
        for b in (1, 8, 64, 128) for c in (256, 1024, 4096)
    ]  # fmt: skip
    return {"prefill": prefill, "prefill_sat": saturated, "decode": decode}, {"rows": probe}


def test_the_fit_gives_an_engines_times_back() -> None:
    truth = LLAMA_8B_H100_TIMES
    found = calibrate.fit(*measured(truth))
    assert found.busy.token_s == pytest.approx(truth.busy.token_s, rel=1e-3)
    assert found.busy.context_s == pytest.approx(truth.busy.context_s, rel=1e-3)
    assert found.idle.base_s == pytest.approx(truth.idle.base_s, rel=1e-3)
    assert found.idle.token_s == pytest.approx(truth.idle.token_s, rel=1e-3)
    assert found.decode.decode_base_s == pytest.approx(truth.decode.decode_base_s, rel=1e-3)
    assert found.decode.decode_kv_token_s == pytest.approx(truth.decode.decode_kv_token_s, rel=1e-3)
    assert found.frontend_s == pytest.approx(truth.frontend_s)
    assert found.eager_launch_s == pytest.approx(truth.eager_launch_s, rel=1e-2)
    assert found.transfer.token_s == pytest.approx(truth.transfer.token_s, rel=1e-2)


def test_a_moe_model_is_recognised_by_its_decode_steps() -> None:
    truth = profile("qwen3-30b-a3b-h100").times
    fitted = calibrate.fit(*measured(truth), QWEN3_30B_A3B)
    found = fitted.decode
    assert fitted.busy.token_s == pytest.approx(truth.busy.token_s, rel=0.01)
    assert fitted.busy.step_s(1024, 2**19) == pytest.approx(truth.busy.step_s(1024, 2**19), rel=0.01)
    assert found.experts_share == truth.decode.experts_share
    assert found.decode_experts_s == pytest.approx(truth.decode.decode_experts_s, rel=1e-3)
    assert calibrate.fit(*measured(LLAMA_8B_H100_TIMES)).decode.experts_share == 0.0


def test_a_profile_without_enough_rows_is_refused_by_name() -> None:
    content, probe = measured(LLAMA_8B_H100_TIMES)
    with pytest.raises(calibrate.UnusableProfile, match="decode has 1 rows"):
        calibrate.fit(content | {"decode": content["decode"][:1]}, probe)
    with pytest.raises(calibrate.UnusableProfile, match="prefill has 2 rows of"):
        calibrate.fit(content | {"prefill": content["prefill"][-2:], "prefill_sat": []})
    with pytest.raises(calibrate.UnusableProfile, match="prefill has 0 rows"):
        calibrate.fit(content | {"prefill": []})


def test_two_lone_prompts_are_enough_beside_saturated_ones() -> None:
    content, _ = measured(LLAMA_8B_H100_TIMES)
    whole, few = calibrate.fit(content), calibrate.fit(content | {"prefill": content["prefill"][2:4]})
    assert few.idle.step_s(2048, 2**21) == pytest.approx(whole.idle.step_s(2048, 2**21), rel=0.15)


def test_fp8_kv_costs_arithmetic_instead_of_half_the_bandwidth() -> None:
    bf16, fp8 = catalogue_times("nvidia-h200"), catalogue_times("nvidia-h200", kv_dtype="fp8_e4m3")
    assert fp8.decode.decode_kv_token_s == pytest.approx(27.6e-9, rel=0.15)  # the kernel's own time on an H200
    assert fp8.decode.decode_base_s == bf16.decode.decode_base_s
    assert catalogue_times("nvidia-h200", kv_dtype="auto") == bf16


def test_a_profile_row_without_a_figure_is_refused_by_table_row_and_field() -> None:
    content, _ = measured(LLAMA_8B_H100_TIMES)
    rows = [*content["decode"][:2], {"batch": 4}, *content["decode"][2:]]
    with pytest.raises(calibrate.UnusableProfile, match=r"decode\[2\].total_kv_tokens"):
        calibrate.fit(content | {"decode": rows})


def test_without_a_probe_the_transfer_is_the_measured_pairs_by_kv_bytes_and_layers() -> None:
    content, _ = measured(LLAMA_8B_H100_TIMES)
    found = calibrate.fit(content)
    assert found.transfer.token_s == pytest.approx(LLAMA_8B_H100_TIMES.transfer.token_s)
    assert found.eager_launch_s == pytest.approx(LLAMA_8B_H100_TIMES.eager_launch_s)


def test_steps_above_the_largest_graph_give_the_launch_time_and_stay_out_of_the_line() -> None:
    content, probe = measured(LLAMA_8B_H100_TIMES)
    eager = [{"batch": 320, "total_kv_tokens": 320 * 256, "step_s": 0.017}]
    found = calibrate.fit(content | {"decode": content["decode"] + eager}, probe)
    assert found.eager_decode_s == 0.017
    assert found.decode == calibrate.fit(content, probe).decode
    small = {"server_info": {"cuda_graph_config": {"decode": {"max_bs": 64}}}}
    assert calibrate.fit(content | {"server": small}, probe).graph_batch == 64


def test_reading_experts_and_their_arithmetic_neither_hide_nor_add() -> None:
    busy = profile("qwen3-30b-a3b-h100").times.busy
    dense_s = busy.base_s + 2048 * (busy.token_s - busy.expert_token_s)
    experts_s = busy.step_s(2048, 0.0) - dense_s
    arithmetic_s = 2048 * busy.expert_token_s
    assert max(busy.experts_s, arithmetic_s) < experts_s < busy.experts_s + arithmetic_s
    assert busy.step_s(1, 0.0) == pytest.approx(busy.floor_s, rel=1e-2)


def test_a_chip_is_predicted_by_flops_bandwidth_and_unchanged_launches() -> None:
    before = LLAMA_8B_H100_TIMES
    a100 = scaled_to(before, lookup("nvidia-h100"), lookup("nvidia-a100"))
    assert a100.busy.token_s / before.busy.token_s == pytest.approx(989 / 312)
    assert a100.decode.decode_kv_token_s / before.decode.decode_kv_token_s == pytest.approx(3.35 / 2.039)
    assert a100.idle.floor_s == before.idle.floor_s
    h200 = scaled_to(before, lookup("nvidia-h100"), lookup("nvidia-h200"))
    assert h200.busy.token_s == before.busy.token_s
    assert h200.decode.decode_base_s / before.decode.decode_base_s == pytest.approx(0.77, abs=0.01)
    assert catalogue_times("nvidia-h100") == before


@pytest.mark.parametrize("name", list(PROFILES))
def test_every_profile_can_hold_and_serve_its_context(name: str) -> None:
    found = profile(name)
    assert found.shape.kv_capacity_tokens > 100_000
    assert 0.004 < found.times.decode.decode_s(1, 1000) < 0.05  # 4.6 ms were measured on the MoE model
    assert found.times.busy.step_s(8192, 8192 * 4096) < 1.0
    assert found.prior().kv_capacity_tokens == pytest.approx(found.shape.kv_capacity_tokens, rel=0.1)


def test_an_unknown_profile_is_answered_with_the_known_ones() -> None:
    with pytest.raises(LookupError, match="llama-8b-h100"):
        profile("llama")
