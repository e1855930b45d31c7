"""An aggregated engine: prefill and decode in one scheduler, prefill first, never both in one step."""

from collections.abc import Sequence

from headrace.api.roles import Role
from headrace.autoscaler.signals import EngineLoad
from headrace.simulator.decode_batch import DecodeBatch
from headrace.simulator.engine import INFINITY, Engine, EngineShape, Host
from headrace.simulator.prefill_queue import PrefillQueue, PrefillStep
from headrace.simulator.request import Live
from headrace.simulator.times import EngineTimes

# SGLang admits a prompt when it fits beside what the running requests are still expected to make. The expectation
# starts at 0.7 of their maximum, decays to 0.7 x 0.14 over 600 decode steps and is reset by a retraction.
NEW_TOKEN_RATIO = 0.7
NEW_TOKEN_RATIO_FLOOR = 0.7 * 0.14
NEW_TOKEN_RATIO_STEPS = 600
RETRACT_MARGIN_STEPS = 20  # SGLang adds this many tokens a request to its estimate after a retraction
NEVER = 1 << 60


class UnifiedEngine(Engine):
    """Mixed chunks are off by default: decode waits while prefill steps run.

    With overlap scheduling the host decides step i+1 when step i starts. So a request that arrives during decode step i
    lets i and i+1 pass and is prefilled as i+2; during a prefill it is too late for the step after it, unless others
    were waiting when that prefill began. On an idle engine it starts at once but pays for the host work (`times.idle`).
    """

    role = Role.WORKER
    __slots__ = ("batch", "cutoff", "prefill_from", "prefill_step", "prefilling", "queue", "ratio", "wake_at")

    def __init__(self, name: str, times: EngineTimes, shape: EngineShape, host: Host, epoch: int) -> None:
        super().__init__(name, times, shape, host, epoch)
        self.batch = DecodeBatch(
            times.decode_table(shape.max_running), times.decode.decode_kv_token_s, shape.kv_capacity_tokens,
            times.graph_batch, times.eager_decode_s,
        )  # fmt: skip
        self.queue = PrefillQueue(shape.chunk_tokens, self.role, shape.queue)
        self.prefilling: PrefillStep | None = None
        self.prefill_step = NEVER  # decode step after which a prefill is decided to run
        self.prefill_from = 0.0  # when the running prefill step began
        self.cutoff = 0.0  # arrivals until then are in the step that comes next
        self.ratio = NEW_TOKEN_RATIO
        self.wake_at = INFINITY

    def accept(self, live: Live, now: float) -> None:
        """Queue a request."""
        self.queue.push(live, now)
        self.ledger.arrived(now, live.length_class, live.isl, live.hit)
        if self.prefilling is not None:
            return
        if not self.batch.size:
            self.batch.at = max(self.batch.at, now)
            self._prefill(now, now, idle=True)
        elif self.prefill_step == NEVER:
            self._decide(now)
            self._arm(now)

    def _decide(self, now: float) -> None:
        """Set the prefill that follows the step under way and the one already decided."""
        batch = self.batch
        steps = batch.steps_within(now - batch.at) + 1 if now > batch.at else 0
        self.cutoff = batch.at + batch.span(steps)
        self.prefill_step = batch.steps + steps + 1

    def _prefill(self, now: float, cutoff: float, *, idle: bool) -> bool:
        """Start a prefill step at `now` from arrivals up to `cutoff`; False when nothing is there or nothing fits."""
        self.prefill_step = NEVER
        if not self.queue.ready(cutoff):
            return False
        batch, times = self.batch, self.times
        step = self.queue.compose(cutoff, self._room(), self.shape.max_running - batch.size)
        if not step.tokens:
            return False
        if idle:
            seconds = times.idle.step_s(step.tokens, step.work)
        else:
            # The host launches behind the decode step that runs meanwhile; what that does not cover shows.
            exposed = times.idle.floor_s - batch.span(1) if batch.size else times.idle.floor_s
            seconds = max(times.busy.step_s(step.tokens, step.work), exposed)
        self.prefilling = step
        self.prefill_from = now
        self.prefill_busy_s += seconds
        self.prefill_tokens += step.tokens
        batch.contiguous = False
        batch.kv += step.taken
        self._wake_at(now + seconds)
        return True

    def _room(self) -> int:
        """Tokens a new prompt may take: what is free, less what the running requests are expected to add."""
        batch = self.batch
        if not batch.size:
            return self.shape.kv_capacity_tokens
        return int(self.shape.kv_capacity_tokens - batch.kv - self.ratio * batch.to_come())

    def _wake(self, now: float) -> None:
        if now != self.wake_at:
            return
        self.wake_at = INFINITY
        if self.prefilling is not None:
            self._prefilled(self.prefilling, now)
        else:
            self._decoded(now)

    def _prefilled(self, step: PrefillStep, now: float) -> None:
        batch = self.batch
        self.prefilling = None
        batch.at = now
        for live, _ in step.done:
            if live.hash_ids is not None:
                self.queue.cache.insert(live.hash_ids, self.shape.kv_capacity_tokens - batch.kv)
            batch.kv -= live.isl + live.generated  # charged when taken; the batch charges it from here on
            self.ledger.first_tokens += 1
            if live.first < 0:
                live.first = now + self.times.frontend_s
            if live.osl <= live.generated + 1:
                self._finish(live, now)
            else:
                batch.add(live)
        # The host decided the next step when this one began.
        if self._prefill(now, self.prefill_from, idle=False):
            return
        if len(self.queue) and batch.size:
            self.cutoff, self.prefill_step = now, batch.steps + 1
        elif len(self.queue) and self._prefill(now, now, idle=False):
            return
        self._arm(now)

    def _decoded(self, now: float) -> None:
        batch = self.batch
        steps = min(batch.next_change(), self.prefill_step - batch.steps)
        batch.advance(steps)
        self.ratio = max(
            NEW_TOKEN_RATIO_FLOOR,
            self.ratio - steps * (NEW_TOKEN_RATIO - NEW_TOKEN_RATIO_FLOOR) / NEW_TOKEN_RATIO_STEPS,
        )
        freed = False
        while (live := batch.pop_finished()) is not None:
            self._finish(live, now)
            freed = True
        if batch.size > 1 and batch.full():
            self._retract(now)
        if batch.steps >= self.prefill_step and self._prefill(now, self.cutoff, idle=False):
            return
        if len(self.queue) and not batch.size and self._prefill(now, now, idle=False):
            return
        if freed and len(self.queue) and self.prefill_step == NEVER:
            self.cutoff, self.prefill_step = now, batch.steps + 1
        self._arm(now)

    def _retract(self, now: float) -> None:
        """Make room; the requests come back through the queue and are prefilled again with what they had made."""
        batch = self.batch
        while batch.size > 1 and batch.full():
            live = batch.retract()
            self.retracted += 1
            self.queue.push(live, now)
        made = sum(live.osl for _, _, live in batch.heap) - batch.to_come()
        total = sum(live.osl for _, _, live in batch.heap)
        self.ratio = min(1.0, (made + RETRACT_MARGIN_STEPS * batch.size) / (total + 1))

    def _arm(self, now: float) -> None:
        """Wake at the next change of the batch: a finish, a full pool or the decided prefill."""
        batch = self.batch
        if not batch.size:
            return
        steps = min(batch.next_change(), self.prefill_step - batch.steps)
        self._wake_at(max(batch.at + batch.span(steps) if steps > 0 else batch.at, now))

    def _wake_at(self, at: float) -> None:
        self.wake_at = at
        self.host.at(at, self._wake)

    def _finish(self, live: Live, now: float) -> None:
        at = now + self.times.frontend_s
        self.ledger.done(live.length_class, live.isl, live.osl, live.ttft_s, live.tpot_s(at))
        self.host.finished(live, at)

    def queued_tokens(self) -> int:
        """Uncached prompt tokens accepted and not prefilled yet."""
        return self.queue.tokens

    def sync(self, now: float) -> None:
        """Complete the decode steps that are over by now."""
        batch = self.batch
        if batch.size and self.prefilling is None:
            batch.catch_up(now, min(batch.next_change(), self.prefill_step - batch.steps))

    def load(self) -> EngineLoad:
        """The load as `/v1/loads` shows it, as of the last sync."""
        batch, capacity = self.batch, self.shape.kv_capacity_tokens
        return EngineLoad(
            running_requests=batch.size + (len(self.prefilling.done) if self.prefilling else 0),
            waiting_requests=len(self.queue),
            used_tokens=min(batch.kv, capacity),
            max_total_tokens=capacity,
            max_running_requests=self.shape.max_running,
            waiting_uncached_tokens=self.queue.tokens,
            prefill_uncached_tokens_total=self.prefill_tokens,
            prefill_busy_s_total=self.prefill_busy_s,
            decode_moments=tuple(batch.moments) if batch.moments[0] > 0 else None,
            generated_tokens_total=self.ledger.first_tokens + batch.made,
        )

    def streams(self, limit: int) -> tuple[list[tuple[int, int]], int]:
        """(prompt, age) of running requests, at most `limit`, and how many run."""
        return self.batch.streams(limit), self.batch.size

    def cached_share(self, hash_ids: Sequence[int] | None, isl: int) -> float:
        """Share of a prompt that the prefix cache holds, 0..1."""
        return self.queue.cache.match(hash_ids, isl) / isl if hash_ids else 0.0
