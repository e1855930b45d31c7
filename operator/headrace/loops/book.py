"""What the two loops tell each other, in memory: decisions one way, the state of the pools the other way."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from headrace.api.roles import Role
from headrace.autoscaler.decision import Decision
from headrace.autoscaler.signals import PoolState
from headrace.loops.keys import Key

Capacity = Mapping[str, Mapping[str, Mapping[str, float | None]]]  # role -> figure -> predicted, measured -> value


@dataclass(slots=True)
class Page:
    """One service's entries. A restart begins with empty ones: decisions are taken anew within a tick."""

    decision: Decision | None = None
    capacity: Capacity = field(default_factory=dict)
    pools: Mapping[Role, PoolState] = field(default_factory=dict)


class DecisionBook:
    """The latest page of every service. Touched by one event loop only."""

    def __init__(self) -> None:
        self._pages: dict[Key, Page] = {}

    def decision(self, key: Key) -> Decision | None:
        """The latest decision, None before the first."""
        page = self._pages.get(key)
        return page.decision if page else None

    def capacity(self, key: Key) -> Capacity:
        """The capacity model's figures that go with the decision."""
        page = self._pages.get(key)
        return page.capacity if page else {}

    def pools(self, key: Key) -> Mapping[Role, PoolState]:
        """The pools as the last reconcile pass saw them; empty before the first."""
        page = self._pages.get(key)
        return page.pools if page else {}

    def record(self, key: Key, decision: Decision, capacity: Capacity) -> None:
        """The autoscaler's entry."""
        page = self._pages.setdefault(key, Page())
        page.decision, page.capacity = decision, capacity

    def withdraw(self, key: Key) -> None:
        """The autoscaler no longer decides about the service (mode Off, or its spec can't be used)."""
        page = self._pages.get(key)
        if page:
            page.decision, page.capacity = None, {}

    def observe(self, key: Key, pools: Mapping[Role, PoolState]) -> None:
        """The reconciler's entry."""
        self._pages.setdefault(key, Page()).pools = pools

    def forget(self, key: Key) -> None:
        """The service is gone."""
        self._pages.pop(key, None)
