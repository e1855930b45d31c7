"""The outer loop: what clients got moves the needs until the misses are what the objective allows."""

import math
from dataclasses import replace

import pytest

from headrace.api.roles import Role
from headrace.autoscaler.feedback import LEAST, MOST, Outcome, learn, outcome
from headrace.autoscaler.limits import MissShares, Objective
from headrace.autoscaler.memory import Feedback, PodMemory
from headrace.autoscaler.signals import EngineState, FinishedRequest, PodPhase, PodSample

OBJECTIVE = Objective(ttft_s=1.0, tpot_s=0.05, ttft_per_1k_prompt_s=0.5)
NONE = Feedback()
MAY = MissShares(prefill=0.04, decode=0.01)


def at_once(_tokens: float) -> float:
    """Seconds that a prompt takes alone."""
    return 0.0


def pod(finished: tuple[FinishedRequest, ...], total: int, name: str = "decode-1") -> PodSample:
    state = EngineState(at=10.0, started_at=0.0, queued_tokens=0, finished=finished, finished_total=total)
    return PodSample(name, Role.DECODE, PodPhase.SERVING, 0.0, 0.0, 10.0, state=state)


def answer(ttft_s: float | None, tpot_s: float | None = 0.01, prompt: int = 100) -> FinishedRequest:
    return FinishedRequest(0, prompt, 10, ttft_s, tpot_s)


def test_only_answers_since_the_last_read_count() -> None:
    finished = (answer(9.0), answer(9.0), answer(0.1), answer(9.0))
    found = outcome([pod(finished, 100)], {"decode-1": PodMemory(finished=98)}, OBJECTIVE, at_once)
    assert found == Outcome(answers=2, ttft_missed=1)


def test_a_long_prompt_has_the_longer_objective() -> None:
    finished = (answer(2.0, prompt=8000), answer(2.0, prompt=100))
    assert outcome([pod(finished, 2)], {"decode-1": PodMemory(finished=0)}, OBJECTIVE, at_once).ttft_missed == 1


def test_a_prompt_that_is_late_alone_asks_for_no_replica() -> None:
    finished = (answer(9.0, prompt=8000), answer(9.0, prompt=100))
    found = outcome([pod(finished, 2)], {"decode-1": PodMemory(finished=0)}, OBJECTIVE, lambda tokens: tokens / 1000.0)
    assert (found.ttft_missed, found.late_alone) == (2, 1)  # 8,000 tokens take 8 s alone and have 4
    made = learn(Feedback(), Outcome(100, 50, 50), MAY, 5.0, decode_bound=False)
    assert (made.prefill, made.ttft_missed, made.late_alone) == (0.0, 50.0, 50.0)


def test_answers_beyond_the_engines_list_count_like_those_in_it() -> None:
    found = outcome([pod((answer(9.0), answer(0.1)), 10)], {"decode-1": PodMemory(finished=0)}, OBJECTIVE, at_once)
    assert found == Outcome(answers=10, ttft_missed=5)


@pytest.mark.parametrize(
    ("sample", "known"),
    [
        (pod((answer(9.0),), 5), {}),  # never read before: its count says nothing about now
        (pod((answer(9.0),), 3), {"decode-1": PodMemory(finished=5)}),  # restarted
        (pod((answer(None),), 6), {"decode-1": PodMemory(finished=5)}),  # an engine that does not tell
        (pod((), 6), {"decode-1": PodMemory(finished=5)}),  # a list that lags behind the count
        (replace(pod((), 0), state=None), {"decode-1": PodMemory(finished=5)}),
    ],
)
def test_what_is_not_known_is_no_answer_and_no_miss(sample: PodSample, known: dict[str, PodMemory]) -> None:
    assert outcome([sample], known, OBJECTIVE, at_once) == Outcome()


def after(shares: tuple[float, float], seconds: float, begin: Feedback = NONE, *, bound: bool = False) -> Feedback:
    """The loop after `seconds` of 20 answers a second with these shares of TTFT and TPOT missed."""
    found = begin
    for _ in range(int(seconds / 5)):
        made = Outcome(100, ttft_missed=100 * shares[0], tpot_missed=100 * shares[1])
        found = learn(found, made, MAY, 5.0, decode_bound=bound)
    return found


def test_late_first_tokens_raise_prefill_and_slow_tokens_raise_decode() -> None:
    late, slow = after((0.2, 0.0), 600), after((0.0, 0.1), 600)
    assert late.prefill > 0.1
    assert late.decode == 0.0
    assert slow.decode > 0.1
    assert slow.prefill == 0.0


def test_a_role_that_misses_little_helps_to_make_good_what_the_other_missed() -> None:
    alone, together = after((0.0, 0.005), 600), after((0.2, 0.005), 600)
    assert alone.decode == 0.0  # half of what it may
    assert together.decode > 0.1


def test_a_role_that_misses_nothing_has_nothing_to_make_good_with() -> None:
    assert after((0.2, 0.001), 600).decode == 0.0


def test_late_first_tokens_are_decodes_where_decode_has_no_place() -> None:
    found = after((0.2, 0.0), 600, bound=True)
    assert found.prefill == 0.0
    assert found.decode > 0.1


def test_at_the_allowed_share_nothing_moves() -> None:
    begin = Feedback(prefill=0.2, decode=0.1)
    found = after((0.04, 0.01), 3600, begin)
    assert found.prefill == pytest.approx(0.2, abs=0.01)
    assert found.decode == pytest.approx(0.1, abs=0.01)


def test_a_quiet_hour_gives_back_what_an_outage_added() -> None:
    outage = after((1.0, 0.0), 120)
    assert 0.2 < outage.prefill <= MOST
    assert after((0.0, 0.0), 3600, outage).prefill < 0.5 * outage.prefill


def test_the_loop_stays_within_its_bounds() -> None:
    assert after((1.0, 1.0), 36000).prefill == MOST
    assert after((0.0, 0.0), 36000).prefill == LEAST


def test_a_few_answers_conclude_nothing() -> None:
    assert learn(Feedback(), Outcome(5, ttft_missed=5, tpot_missed=5), MAY, 5.0, decode_bound=False).prefill == 0.0


def test_answers_before_any_time_has_passed_conclude_nothing() -> None:
    found = learn(Feedback(), Outcome(100, ttft_missed=100, tpot_missed=100), MAY, 0.0, decode_bound=False)
    assert (found.prefill, found.answers) == (0.0, 100.0)
    assert learn(found, Outcome(100, ttft_missed=100, tpot_missed=100), MAY, -5.0, decode_bound=False).prefill == 0.0


def test_no_answers_and_no_time_are_no_error() -> None:
    found = learn(Feedback(answers=100.0, seconds=10.0), Outcome(), MAY, 0.0, decode_bound=False)
    assert math.isfinite(found.prefill)
