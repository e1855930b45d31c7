import random

import pytest

from headrace.autoscaler.lengths import LengthLaw, Life, learn, lives_of, survival_moments
from headrace_engine_config.length_class import LENGTH_CLASSES


def test_running_streams_count_as_at_least_their_age() -> None:
    lives = [Life(0, 10, True), Life(0, 20, True), Life(0, 15, False)]
    assert survival_moments(lives)[0] == pytest.approx(10 + 10 * 2 / 3)


def test_fixed_lengths_are_found_exactly() -> None:
    first, second, third = survival_moments([Life(0, 100, True)] * 50)
    assert [first, second, third] == pytest.approx([100, 1e4, 1e6])


@pytest.mark.parametrize("listed", [64, 256])
def test_a_steady_engine_with_many_streams_is_not_read_as_never_ending(listed: int) -> None:
    """800 streams with mean 400: a list of 64 answers spans 32 tokens of generation."""
    rng = random.Random(7)  # noqa: S311 - a fixed sample of a law, not a secret
    mean, alive = 400.0, 800
    ages = [rng.expovariate(1 / mean) for _ in range(alive)]
    outputs = [rng.expovariate(1 / mean) for _ in range(listed)]
    window = listed * mean / alive
    done, running = lives_of(outputs, ages[::4], window, float(alive))
    assert survival_moments([*done, *running])[0] == pytest.approx(mean, rel=0.3)


def test_only_short_answers_ended_yet_and_the_law_knows_that_long_ones_run() -> None:
    lives = [Life(0, 20, True)] * 10 + [Life(0, 500, False)] * 90
    assert survival_moments(lives)[0] > 400


def test_a_class_without_answers_takes_the_law_of_all() -> None:
    lives: list[list[Life]] = [[] for _ in range(LENGTH_CLASSES)]
    lives[2] = [Life(0, 80, True)] * 200
    law = learn(lives, 1.0, 200.0, LengthLaw(seen=1e-9))
    assert law.mean[7] == pytest.approx(80)


def test_the_first_few_answers_do_not_outweigh_the_prior() -> None:
    lives: list[list[Life]] = [[] for _ in range(LENGTH_CLASSES)]
    lives[2] = [Life(0, 20, True)] * 4
    few = learn(lives, 1.0, 4.0, LengthLaw())
    assert few.mean[2] == pytest.approx(256 + 4 / 36 * (20 - 256))
    lives[2] = [Life(0, 20, True)] * 400
    assert learn(lives, 2.0, 404.0, few).mean[2] < 50


def test_a_settled_law_moves_by_a_tenth_a_sample() -> None:
    lives: list[list[Life]] = [[Life(0, 20, True)] * 100 for _ in range(LENGTH_CLASSES)]
    old = LengthLaw(at=1.0, seen=100_000.0)
    assert learn(lives, 2.0, 1.0, old).mean[0] == pytest.approx(256 + 0.1 * (20 - 256))


def test_nothing_finished_keeps_the_old_law() -> None:
    old = LengthLaw()
    assert learn([[Life(0, 5, False)]] * LENGTH_CLASSES, 1.0, 0.0, old) is old
