"""The open-loop load generator: requests leave when they are due, whatever became of those before them."""

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import IO

import aiohttp
import orjson

from e2e.load.client import Request, send
from e2e.load.clock import wall_clock
from e2e.load.phases import Phase, arrivals
from e2e.load.prompts import PromptMaker
from e2e.load.results import Result


class LoadGenerator:
    """Offers phases of load to one OpenAI-compatible address and keeps every result.

    At most `max_in_flight` requests are open; one that is due beyond that waits for a slot, and its latency counts from
    when it was due. No request is ever repeated: what the server refuses is counted as failed.
    """

    def __init__(
        self,
        url: str,
        model: str,
        prompts: PromptMaker,
        *,
        seed: int = 0,
        max_in_flight: int = 256,
        timeout_s: float = 300,
        results_file: IO[bytes] | None = None,
        clock: Callable[[], float] = wall_clock,
    ) -> None:
        self.url = url.rstrip("/")
        self.model = model
        self.results: list[Result] = []
        self.sent_at: list[float] = []  # when each request was due, also of those still open
        self._prompts = prompts
        self._seed = seed
        self._slots = asyncio.Semaphore(max_in_flight)
        self._timeout_s = timeout_s
        self._file = results_file
        self._clock = clock
        self._open: set[asyncio.Task[None]] = set()
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> "LoadGenerator":
        # No limit in the connector: ours is the semaphore, and a hidden second queue would falsify the latencies.
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=None, sock_connect=10)
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in tuple(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    @property
    def in_flight(self) -> int:
        """Requests that are due and not answered yet."""
        return len(self._open)

    async def run_phase(self, phase: Phase, stop: asyncio.Event | None = None) -> None:
        """Offer a phase until its duration has passed or `stop` is set; open requests go on."""
        started_at = self._clock()
        for arrival in arrivals(phase, self._seed, first=len(self.sent_at)):
            if await self._stopped(stop, started_at + arrival.after_s - self._clock()):
                return
            self._start(phase, arrival.number, started_at + arrival.after_s)
        await self._stopped(stop, started_at + phase.duration_s - self._clock())

    async def finish(self, timeout_s: float) -> int:
        """Wait for the open requests; the number of those that were still open at the end."""
        if self._open:
            await asyncio.wait(self._open, timeout=timeout_s)
        return len(self._open)

    async def probe(self, prompt_tokens: int, output_tokens: int) -> Result:
        """One request outside of any phase and not counted; it also teaches the chat template's length."""
        prompt = self._prompts.make(-1, prompt_tokens)
        now = self._clock()
        request = Request(-1, "probe", now, self.model, prompt, output_tokens)
        result = await send(self._live_session(), self.url, request, self._timeout_s, self._clock)
        if result.prompt_tokens is not None:
            self._prompts.set_overhead(prompt_tokens, result.prompt_tokens)
        return result

    async def _stopped(self, stop: asyncio.Event | None, wait_s: float) -> bool:
        """Sleep, but not past `stop`; whether it is set."""
        if stop is None:
            await asyncio.sleep(max(0.0, wait_s))
            return False
        if wait_s > 0:
            try:
                await asyncio.wait_for(stop.wait(), wait_s)
            except TimeoutError:
                return False
        return stop.is_set()

    def _start(self, phase: Phase, number: int, scheduled_at: float) -> None:
        prompt = self._prompts.make(number, phase.prompt_tokens, phase.shared_prefix_share)
        request = Request(number, phase.name, scheduled_at, self.model, prompt, phase.output_tokens)
        self.sent_at.append(scheduled_at)
        task = asyncio.create_task(self._one(request))
        self._open.add(task)
        task.add_done_callback(self._open.discard)

    async def _one(self, request: Request) -> None:
        async with self._slots:
            result = await send(self._live_session(), self.url, request, self._timeout_s, self._clock)
        self.results.append(result)
        if self._file is not None:
            self._file.write(orjson.dumps(result.as_json()) + b"\n")

    def _live_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise RuntimeError("use the load generator with `async with`")
        return self._session
