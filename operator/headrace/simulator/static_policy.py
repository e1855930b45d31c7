"""A policy that never changes anything: the comparison every other policy must beat."""

from collections.abc import Mapping

from headrace.api.roles import Role
from headrace.autoscaler.decision import RoleTarget
from headrace.autoscaler.signals import Signals


class StaticPolicy:
    """Keeps the replicas that the fleet starts with."""

    def __init__(self, replicas: Mapping[Role, int], interval_s: float = 60.0) -> None:
        counts = ",".join(str(count) for count in replicas.values())
        self.name = f"static:{counts}"
        self.interval_s = interval_s
        self.targets = {role: RoleTarget(role, count) for role, count in replicas.items()}

    def decide(self, signals: Signals, now: float) -> Mapping[Role, RoleTarget]:
        """The same counts at every tick, so that a replica that is gone comes back."""
        del signals, now
        return self.targets
