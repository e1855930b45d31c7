"""Where signals come from: every engine asked directly, Prometheus for those that can't be."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from headrace.autoscaler.signals import EngineLoad, EngineState, GatewaySample
from headrace.engines.client import EngineClient, Reading
from headrace.prom.client import PodKey, PrometheusClient, PrometheusDownError, Scraped


@dataclass(frozen=True, slots=True)
class Sample:
    """The newest thing known of one engine."""

    at: float  # epoch seconds of the read or the scrape
    load: EngineLoad
    state: EngineState | None
    source: str  # loads+state, loads, prometheus


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One read of the fleet. Pods that nothing is known of are absent."""

    samples: Mapping[PodKey, Sample]
    errors: Mapping[PodKey, str]  # why an engine could not be read directly
    prometheus_problem: str = ""  # empty: it answered, or is not set up


class Sources(Protocol):
    """What the autoscale loop asks."""

    async def read(self, engines: Mapping[PodKey, str]) -> Snapshot:
        """Read all engines (pod -> "host:port"). Never raises."""
        ...

    async def gateways(self, services: Mapping[str, Mapping[str, str]]) -> dict[str, GatewaySample]:
        """What the gateways of each service hold (service -> name -> "host:port"); services not known are absent."""
        ...

    async def close(self) -> None:
        """Release sockets and threads."""
        ...


class LiveSources:
    """The real ones. Keeps each engine's last sample, so that one lost read makes it older and not unknown."""

    def __init__(self, engines: EngineClient, prometheus: PrometheusClient | None = None) -> None:
        self._engines = engines
        self._prometheus = prometheus
        self._last: dict[PodKey, Sample] = {}

    async def read(self, engines: Mapping[PodKey, str]) -> Snapshot:
        """Direct reads and Prometheus side by side, the newer sample of each engine counts."""
        names = {"/".join(pod): address for pod, address in engines.items()}
        readings, (scraped, problem) = await asyncio.gather(self._engines.engines(names), self._scraped())
        direct = {pod: readings["/".join(pod)] for pod in engines}
        self._last = {
            pod: sample
            for pod in engines
            if (sample := newest(direct[pod], scraped.get(pod), self._last.get(pod))) is not None
        }
        errors = {pod: reading.error for pod, reading in direct.items() if reading.load is None}
        return Snapshot(dict(self._last), errors, problem)

    async def gateways(self, services: Mapping[str, Mapping[str, str]]) -> dict[str, GatewaySample]:
        """One sample for each service whose gateways all answered."""
        found = await asyncio.gather(*(self._engines.gateway(addresses) for addresses in services.values()))
        return {service: sample for service, sample in zip(services, found, strict=True) if sample is not None}

    async def close(self) -> None:
        """Close the session and end the thread."""
        await self._engines.close()
        if self._prometheus is not None:
            self._prometheus.close()

    async def _scraped(self) -> tuple[dict[PodKey, Scraped], str]:
        if self._prometheus is None:
            return {}, ""
        try:
            return await self._prometheus.loads(), ""
        except PrometheusDownError as error:
            return {}, str(error)


def newest(direct: Reading, scraped: Scraped | None, last: Sample | None) -> Sample | None:
    """The direct reading if it succeeded; else the newer of what Prometheus has and what was known before."""
    if direct.load is not None:
        source = "loads+state" if direct.state is not None else "loads"
        return Sample(direct.at, direct.load, direct.state, source)
    fallback = None if scraped is None else Sample(scraped.at, scraped.load, None, "prometheus")
    known = [sample for sample in (fallback, last) if sample is not None]
    return max(known, key=lambda sample: sample.at, default=None)
