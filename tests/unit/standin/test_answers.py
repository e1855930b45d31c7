"""What clients and gateways get from the stand-in."""

import asyncio
from typing import Any

import pytest

from .conftest import StartEngine

CHAT = {"messages": [{"role": "user", "content": "x" * 400}]}


def _words(choice: dict[str, Any]) -> str:
    return str(choice["delta"].get("content", "") if "delta" in choice else choice["text"])


@pytest.mark.parametrize(("path", "body"), [("/v1/chat/completions", CHAT), ("/v1/completions", {"prompt": "x" * 400})])
@pytest.mark.parametrize("tokens", [1, 2, 57])
async def test_a_stream_has_an_event_for_each_token_then_the_end_then_the_usage(
    start_engine: StartEngine, path: str, body: dict[str, Any], tokens: int
) -> None:
    engine = await start_engine()
    asked = body | {"max_tokens": tokens, "stream_options": {"include_usage": True}}
    *words, last, usage = await engine.events(path, asked)
    assert len(words) == tokens
    assert all(_words(event["choices"][0]) for event in words)
    assert {event["choices"][0]["finish_reason"] for event in words} == {None}
    assert last["choices"][0]["finish_reason"] == "length"
    assert usage["choices"] == []
    assert usage["usage"] == {"prompt_tokens": 100, "completion_tokens": tokens, "total_tokens": 100 + tokens}
    assert len({event["id"] for event in (*words, last, usage)}) == 1


async def test_a_stream_without_usage_ends_after_its_finish_reason(start_engine: StartEngine) -> None:
    engine = await start_engine()
    events = await engine.events("/v1/chat/completions", CHAT | {"max_completion_tokens": 3})
    assert len(events) == 4
    assert not any("usage" in event for event in events)


async def test_a_whole_answer_has_the_text_of_the_stream(start_engine: StartEngine) -> None:
    engine = await start_engine()
    events = await engine.events("/v1/chat/completions", CHAT | {"max_tokens": 9})
    whole = await engine.post("/v1/chat/completions", CHAT | {"max_tokens": 9})
    text = whole["choices"][0]["message"]["content"]
    assert text == "".join(_words(event["choices"][0]) for event in events)
    assert len(text.split()) == 9
    assert (whole["model"], whole["usage"]["completion_tokens"]) == ("tiny", 9)


async def test_sglangs_own_generate(start_engine: StartEngine) -> None:
    engine = await start_engine()
    answer = await engine.post("/generate", {"text": "x" * 40, "sampling_params": {"max_new_tokens": 5}})
    assert len(answer["text"].split()) == 5
    assert answer["meta_info"]["prompt_tokens"] == 10


async def test_a_prefill_engine_ends_after_the_first_token(start_engine: StartEngine) -> None:
    engine = await start_engine(role="prefill")
    whole = await engine.post("/v1/chat/completions", CHAT | {"max_tokens": 20})
    assert whole["usage"]["completion_tokens"] == 1
    assert (await engine.row())["total_prefill_uncached_tokens"] == 100


async def test_a_decode_engine_prefills_nothing(start_engine: StartEngine) -> None:
    engine = await start_engine(role="decode")
    whole = await engine.post("/v1/chat/completions", CHAT | {"max_tokens": 20})
    assert whole["usage"]["completion_tokens"] == 20
    row = await engine.row()
    assert (row["total_prefill_uncached_tokens"], row["total_prefill_busy_us"]) == (0, 0)
    assert row["decode_moments"][0] == 19  # the first token came with the prefill


async def test_many_streams_at_once_are_all_whole(start_engine: StartEngine) -> None:
    engine = await start_engine(max_running_requests=4)
    asked = [engine.events("/v1/completions", {"prompt": "x", "max_tokens": 1 + i % 7}) for i in range(30)]
    assert [len(events) - 1 for events in await asyncio.gather(*asked)] == [1 + i % 7 for i in range(30)]


@pytest.mark.parametrize("role", ["prefill", "decode", "worker"])
async def test_a_gateway_learns_the_role_and_the_limits(start_engine: StartEngine, role: str) -> None:
    engine = await start_engine(role=role, max_total_tokens=5000, bootstrap_port=9001)
    info = await engine.json("/server_info")
    assert info["disaggregation_mode"] == {"worker": "null"}.get(role, role)
    assert (info["max_total_num_tokens"], info["disaggregation_bootstrap_port"]) == (5000, 9001)
    assert (await engine.json("/v1/models"))["data"][0]["id"] == "tiny"
    assert (await engine.json("/model_info"))["served_model_name"] == "tiny"
