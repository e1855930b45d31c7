"""A decode batch that jumps from change to change: within a constant batch the time of n steps has a closed form."""

from heapq import heapify, heappop, heappush
from math import sqrt

from headrace.simulator.request import Live


class DecodeBatch:
    """Continuous batching of one engine.

    Step k of a batch of b that starts at K resident tokens takes `base[b] + kv (K + b k)`, since each step adds b
    tokens, so n steps take `n (base[b] + kv K) + kv b n (n - 1) / 2`. Batch 64 at K = 65,536 on H100: base 7.14 ms,
    kv 42.7 ns: 100 steps take 0.714 + 0.280 + 0.0135 = 1.007 s.
    Above `graph_batch` a step takes at least `eager_s`, the host's time to launch it without a CUDA graph.
    `at` is when `steps` steps were complete; it may lie ahead of the caller's clock, at a boundary already decided.
    """

    __slots__ = (
        "at",
        "base",
        "capacity",
        "contiguous",
        "due",
        "eager_s",
        "graph_batch",
        "heap",
        "kv",
        "kv_s",
        "made",
        "moments",
        "size",
        "steps",
    )

    def __init__(
        self, base: list[float], kv_token_s: float, capacity: int, graph_batch: int = 1 << 60, eager_s: float = 0.0
    ) -> None:
        self.base = base
        self.kv_s = kv_token_s
        self.capacity = capacity
        self.graph_batch = graph_batch
        self.eager_s = eager_s
        self.heap: list[tuple[int, int, Live]] = []  # (finish step, serial, request)
        self.size = 0
        self.kv = 0  # tokens held
        self.steps = 0
        self.at = 0.0
        self.due = 0  # sum of finish steps: tokens still to come are due - size * steps
        self.made = 0  # tokens since the start
        self.contiguous = False  # the last step was a decode step, launched directly before
        self.moments = [0.0] * 6  # SGLang's: count, sum b, sum us, sum b^2, sum b us, generated

    def add(self, live: Live) -> None:
        """Let a request join at the boundary `at`, one token ahead of its KV; it has at least one more to make."""
        live.finish_step = self.steps + live.osl - live.generated - 1
        heappush(self.heap, (live.finish_step, live.serial, live))
        self.size += 1
        self.kv += live.isl + live.generated
        self.due += live.finish_step

    def span(self, n: int) -> float:
        """Seconds of the next n steps of the batch as it is."""
        b = self.size
        return n * (self._first_s() + self.kv_s * b * (n - 1) * 0.5)

    def _first_s(self) -> float:
        """Seconds of the next step. A jump is short beside the growth of its KV, so its first step decides for all."""
        first = self.base[self.size] + self.kv_s * self.kv
        return max(first, self.eager_s) if self.size > self.graph_batch else first

    def steps_within(self, elapsed: float) -> int:
        """Whole steps complete after `elapsed` seconds: the positive root of span(n) = elapsed, rounded down."""
        b = self.size
        half = 0.5 * self.kv_s * b
        linear = self._first_s() - half
        return int(2.0 * elapsed / (linear + sqrt(linear * linear + 4.0 * half * elapsed)) + 1e-9)

    def advance(self, n: int) -> None:
        """Complete n steps of the batch as it is, and note them in the sums that the engine publishes."""
        if n <= 0:
            return
        b = self.size
        seconds = self.span(n)
        skipped = 0.0 if self.contiguous else self.span(1)  # SGLang counts only steps launched right behind a step
        counted = n if self.contiguous else n - 1
        if counted:
            micros = (seconds - skipped) * 1e6
            sums = self.moments
            sums[0] += counted
            sums[1] += b * counted
            sums[2] += micros
            sums[3] += b * b * counted
            sums[4] += b * micros
            sums[5] += b * counted
        self.contiguous = True
        self.at += seconds
        self.steps += n
        self.kv += b * n
        self.made += b * n

    def catch_up(self, now: float, limit: int) -> None:
        """Complete the steps that are over by `now`, at most `limit`: for whoever looks between two changes."""
        if self.size and now > self.at:
            self.advance(min(self.steps_within(now - self.at), limit))

    def next_change(self) -> int:
        """Steps until a request finishes or the KV pool is full; at least 0. A lone request is never stopped."""
        n = self.heap[0][0] - self.steps
        if self.size == 1:
            return n
        free = (self.capacity - self.kv) // self.size
        return n if n <= free else max(free, 0)

    def pop_finished(self) -> Live | None:
        """Take out one request whose last step is complete."""
        if not self.heap or self.heap[0][0] > self.steps:
            return None
        finish_step, _, live = heappop(self.heap)
        self.kv -= self.steps - finish_step  # it also ran in a step that was launched before its end was seen
        self._left(live, live.osl)
        return live

    def full(self) -> bool:
        """Whether the next step's tokens do not fit."""
        return self.kv + self.size > self.capacity

    def retract(self) -> Live:
        """Throw out the request with the fewest output tokens, the longest prompt among equals: SGLang's order."""
        entry = min(self.heap, key=lambda item: (self._made(item[2]), -item[2].isl))
        self.heap.remove(entry)
        heapify(self.heap)
        live = entry[2]
        self._left(live, self._made(live))
        live.retractions += 1
        return live

    def _made(self, live: Live) -> int:
        return live.osl - (live.finish_step - self.steps)

    def _left(self, live: Live, generated: int) -> None:
        self.kv -= live.isl + generated - 1  # the newest output token has no KV yet
        live.generated = generated
        self.size -= 1
        self.due -= live.finish_step

    def to_come(self) -> int:
        """Tokens that the running requests are still going to make."""
        return self.due - self.size * self.steps

    def streams(self, limit: int) -> list[tuple[int, int]]:
        """(prompt tokens, tokens so far) of at most `limit` running requests, sampled evenly."""
        heap, steps = self.heap, self.steps
        stride = max(1, -(-len(heap) // limit))
        return [(x.isl, x.osl - x.finish_step + steps) for _, _, x in heap[::stride]]
