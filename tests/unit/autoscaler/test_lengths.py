import random

import numpy as np
import pytest

from headrace.autoscaler.arrays import FloatArray
from headrace.autoscaler.lengths import LengthLaw, by_end, learn, lives_of, survival_moments
from headrace.autoscaler.signals import FinishedRequest, RunningStream
from headrace_engine_config.length_class import LENGTH_CLASSES

Life = tuple[float, float, bool, float, int]


def life(end: float, *, finished: bool = True, kind: int = 2) -> Life:
    return 0.0, end, finished, 1.0, kind


def array(lives: list[Life]) -> FloatArray:
    return np.array(lives, dtype=np.float64).T


def mean_of(lives: FloatArray) -> float:
    return survival_moments(by_end(lives))[0]


def test_running_streams_count_as_at_least_their_age() -> None:
    lives = [life(10), life(20), life(15, finished=False)]
    assert mean_of(array(lives)) == pytest.approx(10 + 10 * 2 / 3)


def test_fixed_lengths_are_found_exactly() -> None:
    first, second, third = survival_moments(by_end(array([life(100)] * 50)))
    assert [first, second, third] == pytest.approx([100, 1e4, 1e6])


@pytest.mark.parametrize("listed", [64, 256])
def test_a_steady_engine_with_many_streams_is_not_read_as_never_ending(listed: int) -> None:
    """800 streams with mean 400: a list of 64 answers spans 32 tokens of generation."""
    rng = random.Random(7)  # noqa: S311 - a fixed sample of a law, not a secret
    mean, alive = 400.0, 800
    ages = [RunningStream(100, round(rng.expovariate(1 / mean))) for _ in range(alive)]
    outputs = [FinishedRequest(0, 100, round(rng.expovariate(1 / mean))) for _ in range(listed)]
    window = listed * mean / alive
    assert mean_of(lives_of(outputs, ages[::4], window, float(alive))) == pytest.approx(mean, rel=0.3)


def test_only_short_answers_ended_yet_and_the_law_knows_that_long_ones_run() -> None:
    assert mean_of(array([life(20)] * 10 + [life(500, finished=False)] * 90)) > 400


def test_a_class_without_answers_takes_the_law_of_all() -> None:
    law = learn(array([life(80)] * 200), 1.0, 200.0, LengthLaw(seen=1e-9))
    assert law.mean[7] == pytest.approx(80)


def test_the_first_few_answers_do_not_outweigh_the_prior() -> None:
    few = learn(array([life(20)] * 4), 1.0, 4.0, LengthLaw())
    assert few.mean[2] == pytest.approx(256 + 4 / 36 * (20 - 256))
    assert learn(array([life(20)] * 400), 2.0, 404.0, few).mean[2] < 50


def test_a_settled_law_moves_by_a_tenth_a_sample() -> None:
    lives = [life(20, kind=kind) for kind in range(LENGTH_CLASSES)] * 100
    old = LengthLaw(at=1.0, seen=100_000.0)
    assert learn(array(lives), 2.0, 1.0, old).mean[0] == pytest.approx(256 + 0.1 * (20 - 256))


def test_nothing_finished_keeps_the_old_law() -> None:
    old = LengthLaw()
    assert learn(array([life(5, finished=False)]), 1.0, 0.0, old) is old


def test_each_class_learns_from_its_own_answers() -> None:
    law = learn(array([life(20, kind=1), life(400, kind=5)] * 500), 1.0, 1000.0, LengthLaw(seen=1e-9))
    assert law.mean[1] == pytest.approx(20, abs=10)
    assert law.mean[5] == pytest.approx(400, abs=10)
    assert law.mean[3] == pytest.approx(210, abs=5)


def test_an_answer_is_watched_from_where_the_list_of_its_engine_begins() -> None:
    lives = lives_of([FinishedRequest(1, 100, 90), FinishedRequest(2, 300, 10)], [RunningStream(5000, 70)], 60.0, 4.0)
    assert lives.T.tolist() == [[60, 90, 1, 1, 1], [0, 10, 1, 1, 2], [10, 70, 0, 4, 6]]
