"""One cell of a comparison: a load, a fleet, a start-up delay, a policy, a seed."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from headrace.api.roles import Role
from headrace.autoscaler.limits import Limits, Objective, RoleLimits
from headrace.catalog.accelerators import lookup
from headrace.simulator.fleet import Bounds, Fleet, FleetSpec
from headrace.simulator.headrace_policy import HeadracePolicy
from headrace.simulator.observe import MetricFaults
from headrace.simulator.policy import Policy
from headrace.simulator.pool import Lifecycle
from headrace.simulator.profiles import FleetProfile
from headrace.simulator.request import Arrival
from headrace.simulator.results import MissBudget, Progress, RunResult, Slo
from headrace_engine_config.late_last import QueueConfig

MEAN_STEP_S = 0.025  # half the usual 50 ms objective: the decode step of a fleet at its mean load
FULL_STEP_S = 0.045  # nine tenths of it: the decode step of a full replica


@dataclass(frozen=True, slots=True)
class Cell:
    """What one run is made of, the load and the policy apart."""

    profile: FleetProfile
    topology: str = "disaggregated"
    delay_s: float = 60.0  # median start-up time
    delay_cv: float = 0.0  # of start and stop; 0: fixed, else lognormal with this coefficient of variation
    provision_share: float = 0.0  # share of starts that wait for a new node first
    provision_s: float = 180.0  # and how long: a node from the cloud takes about three minutes
    start_failure: float = 0.0  # share of starts that fail and are tried again
    stop_s: float = 2.0  # from idle to the GPU being free: the container's termination
    faults: MetricFaults = field(default_factory=MetricFaults)
    minimum: int = 1
    maximum: int = 64
    queue: QueueConfig | None = None  # in which order engines take what waits; None: order of arrival
    seed: int = 0


def run_cell(
    cell: Cell,
    policy: Policy,
    arrivals: Iterable[Arrival],
    horizon_s: float,
    initial: Mapping[Role, int],
    *,
    clock: Callable[[], float] | None = None,
    progress: Progress | None = None,
    budget: MissBudget | None = None,
) -> RunResult:
    """Simulate `policy` on `arrivals` (sorted by t, read lazily) up to `horizon_s`, starting from `initial` replicas.

    Deterministic for equal inputs. `clock` (such as time.perf_counter) only measures the policy's own time; a spent
    `budget` ends the run early.
    """
    rng = np.random.default_rng(cell.seed)
    bounds = {
        role: Bounds(cell.minimum, cell.maximum, min(max(initial.get(role, 1), cell.minimum), cell.maximum))
        for role in cell.profile.roles(cell.topology)
    }
    spec = FleetSpec(
        times=cell.profile.times,
        shape=replace(cell.profile.shape, queue=cell.queue),
        bounds=bounds,
        lifecycle=_lifecycle(cell, np.random.default_rng((cell.seed, 1))),
        faults=cell.faults,
    )
    return Fleet(spec, policy, rng, horizon_s, clock=clock).run(arrivals, progress, budget)


def _lifecycle(cell: Cell, rng: np.random.Generator) -> Lifecycle:
    """Delays drawn from a generator of their own, so that two policies meet the same luck start by start."""
    sigma = math.sqrt(math.log1p(cell.delay_cv**2))

    def start_s() -> float:
        delay_s = cell.delay_s * math.exp(sigma * rng.standard_normal()) if sigma else cell.delay_s
        waits = cell.provision_share and rng.random() < cell.provision_share
        return delay_s + cell.provision_s if waits else delay_s

    return Lifecycle(start_s=start_s, stop_s=lambda: cell.stop_s, start_fails=lambda: rng.random() < cell.start_failure)


def limits(cell: Cell, slo: Slo, percentile: float = 95.0, **changes: float) -> Limits:
    """The autoscaler's limits for a cell: its objective and bounds, everything else at the product's defaults."""
    chip = lookup(cell.profile.accelerator)
    gpus = cell.profile.shape.gpus
    role = RoleLimits(cell.minimum, cell.maximum, float(gpus), chip.price_per_hour * gpus)
    objective = Objective(slo.ttft_s, slo.tpot_s, percentile, slo.ttft_per_token_s * 1000.0)
    roles = dict.fromkeys(cell.profile.roles(cell.topology), role)
    made = Limits(objective, roles, late_last=cell.queue is not None and cell.queue.order == "LateLast")
    return replace(made, **changes) if changes else made  # type: ignore[arg-type]


def late_last(slo: Slo) -> QueueConfig:
    """The order in which engines take what waits, as the operator sets it up for an objective."""
    return QueueConfig(ttft_seconds=slo.ttft_s, ttft_per_1k_prompt_seconds=slo.ttft_per_token_s * 1000.0)


def headrace(cell: Cell, slo: Slo, percentile: float = 95.0, **changes: float) -> HeadracePolicy:
    """Headrace's policy for a cell, from the prior: it knows the catalogue and nothing of the simulated truth."""
    return HeadracePolicy(cell.profile.prior(), limits(cell, slo, percentile, **changes))


def mean_need(profile: FleetProfile, topology: str, arrivals: Iterable[Arrival], horizon_s: float) -> dict[Role, float]:
    """Replicas' worth of the mean load, fractional.

    Prefill by device seconds; decode by the larger of the KV held at a step of 25 ms and the step time spent.
    """
    times, shape = profile.times, profile.shape
    busy_s = token_s = decode_s = 0.0
    for arrival in arrivals:
        isl, osl = max(arrival.input_tokens, 1), max(arrival.output_tokens, 1)
        busy_s += times.busy.token_s * isl + times.busy.context_s * 0.5 * isl * isl
        token_s += osl * (isl + 0.5 * osl)
        decode_s += osl * (times.decode.decode_sequence_s + times.decode.decode_kv_token_s * (isl + 0.5 * osl))
    fixed_share = min(times.decode.decode_fixed_s(64) / FULL_STEP_S, 0.9)
    kv = token_s * MEAN_STEP_S / horizon_s / (0.85 * shape.kv_capacity_tokens)
    decode = max(kv, decode_s / horizon_s / (1.0 - fixed_share))
    prefill = busy_s / horizon_s
    return {Role.WORKER: prefill + decode} if topology == "aggregated" else {Role.PREFILL: prefill, Role.DECODE: decode}


def mean_load(profile: FleetProfile, topology: str, arrivals: Iterable[Arrival], horizon_s: float) -> dict[Role, int]:
    """Replicas that the mean load asks for, rounded up, at least 1: the common start of every policy."""
    need = mean_need(profile, topology, arrivals, horizon_s)
    return {role: max(1, math.ceil(replicas)) for role, replicas in need.items()}
