from headrace.simulator.prefill_queue import PrefillQueue
from headrace.simulator.prefix_cache import PrefixCache
from headrace.simulator.request import Arrival, Live


def live(serial: int, isl: int, hashes: tuple[int, ...] | None = None) -> Live:
    return Live(serial, Arrival(0.0, isl, 10, hashes))


def test_a_step_packs_requests_in_order_up_to_the_chunk_and_splits_the_last() -> None:
    queue = PrefillQueue(1000)
    for serial, isl in enumerate((400, 400, 500)):
        queue.push(live(serial, isl), 0.0)
    step = queue.compose(0.0, 10**6, 100)
    assert [request.serial for request, _ in step.done] == [0, 1]
    assert step.tokens == 1000
    assert queue.tokens == 300
    rest = queue.compose(0.0, 10**6, 100)
    assert [(request.serial, piece) for request, piece in rest.done] == [(2, 300)]
    assert rest.work == 300 * (200 + 150)


def test_a_long_prompt_is_computed_in_chunks_whose_context_grows() -> None:
    queue = PrefillQueue(1000)
    queue.push(live(0, 2500), 0.0)
    steps = [queue.compose(0.0, 10**6, 100) for _ in range(3)]
    assert [step.tokens for step in steps] == [1000, 1000, 500]
    assert sum(step.work for step in steps) == 2500 * 1250
    assert [len(step.done) for step in steps] == [0, 0, 1]


def test_what_arrived_after_the_cutoff_waits_for_the_next_step() -> None:
    queue = PrefillQueue(1000)
    queue.push(live(0, 100), 1.0)
    queue.push(live(1, 100), 2.0)
    assert not queue.ready(0.5)
    assert [request.serial for request, _ in queue.compose(1.5, 10**6, 100).done] == [0]


def test_a_prompt_that_does_not_fit_the_pool_waits() -> None:
    queue = PrefillQueue(1000)
    queue.push(live(0, 100), 0.0)
    assert queue.compose(0.0, 99, 100).tokens == 0
    assert len(queue) == 1


def test_cached_blocks_are_skipped_and_those_finished_meanwhile_count() -> None:
    queue = PrefillQueue(8192)
    queue.cache.insert((1, 2), 10**6)
    queue.push(live(0, 2000, (1, 2, 3, 4)), 0.0)
    assert queue.tokens == 2000 - 1024
    queue.cache.insert((1, 2, 3), 10**6)
    step = queue.compose(0.0, 10**6, 100)
    assert step.tokens == 2000 - 1536
    assert queue.tokens == 0


def test_the_cache_forgets_the_least_recently_used_block_first() -> None:
    cache = PrefixCache()
    cache.insert((1, 2), 2 * 512)
    cache.insert((1,), 2 * 512)
    cache.insert((3,), 2 * 512)
    assert cache.match((1,), 2000) == 512
    assert cache.match((2,), 2000) == 0


def test_a_prompt_is_never_found_whole() -> None:
    cache = PrefixCache()
    cache.insert((1,), 10**6)
    assert cache.match((1,), 512) == 511
