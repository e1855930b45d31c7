"""The demo passes only if it showed growth, return and no loss."""

from dataclasses import replace

import pytest

from e2e.demo.record import RoleCount, RunRecord, Sample
from e2e.demo.verdict import all_grown, all_shrunk, shortcomings, story
from e2e.load.results import Outcome


def samples(*counts: tuple[int, int, int]) -> list[Sample]:
    return [Sample(float(at), "p", {"prefill": RoleCount(*c), "decode": RoleCount(*c)}) for at, c in enumerate(counts)]


def test_a_run_that_grew_shrank_and_lost_nothing_passes(record: RunRecord) -> None:
    assert shortcomings(record) == []
    assert all_shrunk(record.samples)


@pytest.mark.parametrize(
    ("counts", "grew_at", "shrank_at"),
    [
        ([(1, 0, 0), (1, 1, 0), (2, 0, 0), (1, 0, 1), (1, 0, 0)], 2.0, 4.0),
        ([(1, 0, 0), (1, 1, 0)], None, None),  # a pod that never served is no growth
        ([(2, 0, 0), (1, 0, 1)], 0.0, None),  # the victim is still there
        ([(2, 0, 0), (1, 1, 0)], 0.0, None),  # a pod crashed: not a return
        ([(1, 0, 0)], None, None),
        ([], None, None),
    ],
)
def test_growth_is_two_serving_and_return_is_one_pod_alone(
    counts: list[tuple[int, int, int]], grew_at: float | None, shrank_at: float | None
) -> None:
    told = story(samples(*counts), "decode")
    assert (told.grew_at, told.shrank_at) == (grew_at, shrank_at)


def test_one_pool_alone_is_not_enough(record: RunRecord) -> None:
    record.samples = [replace(s, counts={**s.counts, "prefill": RoleCount(1)}) for s in record.samples]
    assert not all_grown(record.samples)
    assert shortcomings(record) == ["prefill never had 2 serving replicas (at most 1)"]


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.TRUNCATED])
def test_a_single_lost_request_fails_the_demo_and_is_named(record: RunRecord, outcome: Outcome) -> None:
    record.results = [replace(record.results[0], outcome=outcome, error="HTTP 503: no worker"), *record.results[1:]]
    assert shortcomings(record) == [f"1 of {len(record.sent_at)} requests {outcome}; the first: HTTP 503: no worker"]


def test_requests_that_never_ended_fail(record: RunRecord) -> None:
    record.unanswered = 3
    assert shortcomings(record) == [f"3 of {len(record.sent_at)} requests were still open at the end"]


def test_a_run_without_answers_fails_even_if_the_pools_moved(record: RunRecord) -> None:
    record.results = []
    assert shortcomings(record) == ["no request was answered"]


def test_a_run_that_never_came_to_its_load_says_only_why() -> None:
    assert shortcomings(RunRecord("default/chat", errors=["no cluster"])) == ["no cluster"]
    assert shortcomings(RunRecord("default/chat")) == ["no load was offered"]
