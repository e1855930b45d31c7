"""The load generator against a small server that answers, refuses, and cuts streams."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from io import BytesIO

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from e2e.load.generator import LoadGenerator
from e2e.load.phases import Phase
from e2e.load.prompts import PromptMaker
from e2e.load.results import Outcome

Serve = Callable[[str], Awaitable[str]]
PHASE = Phase("p", rate_rps=100, duration_s=0.055, prompt_tokens=10, output_tokens=3, poisson=False)  # 5 requests


def event(**chunk: object) -> bytes:
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


def token(text: str, finish: str | None = None) -> bytes:
    return event(choices=[{"index": 0, "delta": {"content": text}, "finish_reason": finish}])


USAGE = event(choices=[], usage={"prompt_tokens": 17, "completion_tokens": 3})
SHORT = event(choices=[], usage={"prompt_tokens": 17, "completion_tokens": 2})
DONE = b"data: [DONE]\n\n"
STREAMS = {
    "whole": [token("a"), token("b"), token("c", "length"), USAGE, DONE],
    "without usage": [token("a"), token("b"), token("c", "length"), DONE],
    "no finish": [token("a"), token("b")],
    "no done": [token("a"), token("b"), token("c", "length"), USAGE],
    "too few tokens": [token("a"), token("b", "length"), SHORT, DONE],
    "stopped": [token("a"), token("b", "stop"), DONE],
    "error first": [event(error={"message": "no decode worker"})],
    "error later": [token("a"), event(error={"message": "aborted"}), DONE],
    "empty": [],
}


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    servers: list[TestServer] = []

    async def start(kind: str) -> str:
        async def answer(request: web.Request) -> web.StreamResponse:
            body = await request.json()
            assert body["stream"] is True
            assert body["ignore_eos"] is True
            if kind == "refused":
                return web.json_response({"error": "queue full"}, status=503, headers={"Retry-After": "1"})
            response = web.StreamResponse()
            await response.prepare(request)
            for part in STREAMS.get(kind, STREAMS["whole"][:1]):
                await response.write(part)
            if kind == "cut":
                assert request.transport is not None
                request.transport.abort()
            if kind == "hangs":
                await asyncio.sleep(30)
            return response

        app = web.Application()
        app.router.add_post("/v1/chat/completions", answer)
        server = TestServer(app)
        await server.start_server()
        servers.append(server)
        return str(server.make_url("/"))

    yield start
    await asyncio.gather(*(server.close() for server in servers))


def generator(url: str, **options: object) -> LoadGenerator:
    return LoadGenerator(url, "tiny", PromptMaker(lambda text: [0] * len(text.split()), 0), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "outcome", "words"),
    [
        ("whole", Outcome.OK, ""),
        ("without usage", Outcome.OK, ""),
        ("no finish", Outcome.TRUNCATED, "before finish_reason"),
        ("no done", Outcome.TRUNCATED, "[DONE]"),
        ("too few tokens", Outcome.TRUNCATED, "fewer tokens"),
        ("stopped", Outcome.TRUNCATED, "instead of length"),
        ("cut", Outcome.TRUNCATED, "Client"),
        ("hangs", Outcome.TRUNCATED, "not finished within"),
        ("error first", Outcome.FAILED, "no decode worker"),
        ("error later", Outcome.TRUNCATED, "aborted"),
        ("empty", Outcome.FAILED, "before finish_reason"),
        ("refused", Outcome.FAILED, "HTTP 503"),
    ],
)
async def test_every_way_a_stream_can_end_is_told_apart(serve: Serve, kind: str, outcome: Outcome, words: str) -> None:
    async with generator(await serve(kind), timeout_s=0.3) as load:
        await load.run_phase(PHASE)
        assert await load.finish(5) == 0
    assert {result.outcome for result in load.results} == {outcome}
    assert len(load.results) == len(load.sent_at) == 5
    assert all(words in result.error for result in load.results)


async def test_a_server_that_is_not_there_is_a_failed_request() -> None:
    async with generator("http://127.0.0.1:9") as load:
        await load.run_phase(PHASE)
        await load.finish(5)
    assert {result.outcome for result in load.results} == {Outcome.FAILED}
    assert load.results[0].status is None


async def test_a_due_request_waits_for_a_slot_and_the_wait_counts(serve: Serve) -> None:
    async with generator(await serve("hangs"), timeout_s=0.2, max_in_flight=1) as load:
        await load.run_phase(PHASE)
        assert load.in_flight == 5
        await load.finish(5)
    last = max(load.results, key=lambda result: result.number)
    assert last.sent_at - last.scheduled_at > 0.5  # four before it, 0.2 s each


async def test_results_are_written_as_json_lines(serve: Serve) -> None:
    file = BytesIO()
    async with generator(await serve("whole"), results_file=file) as load:
        await load.run_phase(PHASE)
        await load.finish(5)
    lines = [json.loads(line) for line in file.getvalue().splitlines()]
    assert sorted(line["number"] for line in lines) == [0, 1, 2, 3, 4]
    assert all(line["outcome"] == "ok" and line["output_tokens"] == 3 and line["ttft_s"] > 0 for line in lines)


async def test_stop_ends_a_phase_early_and_numbers_go_on_in_the_next(serve: Serve) -> None:
    stop = asyncio.Event()
    async with generator(await serve("whole")) as load:
        await load.run_phase(PHASE)
        asyncio.get_running_loop().call_later(0.05, stop.set)
        await load.run_phase(Phase("long", 50, 3600, 10, 3), stop)
        await load.finish(5)
    assert {result.phase for result in load.results} == {"p", "long"}
    assert sorted(result.number for result in load.results) == list(range(len(load.sent_at)))


async def test_open_requests_are_dropped_when_the_generator_is_left(serve: Serve) -> None:
    async with generator(await serve("hangs")) as load:
        await load.run_phase(PHASE)
        assert await load.finish(0.05) == 5
    assert load.results == []
    assert load.in_flight == 0


async def test_a_probe_teaches_the_template_s_length_and_is_not_counted(serve: Serve) -> None:
    async with generator(await serve("whole")) as load:
        probed = await load.probe(10, 3)
    assert probed.outcome is Outcome.OK
    assert probed.prompt_tokens == 17
    assert load.sent_at == []
