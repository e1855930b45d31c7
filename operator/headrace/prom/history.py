"""Range queries for replay (shell, blocking): every signal of one service over a stretch of time."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import requests
from prometheus_api_client.exceptions import PrometheusApiClientException
from prometheus_api_client.prometheus_connect import PrometheusConnect
from urllib3.util.retry import Retry

from headrace.autoscaler.recording import Column, Recording
from headrace.loops.keys import Key
from headrace.prom.client import PrometheusDownError
from headrace.prom.range_queries import ENGINES, Query, engine_queries, operator_queries, service_queries

TIMEOUT_S = 60  # of one query: an hour of fifty engines takes a busy Prometheus seconds
POINTS = 10_000  # a query: Prometheus refuses more than 11,000 for each series


class MissingSeriesError(Exception):
    """Prometheus has no series that a replay can't do without. The message names it and the mend."""


@dataclass(frozen=True, slots=True)
class Span:
    """Ticks from `start` to `end`, whole epoch seconds, `step_s` apart."""

    start: int
    end: int
    step_s: int

    def chunks(self) -> Iterator["Span"]:
        """Parts that one query may ask for."""
        width = POINTS * self.step_s
        for start in range(self.start, self.end + 1, width):
            yield Span(start, min(start + width - self.step_s, self.end), self.step_s)

    def ticks(self) -> tuple[float, ...]:
        """All moments."""
        return tuple(float(at) for at in range(self.start, self.end + 1, self.step_s))

    def __str__(self) -> str:
        first, last = (datetime.fromtimestamp(at, UTC) for at in (self.start, self.end))
        return f"between {first:%Y-%m-%d %H:%M:%S} and {last:%Y-%m-%d %H:%M:%S} UTC"


class PrometheusHistory:
    """One Prometheus, asked for stretches of time."""

    def __init__(self, url: str) -> None:
        self._connect = PrometheusConnect(url=url.rstrip("/"), retry=Retry(0, read=False), timeout=TIMEOUT_S)

    def record(self, service: Key, span: Span) -> Recording:
        """All that is known of a service. Raises PrometheusDownError, MissingSeriesError."""
        engines = self._table(engine_queries(service), span)
        if not engines["queued_tokens"] and not engines["prefilled"]:  # neither ours nor stock: nothing tells the load
            names = "neither headrace_engine_queued_tokens nor sglang:realtime_tokens_total"
            raise MissingSeriesError(f"Prometheus has {names} {span}. {ENGINES}")
        return Recording(
            service=str(service),
            ticks=span.ticks(),
            engines=engines,
            own=self._table(operator_queries(service), span),
            sums=self._table(service_queries(service), span),
        )

    def _table(self, queries: Mapping[str, Query], span: Span) -> dict[str, dict[str, Column]]:
        """Figure -> series (its labels' values, joined) -> column."""
        table = {}
        for figure, query in queries.items():
            columns = self._columns(query, span)
            if query.mend and not columns:
                raise MissingSeriesError(f"Prometheus has no {query.metric} {span}. {query.mend}")
            table[figure] = columns
        return table

    def _columns(self, query: Query, span: Span) -> dict[str, Column]:
        columns: dict[str, dict[float, float]] = {}
        for part in span.chunks():
            for series in self._ask(query.text, part):
                try:
                    key = "/".join(series["metric"][label] for label in query.labels)
                    points = {float(at): float(value) for at, value in series["values"]}
                except (KeyError, TypeError, ValueError) as error:
                    raise PrometheusDownError(
                        f"Prometheus gave a malformed answer for {query.metric}: {error!r}"
                    ) from None
                columns.setdefault(key, {}).update({at: v for at, v in points.items() if v - v == 0.0})  # finite
        return {key: points for key, points in columns.items() if points}

    def _ask(self, text: str, span: Span) -> Any:
        first, last = (datetime.fromtimestamp(at, UTC) for at in (span.start, span.end))
        try:
            return self._connect.custom_query_range(text, first, last, f"{span.step_s}s")
        except PrometheusApiClientException as error:
            raise PrometheusDownError(f"Prometheus refused a query: {str(error)[:200]}") from None
        except requests.Timeout:
            raise PrometheusDownError(f"Prometheus did not answer within {TIMEOUT_S} s: ask for less time") from None
        except requests.RequestException as error:
            raise PrometheusDownError(
                f"Prometheus can't be reached at {self._connect.url}: {type(error).__name__}"
            ) from None
        except (KeyError, TypeError, ValueError) as error:
            raise PrometheusDownError(f"Prometheus gave a malformed answer: {error!r}") from None
