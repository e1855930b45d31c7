"""The seam between the simulated fleet and whoever sizes it: Headrace's own plan, or a baseline of the benchmark."""

from collections.abc import Mapping
from typing import Protocol

from headrace.api.roles import Role
from headrace.autoscaler.decision import RoleTarget
from headrace.autoscaler.signals import Signals


class Policy(Protocol):
    """Sizes a fleet from the signals alone. One instance serves one simulated run and may keep state."""

    name: str
    interval_s: float  # seconds between two calls of decide

    def decide(self, signals: Signals, now: float) -> Mapping[Role, RoleTarget]:
        """Targets for the roles to change; a role left out keeps its target."""
        ...
