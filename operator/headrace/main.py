"""Wiring of the operator process: settings in, exit status out."""

import asyncio
import os
import random
import signal
from pathlib import Path

import structlog

from headrace.clock import SystemClock
from headrace.engines.client import EngineClient
from headrace.engines.sources import LiveSources
from headrace.kube.client import KubeClient, connect
from headrace.kube.interface import KubeError
from headrace.loops.autoscale import AutoscaleLoop
from headrace.loops.book import DecisionBook
from headrace.loops.calibration_store import CalibrationStore
from headrace.loops.decision_log import DecisionLog
from headrace.loops.lease import LeadershipLost
from headrace.loops.reconcile import Reconciler
from headrace.loops.supervisor import Loops, Operator, Parts, WatchesEnded
from headrace.observability.logging import configure
from headrace.observability.metrics import Metrics
from headrace.prom.client import PrometheusClient
from headrace.settings import Settings

log = structlog.get_logger(__name__)

EXIT_FAILED = 1  # the kubelet restarts the container


def main(settings: Settings) -> int:
    """Run until SIGTERM or SIGINT: 0. Any other end: 1, logged with its reason."""
    configure(settings.log_level)
    return asyncio.run(_serve(settings))


async def _serve(settings: Settings) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        await serve(settings, stop)
    except (LeadershipLost, WatchesEnded) as ended:
        log.error("ending for a clean start", reason=str(ended))  # noqa: TRY400  the reason says it all
        # Not through asyncio.run, which waits for tasks that may not end: others lead now.
        os._exit(EXIT_FAILED)
    except (KubeError, OSError) as error:
        log.error("cannot run", error=str(error))  # noqa: TRY400  a message for people
        return EXIT_FAILED
    except Exception:
        log.exception("the operator failed")
        return EXIT_FAILED
    log.info("stopped")
    return 0


async def serve(settings: Settings, stop: asyncio.Event) -> None:
    """The operator on the machine's clock and randomness, until `stop`."""
    metrics = Metrics()
    rng = random.Random()  # noqa: S311  jitter
    async with connect(settings.max_requests) as api:
        kube = KubeClient.create_for(api, settings, metrics, rng)
        operator = Operator(settings, kube, make_loops, clock=SystemClock(), rng=rng, metrics=metrics)
        await operator.run(stop)


def make_loops(parts: Parts) -> Loops:
    """The reconciler and the autoscaler, with the book between them and one client for the engines."""
    engines = EngineClient(parts.clock)
    url = parts.settings.prometheus_url
    sources = LiveSources(engines, PrometheusClient(url) if url else None)
    book = DecisionBook()
    folder = parts.settings.decision_log_dir
    decision_log = DecisionLog(Path(folder), parts.settings.decision_log_bytes) if folder else None
    reconciler = Reconciler(
        parts.kube,
        parts.settings,
        parts.clock,
        book,
        parts.pods,
        parts.recorder,
        parts.metrics,
        engines=engines,
    )
    autoscale = AutoscaleLoop(
        parts.kube,
        parts.settings,
        parts.clock,
        book,
        parts.pods,
        parts.enqueue,
        parts.services,
        parts.metrics,
        sources,
        decision_log,
        CalibrationStore(parts.kube),
    )

    async def close() -> None:
        await sources.close()
        if decision_log is not None:
            await asyncio.to_thread(decision_log.close)

    return Loops(reconcile=reconciler.reconcile, autoscale=autoscale.run, close=close)
