"""What the operator reads from the stand-in: the same terms as from the real engine, and they react to load."""

import asyncio
from typing import Any

import pytest

from headrace.engines.parse import parse_exposition, parse_loads, parse_state

from .conftest import Engine, StartEngine

# A decode step of an hour: what runs stays running while a test looks.
FROZEN = {"standin-step-seconds": 3600}
PROMPT = "x" * 4000  # 1,000 tokens


def _send(engine: Engine, count: int, prompt: str = PROMPT) -> list["asyncio.Task[Any]"]:
    body = {"prompt": prompt, "max_tokens": 8}
    return [asyncio.create_task(engine.post("/v1/completions", body)) for _ in range(count)]


async def _until_load(engine: Engine, running: int, waiting: int) -> dict[str, Any]:
    async def there() -> bool:
        row = await engine.row()
        return (row["num_running_reqs"], row["num_waiting_reqs"]) == (running, waiting)

    await engine.until(there)
    return await engine.row()


async def _stop(requests: list["asyncio.Task[Any]"]) -> None:
    for request in requests:
        request.cancel()
    await asyncio.gather(*requests, return_exceptions=True)


async def test_an_idle_engine_reports_zeros_that_the_operator_can_read(start_engine: StartEngine) -> None:
    engine = await start_engine(max_total_tokens=5000, max_running_requests=7)
    load = parse_loads(await engine.json("/v1/loads"))
    assert (load.running_requests, load.waiting_requests, load.used_tokens) == (0, 0, 0)
    assert (load.max_total_tokens, load.max_running_requests) == (5000, 7)
    assert load.waiting_uncached_tokens == load.prefill_uncached_tokens_total == 0
    assert load.decode_moments == (0.0,) * 6
    assert (load.engine_version, load.read_as) == ("0.5.23", "")


@pytest.mark.parametrize("by_count", [True, False])
async def test_requests_beyond_the_running_limit_or_the_kv_cache_wait(
    start_engine: StartEngine, by_count: bool
) -> None:
    limit = {"max_running_requests": 1} if by_count else {"max_total_tokens": 1500}
    engine = await start_engine(extra=FROZEN, **limit)
    requests = _send(engine, 3)
    row = await _until_load(engine, 1, 2)
    assert row["num_used_tokens"] == 1001  # a prompt and its first token
    assert row["num_waiting_uncached_tokens"] == 2000
    assert row["token_usage"] == round(1001 / row["max_total_num_tokens"], 4)
    state = parse_state(await engine.json("/headrace/state"))
    assert state.queued_tokens == 2000
    assert [(stream.prompt_tokens, stream.age_tokens) for stream in state.running] == [(1000, 1)]
    assert parse_loads(await engine.json("/v1/loads")).lag_s < 30.0, "its figures are of the moment that it answers"
    await _stop(requests)


async def test_a_waiting_decode_engine_reports_its_preallocation_queue(start_engine: StartEngine) -> None:
    engine = await start_engine(role="decode", max_running_requests=1, extra=FROZEN)
    requests = _send(engine, 3)
    await _until_load(engine, 1, 2)
    assert parse_loads(await engine.json("/v1/loads")).decode_prealloc_requests == 2
    await _stop(requests)


async def test_clients_that_leave_free_the_queue_and_the_kv_cache(start_engine: StartEngine) -> None:
    engine = await start_engine(max_running_requests=1, extra=FROZEN)
    requests = _send(engine, 3)
    await _until_load(engine, 1, 2)
    await _stop(requests)
    row = await _until_load(engine, 0, 0)
    assert (row["num_used_tokens"], row["num_waiting_uncached_tokens"]) == (0, 0)
    state = parse_state(await engine.json("/headrace/state"))
    assert (state.queued_tokens, state.running, state.finished_total, state.arrivals_total) == (0, (), 0, 3)


async def test_finished_requests_are_in_the_totals_the_lengths_and_the_moments(start_engine: StartEngine) -> None:
    engine = await start_engine()
    for _ in range(3):
        await engine.post("/v1/completions", {"prompt": PROMPT, "max_tokens": 8})
    load = parse_loads(await engine.json("/v1/loads"))
    assert (load.running_requests, load.used_tokens, load.prefill_uncached_tokens_total) == (0, 0, 3000)
    assert load.prefill_busy_s_total == pytest.approx(3000 / 1e6)
    assert load.decode_moments is not None
    steps, batch_sum, micros_sum, *_ = load.decode_moments
    assert (steps, batch_sum) == (21, 21)  # seven steps each, one request in each
    assert micros_sum == pytest.approx(21 * 1000)
    state = parse_state(await engine.json("/headrace/state"))
    assert [(f.length_class, f.prompt_tokens, f.output_tokens) for f in state.finished] == [(3, 1000, 8)] * 3
    assert sum(row.count for row in state.arrivals) == 3
    for request in state.finished:
        assert request.ttft_s is not None
        assert request.tpot_s is not None
        assert request.ttft_s >= 0.001  # 1,000 tokens at the stand-in's rate
        assert request.tpot_s >= 0.001  # a step


async def test_an_answer_of_one_token_has_no_time_per_token(start_engine: StartEngine) -> None:
    engine = await start_engine()
    await engine.post("/v1/completions", {"prompt": PROMPT, "max_tokens": 1})
    (request,) = parse_state(await engine.json("/headrace/state")).finished
    assert (request.ttft_s is None, request.tpot_s) == (False, None)


async def test_metrics_carry_sglangs_names_and_the_role(start_engine: StartEngine) -> None:
    engine = await start_engine(role="decode", max_running_requests=1, extra=FROZEN)
    requests = _send(engine, 3)
    await _until_load(engine, 1, 2)
    async with engine.client.get("/metrics") as response:
        text = await response.text()
    wanted = {
        "sglang:num_running_reqs": 1.0,
        "sglang:num_queue_reqs": 2.0,
        "sglang:num_used_tokens": 1001.0,
        "sglang:num_requests_total": 3.0,
        "sglang:prompt_tokens_total": 3000.0,
    }
    assert parse_exposition(text, wanted) == wanted
    assert 'engine_type="decode",model_name="tiny"' in text
    await _stop(requests)


async def test_slowing_it_down_lengthens_its_steps_until_it_is_taken_off(start_engine: StartEngine) -> None:
    engine = await start_engine(slow_down_seconds=0.01)
    await engine.post("/v1/completions", {"prompt": "x", "max_tokens": 2})
    moments = (await engine.row())["decode_moments"]
    assert moments[2] == pytest.approx(11_000)  # one step of 1 ms, slowed by 10 ms
    await engine.post("/slow_down", {"forward_sleep_time": None})
    await engine.post("/v1/completions", {"prompt": "x", "max_tokens": 2})
    assert (await engine.row())["decode_moments"][2] == pytest.approx(12_000)


async def test_a_long_prompt_is_prefilled_in_chunks_between_decode_steps(start_engine: StartEngine) -> None:
    engine = await start_engine(chunked_prefill_size=100)
    running = asyncio.create_task(engine.post("/v1/completions", {"prompt": "x", "max_tokens": 200}))
    await _until_load(engine, 1, 0)
    long = await engine.post("/v1/completions", {"prompt": PROMPT, "max_tokens": 1})
    assert long["usage"]["prompt_tokens"] == 1000
    assert not running.done()
    assert (await engine.row())["decode_moments"][0] >= 9  # a step after each of the ten chunks but the last
    assert (await running)["usage"]["completion_tokens"] == 200


async def test_headraces_own_metrics_say_what_the_state_says(start_engine: StartEngine) -> None:
    engine = await start_engine()
    await engine.post("/v1/completions", {"prompt": PROMPT, "max_tokens": 3})
    state = await engine.json("/headrace/state")
    async with engine.client.get("/metrics") as response:
        text = await response.text()
    names = {f"headrace_engine_{name}_total": float(total) for name, total in state["totals"].items()}
    assert parse_exposition(text, names) == names
    assert names["headrace_engine_output_tokens_total"] == 3.0
