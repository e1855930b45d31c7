"""Reads the service while the load runs: pods and status from the API server, signals from Prometheus."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from e2e.demo.observe import ENGINE_QUERY, count_pods, engine_signals, latest_decision, recent_decisions
from e2e.demo.record import EngineSignals, RunRecord, Sample
from e2e.demo.script import NAMESPACE
from e2e.load.clock import wall_clock
from headrace.cli.connection import kube as connect
from headrace.kube.interface import Kube, KubeError
from headrace.kube.kinds import INFERENCE_SERVICE, POD

INTERVAL_S = 2.0  # Prometheus scrapes as often; a pod's changes of state are slower


class Watcher:
    """Takes a sample every INTERVAL_S and keeps it in the record. What can't be read is left out of that sample."""

    def __init__(self, kube: Kube, session: aiohttp.ClientSession, name: str, prometheus_url: str, record: RunRecord):
        self._kube = kube
        self._session = session
        self._name = name
        self._prometheus_url = prometheus_url
        self._record = record
        self.phase = ""
        self.changed = asyncio.Event()  # set at every new sample

    async def run(self) -> None:
        """Sample until cancelled."""
        while True:
            with contextlib.suppress(KubeError):  # the next sample comes soon; the line in the plot has a gap
                self._record.samples.append(await self._sample())
                self.changed.set()
            await asyncio.sleep(INTERVAL_S)

    async def _sample(self) -> Sample:
        pods, service, engines = await asyncio.gather(
            self._kube.list(POD, NAMESPACE, {"headrace.dev/service": self._name}),
            self._kube.get(INFERENCE_SERVICE, NAMESPACE, self._name),
            self._engines(),
        )
        self._record.note_decisions(recent_decisions(service or {}))
        return Sample(wall_clock(), self.phase, count_pods(pods), engines, latest_decision(service or {}))

    async def _engines(self) -> dict[str, EngineSignals]:
        query = {"query": ENGINE_QUERY.format(service=self._name)}
        try:
            async with self._session.get(f"{self._prometheus_url}/api/v1/query", params=query) as response:
                body: dict[str, Any] = await response.json() if response.status == 200 else {}
        except (aiohttp.ClientError, TimeoutError, ValueError):
            return {}
        return engine_signals(body)


@asynccontextmanager
async def watching(name: str, prometheus_url: str, record: RunRecord) -> AsyncIterator[Watcher]:
    """A watcher that samples while the block runs. The cluster is that of $KUBECONFIG."""
    timeout = aiohttp.ClientTimeout(total=INTERVAL_S)
    async with connect() as kube, aiohttp.ClientSession(timeout=timeout) as session:
        watcher = Watcher(kube, session, name, prometheus_url, record)
        task = asyncio.create_task(watcher.run())
        try:
            yield watcher
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
