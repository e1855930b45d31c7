"""What every simulated engine has: its identity, its counters, and the way back into the event queue."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from headrace.api.roles import Role
from headrace.autoscaler.signals import EngineLoad
from headrace.simulator.ledger import Ledger
from headrace.simulator.request import Live
from headrace.simulator.times import KV_CHUNK_TOKENS, EngineTimes
from headrace_engine_config.late_last import QueueConfig

INFINITY = float("inf")


@dataclass(frozen=True, slots=True)
class EngineShape:
    """The configuration of a replica that the simulation needs."""

    kv_capacity_tokens: int
    max_running: int = 2048  # SGLang's default ceiling
    chunk_tokens: int = KV_CHUNK_TOKENS
    gpus: int = 1
    queue: QueueConfig | None = None  # in which order what waits is taken; None: order of arrival


class Host(Protocol):
    """What an engine asks of the fleet around it."""

    def at(self, time: float, call: Callable[[float], None]) -> None:
        """Call `call(time)` when the simulation gets there."""
        ...

    def finished(self, live: Live, now: float) -> None:
        """The last token of a request is out."""
        ...

    def prefilled(self, live: Live, delivered_at: float) -> None:
        """A prefill-only engine has completed a prompt, whose KV arrives at `delivered_at`."""
        ...

    def reserved(self, live: Live, now: float) -> None:
        """A decode engine has set KV aside for a request, so that its prefill may begin."""
        ...


class Engine:
    """The common part of the three engines."""

    role: Role
    __slots__ = (
        "host", "inflight", "ledger", "name", "prefill_busy_s", "prefill_tokens", "retracted", "shape", "times",
    )  # fmt: skip

    def __init__(self, name: str, times: EngineTimes, shape: EngineShape, host: Host, epoch: int) -> None:
        self.name = name
        self.times = times
        self.shape = shape
        self.host = host
        self.ledger = Ledger(epoch)
        self.inflight = 0  # requests the gateway has here and not back yet
        self.prefill_tokens = 0  # uncached tokens prefilled since the start
        self.prefill_busy_s = 0.0
        self.retracted = 0

    def accept(self, live: Live, now: float) -> None:
        """Take a request from the gateway (a prefill-only engine: once the decode side has set KV aside)."""
        raise NotImplementedError

    def idle(self) -> bool:
        """Whether nothing here is unfinished, so that a draining replica may go."""
        return self.inflight == 0

    def sync(self, now: float) -> None:
        """Bring lazily kept figures up to `now`; called before anyone looks."""
        del now

    def load(self) -> EngineLoad:
        """The load as `/v1/loads` shows it, as of the last sync."""
        raise NotImplementedError

    def queued_tokens(self) -> int:
        """Uncached prompt tokens accepted and not prefilled yet."""
        return 0

    def streams(self, limit: int) -> tuple[list[tuple[int, int]], int]:
        """(prompt, age) of running requests, at most `limit`, and how many run."""
        del limit
        return [], 0

    def cached_share(self, hash_ids: Sequence[int] | None, isl: int) -> float:
        """Share of a prompt that the prefix cache holds, 0..1."""
        del hash_ids, isl
        return 0.0
