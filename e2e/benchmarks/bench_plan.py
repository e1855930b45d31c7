"""How much CPU planning takes: services x 16 pods with live signals, one core, no I/O.

Measured is a service that has run for hours: five minutes of arrivals, a full memory of forecast errors, engines that
take 48 prompts a second together and end as many answers. Each of the measured ticks refreshes the length law of a
sixth of the services, as in a cluster, where their refreshes fall anywhere within the half minute.
"""

import argparse
import json
import pickle
import resource
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from headrace.api.roles import Role
from headrace.autoscaler.capacity import CapacityModel
from headrace.autoscaler.forecast import BUCKET_S, CANDIDATES, ERRORS_KEPT, RING, ForecastState
from headrace.autoscaler.limits import Limits, Objective, RoleLimits
from headrace.autoscaler.memory import Memory, initial_memory
from headrace.autoscaler.plan import plan
from headrace.autoscaler.signals import (
    ArrivalBin,
    EngineLoad,
    EngineState,
    FinishedRequest,
    PodPhase,
    PodSample,
    PoolState,
    RunningStream,
    Signals,
)
from headrace.catalog.accelerators import lookup
from headrace.catalog.measured import LLAMA_8B

PODS = 16
TICK_S = 5
TICKS = 6  # six ticks of 5 s are one refresh period of the length law
WARM_TICKS = 48  # the first reads bring two of the five minutes, 36 ticks the others, six spread the refreshes
DISTINCT = 24  # services with signals of their own, four for each moment of refreshing; the others read the same
CURVE = (100, 300, 1000, 3000, 10_000)
BEGIN = 1_000_000
CLASSES = (2, 4, 6)
LIMITS = Limits(Objective(), {Role.PREFILL: RoleLimits(1, 32), Role.DECODE: RoleLimits(1, 32)})


@dataclass(frozen=True, slots=True)
class Course:
    """One service at the begin of the measurement, and what it sees in each tick of it."""

    memory: Memory
    model: CapacityModel
    seen: tuple[Signals, ...]


def pod(service: int, index: int, now: int) -> PodSample:
    """One pod's sample: half of the pods prefill, half decode; every service, pod and second has another load."""
    role = Role.PREFILL if index < PODS // 2 else Role.DECODE
    prefill = role is Role.PREFILL
    rate = 1 + (service + index) % 3
    passed = now - BEGIN
    steps = 0.0 if prefill else 100.0 * passed
    streams = () if prefill else tuple(RunningStream(400 + 10 * k, (37 * k + service + now) % 300) for k in range(64))
    load = EngineLoad(
        running_requests=64,
        waiting_requests=rate,
        used_tokens=64 * (900 + (37 * passed) % 100),
        max_total_tokens=410_620,
        max_running_requests=256,
        waiting_uncached_tokens=500 * rate,
        prefill_uncached_tokens_total=4000 * passed * rate if prefill else 0,
        prefill_busy_s_total=0.1 * passed * rate if prefill else 0.0,
        decode_moments=(steps, 64 * steps, 9600 * steps, 4096 * steps, 64 * 9600 * steps, 64 * steps),
    )
    state = EngineState(
        at=float(now),
        started_at=BEGIN - 900.0,
        queued_tokens=500 * rate if prefill else 0,
        arrivals=arrivals(service, index, now) if prefill else (),
        running=streams,
        running_total=len(streams),
        finished=() if prefill else tuple(answer(53 * k + service + now) for k in range(128)),
        finished_total=0 if prefill else 6 * passed,
    )
    return PodSample(
        f"s{service}-p{index}", role, PodPhase.SERVING, BEGIN - 900.0, BEGIN - 840.0, float(now), "r1", load, state
    )  # fmt: skip


def arrivals(service: int, index: int, now: int) -> tuple[ArrivalBin, ...]:
    """What an engine accepted in the last 120 s: up to four requests a second of each length class."""
    found = []
    for second in range(now - 120, now):
        for kind in CLASSES:
            count = (second * 2_654_435_761 + service * 40_503 + index * 977 + kind) // 512 % 5
            if count:
                found.append(ArrivalBin(second, kind, count, count * (64 << kind) + second % 50, 16 * count))
    return tuple(found)


def answer(number: int) -> FinishedRequest:
    """A finished request of any of the classes."""
    kind = CLASSES[number % 3]
    return FinishedRequest(kind, 64 << kind, number % 400 + 1, 0.4, 0.03)


def signals(service: int, tick: int) -> Signals:
    """One service's signals at a tick."""
    now, half = BEGIN + TICK_S * tick, PODS // 2
    pods = tuple(pod(service, index, now) for index in range(PODS))
    return Signals(f"bench/{service}", float(now), pods, {Role.PREFILL: PoolState(half), Role.DECODE: PoolState(half)})


def course(service: int) -> Course:
    """A service after minutes of ticks, and with the forecast's memory of hours."""
    wave = tuple(((7919 * k + service) % 1000) / 1000.0 for k in range(ERRORS_KEPT))
    bucket = BEGIN // BUCKET_S - 12
    forecast = ForecastState(
        bucket, bucket - 720, tuple(2e5 + 1e5 * x for x in wave[:RING]), (wave,) * len(CANDIDATES)
    )  # fmt: skip
    memory, model = replace(initial_memory(), forecast=forecast), CapacityModel.prior(LLAMA_8B, lookup("nvidia-h100"))
    for tick in range(service % TICKS, WARM_TICKS):
        seen = signals(service, tick)
        made = plan(seen, model, LIMITS, memory, seen.at)
        memory, model = made.memory, made.model
    return Course(memory, model, tuple(signals(service, WARM_TICKS + tick) for tick in range(TICKS)))


def measure(courses: Sequence[Course], services: int) -> dict[str, float]:
    """The median tick's CPU seconds over all services, each with a memory of its own, and the most memory held."""
    stored = [pickle.dumps((each.memory, each.model)) for each in courses]
    states = [pickle.loads(stored[k % len(stored)]) for k in range(services)]  # noqa: S301
    ticks_s = []
    for tick in range(TICKS):
        begun = time.process_time()
        for k in range(services):
            seen = courses[k % len(courses)].seen[tick]
            made = plan(seen, states[k][1], LIMITS, states[k][0], seen.at)
            states[k] = made.memory, made.model
        ticks_s.append(time.process_time() - begun)
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    cpu_s = round(statistics.median(ticks_s), 4)
    return {"services": services, "pods": services * PODS, "cpu_s": cpu_s, "rss_bytes": rss}


def main() -> int:
    """Print and write the scaling curve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="directory for bench_plan.json")
    parser.add_argument("--services", type=int, nargs="*", default=list(CURVE))
    arguments = parser.parse_args()
    print(f"bringing {DISTINCT} services to where they are after hours", flush=True)
    courses = [course(k) for k in range(DISTINCT)]
    rows = []
    for services in sorted(arguments.services):  # the most memory held is that of the largest so far
        row = measure(courses, services)
        rows.append(row)
        each_ms, rss_mib = 1e3 * row["cpu_s"] / services, row["rss_bytes"] / 2**20
        print(
            f"{services:6d} services x {PODS} pods: {row['cpu_s']:.3f} s CPU a tick, {each_ms:.3f} ms each, "
            f"{rss_mib:,.0f} MiB",
            flush=True,
        )
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
        (arguments.out / "bench_plan.json").write_text(json.dumps({"rows": rows}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
