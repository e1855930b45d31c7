import numpy as np
import pytest

from headrace.simulator.engine import Engine, EngineShape
from headrace.simulator.profiles import LLAMA_8B_H100_TIMES
from headrace.simulator.request import Arrival, Live
from headrace.simulator.routing import Policy, Router, Spill
from headrace.simulator.unified_engine import UnifiedEngine


def engines(*inflight: int) -> list[UnifiedEngine]:
    shape = EngineShape(kv_capacity_tokens=100_000)
    made = [UnifiedEngine(f"w{i}", LLAMA_8B_H100_TIMES, shape, None, 0) for i in range(len(inflight))]  # type: ignore[arg-type]
    for engine, count in zip(made, inflight, strict=True):
        engine.inflight = count
    return made


def picks(
    policy: Policy, among: list[UnifiedEngine], times: int, hashes: tuple[int, ...] | None = None
) -> list[Engine]:
    router = Router(policy, np.random.default_rng(1), Spill())
    return [router.pick(among, Live(i, Arrival(0.0, 2000, 10, hashes))) for i in range(times)]


def test_round_robin_gives_everyone_the_same_share() -> None:
    among = engines(9, 0, 0)
    chosen = picks(Policy.ROUND_ROBIN, among, 30)
    assert [chosen.count(engine) for engine in among] == [10, 10, 10]


@pytest.mark.parametrize("policy", [Policy.LEAST_LOAD, Policy.CACHE_AWARE])
def test_the_least_loaded_engine_is_taken(policy: Policy) -> None:
    among = engines(5, 3, 4)
    assert set(picks(policy, among, 5)) == {among[1]}


def test_power_of_two_never_takes_the_most_loaded() -> None:
    among = engines(1, 2, 9)
    chosen = picks(Policy.POWER_OF_TWO, among, 300)
    assert chosen.count(among[2]) == 0
    assert chosen.count(among[0]) > chosen.count(among[1]) > 0


def test_a_cached_prefix_draws_the_request_until_the_load_is_lopsided() -> None:
    among = engines(4, 8)
    among[1].queue.cache.insert((1, 2, 3), 10**6)
    assert picks(Policy.CACHE_AWARE, among, 1, (1, 2, 9)) == [among[1]]
    assert picks(Policy.CACHE_AWARE, among, 1, (7, 8, 9)) == [among[0]]
    among[1].inflight = 20
    assert picks(Policy.CACHE_AWARE, among, 1, (1, 2, 9)) == [among[0]]


@pytest.mark.parametrize(
    ("spill", "load", "mean", "crowded"),
    [
        (Spill(), 4.0, 0.5, False),  # up to four above the mean whatever the mean is
        (Spill(), 5.0, 0.5, True),
        (Spill(), 22.0, 15.0, False),  # two standard deviations of 15 are 7.7, and 1.5 times 15 is 22.5
        (Spill(), 23.0, 15.0, True),
        (Spill(), 1100.0, 1000.0, False),  # far above the mean, but not by half of it
        (Spill(absolute=2.0, relative=1.1), 3.0, 1.0, False),
        (Spill(absolute=2.0, relative=1.1), 4.0, 1.0, True),
        (Spill(absolute=2.0, relative=1.1), 43.0, 40.0, False),
    ],
)
def test_a_prefix_is_left_for_the_least_loaded_engine_as_the_gateway_does(
    spill: Spill, load: float, mean: float, crowded: bool
) -> None:
    assert spill.crowded(load, mean) is crowded
