"""Fleets and objectives of the benchmark, by name."""

from collections.abc import Mapping
from dataclasses import replace

from e2e.benchmarks.traces import Window, rows
from headrace.cli.simulate_files import UnreadableTrace
from headrace.simulator.cell import mean_need
from headrace.simulator.profiles import FleetProfile, profile, with_accelerator
from headrace.simulator.results import Slo

TOPOLOGY = "disaggregated"
MEASURED = "llama-8b-h100"
SLOWER = "llama-8b-h100@nvidia-l40s"  # the same model from the catalogue: a third of the requests a replica
UNAVOIDABLE = 0.03  # share of prompts that may be late on an idle replica: more leaves 95 % attainment no room
LEAST_WINDOW_S = 600.0  # what is shorter is all cold start
STATIC_EXCESS = 1.4  # static in hindsight over the mean load, found on these traces: for estimates of cost only

OBJECTIVES: Mapping[str, Slo] = {
    "ttft2": Slo(2.0, 0.05),
    # A second, or half a second for every 1,000 prompt tokens: 8,000 tokens have 4 s.
    "length": Slo(1.0, 0.05, 1.0 / 2000.0),
}


def fleet(name: str) -> FleetProfile:
    """A fleet profile by name; `profile@chip` is the profile on another chip of the catalogue."""
    base, _, chip = name.partition("@")
    return with_accelerator(profile(base), chip) if chip else profile(base)


def slo(name: str) -> Slo:
    """An objective by name. Raises LookupError that lists the known ones."""
    if name not in OBJECTIVES:
        raise LookupError(f"objective {name!r} is unknown. Known: {', '.join(OBJECTIVES)}.")
    return OBJECTIVES[name]


def expected_requests(name: str, part: Window, replicas: int) -> float:
    """About how many requests `replicas` static replicas of a fleet take in the window."""
    found = rows(part)
    mean = sum(mean_need(fleet(name), TOPOLOGY, found, part.length_s).values())
    return len(found) * replicas / (STATIC_EXCESS * max(mean, 1e-9))


def shortened(name: str, part: Window, replicas: int, most_requests: float) -> Window:
    """The window, or as much of its beginning as has about `most_requests` once the load is scaled.

    Raises UnreadableTrace where not even ten minutes of it are so few: requests so small fill no fleet.
    """
    expected = expected_requests(name, part, replicas)
    if expected <= most_requests:
        return part
    short = replace(part, length_s=max(float(round(part.length_s * most_requests / expected)), LEAST_WINDOW_S))
    expected = expected_requests(name, short, replicas)
    if expected > 2.0 * most_requests:
        raise UnreadableTrace(
            f"{part.trace}: {replicas} replicas would take {expected:,.0f} requests in {short.length_s:.0f} s, "
            f"more than {most_requests:,.0f}: try fewer --replicas"
        )
    return short


def attainable(name: str, part: Window, objective: str) -> bool:
    """Whether idle replicas would meet the TTFT objective for nearly all prompts: else no policy can."""
    times, limit, room = fleet(name).times, slo(objective), fleet(name).shape.kv_capacity_tokens
    found = rows(part)
    late = 0
    for arrival in found:
        isl = arrival.input_tokens
        alone_s = times.idle.step_s(isl, 0.5 * isl**2) + times.transfer.seconds(isl)
        late += alone_s > max(limit.ttft_s, limit.ttft_per_token_s * isl) or isl + arrival.output_tokens > room
    return late <= UNAVOIDABLE * len(found)


def affordable(part: Window, replicas: int, most_requests: float, objective: str) -> str:
    """The measured fleet, or the slower one where the window would take more than `most_requests` on the measured one.

    Not where the slower one could not meet the objective at all.
    """
    if expected_requests(MEASURED, part, replicas) <= most_requests or not attainable(SLOWER, part, objective):
        return MEASURED
    return SLOWER
