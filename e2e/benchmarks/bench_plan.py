"""How much CPU planning takes: services x 16 pods with live signals, one core, no I/O.

Every service gets its own signals (arrivals of the last seconds, running streams, finished answers, engine sums). The
first tick and a refresh of the length law are paid before and inside the measured ticks, as in production: the figure
is the mean over the ticks of one refresh period.
"""

import argparse
import json
import resource
import sys
import time
from dataclasses import replace
from pathlib import Path

from headrace.api.roles import Role
from headrace.autoscaler.capacity import CapacityModel
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
WARM_TICKS, TICKS = 3, 6  # six ticks of 5 s are one refresh period of the length law
CURVE = (100, 300, 1000, 3000, 10_000)
BEGIN = 1_000_000.0
CLASSES = (2, 4, 6)


def pod(service: int, index: int, tick: int) -> PodSample:
    """One pod's sample at a tick: half of the pods prefill, half decode; loads differ by service."""
    now = BEGIN + TICK_S * tick
    role = Role.PREFILL if index < PODS // 2 else Role.DECODE
    rate = 1 + (service + index) % 3
    seconds = range(int(now) - 120, int(now))
    arrivals = tuple(ArrivalBin(s, kind, rate, rate * 64 * 2**kind, 0) for s in seconds for kind in CLASSES)
    streams = tuple(RunningStream(400 + 10 * k, (37 * k + service) % 300) for k in range(64))
    answers = tuple(FinishedRequest(CLASSES[k % 3], 64 * 2 ** CLASSES[k % 3], (53 * k) % 400 + 1) for k in range(128))
    steps = 100.0 * tick
    load = EngineLoad(
        running_requests=64,
        waiting_requests=rate,
        used_tokens=64 * 900,
        max_total_tokens=410_620,
        max_running_requests=256,
        waiting_uncached_tokens=500 * rate,
        prefill_uncached_tokens_total=int(20_000 * tick * rate),
        prefill_busy_s_total=0.5 * tick * rate,
        decode_moments=(steps, 64 * steps, 9600 * steps, 4096 * steps, 64 * 9600 * steps, 64 * steps),
    )
    prefill = role is Role.PREFILL
    state = EngineState(
        at=now,
        started_at=BEGIN - 900,
        queued_tokens=500 * rate if prefill else 0,
        arrivals=arrivals if prefill else (),
        running=() if prefill else streams,
        running_total=0 if prefill else 64,
        finished=() if prefill else answers,
        finished_total=0 if prefill else 100 * tick,
    )
    return PodSample(
        f"s{service}-p{index}", role, PodPhase.SERVING, BEGIN - 900, BEGIN - 840, now, "r1", load, state
    )  # fmt: skip


def signals(service: int, tick: int) -> Signals:
    """One service's signals at a tick."""
    pods = tuple(pod(service, index, tick) for index in range(PODS))
    half = PODS // 2
    pools = {Role.PREFILL: PoolState(half), Role.DECODE: PoolState(half)}
    return Signals(f"bench/{service}", BEGIN + TICK_S * tick, pods, pools)


def measure(services: int) -> dict[str, float]:
    """Mean CPU seconds of one tick over all services. Distinct signals are built for 50 and given to the rest."""
    distinct = [[signals(k, tick) for tick in range(WARM_TICKS + TICKS)] for k in range(min(services, 50))]
    model = CapacityModel.prior(LLAMA_8B, lookup("nvidia-h100"))
    limits = Limits(Objective(), {Role.PREFILL: RoleLimits(1, 32), Role.DECODE: RoleLimits(1, 32)})
    memories: list[Memory] = [initial_memory()] * services
    models = [model] * services
    cpu_s = 0.0
    for tick in range(WARM_TICKS + TICKS):
        begun = time.process_time()
        for k in range(services):
            seen = distinct[k % len(distinct)][tick]
            # The law refreshes every 30 s after a service's first tick; in a cluster these moments are spread evenly.
            memory = memories[k]
            if tick == 1:
                at = memory.lengths.at + (k % TICKS) * TICK_S - TICK_S * (TICKS - 1)
                memory = replace(memory, lengths=replace(memory.lengths, at=at))
            made = plan(seen, models[k], limits, memory, seen.at)
            memories[k], models[k] = made.memory, made.model
        if tick >= WARM_TICKS:
            cpu_s += time.process_time() - begun
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"services": services, "pods": services * PODS, "cpu_s": round(cpu_s / TICKS, 4), "rss_bytes": rss}


def main() -> int:
    """Print and write the scaling curve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="directory for bench_plan.json")
    parser.add_argument("--services", type=int, nargs="*", default=list(CURVE))
    arguments = parser.parse_args()
    rows = []
    for services in arguments.services:
        row = measure(services)
        rows.append(row)
        each_ms = 1e3 * row["cpu_s"] / services
        print(f"{services:6d} services x {PODS} pods: {row['cpu_s']:.3f} s CPU a tick, {each_ms:.3f} ms each")
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
        (arguments.out / "bench_plan.json").write_text(json.dumps({"rows": rows}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
