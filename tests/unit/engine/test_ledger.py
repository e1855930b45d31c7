"""The ledger: what /headrace/state tells stays true and bounded, whatever order requests come and go in."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from headrace_engine.ledger import ARRIVAL_WINDOW_S, MAX_FINISHED, MAX_RUNNING, RequestLedger
from headrace_engine_config.length_class import LENGTH_CLASSES, length_class

RIDS = st.sampled_from(["a", "b", "c", "d"])  # few, so that they meet: a client may choose an id that is in use


class Interleavings(RuleBasedStateMachine):
    """Any order of what SGLang may report, with a plain model beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = RequestLedger("worker", 0.0)
        self.told = 0
        self.ledger.on_change = self._tell
        self.now = 1000.0
        self.live: dict[str, list[int]] = {}  # prompt tokens, output tokens
        self.arrived = self.ended = 0

    def _tell(self) -> None:
        self.told = self.ledger.queued_tokens

    @rule(rid=RIDS, prompt=st.integers(0, 300_000))
    def arrive(self, rid: str, prompt: int) -> None:
        self.ledger.arrived(rid, prompt, self.now)
        self.live[rid] = [prompt, 0]
        self.arrived += 1

    @rule(rid=RIDS, tokens=st.integers(0, 50), cached=st.integers(0, 1000))
    def progress(self, rid: str, tokens: int, cached: int) -> None:
        self.ledger.progressed(rid, tokens, cached, self.now)
        if rid in self.live:
            self.live[rid][1] = max(self.live[rid][1], tokens)

    @rule(rid=RIDS, tokens=st.integers(0, 50))
    def finish(self, rid: str, tokens: int) -> None:
        self.ledger.finished(rid, tokens, self.now)
        self.ended += self.live.pop(rid, None) is not None

    @rule(rid=RIDS)
    def abort(self, rid: str) -> None:
        self.ledger.aborted(rid)
        self.live.pop(rid, None)

    @rule(rids=st.sets(RIDS))
    def forget_all_but(self, rids: set[str]) -> None:
        self.ledger.keep_only(rids)
        self.live = {rid: live for rid, live in self.live.items() if rid in rids}

    @rule(seconds=st.floats(0, 200))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def the_queue_is_the_prompts_without_a_first_token(self) -> None:
        waiting = sum(prompt for prompt, output in self.live.values() if output == 0)
        assert self.ledger.queued_tokens == self.told == waiting

    @invariant()
    def the_snapshot_agrees(self) -> None:
        state = self.ledger.snapshot(self.now, ready=True, draining=False)
        running = [{"prompt_tokens": prompt, "age_tokens": age} for prompt, age in self.live.values() if age]
        assert sorted(state["running"], key=str) == sorted(running, key=str)
        assert state["running_total"] == len(running)
        assert state["totals"]["arrivals"] == self.arrived
        assert state["totals"]["finished"] == self.ended
        assert all(row["at"] >= int(self.now) - ARRIVAL_WINDOW_S for row in state["arrivals"])
        assert all(length_class(f["prompt_tokens"]) == f["class"] for f in state["finished"])
        waits = [wait for f in state["finished"] for wait in (f["ttft_s"], f["tpot_s"])]
        assert all(wait is None or wait >= 0.0 for wait in waits)


Interleavings.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestInterleavings = Interleavings.TestCase


@pytest.fixture
def ledger() -> RequestLedger:
    return RequestLedger("prefill", 900.0)


def test_an_empty_ledger_has_every_field(ledger: RequestLedger) -> None:
    assert ledger.snapshot(1000.5, ready=False, draining=True) == {
        "version": 1, "at": 1000.5, "role": "prefill", "started_at": 900.0, "ready": False, "draining": True,
        "queued_tokens": 0, "running": [], "running_total": 0, "arrivals": [], "finished": [],
        "totals": {"arrivals": 0, "prompt_tokens": 0, "cached_tokens": 0, "finished": 0, "output_tokens": 0},
    }  # fmt: skip


def test_arrivals_are_counted_by_second_and_class(ledger: RequestLedger) -> None:
    for rid, tokens, at in (("a", 100, 10.1), ("b", 120, 10.9), ("c", 200, 10.5), ("d", 100, 11.0)):
        ledger.arrived(rid, tokens, at)
    assert ledger.snapshot(12, ready=True, draining=False)["arrivals"] == [
        {"at": 10, "class": 0, "count": 2, "prompt_tokens": 220, "cached_tokens": 0},
        {"at": 10, "class": 1, "count": 1, "prompt_tokens": 200, "cached_tokens": 0},
        {"at": 11, "class": 0, "count": 1, "prompt_tokens": 100, "cached_tokens": 0},
    ]


def test_cached_tokens_belong_to_the_second_of_the_arrival_and_count_once(ledger: RequestLedger) -> None:
    ledger.arrived("a", 500, 10)
    ledger.progressed("a", 0, 320, 11)  # a chunk of its prefill, no token yet
    ledger.progressed("a", 1, 320, 11)
    ledger.progressed("a", 2, 320, 11)
    state = ledger.snapshot(15, ready=True, draining=False)
    assert state["arrivals"] == [{"at": 10, "class": 2, "count": 1, "prompt_tokens": 500, "cached_tokens": 320}]
    assert state["totals"]["cached_tokens"] == 320


def test_cached_tokens_reported_after_the_window_are_only_in_the_totals(ledger: RequestLedger) -> None:
    ledger.arrived("slow", 500, 10)
    ledger.arrived("late", 500, 10 + ARRIVAL_WINDOW_S + 1)
    ledger.progressed("slow", 1, 100, 11)
    state = ledger.snapshot(10 + ARRIVAL_WINDOW_S + 1, ready=True, draining=False)
    assert [row["cached_tokens"] for row in state["arrivals"]] == [0]
    assert state["totals"]["cached_tokens"] == 100


def test_arrivals_live_for_their_window_and_no_longer(ledger: RequestLedger) -> None:
    ledger.arrived("a", 1, 10)
    assert len(ledger.snapshot(10 + ARRIVAL_WINDOW_S, ready=True, draining=False)["arrivals"]) == 1
    assert ledger.snapshot(11 + ARRIVAL_WINDOW_S, ready=True, draining=False)["arrivals"] == []


def test_a_flood_of_requests_leaves_bounded_lists(ledger: RequestLedger) -> None:
    for i in range(4000):
        ledger.arrived(str(i), 64 * 2 ** (i % LENGTH_CLASSES), 100 + i / 10)
        ledger.progressed(str(i), 1 + i, 0, 501)
        if i % 2:
            ledger.finished(str(i), 7, 502)
    state = ledger.snapshot(500, ready=True, draining=False)
    assert len(state["arrivals"]) <= (ARRIVAL_WINDOW_S + 1) * LENGTH_CLASSES
    assert len(state["finished"]) == MAX_FINISHED
    assert (len(state["running"]), state["running_total"]) == (MAX_RUNNING, 2000)
    assert state["totals"]["arrivals"] == 4000
    assert state["totals"]["output_tokens"] == 2000 * 7


def test_the_sample_of_running_streams_spans_them_all(ledger: RequestLedger) -> None:
    for i in range(5 * MAX_RUNNING):
        ledger.arrived(str(i), 1, 0)
        ledger.progressed(str(i), i + 1, 0, 1)
    ages = [r["age_tokens"] for r in ledger.snapshot(0, ready=True, draining=False)["running"]]
    assert ages == list(range(1, 5 * MAX_RUNNING, 5))


def test_an_aborted_request_is_forgotten_without_counting_as_finished(ledger: RequestLedger) -> None:
    ledger.arrived("kept", 10, 0)
    ledger.arrived("aborted", 100, 0)
    ledger.keep_only({"kept", "never seen"})
    assert ledger.queued_tokens == 10
    assert ledger.snapshot(0, ready=True, draining=False)["totals"]["finished"] == 0


def test_a_request_it_never_saw_arrive_changes_nothing(ledger: RequestLedger) -> None:
    before = ledger.snapshot(0, ready=True, draining=False)
    ledger.progressed("unknown", 3, 3, 0)
    ledger.finished("unknown", 3, 0)
    assert ledger.snapshot(0, ready=True, draining=False) == before


# role, accepted, (report: output tokens, when the first token was there), end, output tokens -> TTFT, TPOT
WAITS: dict[str, tuple[str, float, list[tuple[int, float | None]], float, int, float | None, float | None]] = {
    "five tokens": ("worker", 10.0, [(1, 10.4), (3, 10.9)], 10.6, 5, 0.4, 0.05),
    "a decode engine answers": ("decode", 10.0, [(1, 12.0)], 13.0, 11, 2.0, 0.1),
    "a prefill engine does not": ("prefill", 10.0, [(1, 10.4)], 10.4, 1, None, None),
    "one token has no time per token": ("worker", 10.0, [(1, 10.4)], 10.4, 1, 0.4, None),
    "reported once, at the end, first token known": ("worker", 10.0, [(5, 10.4)], 10.6, 5, 0.4, 0.05),
    "reported once, first token not known": ("worker", 10.0, [(5, None)], 10.6, 5, None, None),
    "a chunk without tokens is no first token": ("worker", 10.0, [(0, 10.1), (1, 10.4)], 10.6, 5, 0.4, 0.05),
    "all tokens at once": ("worker", 10.0, [(5, 10.4)], 10.4, 5, 0.4, None),
    "the clock was set back": ("worker", 10.0, [(1, 8.0)], 8.5, 5, None, None),
    "the clock was set back between tokens": ("worker", 10.0, [(1, 10.4)], 9.0, 5, None, None),
    "no output": ("worker", 10.0, [(0, 10.1)], 10.6, 0, None, None),
}


@pytest.mark.parametrize("case", WAITS)
def test_a_finished_request_says_how_long_its_client_waited(case: str) -> None:
    role, accepted, reports, end, tokens, ttft_s, tpot_s = WAITS[case]
    ledger = RequestLedger(role, 0.0)
    ledger.arrived("a", 300, accepted)
    for output_tokens, first_at in reports:
        ledger.progressed("a", output_tokens, 0, first_at)
    ledger.finished("a", tokens, end)
    (row,) = ledger.snapshot(20.0, ready=True, draining=False)["finished"]
    assert row == {"class": 2, "prompt_tokens": 300, "output_tokens": tokens, "ttft_s": ttft_s, "tpot_s": tpot_s}


def test_an_aborted_request_leaves_the_queue_at_once_and_no_length(ledger: RequestLedger) -> None:
    ledger.arrived("a", 300, 10.0)
    ledger.aborted("a")
    state = ledger.snapshot(11.0, ready=True, draining=False)
    assert (state["queued_tokens"], state["finished"], state["totals"]["arrivals"]) == (0, [], 1)
