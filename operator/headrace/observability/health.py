"""Whether the process should be restarted, and whether it is ready: pure judgement on what the loops report."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(slots=True)
class Health:
    """Facts for the two probes; times in epoch seconds."""

    watch_stale_s: float
    tick_stale_s: Mapping[str, float] = field(default_factory=dict)  # loop -> longest time between two ticks
    heartbeat_at: float | None = None  # the watch on our Lease last showed something
    renewal_seen_at: float | None = None  # the Lease last was seen renewed by asking for it
    synced: bool = False  # a LIST of everything has come in
    waiting_for: str = "the first list of InferenceServices"

    def live(self, now: float, ticks: Mapping[str, float]) -> list[str]:
        """What is wrong, in words; empty: nothing. A loop that never ticked (a follower's) is not asked.

        The watch is judged against the Lease itself: while the API server is away neither moves, and a restart would
        not help. When the Lease moves on and the watch doesn't show it, the watch is dead.
        """
        problems = []
        lag_s = self.watch_lag_s()
        if lag_s > self.watch_stale_s:
            problems.append(f"watch: silent for {lag_s:.0f} s while the Lease was renewed")
        for loop, limit_s in self.tick_stale_s.items():
            at = ticks.get(loop)
            if at is not None and now - at > limit_s:
                problems.append(f"{loop}: last tick {now - at:.0f} s ago, limit {limit_s:.0f} s")
        return problems

    def ready(self) -> list[str]:
        """What is missing before the process can do its work; empty: nothing."""
        return [] if self.synced else [f"waiting for {self.waiting_for}"]

    def watch_lag_s(self) -> float:
        """Seconds by which the watch trails what was read of the Lease."""
        if self.heartbeat_at is None or self.renewal_seen_at is None:
            return 0.0
        return max(0.0, self.renewal_seen_at - self.heartbeat_at)
