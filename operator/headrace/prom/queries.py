"""All PromQL in one table: one query per signal, for every engine of every service at once.

The engines' metric names depend on how they were scraped: `sglang:num_queue_reqs` in the plain text format,
`sglang_num_queue_reqs` in OpenMetrics. Both are matched, and so is a name of older releases (`engines/versions.py`).
Ranks of one replica: tensor-parallel ranks repeat the same figure (their maximum is taken), data-parallel ranks each
have their own (they are added up).
The labels `namespace` and `pod` are those that the usual scrape configurations attach.
"""

from collections.abc import Mapping

_POD = "namespace, pod"


def _selector(metric: str) -> str:
    return f'{{__name__=~"sglang[:_]{metric}", pod!=""}}'


def _per_replica(metric: str) -> str:
    return f"sum by ({_POD}) (max by ({_POD}, dp_rank) ({_selector(metric)}))"


# EngineLoad field -> query. The value is the replica's.
LOAD: Mapping[str, str] = {
    "running_requests": _per_replica("num_running_reqs"),
    "waiting_requests": _per_replica("num_queue_reqs"),
    "used_tokens": _per_replica("num_used_tokens"),
    "max_total_tokens": _per_replica("max_total_num_tokens"),
    "prefill_bootstrap_requests": _per_replica("num_prefill_(bootstrap|prealloc)_queue_reqs"),
    "prefill_inflight_requests": _per_replica("num_prefill_inflight_queue_reqs"),
    "decode_prealloc_requests": _per_replica("num_decode_prealloc_queue_reqs"),
    "decode_transfer_requests": _per_replica("num_decode_transfer_queue_reqs"),
}
# Fields without which there is no sample; the others count as 0 only where the engine has no such queue.
REQUIRED = ("running_requests", "waiting_requests", "used_tokens", "max_total_tokens")

# When the samples were scraped, epoch seconds. An instant query goes back five minutes, so a value alone says nothing
# about its age.
SCRAPED_AT = f"min by ({_POD}) (timestamp({_selector('num_running_reqs')}))"
