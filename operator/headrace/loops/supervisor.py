"""One operator process: lists, watches, election, the leader's work, probes; started and ended in the right order."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import structlog

from headrace.clock import Clock
from headrace.handlers import WatchThread
from headrace.kube.client import KubeClient
from headrace.kube.events import EventRecorder
from headrace.kube.interface import Kube, KubeError, NotFound
from headrace.loops.intake import Intake
from headrace.loops.keys import Key
from headrace.loops.lease import Elector, LeaseTimes
from headrace.loops.stores import PodStore, ServiceStore
from headrace.loops.workqueue import WorkQueue
from headrace.observability.health import Health
from headrace.observability.metrics import Metrics
from headrace.observability.server import StatusServer
from headrace.settings import Settings

log = structlog.get_logger(__name__)

# A pass is some forty requests of at most request_deadline_s each, most of them milliseconds: one that takes this long
# hangs, and its worker is worth more than its end.
PASS_LIMIT_S = 300.0
# Between two tries of the first LIST: the CRD is often applied seconds after the operator.
FIRST_LIST_RETRY_S = 2.0
# kopf ends within a second; what lingers dies with the process.
WATCH_STOP_S = 5.0


class WatchesEnded(Exception):  # noqa: N818  an outcome, not a fault
    """kopf has ended by itself: a CRD was removed, permissions are gone, or a fault of its own."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What the leader's loops are made of. `kube` refuses writes once the lease is not surely ours."""

    kube: Kube
    settings: Settings
    clock: Clock
    services: ServiceStore
    pods: PodStore
    recorder: EventRecorder
    metrics: Metrics
    enqueue: Callable[[Key], None]


@dataclass(frozen=True, slots=True)
class Loops:
    """The leader's work: one pass for a key, the autoscale loop, and what is to be closed at the end."""

    reconcile: Callable[[Key], Awaitable[float | None]]
    autoscale: Callable[[], Awaitable[None]]
    close: Callable[[], Awaitable[None]]


class Operator:
    """`run` once. Followers keep their stores current too, so that a takeover begins with full knowledge."""

    def __init__(
        self,
        settings: Settings,
        kube: KubeClient,
        make_loops: Callable[[Parts], Loops],
        *,
        clock: Clock,
        rng: random.Random,
        metrics: Metrics,
    ) -> None:
        """`kube`: ungated, with the same `metrics`."""
        self.metrics = metrics
        self.health = Health(
            watch_stale_s=settings.watch_stale_s,
            # Three turns may fail before a restart is worth more than patience.
            tick_stale_s={
                "resync": 3 * settings.resync_s + settings.request_deadline_s,
                "autoscale": max(60.0, 12 * settings.autoscale_interval_s),
            },
        )
        self._settings = settings
        self._kube = kube
        self._clock = clock
        self._queue = WorkQueue(
            rate=settings.queue_rate,
            backoff_base_s=settings.backoff_base_s,
            backoff_max_s=settings.backoff_max_s,
            rng=rng,
        )
        self._elector = Elector(
            kube.once(),
            namespace=settings.operator_namespace,
            name=settings.lease_name,
            identity=settings.identity,
            clock=clock,
            rng=rng,
            times=LeaseTimes(
                duration_s=settings.lease_duration_s,
                renew_deadline_s=settings.lease_renew_deadline_s,
                retry_s=settings.lease_retry_s,
            ),
            on_change=metrics.leader.set,
        )
        self._services, self._pods = ServiceStore(), PodStore()
        self._intake = Intake(
            services=self._services,
            pods=self._pods,
            enqueue=self._queue.add,
            health=self.health,
            clock=clock,
            namespaces=settings.namespaces,
        )
        self._watch_end: asyncio.Future[None] | None = None
        self._status = StatusServer(metrics.registry, self.live, self.health.ready)
        gated = kube.gated(self._elector.gate)
        self._loops = make_loops(
            Parts(
                kube=gated,
                settings=settings,
                clock=clock,
                services=self._services,
                pods=self._pods,
                recorder=EventRecorder(gated, clock, settings.identity),
                metrics=metrics,
                enqueue=self._queue.add,
            )
        )
        metrics.queue_depth.set_function(lambda: len(self._queue))
        metrics.watch_age.set_function(self._watch_age_s)
        self.port = 0

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`. Raises LeadershipLost, WatchesEnded, or what ended the work: the process should then end."""
        self.port = await self._status.start(self._settings.listen_host, self._settings.listen_port)
        log.info("serving", port=self.port, identity=self._settings.identity)
        try:
            if await self._first_list(stop):
                await self._watch_and_lead(stop)
        finally:
            await self._loops.close()
            await self._status.stop()

    def live(self) -> list[str]:
        """The liveness probe's problems."""
        self.health.renewal_seen_at = self._elector.renewal_seen_at
        return self.health.live(self._clock.now(), self.metrics.ticks)

    async def _first_list(self, stop: asyncio.Event) -> bool:
        """Wait until everything could be listed: kopf serves only the kinds that exist when it starts."""
        while not stop.is_set():
            try:
                await self._intake.resync(self._kube)
            except NotFound:
                self.health.waiting_for = "the CustomResourceDefinition of InferenceService (kubectl apply -k crds)"
            except KubeError as error:
                self.health.waiting_for = f"the API server: {error}"
            else:
                self.health.synced = True
                return True
            log.warning("not ready", waiting_for=self.health.waiting_for)
            with suppress(TimeoutError):
                async with asyncio.timeout(FIRST_LIST_RETRY_S):
                    await stop.wait()
        return False

    async def _watch_and_lead(self, stop: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        self._watch_end = loop.create_future()
        watches = WatchThread(self._intake, self._settings, self._watches_ended)
        watches.start()
        leave = asyncio.Event()  # the elector's own, so that whatever ends us gives the lease back
        election = loop.create_task(self._elector.run(self._lead, leave), name="election")
        resync = loop.create_task(self._resync_for_ever(), name="resync")
        stopping = loop.create_task(stop.wait(), name="stop")
        try:
            ends: set[asyncio.Future[Any]] = {election, resync, stopping, self._watch_end}
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            leave.set()
            await asyncio.wait({election}, timeout=self._settings.shutdown_s)
            for outcome in (election, resync, self._watch_end):
                if outcome.done():
                    outcome.result()
        finally:
            tasks: set[asyncio.Task[Any]] = {election, resync, stopping}
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=WATCH_STOP_S)
            await watches.stop(WATCH_STOP_S)

    def _watches_ended(self, failure: BaseException | None) -> None:
        end = self._watch_end
        if end is not None and not end.done():
            end.set_exception(WatchesEnded(f"the watches ended: {failure!r}"))
            end.exception()  # seen: an orderly stop ends them too

    async def _resync_for_ever(self) -> None:
        while True:
            await self._clock.sleep(self._settings.resync_s)
            try:
                await self._intake.resync(self._kube)
            except KubeError as error:
                log.warning("resync failed", error=str(error))
            else:
                self.metrics.ticked("resync", self._clock.now())

    async def _lead(self) -> None:
        for key in self._services.keys():  # noqa: SIM118  a store is no mapping
            self._queue.add(key)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._queue.run(self._pass, self._settings.workers), name="reconcile")
            group.create_task(_until_cancelled(self._loops.autoscale), name="autoscale")

    async def _pass(self, key: Key) -> float | None:
        begun = self._clock.monotonic()
        outcome = "error"
        try:
            async with asyncio.timeout(PASS_LIMIT_S):
                again_s = await self._loops.reconcile(key)
            outcome = "ok"
        except Exception as error:
            self.metrics.reconcile_errors.labels(type(error).__name__).inc()
            raise
        finally:
            self.metrics.reconcile_seconds.labels(outcome).observe(self._clock.monotonic() - begun)
        return again_s

    def _watch_age_s(self) -> float:
        at = self.health.heartbeat_at
        return 0.0 if at is None else self._clock.now() - at


async def _until_cancelled(loop: Callable[[], Awaitable[None]]) -> None:
    await loop()
    raise RuntimeError("the autoscale loop ended by itself")
