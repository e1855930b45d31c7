import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.simulator.decode_batch import DecodeBatch
from headrace.simulator.request import Arrival, Live

BASE = [0.006 + 1e-5 * b for b in range(300)]
KV_S = 4e-8


def batch_of(prompts: list[tuple[int, int]], capacity: int = 10**9) -> DecodeBatch:
    batch = DecodeBatch(BASE, KV_S, capacity)
    for serial, (isl, osl) in enumerate(prompts):
        batch.add(Live(serial, Arrival(0.0, isl, osl)))
    return batch


PROMPTS = st.lists(st.tuples(st.integers(1, 5000), st.integers(2, 500)), min_size=1, max_size=20)


@settings(deadline=None)
@given(PROMPTS, st.integers(1, 300))
def test_a_jump_takes_as_long_as_its_steps_one_by_one(prompts: list[tuple[int, int]], n: int) -> None:
    batch = batch_of(prompts)
    one_by_one, kv = 0.0, batch.kv
    for _ in range(n):
        one_by_one += BASE[batch.size] + KV_S * kv
        kv += batch.size
    assert batch.span(n) == pytest.approx(one_by_one)
    batch.advance(n)
    assert batch.at == pytest.approx(one_by_one)
    assert batch.kv == kv


@settings(deadline=None)
@given(PROMPTS, st.integers(0, 2000), st.floats(0.01, 0.99))
def test_the_steps_within_a_time_are_the_inverse_of_their_span(
    prompts: list[tuple[int, int]], n: int, part: float
) -> None:
    batch = batch_of(prompts)
    inside = batch.span(n) + part * (batch.span(n + 1) - batch.span(n))
    assert batch.steps_within(inside) == n


@settings(deadline=None)
@given(PROMPTS)
def test_every_request_leaves_after_its_last_token_and_gives_its_kv_back(prompts: list[tuple[int, int]]) -> None:
    batch = batch_of(prompts)
    left: list[tuple[int, int]] = []
    while batch.size:
        batch.advance(batch.next_change())
        while (live := batch.pop_finished()) is not None:
            assert batch.steps == live.osl - 1
            left.append((live.isl, live.osl))
    assert sorted(left) == sorted(prompts)
    assert batch.kv == 0
    assert batch.due == 0


def test_the_published_sums_are_those_of_steps_launched_right_behind_a_step() -> None:
    batch = batch_of([(100, 400), (200, 400)])
    batch.advance(5)
    batch.contiguous = False  # a prefill in between: the next step's launch says nothing of a decode step
    batch.advance(3)
    count, sum_b, sum_us, sum_bb, sum_b_us, made = batch.moments
    assert (count, sum_b, sum_bb, made) == (6, 12, 24, 12)
    assert sum_b_us == pytest.approx(2 * sum_us)
    assert sum_us == pytest.approx(6 * (BASE[2] + KV_S * 308) * 1e6, rel=0.01)


def test_retraction_throws_out_the_request_with_the_fewest_tokens_made() -> None:
    batch = batch_of([(100, 400)])
    batch.advance(50)
    batch.add(Live(7, Arrival(0.0, 300, 400)))
    batch.advance(10)
    thrown = batch.retract()
    assert thrown.isl == 300
    assert thrown.generated == 11  # the first one came from prefill
    assert batch.kv == 160


def test_a_lone_request_is_never_stopped_by_a_full_pool() -> None:
    batch = batch_of([(100, 400)], capacity=120)
    assert batch.next_change() == 399


def test_a_full_pool_is_the_next_change_of_a_batch() -> None:
    batch = batch_of([(100, 400), (100, 300)], capacity=240)
    assert batch.next_change() == 20
    batch.advance(20)
    assert batch.full()


def test_streams_are_sampled_evenly_and_never_more_than_asked() -> None:
    batch = batch_of([(n, 400) for n in range(1, 101)])
    assert len(batch.streams(30)) <= 30
    assert len(batch.streams(200)) == 100
    batch.advance(5)
    assert {age for _, age in batch.streams(200)} == {6}


def test_above_the_largest_graph_a_step_takes_at_least_its_launches() -> None:
    batch = DecodeBatch(BASE, KV_S, 10**9, graph_batch=2, eager_s=0.02)
    for serial in range(2):
        batch.add(Live(serial, Arrival(0.0, 100, 50)))
    assert batch.span(1) == pytest.approx(BASE[2] + KV_S * 200)
    batch.add(Live(2, Arrival(0.0, 100, 50)))
    assert batch.span(1) == 0.02
    assert batch.steps_within(batch.span(7)) == 7
    batch.add(Live(3, Arrival(0.0, 500_000, 50)))
    assert batch.span(1) == pytest.approx(BASE[4] + KV_S * 500_300)
