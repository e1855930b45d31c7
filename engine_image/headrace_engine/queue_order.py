"""Late last in SGLang: requests are stamped where they are accepted and ordered where they are scheduled.

The stamp travels in the request's time_stats, which SGLang sends along with it to each rank of the scheduler.
"""

import os
from pathlib import Path
from typing import Any

from headrace_engine.queue_file import QueueFile
from headrace_engine_config.late_last import Waits, put_late_last

QUEUE_VARIABLE = "HEADRACE_ENGINE_QUEUE"  # the path of queue.json; not set: the order stays SGLang's own
STATS = "sglang.srt.observability.req_time_stats.ReqTimeStatsBase"
POLICY = "sglang.srt.managers.schedule_policy.SchedulePolicy"
PREALLOC = "sglang.srt.disaggregation.decode.DecodePreallocQueue"

# On SGLang's object, so names of our own; none ends in "time", which SGLang would convert from clock to clock.
ARRIVED, PATIENCE, LATE = "headrace_arrived_s", "headrace_patience_s", "headrace_late"


def register(role: str) -> None:
    """Put the hooks in place in this process, be it the one that accepts requests or a rank of the scheduler."""
    path = os.environ.get(QUEUE_VARIABLE)
    if path is None:
        return
    from sglang.srt.observability.req_time_stats import ReqTimeStatsBase
    from sglang.srt.plugins.hook_registry import HookRegistry, HookType

    # SGLang copies what the receiving class has too.
    for name, default in ((ARRIVED, None), (PATIENCE, 0.0), (LATE, False)):
        setattr(ReqTimeStatsBase, name, default)
    HookRegistry.register(f"{STATS}.__getstate__", _send_along, HookType.AFTER)
    if role == "decode":
        HookRegistry.register(f"{PREALLOC}.pop_preallocated", _order_preallocation, HookType.BEFORE)
    else:
        HookRegistry.register(f"{POLICY}.calc_priority", _order_waiting, HookType.AFTER)


class Stamper:
    """Stamps requests where the engine accepts them."""

    def __init__(self, role: str) -> None:
        path = os.environ.get(QUEUE_VARIABLE)
        self._role = role
        self._file = QueueFile(None if path is None else Path(path))

    def stamp(self, tokenized: Any, now: float) -> None:
        """Note on a request when it came (epoch seconds) and by how much a younger one may be younger."""
        config = self._file.current(now)
        if config is not None and tokenized.time_stats is not None:
            setattr(tokenized.time_stats, ARRIVED, now)
            setattr(tokenized.time_stats, PATIENCE, config.patience_s(self._role, len(tokenized.input_ids or ())))


class _Stamped:
    """The stamp on a scheduler's request, as the rule wants it."""

    __slots__ = ("_stats",)

    def __init__(self, stats: Any) -> None:
        self._stats = stats

    @property
    def arrived_s(self) -> float | None:
        return getattr(self._stats, ARRIVED, None)

    @property
    def patience_s(self) -> float:
        return float(getattr(self._stats, PATIENCE, 0.0))

    @property
    def late(self) -> bool:
        return bool(getattr(self._stats, LATE, False))

    @late.setter
    def late(self, value: bool) -> None:
        setattr(self._stats, LATE, value)


def _waits(request: Any) -> Waits:
    return _Stamped(None if request.output_ids else request.time_stats)  # with a first token nobody is to pass it


def _send_along(state: dict[str, Any], stats: Any) -> dict[str, Any]:
    arrived = getattr(stats, ARRIVED, None)
    return state if arrived is None else {**state, ARRIVED: arrived, PATIENCE: getattr(stats, PATIENCE)}


def _order_waiting(_result: None, policy: Any, waiting_queue: list[Any], *_rest: Any, **_options: Any) -> None:
    """Last word on the order of a prefill engine's or worker's queue, unless clients set priorities."""
    if len(waiting_queue) > 1 and not policy.enable_priority_scheduling:
        put_late_last(waiting_queue, _waits)


def _order_preallocation(prealloc: Any, *_rest: Any, **_options: Any) -> None:
    """The order in which a decode engine sets KV aside."""
    if len(prealloc.queue) > 1 and not prealloc.scheduler.enable_priority_scheduling:
        put_late_last(prealloc.queue, lambda entry: _waits(entry.req))
