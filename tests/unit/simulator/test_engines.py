from collections.abc import Callable

import pytest

from headrace.simulator.decode_engine import DecodeEngine
from headrace.simulator.engine import EngineShape
from headrace.simulator.prefill_engine import PrefillEngine
from headrace.simulator.profiles import LLAMA_8B_H100_TIMES
from headrace.simulator.request import Arrival, Live
from headrace.simulator.times import EngineTimes
from headrace.simulator.unified_engine import UnifiedEngine
from headrace_engine_config.late_last import QueueConfig


class Bench:
    """An engine's surroundings: an event queue, and a note of what the engine reports."""

    def __init__(self) -> None:
        self.events: list[tuple[float, int, Callable[[float], None]]] = []
        self.done: list[tuple[Live, float]] = []
        self.exported: list[tuple[Live, float]] = []
        self.admitted: list[tuple[Live, float]] = []

    def at(self, time: float, call: Callable[[float], None]) -> None:
        self.events.append((time, len(self.events), call))

    def finished(self, live: Live, now: float) -> None:
        self.done.append((live, now))

    def prefilled(self, live: Live, delivered_at: float) -> None:
        self.exported.append((live, delivered_at))

    def reserved(self, live: Live, now: float) -> None:
        self.admitted.append((live, now))

    def run_until(self, end: float) -> None:
        while due := [event for event in self.events if event[0] <= end]:
            first = min(due, key=lambda event: event[:2])
            self.events[self.events.index(first)] = (float("inf"), first[1], first[2])
            first[2](first[0])


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def times() -> EngineTimes:
    return LLAMA_8B_H100_TIMES


@pytest.fixture
def shape() -> EngineShape:
    return EngineShape(kv_capacity_tokens=410_620)


def live(serial: int, t: float, isl: int, osl: int) -> Live:
    return Live(serial, Arrival(t, isl, osl))


def test_a_lone_request_takes_the_idle_prefill_and_its_decode_steps(
    bench: Bench, times: EngineTimes, shape: EngineShape
) -> None:
    engine = UnifiedEngine("w", times, shape, bench, 0)
    request = live(1, 0.0, 1024, 101)
    engine.accept(request, 0.0)
    bench.run_until(100.0)
    prefill = times.idle.step_s(1024, 0.5 * 1024**2)
    assert request.first == pytest.approx(prefill + times.frontend_s)
    assert request.first == pytest.approx(0.0319, abs=0.001)  # 31.98 ms were measured
    decode = sum(times.decode.decode_s(1, 1024 + k) for k in range(100))
    assert bench.done[0][1] == pytest.approx(prefill + decode + times.frontend_s)
    assert engine.batch.kv == 0


def test_an_arrival_during_decode_waits_for_the_step_under_way_and_the_next(
    bench: Bench, times: EngineTimes, shape: EngineShape
) -> None:
    engine = UnifiedEngine("w", times, shape, bench, 0)
    engine.accept(live(1, 0.0, 1024, 1000), 0.0)
    bench.run_until(1.0)
    late = live(2, 1.0, 1024, 10)
    engine.accept(late, 1.0)
    bench.run_until(2.0)
    step = times.decode.decode_s(1, 1200)
    waited = late.first - 1.0 - times.busy.step_s(1024, 0.5 * 1024**2) - times.frontend_s
    assert step * 0.99 <= waited <= 2.01 * step


def test_looking_at_an_engine_between_two_changes_shows_the_present_and_changes_nothing(
    bench: Bench, times: EngineTimes, shape: EngineShape
) -> None:
    ends = []
    for looks in (0, 7):
        engine = UnifiedEngine("w", times, shape, bench, 0)
        engine.accept(live(1, 0.0, 1000, 500), 0.0)
        for look in range(looks):
            bench.run_until(0.3 * look)
            engine.sync(0.3 * look)
        if looks:
            (prompt, age), *_ = engine.streams(10)[0]
            assert (prompt, engine.batch.kv) == (1000, 1000 + age - 1)
            assert age == pytest.approx((1.8 - 0.03) / 0.00645, abs=3)
            assert engine.load().generated_tokens_total == age
        bench.run_until(100.0)
        ends.append(bench.done[-1][1])
    assert ends[0] == pytest.approx(ends[1], abs=1e-9)


def test_decode_stands_still_while_prefill_steps_run(bench: Bench, times: EngineTimes, shape: EngineShape) -> None:
    engine = UnifiedEngine("w", times, shape, bench, 0)
    first = live(1, 0.0, 1024, 200)
    engine.accept(first, 0.0)
    bench.run_until(0.5)
    engine.accept(live(2, 0.5, 8192, 2), 0.5)
    bench.run_until(100.0)
    alone = sum(times.decode.decode_s(1, 1024 + k) for k in range(199))
    finished = next(at for request, at in bench.done if request is first)
    assert finished - first.first - alone == pytest.approx(times.busy.step_s(8192, 0.5 * 8192**2), rel=0.1)


def test_a_prompt_of_several_chunks_is_not_interrupted_by_decode(
    bench: Bench, times: EngineTimes, shape: EngineShape
) -> None:
    engine = UnifiedEngine("w", times, shape, bench, 0)
    engine.accept(live(1, 0.0, 1024, 500), 0.0)
    bench.run_until(0.5)
    engine.sync(0.5)
    steps_before = engine.batch.steps
    assert steps_before > 50
    engine.accept(live(2, 0.5, 20_000, 2), 0.5)
    bench.run_until(0.6)
    assert engine.batch.steps <= steps_before + 2  # up to the boundary after the next, and no more
    assert engine.prefilling is not None
    bench.run_until(100.0)
    assert len(bench.done) == 2


def test_a_full_pool_retracts_and_everything_still_finishes(bench: Bench, times: EngineTimes) -> None:
    engine = UnifiedEngine("w", times, EngineShape(kv_capacity_tokens=6000), bench, 0)
    for serial in range(8):
        engine.accept(live(serial, 0.0, 500, 800), 0.0)
    bench.run_until(10_000.0)
    assert len(bench.done) == 8
    assert engine.retracted > 0
    assert engine.batch.kv == 0
    assert engine.queue.tokens == 0


def test_the_pool_is_never_overdrawn(bench: Bench, times: EngineTimes) -> None:
    engine = UnifiedEngine("w", times, EngineShape(kv_capacity_tokens=6000), bench, 0)
    for serial in range(30):
        engine.accept(live(serial, 0.0, 300 + 10 * serial, 400), 0.0)
    for tick in range(1, 400):
        bench.run_until(0.25 * tick)
        assert engine.batch.kv <= 6000
    assert len(bench.done) == 30


def test_short_prompts_cost_a_prefill_only_engine_the_launch(
    bench: Bench, times: EngineTimes, shape: EngineShape
) -> None:
    engine = PrefillEngine("p", times, shape, bench, 0)
    engine.accept(live(1, 0.0, 128, 10), 0.0)
    bench.run_until(10.0)
    (_, delivered), *_ = bench.exported
    assert delivered == pytest.approx(times.eager_launch_s + times.transfer.seconds(128))


def test_requests_that_wait_are_prefilled_together(bench: Bench, times: EngineTimes, shape: EngineShape) -> None:
    engine = PrefillEngine("p", times, shape, bench, 0)
    for serial in range(6):
        engine.accept(live(serial, 0.0, 1000, 10), 0.001 * serial)
    bench.run_until(10.0)
    assert len(bench.exported) == 6
    assert engine.prefill_tokens == 6000
    assert engine.prefill_busy_s < 6 * times.idle.step_s(1000, 0.5 * 1000**2)
    assert not engine.hosting


def test_a_decode_engine_sets_kv_aside_and_holds_back_what_does_not_fit(bench: Bench, times: EngineTimes) -> None:
    engine = DecodeEngine("d", times, EngineShape(kv_capacity_tokens=4000), bench, 0)
    first, second = live(1, 0.0, 2000, 50), live(2, 0.0, 2000, 50)
    engine.accept(first, 0.0)
    engine.accept(second, 0.0)
    assert [request for request, _ in bench.admitted] == [first]
    assert engine.load().decode_prealloc_requests == 1
    engine.deliver(first, 0.1)
    bench.run_until(10.0)
    assert [request for request, _ in bench.admitted] == [first, second]
    engine.deliver(second, 10.1)
    bench.run_until(20.0)
    assert [request for request, _ in bench.done] == [first, second]
    assert engine.held == 0


def test_a_request_joins_a_decode_batch_at_the_boundary_after_the_next(
    bench: Bench, times: EngineTimes, shape: EngineShape
) -> None:
    engine = DecodeEngine("d", times, shape, bench, 0)
    first, second = live(1, 0.0, 1000, 500), live(2, 0.0, 1000, 500)
    for request in (first, second):
        engine.accept(request, 0.0)
    engine.deliver(first, 0.0)
    engine.deliver(second, 0.1)
    step = times.decode.decode_s(1, 1000)
    assert 0.1 <= second.first - times.frontend_s <= 0.1 + 1.01 * step
    assert engine.batch.at == pytest.approx(second.first - times.frontend_s + step, rel=0.01)
    bench.run_until(100.0)
    assert len(bench.done) == 2


def test_a_decode_engine_retracts_and_resumes_without_prefill(bench: Bench, times: EngineTimes) -> None:
    engine = DecodeEngine("d", times, EngineShape(kv_capacity_tokens=7000), bench, 0)
    requests = [live(serial, 0.0, 500, 2500) for serial in range(4)]
    for request in requests:
        engine.accept(request, 0.0)
    for request, _ in list(bench.admitted):
        engine.deliver(request, 0.0)
    for tick in range(1, 2000):
        bench.run_until(0.1 * tick)
        for request, _ in bench.admitted:
            if request.first < 0:
                engine.deliver(request, 0.1 * tick)
        assert engine.batch.kv <= 7000 or engine.batch.size == 1
    assert engine.retracted > 0
    assert len(bench.done) == 4
    assert engine.batch.kv == 0


def test_a_decode_engine_sets_kv_aside_for_those_that_can_be_in_time_first(bench: Bench, times: EngineTimes) -> None:
    shape = EngineShape(kv_capacity_tokens=4000, queue=QueueConfig(ttft_seconds=2.0))
    engine = DecodeEngine("d", times, shape, bench, 0)
    requests = [live(serial, arrived, 2000, 1) for serial, arrived in enumerate((0.0, 0.1, 1.0))]
    for request in requests:
        engine.accept(request, request.arrived)
    engine.deliver(requests[0], 1.0)
    assert [request.serial for request, _ in bench.admitted] == [0, 2]
    assert engine.load().decode_prealloc_requests == 1


def test_a_worker_computes_late_prompts_when_nobody_else_waits(bench: Bench, times: EngineTimes) -> None:
    engine = UnifiedEngine(
        "w", times, EngineShape(400_000, chunk_tokens=2000, queue=QueueConfig(ttft_seconds=0.1)), bench, 0
    )
    for serial in range(12):
        bench.run_until(0.02 * serial)
        engine.accept(live(serial, 0.02 * serial, 2000, 1), 0.02 * serial)
    bench.run_until(10.0)
    done = [request.serial for request, _ in bench.done]
    assert sorted(done) == list(range(12))
    assert done.index(11) < done.index(4)
