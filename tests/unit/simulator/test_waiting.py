import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.api.roles import Role
from headrace.simulator.request import Arrival, Live
from headrace.simulator.waiting import Waiting
from headrace_engine_config.late_last import QueueConfig, Stamp, put_late_last

ORDER = QueueConfig(ttft_seconds=2.0)


def live(arrived: float, isl: int = 100) -> Live:
    return Live(0, Arrival(arrived, isl, 10))


def taken(waiting: Waiting, now: float = 1e9) -> list[float]:
    """Arrivals in the order in which they are taken."""
    found = []
    while (queue := waiting.first(now)) is not None:
        found.append(queue.popleft().arrived)
    return found


def filled(role: Role, config: QueueConfig | None, *requests: Live) -> Waiting:
    waiting = Waiting(role, config)
    for request in requests:
        waiting.append(request)
    return waiting


@pytest.mark.parametrize(
    ("role", "config", "order"),
    [
        (Role.PREFILL, None, [0.0, 0.4, 0.8, 1.2]),
        (Role.PREFILL, QueueConfig(order="Arrival", ttft_seconds=2.0), [0.0, 0.4, 0.8, 1.2]),
        (Role.PREFILL, ORDER, [0.4, 0.8, 1.2, 0.0]),
        (Role.WORKER, ORDER, [0.4, 0.8, 1.2, 0.0]),
        (Role.DECODE, ORDER, [0.8, 1.2, 0.0, 0.4]),
    ],
)
def test_those_that_used_up_their_share_when_younger_ones_wait_go_last(
    role: Role, config: QueueConfig | None, order: list[float]
) -> None:
    assert taken(filled(role, config, *map(live, (0.0, 0.4, 0.8, 1.2)))) == order


def test_a_long_prompt_has_the_patience_of_its_objective() -> None:
    config = QueueConfig(ttft_seconds=1.0, ttft_per_1k_prompt_seconds=0.5)
    assert taken(filled(Role.PREFILL, config, live(0.0, 8000), live(0.1, 100), live(1.5, 100))) == [0.0, 1.5, 0.1]


def test_late_ones_stay_late_when_the_younger_ones_are_gone() -> None:
    waiting = filled(Role.PREFILL, ORDER, live(0.0), live(0.5), live(1.2))
    queue = waiting.first(1e9)
    assert queue is not None
    assert [queue.popleft().arrived, queue.popleft().arrived] == [0.5, 1.2]
    waiting.append(live(1.3))
    assert taken(waiting) == [1.3, 0.0]


def test_one_that_was_taken_back_is_never_late() -> None:
    old = live(0.0)
    old.retractions = 1
    assert taken(filled(Role.WORKER, ORDER, old, live(5.0))) == [0.0, 5.0]


def test_what_came_after_the_cutoff_waits_for_the_next_step() -> None:
    waiting = filled(Role.PREFILL, ORDER, live(0.0), live(5.0))
    assert waiting.ready(1.0)
    assert taken(waiting, 1.0) == [0.0]
    assert not waiting.ready(1.0)
    assert len(waiting) == 1


@given(st.lists(st.floats(0.0, 10.0), max_size=30).map(sorted))
def test_nothing_is_lost_and_both_parts_keep_the_order_of_arrival(arrivals: list[float]) -> None:
    order = taken(filled(Role.PREFILL, ORDER, *map(live, arrivals)))
    assert sorted(order) == arrivals
    late = [at for at in arrivals if arrivals[-1] - at > 1.0]
    assert order == [at for at in arrivals if at not in late] + late


def engine_order(arrivals: list[float], taken_at: list[int]) -> list[float]:
    """As the engine's scheduler orders a list: whenever it takes one, by the rule of `put_late_last`."""
    queue: list[Stamp] = []
    order = []
    for at, takes in zip(arrivals, taken_at, strict=True):
        queue.append(Stamp(at, ORDER.patience_s("prefill", 100)))
        for _ in range(min(takes, len(queue))):
            put_late_last(queue, lambda stamp: stamp)
            order.append(queue.pop(0).arrived_s)
    while queue:
        put_late_last(queue, lambda stamp: stamp)
        order.append(queue.pop(0).arrived_s)
    return order


@given(st.lists(st.tuples(st.floats(0.0, 10.0), st.integers(0, 2)), max_size=30).map(sorted))
def test_the_simulated_engine_takes_them_in_the_order_of_the_real_one(load: list[tuple[float, int]]) -> None:
    waiting = Waiting(Role.PREFILL, ORDER)
    order = []
    for at, takes in load:
        waiting.append(live(at))
        for _ in range(min(takes, len(waiting))):
            queue = waiting.first(1e9)
            assert queue is not None
            order.append(queue.popleft().arrived)
    assert order + taken(waiting) == engine_order([at for at, _ in load], [takes for _, takes in load])
