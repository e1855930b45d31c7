"""The HTTP application: SGLang's endpoints and Headrace's own."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from headrace_engine.drain import DrainSwitch
from headrace_engine.ledger import RequestLedger
from headrace_engine_config import EngineConfig
from headrace_standin import answers, endpoints
from headrace_standin.batching import Batcher, Job, Knobs

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class StandIn:
    """One stand-in engine."""

    def __init__(self, config: EngineConfig) -> None:
        self.config = config
        self.knobs = Knobs.of(config)
        self.ledger = RequestLedger(config.role, time.time())
        self.drain = DrainSwitch()
        self.batcher = Batcher(self.knobs, config.role, self._progressed)
        self.batcher.slow_s = config.slow_down_seconds or 0.0
        self.started = False
        self.ending = False
        self.open: set[Job] = set()

    def _progressed(self, job: Job) -> None:
        now = time.time()
        self.ledger.progressed(job.rid, job.generated, 0, now)
        if job.generated >= (1 if self.config.role == "prefill" else job.output_tokens):
            self.ledger.finished(job.rid, job.generated, now)

    @property
    def ready(self) -> bool:
        """Whether new requests are welcome."""
        return self.started and not self.ending and not self.drain.on

    @asynccontextmanager
    async def job(self, body: dict[str, Any]) -> AsyncIterator[Job]:
        """A request's life in the engine; it is taken out if the client goes away."""
        job = Job(uuid.uuid4().hex, answers.prompt_tokens(body), answers.output_tokens(body))
        self.ledger.arrived(job.rid, job.prompt_tokens, time.time())
        self.open.add(job)
        self.batcher.submit(job)
        try:
            yield job
        finally:
            self.open.discard(job)
            self.batcher.cancel(job)
            self.ledger.keep_only({other.rid for other in self.open})

    async def complete(self, request: web.Request) -> web.StreamResponse:
        """Chat, completions and SGLang's own generate."""
        body = await request.json()
        chat, model = "messages" in body, self.config.served_model_name
        async with self.job(body) as job:
            if not body.get("stream"):
                text = "".join([word async for word in answers.words(job)])
                if request.path == "/generate":
                    return web.json_response({"text": text, "meta_info": {"id": job.rid, **answers.usage(job)}})
                return web.json_response(answers.whole(chat, job, model, text))
            response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
            await response.prepare(request)
            async for word in answers.words(job):
                await response.write(answers.chunk(chat, job.rid, model, word, None))
            await response.write(answers.chunk(chat, job.rid, model, None, "length"))
            if (body.get("stream_options") or {}).get("include_usage"):
                tail = answers.envelope(chat, job.rid, model, streaming=True)
                await response.write(answers.event(tail | {"choices": [], "usage": answers.usage(job)}))
            await response.write(b"data: [DONE]\n\n")
            return response

    async def slow_down(self, request: web.Request) -> web.Response:
        """A sleep in each step; null takes it off."""
        self.batcher.slow_s = float((await request.json()).get("forward_sleep_time") or 0.0)
        return web.Response()

    async def set_drain(self, request: web.Request) -> web.Response:
        """Readiness off or on."""
        self.drain.on = bool((await request.json()).get("on", True))
        return self.drain_state()

    def drain_state(self) -> web.Response:
        """Whether it drains, and whether it is idle."""
        return web.json_response({"draining": self.drain.on, "idle": not self.open})

    def metrics(self) -> str:
        """`/metrics`: SGLang's and Headrace's own."""
        return endpoints.metrics(self.batcher, self.config.served_model_name) + endpoints.own_metrics(self.ledger)

    def state(self) -> web.Response:
        """`/headrace/state`."""
        return web.json_response(self.ledger.snapshot(time.time(), ready=self.ready, draining=self.drain.on))


def _get(answer: Callable[[], web.StreamResponse]) -> Handler:
    async def handler(_request: web.Request) -> web.StreamResponse:
        return answer()

    return handler


def application(engine: StandIn) -> web.Application:
    """All routes; the batcher runs with the application."""
    app = web.Application(client_max_size=64 * 2**20)  # long prompts; the gateway has the real limit
    config, batcher = engine.config, engine.batcher
    for path in ("/v1/chat/completions", "/v1/completions", "/generate"):
        app.router.add_post(path, engine.complete)
    app.router.add_route("*", "/slow_down", engine.slow_down)
    app.router.add_post("/headrace/drain", engine.set_drain)
    alive = _get(lambda: web.Response(status=200 if engine.started and not engine.ending else 503))
    gets: dict[str, Handler] = {
        "/health": alive,
        "/health_generate": alive,
        "/ready": _get(lambda: web.Response(status=200 if engine.ready else 503)),
        "/v1/loads": _get(lambda: web.json_response(endpoints.loads(batcher))),
        "/metrics": _get(lambda: web.Response(text=engine.metrics())),
        "/v1/models": _get(lambda: web.json_response(endpoints.models(config))),
        "/headrace/state": _get(engine.state),
        "/headrace/drain": _get(engine.drain_state),
    }
    for name in ("/server_info", "/get_server_info"):
        gets[name] = _get(lambda: web.json_response(endpoints.server_info(config, batcher)))
    for name in ("/model_info", "/get_model_info"):
        gets[name] = _get(lambda: web.json_response(endpoints.model_info(config)))
    for path, handler in gets.items():
        app.router.add_get(path, handler)
    app.cleanup_ctx.append(_running(engine))
    return app


def _running(engine: StandIn) -> Callable[[web.Application], AsyncIterator[None]]:
    async def context(_app: web.Application) -> AsyncIterator[None]:
        async def start() -> None:
            await asyncio.sleep(engine.knobs.start_s)
            engine.started = True
            await engine.batcher.run()

        task = asyncio.create_task(start())
        yield
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    return context
