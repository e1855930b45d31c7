"""Replays measured serving runs through the simulator and sets simulated against measured latencies."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import numpy as np

from headrace.api.roles import Role
from headrace.simulator import calibrate
from headrace.simulator.engine import EngineShape
from headrace.simulator.fleet import Bounds, Fleet, FleetSpec
from headrace.simulator.pool import Lifecycle
from headrace.simulator.request import Arrival
from headrace.simulator.results import RunResult, Slo
from headrace.simulator.routing import Policy as Routing
from headrace.simulator.routing import Uniform
from headrace.simulator.static_policy import StaticPolicy
from headrace.simulator.times import EngineTimes

WARM_UP_S = 5.0  # the measured percentiles leave out requests sent in the first 5 s
SATURATED_FROM = 0.95  # utilisation from which a queue grows without end within a run; see `utilisation`
OBJECTIVES = (Slo(0.5, 0.05), Slo(2.0, 0.05))  # a tight and a loose TTFT: attainment is compared at both
_TOKENS = re.compile(r"(?:#tokens: |max_total_num_tokens=)(\d+)")
_CHUNK = re.compile(r"--chunked-prefill-size[ =](\d+)")
_KV_DTYPE = re.compile(r"--kv-cache-dtype[ =](\S+)")
_MODEL = re.compile(r"--model(?:-path)?[ =](\S+)")
NEEDED = ("isl", "osl", "arrival_window_s", "requests")


class UnusableRun(ValueError):  # noqa: N818 - reads as what happened
    """A measured run lacks what the comparison needs; the message names the field."""


@dataclass(frozen=True, slots=True)
class Setup:
    """How the servers of one file were started."""

    shape: EngineShape
    replicas: Mapping[Role, int]
    graph_batch: int | None = None  # the largest batch with a CUDA graph; 0: none has one; None: not told


def check(measured: Mapping[str, Any]) -> None:
    """Raise UnusableRun when a measured file lacks something, before hours are spent on the others."""
    runs = measured.get("runs")
    if not isinstance(runs, list) or not runs:
        raise UnusableRun("runs is empty or missing; a serving file has one entry a rate")
    for index, run in enumerate(runs):
        missing = [name for name in NEEDED if not isinstance(run, Mapping) or name not in run]
        if missing:
            raise UnusableRun(f"runs[{index}] has no {', '.join(missing)}; record the run again")
        if not run["requests"]:
            raise UnusableRun(f"runs[{index}].requests is empty: no request was completed; leave the run out")
        least = {"isl": 1, "osl": 2, "arrival_window_s": 1e-3}
        if not all(isinstance(run[name], int | float) and run[name] >= value for name, value in least.items()):
            raise UnusableRun(f"runs[{index}]: isl and arrival_window_s have to be above 0 and osl above 1")
        for request in run["requests"]:
            numbers = isinstance(request, list) and len(request) >= 3
            if not numbers or not all(isinstance(value, int | float) for value in request[:3]):
                raise UnusableRun(f"runs[{index}].requests holds {request!r}, but needs [send time, TTFT, end to end]")


def served_model(measured: Mapping[str, Any]) -> str | None:
    """The --model-path of the first server of a serving file, or of the server of a profile; its last part."""
    servers = measured.get("servers") or [measured.get("server") or {}]
    found = _MODEL.search(str(servers[0].get("cmd", "")))
    return found.group(1).rstrip("/").rsplit("/", 1)[-1] if found else None


def kv_dtype(measured: Mapping[str, Any]) -> str | None:
    """The --kv-cache-dtype of a serving file's servers; None: the weights' one."""
    found = [_KV_DTYPE.search(str(server.get("cmd", ""))) for server in measured.get("servers") or []]
    return next((match.group(1) for match in found if match and match.group(1) != "auto"), None)


def setup(measured: Mapping[str, Any], default: EngineShape) -> Setup:
    """Roles, counts, KV capacity, chunk size and graphs from what the file keeps of commands and start-up."""
    servers = measured.get("servers") or []
    ports = {str(port) for run in measured["runs"] for port in run.get("metrics", {})}
    used = [server for server in servers if str(server.get("port")) in ports] or servers
    counts = dict.fromkeys(Role, 0)
    shape, graphs = default, None
    for server in used:
        command, info = server.get("cmd", ""), server.get("server_info") or {}
        role = next((r for r in (Role.PREFILL, Role.DECODE) if f"--disaggregation-mode {r}" in command), Role.WORKER)
        counts[role] += 1
        tokens = [int(found) for event in server.get("events", []) for found in _TOKENS.findall(str(event[-1]))]
        chunk = _CHUNK.search(command)
        shape = replace(
            shape,
            kv_capacity_tokens=tokens[-1]
            if tokens
            else _above_0(info.get("max_total_num_tokens")) or shape.kv_capacity_tokens,
            chunk_tokens=int(chunk.group(1))
            if chunk
            else _above_0(info.get("chunked_prefill_size")) or shape.chunk_tokens,
        )
        if role is not Role.PREFILL:
            graphs = 0 if "--disable-cuda-graph" in command else calibrate.graph_batch(info) or graphs
    replicas = {role: count for role, count in counts.items() if count}
    return Setup(shape, replicas or {Role.WORKER: 1}, graphs)


def _above_0(value: object) -> int | None:
    return value if isinstance(value, int) and value > 0 else None  # SGLang says -1 for a feature that is off


def replay(run: Mapping[str, Any], made: Setup, times: EngineTimes, rng: Uniform) -> RunResult:
    """Simulate one measured run with its own arrival times."""
    isl, osl = int(run["isl"]), int(run["osl"])
    sends = sorted(float(request[0]) for request in run["requests"])
    spec = FleetSpec(
        times=times,
        shape=made.shape,
        bounds={role: Bounds(count, count, count) for role, count in made.replicas.items()},
        lifecycle=Lifecycle(start_s=lambda: 0.0),
        routing=dict.fromkeys(made.replicas, Routing.ROUND_ROBIN),
    )
    fleet = Fleet(spec, StaticPolicy(made.replicas), rng, horizon_s=sends[-1] + 1e-3)
    return fleet.run(Arrival(t, isl, osl) for t in sends)


def compare(
    name: str, measured: Mapping[str, Any], times: EngineTimes, shape: EngineShape, rng: Uniform
) -> list[dict[str, Any]]:
    """One row a run of one file."""
    made = setup(measured, shape)
    if made.graph_batch is not None:
        times = replace(times, graph_batch=made.graph_batch)
    return [_row(name, run, made, times, rng) for run in measured["runs"]]


def _row(name: str, run: Mapping[str, Any], made: Setup, times: EngineTimes, rng: Uniform) -> dict[str, Any]:
    simulated = replay(run, made, times, rng).records
    isl, osl = int(run["isl"]), int(run["osl"])
    rate = len(run["requests"]) / float(run["arrival_window_s"])
    busy = utilisation(times, made, isl, osl, rate)
    real = _figures(
        [request[0] for request in run["requests"]],
        [request[1] for request in run["requests"]],
        [(request[2] - request[1]) / (osl - 1) for request in run["requests"]],
        osl,
    )
    ours = _figures(simulated.arrived, simulated.ttft, simulated.tpot, osl)
    row: dict[str, Any] = {
        "run": name,
        "topology": "disaggregated" if Role.DECODE in made.replicas else "aggregated",
        "isl": isl,
        "osl": osl,
        "rate_rps": rate,
        "requests": len(run["requests"]),
        "utilisation": busy,
        "saturated": busy >= SATURATED_FROM,
    }
    for slo in OBJECTIVES:
        row[f"measured_attainment_{slo.name()}"] = _attained(run["requests"], osl, slo)
        row[f"simulated_attainment_{slo.name()}"] = float(simulated.met(slo).mean())
    for figure, value in real.items():
        row[f"measured_{figure}"] = value
        row[f"simulated_{figure}"] = ours[figure]
        row[f"error_{figure}"] = ours[figure] / value - 1.0
    return row


def _figures(sent: Sequence[float], ttft: Sequence[float], tpot: Sequence[float], osl: int) -> dict[str, float]:
    """Percentiles of the requests sent after the warm-up, and completions a second from first send to last token."""
    at, first, rest = np.asarray(sent), np.asarray(ttft), np.asarray(tpot)
    ends = at + first + rest * (osl - 1)
    steady = at >= WARM_UP_S if (at >= WARM_UP_S).any() else at >= 0
    return {
        "ttft_p50_s": float(np.percentile(first[steady], 50)),
        "ttft_p90_s": float(np.percentile(first[steady], 90)),
        "tpot_p50_s": float(np.percentile(rest[steady], 50)),
        "completed_rps": len(at) / float(ends.max() - at.min()),
    }


def _attained(requests: Sequence[Sequence[float]], osl: int, slo: Slo) -> float:
    met = [request[1] <= slo.ttft_s and request[2] - request[1] <= slo.tpot_s * (osl - 1) for request in requests]
    return sum(met) / len(met)


def utilisation(times: EngineTimes, made: Setup, isl: int, osl: int, rate: float) -> float:
    """Rate over the rate at which the fleet would work with its largest batch, so 1 and more grows a queue.

    A batch of b holds b (isl + osl / 2) KV tokens on average and finishes b requests in osl steps, between which an
    aggregated engine also prefills b prompts. H100, 1,024 + 256 tokens: b = 357, 7.2 s of decode and 8.7 s of prefill:
    22.5 requests/s.
    """
    prefill_s = times.busy.step_s(isl, 0.5 * isl * isl)
    context = isl + 0.5 * osl
    batch = min(made.shape.max_running, int(made.shape.kv_capacity_tokens / context))
    decode_s = osl * times.decode_s(batch, batch * context)
    worker = made.replicas.get(Role.WORKER, 0)
    if worker:
        return rate / (worker * batch / (decode_s + batch * prefill_s))
    decode = made.replicas[Role.DECODE] * batch / decode_s
    return rate / min(decode, made.replicas[Role.PREFILL] / prefill_s)


def report(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """All rows and the median absolute errors over the rates below saturation."""
    below = [row for row in rows if not row["saturated"]] or list(rows)
    return {
        "rows": list(rows),
        "median_error": {
            "tpot_p50": median(abs(row["error_tpot_p50_s"]) for row in below),
            "ttft_p50": median(abs(row["error_ttft_p50_s"]) for row in below),
            "ttft_p90": median(abs(row["error_ttft_p90_s"]) for row in below),
        },
        "worst_attainment_error": {
            slo.name(): max(
                abs(row[f"simulated_attainment_{slo.name()}"] - row[f"measured_attainment_{slo.name()}"])
                for row in below
            )
            for slo in OBJECTIVES
        },
        "rows_below_saturation": len(below),
    }
