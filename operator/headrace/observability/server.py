"""/metrics, /healthz and /readyz over HTTP."""

import asyncio
from collections.abc import Callable

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

Probe = Callable[[], list[str]]  # problems in words; empty: fine


class StatusServer:
    """Serves in the event loop that starts it: a loop that hangs doesn't answer, and the kubelet notices."""

    def __init__(self, registry: CollectorRegistry, live: Probe, ready: Probe) -> None:
        self._registry = registry
        self._live = live
        self._ready = ready
        self._runner: web.AppRunner | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen; the port taken. OSError where it is in use."""
        app = web.Application()
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/healthz", lambda _: probe_response(self._live()))
        app.router.add_get("/readyz", lambda _: probe_response(self._ready()))
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False)
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port).start()
        return int(self._runner.addresses[0][1])

    async def stop(self) -> None:
        """Close the port."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _metrics(self, _: web.Request) -> web.Response:
        # 1,000 services have 60,000 series: half a second, which the loop must not stand still.
        body = await asyncio.to_thread(generate_latest, self._registry)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})


async def probe_response(problems: list[str]) -> web.Response:
    """200 ok, or 503 and what is wrong."""
    return web.Response(status=503 if problems else 200, text="\n".join(problems or ["ok"]) + "\n")
