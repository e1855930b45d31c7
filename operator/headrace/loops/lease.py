"""Leader election by a Lease, and the gate that keeps a former leader from writing.

A Lease has no fencing: the API server takes a write from anybody. So safety rests on time. With the defaults:

    0 s            10 s                        15 s
    last renewal   renew deadline              lease duration
    |- may write --|- may not; work is ended --|- others may take over

Every time span is measured here from *before* the renewal was sent, and by others from when they saw it, so ours ends
first. It is measured on two clocks, and the larger reading counts: the wall clock may be set back, and the steady one
may stand still with the machine. A process that was stopped and continued reads its clocks again before each write.

A leader that loses the Lease ends its process: what it knew is out of date, and starting clean is the one path that
every restart tests anyway.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

import structlog

from headrace.clock import Clock
from headrace.kube.events import micro_time
from headrace.kube.interface import Conflict, Kube, KubeError, Manifest, NotFound, NotLeader
from headrace.kube.kinds import LEASE

log = structlog.get_logger(__name__)

# Followers look at the Lease at intervals drawn from this range times retry_s, so that they don't all try at once.
JITTER = (1.0, 1.2)


class LeadershipLost(Exception):  # noqa: N818  an outcome, not a fault
    """The Lease was lost while the work ran. The work was cancelled; the process should end."""


@dataclass(frozen=True, slots=True)
class LeaseTimes:
    """Seconds. retry < renew_deadline < duration."""

    duration_s: float = 15.0
    renew_deadline_s: float = 10.0
    retry_s: float = 2.0


class LeaseGate:
    """Open for `limit_s` after the last renewal; closed for good on loss or release. See kube.client.WriteGate."""

    def __init__(self, clock: Clock, limit_s: float) -> None:
        self._clock = clock
        self._limit_s = limit_s
        self._renewed: tuple[float, float] | None = None

    def reading(self) -> tuple[float, float]:
        """Both clocks, to be read before a renewal is sent."""
        return self._clock.monotonic(), self._clock.now()

    def renew(self, reading: tuple[float, float]) -> None:
        """The renewal that was sent at `reading` succeeded."""
        self._renewed = reading

    def close(self) -> None:
        """No write from now on."""
        self._renewed = None

    def left_s(self) -> float:
        """Seconds until the deadline; negative once it has passed or where there is no lease."""
        if self._renewed is None:
            return -1.0
        steady, wall = self.reading()
        return self._limit_s - max(steady - self._renewed[0], wall - self._renewed[1])

    def check(self) -> float:
        """Seconds left, or NotLeader."""
        left_s = self.left_s()
        if left_s <= 0:
            raise NotLeader("the lease is not held, or was not renewed in time")
        return left_s


@dataclass(frozen=True, slots=True)
class _Sighting:
    """A follower's view: the Lease's version and when it was first seen, on the follower's own steady clock."""

    version: str
    at: float


class Elector:
    """One candidate. `run` returns when stopped, and raises LeadershipLost or the work's own error."""

    def __init__(
        self,
        kube: Kube,
        *,
        namespace: str,
        name: str,
        identity: str,
        clock: Clock,
        rng: random.Random,
        times: LeaseTimes | None = None,
        on_change: Callable[[bool], None] = lambda _: None,
    ) -> None:
        """`kube`: ungated and without retries of its own. `on_change`: told when leadership begins and ends."""
        self.times = times or LeaseTimes()
        self.gate = LeaseGate(clock, self.times.renew_deadline_s)
        self.renewal_seen_at: float | None = None  # epoch seconds: when the Lease last was seen renewed, by whomever
        self._kube = kube
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._clock = clock
        self._rng = rng
        self._on_change = on_change
        self._version = ""  # resourceVersion of our last write
        self._sighting: _Sighting | None = None

    async def run(self, work: Callable[[], Awaitable[None]], stop: asyncio.Event) -> None:
        """Wait for the Lease, then run the work under it until the work ends, `stop` is set or the Lease is lost."""
        while not stop.is_set():
            if await self._try_acquire():
                log.info("leading", identity=self._identity)
                self._on_change(True)
                try:
                    await self._lead(work, stop)
                finally:
                    self._on_change(False)
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(self.times.retry_s * self._rng.uniform(*JITTER)):
                    await stop.wait()

    # Acquiring

    async def _try_acquire(self) -> bool:
        """One look at the Lease, and a try to take it where it is free."""
        try:
            async with asyncio.timeout(self.times.renew_deadline_s / 2):
                lease = await self._kube.get(LEASE, self._namespace, self._name)
                if lease is not None and not self._is_free(lease):
                    return False
                reading = self.gate.reading()
                written = await self._take(lease)
        except Conflict:
            return False  # another candidate was faster
        except (KubeError, TimeoutError) as error:
            log.warning("lease not readable", error=str(error) or "timeout")
            return False
        self._renewed(written, reading)
        return True

    def _is_free(self, lease: Manifest) -> bool:
        """Released, or not renewed for the duration that its holder promised, by our own clock."""
        version = lease["metadata"]["resourceVersion"]
        if self._sighting is None or self._sighting.version != version:
            self._sighting = _Sighting(version, self._clock.monotonic())
            self.renewal_seen_at = self._clock.now()
        spec = lease.get("spec") or {}
        if not spec.get("holderIdentity"):
            return True
        duration_s = float(spec.get("leaseDurationSeconds") or self.times.duration_s)
        return self._clock.monotonic() - self._sighting.at > duration_s

    async def _take(self, lease: Manifest | None) -> Manifest:
        now = micro_time(self._clock.now())
        spec = {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": max(1, round(self.times.duration_s)),
            "acquireTime": now,
            "renewTime": now,
        }
        if lease is None:
            metadata = {"namespace": self._namespace, "name": self._name}
            manifest = {"apiVersion": LEASE.api_version, "kind": LEASE.kind, "metadata": metadata}
            return await self._kube.create({**manifest, "spec": {**spec, "leaseTransitions": 0}})
        spec["leaseTransitions"] = ((lease.get("spec") or {}).get("leaseTransitions") or 0) + 1
        return await self._patch(lease["metadata"]["resourceVersion"], spec)

    # Leading

    async def _lead(self, work: Callable[[], Awaitable[None]], stop: asyncio.Event) -> None:
        renewal = asyncio.create_task(self._renew_until_lost(), name="lease-renewal")
        working = asyncio.create_task(_awaited(work), name="leader-work")
        stopping = asyncio.create_task(stop.wait(), name="leader-stop")
        try:
            await asyncio.wait({renewal, working, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if renewal.done():
                # The gate is closed. Work that does not end before others may take over is left to the process's end.
                working.cancel()
                await asyncio.wait({working}, timeout=self.times.duration_s - self.times.renew_deadline_s)
                raise LeadershipLost(str(renewal.exception()))
        finally:
            if not renewal.done():
                # The renewal goes on meanwhile: the Lease is given back by someone who no longer writes.
                await _ended(working)
            await _ended(renewal)
            await _ended(stopping)
            await self._release()
        if not working.cancelled():
            working.result()  # raises the work's own error

    async def _renew_until_lost(self) -> None:
        """Returns never; closes the gate and raises NotLeader."""
        try:
            await self._renew_forever()
        except NotLeader as lost:
            self.gate.close()
            log.warning("leadership lost", identity=self._identity, error=lost.message)
            raise

    async def _renew_forever(self) -> None:
        while True:
            await self._clock.sleep(min(self.times.retry_s, self.gate.check()))
            left_s = self.gate.check()
            try:
                async with asyncio.timeout(min(left_s, self.times.renew_deadline_s / 2)):
                    await self._renew_once()
            except NotFound:
                raise NotLeader("the Lease was deleted") from None
            except NotLeader:
                raise
            except (KubeError, TimeoutError) as error:
                log.warning("lease not renewed", left_s=round(left_s, 1), error=str(error) or "timeout")

    async def _renew_once(self) -> None:
        try:
            await self._write_renewal()
        except Conflict:
            await self._adopt_version()
            await self._write_renewal()

    async def _write_renewal(self) -> None:
        reading = self.gate.reading()
        self.gate.check()
        written = await self._patch(self._version, {"renewTime": micro_time(self._clock.now())})
        self._renewed(written, reading)

    async def _adopt_version(self) -> None:
        """Someone touched the Lease, or an answer to our own write was lost. Still ours: take its version."""
        lease = await self._kube.get(LEASE, self._namespace, self._name)
        holder = ((lease or {}).get("spec") or {}).get("holderIdentity")
        if lease is None or holder != self._identity:
            raise NotLeader(f"the Lease is held by {holder or 'nobody'}")
        self._version = lease["metadata"]["resourceVersion"]

    async def _release(self) -> None:
        """Let others in at once, if the Lease is surely still ours."""
        if self.gate.left_s() <= 0:
            self.gate.close()
            return
        left_s = self.gate.left_s()
        self.gate.close()  # nothing of ours is written after the release
        try:
            async with asyncio.timeout(left_s):
                await self._patch(self._version, {"holderIdentity": "", "leaseDurationSeconds": 1})
        except (KubeError, TimeoutError) as error:
            log.warning("lease not released; it runs out by itself", error=str(error) or "timeout")
        else:
            log.info("lease released", identity=self._identity)

    async def _patch(self, version: str, spec: Manifest) -> Manifest:
        """Conditional on the version: Conflict when anybody wrote in between."""
        patch = {"metadata": {"resourceVersion": version}, "spec": spec}
        return await self._kube.merge_patch(LEASE, self._namespace, self._name, patch)

    def _renewed(self, written: Manifest, reading: tuple[float, float]) -> None:
        self._version = written["metadata"]["resourceVersion"]
        self.renewal_seen_at = self._clock.now()
        self.gate.renew(reading)


async def _awaited(work: Callable[[], Awaitable[None]]) -> None:
    await work()


async def _ended(task: asyncio.Task[object]) -> None:
    """Cancel and wait; the outcome stays in the task."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
