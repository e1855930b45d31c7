"""What a Prometheus that scrapes every few seconds keeps of ticks that were driven: the recording that replay gets."""

import math
from collections.abc import Sequence
from typing import Any

from headrace.api.roles import Role
from headrace.autoscaler.capacity import CapacityModel
from headrace.autoscaler.figures import capacity_figures, limit_figures
from headrace.autoscaler.limits import Limits, Objective, RoleLimits
from headrace.autoscaler.memory import initial_memory, startup_s
from headrace.autoscaler.plan import plan
from headrace.autoscaler.recording import Recording
from headrace.autoscaler.replay import Tick
from headrace.autoscaler.signals import PodSample
from headrace.catalog.accelerators import lookup
from headrace.catalog.measured import LLAMA_8B
from headrace_fakes.fluid_fleet import FluidFleet

LOAD = ("running_requests", "waiting_requests", "used_tokens", "max_total_tokens")


def recording_of(ticks: Sequence[Tick], *, scrape_s: float = 15.0) -> Recording:
    """Engines and operator scraped every `scrape_s`; each tick of the recording shows the scrape before it."""
    own: dict[str, dict[str, dict[float, float]]] = {}
    engines: dict[str, dict[str, dict[float, float]]] = {}
    sums: dict[str, list[float]] = {}
    seen: dict[str, set[int]] = {}
    scraped: Tick | None = None
    for tick in ticks:
        _count(tick, sums, seen)
        at = tick.signals.at
        if scraped is None or math.floor(at / scrape_s) != math.floor(scraped.signals.at / scrape_s):
            scraped, totals = tick, {pod: list(row) for pod, row in sums.items()}
        _publish(own, scraped, at)
        alive = {pod.pod for pod in tick.signals.pods}
        for pod in scraped.signals.pods:
            if pod.load is not None and pod.pod in alive:
                _expose(engines, pod, totals.get(pod.pod, [0.0] * 5), scraped.signals.at, at)
    return Recording("default/chat", [tick.signals.at for tick in ticks], engines, own, {})


def _count(tick: Tick, sums: dict[str, list[float]], seen: dict[str, set[int]]) -> None:
    """The engines' counters, from the arrivals that each of them reports and the answers that it finished."""
    for pod in tick.signals.pods:
        if pod.state is None:
            continue
        row, known = sums.setdefault(pod.pod, [0.0] * 5), seen.setdefault(pod.pod, set())
        for arrival in pod.state.arrivals:
            if arrival.at_s not in known:
                known.add(arrival.at_s)
                row[0] += arrival.count
                row[1] += arrival.prompt_tokens
                row[2] += arrival.cached_tokens
        done = pod.state.finished_total - row[3]
        row[3] = pod.state.finished_total
        if done > 0 and pod.state.finished:
            row[4] += done * pod.state.finished[-1].output_tokens


def _publish(own: dict[str, dict[str, dict[float, float]]], tick: Tick, at: float) -> None:
    values: dict[str, dict[str, float]] = {
        "limit": limit_figures(tick.limits),
        "capacity": capacity_figures(tick.plan.model),
        "mode": {"Internal": 1.0},
        "feedback": {
            "prefill": math.exp(tick.plan.memory.feedback.prefill),
            "decode": math.exp(tick.plan.memory.feedback.decode),
        },
        "workload": {role.value: pool.desired for role, pool in tick.signals.pools.items()},
        "floor": {role.value: pool.floor for role, pool in tick.signals.pools.items()},
    }
    for role, part in tick.plan.decision.roles.items():
        lead_s = startup_s(tick.plan.memory.role(role), tick.limits.startup_prior_s)
        values.setdefault("target", {})[role.value] = part.target.replicas
        values.setdefault("startup", {})[role.value] = lead_s
        for state in ("serving", "starting", "draining"):
            values.setdefault("replicas", {})[f"{role}/{state}"] = getattr(part, state)
        for need in part.needs:
            values.setdefault("need", {})[f"{role}/{need.constraint}"] = need.replicas
    for figure, series in values.items():
        for name, value in series.items():
            own.setdefault(figure, {}).setdefault(name, {})[at] = float(value)


def _expose(
    engines: dict[str, dict[str, dict[float, float]]], pod: PodSample, totals: list[float], scraped_at: float, at: float
) -> None:
    # The fleet's pods are called prefill-0001; a Deployment's chat-prefill-...
    values = {name: getattr(pod.load, name) for name in LOAD}
    values["scraped_at"] = scraped_at
    if pod.state is not None:
        names = ("arrivals", "prompt_tokens", "cached_tokens", "finished", "output_tokens")
        values |= dict(zip(names, totals, strict=True)) | {"queued_tokens": pod.state.queued_tokens}
    elif pod.load is not None:
        values["prefilled"] = pod.load.prefill_uncached_tokens_total
    for name, value in values.items():
        engines.setdefault(name, {}).setdefault(f"chat-{pod.pod}", {})[at] = float(value)


def driven_recording(ticks: int, scrape_s: float) -> Recording:
    """A fluid fleet under a burst of two minutes, every target carried out."""
    model = CapacityModel.prior(LLAMA_8B, lookup("nvidia-h100"))
    limits = Limits(
        Objective(2.0, 0.05, 95.0),
        {Role.PREFILL: RoleLimits(1, 8), Role.DECODE: RoleLimits(1, 8)},
        scale_down_window_s=60.0,
        restart_hold_s=30.0,
    )
    fleet = FluidFleet(
        model, dict.fromkeys(limits.roles, 1), rate=lambda t: 90.0 if 200 < t < 320 else 4.0, startup_s=30.0
    )
    memory, made = initial_memory(), []
    for _ in range(ticks):
        for _ in range(int(limits.tick_s)):
            fleet.step()
        signals = fleet.signals()
        result = plan(signals, model, limits, memory, signals.at)
        made.append(Tick(signals, limits, memory, model, result))
        memory, model = result.memory, result.model
        fleet.apply(result.decision.targets())
    return recording_of(made, scrape_s=scrape_s)


def answers_of(recording: Recording) -> dict[str, list[dict[str, Any]]]:
    """The recording as answers to range queries, by figure."""
    labels = {
        "mode": ("mode",),
        "feedback": ("half",),
        "replicas": ("role", "state"),
        "need": ("role", "constraint"),
        "limit": ("limit",),
        "capacity": ("figure",),
    }
    tables: list[tuple[str, Any, tuple[str, ...]]] = [
        (figure, table, ("pod",)) for figure, table in recording.engines.items()
    ]
    tables += [(figure, table, labels.get(figure, ("role",))) for figure, table in recording.own.items()]
    return {
        figure: [
            {
                "metric": dict(zip(names, series.split("/"), strict=True)),
                "values": [[at, str(value)] for at, value in column.items()],
            }
            for series, column in table.items()
        ]
        for figure, table, names in tables
    }
