"""The endpoints that Headrace adds to SGLang's own application."""

import time
from typing import Any

from headrace_engine.plugin import DRAIN, LEDGER

# The ledger's sums as counters headrace_engine_<name>_total; SGLang counts a request only when it ends.
TOTALS = {
    "arrivals": "Requests accepted",
    "prompt_tokens": "Prompt tokens of accepted requests, cached ones included",
    "cached_tokens": "Prompt tokens that the prefix cache had",
    "finished": "Requests that ended with all their tokens",
    "output_tokens": "Output tokens of requests that ended with all their tokens",
}


def add_routes(app: Any, manager: Any) -> None:
    """`/headrace/state` and `/headrace/drain`; `manager` gives the live tokenizer manager when called."""

    async def state() -> dict[str, Any]:
        live = manager()
        LEDGER.keep_only(live.rid_to_state)
        return LEDGER.snapshot(time.time(), ready=live.is_ready(), draining=DRAIN.on)

    async def drain() -> dict[str, bool]:
        return {"draining": DRAIN.on, "idle": not manager().rid_to_state}

    async def set_drain(body: dict[str, bool]) -> dict[str, bool]:
        DRAIN.on = bool(body.get("on", True))
        return await drain()

    app.add_api_route("/headrace/state", state, methods=["GET"])
    app.add_api_route("/headrace/drain", drain, methods=["GET"])
    app.add_api_route("/headrace/drain", set_drain, methods=["POST"])


def add_metrics(started_at: float) -> None:
    """Gauges and counters on the engine's `/metrics`; call it after SGLang has set up prometheus_client's directory.

    Its multi-process mode knows no callbacks, so the ledger refreshes them at each change.
    """
    from prometheus_client import Counter, Gauge  # its multi-process mode is decided at import

    queued = Gauge(
        "headrace_engine_queued_tokens",
        "Prompt tokens of accepted requests that have no first token yet",
        multiprocess_mode="mostrecent",
    )
    counters = {name: Counter(f"headrace_engine_{name}", text) for name, text in TOTALS.items()}
    told = dict.fromkeys(TOTALS, 0)

    def refresh() -> None:
        queued.set(LEDGER.queued_tokens)
        for name, counter in counters.items():
            counter.inc(LEDGER.totals[name] - told[name])
            told[name] = LEDGER.totals[name]

    refresh()
    LEDGER.on_change = refresh
    startup = Gauge(
        "headrace_engine_startup_seconds", "Seconds from process start to readiness", multiprocess_mode="mostrecent"
    )
    startup.set(time.time() - started_at)
