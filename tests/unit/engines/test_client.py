"""Reading engines over real sockets: slow, broken and missing ones come back as missing, with the reason."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from headrace.autoscaler.signals import EngineLoad
from headrace.clock import SystemClock
from headrace.engines.client import EngineClient, Reading
from headrace.engines.sources import Sample, newest
from headrace.prom.client import Scraped

ROW = {
    "num_running_reqs": 1, "num_waiting_reqs": 0, "num_used_tokens": 5, "max_total_num_tokens": 100,
    "max_running_requests": 8,
}  # fmt: skip
LOAD = EngineLoad(1, 0, 5, 100, 8, engine_version="0.5.23")


class Engine:
    """Answers what the test has put in by path."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {"/v1/loads": {"version": "0.5.23", "loads": [ROW]}}
        self.address = ""

    async def serve(self, request: web.Request) -> web.StreamResponse:
        answer = self.answers.get(request.path)
        if answer is None:
            raise web.HTTPNotFound
        if answer == "hang":
            await asyncio.sleep(30)
        if isinstance(answer, str):
            return web.Response(text=answer)
        return web.json_response(answer)


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    fake = Engine()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", fake.serve)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    fake.address = f"127.0.0.1:{runner.addresses[0][1]}"
    yield fake
    await runner.cleanup()


@pytest.fixture
async def client() -> AsyncIterator[EngineClient]:
    made = EngineClient(SystemClock(), timeout_s=0.3)
    yield made
    await made.close()


async def test_a_stock_engine_gives_its_load_without_state(client: EngineClient, engine: Engine) -> None:
    reading = await client.engine(engine.address)
    assert (reading.load, reading.state) == (LOAD, None)
    assert "404" in reading.error


@pytest.mark.parametrize(
    ("answer", "reason"),
    [("hang", "no answer within"), ("not json", "not JSON"), ({"loads": []}, "no rank"), (None, "HTTP 404")],
)
async def test_what_cannot_be_read_is_missing_with_its_reason(
    client: EngineClient, engine: Engine, answer: Any, reason: str
) -> None:
    engine.answers["/v1/loads"] = answer
    reading = await client.engine(engine.address)
    assert reading.load is None
    assert reason in reading.error


async def test_a_refused_connection_is_missing(client: EngineClient) -> None:
    reading = await client.engine("127.0.0.1:1")
    assert reading.load is None
    assert reading.error


async def test_one_hanging_engine_does_not_hold_up_the_others(client: EngineClient, engine: Engine) -> None:
    readings = await client.engines({"good": engine.address, "gone": "127.0.0.1:1"})
    assert readings["good"].load == LOAD
    assert readings["gone"].load is None


async def test_a_silent_network_does_not_hold_up_the_tick(engine: Engine) -> None:
    client = EngineClient(SystemClock(), timeout_s=30.0, budget_s=0.3)
    engine.answers["/headrace/state"] = "hang"
    readings = await client.engines({"silent": engine.address})
    assert readings["silent"].load is None
    assert "not reached within 0.3 s" in readings["silent"].error
    await client.close()


async def test_a_gateway_that_cannot_be_asked_is_not_one_without_workers(client: EngineClient, engine: Engine) -> None:
    engine.answers["/workers"] = {"workers": [{"url": "http://10.0.0.1:30000"}], "total": 1}
    assert await client.workers(engine.address) == frozenset({"10.0.0.1"})
    engine.answers["/workers"] = "hang"
    assert await client.workers(engine.address) is None


async def test_gateways_are_summed_only_when_all_answer(client: EngineClient, engine: Engine) -> None:
    engine.answers["/metrics"] = 'smg_admission_queue_depth{a="b"} 3\nsmg_admission_inflight 4\n'
    both = await client.gateway({"a": engine.address, "b": engine.address})
    assert both is not None
    assert (both.queued_requests, both.inflight_requests) == (6, 8)
    assert await client.gateway({"a": engine.address, "b": "127.0.0.1:1"}) is None
    assert await client.gateway({}) is None
    engine.answers["/metrics"] = "smg_admission_inflight 0\n"
    fresh = await client.gateway({"a": engine.address})
    assert fresh is not None
    assert fresh.queued_requests == 0, "nothing was ever queued"
    engine.answers["/metrics"] = "other 0\n"
    assert await client.gateway({"a": engine.address}) is None


def test_the_direct_reading_wins_then_the_newer_of_prometheus_and_memory() -> None:
    failed, scraped, last = Reading(10.0, error="x"), Scraped(7.0, LOAD), Sample(8.0, LOAD, None, "loads")
    assert newest(Reading(10.0, LOAD), scraped, last) == Sample(10.0, LOAD, None, "loads")
    assert newest(failed, scraped, last) == last
    assert newest(failed, Scraped(9.0, LOAD), last) == Sample(9.0, LOAD, None, "prometheus")
    assert newest(failed, None, None) is None
