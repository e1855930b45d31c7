"""What one engine publishes about its past: arrivals by second and length class, finished lengths, running totals."""

from collections import deque

from headrace.autoscaler.signals import ArrivalBin, FinishedRequest

ARRIVALS_KEPT_S = 120  # the engine's own window for arrivals
FINISHED_KEPT = 256  # the engine's own limit for finished lengths


class Ledger:
    """Fills what `/headrace/state` shows beside the present load. `epoch` maps simulated time to epoch seconds."""

    __slots__ = (
        "arrivals_total",
        "bins",
        "current",
        "epoch",
        "finished",
        "finished_total",
        "first_tokens",
        "second",
    )

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.second = -1
        self.current: dict[int, list[int]] = {}  # class -> [count, prompt tokens, cached tokens]
        self.bins: deque[ArrivalBin] = deque()
        self.finished: deque[FinishedRequest] = deque(maxlen=FINISHED_KEPT)
        self.arrivals_total = 0
        self.finished_total = 0
        self.first_tokens = 0  # first tokens made here, beside those of decode steps

    def arrived(self, now: float, length_class: int, prompt_tokens: int, cached_tokens: int) -> None:
        """Note one accepted request."""
        second = int(now)
        if second != self.second:
            self._close(second)
        row = self.current.get(length_class)
        if row is None:
            self.current[length_class] = [1, prompt_tokens, cached_tokens]
        else:
            row[0] += 1
            row[1] += prompt_tokens
            row[2] += cached_tokens
        self.arrivals_total += 1

    def done(
        self,
        length_class: int,
        prompt_tokens: int,
        output_tokens: int,
        ttft_s: float | None = None,
        tpot_s: float | None = None,
    ) -> None:
        """Note one finished request; an engine that answers says how long its client waited."""
        self.finished.append(FinishedRequest(length_class, prompt_tokens, output_tokens, ttft_s, tpot_s))
        self.finished_total += 1

    def arrivals(self, now: float) -> tuple[ArrivalBin, ...]:
        """Bins of the last two minutes, oldest first, one for each second and class; the running second is partial."""
        if int(now) != self.second:
            self._close(int(now))
        oldest = self.epoch + now - ARRIVALS_KEPT_S
        bins = self.bins
        while bins and bins[0].at_s < oldest:
            bins.popleft()
        return (*bins, *self._open())

    def _open(self) -> list[ArrivalBin]:
        at = self.epoch + self.second
        return [ArrivalBin(at, name, *counts) for name, counts in self.current.items()]

    def _close(self, second: int) -> None:
        self.bins.extend(self._open())
        self.current = {}
        self.second = second
