"""Counts and quantiles over results."""

from e2e.load.results import Outcome, Result, by_phase, quantile, quantiles, summarise


def result(number: int, outcome: Outcome = Outcome.OK, **changes: object) -> Result:
    values: dict[str, object] = {
        "number": number,
        "phase": "low",
        "scheduled_at": 100.0,
        "sent_at": 100.5,
        "ended_at": 103.0,
        "outcome": outcome,
        "output_tokens": 5,
        "prompt_tokens": 10,
        "first_token_at": 101.0,
        "last_token_at": 103.0,
        "gaps_s": (0.5, 0.5, 0.5, 0.5),
        **changes,
    }
    return Result(**values)  # type: ignore[arg-type]


def test_ttft_counts_from_the_scheduled_arrival_and_tpot_leaves_the_first_token_out() -> None:
    one = result(0)
    assert one.ttft_s == 1.0
    assert one.tpot_s == 0.5


def test_a_request_without_text_or_count_has_no_latency() -> None:
    assert result(0, first_token_at=None).ttft_s is None
    assert result(0, output_tokens=None).tpot_s is None
    assert result(0, output_tokens=1).tpot_s is None


def test_quantiles_are_nearest_rank_and_absent_without_values() -> None:
    assert quantile([float(n) for n in range(1, 101)], 0.95) == 95
    assert quantile([7.0], 0.5) == 7
    assert quantiles([None, None]) == {"p50": None, "p90": None, "p95": None, "p99": None}


def test_the_summary_counts_every_outcome_and_takes_latencies_of_whole_answers_only() -> None:
    results = [
        result(0),
        result(1, Outcome.TRUNCATED, error="cut", first_token_at=190.0),
        result(2, Outcome.FAILED, error="HTTP 503", first_token_at=None, phase="high"),
    ]
    summary = summarise(results)
    assert [summary[key] for key in ("sent", "ok", "failed", "truncated")] == [3, 1, 1, 1]
    assert summary["errors"] == {"cut": 1, "HTTP 503": 1}
    assert summary["ttft_s"]["p99"] == 1.0
    assert summary["output_tokens"] == 5
    assert list(by_phase(results)) == ["low", "high"]
    assert by_phase(results)["high"]["failed"] == 1
