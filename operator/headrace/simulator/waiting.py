"""Requests that wait for an engine's scheduler: in order of arrival, with a queue.json the late ones last."""

from collections import deque

from headrace.api.roles import Role
from headrace.simulator.request import Live
from headrace_engine_config.late_last import QueueConfig


class Waiting:
    """Two queues in order of arrival: those that may still be in time, and those that were found late.

    Only heads are looked at, since one behind them is as good where it is until it gets there.
    """

    __slots__ = ("config", "late", "role", "soon")

    def __init__(self, role: Role, config: QueueConfig | None) -> None:
        self.role = role
        self.config = config  # None: order of arrival
        self.soon: deque[Live] = deque()
        self.late: deque[Live] = deque()

    def __len__(self) -> int:
        return len(self.soon) + len(self.late)

    def append(self, live: Live) -> None:
        """Take a request in."""
        self.soon.append(live)

    def ready(self, cutoff: float) -> bool:
        """Whether a request that was here by `cutoff` waits."""
        return bool(self.late) or (bool(self.soon) and self.soon[0].queued_at <= cutoff)

    def first(self, cutoff: float) -> deque[Live] | None:
        """The queue whose head is next of those that were here by `cutoff`; None when there are none."""
        soon = self.soon
        while self.config is not None and soon and self._is_late(soon[0], self.config):
            self.late.append(soon.popleft())
        if soon and soon[0].queued_at <= cutoff:
            return soon
        return self.late or None

    def _is_late(self, live: Live, config: QueueConfig) -> bool:
        """By the age that the newest one gives it. One that was taken back has its first token, and is not."""
        if live.retractions:
            return False
        return self.soon[-1].arrived - live.arrived > config.patience_s(self.role.value, live.isl)
