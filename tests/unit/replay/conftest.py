"""A log of a fluid fleet under a burst: the decisions that the operator's loop would have taken."""

from collections.abc import Callable
from typing import Any

import orjson
import pytest
from headrace_fakes.fluid_fleet import FluidFleet

from headrace.api.roles import Role
from headrace.autoscaler.capacity import CapacityModel
from headrace.autoscaler.limits import Limits, Objective, RoleLimits
from headrace.autoscaler.memory import initial_memory
from headrace.autoscaler.plan import plan
from headrace.autoscaler.replay import Entry, Tick, from_line, to_line
from headrace.catalog.accelerators import lookup
from headrace.catalog.measured import LLAMA_8B

MODEL = CapacityModel.prior(LLAMA_8B, lookup("nvidia-h100"))
LIMITS = Limits(
    Objective(2.0, 0.05, 95.0),
    {Role.PREFILL: RoleLimits(1, 8), Role.DECODE: RoleLimits(1, 8)},
    scale_down_window_s=60.0,
    restart_hold_s=30.0,
)


def burst(t: float) -> float:
    """Requests/s: five minutes at once, on an otherwise quiet fleet."""
    return 90.0 if 120 < t < 400 else 4.0


def drive(
    ticks: int,
    limits: Limits = LIMITS,
    *,
    rate: Callable[[float], float] = burst,
    engine_state: bool = True,
    lossy: bool = False,
) -> list[Tick]:
    """A fluid fleet under a load; every target is carried out.

    `lossy`: every third pod is silent every other minute.
    """
    fleet = FluidFleet(
        MODEL,
        {Role.PREFILL: 1, Role.DECODE: 1},
        rate=rate,
        startup_s=30.0,
        engine_state=engine_state,
    )
    memory, model = initial_memory(), MODEL
    made = []
    for _ in range(ticks):
        for _ in range(int(limits.tick_s)):
            fleet.step()
        silent = lossy and int(fleet.now) % 120 < 60
        signals = fleet.signals(hide=frozenset(pod.name for pod in fleet.pods[::3]) if silent else frozenset())
        result = plan(signals, model, limits, memory, signals.at)
        made.append(Tick(signals, limits, memory, model, result))
        memory, model = result.memory, result.model
        fleet.apply(result.decision.targets())
    return made


@pytest.fixture(scope="session")
def driven() -> Callable[..., list[Tick]]:
    return drive


@pytest.fixture(scope="session")
def as_log() -> Callable[[list[Tick]], bytes]:
    """The ticks as the log's file holds them, memory and model in the first line."""

    def lines(ticks: list[Tick]) -> bytes:
        records: list[Any] = [to_line(tick, index == 0) for index, tick in enumerate(ticks)]
        return b"".join(orjson.dumps(record, option=orjson.OPT_NON_STR_KEYS) + b"\n" for record in records)

    return lines


@pytest.fixture(scope="session")
def as_entries(as_log: Callable[[list[Tick]], bytes]) -> Callable[[list[Tick]], list[Entry]]:
    """The ticks as read back from the log."""
    return lambda ticks: [from_line(orjson.loads(line)) for line in as_log(ticks).splitlines()]


@pytest.fixture(scope="session")
def run() -> list[Tick]:
    return drive(160)
