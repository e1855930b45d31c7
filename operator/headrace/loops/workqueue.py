"""A queue of keys: the same key waits once, never runs twice at one time, and backs off when its pass fails."""

import asyncio
import random
from collections.abc import Awaitable, Callable

import structlog

from headrace.kube.interface import NotLeader
from headrace.loops.keys import Key

log = structlog.get_logger(__name__)

Handler = Callable[[Key], Awaitable[float | None]]


class TokenBucket:
    """At most `rate` starts per second on average, and `rate` at once after a quiet second."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._burst = max(1.0, rate)
        self._tokens = self._burst
        self._filled_at: float | None = None

    def reserve_s(self, now: float) -> float:
        """Take one token; seconds to wait before using it. `now`: any steady clock.

        With rate 2/s, five takers at one moment wait 0, 0, 0.5, 1.0 and 1.5 s.
        """
        passed_s = 0.0 if self._filled_at is None else now - self._filled_at
        self._tokens = min(self._burst, self._tokens + passed_s * self._rate) - 1.0
        self._filled_at = now
        return max(0.0, -self._tokens / self._rate)


class WorkQueue:
    """Level-triggered: a key says "look again", not what happened. Used from one event loop only.

    An `add` while the key runs makes it run once more afterwards. An `add` while the key waits out a back-off runs it
    at once: something has changed, perhaps the very thing that made it fail.
    """

    def __init__(self, *, rate: float, backoff_base_s: float, backoff_max_s: float, rng: random.Random) -> None:
        """`rate`: passes started per second. `rng`: jitter only."""
        self._bucket = TokenBucket(rate)
        self._backoff_base_s = backoff_base_s
        self._backoff_max_s = backoff_max_s
        self._rng = rng
        self._ready: asyncio.Queue[Key] = asyncio.Queue()
        self._waiting: set[Key] = set()  # in _ready, or to be put there when its pass ends
        self._running: set[Key] = set()
        self._timers: dict[Key, asyncio.TimerHandle] = {}
        self._failures: dict[Key, int] = {}

    def __len__(self) -> int:
        """Keys that wait for a pass, those behind a timer not counted."""
        return len(self._waiting)

    def add(self, key: Key) -> None:
        """Run the key soon."""
        self._cancel_timer(key)
        if key in self._waiting:
            return
        self._waiting.add(key)
        if key not in self._running:
            self._ready.put_nowait(key)

    def add_after(self, key: Key, delay_s: float) -> None:
        """Run the key when the delay has passed; an earlier wish stands."""
        if delay_s <= 0:
            self.add(key)
            return
        if key in self._waiting:
            return
        loop = asyncio.get_running_loop()
        timer = self._timers.get(key)
        if timer is not None and timer.when() <= loop.time() + delay_s:
            return
        self._cancel_timer(key)
        self._timers[key] = loop.call_later(delay_s, self.add, key)

    def failures(self, key: Key) -> int:
        """Failed passes in a row."""
        return self._failures.get(key, 0)

    async def run(self, handler: Handler, workers: int) -> None:
        """Serve until cancelled, or until the handler raises NotLeader. The passes that run are cancelled with it."""
        refused: NotLeader | None = None
        try:
            async with asyncio.TaskGroup() as group:
                for number in range(workers):
                    group.create_task(self._work(handler), name=f"worker-{number}")
        except* NotLeader as group_error:
            refused = NotLeader("a write was refused by the lease's gate")
            refused.__cause__ = group_error.exceptions[0]
        if refused is not None:  # out here: before Python 3.11.4 what an except* raises comes wrapped in a group
            raise refused

    async def _work(self, handler: Handler) -> None:
        while True:
            key = await self._ready.get()
            try:
                await asyncio.sleep(self._bucket.reserve_s(asyncio.get_running_loop().time()))
            except asyncio.CancelledError:
                self._ready.put_nowait(key)  # for the next run
                raise
            self._waiting.discard(key)
            self._running.add(key)
            try:
                again_s = await self._pass(handler, key)
            finally:
                self._running.discard(key)
                if key in self._waiting:
                    self._ready.put_nowait(key)
            if again_s is not None:
                self.add_after(key, again_s)

    async def _pass(self, handler: Handler, key: Key) -> float | None:
        """Seconds until the key runs again; None: when something happens."""
        try:
            again_s = await handler(key)
        except NotLeader:
            raise
        except Exception as error:  # one service's failure must not stop the others
            delay_s = self._backoff_s(key)
            log.warning("pass failed", key=str(key), error=str(error), kind=type(error).__name__, retry_s=delay_s)
            return delay_s
        self._failures.pop(key, None)
        return again_s

    def _backoff_s(self, key: Key) -> float:
        """0.5, 1, 2, 4 ... 120 s, each drawn from its upper half."""
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        ceiling = min(self._backoff_max_s, self._backoff_base_s * 2.0 ** min(failures - 1, 32))
        return self._rng.uniform(ceiling / 2, ceiling)

    def _cancel_timer(self, key: Key) -> None:
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()
