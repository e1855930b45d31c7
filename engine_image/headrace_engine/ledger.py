"""What the engine remembers about its requests, for `/headrace/state`: arrivals, ages of running streams, lengths.

No stock endpoint has these. Everything is bounded: two minutes of arrivals, 256 finished requests, 512 running streams.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any

from headrace_engine_config.length_class import length_class

STATE_VERSION = 1
ARRIVAL_WINDOW_S = 120  # several autoscaler ticks and scrape gaps; older arrivals are in the reader's own history
MAX_FINISHED = 256  # enough for a length distribution, small enough for an answer of a few kilobytes
MAX_RUNNING = 512  # above it an even sample gives the same ages


@dataclass(slots=True)
class _Live:
    prompt_tokens: int
    arrived_s: int
    age_tokens: int = 0
    cached_tokens: int = 0


class RequestLedger:
    """Counts of one engine process. Times are epoch seconds given by the caller."""

    def __init__(self, role: str, started_at: float) -> None:
        self.role = role
        self.started_at = started_at
        self.on_change: Callable[[], None] = lambda: None  # told when queued_tokens may have changed
        self.queued_tokens = 0  # prompt tokens of requests without a first token
        self._live: dict[str, _Live] = {}
        self._arrivals: dict[tuple[int, int], list[int]] = {}  # (second, class): count, prompt tokens, cached tokens
        self._finished: deque[tuple[int, int, int]] = deque(maxlen=MAX_FINISHED)
        self._totals = {"arrivals": 0, "prompt_tokens": 0, "cached_tokens": 0, "finished": 0, "output_tokens": 0}

    def arrived(self, rid: str, prompt_tokens: int, now: float) -> None:
        """A request was accepted."""
        self._drop(rid)  # a client may choose an id that is still in use: the later request has it
        second, kind = int(now), length_class(prompt_tokens)
        self._live[rid] = _Live(prompt_tokens, second)
        self._queue(prompt_tokens)
        count = self._arrivals.setdefault((second, kind), [0, 0, 0])
        count[0] += 1
        count[1] += prompt_tokens
        self._totals["arrivals"] += 1
        self._totals["prompt_tokens"] += prompt_tokens
        self._forget_before(second - ARRIVAL_WINDOW_S)

    def progressed(self, rid: str, output_tokens: int, cached_tokens: int) -> None:
        """The engine reported tokens of a request; reports up to the first token say how much the prefix cache had."""
        live = self._live.get(rid)
        if live is None:
            return
        news = cached_tokens - live.cached_tokens
        if live.age_tokens == 0 and news > 0:
            live.cached_tokens = cached_tokens
            count = self._arrivals.get((live.arrived_s, length_class(live.prompt_tokens)))
            if count is not None:
                count[2] += news
            self._totals["cached_tokens"] += news
        if live.age_tokens == 0 and output_tokens:
            self._queue(-live.prompt_tokens)
        live.age_tokens = max(live.age_tokens, output_tokens)

    def finished(self, rid: str, output_tokens: int) -> None:
        """A request ended well."""
        live = self._drop(rid)
        if live is None:
            return
        self._finished.append((length_class(live.prompt_tokens), live.prompt_tokens, output_tokens))
        self._totals["finished"] += 1
        self._totals["output_tokens"] += output_tokens

    def keep_only(self, rids: Collection[str]) -> None:
        """Forget live requests that the engine no longer knows (aborted ones are reported nowhere else)."""
        for rid in [rid for rid in self._live if rid not in rids]:
            self._drop(rid)

    def snapshot(self, now: float, *, ready: bool, draining: bool) -> dict[str, Any]:
        """The body of `/headrace/state`."""
        self._forget_before(int(now) - ARRIVAL_WINDOW_S)
        running = [live for live in self._live.values() if live.age_tokens > 0]
        return {
            "version": STATE_VERSION,
            "at": now,
            "role": self.role,
            "started_at": self.started_at,
            "ready": ready,
            "draining": draining,
            "queued_tokens": self.queued_tokens,
            "running": [{"prompt_tokens": r.prompt_tokens, "age_tokens": r.age_tokens} for r in _evenly(running)],
            "running_total": len(running),
            "arrivals": [
                {"at": at, "class": kind, "count": count, "prompt_tokens": prompt, "cached_tokens": cached}
                for (at, kind), (count, prompt, cached) in sorted(self._arrivals.items())
            ],
            "finished": [
                {"class": kind, "prompt_tokens": prompt, "output_tokens": output}
                for kind, prompt, output in self._finished
            ],
            "totals": dict(self._totals),
        }

    def _drop(self, rid: str) -> _Live | None:
        live = self._live.pop(rid, None)
        if live is not None and live.age_tokens == 0:
            self._queue(-live.prompt_tokens)
        return live

    def _queue(self, tokens: int) -> None:
        self.queued_tokens += tokens
        self.on_change()

    def _forget_before(self, second: int) -> None:
        for key in [key for key in self._arrivals if key[0] < second]:
            del self._arrivals[key]


def _evenly(streams: list[_Live]) -> Iterator[_Live]:
    """At most MAX_RUNNING of them, spread over the whole list."""
    step = max(1.0, len(streams) / MAX_RUNNING)
    return (streams[int(i * step)] for i in range(min(len(streams), MAX_RUNNING)))
