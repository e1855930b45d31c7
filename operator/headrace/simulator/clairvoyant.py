"""A feasible policy that knows all arrivals: the least schedule of replicas that the start-up delay allows."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from headrace.api.roles import Role
from headrace.autoscaler.decision import RoleTarget
from headrace.autoscaler.signals import Signals
from headrace.simulator.fleet import EPOCH
from headrace.simulator.profiles import FleetProfile
from headrace.simulator.request import Arrival

SLOT_S = 30.0  # length of the schedule's slots
KV_FILL = 0.85  # of the KV pool: the rest is room for growth and for requests in transfer
TPOT_FILL = 0.9  # of the TPOT objective that a full decode replica runs at

Floats = npt.NDArray[np.float64]


def needs(
    profile: FleetProfile, topology: str, arrivals: Sequence[Arrival], horizon_s: float, tpot_s: float
) -> dict[Role, Floats]:
    """Replicas' worth of work per slot and role, fractional.

    Prefill: device seconds that arrive in the slot. Decode: a request of context c takes the larger of c / (0.85 M) of
    a replica's KV and (d1 + d2 c) / (0.9 TPOT - d0) of its step time, for output tokens x 0.9 TPOT seconds.
    """
    times, capacity = profile.times, profile.shape.kv_capacity_tokens
    at = np.asarray([a.t for a in arrivals], dtype=np.float64)
    isl = np.maximum(np.asarray([a.input_tokens for a in arrivals], dtype=np.float64), 1.0)
    osl = np.maximum(np.asarray([a.output_tokens for a in arrivals], dtype=np.float64), 1.0)
    edges = np.arange(0.0, horizon_s + SLOT_S, SLOT_S)
    busy = times.busy.token_s * isl + 0.5 * times.busy.context_s * isl * isl
    prefill = np.histogram(at, edges, weights=busy)[0] / SLOT_S
    step_s = TPOT_FILL * tpot_s
    context = isl + 0.5 * osl
    spare = max(step_s - times.decode.decode_fixed_s(64), 0.1 * step_s)
    weight = np.maximum(
        context / (KV_FILL * capacity),
        (times.decode.decode_sequence_s + times.decode.decode_kv_token_s * context) / spare,
    )
    decode = _level(at, at + osl * step_s, weight, edges) / SLOT_S
    if topology == "aggregated":
        return {Role.WORKER: prefill + decode}
    return {Role.PREFILL: prefill, Role.DECODE: decode}


def _level(start: Floats, end: Floats, weight: Floats, edges: Floats) -> Floats:
    """Per slot, the integral of the summed weights of the requests alive."""
    times = np.concatenate([start, end])
    steps = np.concatenate([weight, -weight])
    order = np.argsort(times, kind="stable")
    times, level = times[order], np.cumsum(steps[order])
    total = np.concatenate([[0.0], np.cumsum(level[:-1] * np.diff(times))])
    return np.diff(np.interp(edges, times, total))


class ClairvoyantPolicy:
    """Holds `ceil(factor x need)` in every slot: starts a delay ahead, and keeps what is needed again within one.

    The running maximum over [now, now + delay] bridges exactly the gaps that are shorter than a start, where idling is
    cheaper than a new start-up.
    """

    def __init__(self, need: Mapping[Role, Floats], factor: float, delay_s: float, interval_s: float = 5.0) -> None:
        self.name = "clairvoyant"
        self.interval_s = interval_s
        self.ahead = math.ceil((delay_s + interval_s) / SLOT_S) + 1
        self.schedule = {role: np.maximum(np.ceil(factor * per_slot - 1e-9), 1.0) for role, per_slot in need.items()}

    def decide(self, signals: Signals, now: float) -> Mapping[Role, RoleTarget]:
        """The most that any slot from now until a start could be ready asks for."""
        del signals
        slot = int((now - EPOCH) / SLOT_S)
        return {
            role: RoleTarget(role, int(slots[min(slot, len(slots) - 1) : slot + self.ahead].max(initial=1.0)))
            for role, slots in self.schedule.items()
        }
