"""From start to end: readiness, drain, SIGTERM, and the knobs that make it fail."""

import asyncio
import json
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from headrace_standin.cli import main

from .conftest import FAST, StartEngine


async def test_a_starting_engine_is_neither_alive_nor_ready(start_engine: StartEngine) -> None:
    engine = await start_engine(wait=False, extra={"standin-start-seconds": 3600})
    assert await engine.status("/health") == await engine.status("/ready") == 503
    assert (await engine.json("/headrace/state"))["ready"] is False


async def test_a_drained_engine_is_alive_but_not_ready_and_serves_what_comes(start_engine: StartEngine) -> None:
    engine = await start_engine()
    assert await engine.post("/headrace/drain", {"on": True}) == {"draining": True, "idle": True}
    assert (await engine.status("/ready"), await engine.status("/health")) == (503, 200)
    state = await engine.json("/headrace/state")
    assert (state["draining"], state["ready"]) == (True, False)
    assert len(await engine.events("/v1/completions", {"prompt": "x", "max_tokens": 3})) == 4
    assert await engine.post("/headrace/drain", {"on": False}) == {"draining": False, "idle": True}
    assert await engine.status("/ready") == 200


async def test_a_draining_engine_is_idle_only_when_its_last_stream_has_ended(start_engine: StartEngine) -> None:
    engine = await start_engine(extra={"standin-step-seconds": 3600})
    stream = asyncio.create_task(engine.events("/v1/completions", {"prompt": "x", "max_tokens": 3}))

    async def busy() -> bool:
        return (await engine.json("/headrace/drain"))["idle"] is False

    await engine.until(busy)
    assert await engine.post("/headrace/drain", {"on": True}) == {"draining": True, "idle": False}
    stream.cancel()

    async def idle() -> bool:
        return bool((await engine.json("/headrace/drain"))["idle"])

    await engine.until(idle)


def _engine_json(folder: Path, **changes: Any) -> Path:
    file = folder / "engine.json"
    plain = {"modelPath": "/m", "servedModelName": "m", "role": "worker", "host": "127.0.0.1"}
    file.write_text(json.dumps(plain | changes))
    return file


def test_the_crash_knob_ends_it_with_its_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = _engine_json(tmp_path, extraArgs={"standin-crash": "CUDA out of memory"})
    assert main(["serve", "--config", str(file)]) == 1
    assert capsys.readouterr().err == "headrace-standin: error: CUDA out of memory\n"


def test_a_bad_configuration_ends_it_as_the_real_engine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--config", str(_engine_json(tmp_path, role="both"))]) == 78
    assert capsys.readouterr().err.startswith("headrace-standin: error: role: ")


class Process:
    """A stand-in in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self.process = process
        self.url = f"http://127.0.0.1:{port}"

    async def until_ready(self, session: aiohttp.ClientSession) -> None:
        while True:
            try:
                async with session.get(f"{self.url}/ready") as response:
                    if response.status == 200:
                        return
            except aiohttp.ClientConnectionError:
                assert self.process.returncode is None
            await asyncio.sleep(0.05)


@pytest.fixture
async def start_process(tmp_path: Path) -> AsyncIterator[Callable[..., Any]]:
    started: list[Process] = []

    async def start(**changes: Any) -> Process:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        file = _engine_json(tmp_path, port=port, **changes)
        code = "import sys; from headrace_standin.cli import main; sys.exit(main(sys.argv[1:]))"
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, "serve", "--config", str(file))
        started.append(Process(process, port))
        return started[-1]

    yield start
    for one in started:
        if one.process.returncode is None:
            one.process.kill()
        await one.process.wait()


async def test_sigterm_lets_a_stream_end_whole_and_then_ends_well(start_process: Callable[..., Any]) -> None:
    engine = await start_process(extraArgs=FAST | {"standin-step-seconds": 0.05})
    async with aiohttp.ClientSession() as session:
        await engine.until_ready(session)
        body = {"prompt": "x", "max_tokens": 40, "stream": True}
        async with session.post(f"{engine.url}/v1/completions", json=body) as response:
            first = await response.content.readuntil(b"\n\n")
            engine.process.send_signal(signal.SIGTERM)
            rest = await response.content.read()
        events = (first + rest).split(b"\n\n")
        assert events[-2:] == [b"data: [DONE]", b""]
        assert len(events) == 40 + 3  # the tokens, the finish reason, the end, and nothing after it
    assert await engine.process.wait() == 0


async def test_sigterm_waits_no_longer_than_it_was_told(start_process: Callable[..., Any]) -> None:
    engine = await start_process(terminationDrainSeconds=0.5, extraArgs=FAST | {"standin-step-seconds": 3600})
    async with aiohttp.ClientSession() as session:
        await engine.until_ready(session)
        body = {"prompt": "x", "max_tokens": 40, "stream": True}
        async with session.post(f"{engine.url}/v1/completions", json=body) as response:
            await response.content.readuntil(b"\n\n")
            asked_at = time.monotonic()  # noqa: TID251
            engine.process.send_signal(signal.SIGTERM)
            with pytest.raises(aiohttp.ClientPayloadError):
                await response.content.read()
    assert await engine.process.wait() == 0
    assert time.monotonic() - asked_at < 30  # the HTTP server's own patience is a minute  # noqa: TID251


async def test_a_request_whose_client_has_gone_leaves_the_queue(start_process: Callable[..., Any]) -> None:
    engine = await start_process(extraArgs=FAST | {"standin-step-seconds": 3600})
    async with aiohttp.ClientSession() as session:
        await engine.until_ready(session)
        with pytest.raises(TimeoutError):
            await session.post(
                f"{engine.url}/v1/completions", json={"prompt": "x"}, timeout=aiohttp.ClientTimeout(total=0.5)
            )
        idle = False
        while not idle:
            async with session.get(f"{engine.url}/headrace/drain") as response:
                idle = (await response.json())["idle"]
