"""The operator's own metrics. One object owns them, so that tests and two operators in one process stay apart."""

from collections.abc import Mapping

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)

from headrace.api.roles import Role
from headrace.autoscaler.decision import Decision
from headrace.loops.keys import Key
from headrace.observability.decisions import DecisionMetrics
from headrace.observability.families import OF_ROLE, OF_SERVICE, Families, Family, drop

# A pass is LISTs and a few applies: milliseconds on a quiet API server, seconds on a loaded one, 30 s at its deadline.
RECONCILE_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
# One service's tick: the plan itself takes about a millisecond, the reads of its engines up to a second.
TICK_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class Metrics(Families):
    """All metrics by attribute. Per-service series go with `forget`, else a deleted service would look alive."""

    leader = Family(Gauge, "headrace_leader", "1 while this process holds the Lease and acts, else 0.")
    watch_age = Family(
        Gauge,
        "headrace_watch_age_seconds",
        "Seconds since the watch on our own Lease last showed a renewal: a silent watch grows without bound.",
    )
    queue_depth = Family(Gauge, "headrace_queue_depth", "InferenceServices waiting for a reconcile pass.")
    reconcile_seconds = Family(
        Histogram,
        "headrace_reconcile_seconds",
        "Duration of a reconcile pass. outcome: ok or error.",
        ("outcome",),
        buckets=RECONCILE_BUCKETS,
    )
    reconcile_errors = Family(
        Counter,
        "headrace_reconcile_errors_total",
        "Reconcile passes that failed. reason: class of the error (Conflict, Invalid, Forbidden, ...).",
        ("reason",),
    )
    changes = Family(
        Counter,
        "headrace_changes_total",
        "Child objects by what a pass did. action: applied (written), pruned (deleted).",
        ("action", "kind"),
    )
    api_requests = Family(
        Counter,
        "headrace_api_requests_total",
        "Requests sent to the API server. code: HTTP status, or error where no answer came.",
        ("verb", "plural", "code"),
    )
    autoscale_seconds = Family(
        Histogram,
        "headrace_autoscale_tick_seconds",
        "Duration of one autoscale tick over all services, reads of the engines included.",
        buckets=TICK_BUCKETS,
    )
    autoscale_errors = Family(
        Counter,
        "headrace_autoscale_errors_total",
        "Ticks of one service that failed. reason: class of the error.",
        ("reason",),
    )
    last_tick = Family(
        Gauge,
        "headrace_loop_last_tick_timestamp_seconds",
        "When a loop last came round (epoch seconds). loop: autoscale or resync.",
        ("loop",),
    )
    desired_replicas = Family(
        Gauge,
        "headrace_desired_replicas",
        "Replicas that a role's workload should have now, those that drain and still work included.",
        OF_ROLE,
    )
    replicas = Family(
        Gauge,
        "headrace_replicas",
        "Replicas of a role by state: serving (the gateway sends to them), starting, draining.",
        (*OF_ROLE, "state"),
    )
    signal_pods = Family(
        Gauge,
        "headrace_signal_pods",
        "Pods by the age of their signals: fresh, stale, missing. Decisions lower replicas only on fresh ones.",
        (*OF_SERVICE, "state"),
    )
    decisions = Family(
        Counter,
        "headrace_decisions_total",
        "Decisions of the autoscaler by reason (Steady, ScaleUp, ScaleDown, Held, Limited, NoSignals, ...).",
        (*OF_ROLE, "reason"),
    )

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        # They would be a second series for each counter, which nothing reads.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        registry = registry or CollectorRegistry()
        ProcessCollector(registry=registry)
        super().__init__(registry)
        self.ticks: dict[str, float] = {}  # what last_tick says, for the liveness check
        self.decided = DecisionMetrics(registry)

    def ticked(self, loop: str, now: float) -> None:
        """A loop came round: liveness fails when one that has begun to tick stops."""
        self.ticks[loop] = now
        self.last_tick.labels(loop).set(now)

    def desire(self, service: Key, replicas: Mapping[Role, int]) -> None:
        """Publish what the workloads of a service should have. A role that is not named loses its series."""
        drop(self.desired_replicas, service)
        for role, count in replicas.items():
            self.desired_replicas.labels(*service, role.value).set(count)

    def measure(self, service: Key, decision: Decision) -> None:
        """Publish what a decision saw, and count its reasons."""
        for role, part in decision.roles.items():
            labels = (*service, role.value)
            self.decisions.labels(*labels, part.reason.value).inc()
            for state, count in (("serving", part.serving), ("starting", part.starting), ("draining", part.draining)):
                self.replicas.labels(*labels, state).set(count)
        health = decision.health
        for state, count in (("fresh", health.fresh), ("stale", health.stale), ("missing", health.missing)):
            self.signal_pods.labels(*service, state).set(count)

    def forget(self, service: Key) -> None:
        """Drop every series of a deleted service."""
        super().forget(service)
        self.decided.forget(service)
