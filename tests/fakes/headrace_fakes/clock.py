"""Clocks of tests: one follows the event loop (with looptime, hours pass in no time), one stands until it is moved."""

import asyncio

EPOCH = 1_800_000_000.0


class FakeClock:
    """Satisfies headrace.clock.Clock. Starts at EPOCH (wall) and 0 (monotonic) when the loop's time is 0."""

    def __init__(self) -> None:
        self._wall_offset = EPOCH
        self._steady_offset = 0.0

    def now(self) -> float:
        return asyncio.get_running_loop().time() + self._wall_offset

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time() + self._steady_offset

    async def sleep(self, delay_s: float) -> None:
        await asyncio.sleep(max(0.0, delay_s))

    def jump(self, wall_s: float = 0.0, steady_s: float = 0.0) -> None:
        """Move the clocks without running the loop: what SIGSTOP, a suspended machine or a set clock look like."""
        self._wall_offset += wall_s
        self._steady_offset += steady_s


class ManualClock:
    """Satisfies headrace.clock.Clock. Stands until it is moved, by a sleep or by setting `at`."""

    def __init__(self, at: float = EPOCH) -> None:
        self.at = at

    def now(self) -> float:
        self.at += 1e-3  # no two events at one moment
        return self.at

    def monotonic(self) -> float:
        return self.at

    async def sleep(self, delay_s: float) -> None:
        self.at += delay_s
