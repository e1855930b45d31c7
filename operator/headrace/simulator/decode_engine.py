"""A decode-only engine: KV set aside on arrival, joining when the KV is here, retraction when the pool is full."""

from collections import deque

from headrace.api.roles import Role
from headrace.autoscaler.signals import EngineLoad
from headrace.simulator.decode_batch import DecodeBatch
from headrace.simulator.engine import INFINITY, Engine, EngineShape, Host
from headrace.simulator.request import Live
from headrace.simulator.times import EngineTimes
from headrace.simulator.waiting import Waiting

RESERVED_TOKENS = 512  # SGLang's num_reserved_decode_tokens: room kept for the growth of each request it holds


class DecodeEngine(Engine):
    """Overlap scheduling: a request whose KV arrives during step i is seen at its end and runs from step i+2 on."""

    role = Role.DECODE
    __slots__ = ("batch", "boundary", "held", "prealloc", "retracted_queue", "transferring", "wake_at")

    def __init__(self, name: str, times: EngineTimes, shape: EngineShape, host: Host, epoch: int) -> None:
        super().__init__(name, times, shape, host, epoch)
        self.batch = DecodeBatch(
            times.decode_table(shape.max_running), times.decode.decode_kv_token_s, shape.kv_capacity_tokens,
            times.graph_batch, times.eager_decode_s,
        )  # fmt: skip
        self.boundary = 0.0  # the step boundary before batch.at
        self.prealloc = Waiting(self.role, shape.queue)
        self.retracted_queue: deque[Live] = deque()
        self.held = 0  # tokens set aside for requests in prefill or transfer
        self.transferring = 0
        self.wake_at = INFINITY

    def accept(self, live: Live, now: float) -> None:
        """Queue for KV; the prefill side hears when there is room."""
        self.ledger.arrived(now, live.length_class, live.isl, 0)
        self.prealloc.append(live)
        self._admit(now)

    def deliver(self, live: Live, now: float) -> None:
        """A request's KV is here: first token at the next boundary, decoding from the one after."""
        batch = self.batch
        self.held -= live.isl
        self.transferring -= 1
        self._boundaries(now)
        live.first = self.boundary + self.times.frontend_s
        self.ledger.first_tokens += 1
        if live.osl == 1:
            self._finish(live, self.boundary)
            self._admit(now)
            return
        batch.add(live)
        self._arm(now)

    def _boundaries(self, now: float) -> None:
        """Move `boundary` to the first step boundary at or after now, and batch.at to the one after that."""
        batch = self.batch
        if not batch.size:
            if now > batch.at:
                batch.contiguous = False
                batch.at = self.boundary = now
        elif now > batch.at:
            batch.advance(batch.steps_within(now - batch.at) + 1)
            self.boundary = batch.at
            batch.advance(1)
        elif now > self.boundary:
            self.boundary = batch.at
            batch.advance(1)

    def _arm(self, now: float) -> None:
        batch = self.batch
        if not batch.size:
            return
        n = batch.next_change()
        at = batch.at + batch.span(n) if n > 0 else batch.at
        at = max(at, now)
        if at < self.wake_at:
            self.wake_at = at
            self.host.at(at, self._wake)

    def _wake(self, now: float) -> None:
        if now != self.wake_at:
            return
        self.wake_at = INFINITY
        batch = self.batch
        if not batch.size:
            return
        n = batch.next_change()
        if n > 0 and batch.at + batch.span(n) <= now:
            batch.advance(n)
        freed = False
        while (live := batch.pop_finished()) is not None:
            self._finish(live, now)
            freed = True
        while batch.size > 1 and batch.full():
            self.retracted_queue.append(batch.retract())
            self.retracted += 1
        if freed:
            self._admit(now)
        self._arm(now)

    def _finish(self, live: Live, at: float) -> None:
        at += self.times.frontend_s
        self.ledger.done(live.length_class, live.isl, live.osl, live.ttft_s, live.tpot_s(at))
        self.host.finished(live, at)

    def _room(self) -> int:
        holding = self.batch.size + self.transferring
        return self.shape.kv_capacity_tokens - self.batch.kv - self.held - RESERVED_TOKENS * holding

    def _admit(self, now: float) -> None:
        """Retracted requests come back first (their KV was kept in host memory), then new ones in theirs."""
        while self.retracted_queue:
            live = self.retracted_queue[0]
            if live.isl + live.generated + RESERVED_TOKENS > self._room() and self.batch.size:
                return
            self.retracted_queue.popleft()
            live.generated -= 1
            self._boundaries(now)
            self.batch.add(live)
        while self.batch.size + self.transferring < self.shape.max_running:
            queue = self.prealloc.first(now)
            if queue is None:
                return
            live = queue[0]
            alone = not self.batch.size and not self.transferring  # SGLang never starves a lone request
            if live.isl + RESERVED_TOKENS > self._room() and not alone:
                return
            queue.popleft()
            self.held += live.isl
            self.transferring += 1
            self.host.reserved(live, now)

    def sync(self, now: float) -> None:
        """Complete the steps that are over by now."""
        if self.batch.size:
            self.batch.catch_up(now, self.batch.next_change())

    def load(self) -> EngineLoad:
        """The load as `/v1/loads` shows it, as of the last sync."""
        batch = self.batch
        return EngineLoad(
            running_requests=batch.size,
            waiting_requests=len(self.prealloc) + self.transferring + len(self.retracted_queue),
            used_tokens=min(batch.kv + self.held, self.shape.kv_capacity_tokens),
            max_total_tokens=self.shape.kv_capacity_tokens,
            max_running_requests=self.shape.max_running,
            waiting_uncached_tokens=0,
            decode_moments=tuple(batch.moments) if batch.moments[0] > 0 else None,
            generated_tokens_total=self.ledger.first_tokens + batch.made,
            decode_prealloc_requests=len(self.prealloc),
            decode_transfer_requests=self.transferring,
            decode_retracted_requests=len(self.retracted_queue),
        )

    def streams(self, limit: int) -> tuple[list[tuple[int, int]], int]:
        """(prompt, age) of running requests, at most `limit`, and how many run."""
        return self.batch.streams(limit), self.batch.size
