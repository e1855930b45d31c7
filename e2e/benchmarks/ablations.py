"""Headrace with one mechanism taken out. The product has no switches for this: the parts are taken out from here."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any
from unittest import mock

from headrace.api.roles import Role
from headrace.autoscaler import loads, sizing
from headrace.autoscaler import plan as planning
from headrace.autoscaler.capacity import CapacityModel
from headrace.autoscaler.decision import Constraint, Need, RoleTarget
from headrace.autoscaler.forecast import ForecastState
from headrace.autoscaler.limits import Limits
from headrace.autoscaler.memory import Feedback, Memory
from headrace.autoscaler.signals import Signals
from headrace.autoscaler.sizing import Sizing, size
from headrace.simulator.headrace_policy import HeadracePolicy

# The candidate "last minute" never loses, and its errors are forgotten each tick: the last value, without a margin.
LAST_VALUE = ForecastState(losses=(-1e9, 0.0, 0.0))

BACKLOG_S = 120.0  # without the usefulness test a backlog is worked off in a start-up time, but never slower than this

Resize = Callable[[Sizing], Sizing]


@dataclass(frozen=True, slots=True)
class Ablation:
    """What is taken out: limits set, memory reset each tick, needs rewritten, or functions of the product replaced."""

    about: str
    limits: Mapping[str, Any] = field(default_factory=dict)
    memory: Callable[[Memory], Memory] | None = None
    resize: Resize | None = None
    functions: tuple[tuple[ModuleType, str, Callable[..., Any]], ...] = ()


def _without(constraint: Constraint) -> Resize:
    def resize(found: Sizing) -> Sizing:
        needs = {role: tuple(n for n in needs if n.constraint is not constraint) for role, needs in found.needs.items()}
        return replace(found, needs=needs)

    return resize


def _any_backlog(found: Sizing) -> Sizing:
    """Every backlog asks for replicas, also one that is gone before a replica could start."""
    load = found.prefill
    if load is None:
        return found
    asked = load.reactive + load.backlog_s / max(load.budget_s, min(BACKLOG_S, load.lead_s))
    entrance = Role.PREFILL if Role.PREFILL in found.needs else Role.WORKER
    need = Need(Constraint.PREFILL_BACKLOG, asked, "every backlog counts")
    return replace(found, needs={**found.needs, entrance: (*found.needs[entrance], need)})


def _stock(found: loads.Demand, pool: Any, memory: Memory, _model: CapacityModel, miss_share: float) -> Any:
    """Decode sized by what runs there now, as where engines report no lengths."""
    return loads.stock_decode_load(found, pool, memory, miss_share)


ABLATIONS: Mapping[str, Ablation] = {
    "-envelope": Ablation("prefill without its burst envelope", resize=_without(Constraint.PREFILL_ENVELOPE)),
    "-dispersion": Ablation(
        "arrivals taken as Poisson", functions=((loads, "history_dispersion", lambda _history: 1.0),)
    ),
    "-forecast": Ablation(
        "the last value instead of a forecast", memory=lambda memory: replace(memory, forecast=LAST_VALUE)
    ),
    "-usefulness": Ablation("every backlog orders replicas", resize=_any_backlog),
    "-feed-forward": Ablation(
        "decode sized by what runs there, not by what is coming", functions=((sizing, "decode_load", _stock),)
    ),
    "window=0": Ablation("no scale-down window (and a look-back of 60 s)", limits={"scale_down_window_s": 0.0}),
    "window=300": Ablation("scale-down window of 300 s", limits={"scale_down_window_s": 300.0}),
    "window=900": Ablation("scale-down window of 900 s", limits={"scale_down_window_s": 900.0}),
    "-feedback": Ablation("no regard to what clients got", memory=lambda memory: replace(memory, feedback=Feedback())),
}


class AblatedPolicy(HeadracePolicy):
    """The product's policy, called with a part of it taken out."""

    def __init__(self, model: CapacityModel, limits: Limits, ablation: Ablation) -> None:
        super().__init__(model, replace(limits, **ablation.limits))
        self.ablation = ablation

    def decide(self, signals: Signals, now: float) -> Mapping[Role, RoleTarget]:
        """One tick without the part."""
        ablation = self.ablation
        if ablation.memory is not None:
            self.memory = ablation.memory(self.memory)
        with ExitStack() as stack:
            for module, name, made in ablation.functions:
                stack.enter_context(mock.patch.object(module, name, made))
            if ablation.resize is not None:
                resize = ablation.resize
                stack.enter_context(mock.patch.object(planning, "size", lambda *a, **k: resize(size(*a, **k))))
            return super().decide(signals, now)


class PinnedPolicy(HeadracePolicy):
    """The product's policy with a capacity model that never learns and takes itself for calibrated."""

    def __init__(self, model: CapacityModel, limits: Limits) -> None:
        pinned = replace(model, prefill_valid=True, decode_valid=True)
        super().__init__(pinned, limits)
        self.pinned = pinned

    def decide(self, signals: Signals, now: float) -> Mapping[Role, RoleTarget]:
        """One tick, after which what was learned of the capacity is forgotten."""
        made = super().decide(signals, now)
        self.model = self.pinned
        return made
