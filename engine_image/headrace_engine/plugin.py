"""The hooks between SGLang's tokenizer manager and the ledger and the drain; SGLang loads this in each process."""

import logging
import os
import time
from typing import Any

from headrace_engine import cpu_compat, queue_order
from headrace_engine.drain import CUT_SHORT, DrainSwitch, bounded_sigterm
from headrace_engine.ledger import RequestLedger

log = logging.getLogger(__name__)
ROLE_VARIABLE = "HEADRACE_ENGINE_ROLE"
DRAIN_VARIABLE = "HEADRACE_ENGINE_DRAIN_SECONDS"
MANAGER = "sglang.srt.managers.tokenizer_manager.TokenizerManager"

LEDGER = RequestLedger(os.environ.get(ROLE_VARIABLE, "worker"), time.time())  # the engine's clock
DRAIN = DrainSwitch()
STAMPER = queue_order.Stamper(LEDGER.role)
HOOKED = False  # SGLang logs a plugin that fails and goes on; the server checks this


def register() -> None:
    """Entry point `sglang.srt.plugins`. Does nothing unless `headrace-engine serve` started this process."""
    role = os.environ.get(ROLE_VARIABLE)
    if role is None:
        return
    from sglang.srt.plugins.hook_registry import HookRegistry, HookType

    if cpu_compat.on_cpu() and role == "prefill":
        cpu_compat.patch_mooncake()
    deadline_s = float(os.environ.get(DRAIN_VARIABLE, "60"))
    register_hook = HookRegistry.register
    register_hook(f"{MANAGER}._send_one_request", _note_one, HookType.BEFORE)
    register_hook(f"{MANAGER}._send_batch_request", _note_batch, HookType.BEFORE)
    register_hook(f"{MANAGER}.collect_metrics", _note_progress, HookType.AFTER)
    register_hook(f"{MANAGER}.is_ready", _ready_unless_draining, HookType.AFTER)
    sigterm = bounded_sigterm(deadline_s, time.monotonic, lambda: os._exit(CUT_SHORT))
    register_hook(f"{MANAGER}.sigterm_watchdog", sigterm, HookType.AROUND)
    queue_order.register(role)
    global HOOKED  # noqa: PLW0603 - once in a process's life
    HOOKED = True


def unhooked() -> list[str]:
    """What of ours SGLang could not hook, by its name there: it logs that and goes on."""
    from sglang.srt.plugins.hook_registry import HookRegistry

    ours = {
        target
        for target, hooks in HookRegistry._hooks.items()
        if any(hook.__module__.partition(".")[0] == __package__ for _type, hook, _source in hooks)
    }
    return sorted(ours - HookRegistry._patched)


def _note_one(manager: Any, tokenized: Any) -> None:
    starting = manager.server_status.name == "Starting"  # a warm-up is nobody's demand
    if not starting and not str(tokenized.rid).startswith("HEALTH_CHECK"):
        LEDGER.arrived(tokenized.rid, len(tokenized.input_ids or ()), time.time())
        STAMPER.stamp(tokenized, time.monotonic())


def _note_batch(manager: Any, tokenized: list[Any]) -> None:
    for one in tokenized:
        _note_one(manager, one)


def _note_progress(_result: None, _manager: Any, state: Any, output: Any, i: int) -> None:
    rid, now = output.rids[i], time.time()
    counts = getattr(output, "completion_tokens", None)  # vectors have none
    tokens = counts[i] if counts else 0
    cached = output.cached_tokens[i] if output.cached_tokens else 0
    first_at = _first_token_at(state, output, i)
    LEDGER.progressed(rid, tokens, cached, None if first_at is None else now - (time.perf_counter() - first_at))
    if (output.finished_reasons[i] or {}).get("type") == "abort":
        LEDGER.aborted(rid)
    elif state.finished:
        LEDGER.finished(rid, tokens, now)


def _first_token_at(state: Any, output: Any, i: int) -> float | None:
    """When a request's first token was there, on SGLang's own clock (time.perf_counter); None: not known.

    An answer that is not streamed is reported every 50 tokens and at its end, so only the scheduler knows: by the end
    of the prefill, or on a decode engine, to which the first token comes with the KV cache, by its entry into a batch.
    """
    if getattr(state.obj, "stream", False):
        return float(state.time_stats.first_token_time)
    if not output.time_stats:
        return None
    stats = output.time_stats[i]
    return stats.prefill_finished_time or stats.forward_entry_time or None


def _ready_unless_draining(ready: bool, _manager: Any) -> bool:
    return ready and not DRAIN.on
