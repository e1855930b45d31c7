"""Continuous batching without a model: a queue, a prefill rate, a step time, a bound on running requests and KV."""

import asyncio
import itertools
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from headrace_engine_config import EngineConfig


@dataclass(frozen=True)
class Knobs:
    """How fast this engine is. Read from extraArgs, so that one schema serves both engines."""

    prefill_tokens_per_s: float = 4000.0
    step_s: float = 0.02
    start_s: float = 0.5
    kv_tokens: int = 8192
    max_running: int = 64
    chunk_tokens: int = 2048

    @classmethod
    def of(cls, config: EngineConfig) -> "Knobs":
        """From the engine's configuration."""
        extra = config.extra_args
        return cls(
            prefill_tokens_per_s=float(str(extra.get("standin-prefill-tokens-per-s", cls.prefill_tokens_per_s))),
            step_s=float(str(extra.get("standin-step-seconds", cls.step_s))),
            start_s=float(str(extra.get("standin-start-seconds", cls.start_s))),
            kv_tokens=config.max_total_tokens or cls.kv_tokens,
            max_running=config.max_running_requests or cls.max_running,
            chunk_tokens=config.chunked_prefill_size or cls.chunk_tokens,
        )


@dataclass(slots=True, eq=False)
class Job:
    """One request in the engine."""

    rid: str
    prompt_tokens: int
    output_tokens: int
    prefilled: int = 0
    generated: int = 0
    tokens: "asyncio.Queue[bool]" = field(default_factory=asyncio.Queue)  # True for each token, False at the end


@dataclass(slots=True)
class Counters:
    """Running sums since the start, as SGLang keeps them."""

    prefill_tokens: int = 0
    prefill_busy_us: int = 0
    generated_tokens: int = 0
    prompt_tokens: int = 0
    requests: int = 0
    # n, sum b, sum t, sum b*b, sum b*t, sum of requests stepped; t in microseconds
    moments: list[float] = field(default_factory=lambda: [0.0] * 6)


class Batcher:
    """Steps like SGLang's scheduler: prefill first, then one decode step for all running requests."""

    def __init__(self, knobs: Knobs, role: str, on_progress: Callable[[Job], None]) -> None:
        self.knobs = knobs
        self.role = role
        self.slow_s = 0.0
        self.waiting: deque[Job] = deque()
        self.running: list[Job] = []
        self.counters = Counters()
        self._on_progress = on_progress
        self._wake = asyncio.Event()
        self._ids = itertools.count()

    @property
    def used_tokens(self) -> int:
        """KV tokens held by running requests."""
        return sum(job.prompt_tokens + job.generated for job in self.running)

    def submit(self, job: Job) -> None:
        """Queue a request."""
        self.waiting.append(job)
        self.counters.requests += 1
        self.counters.prompt_tokens += job.prompt_tokens
        self._wake.set()

    def cancel(self, job: Job) -> None:
        """The client went away."""
        if job in self.waiting:
            self.waiting.remove(job)
        if job in self.running:
            self.running.remove(job)

    async def run(self) -> None:
        """Serve for ever."""
        while True:
            if not self.waiting and not self.running:
                self._wake.clear()
                await self._wake.wait()
            if self._fits():
                await self._prefill()
            if self.running:
                await self._decode()
            elif not self._fits():
                await asyncio.sleep(self.knobs.step_s)

    def _fits(self) -> bool:
        if not self.waiting or len(self.running) >= self.knobs.max_running:
            return False
        free = self.knobs.kv_tokens - self.used_tokens
        return self.waiting[0].prompt_tokens <= free or not self.running

    async def _prefill(self) -> None:
        job = self.waiting[0]
        if self.role != "decode":  # a decode engine gets the KV cache from elsewhere
            chunk = min(self.knobs.chunk_tokens, job.prompt_tokens - job.prefilled)
            busy_s = chunk / self.knobs.prefill_tokens_per_s + self.slow_s
            await asyncio.sleep(busy_s)
            job.prefilled += chunk
            self.counters.prefill_tokens += chunk
            self.counters.prefill_busy_us += int(busy_s * 1e6)
            if job.prefilled < job.prompt_tokens:
                return
        if self.waiting and self.waiting[0] is job:
            self.waiting.popleft()
            self.running.append(job)
            self._emit(job)

    async def _decode(self) -> None:
        step_s = self.knobs.step_s + self.slow_s
        await asyncio.sleep(step_s)
        batch, micros = len(self.running), step_s * 1e6
        for i, term in enumerate((1.0, batch, micros, batch * batch, batch * micros, batch)):
            self.counters.moments[i] += term
        for job in tuple(self.running):
            self._emit(job)

    def _emit(self, job: Job) -> None:
        job.generated += 1
        self.counters.generated_tokens += 1
        job.tokens.put_nowait(True)
        last = 1 if self.role == "prefill" else job.output_tokens
        if job.generated >= last:
            self.running.remove(job)
            job.tokens.put_nowait(False)
        self._on_progress(job)
