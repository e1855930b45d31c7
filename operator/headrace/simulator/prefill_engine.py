"""A prefill-only engine: one host thread that composes and launches steps ahead of the device, results behind it."""

from collections.abc import Sequence

from headrace.api.roles import Role
from headrace.autoscaler.signals import EngineLoad
from headrace.simulator.engine import Engine, EngineShape, Host
from headrace.simulator.prefill_queue import PrefillQueue, PrefillStep
from headrace.simulator.request import Live
from headrace.simulator.times import EngineTimes


class PrefillEngine(Engine):
    """SGLang's overlapped prefill loop.

    The host composes a step from what is there, spends `eager_launch_s` launching it (a prefill-only engine has no
    prefill graphs), then waits for the step before it, sends that one's KV request by request, and starts over. So a
    step's result is held up by the launch of the next, short prompts cost the launch and not the arithmetic, and
    nothing is composed while KV is being sent.
    """

    role = Role.PREFILL
    __slots__ = (
        "bootstrapping", "bootstrapping_tokens", "device_free", "exporting", "exporting_tokens", "hosting", "pending",
        "queue",
    )  # fmt: skip

    def __init__(self, name: str, times: EngineTimes, shape: EngineShape, host: Host, epoch: int) -> None:
        super().__init__(name, times, shape, host, epoch)
        self.queue = PrefillQueue(shape.chunk_tokens, self.role, shape.queue)
        self.device_free = 0.0
        self.pending: tuple[PrefillStep, float] | None = None  # launched, its result not processed; when it ends
        self.hosting = False  # the host loop is at work
        self.bootstrapping = 0  # here, and waiting for the decode side to set KV aside
        self.bootstrapping_tokens = 0
        self.exporting = 0  # prefilled, KV not yet pulled by the decode side
        self.exporting_tokens = 0

    def announce(self, live: Live, now: float) -> None:
        """Take a request from the gateway, which sends it to both sides at once: it waits here for the decode side."""
        live.hit = self.queue.cache.match(live.hash_ids, live.isl) if live.hash_ids else 0
        live.todo = live.isl - live.hit
        self.bootstrapping += 1
        self.bootstrapping_tokens += live.todo
        self.ledger.arrived(now, live.length_class, live.isl, live.hit)

    def accept(self, live: Live, now: float) -> None:
        """Queue a request whose decode side has set KV aside."""
        self.bootstrapping -= 1
        self.bootstrapping_tokens -= live.todo
        self.queue.push(live, now)
        if not self.hosting:
            self.hosting = True
            self._loop(now)

    def _loop(self, now: float) -> None:
        """One pass of the host loop."""
        launched: tuple[PrefillStep, float] | None = None
        host_free = now
        if len(self.queue):
            launched = self._launch(now)
            host_free += self.times.eager_launch_s
        done, self.pending = self.pending, launched
        if done is not None:
            step, ends = done
            at = max(host_free, ends)
            self.host.at(at, lambda t: self._result(step, t))
        elif launched is not None:
            self.host.at(host_free, self._loop)
        else:
            self.hosting = False

    def _launch(self, now: float) -> tuple[PrefillStep, float]:
        room = self.shape.kv_capacity_tokens - self.exporting_tokens
        step = self.queue.compose(now, max(room, self.shape.chunk_tokens), self.shape.max_running)
        times = self.times
        if self.device_free <= now:
            ends = now + times.idle.step_s(step.tokens, step.work)
        else:
            ends = self.device_free + times.busy.step_s(step.tokens, step.work)
        ends = max(ends, now + times.eager_launch_s)
        self.prefill_busy_s += ends - max(self.device_free, now)
        self.prefill_tokens += step.tokens
        self.device_free = ends
        return step, ends

    def _result(self, step: PrefillStep, now: float) -> None:
        for live, piece in step.done:
            self.exporting += 1
            self.exporting_tokens += live.isl
            self.ledger.done(live.length_class, live.isl, 1)
            if live.hash_ids is not None:
                self.queue.cache.insert(live.hash_ids, self.shape.kv_capacity_tokens - self.exporting_tokens)
            # Earlier chunks were sent while later ones were computed; a prompt of one piece sends its cached part too.
            now += self.times.transfer.seconds(piece if live.isl - live.hit > piece else live.isl)
            self.host.prefilled(live, now)
        self.host.at(now, self._loop)

    def exported(self, live: Live) -> None:
        """The decode side has the KV."""
        self.exporting -= 1
        self.exporting_tokens -= live.isl

    def queued_tokens(self) -> int:
        """Uncached prompt tokens accepted and not prefilled yet."""
        return self.queue.tokens + self.bootstrapping_tokens

    def load(self) -> EngineLoad:
        """The load as `/v1/loads` shows it, as of the last sync."""
        capacity = self.shape.kv_capacity_tokens
        return EngineLoad(
            running_requests=0,
            waiting_requests=self.bootstrapping + len(self.queue) + self.exporting,
            used_tokens=min(self.exporting_tokens, capacity),
            max_total_tokens=capacity,
            max_running_requests=self.shape.max_running,
            waiting_uncached_tokens=self.queue.tokens,
            prefill_uncached_tokens_total=self.prefill_tokens,
            prefill_busy_s_total=self.prefill_busy_s,
            generated_tokens_total=self.ledger.finished_total,
            prefill_bootstrap_requests=self.bootstrapping,
            prefill_inflight_requests=self.exporting,
        )

    def cached_share(self, hash_ids: Sequence[int] | None, isl: int) -> float:
        """Share of a prompt that the prefix cache holds, 0..1."""
        return self.queue.cache.match(hash_ids, isl) / isl if hash_ids else 0.0
