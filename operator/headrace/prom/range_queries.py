"""The PromQL of replay: what the engines, the operator and the gateways of one service said, one query a figure.

The operator's series have the labels `namespace` and `service`. Prometheus calls them `exported_namespace` and
`exported_service` where its scrape configuration sets labels of these names itself (unless it honours ours), so both
are asked for. Of two operators only the one that led at the time counts.
"""

from dataclasses import dataclass

from headrace.loops.keys import Key
from headrace.prom.queries import LOAD, REQUIRED, SCRAPED_AT

ENGINES = (
    "Scrape /metrics on port 30000 of the pods with the label headrace.dev/role, and keep the labels namespace and pod."
)
_OPERATOR = "Scrape /metrics on port 8081 of the operator's pods; Headrace publishes it from this version on."
# The engine's own counters; SGLang's, which count a request only when it ends, where an older engine has none.
_COUNTERS = {
    "arrivals": "num_requests_total",
    "prompt_tokens": "prompt_tokens_total",
    "cached_tokens": "cached_tokens_total",
    "finished": "num_requests_total",
    "output_tokens": "generation_tokens_total",
}
_OWN = {
    "target": ("headrace_target_replicas", ("role",)),
    "mode": ("headrace_scaling_mode", ("mode",)),
    "workload": ("headrace_workload_replicas", ("role",)),
    "floor": ("headrace_floor_replicas", ("role",)),
    "replicas": ("headrace_replicas", ("role", "state")),
    "feedback": ("headrace_feedback_factor", ("half",)),
    "need": ("headrace_need_replicas", ("role", "constraint")),
    "startup": ("headrace_startup_seconds", ("role",)),
    "limit": ("headrace_limit", ("limit",)),
    "capacity": ("headrace_capacity", ("figure",)),
}


@dataclass(frozen=True, slots=True)
class Query:
    """One range query. `mend`: what to do where it has no series; empty: a replay does without."""

    metric: str
    text: str
    labels: tuple[str, ...] = ("pod",)
    mend: str = ""


def engine_queries(service: Key) -> dict[str, Query]:
    """Figure -> query by pod. Pods are known by their names, as the Deployments make them."""
    pods = _pods(service, "(prefill|decode|worker)")
    found = {
        name: Query(f"sglang:{_metric(text)}", text.replace('pod!=""', pods), mend=ENGINES if name in REQUIRED else "")
        for name, text in {**LOAD, "scraped_at": SCRAPED_AT}.items()
    }
    tokens = f'{{__name__=~"sglang[:_]realtime_tokens_total",mode="prefill_compute",{pods}}}'
    found["prefilled"] = Query("sglang:realtime_tokens_total", f"sum by (pod) (max by (pod, dp_rank) ({tokens}))")
    queued = "headrace_engine_queued_tokens"
    found["queued_tokens"] = Query(queued, f"max by (pod) ({queued}{{{pods}}})")
    for name, stock in _COUNTERS.items():
        ours = f"headrace_engine_{name}_total"
        theirs = f'sum by (pod) ({{__name__=~"sglang[:_]{stock}",{pods}}})'
        mend = "" if name == "cached_tokens" else ENGINES  # SGLang has no series before the first hit
        found[name] = Query(ours, f"max by (pod) ({ours}{{{pods}}}) or {theirs}", mend=mend)
    return found


def operator_queries(service: Key) -> dict[str, Query]:
    """Figure -> query of what the operator published."""
    found = {}
    for figure, (metric, labels) in _OWN.items():
        mine = (
            f'{metric}{{namespace="{service.namespace}",service="{service.name}"}}'
            f' or {metric}{{exported_namespace="{service.namespace}",service="{service.name}"}}'
            f' or {metric}{{exported_namespace="{service.namespace}",exported_service="{service.name}"}}'
        )
        leading = f"({mine}) and on (job, instance) (headrace_leader == 1)"
        found[figure] = Query(metric, f"max by ({', '.join(labels)}) ({leading})", labels, _OPERATOR)
    return found


def service_queries(service: Key) -> dict[str, Query]:
    """What the gateways hold."""
    held = f"sum(smg_admission_queue_depth{{{_pods(service, 'gateway')}}})"
    return {"gateway_queued": Query("smg_admission_queue_depth", held, ())}


def _pods(service: Key, roles: str) -> str:
    name = service.name.replace(".", "[.]")
    return f'namespace="{service.namespace}",pod=~"{name}-{roles}-[a-z0-9]+-[a-z0-9]+"'


def _metric(text: str) -> str:
    return text.partition("sglang[:_]")[2].partition('"')[0]
