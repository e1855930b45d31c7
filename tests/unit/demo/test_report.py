"""The page, the figures, the charts and the live view."""

import json
import xml.etree.ElementTree as ET
from io import StringIO

import pytest
from rich.console import Console

from e2e.demo.bins import in_flight, quantile_over_time, rates
from e2e.demo.charts import Chart, Series, nice_top, render
from e2e.demo.record import RunRecord
from e2e.demo.report import clock, report, seconds
from e2e.demo.summary import summary
from e2e.demo.table import LoadView, line
from e2e.demo.table import render as render_table


def test_the_page_is_self_contained_and_tells_the_run(record: RunRecord) -> None:
    page = report(record)
    assert "Both pools grew and shrank" in page
    assert page.count("<svg") == 7
    assert "src=" not in page
    assert "href=" not in page
    assert "1.7 replicas needed: 3100 queued tokens &lt;over&gt; 900 tokens/s" in page, "messages are escaped"


def test_a_run_that_fell_short_says_why_on_the_page(record: RunRecord) -> None:
    record.errors.append("engines were not Ready within 300 s")
    page = report(record)
    assert "did not show what it is for" in page
    assert "engines were not Ready within 300 s" in page


def test_a_run_that_never_began_still_gives_a_page_and_figures() -> None:
    empty = RunRecord("default/chat", errors=["no cluster"])
    assert "no cluster" in report(empty)
    assert summary(empty)["passed"] is False


def test_the_summary_is_json_with_counts_quantiles_replicas_and_decisions(record: RunRecord) -> None:
    figures = json.loads(json.dumps(summary(record)))
    assert figures["passed"] is True
    assert figures["requests"]["sent"] == figures["requests"]["ok"] == len(record.sent_at)
    assert figures["requests"]["ttft_s"]["p95"] > figures["requests"]["ttft_s"]["p50"] > 0
    assert [change["serving"] for change in figures["replicas"]["decode"]] == [1, 1, 2, 1, 1]
    assert [change["draining"] for change in figures["replicas"]["decode"]] == [0, 0, 0, 1, 0]
    assert len(figures["decisions"]) == 4
    assert set(figures["requests"]["phases"]) == {"warm", "high", "low"}


def test_a_decision_seen_twice_is_kept_once(record: RunRecord) -> None:
    record.note_decisions(record.decisions)
    assert len(record.decisions) == 4


@pytest.mark.parametrize(
    ("highest", "whole", "expected"),
    [(0.83, False, (1.0, 0.2)), (2, True, (2, 1)), (0, True, (1, 1)), (47, False, (50, 10)), (12, True, (15, 5))],
)
def test_axes_end_at_round_numbers(highest: float, whole: bool, expected: tuple[float, float]) -> None:
    assert nice_top(highest, whole) == pytest.approx(expected)


def test_a_gap_in_the_data_is_a_gap_in_the_line() -> None:
    svg = render(Chart("t", "u", 10, [Series("a", "c", [(0, 1.0), (2, None), (4, 2.0), (6, 2.0)])]))
    (path,) = (e for e in ET.fromstring(svg) if e.tag == "path")  # noqa: S314 - our own output
    assert path.get("d", "").count("M") == 2


def test_rates_and_quantiles_by_bin() -> None:
    assert rates([0.5, 1.0, 11.0], 0, 20, 10) == [(5, 0.2), (15, 0.1)]
    assert quantile_over_time([(1, 4.0), (2, 6.0)], 0.5, 0, 20, 10) == [(5, 4.0), (15, None)]


def test_in_flight_counts_what_is_due_and_not_answered(record: RunRecord) -> None:
    assert in_flight(record.sent_at, record.results, record.sent_at[0]) == 1
    assert in_flight(record.sent_at, record.results, record.sent_at[-1] + 1000) == 0


def test_figures_read_well() -> None:
    assert [seconds(v) for v in (None, 0.0421, 1.234)] == ["-", "42 ms", "1.23 s"]
    assert [clock(v) for v in (None, 83.2, -5)] == ["-", "1:23", "-0:05"]


def test_the_live_view_shows_load_pools_and_the_last_reason(record: RunRecord) -> None:
    sample = record.samples[60]
    sample = type(sample)(sample.at, "high", sample.counts, sample.engines, {"decode": record.decisions[0]})
    load = LoadView(5.0, 4.5, 12, 300, 0, 1, 0.9, None)
    text = line(sample, load, 83)
    assert "offered 5.0/s served 4.5/s open 12 failed 0 cut 1" in text
    assert "decode ScaleUp" in text
    assert "no decision yet" in line(record.samples[0], load, 0)
    shown = StringIO()
    console = Console(width=160, file=shown)
    console.print(render_table(sample, load, 83))
    assert "ScaleUp: 1.7 replicas needed" in shown.getvalue()
    assert "900 ms" in shown.getvalue()
