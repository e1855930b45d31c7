"""The guards: small named checks, in order, each of which may raise or lower the wanted number and says why."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from headrace.autoscaler.decision import SignalHealth, Veto
from headrace.autoscaler.limits import Limits, RoleLimits
from headrace.autoscaler.memory import RoleMemory
from headrace.autoscaler.observe import Observed

KEEP_SHARE = 0.9  # a replica goes only if the rest would be at most so full: the band that stops flapping ...
KEEP_ROOT = 0.25  # ... or has this times the root of its size to spare: noise of large pools grows with the root
STEP_SHARE = 4  # at most a quarter of the pool goes in a quarter of the window, or in a start-up time if that is longer
LEAST_SURGE = (
    8  # replicas that may be added at once whatever the size of the pool: a start from a few must reach the load
)
RETRACTION = "decode took requests back for lack of KV"


@dataclass(frozen=True, slots=True)
class Case:
    """What a guard may look at for one role."""

    pool: Observed
    role_limits: RoleLimits
    limits: Limits
    memory: RoleMemory
    health: SignalHealth
    now: float
    since: float  # when the controller's memory began
    current: int
    need: float
    peak: float  # the largest need of the window
    window_s: float
    startup_s: float
    wait_s: float = 0.0  # that a new request meets, from the queue and the serving replicas
    budget_s: float = math.inf  # what it may be
    others_starting: int = 0  # engines of other roles that share the bound on starts
    holds: Callable[[int], bool] = field(default=lambda _n: True)  # whether so many replicas would carry the load


Guard = Callable[[Case, int], tuple[int, str] | None]


def paused(case: Case, wanted: int) -> tuple[int, str] | None:
    """headrace.dev/paused holds every change."""
    return _hold(case, "scaling is paused") if case.limits.paused and wanted != case.current else None


def signals(case: Case, wanted: int) -> tuple[int, str] | None:
    """A pod that was not read may be saturated: nothing goes. One that is just Ready is read within a tick or two."""
    if wanted >= case.current:
        return None
    if case.pool.unseen or case.pool.stale or not case.health.healthy:
        return _hold(case, f"signals are not fresh for every pod ({case.health.reason})")
    return _hold(case, f"{case.pool.new} pods just Ready were not read yet") if case.pool.new else None


def restart_hold(case: Case, wanted: int) -> tuple[int, str] | None:
    """After a start of the controller there is no history to judge by."""
    age_s = case.now - case.since
    if wanted >= case.current or age_s >= case.limits.restart_hold_s:
        return None
    return _hold(case, f"{age_s:.0f} s of history, {case.limits.restart_hold_s:.0f} s wanted before anything goes")


def starting(case: Case, wanted: int) -> tuple[int, str] | None:
    """While pods start, the pool that the need was judged with is not there yet."""
    coming = case.current - len(case.pool.serving)
    return _hold(case, f"{coming} replicas are still starting") if wanted < case.current and coming > 0 else None


def retracted(case: Case, wanted: int) -> tuple[int, str] | None:
    """Retractions within the window say that KV was too small whatever the model says."""
    if wanted < case.current and case.now - case.memory.retracted_at < case.window_s:
        return _hold(case, RETRACTION)
    return None


def backlog(case: Case, wanted: int) -> tuple[int, str] | None:
    """While requests already wait beyond their objective, nothing that works on them goes."""
    if wanted < case.current and case.wait_s > case.budget_s:
        return _hold(case, f"new requests wait {case.wait_s:.1f} s, the budget is {case.budget_s:.1f} s")
    return None


def one_less(case: Case, wanted: int) -> tuple[int, str] | None:
    """N-1 must carry the largest need of the window with room to spare: the counterfactual and the timer in one."""
    if wanted >= case.current:
        return None
    peak = max(case.peak, case.need)
    least = wanted
    while least < case.current and peak > keep_share(least) * least:
        least += 1
    if least == wanted:
        return None
    return least, (
        f"the need was {peak:.2f} within the last {case.window_s:.0f} s; a pool of {least - 1} "
        f"may be at most {keep_share(least - 1):.0%} full"
    )


def keep_share(n: int) -> float:
    """How full a pool of n may be after a step down. 1: 90 %, 10: 92 %, 25: 95 %."""
    return max(KEEP_SHARE, 1.0 - KEEP_ROOT / math.sqrt(max(n, 1)))


def counterfactual(case: Case, wanted: int) -> tuple[int, str] | None:
    """Fewer replicas take longer steps and hold more: the smaller pool is tried in the model before it is ordered."""
    least = wanted
    while least < case.current and not case.holds(least):
        least += 1
    if least == wanted or wanted >= case.current:
        return None
    return least, f"{least - 1} replicas would not hold TTFT, TPOT and KV with room to spare"


def step_pace(case: Case, wanted: int) -> tuple[int, str] | None:
    """Every step has a whole window of low needs behind it; the pause lets the signals show what the last one did.

    A step that was one too many takes a start-up to mend, so the next waits as long: 180 s, not 600 / 4 = 150 s. A
    window that was set shorter than the start-up bounds it.
    """
    pause_s = max(case.window_s / STEP_SHARE, min(case.startup_s, case.window_s))
    age_s = case.now - case.memory.lowered_at
    if wanted < case.current and age_s < pause_s:
        return _hold(case, f"the last step down was {age_s:.0f} s ago, {pause_s:.0f} s are left between two")
    return None


def step_size(case: Case, wanted: int) -> tuple[int, str] | None:
    """A quarter of the pool at a time."""
    least = case.current - max(1, case.current // STEP_SHARE)
    return (least, f"at most {case.current - least} of {case.current} at a time") if wanted < least else None


def floor(case: Case, wanted: int) -> tuple[int, str] | None:
    """Somebody else's write to replicas holds for one window."""
    kept = min(case.pool.floor, case.role_limits.max)
    if case.now < case.pool.floor_until and wanted < kept:
        return kept, f"{kept} replicas were asked for by another writer"
    return None


def surge(case: Case, wanted: int) -> tuple[int, str] | None:
    """Three times, or eight more, per start-up time: what is ordered is seen working before more is ordered."""
    ready = len(case.pool.serving)
    most = max(ready + max(2 * ready, LEAST_SURGE), case.current)
    return (most, f"at most {most - ready} more than the {ready} that serve") if wanted > most else None


def max_starting(case: Case, wanted: int) -> tuple[int, str] | None:
    """Engines that start together slow each other down (image pulls, weights, node cores)."""
    free = max(case.limits.max_starting - case.others_starting, 0)
    most = max(len(case.pool.serving) + len(case.pool.draining) + free, case.current)
    beside = f", {case.others_starting} of other roles do" if case.others_starting else ""
    text = f"at most {case.limits.max_starting} engines start at once{beside}"
    return (most, text) if wanted > most else None


def bounds(case: Case, wanted: int) -> tuple[int, str] | None:
    """The spec's bounds have the last word."""
    clamped = min(max(wanted, case.role_limits.min), case.role_limits.max)
    if clamped == wanted:
        return None
    name = "min" if clamped > wanted else "max"
    return clamped, f"replicas.{name} is {clamped}"


GUARDS: tuple[tuple[str, Guard], ...] = (
    ("Signals", signals),
    ("RestartHold", restart_hold),
    ("Starting", starting),
    ("Retracted", retracted),
    ("Backlog", backlog),
    ("OneLess", one_less),
    ("Counterfactual", counterfactual),
    ("StepPace", step_pace),
    ("StepSize", step_size),
    ("Surge", surge),
    ("MaxStarting", max_starting),
    ("Floor", floor),
    ("Paused", paused),
    ("Bounds", bounds),
)


def apply_guards(case: Case, wanted: int) -> tuple[int, tuple[Veto, ...]]:
    """The number after every guard, and those that changed it."""
    vetoes: list[Veto] = []
    for name, guard in GUARDS:
        changed = guard(case, wanted)
        if changed is not None and changed[0] != wanted:
            wanted = changed[0]
            vetoes.append(Veto(name, changed[1]))
    return wanted, tuple(vetoes)


def _hold(case: Case, message: str) -> tuple[int, str]:
    return case.current, message
