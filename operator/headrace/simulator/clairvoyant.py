"""A feasible policy that knows all arrivals: the least schedule of replicas that the start-up delay allows."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from headrace.api.roles import Role
from headrace.autoscaler.decision import RoleTarget
from headrace.autoscaler.signals import Signals
from headrace.simulator.decode_engine import RESERVED_TOKENS
from headrace.simulator.fleet import EPOCH
from headrace.simulator.profiles import FleetProfile
from headrace.simulator.request import Arrival
from headrace.simulator.results import Slo

SLOT_S = 30.0  # length of the schedule's slots
WINDOWS_S = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0)  # bursts that a queue can carry over, within and across slots
STEP_SHARES = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)  # of the TPOT objective: how slow a step of a decode replica may be
LEAST_SPARE = 0.1  # of a step is always left to requests, also where the chip is too slow for the objective
MOMENTS_S = 1.0  # resolution of what decode holds

Floats = npt.NDArray[np.float64]


def needs(  # noqa: PLR0917 - a load, a fleet and an objective
    profile: FleetProfile, topology: str, arrivals: Sequence[Arrival], horizon_s: float, slo: Slo, miss: float
) -> dict[Role, Floats]:
    """Replicas needed per slot and role, fractional, so that a share `miss` (0..1) of each slot's requests is late."""
    found = _Requests(profile, arrivals, slo, disaggregated=topology != "aggregated")
    edges = np.arange(0.0, horizon_s + SLOT_S, SLOT_S)
    prefill = _prefill(found, edges, miss)
    decode = _decode(profile, found, edges, slo.tpot_s, miss)
    if topology == "aggregated":
        return {Role.WORKER: prefill + decode}
    return {Role.PREFILL: prefill, Role.DECODE: decode}


class _Requests:
    """The arrivals as columns: times, prefill work in device seconds, budgets. Prefix hits are left to the factor.

    An engine's cache is small and cold after a start: of 35 % that one endless cache would hit on a Mooncake window,
    the simulated fleet hits 7 %.
    """

    def __init__(self, profile: FleetProfile, arrivals: Sequence[Arrival], slo: Slo, *, disaggregated: bool) -> None:
        times = profile.times
        self.at = np.asarray([a.t for a in arrivals], dtype=np.float64)
        self.isl = np.maximum(np.asarray([a.input_tokens for a in arrivals], dtype=np.float64), 1.0)
        self.osl = np.maximum(np.asarray([a.output_tokens for a in arrivals], dtype=np.float64), 1.0)
        pairs = 0.5 * self.isl**2
        sent_s = times.transfer.token_s if disaggregated else 0.0
        self.work_s = (times.busy.token_s + sent_s) * self.isl + times.busy.context_s * pairs
        idle = times.idle
        alone_s = np.maximum(idle.base_s + idle.token_s * self.isl + idle.context_s * pairs, idle.floor_s)
        beside_s = times.transfer.latency_s + sent_s * self.isl + times.decode.decode_fixed_s(1)
        limit_s = np.maximum(slo.ttft_s, slo.ttft_per_token_s * self.isl)
        # What is left for waiting once the request's own prefill is paid; its work counts in the queue as well.
        self.budget_s = np.maximum(limit_s - beside_s - alone_s, 0.0) + self.work_s
        self.enters_s = alone_s + beside_s  # decode keeps its place for so long before the first step


def _prefill(found: _Requests, edges: Floats, miss: float) -> Floats:
    """Per slot, the replicas with which all but `miss` of its requests are computed in time.

    A request of budget b is late when more than (tau + b) n device seconds arrived within some tau up to it, itself
    included: n = max over tau of W_tau / (tau + b). 12 s of work within 5 s and b = 1 s: 2 replicas.
    """
    total = np.concatenate([[0.0], np.cumsum(found.work_s)])
    upto = np.arange(1, len(found.at) + 1)
    each = np.zeros(len(found.at))
    for window_s in WINDOWS_S:
        before = np.searchsorted(found.at, found.at - window_s)
        each = np.maximum(each, (total[upto] - total[before]) / (window_s + found.budget_s))
    return _slot_quantiles(found.at, each, edges, 1.0 - miss)


def _decode(profile: FleetProfile, found: _Requests, edges: Floats, tpot_s: float, miss: float) -> Floats:
    """Per slot, the replicas that hold what is alive: places, KV tokens, and a step no slower than the objective.

    Slow steps use a replica better but keep requests alive for longer: of a few step times the best for each moment.
    """
    steps, shape = profile.times.decode, profile.shape
    context = found.isl + 0.5 * found.osl
    moments = np.arange(0.0, edges[-1], MOMENTS_S)
    best = np.full(len(moments), np.inf)
    cost_s = steps.decode_sequence_s + steps.decode_kv_token_s * context
    for share in STEP_SHARES:
        step_s = share * tpot_s
        spare_s = max(step_s - steps.decode_fixed_s(64), LEAST_SPARE * step_s)
        starts = found.at + found.enters_s
        ends = starts + found.osl * step_s
        kv = _level(found.at, ends, context + RESERVED_TOKENS, moments) / shape.kv_capacity_tokens
        places = _level(found.at, ends, np.ones(len(ends)), moments) / shape.max_running
        work = _level(starts, ends, cost_s, moments) / spare_s
        best = np.minimum(best, np.maximum(np.maximum(kv, places), work))
    return _slot_quantiles(moments, best, edges, 1.0 - miss)


def _level(start: Floats, end: Floats, weight: Floats, moments: Floats) -> Floats:
    """The summed weights of the requests alive at each moment."""
    begun, over = np.argsort(start, kind="stable"), np.argsort(end, kind="stable")
    grown = np.concatenate([[0.0], np.cumsum(weight[begun])])
    gone = np.concatenate([[0.0], np.cumsum(weight[over])])
    alive = grown[np.searchsorted(start[begun], moments, "right")] - gone[np.searchsorted(end[over], moments, "right")]
    return np.asarray(alive, dtype=np.float64)


def _slot_quantiles(at: Floats, values: Floats, edges: Floats, level: float) -> Floats:
    """Per slot, the least value at or below which `level` of the slot's values lie; 0 in an empty slot."""
    bounds = np.searchsorted(at, edges)
    return np.asarray([
        np.sort(values[a:b])[min(math.ceil(level * (b - a)), b - a) - 1] if b > a else 0.0
        for a, b in pairwise(bounds)
    ])  # fmt: skip


class ClairvoyantPolicy:
    """Holds `ceil(factor x need)` in every slot: starts a delay ahead, and keeps what is needed again within one.

    The running maximum over [now, now + delay] bridges exactly the gaps that are shorter than a start, where idling is
    cheaper than a new start-up.
    """

    def __init__(self, need: Mapping[Role, Floats], factor: float, delay_s: float, interval_s: float = 5.0) -> None:
        self.name = "clairvoyant"
        self.interval_s = interval_s
        self.ahead_s = delay_s + interval_s
        self.schedule = {role: np.maximum(np.ceil(factor * per_slot - 1e-9), 1.0) for role, per_slot in need.items()}

    def decide(self, signals: Signals, now: float) -> Mapping[Role, RoleTarget]:
        """The most that any slot from now until a start could be ready asks for."""
        del signals
        first, last = int((now - EPOCH) / SLOT_S), int((now - EPOCH + self.ahead_s) / SLOT_S)
        return {
            role: RoleTarget(role, int(slots[min(first, len(slots) - 1) : last + 1].max(initial=1.0)))
            for role, slots in self.schedule.items()
        }
