"""What a worker process does: find a scene's load scale, or run one job."""

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from e2e.benchmarks import fleets
from e2e.benchmarks.fingerprint import code_digest
from e2e.benchmarks.load_scale import load_scale
from e2e.benchmarks.matrix import Job, Scene
from e2e.benchmarks.registry import build, entry
from e2e.benchmarks.traces import LEAST_REQUESTS, rows
from headrace.api.roles import Role
from headrace.simulator.bounds import clairvoyant, static_in_hindsight
from headrace.simulator.cell import Cell, late_last, mean_load, run_cell
from headrace.simulator.load import scale
from headrace.simulator.observe import MetricFaults
from headrace.simulator.request import Arrival
from headrace.simulator.results import RunResult, Slo

WARM_S = 600.0  # two look-backs of the slowest controllers: what comes later is no cold start
TARGET = 0.95  # attainment at which the load scale is set
SCALE_SEED = 0


@dataclass(frozen=True, slots=True)
class Scale:
    """A scene's load factor and the static fleet it belongs to."""

    factor: float
    static: dict[str, int]


def scaled(scene: Scene, factor: float, seed: int) -> Iterator[Arrival]:
    """The scene's load; another seed draws other copies and other jitter."""
    return scale(rows(scene.window), factor, np.random.default_rng((seed, 2)))


def find_scale(scene: Scene) -> Scale | None:
    """The scale of a scene; None when its objective cannot be met on its fleet, or only by next to no requests."""
    limit = fleets.slo(scene.objective)
    found = load_scale(
        Cell(fleets.fleet(scene.fleet), scene.topology, queue=late_last(limit), seed=SCALE_SEED),
        lambda factor: list(scaled(scene, factor, SCALE_SEED)),
        scene.window.length_s,
        limit,
        target=TARGET,
        replicas=scene.replicas,
    )
    if found is None or found.result.arrived < LEAST_REQUESTS:
        return None
    return Scale(found.factor, {role.value: n for role, n in found.replicas.items()})


def run_job(job: Job, at: Scale) -> dict[str, Any]:
    """One row of the results."""
    began = time.perf_counter()
    scene, limit = job.scene, fleets.slo(job.scene.objective)
    cell = Cell(fleets.fleet(scene.fleet), scene.topology, job.delay_s, queue=late_last(limit), seed=job.seed)
    horizon_s = scene.window.length_s
    arrivals = list(scaled(scene, at.factor, job.seed))
    initial = mean_load(cell.profile, cell.topology, arrivals, horizon_s)
    replicas: dict[Role, int] | None = None
    reached = True
    result: RunResult
    if job.policy == "static":
        guess = tuple(at.static[role.value] for role in cell.profile.roles(cell.topology))
        static = static_in_hindsight(cell, arrivals, horizon_s, limit, job.knob, guess=guess)
        result, reached, replicas = static.result, static.reached, dict(static.replicas)
    elif job.policy == "clairvoyant":
        bound = clairvoyant(cell, arrivals, horizon_s, limit, job.knob, initial=initial)
        result, reached = bound.result, bound.reached
    else:
        known = entry(job.policy)
        policy = build(job.policy, job.knob, cell, limit, arrivals)
        seen = replace(cell, faults=MetricFaults(lag_s=known.lag_s))
        result = run_cell(seen, policy, arrivals, horizon_s, initial, clock=time.perf_counter)
    return {
        **job.columns(),
        "model": cell.profile.name,
        "accelerator": cell.profile.accelerator,
        "copies": at.factor,
        "min": cell.minimum,
        "max": cell.maximum,
        "initial": {role.value: n for role, n in (replicas or initial).items()},
        "reached": reached,
        **{k: v for k, v in result.summary(limit).items() if k not in {"policy", "objective"}},
        "attainment_warm": attainment_warm(result, limit),
        "slo": asdict(limit),
        "wall_s": time.perf_counter() - began,
        "code": code_digest(),
    }


def attainment_warm(result: RunResult, slo: Slo) -> float | None:
    """Attainment of the finished requests that arrived after the first ten minutes: shows what a cold start costs."""
    late = np.asarray(result.records.arrived) > WARM_S
    met = result.records.met(slo)
    return float(met[late].mean()) if late.any() else None
