"""A stand-in engine behind a real socket, fast unless a test slows it."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from headrace_engine_config import EngineConfig
from headrace_standin.app import StandIn, application
from headrace_standin.cli import SHUTDOWN_S

FAST = {"standin-start-seconds": 0, "standin-step-seconds": 0.001, "standin-prefill-tokens-per-s": 1e6}


class Engine:
    """A client of one stand-in."""

    def __init__(self, standin: StandIn, client: "TestClient[Any, Any]") -> None:
        self.standin = standin
        self.client = client

    async def json(self, path: str) -> Any:
        async with self.client.get(path) as response:
            assert response.status == 200, path
            return await response.json()

    async def status(self, path: str) -> int:
        async with self.client.get(path) as response:
            return response.status

    async def post(self, path: str, body: dict[str, Any]) -> Any:
        async with self.client.post(path, json=body) as response:
            assert response.status == 200, path
            return await response.json() if response.content_type == "application/json" else await response.text()

    async def row(self) -> dict[str, Any]:
        """The one rank of /v1/loads."""
        (row,) = (await self.json("/v1/loads"))["loads"]
        return dict(row)

    async def events(self, path: str, body: dict[str, Any]) -> list[Any]:
        """A stream's events, without the mark at its end, which must be there."""
        text = await self.post(path, body | {"stream": True})
        *events, end = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
        assert end == "[DONE]"
        return [json.loads(event) for event in events]

    async def until(self, what: Callable[[], Awaitable[bool]]) -> None:
        """Wait for something that will be so; the test's own time limit says when it will not."""
        while not await what():  # noqa: ASYNC110 - it is asked for over HTTP
            await asyncio.sleep(0.01)

    async def until_ready(self) -> None:
        async def ready() -> bool:
            return await self.status("/ready") == 200

        await self.until(ready)


StartEngine = Callable[..., Awaitable[Engine]]


@pytest.fixture
async def start_engine() -> AsyncIterator[StartEngine]:
    clients: list[TestClient[Any, Any]] = []

    async def start(*, wait: bool = True, extra: dict[str, Any] | None = None, **changes: Any) -> Engine:
        plain = {"model_path": "/models/tiny", "served_model_name": "tiny", "role": "worker", "device": "cpu"}
        config = EngineConfig(**{**plain, "extra_args": FAST | (extra or {}), **changes})
        standin = StandIn(config)
        server = TestServer(application(standin))
        await server.start_server(shutdown_timeout=SHUTDOWN_S)  # and with handler_cancellation, as the command
        client = TestClient(server)
        await client.start_server()
        clients.append(client)
        engine = Engine(standin, client)
        if wait:
            await engine.until_ready()
        return engine

    yield start
    for client in clients:
        await client.close()
