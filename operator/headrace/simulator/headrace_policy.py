"""Headrace's own policy in the simulator: the very plan that the operator runs, with its memory between two ticks."""

from collections.abc import Mapping

from headrace.api.roles import Role
from headrace.autoscaler.capacity import CapacityModel
from headrace.autoscaler.decision import Decision, RoleTarget
from headrace.autoscaler.limits import Limits
from headrace.autoscaler.memory import initial_memory
from headrace.autoscaler.plan import plan
from headrace.autoscaler.signals import Signals


class HeadracePolicy:
    """Calls `headrace.autoscaler.plan.plan`. `last` is the newest decision, with its reasons."""

    def __init__(self, model: CapacityModel, limits: Limits, name: str = "headrace") -> None:
        self.name = name
        self.interval_s = limits.tick_s
        self.model = model
        self.limits = limits
        self.memory = initial_memory()
        self.last: Decision | None = None

    def decide(self, signals: Signals, now: float) -> Mapping[Role, RoleTarget]:
        """One tick: the decision's targets."""
        made = plan(signals, self.model, self.limits, self.memory, now)
        self.model, self.memory, self.last = made.model, made.memory, made.decision
        return made.decision.targets()
