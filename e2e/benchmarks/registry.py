"""All policies by name, each with its one knob, and how late each kind of controller sees its metrics."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from e2e.benchmarks.policies import engine_aware, forecasting, kubernetes
from e2e.benchmarks.policies.common import Facts
from headrace.api.roles import Role
from headrace.simulator.cell import Cell, headrace
from headrace.simulator.decode_engine import RESERVED_TOKENS
from headrace.simulator.policy import Policy
from headrace.simulator.request import Arrival
from headrace.simulator.results import Slo

HEADRACE = "headrace"
HEADROOMS = (0.8, 0.9, 1.0, 1.15, 1.35)  # Headrace's knob, the factor on every need; 1.0 is the product's default

# Mean age of a reading: half of Prometheus' usual 15 s scrape, half of Dynamo's 5 s forward-pass metrics (and of
# Headrace's own tick), half of the 2 s at which Knative's autoscaler scrapes pods, half of AIBrix' 10 s.
PROMETHEUS_LAG_S, TICK_LAG_S, POD_LAG_S, AIBRIX_LAG_S = 7.5, 2.5, 1.0, 5.0
LAGS: Mapping[str, float] = {
    "hpa-queue": PROMETHEUS_LAG_S, "hpa-kv": PROMETHEUS_LAG_S, "keda": PROMETHEUS_LAG_S,
    "wva-v1": PROMETHEUS_LAG_S, "wva-v2": PROMETHEUS_LAG_S, "heteroscale": PROMETHEUS_LAG_S,
    "sageserve": PROMETHEUS_LAG_S, "knative-kpa": POD_LAG_S, "blitz-band": POD_LAG_S, "ray-serve": AIBRIX_LAG_S,
    "aibrix-apa": AIBRIX_LAG_S,
}  # fmt: skip

FAMILIES = {**kubernetes.FAMILY, **engine_aware.FAMILY, **forecasting.FAMILY}
BASELINES = tuple(FAMILIES)
# One of each idea: queue, use, concurrency, KV gauge, predicted latency on a forecast floor, token rate, band.
QUICK_BASELINES = (
    "hpa-queue", "hpa-kv", "knative-kpa", "aibrix-apa", "dynamo-hybrid", "tokenscale", "blitz-band",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Entry:
    """One policy: its grid, the knob's default, and the age of its readings."""

    name: str
    grid: tuple[float, ...]
    default: float
    lag_s: float


def entry(name: str) -> Entry:
    """A policy by name. Raises LookupError that lists the known ones."""
    if name == HEADRACE:
        return Entry(HEADRACE, HEADROOMS, 1.0, TICK_LAG_S)
    if name not in FAMILIES:
        raise LookupError(f"policy {name!r} is unknown. Known: {', '.join((HEADRACE, *BASELINES))}.")
    made, grid = FAMILIES[name]
    knob = list(inspect.signature(made).parameters.values())[1]
    return Entry(name, grid, float(knob.default), LAGS.get(name, TICK_LAG_S))


def facts(cell: Cell, slo: Slo, arrivals: Sequence[Arrival]) -> Facts:
    """What the operator of a baseline would have profiled: the simulated truth, at the window's own mean lengths.

    More than Headrace gets, which starts from the catalogue. Saturated prefill of Llama-8B on H100 at 1,500-token
    prompts, KV sent step by step: 1 / (23.2 us + 0.5 x 1,500 x 0.784 ns + 5.43 us) = 34,000 tokens a second.
    """
    times, shape = cell.profile.times, cell.profile.shape
    tokens = sum(max(a.input_tokens, 1) for a in arrivals)
    squares = sum(a.input_tokens**2 for a in arrivals)
    sent_s = times.transfer.token_s if Role.PREFILL in cell.profile.roles(cell.topology) else 0.0
    work_s = (times.busy.token_s + sent_s) * tokens + 0.5 * times.busy.context_s * squares
    roles = cell.profile.roles(cell.topology)
    return Facts(
        ttft_s=slo.ttft_s,
        tpot_s=slo.tpot_s,
        prefill_tokens_per_s=tokens / work_s,
        step_base_s=times.decode.decode_fixed_s(64),
        step_per_request_s=times.decode.decode_sequence_s,
        step_per_kv_token_s=times.decode.decode_kv_token_s,
        kv_tokens=shape.kv_capacity_tokens,
        reserved_tokens=RESERVED_TOKENS,
        max_running=shape.max_running,
        context_length=max(a.input_tokens + a.output_tokens for a in arrivals),
        min_replicas=dict.fromkeys(roles, cell.minimum),
        max_replicas=dict.fromkeys(roles, cell.maximum),
    )


def build(name: str, knob: float, cell: Cell, slo: Slo, arrivals: Sequence[Arrival]) -> Policy:
    """The policy itself, fresh for one run."""
    if name == HEADRACE:
        return headrace(cell, slo, headroom=knob)
    make = cast("Callable[[Facts, float], Policy]", FAMILIES[name][0])
    return make(facts(cell, slo, arrivals), knob)
