"""Late last in SGLang: requests are stamped where they are accepted and ordered where they are scheduled.

The stamp travels in the request's time_stats, which SGLang sends along with it to each rank of the scheduler.
"""

import os
from pathlib import Path
from typing import Any

from headrace_engine.queue_file import QueueFile
from headrace_engine_config.late_last import Stamp, put_late_last

QUEUE_VARIABLE = "HEADRACE_ENGINE_QUEUE"  # the path of queue.json; not set: the order stays SGLang's own
STATS = "sglang.srt.observability.req_time_stats.ReqTimeStatsBase"
POLICY = "sglang.srt.managers.schedule_policy.SchedulePolicy"
PREALLOC = "sglang.srt.disaggregation.decode.DecodePreallocQueue"

# On SGLang's object, so a name of our own; it must not end in "time", which SGLang converts from clock to clock.
STAMP = "headrace_stamp"


def register(role: str) -> None:
    """Put the hooks in place in this process, be it the one that accepts requests or a rank of the scheduler."""
    path = os.environ.get(QUEUE_VARIABLE)
    if path is None:
        return
    from sglang.srt.observability.req_time_stats import ReqTimeStatsBase
    from sglang.srt.plugins.hook_registry import HookRegistry, HookType

    setattr(ReqTimeStatsBase, STAMP, None)  # of what it receives, SGLang copies what its own class has too
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
        """Note on a request when it came and how long it is to go first; `now`: of a clock that nobody sets.

        In order of arrival nothing is stamped, so nothing that waits from before a switch becomes late after it.
        """
        config = self._file.current(now)
        if config is not None and config.order == "LateLast" and tokenized.time_stats is not None:
            patience_s = config.patience_s(self._role, len(tokenized.input_ids or ()))
            setattr(tokenized.time_stats, STAMP, Stamp(now, patience_s))


def _stamp_of(request: Any) -> Stamp | None:
    """None for one that ran before and was retracted: its client has had tokens, so nobody is to pass it."""
    stamp: Stamp | None = None if request.retraction_count else request.time_stats.headrace_stamp
    return stamp


def _send_along(state: dict[str, Any], stats: Any) -> None:
    if stats.headrace_stamp is not None:
        state[STAMP] = stats.headrace_stamp


def _order_waiting(_result: None, policy: Any, waiting_queue: list[Any], *_rest: Any, **_options: Any) -> None:
    """Last word on the order of a prefill engine's or worker's queue, unless clients set priorities."""
    if len(waiting_queue) > 1 and not policy.enable_priority_scheduling:
        put_late_last(waiting_queue, _stamp_of)


def _order_preallocation(prealloc: Any, *_rest: Any, **_options: Any) -> None:
    """The order in which a decode engine sets KV aside."""
    if len(prealloc.queue) > 1 and not prealloc.scheduler.enable_priority_scheduling:
        put_late_last(prealloc.queue, lambda entry: _stamp_of(entry.req))
