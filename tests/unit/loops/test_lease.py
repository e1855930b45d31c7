"""The elector under time that is ours: looptime makes sleeps instant, FakeClock.jump is a stopped process."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import cast

import pytest
from headrace_fakes.clock import FakeClock
from headrace_fakes.leases import FakeLeases, SharedLease

from headrace.kube.interface import Kube, KubeError, NotLeader, Unavailable
from headrace.loops.lease import Elector, LeadershipLost

pytestmark = pytest.mark.looptime


class Candidate:
    """An elector with a recorder of its work."""

    def __init__(self, shared: SharedLease, name: str = "a", ending_s: float = 0.0) -> None:
        self.clock = FakeClock()
        self.delay_s = 0.01
        self.error: KubeError | None = None
        self.kube = FakeLeases(shared, lambda: (self.delay_s, self.error))
        self.elector = Elector(
            cast("Kube", self.kube),
            namespace="headrace-system",
            name="headrace-operator",
            identity=name,
            clock=self.clock,
            rng=random.Random(name),  # noqa: S311  jitter
        )
        self.stop = asyncio.Event()
        self.ending_s = ending_s
        self.spans: list[tuple[float, float]] = []  # of the work, on the loop's clock

    def start(self, work: Callable[[], Awaitable[None]] | None = None) -> "asyncio.Task[None]":
        return asyncio.create_task(self.elector.run(work or self.work, self.stop))

    async def work(self) -> None:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        try:
            await asyncio.Event().wait()
        finally:
            try:
                await asyncio.sleep(self.ending_s)
            finally:
                self.spans.append((begun, loop.time()))

    @property
    def leads(self) -> bool:
        return self.elector.gate.left_s() > 0


def now() -> float:
    return asyncio.get_running_loop().time()


async def until_leads(candidate: Candidate) -> None:
    while not candidate.leads:  # noqa: ASYNC110  the gate is a matter of clocks and signals nobody
        await asyncio.sleep(0.1)


async def end(*tasks: "asyncio.Task[None]") -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_the_first_candidate_creates_the_lease_and_leads_at_once() -> None:
    shared = SharedLease()
    a = Candidate(shared)
    task = a.start()
    await asyncio.sleep(1)
    assert (a.leads, shared.holder) == (True, "a")
    assert shared.lease is not None
    assert shared.lease["spec"]["leaseDurationSeconds"] == 15
    await end(task)


async def test_the_lease_is_renewed_for_as_long_as_the_work_runs() -> None:
    shared = SharedLease()
    a = Candidate(shared)
    task = a.start()
    await asyncio.sleep(600)
    assert a.leads
    assert shared.version > 250  # every 2 s
    await end(task)


async def test_stopping_ends_the_work_then_gives_the_lease_back() -> None:
    shared = SharedLease()
    a = Candidate(shared, ending_s=3.0)
    task = a.start()
    await asyncio.sleep(10)
    a.stop.set()
    await asyncio.sleep(1)
    assert (shared.holder, a.leads) == ("a", True)  # the work is still ending, and may still write
    await task
    assert (shared.holder, a.leads) == ("", False)
    assert len(a.spans) == 1


async def test_a_released_lease_is_taken_within_one_retry() -> None:
    shared = SharedLease()
    a, b = Candidate(shared, "a"), Candidate(shared, "b")
    first, second = a.start(), b.start()
    await asyncio.sleep(10)
    a.stop.set()
    await first
    released = now()
    await until_leads(b)
    assert now() - released <= 2 * 1.2 + 0.2
    await end(second)


async def test_a_dead_leaders_lease_is_taken_when_it_has_run_out_and_not_before() -> None:
    shared = SharedLease()
    a, b = Candidate(shared, "a"), Candidate(shared, "b")
    first, second = a.start(), b.start()
    await asyncio.sleep(10)
    a.error = Unavailable("killed")  # no renewal from now on, and no release
    renewed = now()
    await asyncio.gather(first, return_exceptions=True)
    await until_leads(b)
    assert 13 <= now() - renewed <= 15 + 2 * 2 * 1.2 + 0.5
    await end(second)


async def test_an_api_server_that_is_gone_costs_the_leadership_at_the_renew_deadline() -> None:
    shared = SharedLease()
    a = Candidate(shared)
    task = a.start()
    await asyncio.sleep(10)
    a.error = Unavailable("connection refused")
    gone = now()
    with pytest.raises(LeadershipLost, match="not renewed in time"):
        await task
    assert now() - gone <= 10.1
    assert len(a.spans) == 1


async def test_an_api_server_that_hangs_costs_the_leadership_at_the_renew_deadline() -> None:
    shared = SharedLease()
    a = Candidate(shared)
    task = a.start()
    await asyncio.sleep(10)
    a.delay_s = 3600.0
    gone = now()
    with pytest.raises(LeadershipLost):
        await task
    assert now() - gone <= 10.1


async def test_a_short_outage_is_ridden_out() -> None:
    shared = SharedLease()
    a = Candidate(shared)
    task = a.start()
    await asyncio.sleep(10)
    a.error = Unavailable("restarting")  # renewals arrive there, their answers don't: the version moves on
    await asyncio.sleep(6)
    a.error = None
    await asyncio.sleep(60)
    assert a.leads
    await end(task)


async def test_lost_work_is_cancelled_and_awaited_before_others_may_take_over() -> None:
    shared = SharedLease()
    a, b = Candidate(shared, "a", ending_s=4.0), Candidate(shared, "b")
    first, second = a.start(), b.start()
    await asyncio.sleep(10)
    a.error = Unavailable("partition")
    with pytest.raises(LeadershipLost):
        await first
    assert not b.leads
    await until_leads(b)
    assert a.spans[0][1] < now()
    await end(second)


async def test_work_that_will_not_end_does_not_hold_up_the_end_of_the_process() -> None:
    shared = SharedLease()
    a = Candidate(shared, ending_s=3600.0)
    task = a.start()
    await asyncio.sleep(10)
    a.error = Unavailable("partition")
    gone = now()
    with pytest.raises(LeadershipLost):
        await task
    assert now() - gone <= 15.1
    with pytest.raises(NotLeader):
        a.elector.gate.check()


async def test_a_process_that_was_stopped_beyond_its_lease_may_not_write_and_does_not_renew() -> None:
    shared = SharedLease()
    a = Candidate(shared)
    task = a.start()
    await asyncio.sleep(9)
    version = shared.version
    a.clock.jump(wall_s=16.0, steady_s=16.0)  # SIGSTOP, 16 s, SIGCONT
    with pytest.raises(NotLeader):
        a.elector.gate.check()
    with pytest.raises(LeadershipLost):
        await task
    assert shared.version == version  # neither renewed nor released


@pytest.mark.parametrize(("wall_s", "steady_s"), [(16.0, 0.0), (0.0, 16.0), (-3600.0, 16.0)])
async def test_one_clock_that_stands_still_or_goes_back_does_not_keep_the_gate_open(
    wall_s: float, steady_s: float
) -> None:
    a = Candidate(SharedLease())
    task = a.start()
    await asyncio.sleep(9)
    a.clock.jump(wall_s=wall_s, steady_s=steady_s)
    with pytest.raises(NotLeader):
        a.elector.gate.check()
    await end(task)


async def test_a_lease_that_somebody_took_by_force_ends_the_work_at_the_next_renewal() -> None:
    shared = SharedLease()
    a = Candidate(shared)
    task = a.start()
    await asyncio.sleep(9)
    assert shared.lease is not None
    version = shared.lease["metadata"]["resourceVersion"]
    shared.patch({"metadata": {"resourceVersion": version}, "spec": {"holderIdentity": "thief"}})
    with pytest.raises(LeadershipLost, match="held by thief"):
        await task
    assert shared.holder == "thief"  # not released over its head


async def test_a_foreign_touch_of_the_lease_is_no_loss() -> None:
    shared = SharedLease()
    a = Candidate(shared)
    task = a.start()
    await asyncio.sleep(9)
    assert shared.lease is not None
    version = shared.lease["metadata"]["resourceVersion"]
    shared.patch({"metadata": {"resourceVersion": version}, "spec": {}})
    await asyncio.sleep(60)
    assert a.leads
    await end(task)


async def test_a_deleted_lease_ends_the_work() -> None:
    shared = SharedLease()
    a = Candidate(shared)
    task = a.start()
    await asyncio.sleep(9)
    shared.lease = None
    with pytest.raises(LeadershipLost, match="deleted"):
        await task


async def test_work_that_fails_gives_the_lease_back_and_its_error_on() -> None:
    shared = SharedLease()
    a = Candidate(shared)

    async def work() -> None:
        await asyncio.sleep(5)
        raise ValueError("boom")

    with pytest.raises(ValueError, match="boom"):
        await a.start(work)
    assert shared.holder == ""


async def test_a_candidate_that_is_cancelled_ends_its_work_and_gives_the_lease_back() -> None:
    shared = SharedLease()
    a = Candidate(shared)
    task = a.start()
    await asyncio.sleep(5)
    await end(task)
    assert (shared.holder, len(a.spans)) == ("", 1)


async def test_without_a_lease_no_write_passes_the_gate() -> None:
    with pytest.raises(NotLeader):
        Candidate(SharedLease()).elector.gate.check()
