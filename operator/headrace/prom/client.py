"""Reads Prometheus (shell): blocking calls in one worker thread of their own, bounded in time, retried once."""

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import requests
from prometheus_api_client.exceptions import PrometheusApiClientException
from prometheus_api_client.prometheus_connect import PrometheusConnect
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_random
from urllib3.util.retry import Retry

from headrace.autoscaler.signals import EngineLoad
from headrace.prom.queries import LOAD, REQUIRED, SCRAPED_AT

# One request. Prometheus answers such queries in milliseconds; what it can't answer in two seconds is too late for a
# tick of five.
TIMEOUT_S = 2
ATTEMPTS = 2  # a restarting Prometheus loses a connection; a third try would be the next tick anyway
MAX_RUNNING_UNKNOWN = 256  # SGLang's metrics don't carry it; the capacity model's default

PodKey = tuple[str, str]  # namespace, pod


class PrometheusDownError(Exception):
    """Prometheus could not be asked, or refused the query. The message says why."""


@dataclass(frozen=True, slots=True)
class Scraped:
    """One engine's load and when it was scraped, epoch seconds."""

    at: float
    load: EngineLoad


class PrometheusClient:
    """Instant queries for the whole fleet."""

    def __init__(self, url: str) -> None:
        self._connect = PrometheusConnect(url=url.rstrip("/"), retry=Retry(0, read=False), timeout=TIMEOUT_S)
        # One thread: a Prometheus that hangs holds up its own queries, never the event loop or other threads.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="prometheus")

    def close(self) -> None:
        """End the thread; a query that hangs in it ends at its timeout."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def loads(self) -> dict[PodKey, Scraped]:
        """The last scraped load of every engine. Raises PrometheusDownError."""
        retrying = AsyncRetrying(
            stop=stop_after_attempt(ATTEMPTS),
            wait=wait_random(0.1, 0.3),
            retry=retry_if_exception_type(PrometheusDownError),
            reraise=True,
        )
        async for attempt in retrying:
            with attempt:
                return await asyncio.get_running_loop().run_in_executor(self._thread, self._read)
        raise AssertionError("unreachable: the last attempt raises")  # pragma: no cover

    def _read(self) -> dict[PodKey, Scraped]:
        scraped_at = self._query(SCRAPED_AT)
        columns = {field: self._query(query) for field, query in LOAD.items()}
        return join(scraped_at, columns)

    def _query(self, query: str) -> dict[PodKey, float]:
        try:
            return vector(self._connect.custom_query(query))
        except PrometheusApiClientException as error:
            raise PrometheusDownError(f"Prometheus refused a query: {str(error)[:200]}") from None
        except requests.Timeout:
            raise PrometheusDownError(f"Prometheus did not answer within {TIMEOUT_S} s") from None
        except requests.RequestException as error:
            raise PrometheusDownError(f"Prometheus can't be reached: {type(error).__name__}") from None
        except (KeyError, TypeError, ValueError) as error:
            raise PrometheusDownError(f"Prometheus gave a malformed answer: {error!r}") from None


def vector(result: Any) -> dict[PodKey, float]:
    """An instant vector by pod. NaN and infinite values are left out: they say nothing."""
    values = {}
    for series in result:
        labels, value = series["metric"], float(series["value"][1])
        if value - value == 0.0:  # neither NaN nor infinite
            values[labels["namespace"], labels["pod"]] = value
    return values


def join(scraped_at: Mapping[PodKey, float], columns: Mapping[str, Mapping[PodKey, float]]) -> dict[PodKey, Scraped]:
    """The samples of the pods for which every required figure is there."""
    samples = {}
    for pod, at in scraped_at.items():
        if all(pod in columns[field] for field in REQUIRED):
            figures: dict[str, Any] = {field: int(values[pod]) for field, values in columns.items() if pod in values}
            samples[pod] = Scraped(at, EngineLoad(max_running_requests=MAX_RUNNING_UNKNOWN, **figures))
    return samples
