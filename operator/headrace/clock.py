"""The only place that reads the machine's clocks. Everything else takes `now` or a Clock."""

import asyncio
import time
from typing import Protocol

# BOOTTIME goes on while the machine is suspended, MONOTONIC stands still: a lease runs out either way. Linux only, so
# other systems (developers' laptops) fall back.
_STEADY = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Clock(Protocol):
    """Time as a dependency."""

    def now(self) -> float:
        """Seconds since the epoch. May jump when the machine's time is set."""
        ...

    def monotonic(self) -> float:
        """Seconds since some fixed moment. Never goes back; goes on while the process is stopped."""
        ...

    async def sleep(self, delay_s: float) -> None:
        """Suspend the calling task."""
        ...


class SystemClock:
    """The machine's clocks and asyncio's timers."""

    def now(self) -> float:
        """Seconds since the epoch."""
        return time.clock_gettime(time.CLOCK_REALTIME)

    def monotonic(self) -> float:
        """Seconds since boot, suspension included."""
        return time.clock_gettime(_STEADY)

    async def sleep(self, delay_s: float) -> None:
        """asyncio.sleep; negative delays yield once."""
        await asyncio.sleep(max(0.0, delay_s))
