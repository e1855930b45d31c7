"""B1-B4 and B15: the Kubernetes family: HPA on queue or KV use, KEDA, Knative's autoscaler, Ray Serve."""

from collections.abc import Callable, Mapping

from e2e.benchmarks.policies.common import BusyShare, Facts, RoleView, Window, ceil, mean, target, views
from headrace.api.roles import Role
from headrace.autoscaler.decision import RoleTarget
from headrace.autoscaler.signals import Signals


class HpaBehaviour:
    """HPA v2's default behaviour: up by the larger of double and four pods per 15 s, down by the maximum of 300 s."""

    def __init__(self, down_window_s: float = 300.0) -> None:
        self._recommended = Window(down_window_s)

    def apply(self, now: float, n: int, wanted: int) -> int:
        """The number of replicas after rate limit and stabilisation."""
        wanted = min(wanted, max(2 * n, n + 4))
        self._recommended.add(now, wanted)
        return max([wanted, *map(int, self._recommended.values())]) if wanted < n else wanted


class _PerRole:
    """A law that looks at one role at a time."""

    name = ""
    interval_s = 15.0

    def __init__(self, facts: Facts) -> None:
        self.facts = facts

    def replicas(self, view: RoleView, now: float) -> int:
        """The wanted number of replicas."""
        raise NotImplementedError

    def decide(self, signals: Signals, now: float) -> Mapping[Role, RoleTarget]:
        """Every role by itself."""
        return {view.role: target(view, self.replicas(view, now), self.facts) for view in views(signals)}


class HpaQueue(_PerRole):
    """B1: External metric with AverageValue: replicas = ceil(waiting requests / target)."""

    def __init__(self, facts: Facts, waiting_per_replica: float = 5.0) -> None:
        super().__init__(facts)
        self.name = "hpa-queue"
        self.per_replica = waiting_per_replica
        self._behaviour: dict[Role, HpaBehaviour] = {}

    def replicas(self, view: RoleView, now: float) -> int:
        """Within 10 % of the target nothing changes (the HPA's tolerance)."""
        waiting = view.waiting()
        ratio = waiting / (self.per_replica * max(view.n, 1))
        wanted = view.n if abs(ratio - 1) <= 0.10 else ceil(waiting / self.per_replica)
        return self._behaviour.setdefault(view.role, HpaBehaviour()).apply(now, view.n, max(wanted, 1))


class HpaKv(_PerRole):
    """B2: mean KV use against a target share; prefill, which holds no KV, by the busy share of its GPUs over 60 s."""

    def __init__(self, facts: Facts, kv_share: float = 0.60) -> None:
        super().__init__(facts)
        self.name = "hpa-kv"
        self.kv_share = kv_share
        self._behaviour: dict[Role, HpaBehaviour] = {}
        self._busy = BusyShare(60.0)

    def replicas(self, view: RoleView, now: float) -> int:
        """replicas * mean / target, with the HPA's tolerance."""
        share = self._busy.read(view, now) if view.role is Role.PREFILL else mean(view.kv_shares())
        ratio = share / self.kv_share
        wanted = view.n if abs(ratio - 1) <= 0.10 else ceil(max(view.ready, 1) * ratio)
        return self._behaviour.setdefault(view.role, HpaBehaviour()).apply(now, view.n, max(wanted, 1))


class Keda(HpaQueue):
    """B3: production-stack's ScaledObject: queue trigger of 5, polled every 15 s, the HPA's loop behind it."""

    def __init__(self, facts: Facts, waiting_per_replica: float = 5.0) -> None:
        super().__init__(facts, waiting_per_replica)
        self.name = "keda"
        self.interval_s = 15.0


class KnativeKpa(_PerRole):
    """B4: stable 60 s and panic 6 s windows over concurrency; target 70 % of a container's concurrency."""

    def __init__(self, facts: Facts, container_concurrency: float = 100.0) -> None:
        super().__init__(facts)
        self.name = "knative-kpa"
        self.interval_s = 2.0
        self.per_replica = 0.7 * container_concurrency
        self._stable: dict[Role, Window] = {}
        self._panic_since: dict[Role, float] = {}
        self._panic_peak: dict[Role, int] = {}

    def replicas(self, view: RoleView, now: float) -> int:
        """In panic it only grows; panic ends one stable window after the last overload."""
        window = self._stable.setdefault(view.role, Window(60.0))
        window.add(now, view.concurrency())
        ready = max(1, view.ready)
        stable, burst = (
            ceil(mean(window.values()) / self.per_replica),
            ceil(mean(window.since(now - 6.0)) / self.per_replica),
        )
        low, high = ready // 2, 1000 * ready
        clipped = [min(max(wanted, low), high) for wanted in (stable, burst)]
        if burst / ready >= 2.0:
            self._panic_since[view.role] = now
        elif now > self._panic_since.get(view.role, -1e18) + 60.0:
            self._panic_since.pop(view.role, None)
            self._panic_peak.pop(view.role, None)
        if view.role not in self._panic_since:
            return clipped[0]
        self._panic_peak[view.role] = max(self._panic_peak.get(view.role, 0), *clipped)
        return self._panic_peak[view.role]


class RayServe(_PerRole):
    """B15: ongoing requests per replica against a target of 2; up after 30 s, down after 600 s."""

    def __init__(self, facts: Facts, ongoing_per_replica: float = 2.0) -> None:
        super().__init__(facts)
        self.name = "ray-serve"
        self.interval_s = 10.0
        self.per_replica = ongoing_per_replica
        self._window: dict[Role, Window] = {}
        self._wanted_since: dict[Role, tuple[int, float]] = {}

    def replicas(self, view: RoleView, now: float) -> int:
        """The wanted direction must hold for its delay before anything happens."""
        window = self._window.setdefault(view.role, Window(30.0))
        window.add(now, view.concurrency())
        wanted = max(1, ceil(mean(window.values()) / self.per_replica))
        direction = (wanted > view.n) - (wanted < view.n)
        if self._wanted_since.get(view.role, (0, now))[0] != direction:
            self._wanted_since[view.role] = (direction, now)
        since = self._wanted_since.setdefault(view.role, (direction, now))[1]
        delay_s = 30.0 if direction > 0 else 600.0
        return wanted if direction and now - since >= delay_s else view.n


FAMILY: Mapping[str, tuple[Callable[..., _PerRole], tuple[float, ...]]] = {
    "hpa-queue": (HpaQueue, (1.0, 2.0, 5.0, 10.0, 20.0)),
    "hpa-kv": (HpaKv, (0.15, 0.3, 0.45, 0.6, 0.7)),
    "keda": (Keda, (1.0, 2.0, 5.0, 10.0, 20.0)),
    "knative-kpa": (KnativeKpa, (5.0, 10.0, 25.0, 50.0, 100.0)),
    "ray-serve": (RayServe, (2.0, 8.0, 16.0, 32.0, 64.0)),
}
