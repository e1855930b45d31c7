"""The waiting queue of an engine that prefills, packed into steps of at most one chunk."""

from dataclasses import dataclass, field

from headrace.api.roles import Role
from headrace.simulator.prefix_cache import PrefixCache
from headrace.simulator.request import Live
from headrace.simulator.waiting import Waiting
from headrace_engine_config.late_last import QueueConfig


@dataclass(slots=True)
class PrefillStep:
    """One prefill step: the requests whose prompt it completes, and its size."""

    done: list[tuple[Live, int]] = field(default_factory=list)  # with the tokens of the last piece
    tokens: int = 0
    work: float = 0.0  # token-context pairs
    taken: int = 0  # prompt tokens newly charged to KV


class PrefillQueue:
    """Requests that wait for prefill; at most one of them is partly prefilled (SGLang's chunked request)."""

    __slots__ = ("cache", "chunk", "chunked", "tokens", "waiting")

    def __init__(self, chunk_tokens: int, role: Role = Role.PREFILL, order: QueueConfig | None = None) -> None:
        self.chunk = chunk_tokens
        self.waiting = Waiting(role, order)
        self.chunked: Live | None = None
        self.tokens = 0  # uncached prompt tokens not prefilled yet
        self.cache = PrefixCache()

    def __len__(self) -> int:
        return len(self.waiting) + (self.chunked is not None)

    def push(self, live: Live, now: float) -> None:
        """Accept a request; what the prefix cache holds now is not queued."""
        live.queued_at = now
        if live.hash_ids is not None and not live.retractions:
            live.hit = self.cache.match(live.hash_ids, live.isl)
        live.context = live.hit
        live.todo = live.isl + live.generated - live.hit
        self.tokens += live.todo
        self.waiting.append(live)

    def ready(self, cutoff: float) -> bool:
        """Whether a step composed from what had arrived by `cutoff` has work."""
        return self.chunked is not None or self.waiting.ready(cutoff)

    def compose(self, cutoff: float, room_tokens: int, slots: int) -> PrefillStep:
        """The next step from requests that arrived by `cutoff`, whose KV (`room_tokens`) and `slots` suffice."""
        step = PrefillStep()
        budget = self.chunk
        if self.chunked is not None:
            live, self.chunked = self.chunked, None
            budget -= self._piece(step, live, budget)
        while budget > 0 and self.chunked is None and (queue := self.waiting.first(cutoff)) is not None:
            live = queue[0]
            need = live.isl + live.generated
            if len(step.done) >= slots or need > room_tokens - step.taken:
                break
            queue.popleft()
            self._rematch(live)
            step.taken += need
            budget -= self._piece(step, live, budget)
        return step

    def _rematch(self, live: Live) -> None:
        """Prefixes that others finished while this request waited count too, as SGLang matches when it schedules."""
        if live.hash_ids is None or live.retractions:
            return
        hit = self.cache.match(live.hash_ids, live.isl)
        if hit != live.hit:
            self.tokens -= hit - live.hit
            live.todo -= hit - live.hit
            live.hit = live.context = hit

    def _piece(self, step: PrefillStep, live: Live, budget: int) -> int:
        """Take as much of `live` as fits; it stays the chunked request when something is left."""
        x = min(live.todo, budget)
        step.tokens += x
        step.work += x * (live.context + 0.5 * x)
        live.todo -= x
        live.context += x
        self.tokens -= x
        if live.todo:
            self.chunked = live
        else:
            step.done.append((live, x))
        return x
