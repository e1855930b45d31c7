"""The bodies of SGLang's own endpoints, from the batcher's state."""

import time
from datetime import UTC, datetime
from typing import Any

from headrace_engine.ledger import RequestLedger
from headrace_engine_config import EngineConfig
from headrace_standin.batching import Batcher


def loads(batcher: Batcher) -> dict[str, Any]:
    """`/v1/loads`, the shape of SGLang 0.5.23."""
    counters, knobs = batcher.counters, batcher.knobs
    waiting, used = len(batcher.waiting), batcher.used_tokens
    prealloc = waiting if batcher.role == "decode" else 0
    row = {
        "timestamp": time.time(),
        "dp_rank": 0,
        "num_running_reqs": len(batcher.running),
        "num_waiting_reqs": waiting,
        "num_waiting_uncached_tokens": sum(job.prompt_tokens - job.prefilled for job in batcher.waiting),
        "num_used_tokens": used,
        "num_total_tokens": used,
        "num_active_tokens": used,
        "num_prealloc_ready_tokens": 0,
        "max_total_num_tokens": knobs.kv_tokens,
        "max_running_requests": knobs.max_running,
        "token_usage": round(used / knobs.kv_tokens, 4),
        "gen_throughput": 0.0,
        "cache_hit_rate": 0.0,
        "utilization": 0.0,
        "total_prefill_uncached_tokens": counters.prefill_tokens,
        "total_prefill_busy_us": counters.prefill_busy_us,
        "decode_moments": list(counters.moments),
        "memory": {"weight_gb": 0.0, "kv_cache_gb": 0.0, "graph_gb": 0.0, "token_capacity": knobs.kv_tokens},
        "disaggregation": {
            "mode": "null" if batcher.role == "worker" else batcher.role,
            "prefill_bootstrap_queue_reqs": 0,
            "prefill_inflight_queue_reqs": 0,
            "decode_prealloc_queue_reqs": prealloc,
            "decode_transfer_queue_reqs": 0,
            "decode_retracted_queue_reqs": 0,
            "kv_transfer_speed_gb_s": 0.0,
            "kv_transfer_latency_ms": 0.0,
        },
        "queues": {"waiting": waiting, "grammar": 0, "paused": 0, "retracted": 0, "prealloc_ready": 0},
    }
    answered = datetime.now(UTC).isoformat()
    return {"timestamp": answered, "version": "0.5.23", "accelerator": None, "num_accelerators": 1, "loads": [row]}


def metrics(batcher: Batcher, model: str) -> str:
    """`/metrics` under SGLang's names."""
    engine_type = {"worker": "unified"}.get(batcher.role, batcher.role)
    labels = f'{{engine_type="{engine_type}",model_name="{model}",tp_rank="0",pp_rank="0",moe_ep_rank="0"}}'
    gauges = {
        "num_running_reqs": len(batcher.running),
        "num_queue_reqs": len(batcher.waiting),
        "num_used_tokens": batcher.used_tokens,
        "max_total_num_tokens": batcher.knobs.kv_tokens,
        "token_usage": batcher.used_tokens / batcher.knobs.kv_tokens,
    }
    counters = {
        "prompt_tokens_total": batcher.counters.prompt_tokens,
        "generation_tokens_total": batcher.counters.generated_tokens,
        "num_requests_total": batcher.counters.requests,
    }
    lines = []
    for kind, values in (("gauge", gauges), ("counter", counters)):
        for name, value in values.items():
            lines += [f"# TYPE sglang:{name} {kind}", f"sglang:{name}{labels} {float(value)}"]
    return "\n".join(lines) + "\n"


def own_metrics(ledger: RequestLedger) -> str:
    """What `headrace-engine` adds to `/metrics`."""
    lines = [
        "# TYPE headrace_engine_queued_tokens gauge",
        f"headrace_engine_queued_tokens {float(ledger.queued_tokens)}",
    ]
    for name, value in ledger.totals.items():
        lines += [f"# TYPE headrace_engine_{name}_total counter", f"headrace_engine_{name}_total {float(value)}"]
    return "\n".join(lines) + "\n"


def server_info(config: EngineConfig, batcher: Batcher) -> dict[str, Any]:
    """What a gateway asks a new worker for."""
    mode = "null" if config.role == "worker" else config.role
    return {
        "model_path": config.model_path,
        "served_model_name": config.served_model_name,
        "tokenizer_path": config.model_path,
        "tp_size": 1,
        "dp_size": 1,
        "max_total_num_tokens": batcher.knobs.kv_tokens,
        "max_running_requests": batcher.knobs.max_running,
        "disaggregation_mode": mode,
        "disaggregation_bootstrap_port": config.bootstrap_port,
        "version": config.sglang_version,
        "status": "ready",
    }


def model_info(config: EngineConfig) -> dict[str, Any]:
    """`/model_info`."""
    return {
        "model_path": config.model_path,
        "tokenizer_path": config.model_path,
        "is_generation": True,
        "served_model_name": config.served_model_name,
        "model_type": "standin",
        "architectures": ["StandIn"],
    }


def models(config: EngineConfig) -> dict[str, Any]:
    """`/v1/models`."""
    card = {"id": config.served_model_name, "object": "model", "owned_by": "headrace", "root": config.served_model_name}
    return {"object": "list", "data": [card]}
