"""Real time for the load generator and the demo: the one place that reads the machine's clock."""

import time


def wall_clock() -> float:
    """Seconds since the epoch that never step back: the monotonic clock, set to the wall clock once at import."""
    return _OFFSET_S + time.monotonic()


_OFFSET_S = time.time() - time.monotonic()
