"""Keys coalesce, never run twice at one time, and back off."""

import asyncio
import random
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.kube.interface import NotLeader
from headrace.loops.keys import Key
from headrace.loops.workqueue import TokenBucket, WorkQueue

pytestmark = pytest.mark.looptime

A, B = Key("default", "a"), Key("default", "b")


def make(rate: float = 1000.0) -> WorkQueue:
    return WorkQueue(rate=rate, backoff_base_s=0.5, backoff_max_s=120.0, rng=random.Random(1))  # noqa: S311  jitter


class Recorder:
    """A handler that takes `length_s` and fails `failures` times a key."""

    def __init__(self, length_s: float = 0.0, failures: int = 0, again_s: float | None = None) -> None:
        self.length_s, self.failures, self.again_s = length_s, failures, again_s
        self.starts: list[tuple[Key, float]] = []
        self.running: Counter[Key] = Counter()
        self.most: Counter[Key] = Counter()

    async def __call__(self, key: Key) -> float | None:
        self.starts.append((key, asyncio.get_running_loop().time()))
        self.running[key] += 1
        self.most[key] = max(self.most[key], self.running[key])
        try:
            await asyncio.sleep(self.length_s)
            if len(self.times(key)) <= self.failures:
                raise ValueError("not yet")
        finally:
            self.running[key] -= 1
        return self.again_s

    def times(self, key: Key) -> list[float]:
        return [at for started, at in self.starts if started == key]


async def serve(queue: WorkQueue, handler: Recorder, for_s: float, workers: int = 4) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(for_s):
            await queue.run(handler, workers)


async def test_a_key_added_many_times_before_its_turn_runs_once() -> None:
    queue, handler = make(), Recorder()
    for _ in range(100):
        queue.add(A)
    assert len(queue) == 1
    await serve(queue, handler, 1)
    assert len(handler.starts) == 1


async def test_a_key_added_while_it_runs_runs_once_more_afterwards_and_never_beside_itself() -> None:
    queue, handler = make(), Recorder(length_s=1.0)
    queue.add(A)
    loop = asyncio.get_running_loop()
    for at in (0.2, 0.4, 0.6):
        loop.call_later(at, queue.add, A)
    await serve(queue, handler, 10)
    assert handler.times(A) == pytest.approx([0.0, 1.0], abs=0.01)
    assert handler.most[A] == 1


async def test_different_keys_run_beside_each_other() -> None:
    queue, handler = make(), Recorder(length_s=1.0)
    queue.add(A)
    queue.add(B)
    await serve(queue, handler, 5)
    assert [at for _, at in handler.starts] == pytest.approx([0.0, 0.0], abs=0.01)


async def test_a_failing_key_backs_off_twice_as_long_each_time_and_starts_over_after_a_success() -> None:
    queue, handler = make(), Recorder(failures=5)
    queue.add(A)
    await serve(queue, handler, 60)
    times = handler.times(A)
    assert len(times) == 6
    for number, (before, after) in enumerate(pairwise(times)):
        assert 0.25 * 2**number <= after - before <= 0.5 * 2**number + 0.01
    assert queue.failures(A) == 0


async def test_the_back_off_has_a_ceiling() -> None:
    queue, handler = make(), Recorder(failures=1000)
    queue.add(A)
    await serve(queue, handler, 3600)
    assert queue.failures(A) > 30
    assert max(after - before for before, after in pairwise(handler.times(A))) <= 120.01


async def test_an_event_runs_a_key_that_waits_out_its_back_off_at_once() -> None:
    queue, handler = make(), Recorder(failures=8)
    queue.add(A)
    await serve(queue, handler, 50)
    begun = asyncio.get_running_loop().time()
    queue.add(A)
    await serve(queue, handler, 1)
    assert handler.times(A)[-1] - begun < 0.01


async def test_one_keys_failure_does_not_delay_another() -> None:
    queue, handler = make(), Recorder(failures=100)
    queue.add(A)
    asyncio.get_running_loop().call_later(20.0, queue.add, B)
    await serve(queue, handler, 21)
    assert handler.times(B)[0] == pytest.approx(20.0, abs=0.01)


async def test_the_handlers_wish_to_run_again_is_kept() -> None:
    queue, handler = make(), Recorder(again_s=10.0)
    queue.add(A)
    await serve(queue, handler, 35)
    assert handler.times(A) == pytest.approx([0, 10, 20, 30], abs=0.1)


async def test_of_two_timers_the_earlier_stands() -> None:
    queue, handler = make(), Recorder()
    queue.add_after(A, 30.0)
    queue.add_after(A, 5.0)
    queue.add_after(A, 60.0)
    await serve(queue, handler, 100)
    assert handler.times(A) == pytest.approx([5.0], abs=0.01)


async def test_passes_start_no_faster_than_the_rate_after_the_burst() -> None:
    queue, handler = make(rate=2.0), Recorder()
    for number in range(10):
        queue.add(Key("default", str(number)))
    await serve(queue, handler, 60, workers=10)
    assert [at for _, at in handler.starts] == pytest.approx([0, 0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4], abs=0.01)


async def test_a_refused_write_ends_the_queue() -> None:
    queue = make()

    async def refused(_: Key) -> None:
        raise NotLeader("the lease is gone")

    queue.add(A)
    with pytest.raises(NotLeader):
        await queue.run(refused, 4)


async def test_keys_that_waited_when_the_workers_were_cancelled_are_served_by_the_next() -> None:
    queue, handler = make(rate=0.1), Recorder()
    queue.add(A)
    queue.add(B)
    await serve(queue, handler, 1)
    await serve(queue, handler, 30)
    assert {key for key, _ in handler.starts} == {A, B}


@given(st.floats(0.1, 100.0), st.lists(st.floats(0.0, 10.0), min_size=1, max_size=60))
def test_a_bucket_never_lets_more_through_than_burst_and_rate(rate: float, gaps: list[float]) -> None:
    bucket = TokenBucket(rate)
    now, uses = 0.0, []
    for gap in gaps:
        now += gap
        uses.append(now + bucket.reserve_s(now))
    burst = max(1.0, rate)
    for first, begin in enumerate(uses):
        for last in range(first, len(uses)):
            assert last - first + 1 <= burst + rate * (uses[last] - begin) + 1.001
