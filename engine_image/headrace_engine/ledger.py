"""What the engine remembers about its requests, for `/headrace/state`: arrivals, ages of running streams, lengths.

No stock endpoint has these. Everything is bounded: two minutes of arrivals, 256 finished requests, 512 running streams.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from headrace_engine_config.length_class import length_class

STATE_VERSION = 1
ARRIVAL_WINDOW_S = 120  # several autoscaler ticks and scrape gaps; older arrivals are in the reader's own history
MAX_FINISHED = 256  # enough for a length distribution, small enough for an answer of a few kilobytes
MAX_RUNNING = 512  # above it an even sample gives the same ages


@dataclass(slots=True)
class _Live:
    prompt_tokens: int
    arrived_at: float
    age_tokens: int = 0
    cached_tokens: int = 0
    first_token_at: float | None = None  # None: not yet, or the engine does not know when it was


class _Finished(NamedTuple):
    prompt_tokens: int
    output_tokens: int
    ttft_s: float | None
    tpot_s: float | None


class RequestLedger:
    """Counts of one engine process. Times are epoch seconds given by the caller."""

    def __init__(self, role: str, started_at: float) -> None:
        self.role = role
        self.started_at = started_at
        self.on_change: Callable[[], None] = lambda: None  # told when queued_tokens or the totals may have changed
        self.queued_tokens = 0  # prompt tokens of requests without a first token
        self._live: dict[str, _Live] = {}
        self._arrivals: dict[tuple[int, int], list[int]] = {}  # (second, class): count, prompt tokens, cached tokens
        self._finished: deque[_Finished] = deque(maxlen=MAX_FINISHED)
        self.totals = {"arrivals": 0, "prompt_tokens": 0, "cached_tokens": 0, "finished": 0, "output_tokens": 0}

    def arrived(self, rid: str, prompt_tokens: int, now: float) -> None:
        """A request was accepted."""
        self._drop(rid)  # a client may choose an id that is still in use: the later request has it
        second, kind = int(now), length_class(prompt_tokens)
        self._live[rid] = _Live(prompt_tokens, now)
        count = self._arrivals.setdefault((second, kind), [0, 0, 0])
        count[0] += 1
        count[1] += prompt_tokens
        self.totals["arrivals"] += 1
        self.totals["prompt_tokens"] += prompt_tokens
        self._queue(prompt_tokens)
        self._forget_before(second - ARRIVAL_WINDOW_S)

    def progressed(self, rid: str, output_tokens: int, cached_tokens: int, first_token_at: float | None) -> None:
        """The engine reported tokens of a request; reports up to the first token say how much the prefix cache had.

        `first_token_at`: when the first token was there, as of this report; it counts at the first one that has tokens.
        """
        live = self._live.get(rid)
        if live is None:
            return
        news = cached_tokens - live.cached_tokens
        if live.age_tokens == 0 and news > 0:
            live.cached_tokens = cached_tokens
            count = self._arrivals.get((int(live.arrived_at), length_class(live.prompt_tokens)))
            if count is not None:
                count[2] += news
            self.totals["cached_tokens"] += news
        if live.age_tokens == 0 and output_tokens:
            self._queue(-live.prompt_tokens)
            live.first_token_at = first_token_at
        live.age_tokens = max(live.age_tokens, output_tokens)

    def finished(self, rid: str, output_tokens: int, now: float) -> None:
        """A request ended well: all its tokens are there."""
        live = self._drop(rid)
        if live is None:
            return
        self._finished.append(_Finished(live.prompt_tokens, output_tokens, *self._waits(live, output_tokens, now)))
        self.totals["finished"] += 1
        self.totals["output_tokens"] += output_tokens
        self.on_change()

    def aborted(self, rid: str) -> None:
        """A request was cut short: it counts as arrived, and its length says nothing."""
        self._drop(rid)

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
            "finished": [{"class": length_class(row.prompt_tokens), **row._asdict()} for row in self._finished],
            "totals": dict(self.totals),
        }

    def _waits(self, live: _Live, output_tokens: int, now: float) -> tuple[float | None, float | None]:
        """TTFT and TPOT in seconds. Accepted at 10.0, first of 5 tokens at 10.4, last at 10.6: 0.4 and 0.05.

        The prefill engine of a pair gives no client its tokens; a clock set back between two tokens measured nothing.
        """
        first_at = live.first_token_at
        if self.role == "prefill" or first_at is None or not live.arrived_at <= first_at <= now:
            return None, None
        tpot_s = round((now - first_at) / (output_tokens - 1), 6) if output_tokens > 1 and now > first_at else None
        return round(first_at - live.arrived_at, 6), tpot_s

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
